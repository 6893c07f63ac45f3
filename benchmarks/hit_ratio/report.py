"""Shows the figures of a study: a table a trace, and one over all of them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.hit_ratio.study import Figure, Summary
from tiercache.cli._output import Column, say, show_table, weight

__all__ = ["show_figures", "show_summaries"]

_COLUMNS = (
    Column("entries", figures=True),
    Column("policy"),
    Column("memory", figures=True),
    Column("disk", figures=True),
    Column("misses", figures=True),
    Column("promotions", figures=True),
    Column("moved", figures=True),
    Column("time a lookup", figures=True),
    Column("price a lookup", figures=True),
)
_OVER_ALL = (
    Column("policy"),
    Column("mean hit ratio", figures=True),
    Column("above LRU", figures=True),
    Column("at worst", figures=True),
)


def show_figures(title: str, found: Sequence[Figure]) -> None:
    """The table of one trace, with a column only where any row has something to put there."""
    rows = [_row(figure) for figure in found]
    shown = [number for number in range(len(_COLUMNS)) if any(row[number] for row in rows)]
    say(title)
    show_table([_COLUMNS[number] for number in shown], [[row[number] for number in shown] for row in rows])
    say("")


def show_summaries(summed: Sequence[Summary]) -> None:
    """The table over all traces and sizes; points are hundredths of the lookups."""
    say("All traces and sizes, the memory tier alone")
    rows = [
        [one.policy, f"{one.mean:.2%}", f"{one.above:+.2f} points", f"{one.worst:+.2f} points"]
        for one in summed
    ]
    show_table(_OVER_ALL, rows)


def _row(figure: Figure) -> list[str]:
    row = [f"{figure.size:,}", figure.policy, f"{figure.memory_ratio:.2%}"]
    done = figure.replayed
    if done is None:
        below = figure.hit_ratio - figure.memory_ratio
        return [*row, f"{below:.2%}" if below else "", f"{1 - figure.hit_ratio:.2%}", "", "", "", ""]
    lower = done.tiers[1:]
    return [
        *row,
        f"{sum(tier.hits for tier in lower) / done.lookups:.2%}" if lower else "",
        f"{1 - figure.hit_ratio:.2%}",
        f"{sum(tier.promotions for tier in done.tiers):,}" if lower else "",
        weight(done.moved),
        "" if figure.seconds is None else _time(figure.seconds),
        "" if not figure.price else f"{figure.price:.3g}",
    ]


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:,.2f} ms"
