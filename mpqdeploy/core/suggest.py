"""A close match for a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"Did you mean conv1? "`, or nothing where no known name is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"Did you mean {close[0]}? " if close else ""
