"""A report on a terminal or in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from tiercache.cli._output import Column, Styled, note, say, show_table
from tiercache.cli._reporting.record import Books, Report, Spent, Statistics, TierPart
from tiercache.cli._reporting.words import (
    amount,
    entries_of,
    hours,
    moment,
    percent,
    processes,
    seconds,
    size_of,
    spent_of,
    state_of,
    who,
)
from tiercache.ledger import LedgerRow

__all__ = ["show"]

#: Rows of a table of models or namespaces.
_MOST = 10
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
_SUMS = ("wanted", "from tiers", "ratio", "calls", "failed", "spent", "saved (est.)", "time saved (est.)")


def show(report: Report) -> None:
    """All of ``report``; what is missing in it, on stderr."""
    name = f" of {report.cache}" if report.cache else ""
    say(f"Report{name}, {moment(report.made_at)}\n")
    show_table(_TIERS, [_tier(tier) for tier in report.tiers])
    if report.statistics is not None:
        _show_statistics(report.statistics)
    if report.books is not None:
        _show_books(report.books, report.since)
    if report.budget is not None:
        say(f"\n{_budget(report.budget)}")
    for hint in report.hints:
        note(hint)


def _tier(tier: TierPart) -> list[str | Styled]:
    counted = tier.counted
    hits = "-" if counted is None else f"{counted['hits']:,}"
    owed = 0 if counted is None else counted["owed"]
    failures = "-" if counted is None else f"{tier.failures:,}"
    return [
        *(tier.name, tier.kind, entries_of(tier), size_of(tier), hits, percent(tier.hit_ratio)),
        *(seconds(tier.read_seconds), seconds(tier.write_seconds)),
        Styled(failures, "red" if tier.failures else ""),
        Styled("-" if counted is None else f"{owed:,}", "yellow" if owed else ""),
        Styled(state_of(tier), "red" if tier.state == "down" else "dim"),
    ]


def _show_statistics(found: Statistics) -> None:
    total, saved = found.total, found.saved
    say(
        f"\n{total['hits']:,} hits and {total['misses']:,} misses ({percent(found.hit_ratio)}) in "
        f"{processes(found.processes, found.running)}, since {moment(found.started)}"
    )
    say(
        f"{total['loads']:,} loads, {seconds(found.load_seconds)} each; {total['load_errors']:,} failed; "
        f"{saved['calls']:,} calls saved"
        + ("" if saved["seconds"] is None else f", about {hours(saved['seconds'])} of loading (estimated)")
    )
    say("read and write: the mean for each key")


def _show_books(books: Books, since: str) -> None:
    if not books.total.calls and not books.total.served:
        return
    say(f"\nLedger{f' since {since}' if since else ''}")
    days = [(day.day, day.row) for day in books.days if day.row.calls or day.row.served]
    _show_sums("day (UTC)", [*days, ("total", books.total)], books)
    for heading, rows in (("model", books.models), ("namespace", books.namespaces)):
        if len(rows) > 1:
            say("")
            _show_sums(heading, [(getattr(row, heading) or "-", row) for row in rows[:_MOST]], books)
            if len(rows) > _MOST:
                say(f"and {len(rows) - _MOST:,} more")
    say("")
    columns = (Column("answered by"), Column("texts", figures=True))
    show_table(columns, [(who(row.tier), f"{row.served + row.texts:,}") for row in books.tiers])
    say("\nwhat was saved is estimated from what was spent (est.); all else is measured")
    if books.total.unpriced:
        say(f"{books.total.unpriced:,} calls of models without a price are not in the money")
    if books.total.estimated:
        say(f"{books.total.estimated:,} of {books.total.tokens:,} tokens were estimated: nobody counted them")


def _show_sums(heading: str, rows: Sequence[tuple[str, LedgerRow]], books: Books) -> None:
    columns = (Column(heading), *(Column(one, figures=True) for one in _SUMS))
    show_table(columns, [(name, *_sums(row, books.currency)) for name, row in rows])


def _sums(row: LedgerRow, currency: str) -> tuple[str, ...]:
    wanted = row.served + row.texts
    return (
        *(f"{wanted:,}", f"{row.served:,}", percent(row.served / wanted if wanted else None)),
        *(f"{row.calls:,}", f"{row.failed:,}"),
        *(amount(row.money_spent, currency), amount(row.money_saved, currency), hours(row.seconds_saved)),
    )


def _budget(spent: Spent) -> str:
    then = "loaders are not called beyond it" if spent.action == "block" else "it only warns"
    return f"Budget of {spent.day} (UTC): {spent_of(spent)} spent ({percent(spent.share)}); {then}"
