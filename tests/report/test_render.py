from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mpqdeploy.report import plots, write_report
from mpqdeploy.report.render import amount, render, verdict
from tests.report.summaries import material, row, summary


class Page(HTMLParser):
    """Headings, table rows, elements with their attributes, and what is not closed."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text.setdefault(tag, []).append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.text[tag][-1] += data


def page(limit_us: float = 20.0, *, errors: int = 0) -> Page:
    found = Page(render(summary(limit_us=limit_us), material(errors=errors), "/* plotly */"))
    assert found.open == []
    return found


def test_every_section_is_there() -> None:
    found = page()
    assert found.text["h1"] == ["net on images"]
    words = (
        "beside the others|Bits per layer|Predicted and measured|Search|Certificate|Kernels|Time"
    )
    for heading, word in zip(found.text["h2"], words.split("|"), strict=True):
        assert word in heading
    # Three figures, and six of the search.
    assert sum("plotly-graph-div" in str(attrs.get("class")) for _, attrs in found.elements) == 9
    assert len(found.text["figcaption"]) == 6


def test_rows_and_rounds_are_in_the_tables() -> None:
    rows = [re.sub(r"\s+", " ", text).strip() for text in page().text["tr"]]
    for name in ("float32", "uniform 8/8", "searched"):
        assert any(text.startswith(name) and "93.75 %" in text for text in rows)
    assert any(text.startswith("round 0") and "8.1 µs 9.0 µs [" in text for text in rows)
    assert any("compiled" in text and "12,345" in text for text in rows)
    assert any("99.75 %" in text for text in rows)
    assert any("dot-vnni" in text and "columns=4 rows=2" in text for text in rows)


@pytest.mark.parametrize(("limit_us", "word"), [(20.0, "met"), (5.0, "missed")])
def test_met_and_missed_budgets_are_said(limit_us: float, word: str) -> None:
    found = page(limit_us)
    verdicts = [text for text in found.text["b"] if "budget" in text]
    assert f"latency budget {limit_us:g} µs: {word}" in verdicts
    assert "bytes budget 4 KiB: met" in verdicts
    last = re.sub(r"\s+", " ", next(t for t in found.text["tr"] if t.startswith("searched")))
    assert last.strip().endswith("yes" if word == "met" else "no")


@pytest.mark.parametrize(("errors", "words"), [(0, "holds"), (3, "does not hold")])
def test_the_certificates_verdict_is_said(errors: int, words: str) -> None:
    assert f"certificate: {words}" in page(errors=errors).text["b"]


def test_names_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    whole = summary(title=evil)
    rows = (*whole.rows[:-1], replace(whole.rows[-1], name=evil))
    rounds = (replace(whole.rounds[0], name=evil),)
    given = replace(material(note=evil), config=evil, machine={"CPU": evil})
    html = render(replace(whole, rows=rows, rounds=rounds), given, "")
    assert evil not in html
    assert "&lt;script&gt;alert(1)" in html
    assert Page(html).open == []


def test_no_address_is_fetched(tmp_path: Path) -> None:
    """The page itself, as written with plotly inside, names nothing outside of it."""
    path = tmp_path / "report.html"
    write_report(path, summary(), material())
    html = path.read_text(encoding="utf-8")
    assert len(html) > 1_000_000  # plotly is in it
    assert not re.search(
        r"<(script|link|img|iframe)\b[^>]*\b(src|href)\s*=", html[: html.find("<script>")]
    )
    outside = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"https?://", outside)
    assert not re.search(r"\b(src|href)\s*=", outside)
    assert not re.search(r"<script[^>]+\bsrc\s*=\s*[\"']?(https?:)?//", html)
    assert "@import" not in outside
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_without_a_policy_or_a_history_or_a_latency_budget() -> None:
    whole = summary()
    rows = (row("searched", policy=False),)
    bare = replace(whole, rows=rows, budgets=whole.budgets[1:])
    html = render(bare, replace(material(), history=[], notes=[]), "")
    assert "bytes budget" in html
    assert "latency budget" not in html


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.34, "µs", "12.34 µs"),
        (0.5, "µs", "0.5 µs"),
        (2500, "µs", "2.5 ms"),
        (1023, "B", "1023 B"),
        (1536, "B", "1.5 KiB"),
        (3 * 2**20, "B", "3 MiB"),
        (1.25e9, "BOPs", "1.25 GBOPs"),
        (0, "BOPs", "0 BOPs"),
    ],
)
def test_amounts_are_scaled_for_reading(value: float, unit: str, text: str) -> None:
    assert amount(value, unit) == text


def test_a_verdict_holds_the_intervals_end_against_the_limit() -> None:
    one, budget = summary(limit_us=10.1).searched, summary(limit_us=10.1).budgets[0]
    assert one.latency.median_us < 10.1 < one.latency.interval_us[1]
    assert verdict(one, budget)["holds"] is False
    assert "measured 10.0 µs [" in verdict(one, budget)["value"]


def test_rounds_are_held_against_the_budget_by_their_own_clock() -> None:
    """The last measurement's clock may have drifted from that of the rounds."""
    html = render(summary(limit_us=20.0), material(), "")
    lines = [float(y) for y in re.findall(r'"y0":([0-9.]+),"y1":', html)]
    assert pytest.approx(22.0) in lines
    assert 20.0 not in lines


def test_a_logarithmic_axis_has_plain_numbers() -> None:
    assert plots._ticks(238.0, 992.0) == [150.0, 200.0, 300.0, 500.0, 700.0, 1000.0, 1500.0]
    assert plots._ticks(0.9, 1.1) == [0.5, 0.7, 1.0, 1.5, 2.0]
