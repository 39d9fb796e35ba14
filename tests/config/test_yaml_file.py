from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpqdeploy.config.yaml_file import apply_override, read_yaml
from mpqdeploy.core import ConfigError


def _read(tmp_path: Path, text: str) -> dict[str, Any]:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return read_yaml(path)


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    assert _read(tmp_path, "a: 1e-3\nb: 4/8\nc: -2.5E+2\n") == {"a": 1e-3, "b": "4/8", "c": -250.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1, 2\n", r"c\.yaml:3: not valid YAML"),
        ("a: 1\n  b: 2\n", r"c\.yaml:2: not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", r"c\.yaml:3: .*the key 'a' is there twice"),
        ("- 1\n", r"c\.yaml: the file is not a mapping"),
        ("", r"c\.yaml: the file is not a mapping"),
        ("a: !!python/object:os.system x\n", r"c\.yaml:1: not valid YAML"),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _read(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read \(No such file"):
        read_yaml(tmp_path / "no.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml(tmp_path / "b.yaml")


def test_overrides_reach_into_sections_and_lists() -> None:
    data: dict[str, Any] = {"a": {"b": 1}, "l": [{"x": 1}, 5], "n": None}
    for override in ("a.b=[1, 2]", "a.c.d=1e-2", "l.0.x=60%", "l.1=7", "n.m=text", "e="):
        apply_override(data, override)
    assert data == {
        "a": {"b": [1, 2], "c": {"d": 0.01}},
        "l": [{"x": "60%"}, 7],
        "n": {"m": "text"},
        "e": None,
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a.b", "not of the form"),
        ("=3", "not of the form"),
        ("a..b=3", "not of the form"),
        ("a=[1", "--set a=.*not valid YAML"),
        ("l.4.x=3", r"there is no l\.4, l is a list of 1"),
        ("l.x=3", r"there is no l\.x"),
        ("a.b.c=3", r"there is no a\.b\.c, a\.b is a plain value"),
    ],
)
def test_overrides_that_lead_nowhere(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_override({"a": {"b": 1}, "l": [{"x": 1}]}, override)
