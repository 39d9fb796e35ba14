"""YAML files and `--set` overrides as plain mappings, with errors that say where."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mpqdeploy.core import ConfigError

# YAML 1.1 reads 1e-3 as text; YAML 1.2, and everybody who writes a learning rate, as a number.
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error instead of silently the last one's."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else repr(key))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's top-level mapping. Raises `ConfigError` naming the file, and the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"{path}: cannot be read ({reason}).", hint="mpqdeploy init writes an example."
        ) from error
    data = _parse(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: the file is not a mapping of keys to values.",
            hint="mpqdeploy init writes an example.",
        )
    return data


def apply_override(data: dict[str, Any], override: str) -> str:
    """Set `a.b.c=value` in place, the value read as YAML; the dotted key.

    A number steps into a list (`budgets.0.limit=60%`). Raises `ConfigError`.
    """
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(
            f"--set {override}: it is not of the form a.b=value.", hint="For example: --set seed=1"
        )
    value = _parse(text, f"--set {override}")
    place: Any = data
    for depth, name in enumerate(names[:-1]):
        if isinstance(place, dict) and place.get(name) is None:
            place[name] = {}
        place = _child(place, name, names[: depth + 1], override)
    last = names[-1]
    if isinstance(place, dict):
        place[last] = value
    else:
        _child(place, last, names, override)
        place[int(last)] = value
    return ".".join(names)


def _child(place: Any, name: str, path: Sequence[str], override: str) -> Any:
    if isinstance(place, dict):
        return place[name]
    if isinstance(place, list) and name.isdigit() and int(name) < len(place):
        return place[int(name)]
    length = f"a list of {len(place)}" if isinstance(place, list) else "a plain value"
    raise ConfigError(
        f"--set {override}: there is no {'.'.join(path)}, {'.'.join(path[:-1])} is {length}.",
        hint="Name a key, or an index that is there, counted from 0.",
    )


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark and not source.startswith("--set") else ""
        raise ConfigError(
            f"{source}{where}: not valid YAML: {error.problem or error.context}.",
            hint="Check the indentation, colons and quotes around there.",
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML ({error}).") from error
