"""What a hit is worth in the ledger."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import product
from random import Random

from ledgers import PRICES

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache._books.memory import MemoryLedger, merged
from tiercache.accounts import MISSED, Account
from tiercache.ledger import needs_earlier, statement
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


DAYS = [f"2026-07-0{day}" for day in range(1, 6)]


def test_the_worth_is_the_same_however_few_days_are_read(monkeypatch):
    asked = []
    posted = MemoryLedger.posted

    def noted(self, since):
        asked.append(since)
        return posted(self, since)

    monkeypatch.setattr(MemoryLedger, "posted", noted)
    chance = Random(5)
    clock = FakeClock(datetime(2026, 7, 5, 12, tzinfo=UTC).timestamp())
    readings = set()
    for _ in range(60):
        with TieredCache([MemoryTier(clock=clock)], prices=PRICES, clock=clock, namespace="n") as cache:
            books = cache._stack.books
            for day, model, tier in product(DAYS, "ab", ("loader", "memory", MISSED)):
                if chance.random() < 0.8:
                    namespace = chance.choice(["n", "n", "n/in", "other"])
                    amounts = {"served": chance.randint(1, 9)}
                    if tier == "loader":
                        failed = chance.choice([0, 0, 1])
                        texts = chance.choice([0, 3, 7])
                        amounts = {
                            "calls": 2,
                            "failed": failed,
                            "texts": texts,
                            "money": chance.randint(1, 10**13),
                        }
                    books.note(Account(day, namespace, model, tier), amounts)
            whole = statement(
                {
                    account: amounts
                    for account, amounts in merged(books.unposted()).items()
                    if account.namespace in ("n", "n/in")
                }.items(),
                "",
                "EUR",
            )
            for since in (*DAYS, "2026-07-06", "2020-01-01", "72h"):
                asked.clear()
                said = cache.ledger(since)
                first = "2026-07-02" if since == "72h" else since
                assert said.rows == tuple(row for row in whole.rows if row.day >= first)
                assert said.missed == {day: count for day, count in whole.missed.items() if day >= first}
                assert asked[0] == max(first, "2025-05-31")
                assert asked[1:] in ([], ["2025-05-31"])
                readings.add(len(asked))
    assert readings == {1, 2}


def test_days_that_paid_for_what_they_served_need_no_others():
    paid = Account("2026-07-05", "n", "m", "loader")
    rows = {
        paid: {"texts": 1},
        paid._replace(tier="memory"): {"served": 3},
        paid._replace(tier=MISSED): {"served": 1},
    }
    assert not needs_earlier(rows, "2026-07-05")
    rows |= {paid._replace(tier="memory", model="another"): {"served": 3}}
    assert needs_earlier(rows, "2026-07-05")
    assert not needs_earlier(rows, "2026-07-06")
