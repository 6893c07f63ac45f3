"""The rows of a report's tables, in words: the text has fewer columns than the page, and other headings."""

from __future__ import annotations

from collections.abc import Sequence

from tiercache.cli._reporting.record import Books, TierPart
from tiercache.cli._reporting.words import amount, entries_of, hours, percent, seconds, size_of, state_of, who
from tiercache.ledger import LedgerRow

__all__ = ["MOST", "answered", "days_of", "named", "sums_of", "tier_row"]

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


def sums_of(row: LedgerRow, currency: str) -> dict[str, str]:
    """What a row of the ledger sums up."""
    wanted = row.served + row.texts
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


def days_of(books: Books) -> list[tuple[str, LedgerRow]]:
    """The days on which anything was counted."""
    return [(day.day, day.row) for day in books.days if day.row.calls or day.row.served]


def named(rows: Sequence[LedgerRow], name: str) -> tuple[list[tuple[str, LedgerRow]], int]:
    """The first `MOST` of ``rows`` with their ``name``, and how many are left."""
    return [(getattr(row, name) or "-", row) for row in rows[:MOST]], max(len(rows) - MOST, 0)


def answered(books: Books) -> list[tuple[str, str]]:
    """Who answered how many texts."""
    return [(who(row.tier), f"{row.served + row.texts:,}") for row in books.tiers]
