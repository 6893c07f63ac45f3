"""The rows of a report's tables, in words: the text has fewer columns than the page, and other headings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from tiercache.cli._reporting.record import Books, Report, TierPart
from tiercache.cli._reporting.words import (
    amount,
    entries_of,
    hours,
    key_of,
    percent,
    seconds,
    size_of,
    state_of,
    who,
)
from tiercache.ledger import LedgerRow
from tiercache.stats import Latency

__all__ = [
    "ABOUT_LOADS", "ABOUT_POPULAR", "ABOUT_QUANTILES", "MOST", "POPULAR", "QUANTILES", "Sums", "answered",
    "days_of", "latencies", "marks_of", "named", "popular_rows", "quantiles_of", "sums_of", "tier_row",
    "total_of",
]  # fmt: skip

QUANTILES = ("p50", "p95", "p99")
#: What there is to know of them.
ABOUT_QUANTILES = (
    "p50, p95 and p99: half of the calls took no longer, 95 % and 99 % of them, within 20 %; those of memory "
    "are estimated from samples"
)
#: Why they take longer than the calls in the ledger.
ABOUT_LOADS = (
    "loads: as callers wait for them, with further tries, waiting for a turn and noting in the ledger"
)
POPULAR = ("key", "namespace", "digest", "times", "too high by at most")
ABOUT_POPULAR = (
    "times: how often callers were given its value, never too low; where memory answers more than 20,000 "
    "times a second, some hits stand for others. Keys that no tier has listed are shown by digest alone"
)
#: A row of the ledger, or a sum of rows: its name, itself, and how many texts were wanted.
Sums: TypeAlias = tuple[str, LedgerRow, int]
#: Rows of a table of models or namespaces.
MOST = 20


def tier_row(tier: TierPart) -> dict[str, str]:
    """What is known of ``tier``, by its name in this code; "-" where it is not."""
    counted = tier.counted or {}
    numbers = {
        name: f"{counted[name]:,}" if name in counted else "-"
        for name in ("hits", "misses", "evictions", "owed")
    }
    return {
        "name": tier.name,
        "kind": tier.kind,
        "entries": entries_of(tier),
        "size": size_of(tier),
        "ratio": percent(tier.hit_ratio),
        "read": seconds(tier.read_seconds),
        "write": seconds(tier.write_seconds),
        "errors": f"{tier.failures:,}" if counted else "-",
        "state": state_of(tier),
        **numbers,
    }


def marks_of(tier: TierPart) -> dict[str, Literal["bad", "warn"]]:
    """What in `tier_row` nobody should overlook."""
    marks: dict[str, Literal["bad", "warn"]] = {}
    if tier.failures:
        marks["errors"] = "bad"
    if (tier.counted or {}).get("owed"):
        marks["owed"] = "warn"
    if tier.state == "down":
        marks["state"] = "bad"
    return marks


def latencies(report: Report) -> list[tuple[str, Latency]]:
    """Who was called for what, and how long that took; without those who were not."""
    found = []
    for tier in report.tiers:
        found += [(f"read {tier.name}", tier.read_latency), (f"write {tier.name}", tier.write_latency)]
    if report.statistics is not None:
        found.append(("loader", report.statistics.load_latency))
    return [(who, latency) for who, latency in found if latency.p50 is not None]


def quantiles_of(latency: Latency) -> list[str]:
    """Under `QUANTILES`."""
    return [seconds(latency.p50), seconds(latency.p95), seconds(latency.p99)]


def popular_rows(report: Report) -> list[list[str]]:
    """The popular keys that were asked for, under `POPULAR`."""
    return [
        [key_of(one), one.namespace or "-", one.digest, f"{one.count:,}", f"{one.error:,}"]
        for one in report.popular or ()
    ]


def sums_of(sums: Sums, currency: str) -> dict[str, str]:
    """What there is to say of ``sums``."""
    _, row, wanted = sums
    return {
        "wanted": f"{wanted:,}",
        "served": f"{row.served:,}",
        "ratio": percent(row.served / wanted if wanted else None),
        "calls": f"{row.calls:,}",
        "failed": f"{row.failed:,}",
        "tokens": f"{row.tokens:,}",
        "spent": amount(row.money_spent, currency),
        "saved": amount(row.money_saved, currency),
        "time spent": hours(row.seconds_spent),
        "time saved": hours(row.seconds_saved),
    }


def days_of(books: Books) -> list[Sums]:
    """The days on which anything was counted."""
    return [(day.day, day.row, day.wanted) for day in books.days if day.row.calls or day.wanted]


def total_of(name: str, books: Books, *, of_days: bool) -> Sums:
    """All that was counted, under that ``name``. Look-ups that missed are known ``of_days`` alone."""
    return name, books.total, books.wanted if of_days else _wanted(books.total)


def _wanted(row: LedgerRow) -> int:
    return row.served + row.texts


def named(rows: Sequence[LedgerRow], name: str) -> tuple[list[Sums], int]:
    """The first `MOST` of ``rows`` with their ``name``, and how many are left."""
    return [(getattr(row, name) or "-", row, _wanted(row)) for row in rows[:MOST]], max(len(rows) - MOST, 0)


def answered(books: Books) -> list[tuple[str, str]]:
    """Who answered how many texts."""
    return [(who(row.tier), f"{row.served + row.texts:,}") for row in books.tiers]
