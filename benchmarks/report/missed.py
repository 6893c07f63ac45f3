"""The table of missed targets in the page about performance, with what stands in the way of each.

Its first columns are written from the figures, a row a case; the last column is written by hand and kept. So
the table names every case that misses a target, and none that misses none: one that is new there has no
reason until somebody writes it, and `unexplained` tells which.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.report.figures import Case, Figures
from benchmarks.report.pages import reached, shown_target

__all__ = ["by_hand", "reasons", "renewed", "unexplained"]

_BEGIN = (
    "<!-- targets that are missed: all but the last column is written by `python -m benchmarks.report` -->"
)
_END = "<!-- so far -->"
_TABLE = re.compile(f"{re.escape(_BEGIN)}\n(.*?){re.escape(_END)}", re.DOTALL)
_ROW = re.compile(r"^\| \[(?P<case>[^]]+)\]\([^)]*\) \|.*\| ?(?P<why>[^|]*?) \|$", re.MULTILINE)
_HEADER = "| case | what is to be | reached | what stands in the way |\n| --- | --- | --- | --- |\n"


def reasons(text: str) -> dict[str, str]:
    """By case what the table in ``text`` says of it; of a page without the table nothing."""
    table = _TABLE.search(text)
    return {row["case"]: row["why"] for row in _ROW.finditer(table[1])} if table else {}


def unexplained(text: str) -> list[str]:
    """The cases of the table whose last column is empty."""
    return [case for case, why in reasons(text).items() if not why]


def renewed(text: str, figures: Figures) -> str:
    """``text`` with the table, if it has one, as the figures have it."""
    known = reasons(text)
    rows = "".join(
        _row(name, case, missed, known.get(name, ""))
        for name, case in figures.cases.items()
        if (missed := [target for target in case.get("targets", ()) if not target["holds"]])
    )
    return _TABLE.sub(lambda _: f"{_BEGIN}\n{_HEADER}{rows}{_END}", text)


def by_hand(text: str) -> str:
    """``text`` with nothing of the table but what was written by hand."""
    return _TABLE.sub(lambda _: "\n".join(reasons(text).values()), text)


def _row(name: str, case: Case, missed: list[dict[str, Any]], why: str) -> str:
    bounds = "<br>".join(shown_target(case, target) for target in missed)
    came = "<br>".join(reached(case, target) for target in missed)
    return f"| [{name}](../benchmarks/{case['group']}.md#{name}) | {bounds} | {came} | {why} |\n"
