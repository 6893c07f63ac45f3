"""Figures that README and docs quote, and how they are kept at what the report says.

A figure in a page is followed by its name, which a reader of the page does not see::

    a hit takes 0.31 µs<!-- figure: memory-get: tiercache -->

What stands before the comment, up to the blank or bracket before its number, is the figure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import missed
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
_PART = r"(?:half|thirds?|quarters?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?)"
_MANY = r"(?:two|three|four|five|six|seven|eight|nine|ten|several|many|a (?:dozen|hundred|thousand))"
_TIMES = rf"(?:twice|double|{_MANY}(?: and a half)? times)"
_COST = r"(?:takes?|took|taken|costs?|wins?|won|saves?|saved|read at|written at)"
_QUICK = r"(?:as (?:fast|quick|slow|long)\b|faster|quicker|slower|the (?:time|cost|speed)\b)"
_ABOUT = (
    r"(?:up to|as much as|a bit|(?:less|more) than|nearly|almost|about|at|an?|one|two|three|four|and|it|them)"
)
_CALL = r"(?:time|cost|call|read|write|look-up|hit|batch|loop)"
#: What is told of speed, in figures or in words: times that are too short to be anybody's setting, how many
#: times as quick, and what part of a time something takes.
_SPEED = re.compile(
    r"[\d.,]*\d ?(?:ns|µs|us)\b"
    r"|\d points of hit ratio"
    rf"|\d times {_QUICK}"
    rf"|\d ?% (?:{_QUICK}|(?:more|less|of (?:the|its|that|a|this)) {_CALL}\b)"
    rf"|\b{_TIMES} {_QUICK}"
    rf"|\b{_PART} (?:as (?:fast|quick|slow|long)|faster|quicker|slower)\b"
    rf"|\b{_PART} of (?:the|its|that|a|this|each) {_CALL}\b"
    rf"|\b{_COST}\b(?: {_ABOUT})* (?:{_PART}|{_TIMES}(?! the bytes))\b"
    r"|\b(?:about|nearly|almost|under|over|less than|more than|fractions? of) (?:an?|one|two|some|few)"
    r" (?:nano|micro|milli)seconds?"
)
#: What sounds like it, and is what a setting does, or counts something else.
_NO_SPEED = re.compile(r"twice as long (?:after each probe|at most)")


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
    """``text`` with its figures and its table of missed targets as the report has them. Raises `Unknown`
    where that has no figure of the name."""
    text = missed.renewed(text, figures)
    return _QUOTED.sub(lambda match: f"{figures.told(match['name'])}<!-- figure: {match['name']} -->", text)


def unnamed(text: str) -> list[str]:
    """Where ``text`` tells speed without the name of a figure right behind it: the words that do, also
    where they stand on two lines."""
    bare = _QUOTED.sub("", missed.by_hand(_ELSEWHERE.sub("", text)))
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n(?:\s*\n|(?=\|))", bare))
    return [found[0] for paragraph in paragraphs for found in _SPEED.finditer(_NO_SPEED.sub("", paragraph))]
