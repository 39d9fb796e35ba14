"""The pages say what the code does: links, commands, keys, file names, error lines."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel

from mpqdeploy.cli import app
from mpqdeploy.config import Config

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
# Results are written down as they were measured, with the commands of their time.
LIVING = [page for page in PAGES if DOCS / "results" not in page.parents]
TROUBLESHOOTING = DOCS / "troubleshooting.md"
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_FOLDERS = (
    "benchmarks/",
    "examples/",
    "export/",
    "mpqdeploy/",
    "search/",
    "targets/",
    "tests/",
)
SHORTEST_FRAGMENT = 8
SOURCES = ("mpqdeploy", "search", "export", "targets")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


pages = pytest.mark.parametrize("page", LIVING, ids=name_of)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for indent, language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))


def code(page: Path) -> list[str]:
    """Inline code, and the lines of shell blocks without their comments."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [*SPAN.findall(prose(page)), *(line.partition("#")[0] for line in lines)]


# -- links ---------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{link} leads nowhere"
        assert ROOT in place.parents, f"{link} leaves the repository"
        if anchor:
            assert anchor in anchors(place), f"{link}: no such heading"


def test_every_page_can_be_found() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in LIVING
        for link in LINK.findall(prose(page))
    }
    lost = [name_of(page) for page in LIVING if page not in linked and page.parent != ROOT]
    assert not lost


# -- commands ------------------------------------------------------------------------------------


@functools.cache
def verbs() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


@pages
def test_verbs_and_their_options_exist(page: Path) -> None:
    for text in code(page):
        for verb, rest in re.findall(r"(?:^|[ /])mpqdeploy ([a-z]\w*)([^;|&]*)", text):
            assert verb in verbs(), f"there is no verb in: {text}"
            known = {option for parameter in verbs()[verb].params for option in parameter.opts}
            for option in re.findall(r" (--[a-z-]+)", rest):
                assert option in known, f"{verb} has no {option}"


@pages
def test_every_override_names_a_key(page: Path) -> None:
    known = dict(keys(Config))
    for text in code(page):
        for key in re.findall(r"--set ([\w.]+)=", text):
            if key != "a.b":  # the form itself
                assert re.sub(r"\.\d+", "", key) in known, text


@pages
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for text in code(page):
        for target in re.findall(r"^make ([a-z]+)", text):
            assert target in targets, text


# -- configuration -------------------------------------------------------------------------------


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key with its default as the pages write it."""
    for name, field in model.model_fields.items():
        types = (field.annotation, *get_args(field.annotation))
        inner = [t for t in types if isinstance(t, type) and issubclass(t, BaseModel)]
        if inner:
            yield from keys(inner[0], f"{prefix}{name}.")
        else:
            default = field.get_default(call_default_factory=True)
            yield f"{prefix}{name}", "required" if field.is_required() else written(default)


def written(default: object) -> str:
    if isinstance(default, str | Path):
        return str(default)
    return json.dumps(default)


def test_every_key_is_documented_with_its_default() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `([^`]*)` \| .+ \|$", text, re.MULTILINE))
    assert rows == dict(keys(Config))


@pages
def test_configurations_are_valid(page: Path) -> None:
    least = {"model": {"name": "digits_cnn"}, "data": {"name": "digits"}}
    for block in blocks(page, "yaml"):
        config = Config.read({**least, **yaml.safe_load(block)}, name_of(page))
        config.candidates()


@pages
def test_python_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, name_of(page), "exec")


# -- names of files and error lines --------------------------------------------------------------


@pages
def test_named_files_exist(page: Path) -> None:
    for span in SPAN.findall(prose(page)):
        if span.startswith(CODE_FOLDERS) and re.fullmatch(r"[\w./-]+", span):
            assert (ROOT / span).exists(), span


def test_every_box_and_layer_is_in_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    steps = {path.stem for path in (ROOT / "mpqdeploy" / "steps").glob("*.py")}
    helpers = {"__init__", "context", "present", "training"}
    for step in steps - helpers:
        assert f"`mpqdeploy/steps/{step}.py`" in text, step
    for path in (ROOT / "targets" / "passes").glob("*.py"):
        if path.stem not in ("__init__", "node"):
            assert f"`targets/passes/{path.name}`" in text, path.name


@functools.cache
def literals() -> str:
    """Every string of the sources; the parts of an f-string on their own."""
    trees = (
        ast.parse(path.read_text(encoding="utf-8"))
        for folder in SOURCES
        for path in (ROOT / folder).rglob("*.py")
    )
    strings = (node.value for tree in trees for node in ast.walk(tree) if is_text(node))
    return "\n".join(strings)


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_quoted_error_lines_are_those_of_the_code() -> None:
    quoted = [
        fragment.strip()
        for heading in re.findall(r"^### (.*)$", prose(TROUBLESHOOTING), re.MULTILINE)
        for line in SPAN.findall(heading)
        if not line.startswith("make:")
        for fragment in line.split("…")
    ]
    long = [fragment for fragment in quoted if len(fragment) >= SHORTEST_FRAGMENT]
    assert len(long) > 40
    for fragment in long:
        assert fragment in literals(), f"no error says: {fragment}"
