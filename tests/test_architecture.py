"""The design's floors: imports point down, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "mpqdeploy.core": ROOT / "mpqdeploy" / "core",
    "mpqdeploy.nn": ROOT / "mpqdeploy" / "nn",
    "mpqdeploy.data": ROOT / "mpqdeploy" / "data",
    "mpqdeploy.search": ROOT / "search",
    "mpqdeploy.export": ROOT / "export",
    "mpqdeploy.targets": ROOT / "targets",
}
MAY_IMPORT = {
    "mpqdeploy.core": set(),
    "mpqdeploy.nn": {"mpqdeploy.core"},
    "mpqdeploy.data": {"mpqdeploy.core"},
    "mpqdeploy.search": {"mpqdeploy.core", "mpqdeploy.nn", "mpqdeploy.data"},
    "mpqdeploy.export": {"mpqdeploy.core", "mpqdeploy.nn"},
    "mpqdeploy.targets": {"mpqdeploy.core"},
}
MAX_LINES = 350


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def sources() -> list[Path]:
    folders = [ROOT / "mpqdeploy", ROOT / "search", ROOT / "export", ROOT / "targets"]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_down(floor: str) -> None:
    for path in FLOORS[floor].rglob("*.py"):
        for name in imports(path):
            if not name.startswith("mpqdeploy"):
                continue
            other = ".".join(name.split(".")[:2])
            assert other == floor or other in MAY_IMPORT[floor], f"{path} imports {name}"


def test_targets_start_from_a_qonnx_file() -> None:
    for path in FLOORS["mpqdeploy.targets"].rglob("*.py"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & {"torch", "brevitas"}, path


def test_core_is_plain_python_and_numpy() -> None:
    allowed = {"numpy", "mpqdeploy"} | set(sys.stdlib_module_names)
    for path in FLOORS["mpqdeploy.core"].rglob("*.py"):
        assert {name.split(".")[0] for name in imports(path)} <= allowed, path


def test_files_hold_one_idea() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long


def test_import_is_lean() -> None:
    code = "import sys, mpqdeploy; print(sorted({'torch', 'tvm', 'onnx'} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_every_package_is_installed() -> None:
    """A folder that pyproject does not list works in an editable checkout and not in a wheel."""
    import tomllib

    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    found = {"mpqdeploy"}
    for floor, folder in FLOORS.items():
        for init in folder.rglob("__init__.py"):
            found.add(".".join([floor, *init.parent.relative_to(folder).parts]))
    for init in (ROOT / "mpqdeploy").rglob("__init__.py"):
        found.add(".".join(init.parent.relative_to(ROOT).parts))
    assert listed == found
