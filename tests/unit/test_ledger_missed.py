"""Look-ups that no tier could answer, by day in the ledger: every way of looking up, each namespace, once."""

from __future__ import annotations

import asyncio
import os

import pytest

from tiercache import DiskTier, MemoryTier, SQLTier, TieredCache
from tiercache.accounts import MISSED
from tiercache.ledger import LedgerRow
from tiercache.testing import FakeClock


def load(key):
    return key.encode()


def load_many(keys):
    return [key.encode() for key in keys]


@pytest.fixture(params=["memory", "disk", "two", "three"])
def cache(request, tmp_path):
    tiers = [] if request.param == "disk" else [MemoryTier()]
    if request.param != "memory":
        tiers.append(DiskTier(tmp_path / "disk"))
    if request.param == "three":
        tiers.append(SQLTier(f"sqlite:///{tmp_path}/shared.db"))
    with TieredCache(tiers, namespace="shop", ledger=True) as cache:
        yield cache


def missed(cache):
    return sum(cache.ledger().missed.values())


def test_whatever_is_looked_up_in_whatever_way_is_missed_once(cache):
    cache.get("a")
    assert missed(cache) == cache.stats().misses == 1
    cache.mget(["a", "b", "b2"])
    assert missed(cache) == cache.stats().misses == 4
    cache.get_or_load("c", load)
    cache.get_or_load("d", load)
    cache.mget_or_load(["e", "f"], load_many)
    assert missed(cache) == cache.stats().misses == 8
    with pytest.raises(ZeroDivisionError):
        cache.get_or_load("g", lambda _key: 1 / 0)
    assert missed(cache) == cache.stats().misses == 9
    for key in "cdef":
        cache.get(key)
    cache.mget(["c", "d"])
    assert missed(cache) == cache.stats().misses == 9

    async def at_once():
        await cache.aget("a")
        await cache.amget(["a", "c"])
        await cache.aget_or_load("h", load)

    asyncio.run(at_once())
    assert missed(cache) == cache.stats().misses == 12


def test_a_key_that_comes_twice_in_one_call_is_one_hit_or_one_miss(cache):
    cache.mget(["a", "a", "b"])
    assert (missed(cache), cache.stats().misses) == (2, 3)
    cache.mget_or_load(["a", "a", "b"], load_many)
    assert (missed(cache), cache.stats().misses) == (4, 6)
    cache.mget(["a", "a", "b"])
    cache.mget_or_load(["a", "a", "b"], load_many)
    assert (missed(cache), cache.ledger().total.served) == (4, 4)


def test_rows_and_sums_have_nothing_of_it(cache):
    cache.get("a")
    said = cache.ledger()
    assert (said.rows, said.total) == ((), LedgerRow())
    cache.get_or_load("a", load)
    cache.get("a")
    said = cache.ledger()
    assert MISSED not in {row.tier for row in said.rows}
    assert (said.total.served, said.total.texts, sum(said.missed.values())) == (1, 1, 2)
    assert said.as_dict()["missed"] == said.missed


def test_a_view_has_its_own_and_its_parent_has_them_too(cache):
    view = cache.view("pages")
    view.mget(["a", "b"])
    cache.get("a")
    assert (missed(view), missed(cache)) == (2, 3)
    del view
    assert missed(cache) == 3


def test_they_are_of_their_day_and_kept_with_the_ledger(tmp_path):
    clock = FakeClock(1_800_000_000.0)
    for misses in (1, 2):
        tiers = [MemoryTier(clock=clock), DiskTier(tmp_path / "disk", clock=clock)]
        with TieredCache(tiers, ledger=True, clock=clock) as cache:
            for _ in range(misses):
                cache.get("a")
        clock.advance(86_400)
    with TieredCache([DiskTier(tmp_path / "disk", clock=clock)], ledger=True, clock=clock) as cache:
        said = cache.ledger()
        assert said.missed == {"2027-01-15": 1, "2027-01-16": 2}
        assert cache.ledger("2027-01-16").missed == {"2027-01-16": 2}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_posts_its_own(tmp_path):
    cache = TieredCache([MemoryTier(), DiskTier(tmp_path / "disk")], ledger=True)
    cache.get("a")
    pid = os.fork()
    if not pid:
        try:
            cache.mget(["a", "b"])
            cache.close()
        except BaseException:  # noqa: BLE001 - a child must not go on with the tests
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert missed(cache) == 3
    cache.close()
