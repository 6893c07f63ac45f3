"""Reports made by hand, for tests of the page: small and large ones, of names that nobody should have."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from tiercache._counted import plain
from tiercache.cli._reporting.record import Books, Day, Popular, Report, Spent, Statistics, TierPart
from tiercache.ledger import LedgerRow
from tiercache.stats import CacheStats, Histograms, TierStats

__all__ = ["NASTY", "bare", "full", "popular"]

#: What would end an element or an attribute, and a name that is longer than a window is wide.
NASTY = """</style><script>alert("1 & 2")</script>'"""
_LONG = "a-very-long-name-of-one-word-" * 4


def bare(**changes):
    """A report of a cache of which nobody knows anything."""
    parts = {
        "cache": "",
        "made_at": 1_800_000_000.0,
        "since": "",
        "tiers": (
            TierPart("memory", "memory", "memory"),
            TierPart("sql", "sql", "down", why="did not answer"),
        ),
        "statistics": None,
        "books": None,
        "budget": None,
        "popular": None,
        "problems": ("The tier sql did not answer",),
        "hints": ("The cache keeps no ledger.",),
    }
    return Report(**{**parts, **changes})


def popular(*keys):
    """A report in which these keys were asked for; ``None`` are keys that no tier has named."""
    found = [
        Popular(
            (NASTY, "shop", _LONG.replace("-", "") * 2)[number % 3],
            f"{number:016x}",
            10**7 // 5**number,
            number,
            key,
        )
        for number, key in enumerate(keys)
    ]
    return replace(full(1), popular=tuple(found))


def full(days=30, *, currency="USD", first="memory", spent="6.5"):
    """A report of three tiers and so many days, the first tier and one namespace of whatever name."""
    names = (first, "disk", _LONG)
    counted = CacheStats(
        tuple(
            TierStats(name, hits=10**9 // 7**n, misses=4321, sets=99, errors=n, owed=n, read_seconds=10.0**n,
                      write_seconds=0.5)
            for n, name in enumerate(names)
        ),
        hits=1_234_567, misses=4321, loads=4321, load_errors=3, load_seconds=9876.5,
    )  # fmt: skip
    calls = {55: 900, 70: 90, 90: 10}
    total = plain(counted, Histograms([calls] * 3, [{}, calls, {60: 1}], {100: 5}))
    tiers = tuple(
        TierPart(name, "disk", "listed", 10**n * 321, 10**n * 123_456, n < 2, counted=total["tiers"][n])
        for n, name in enumerate(names)
    )
    rows = [_row(n, names) for n in range(days)]
    everything = sum((day.row for day in rows[1:]), rows[0].row)
    inner = LedgerRow(namespace=NASTY, model=_LONG, texts=5, calls=5, seconds_spent=4000.0)
    return bare(
        cache="shop",
        tiers=tiers,
        statistics=Statistics(3, 1, 1.7e9, 1.8e9, total, {"calls": 1_234_567, "seconds": 1e6}),
        books=Books(
            currency, tuple(rows), (everything,), (everything, inner), (inner, everything), everything
        ),
        budget=Spent("2026-07-01", Decimal(10), Decimal(spent), "block", (0.75, 0.9), currency),
        problems=(),
        hints=(),
    )


def _row(number, names):
    day = (date(2026, 1, 1) + timedelta(days=number)).isoformat()
    if number % 7 == 6:
        return Day(day, LedgerRow(day=day), {})
    served = {name: 100 + (37 * number + 50 * n) % 300 for n, name in enumerate(names)}
    row = LedgerRow(
        day=day, calls=40, failed=number % 3, texts=40, served=sum(served.values()), input=123_456,
        money_spent=Decimal("1.2345"), money_saved=Decimal(number) * 7, seconds_spent=80.0 * number,
        seconds_saved=900.0 * number, calls_saved=500.0, estimated=3, unpriced=2,
    )  # fmt: skip
    return Day(day, row, served)
