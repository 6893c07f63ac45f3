"""What a hit is worth in the ledger."""

from __future__ import annotations

from datetime import UTC, date, datetime

from ledgers import PRICES

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.accounts import Account
from tiercache.spending.roi import measured
from tiercache.testing import FakeClock


def test_calls_that_failed_make_no_hit_worth_more(tmp_path):
    """Not their seconds, nor what they had reported; in the row of the loader they are."""
    clock = FakeClock(datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp())
    tiers = [MemoryTier(clock=clock), DiskTier(tmp_path / "d", clock=clock)]
    with TieredCache(tiers, prices=PRICES, model="m", clock=clock) as cache:
        loaded = Account("2026-07-01", "", "m", "loader")
        books = cache._stack.books
        books.note(loaded, {"calls": 1, "texts": 1, "micros": 2_000_000, "money": 10**12})
        for _ in range(30):
            books.note(loaded, {"calls": 1, "failed": 1, "micros": 60_000_000, "money": 10**11})
        # A day on which nothing came is in no mean, and so nothing is to be left out of one.
        ill = loaded._replace(day="2026-06-30")
        books.note(ill, {"calls": 1, "failed": 1, "micros": 500_000_000, "money": 10**12})
        books.note(loaded._replace(day="2026-07-02", tier="memory"), {"served": 5})
        books.note(loaded._replace(tier="memory"), {"served": 10})
        said = cache.ledger()
    assert [(row.day, row.tier) for row in said.rows] == [
        ("2026-06-30", "loader"),
        ("2026-07-01", "loader"),
        ("2026-07-01", "memory"),
        ("2026-07-02", "memory"),
    ]
    total = said.total
    assert (total.calls, total.failed, total.seconds_spent, total.money_spent) == (32, 31, 2302, 5)
    assert (total.calls_saved, total.seconds_saved, total.money_saved) == (15, 30, 15)
    assert measured(said, date(2026, 7, 2))["seconds_without"] == 2
