"""Figures that README and docs quote, and how they are kept at what the report says.

A figure in a page is followed by its name, which a reader of the page does not see::

    a hit takes 0.31 µs<!-- figure: memory-get: tiercache -->

What stands before the comment, up to the blank or bracket before its number, is the figure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report.figures import Figures

__all__ = ["PROJECT", "REPORT", "documents", "quotations", "renewed", "unnamed"]

PROJECT = Path(__file__).parents[2]
REPORT = PROJECT / "docs" / "benchmarks"

_UNIT = r"ns|µs|ms|s|%|points|bytes|MB"
_QUOTED = re.compile(
    rf"(?P<text>[-+]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?: (?:{_UNIT}))?)<!-- figure: (?P<name>.+?) -->"
)
#: What another command writes, with figures of its own.
_ELSEWHERE = re.compile(r"<!-- from here on written by .*?<!-- to here -->", re.DOTALL)
_NAMED = re.compile(r"<!-- figure: .+? -->")
#: What is told of speed: times that are too short to be anybody's setting, and how many times as quick.
_SPEED = re.compile(
    r"\d(?: ?(?:ns|µs|us)\b| points of hit ratio| times (?:as (?:fast|quick|slow|long)|faster|slower))"
)


def documents() -> list[Path]:
    """README and docs, without the report itself."""
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    return [page for page in pages if REPORT not in page.parents]


def quotations(text: str) -> Iterator[tuple[str, str]]:
    """Each figure in ``text`` that has a name, and its name."""
    found = list(_QUOTED.finditer(text))
    if len(found) != len(_NAMED.findall(text)):
        raise ValueError("a name of a figure stands behind something that is no figure")
    return ((match["text"], match["name"]) for match in found)


def renewed(text: str, figures: Figures) -> str:
    """``text`` with its figures as the report has them. Raises `Unknown` where that has none of the name."""
    return _QUOTED.sub(lambda match: f"{figures.told(match['name'])}<!-- figure: {match['name']} -->", text)


def unnamed(text: str) -> list[str]:
    """The lines of ``text`` that tell speed without the name of a figure right behind it."""
    lines = (_QUOTED.sub("", line) for line in _ELSEWHERE.sub("", text).splitlines())
    return [line.strip() for line in lines if _SPEED.search(line)]
