"""The charts of a report: which of its numbers are drawn, and how they are told in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from math import ceil

from tiercache.cli._reporting.elements import Element, el
from tiercache.cli._reporting.look import SERIES
from tiercache.cli._reporting.record import Books, Day, Popular, Report, Spent, TierPart
from tiercache.cli._reporting.rows import latencies, quantiles_of
from tiercache.cli._reporting.svg import Series, bars, columns, dots, meter
from tiercache.cli._reporting.words import (
    amount,
    day_of,
    entries_of,
    hours,
    key_of,
    percent,
    seconds,
    size_of,
    spent_of,
)

__all__ = ["budget_chart", "charts_of_days", "charts_of_tiers", "popular_chart"]

_ESTIMATED = "saved (estimated)"
#: Columns of a chart: a reader can tell so many apart on a telephone.
_MOST = 62
#: Keys in a chart.
_BARS = 10


def style_of(number: int, kind: str = "c") -> str:
    """The class of the series with that ``number``, from 0; the last colour is of all beyond."""
    return f"{kind}{min(number + 1, SERIES)}"


# -- tiers -----------------------------------------------------------------------------------------


def charts_of_tiers(report: Report) -> Iterator[Element]:
    """What is drawn of the tiers as they are now, and of what was counted."""
    tiers = report.tiers
    if any(tier.entries for tier in tiers):
        yield _amounts("entries", "Entries", tiers, lambda tier: tier.entries, entries_of)
    if any(tier.bytes for tier in tiers):
        yield _amounts("bytes", "Size", tiers, lambda tier: tier.bytes, size_of)
    asked = [(tier, tier.hit_ratio) for tier in tiers]
    if report.statistics is not None and any(ratio is not None for _, ratio in asked):
        rows = [
            (tier.name, ratio or 0.0, percent(ratio), style_of(number))
            for number, (tier, ratio) in enumerate(asked)
        ]
        rows.append(
            ("all tiers", report.statistics.hit_ratio or 0.0, percent(report.statistics.hit_ratio), "c6")
        )
        drawn = bars("ratio", "Hit ratio of each tier", _told([(row[0], row[2]) for row in rows]), rows)
        yield _figure("Hit ratio", drawn, "Hits for each key that a tier was asked for. Measured.")
    if report.statistics is not None:
        yield from _latencies(report)


def _amounts(
    ident: str,
    title: str,
    tiers: Sequence[TierPart],
    value: Callable[[TierPart], int | None],
    words: Callable[[TierPart], str],
) -> Element:
    most = max(value(tier) or 0 for tier in tiers)
    rows = [
        (tier.name, (value(tier) or 0) / most, words(tier), style_of(number))
        for number, tier in enumerate(tiers)
    ]
    drawn = bars(ident, f"{title} of each tier", _told([(row[0], row[2]) for row in rows]), rows)
    note = "Of this cache's namespace. Memory: of all running processes together."
    return _figure(title, drawn, f"{note} Measured.")


def _latencies(report: Report) -> Iterator[Element]:
    told = latencies(report)
    if not told:
        return
    rows = [
        (
            who,
            [(value, style) for value, style in ((one.p99, "c5"), (one.p95, "c2"), (one.p50, "c1")) if value],
            f"p99 {seconds(one.p99)}",
        )
        for who, one in told
    ]
    about = [(who, " / ".join(quantiles_of(one))) for who, one in told]
    drawn = dots("latency", "Latency: p50, p95 and p99 of calls", _told(about), rows, tick=_power)
    note = "Of calls, on a logarithmic scale. Measured, within 20 %; memory: estimated from samples."
    yield _figure("Latency", drawn, note, [("c1", "p50"), ("c2", "p95"), ("c5", "p99")])


def _power(value: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9)):
        if value * factor >= 0.9999 or unit == "ns":
            return f"{value * factor:.3g} {unit}"
    raise AssertionError(value)  # the last unit takes all


# -- days ------------------------------------------------------------------------------------------


def charts_of_days(books: Books, names: Sequence[str]) -> Iterator[Element]:
    """What is drawn of the ledger; ``names`` are the tiers', from the top down, which keep their colours."""
    books, unit = _drawable(books)
    labels = [day_of(day.day) for day in books.days]
    yield _ratio_by_day(books, labels, names, unit)
    if books.currency:
        yield _pair(
            "money",
            f"Money by {unit}, {books.currency}",
            books,
            labels,
            lambda row: row.money_spent,
            lambda row: row.money_saved,
            lambda value: amount(value, books.currency),
        )
    time, size = _unit(books)
    yield _pair(
        "hours",
        f"Time in calls by {unit}, {time}",
        books,
        labels,
        lambda row: Decimal(str(row.seconds_spent / size)),
        lambda row: Decimal(str(row.seconds_saved / size)),
        lambda value: hours(float(value) * size),
    )
    if not books.currency:
        yield _calls_by_day(books, labels, unit)
    if books.total.failed:
        failed = [float(day.row.failed) for day in books.days]
        says = [f"{label}: {count:,.0f} failed calls" for label, count in zip(labels, failed, strict=True)]
        drawn = columns(
            "failed", f"Failed calls by {unit}", f"{books.total.failed:,} in all.", labels,
            [Series("failed", "c5", failed, says)], tick=_short, whole=True,
        )  # fmt: skip
        yield _figure(
            f"Failed calls of loaders by {unit}", drawn, f"{books.total.failed:,} in all. Measured."
        )


def _drawable(books: Books) -> tuple[Books, str]:
    """``books`` of no more days than there are columns to be told apart, of some weeks each if need be; and
    what each of them is."""
    count = len(books.days)
    if count <= _MOST:
        return books, "day"
    weeks = ceil(count / 7 / _MOST)
    bins: list[Day] = []
    for start in range(0, count, 7 * weeks):
        first, *more = books.days[start : start + 7 * weeks]
        served = Counter(first.served)
        for day in more:
            served.update(day.served)
        missed = first.missed + sum(day.missed for day in more)
        bins.append(Day(first.day, sum((day.row for day in more), first.row), served, missed))
    return replace(books, days=tuple(bins)), "week" if weeks == 1 else f"{7 * weeks} days"


def _ratio_by_day(books: Books, labels: Sequence[str], names: Sequence[str], unit: str) -> Element:
    others = sorted({name for day in books.days for name in day.served} - set(names))
    series, legend = [], []
    for number, name in enumerate((*names, *others)):
        shares: list[float | None] = []
        says: list[str] = []
        for label, day in zip(labels, books.days, strict=True):
            share = day.served.get(name, 0) / day.wanted if day.wanted else None
            shares.append(share)
            says.append(f"{label}: {percent(share)} from {name}, {percent(day.hit_ratio)} from all tiers")
        if any(shares):
            series.append(Series(name, style_of(number), shares, says))
            legend.append((style_of(number), name))
    told = [(day_of(day.day), percent(day.hit_ratio)) for day in books.days if day.hit_ratio is not None]
    drawn = columns(
        "days", f"Hit ratio by {unit}", _told(told[-7:], "The last: "), labels, series,
        tick=lambda value: f"{value:.0%}", stacked=True, top=1.0,
    )  # fmt: skip
    note = "Of the keys that were looked up or paid for: those that each tier had. Measured."
    return _figure(f"Hit ratio by {unit} (UTC)", drawn, note, legend)


def _pair(
    ident: str,
    title: str,
    books: Books,
    labels: Sequence[str],
    spent: Callable[..., Decimal],
    saved: Callable[..., Decimal],
    words: Callable[[Decimal], str],
) -> Element:
    series = []
    for name, style, value in (("spent", "c2", spent), (_ESTIMATED, "e3", saved)):
        values = [value(day.row) for day in books.days]
        says = [f"{label}: {words(one)} {name}" for label, one in zip(labels, values, strict=True)]
        series.append(Series(name, style, list(map(float, values)), says))
    told = _told([("Spent", words(spent(books.total))), ("saved, estimated", words(saved(books.total)))])
    drawn = columns(ident, f"{title}: spent and saved", told, labels, series, tick=_short)
    note = f"{told} What was spent is measured; what was saved is the mean of that for each hit."
    return _figure(title, drawn, note, [("c2", "spent (measured)"), ("e3", _ESTIMATED)])


def _calls_by_day(books: Books, labels: Sequence[str], unit: str) -> Element:
    made = [float(day.row.calls) for day in books.days]
    saved = [day.row.calls_saved for day in books.days]
    series = [
        Series("made", "c2", made, [f"{a}: {b:,.0f} calls" for a, b in zip(labels, made, strict=True)]),
        Series("saved", "e3", saved, [f"{a}: {b:,.0f} saved" for a, b in zip(labels, saved, strict=True)]),
    ]
    told = f"{books.total.calls:,} made, {books.total.calls_saved:,.0f} saved."
    drawn = columns("calls", f"Calls by {unit}", told, labels, series, tick=_short)
    return _figure(
        f"Calls of loaders by {unit}", drawn, told, [("c2", "made (measured)"), ("e3", _ESTIMATED)]
    )


def _unit(books: Books) -> tuple[str, float]:
    """Of the chart of time: its unit, and the seconds of that."""
    most = max((max(day.row.seconds_spent, day.row.seconds_saved) for day in books.days), default=0.0)
    if most >= 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if most >= 60 else ("seconds", 1.0)


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:,.3g}{unit}"
    return f"{value:.3g}"


# -- the budget ------------------------------------------------------------------------------------


def budget_chart(spent: Spent) -> Element:
    """How much of the day's budget is spent, and the marks at which it warns."""
    number = spent_of(spent)
    style = "c5" if spent.share >= 1 else "c2" if any(spent.share >= one for one in spent.warn_at) else "c3"
    marks = ", ".join(f"{mark:.0%}" for mark in spent.warn_at)
    then = "At the limit loaders are no longer called." if spent.action == "block" else "It only warns."
    row = (percent(spent.share), spent.share, number, style)
    drawn = meter(
        "budget", "Budget of the day", f"{number}, which is {percent(spent.share)}.", row, spent.warn_at
    )
    warns = f"It warns at {marks}. " if marks else ""
    return _figure(f"Budget of {day_of(spent.day)} (UTC)", drawn, f"{warns}{then} Measured.")


# -- popular keys ----------------------------------------------------------------------------------


def popular_chart(found: Sequence[Popular]) -> Element:
    """The first of ``found``, of which there are some, and how often they were given."""
    most = found[0].count or 1
    rows = [
        (one.digest if one.key is None else key_of(one), one.count / most, f"{one.count:,}", "c1")
        for one in found[:_BARS]
    ]
    drawn = bars("popular", "Popular keys", _told([(row[0], row[2]) for row in rows]), rows)
    return _figure("Given most often", drawn, "Times that callers were given the value of a key, at most.")


# -- what they have in common ----------------------------------------------------------------------


def _figure(title: str, drawn: Element, note: str, legend: Sequence[tuple[str, str]] = ()) -> Element:
    keys = [el("li", el("i", class_=style, aria_hidden="true"), name) for style, name in legend]
    return el(
        "figure",
        el("h3", title),
        drawn,
        el("ul", *keys, class_="legend") if keys else None,
        el("figcaption", note),
        class_="card",
    )


def _told(pairs: Sequence[tuple[str, str]], lead: str = "") -> str:
    return f"{lead}{'; '.join(f'{name} {number}' for name, number in pairs)}."
