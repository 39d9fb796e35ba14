"""One line for people out of a validation error: key, file, what is allowed, close matches."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mpqdeploy.core import ConfigError
from mpqdeploy.core.suggest import did_you_mean


def explain(
    error: ValidationError, model: type[BaseModel], source: str, overrides: Collection[str]
) -> ConfigError:
    """The first thing that is wrong, unknown keys before the rest.

    `overrides` are the dotted keys that came from `--set` and not from the file `source`.
    """
    problems = error.errors(include_url=False)
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    location = [part for part in first["loc"] if part not in ("float", "str", "int")]
    key = ".".join(str(part) for part in location)
    origin = "--set" if any(_covers(key, dotted) for dotted in overrides) else source
    more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
    message, hint = _describe(first, key, location, model)
    return ConfigError(f"{origin}: {message}{more}", hint=hint)


def _describe(
    problem: Mapping[str, Any], key: str, location: list[Any], model: type[BaseModel]
) -> tuple[str, str]:
    kind, value = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        known = list(_model_at(model, location[:-1]).model_fields)
        section = ".".join(str(part) for part in location[:-1]) or "the top level"
        return (
            f"unknown key {key}.",
            f"{did_you_mean(str(location[-1]), known)}Keys of {section}: "
            + (", ".join(known) + "."),
        )
    if kind == "missing":
        return f"{key} is missing.", "Add it."
    if kind == "value_error":
        return f"{key}: {problem['ctx']['error']}", ""
    allowed = re.sub(r"^Input should (be )?", "", problem["msg"])
    if kind == "model_type":
        allowed = f"a mapping of {', '.join(_model_at(model, location).model_fields)}"
    if kind == "tuple_type":
        allowed = "a list"
    guess = ""
    if kind == "literal_error":
        guess = did_you_mean(str(value), re.findall(r"'([^']+)'", problem["ctx"]["expected"]))
    return f"{key}: {_short(value)} is not allowed.", f"{guess}Allowed: {allowed}."


def _model_at(model: type[BaseModel], location: list[Any]) -> type[BaseModel]:
    for part in location:
        if isinstance(part, int):
            continue
        inner = _models_in(model.model_fields[part].annotation)
        model = inner[0] if inner else model
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _covers(key: str, dotted: str) -> bool:
    return key == dotted or key.startswith(f"{dotted}.") or dotted.startswith(f"{key}.")
