"""Whose study it is: what must not change while a study goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import optuna

from mpqdeploy.core import ConfigError

_KEY = "identity"
_SHOWN = 5


def claim_study(study: optuna.Study, identity: Mapping[str, Any]) -> None:
    """Make a study this identity's. Raises `ConfigError`, with the difference, for another's.

    The whole identity is one attribute: a process that is killed here leaves all of it or none.
    """
    there = study.user_attrs.get(_KEY)
    if there is None:
        if study.trials:
            raise ConfigError(
                f"study {study.study_name!r} was not made by this program.",
                hint="Give the study another name.",
            )
        study.set_user_attr(_KEY, dict(identity))
        return
    found = differences(there, identity)
    if found:
        more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ConfigError(
            f"study {study.study_name!r} was made for something else: "
            f"{'; '.join(found[:_SHOWN])}{more}.",
            hint="Give the study another name, or go back to what it was made for.",
        )


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """One text per entry that differs: `budgets.latency: 100.0 there, 120.0 here`."""
    old, new = dict(_flat(there, "")), dict(_flat(here, ""))
    return [
        f"{key}: {_shown(old, key)} there, {_shown(new, key)} here"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Leaves by dotted name; parameters of a space go by their own names, not by position."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        for inner in value:
            rest = {key: item for key, item in inner.items() if key != "name"}
            yield from _flat(rest, f"{prefix}.{inner['name']}")
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    return str(leaves[key]) if key in leaves else "absent"
