"""A report on a terminal or in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from tiercache.cli._output import Column, Styled, note, say, show_table
from tiercache.cli._reporting.record import Books, Report, Spent, Statistics, TierPart
from tiercache.cli._reporting.rows import (
    ABOUT_LOADS,
    ABOUT_POPULAR,
    ABOUT_QUANTILES,
    POPULAR,
    QUANTILES,
    Sums,
    answered,
    days_of,
    latencies,
    marks_of,
    named,
    popular_rows,
    quantiles_of,
    sums_of,
    tier_row,
    total_of,
)
from tiercache.cli._reporting.words import hours, moment, percent, processes, seconds, spent_of
from tiercache.ledger import about_unpriced

__all__ = ["show"]

_TIERS = (
    Column("tier"),
    Column("kind"),
    Column("entries", figures=True),
    Column("size", figures=True),
    Column("hits", figures=True),
    Column("ratio", figures=True),
    Column("read", figures=True),
    Column("write", figures=True),
    Column("errors", figures=True),
    Column("owed", figures=True),
    Column("its entries are"),
)
#: Of what is marked.
_STYLES = {"bad": "red", "warn": "yellow"}
#: Columns of the ledger: what `sums_of` calls them, and how they are headed.
_SUMS = {
    "wanted": "wanted", "served": "from tiers", "ratio": "ratio", "calls": "calls", "failed": "failed",
    "spent": "spent", "saved": "saved (est.)", "time saved": "time saved (est.)",
}  # fmt: skip


def show(report: Report) -> None:
    """All of ``report``; what is missing in it, on stderr."""
    name = f" of {report.cache}" if report.cache else ""
    say(f"Report{name}, {moment(report.made_at)}\n")
    show_table(_TIERS, [_tier(tier) for tier in report.tiers])
    if report.statistics is not None:
        _show_statistics(report.statistics, report.books)
        _show_latencies(report)
    if report.popular is not None:
        _show_popular(report)
    if report.books is not None:
        _show_books(report.books, report.since)
    if report.budget is not None:
        say(f"\n{_budget(report.budget)}")
    for hint in report.hints:
        note(hint)


def _tier(tier: TierPart) -> list[str | Styled]:
    row, marks = tier_row(tier), marks_of(tier)
    return [
        *(row[name] for name in ("name", "kind", "entries", "size", "hits", "ratio", "read", "write")),
        *(Styled(row[name], _STYLES[marks[name]] if name in marks else "") for name in ("errors", "owed")),
        Styled(row["state"], _STYLES[marks["state"]] if "state" in marks else "dim"),
    ]


def _show_statistics(found: Statistics, books: Books | None) -> None:
    total, saved = found.total, found.saved
    # Of time there is one sum. The ledger's is of all processes, and of the calls alone.
    kept = books is not None and not books.is_empty
    say(
        f"\n{total['hits']:,} hits and {total['misses']:,} misses ({percent(found.hit_ratio)}) in "
        f"{processes(found.processes, found.running)}, since {moment(found.started)}"
    )
    say(
        f"{total['loads']:,} loads, {seconds(found.load_seconds)} each; {total['load_errors']:,} failed; "
        f"{saved['calls']:,} calls saved"
        + (
            ""
            if saved["seconds"] is None or kept
            else f", about {hours(saved['seconds'])} of loading (estimated)"
        )
    )
    say(f"read and write: the mean for each key{f'; {ABOUT_LOADS}' if kept else ''}")


def _show_latencies(report: Report) -> None:
    rows = [(who, *quantiles_of(latency)) for who, latency in latencies(report)]
    if rows:
        say("")
        show_table((Column("calls"), *(Column(one, figures=True) for one in QUANTILES)), rows)
        say(ABOUT_QUANTILES)


def _show_popular(report: Report) -> None:
    rows = popular_rows(report)
    say("" if rows else "\nNo popular keys are known.")
    if rows:
        *names, times, error = POPULAR
        figures = (Column(times, figures=True), Column(error, figures=True))
        show_table((*map(Column, names), *figures), rows)
        say(ABOUT_POPULAR)


def _show_books(books: Books, since: str) -> None:
    if books.is_empty:
        return
    say(f"\nLedger{f' since {since}' if since else ''}")
    _show_sums("day (UTC)", [*days_of(books), total_of("total", books, of_days=True)], books)
    for heading, rows in (("model", books.models), ("namespace", books.namespaces)):
        if len(rows) > 1:
            first, more = named(rows, heading)
            say("")
            _show_sums(heading, first, books)
            if more:
                say(f"and {more:,} more")
    say("")
    columns = (Column("answered by"), Column("texts", figures=True))
    show_table(columns, answered(books))
    say("\nwhat was saved is estimated from what was spent (est.); all else is measured")
    if books.total.unpriced:
        say(about_unpriced(books.total.unpriced))
    if books.total.estimated:
        say(f"{books.total.estimated:,} of {books.total.tokens:,} tokens were estimated: nobody counted them")


def _show_sums(heading: str, rows: Sequence[Sums], books: Books) -> None:
    columns = (Column(heading), *(Column(one, figures=True) for one in _SUMS.values()))
    told = [(sums[0], sums_of(sums, books.currency)) for sums in rows]
    show_table(columns, [(name, *(row[one] for one in _SUMS)) for name, row in told])


def _budget(spent: Spent) -> str:
    then = "loaders are not called beyond it" if spent.action == "block" else "it only warns"
    return f"Budget of {spent.day} (UTC): {spent_of(spent)} spent ({percent(spent.share)}); {then}"
