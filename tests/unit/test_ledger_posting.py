"""What was posted to a ledger is there exactly once, whatever fails on the way, and in whatever order."""

from __future__ import annotations

import tempfile
import threading
from contextlib import closing
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import PRICES, FailingPost, paid_load, totals
from waiting import pool

from tiercache import DiskTier, MemoryTier, TieredCache, TierUnavailable
from tiercache.accounts import LOADER, TOTAL, Account, Deposit

COST = Decimal("0.0002")
FAULTS = ("before", "after", "skipped")


def made(directory):
    tier = DiskTier(directory, breaker_failures=None)
    post = FailingPost(tier)
    cache = TieredCache([MemoryTier(), tier], prices=PRICES, model="m")
    cache._stack.books._wake = None  # nothing happens behind the test
    return cache, post


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("times", [1, 3])
def test_a_call_is_counted_once_though_posting_fails(tmp_path, fault, times, caplog):
    cache, post = made(tmp_path / "d")
    with cache:
        post.faults = [fault] * times
        for key in "abcd":
            assert cache.get_or_load(key, paid_load) == key.encode()
        assert totals(cache) == (4, 0, 4, 0, 4 * COST)
    assert ("failed to keep the ledger" in caplog.text) == (fault != "skipped")


def test_it_is_posted_before_the_caller_gets_the_value(tmp_path):
    """Another process that looks then sees it: nothing waits in this one."""
    cache, _ = made(tmp_path / "d")
    with cache, closing(DiskTier(tmp_path / "d")) as other:
        cache.get_or_load("k", paid_load)
        [(account, amounts)] = [row for row in other.posted("") if row[0].tier == LOADER]
        assert (account.model, amounts["calls"], amounts["money"]) == ("m", 1, 200_000_000)


def test_what_was_sent_again_is_told_by_its_number(tmp_path):
    with closing(DiskTier(tmp_path / "d")) as tier:
        one = Account("2026-07-01", "n", "m", LOADER)
        for number in (1, 1, 2, 1, 2, 3):
            tier.post(Deposit("w", number, one.day, [(one, {"calls": 1})]))
        tier.post(Deposit("v", 1, one.day, [(one, {"calls": 1})]))
        assert tier.posted("") == [(one, {**dict.fromkeys(tier.posted("")[0][1], 0), "calls": 4})]


def test_a_claim_is_the_first_ones(tmp_path):
    with closing(DiskTier(tmp_path / "d")) as tier:
        assert [tier.claim("d", "x", token) for token in "aba"] == [True, False, True]
        assert tier.claim("d", "y", "b")
        assert tier.claim("e", "x", "b")


def test_a_tier_that_may_only_be_read_keeps_none(tmp_path):
    with TieredCache([DiskTier(tmp_path / "d")], ledger=True) as cache:
        cache.get_or_load("k", paid_load)
        assert cache._stack.books.place.name == "disk"
    with TieredCache([DiskTier(tmp_path / "d", read_only=True)], ledger=True) as cache:
        cache.get_or_load("l", paid_load)
        assert cache._stack.books.place.name == ""
        assert totals(cache)[0] == 1


def test_what_could_not_be_posted_is_told_and_posted_later(tmp_path):
    cache, post = made(tmp_path / "d")
    with cache:
        post.faults = ["before"] * 5
        for key in "abcde":
            cache.get_or_load(key, paid_load)
        books = cache._stack.books
        assert sum(one.tier == TOTAL for one, _ in books.unposted()) >= 1
        assert sum(amounts.get("calls", 0) for _, amounts in books.unposted()) == 5
        cache.flush()
        assert books.unposted() == []
        assert cache.stats().tiers[1].errors == 5


def test_all_that_threads_could_not_post_is_posted_at_the_end(tmp_path):
    tier = DiskTier(tmp_path / "d", breaker_failures=None)
    post, together, ill = tier.post, threading.Barrier(4), threading.Event()

    def failing(deposit):
        if ill.is_set():
            together.wait(20)  # so that each has a writer of its own
            raise TierUnavailable("as the test wants it")
        post(deposit)

    tier.post = failing
    ill.set()
    with TieredCache([MemoryTier(), tier], prices=PRICES, model="m") as cache:
        cache._stack.books._wake = None
        with pool(4) as threads:
            list(threads.map(lambda key: cache.get_or_load(key, paid_load), "abcd"))
        ill.clear()
    with closing(DiskTier(tmp_path / "d")) as other:
        [amounts] = [amounts for account, amounts in other.posted("") if account.tier == LOADER]
        assert amounts["calls"] == 4


def test_what_waits_for_an_ill_tier_is_added_up(tmp_path, monkeypatch):
    monkeypatch.setattr("tiercache._books.books._MOST_WAITING", 10)
    cache, post = made(tmp_path / "d")
    with cache:
        books, views = cache._stack.books, [cache.view(name) for name in "abc"]
        post.faults = ["before"] * 100
        for number in range(100):
            views[number % 3].get_or_load(f"k{number}", paid_load)
            assert len(books._waiting) <= 12
        assert not post.faults
        assert totals(cache) == (100, 0, 100, 0, 100 * COST)
        assert books.unposted() == []


def test_a_day_in_memory_has_so_many_rows(monkeypatch):
    monkeypatch.setattr("tiercache._books.memory.MOST_ROWS", 10)
    with TieredCache([MemoryTier()], prices=PRICES, model="m") as cache:
        for number in range(40):
            cache.view(f"v{number}").get_or_load("k", paid_load)
        assert totals(cache) == (40, 0, 40, 0, 40 * COST)
        assert len(cache.ledger().rows) <= 11


def test_accounts_that_wait_for_an_ill_tier_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("tiercache._books.books._MOST_WAITING", 10)
    monkeypatch.setattr("tiercache._books.books.MOST_ROWS", 10)
    cache, post = made(tmp_path / "d")
    with cache:
        books = cache._stack.books
        post.faults = ["before"] * 200
        for number in range(200):
            cache.view(f"v{number}").get_or_load("k", paid_load)
            assert len(books._waiting) <= 2 * 12
            assert len(books.pending.rows()) <= 4 * 12
        assert not post.faults
        assert totals(cache) == (200, 0, 200, 0, 200 * COST)
        assert books.unposted() == []
        names = {row.namespace for row in cache.ledger().rows}
        assert "/(others)" in names
        assert len(names) <= 24
        assert books.place._store.spent(books.today(), "") == 200 * 200_000_000


def test_threads_post_at_once(tmp_path):
    cache, post = made(tmp_path / "d")
    post.faults = ["after", "before", ""] * 20
    with cache:
        threads = [
            threading.Thread(target=lambda n=n: [cache.get_or_load(f"{n}-{i}", paid_load) for i in range(20)])
            for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert totals(cache) == (120, 0, 120, 0, 120 * COST)


STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(["load", "fail", "hit", "settle"])), min_size=1, max_size=25
)


@given(steps=STEPS, faults=st.lists(st.sampled_from(["", *FAULTS]), max_size=25))
def test_sums_are_those_of_what_happened(steps, faults):
    """Two caches over one directory, as two processes, in any order, with any of their posts failing."""
    with tempfile.TemporaryDirectory() as folder:
        pair = [made(f"{folder}/d") for _ in range(2)]
        for index, (_, post) in enumerate(pair):
            post.faults = faults[index::2]
        calls = failed = served = 0
        for number, (which, step) in enumerate(steps):
            cache = pair[which][0]
            if step == "load":
                cache.get_or_load(f"{number}", paid_load)
                calls += 1
            elif step == "fail":
                with pytest.raises(ZeroDivisionError):
                    cache.get_or_load(f"{number}", lambda _key: 1 / 0)  # type: ignore[arg-type,return-value]  # it raises
                calls, failed = calls + 1, failed + 1
            elif step == "hit":
                cache.set("h", b"v")
                cache.get("h")
                served += 1
            else:
                cache.flush()
        for cache, post in pair:
            post.faults = []
            cache.flush()
        loaded = calls - failed
        for cache, _ in pair:
            assert totals(cache) == (calls, failed, loaded, served, loaded * COST)
            assert (
                cache._stack.books.place._store.spent(cache._stack.books.today(), "") == loaded * 200_000_000
            )
        for cache, _ in pair:
            cache.close()
