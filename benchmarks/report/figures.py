"""What runs left, read; and each figure by its name.

A run's JSON is what ``--benchmark-json`` writes (each case's data is in its ``extra_info``: see
`benchmarks.contest`), or what `benchmarks.hit_ratio` or ``langchain_embeddings.py`` print with ``--json``.
All become the plain data of `Figures`, which ``figures.json`` beside the report holds, and which is
read again from there.

Each case has a ``title``, and:

``unit``     ``seconds`` for one ``thing``, ``bytes``, or a word such as ``points``; ``took`` is told in it
``took``     by contender the median of the rounds, and the quarters around it where there were several
``ratios``   by contender how many times as much it took as the one named ``base``, likewise
``series``   by curve its points, each of how many things there were and what one took: for a chart, whose
             ``axis`` tells what there were so many of
``ours``     those in ``took`` that are ours, where their names do not begin with that
``targets``  bounds, what was reached, and whether that holds
``replays``  of traces that were replayed, row by row where their look-ups hit, and what that comes to
``absent``   by contender why it is not there
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import floor, log10
from pathlib import Path
from typing import Any

from benchmarks.report import hit_ratios

__all__ = ["Figures", "Unknown", "measure", "number", "read", "span"]

Case = dict[str, Any]

_SUITE = Path(__file__).parents[1]
#: What of a case is kept as it is; the rest of ``extra_info`` is not for the report.
_KEPT = ("title", "thing", "rounds", "base", "ratios", "axis", "series", "targets", "absent")


class Unknown(ValueError):
    """There is no figure of this name, or no case in this file."""


@dataclass
class Figures:
    """All of one or several runs. ``groups``: what each is about; ``cases`` by name, with their ``group``."""

    command: str = ""
    date: str = ""
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    cases: dict[str, Case] = field(default_factory=dict)

    def of(self, group: str) -> dict[str, Case]:
        """The cases of a group, in order."""
        return {name: case for name, case in self.cases.items() if case["group"] == group}

    def told(self, name: str) -> str:
        """The figure called ``CASE: WHO`` (a time or an amount, with its unit) or ``CASE: WHO / OTHER`` (how
        many times as much the one takes as the other, where the report tells that). Raises `Unknown`."""
        called, _, rest = name.partition(": ")
        who, _, other = rest.partition(" / ")
        try:
            case = self.cases[called]
            return number(_ratio(case, who, other)) if other else measure(case, case["took"][who]["median"])
        except KeyError:
            raise Unknown(f"the report has no figure {name!r}") from None

    def as_json(self) -> str:
        """The text of ``figures.json``."""
        return json.dumps(vars(self), indent=1, ensure_ascii=False) + "\n"


def _ratio(case: Case, who: str, other: str) -> float:
    """The median of the rounds' ratios, which the report tells of each beside the base, and of the two that
    a target is about. That of the two medians is another number, and the other way round is no better: what
    is quoted would not be found in the report. Raises `KeyError` where it has none."""
    if other == case.get("base"):
        return float(case["ratios"][who]["median"])
    for target in case.get("targets", ()):
        for each in (target, *target.get("or", ())):
            if (who, other, each["bound"]) in (
                (each["name"], each["of"], "at most"),
                (each["of"], each["name"], "at least"),
            ):
                return float(each["reached"]["median"])
    raise KeyError(who, other)


def measure(case: Case, value: float, digits: int = 2) -> str:
    """``value`` with the case's unit."""
    unit = case["unit"]
    if unit == "seconds":
        return span(value, digits)
    if unit == "bytes" and abs(value) >= 1e5:
        return f"{number(value / 1e6, digits)} MB"
    told = f"{value:,.0f}" if unit == "" else number(value, digits)  # what has no unit was counted
    return f"{told} {unit}".rstrip()


def number(value: float, digits: int = 2) -> str:
    """So many digits that count, and all of those before the point."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")  # 9.96 is 10, which has a digit more
    places = max(0, digits - 1 - floor(log10(abs(rounded))))
    return f"{value:,.{places}f}"


def span(seconds: float, digits: int = 2) -> str:
    """A time, in the unit in which it is easily read."""
    for unit, one in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        if abs(seconds) < (100 if unit == "ns" else 1000) * one:
            return f"{number(seconds / one, digits)} {unit}"
    return f"{number(seconds, digits)} s"


def read(paths: Iterable[Path]) -> Figures:
    """All that these files hold, in one. Of a case that two of them have, the later file's. Raises `Unknown`
    where a file holds nothing of the kind."""
    found = Figures()
    for path in paths:
        data = json.loads(path.read_text())
        if "benchmarks" in data:
            _add_run(found, data)
        elif "summaries" in data:
            found.groups[hit_ratios.GROUP] = hit_ratios.ABOUT
            found.cases |= hit_ratios.cases(data)
        elif "bytes on disk" in data:
            _add_counts(found, data)
        elif "cases" in data:
            for name, held in data.items():
                mine = getattr(found, name)
                setattr(found, name, {**mine, **held} if isinstance(held, dict) else held)
        else:
            raise Unknown(f"{path}: neither from --benchmark-json nor a benchmark's own JSON")
    found.cases = _rounded(found.cases)  # before anything is told, so that the file tells the same
    return found


def _add_run(found: Figures, data: dict[str, Any]) -> None:
    where = data["machine_info"].get("told", {})
    found.date = data["datetime"][:10]
    found.machine = where.get("machine", {})
    found.versions = where.get("versions", {})
    for benchmark in data["benchmarks"]:
        told = benchmark["extra_info"]
        if "name" not in told:
            continue
        file = benchmark["fullname"].partition("::")[0]
        group = Path(file).stem.removeprefix("test_")
        found.groups[group] = _about(_SUITE / Path(file).name) or found.groups.get(group, "")
        unit = told.get("unit", "seconds")
        kept = {key: told[key] for key in _KEPT if told.get(key)}
        found.cases[told["name"]] = {"group": group, "unit": unit, "took": told[unit], **kept}


def _about(module: Path) -> str:
    """What a module of the suite says of itself."""
    said = ast.get_docstring(ast.parse(module.read_text())) if module.exists() else None
    return said or ""


def _add_counts(found: Figures, data: dict[str, Any]) -> None:
    """What embeddings take besides time, which the contests are about."""
    found.groups.setdefault("embeddings", "What a cache of embeddings costs beside the model.")
    for row, name, unit, title in (
        ("bytes on disk", "embeddings-size", "MB", "What 2,000 vectors of 1,536 numbers take on disk"),
        ("files", "embeddings-files", "", "The files that they are in"),
        (
            "calls for 50 equal queries",
            "embeddings-calls",
            "",
            "Calls of the model for 50 equal queries at once",
        ),
        (
            "texts embedded of a batch",
            "embeddings-texts",
            "",
            "Texts embedded of 2,000, of which 40 % are duplicates",
        ),
    ):
        took = {who: {"median": data[row][key]} for who, key in _SIDES.items()}
        found.cases[name] = {
            "group": "embeddings",
            "unit": unit,
            "title": title,
            "took": took,
            "base": "tiercache",
            "ratios": {"LocalFileStore": {"median": data[row]["ratio"]}},
        }


_SIDES = {"LocalFileStore": "langchain", "tiercache": "tiercache"}


def _rounded(value: Any) -> Any:
    """With four digits that count: more would be of this one run alone."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value
