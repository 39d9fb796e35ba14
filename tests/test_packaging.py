"""What is installed is what is here: the package list is written by hand."""

from __future__ import annotations

import tomllib
from pathlib import Path

import mpqdeploy

ROOT = Path(__file__).resolve().parent.parent


def test_every_package_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {name: ROOT / folder for name, folder in setuptools["package-dir"].items()}
    found = set()
    for name, folder in folders.items():
        for init in folder.rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(folder).parts]))
    assert sorted(setuptools["packages"]) == sorted(found)


def test_what_is_not_code_is_installed_too() -> None:
    package = Path(mpqdeploy.__file__).parent
    others = {path.name for path in package.rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert {name for name in others if not name.endswith((".j2", ".typed"))} == set()
