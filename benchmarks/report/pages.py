"""The report as Markdown: an index with the machine, the versions and the targets, and a page a group.

The text is made from the figures alone, and is the same whenever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from benchmarks.report.figures import Case, Figures, measure, number, span

__all__ = ["charted", "index", "page", "reached", "shown_target"]

#: The words of a heading, where a file's name is not enough.
_HEADINGS = {
    "sql": "SQL",
    "floor": "The steps of a hit, and of a write",
    "secrets": "Signing and encryption",
    "chains": "Chains",
    "loading": "Loaders and decorators",
    "import": "Importing",
    "entries": "Memory an entry takes",
    "scale": "Growth",
    "pressure": "Writing into a full disk",
    "observed": "Hits in memory that all are told of",
    "tiers": "Each tier by itself",
    "hit_ratio": "Hit ratios",
}
_WRITTEN = "<!-- written by `python -m benchmarks.report` -->"


def heading(group: str) -> str:
    """What a group is called."""
    return _HEADINGS.get(group, group.replace("_", " ").capitalize())


def charted(case: Case) -> bool:
    """Whether a chart says more of the case than its table."""
    return len(case["took"]) > 1


def index(figures: Figures, explained: str = "../explanation/performance.md") -> str:
    """The first page. ``explained``: where it is told why, from there."""
    targets = [
        (name, case, target) for name, case in figures.cases.items() for target in case.get("targets", ())
    ]
    held = sum(target["holds"] for *_, target in targets)
    return _joined(
        "# Benchmarks",
        _WRITTEN,
        "What tiercache takes, beside what people would use instead, by turns in one run: a machine changes\n"
        "its speed, so the ratios are what to look at. Less is better, of times and of bytes; of hit ratios\n"
        "more is. Times are medians of rounds, and in brackets stands\n"
        "where the middle half of the rounds was. A ratio is the median of the rounds' ratios. Python's\n"
        "garbage collector is off while a round goes on. Why things cost what they do is [told\n"
        f"elsewhere]({explained}).",
        *_written(figures),
        "## What is measured",
        _table(
            ("page", "cases", "targets that hold"),
            (
                (
                    f"[{heading(group)}]({group}.md)",
                    str(len(figures.of(group))),
                    _count([target for _, case, target in targets if case["group"] == group]),
                )
                for group in figures.groups
            ),
        ),
        "## Targets",
        f"{held} of {len(targets)} hold on this machine in this run.",
        _table(
            ("case", "what is to be", "reached", "holds"),
            (
                (
                    f"[{name}]({case['group']}.md#{name})",
                    shown_target(case, target),
                    reached(case, target),
                    "yes" if target["holds"] else f"**no**, missed {_missed(target)}",
                )
                for name, case, target in targets
            ),
        ),
        "## Machine",
        _table(("", ""), figures.machine.items()),
        "## Versions",
        _table(("package or program", "version"), figures.versions.items()),
        "All figures are in [figures.json](figures.json), by the names that documents call them by.",
    )


def page(figures: Figures, group: str, chart: str | None) -> str:
    """A group's; ``chart`` is the name of its chart's file."""
    parts = [f"# {heading(group)}", _WRITTEN, figures.groups[group]]
    if chart is not None:
        parts.append(f"![{_alternative(figures, group)}]({chart})")
    for name, case in figures.of(group).items():
        parts += [f"## {name}", f"{case['title']}.", *_tables(case)]
        absent = case.get("absent", {})
        if absent:
            parts.append(_table(("not here", "why"), absent.items()))
        for target in case.get("targets", ()):
            verdict = "Holds" if target["holds"] else "**Does not hold**"
            told = f"{verdict}: {shown_target(case, target)}; reached: {reached(case, target)}"
            parts.append(f"{told}{'' if target['holds'] else f'; missed {_missed(target)}'}.")
    parts += _written(figures)
    parts.append("[All groups, the machine, and the versions of what took part](README.md)")
    return _joined(*parts)


def _written(figures: Figures) -> tuple[str, str]:
    block = f"```console\n$ {figures.command}\n```"
    return f"Written on {figures.date} by", f"<!-- no-run: takes minutes -->\n{block}"


def _tables(case: Case) -> Iterator[str]:
    unit, ratios = case["unit"], case.get("ratios", {})
    header = ["", f"for one {case['thing']}, {case['rounds']} rounds" if unit == "seconds" else unit]
    if ratios:
        header.append(f"times as {'long' if unit == 'seconds' else 'much'} as {case['base']}")
    rows = [[name, _spread(took, partial(measure, case))] for name, took in case["took"].items()]
    for row in rows if ratios else ():
        row.append(_spread(ratios[row[0]], number) if row[0] in ratios else "")
    yield _table(header, rows)
    if "series" in case:
        yield _series(case)
    if "replays" in case:
        yield _replays(case["replays"])


def _series(case: Case) -> str:
    """A row a size, a column a curve; there may be sizes that some curves have no point of."""
    curves = {name: dict(map(tuple, points)) for name, points in case["series"].items()}
    sizes = sorted({size for points in curves.values() for size in points})
    rows = (
        (f"{size:,}", *(measure(case, points[size]) if size in points else "" for points in curves.values()))
        for size in sizes
    )
    return _table((case.get("axis", "entries"), *curves), rows)


def _replays(rows: list[dict[str, Any]]) -> str:
    """A row a replay; only what is told of any of them."""
    shown = {key: column for key, column in _REPLAYS.items() if any(key in row for row in rows)}
    if len({row["trace"] for row in rows}) == 1:
        del shown["trace"]
    cells = ([tell(row[key]) if key in row else "" for key, (_, tell) in shown.items()] for row in rows)
    return _table([title for title, _ in shown.values()], cells)


def _share(value: float) -> str:
    return f"{value:.1f} %"


#: What is told of a replay: the columns, and how their cells are written.
_REPLAYS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "trace": ("trace", str),
    "entries": ("entries in memory", "{:,}".format),
    "policy": ("policy of memory", str),
    "memory": ("hits in memory", _share),
    "disk": ("hits on disk", _share),
    "missed": ("misses", _share),
    "promotions": ("promotions", "{:,}".format),
    "moved": ("bytes moved", partial(measure, {"unit": "bytes"}, digits=3)),
    "tiers": ("time a look-up in the tiers", partial(span, digits=2)),
    "seconds": ("and with making what missed", partial(span, digits=3)),
    "price": ("price a look-up", "{:.2g}".format),
}


def shown_target(case: Case, target: dict[str, Any]) -> str:
    """The bound, in words; and those of which one is enough too."""
    return "; or ".join(_bound(case, each) for each in _either(target))


def _either(target: dict[str, Any]) -> list[dict[str, Any]]:
    return [target, *target.get("or", ())]


def _bound(case: Case, target: dict[str, Any]) -> str:
    who, bound, limit, of = (target[key] for key in ("name", "bound", "limit", "of"))
    if bound == "at most away":
        return f"{who} at most {limit:g} {case['unit']} from {of}"
    if of is None:
        shown = measure(case, limit) if case["unit"] == "seconds" else f"{limit:g} {case['unit']}"
        return f"{who} {bound} {shown}"
    if bound == "at least":
        return f"{who} at least {limit:g} times as fast as {of}"
    if bound == "at most more":
        return f"{who} at most {measure(case, limit)} more than {of}"
    return f"{who} at most {limit:g} x {of}"


def reached(case: Case, target: dict[str, Any]) -> str:
    """What came of it."""
    return "; ".join(_came(case, each) for each in _either(target))


def _came(case: Case, target: dict[str, Any]) -> str:
    plain = target["of"] is None or target["bound"] in ("at most more", "at most away")
    return _spread(
        target["reached"], partial(measure, case, digits=3) if plain else partial(number, digits=3)
    )


def _missed(target: dict[str, Any]) -> str:
    """By how much; of several bounds the one that is nearest."""
    if target["limit"] <= 0:
        return f"by {number(abs(target['limit'] - target['reached']['median']))}"
    off = min(abs(each["reached"]["median"] / each["limit"] - 1) for each in _either(target))
    if off >= 1:  # hundreds of per cent are hard to imagine
        return f"by a factor of {number(1 + off)}"
    return f"by {off:.0%}" if off >= 0.01 else f"by {off:.1%}"


def _spread(of: dict[str, float], shown: Callable[[float], str]) -> str:
    told = shown(of["median"])
    return f"{told} ({shown(of['low'])} to {shown(of['high'])})" if "low" in of else told


def _count(targets: Sequence[dict[str, Any]]) -> str:
    return f"{sum(target['holds'] for target in targets)} of {len(targets)}" if targets else ""


def _alternative(figures: Figures, group: str) -> str:
    """For who does not see the chart: the tables below it have all that it shows."""
    names = ", ".join(name for name, case in figures.of(group).items() if charted(case))
    return f"Chart of {names}; the tables below hold the same figures"


def _table(header: Sequence[str], rows: Any) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def _joined(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts) + "\n"
