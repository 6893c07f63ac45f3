"""Chains that share a tier share their epochs; chains that do not, wait for nobody."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tiercache import DiskTier, Entry, MemoryTier, RedisTier, SQLTier, TieredCache, _domains
from tiercache._domains import JointEpochs
from tiercache.codecs import JSONCodec
from tiercache.testing import DictTier, SpyTier

LIMIT = 20.0


class Gate(DictTier):
    """Stops in the middle of a read or write of its own, until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.open = threading.Event(), threading.Event()
        self.stops: str | None = None

    def _stop(self, verb: str) -> None:
        if self.stops == verb:
            self.reached.set()
            assert self.open.wait(LIMIT)

    def mget(self, keys: Any) -> Any:
        found = super().mget(keys)
        self._stop("mget")
        return found

    def mset(self, entries: Any) -> None:
        self._stop("mset")
        super().mset(entries)


def epochs(cache: TieredCache[Any], path: tuple[str, ...] = ("",)) -> Any:
    core = cache._core if path == ("",) else cache.view(path[-1])._core
    return core.space.epochs


def test_a_delete_through_one_chain_stops_the_promotion_of_another(tmp_path: Path) -> None:
    lowest = Gate()
    reader = TieredCache([MemoryTier(), DiskTier(tmp_path), lowest], promote="inline")
    writer = TieredCache([MemoryTier(), DiskTier(tmp_path), lowest])
    lowest.mset({"k": Entry(b"old")})
    lowest.stops = "mget"
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(reader.get, "k")
        assert lowest.reached.wait(LIMIT)
        lowest.stops = None
        assert writer.delete("k").ok
        lowest.open.set()
        assert reading.result(LIMIT) == b"old"  # it asked before the delete
    assert writer.get("k") is None
    assert reader.get("k") is None
    assert reader.stats().suppressed_writes == 2
    reader.close()
    writer.close()


def test_a_load_after_another_chains_delete_does_not_join_an_older_flight() -> None:
    shared = DictTier()
    first, second = TieredCache([MemoryTier(), shared]), TieredCache([shared])
    begun, go_on = threading.Event(), threading.Event()

    def old(_key: str) -> bytes:
        begun.set()
        assert go_on.wait(LIMIT)
        return b"old"

    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(first.get_or_load, "k", old)
        assert begun.wait(LIMIT)
        second.delete("k")
        assert first.get_or_load("k", lambda _key: b"new") == b"new"
        go_on.set()
        assert loading.result(LIMIT) == b"old"
    assert first.get("k") == second.get("k") == b"new"


def test_chains_without_a_common_tier_do_not_wait_for_each_other() -> None:
    stuck = Gate()
    stuck.stops = "mset"
    ill, well = TieredCache([stuck]), TieredCache([DictTier()])
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ill.set, "k", b"v")
        assert stuck.reached.wait(LIMIT)
        well.set("k", b"v")
        assert well.get("k") == b"v"
        stuck.open.set()
        waiting.result(LIMIT)


def test_two_objects_over_one_place_are_one_tier(tmp_path: Path) -> None:
    def same(make: Any, again: Any) -> bool:
        one, other = TieredCache([make()]), TieredCache([again()])
        result = epochs(one) is epochs(other)
        one.close()
        other.close()
        return result

    (tmp_path / "link").symlink_to(tmp_path)
    assert same(lambda: DiskTier(tmp_path / "d"), lambda: DiskTier(str(tmp_path / "link" / "d")))
    assert not same(lambda: DiskTier(tmp_path / "d"), lambda: DiskTier(tmp_path / "e"))
    sqlite = f"sqlite:///{tmp_path}/db"
    assert same(lambda: SQLTier(sqlite), lambda: SQLTier(sqlite))
    assert not same(lambda: SQLTier(sqlite), lambda: SQLTier(sqlite, table="other"))
    assert not same(lambda: SQLTier("sqlite://"), lambda: SQLTier("sqlite://"))
    assert same(lambda: SQLTier("postgresql://a:one@host/db"), lambda: SQLTier("postgresql://b:two@host/db"))
    redis = "redis://:secret@host:7/1"
    assert same(lambda: RedisTier(redis), lambda: RedisTier(redis))
    assert not same(lambda: RedisTier(redis), lambda: RedisTier(redis, prefix="other:"))
    tier = DictTier()
    assert same(lambda: tier, lambda: SpyTier(SpyTier(tier)))
    assert not same(DictTier, DictTier)


def test_namespaces_do_not_wait_for_each_other() -> None:
    tier = DictTier()
    one, other = TieredCache([tier], namespace="a"), TieredCache([tier], namespace="b")
    assert epochs(one) is not epochs(other)
    assert TieredCache([tier]).view("a")._core.space.epochs is not epochs(one)  # ("", "a") is another path


def test_a_chain_that_links_two_others_takes_the_epochs_of_both() -> None:
    upper, lower = MemoryTier(), DictTier()
    first, second = TieredCache([upper]), TieredCache([lower])
    assert epochs(first) is not epochs(second)
    both = TieredCache([upper, lower])
    assert isinstance(epochs(both), JointEpochs)
    assert set(epochs(both)._parts) == {epochs(first), epochs(second)}
    both.set("k", b"v")
    assert (first.get("k"), second.get("k"), both.get("k")) == (b"v", b"v", b"v")
    both.clear()
    assert (first.get("k"), second.get("k"), both.get("k")) == (None, None, None)


def test_a_chain_around_a_chain_does_not_wait_for_itself() -> None:
    memory, lowest = MemoryTier(), DictTier()
    plain = TieredCache([memory, lowest])
    inner = TieredCache([MemoryTier(), lowest])
    assert epochs(plain) is epochs(inner)
    outer = TieredCache([memory, inner])  # takes the inner one's epochs while it writes through it
    linked = TieredCache([memory, lowest])

    def use() -> None:
        for cache in (outer, linked, plain, inner):
            cache.set("k", b"v")
            assert cache.get("k") == b"v"
            cache.clear()
            assert cache.get_or_load("k", lambda _key: b"w") == b"w"
            cache.delete("k")

    with ThreadPoolExecutor(1) as threads:
        threads.submit(use).result(LIMIT)


def test_chains_linked_across_a_nested_one_take_turns_in_one_order() -> None:
    top, lowest = DictTier(), DictTier()
    outer_first = TieredCache([top])
    inner = TieredCache([lowest])
    outer = TieredCache([top, inner])
    linked = TieredCache([top, lowest])
    parts = epochs(linked)._parts
    assert parts == (epochs(outer_first), epochs(inner))  # the outer one's before the inner one's
    done = threading.Barrier(3)

    def write(cache: TieredCache[bytes]) -> None:
        for number in range(200):
            cache.set("k", b"%d" % number)
        done.wait(LIMIT)

    with ThreadPoolExecutor(3) as threads:
        for future in [threads.submit(write, cache) for cache in (outer, linked, inner)]:
            future.result(LIMIT)


def test_two_chains_agree_on_what_a_clear_left_behind() -> None:
    class Bare:
        """Can neither clear nor scan."""

        def __init__(self) -> None:
            inner = DictTier()
            self.mget, self.mset, self.mdelete, self.close = (
                inner.mget,
                inner.mset,
                inner.mdelete,
                inner.close,
            )

    tier = Bare()
    one, other = TieredCache([tier]), TieredCache([tier])
    one.set("k", b"old")
    assert other.get("k") == b"old"
    one.clear()
    assert (one.get("k"), other.get("k")) == (None, None)
    other.set("k", b"new")
    assert one.get("k") == b"new"
    assert TieredCache([tier]).get("k") == b"new"
    del one, other
    gc.collect()
    assert TieredCache([tier]).get("k") == b"new"  # and not the old one, which is still in the tier
    kept = len(_domains._registry.kept)
    del tier
    gc.collect()
    assert len(_domains._registry.kept) == kept - 1


# -- what is kept of a view ------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [None, JSONCodec()], ids=["bytes", "json"])
def test_a_forgotten_view_leaves_its_hits_and_nothing_else(codec: Any) -> None:
    cache: TieredCache[Any] = TieredCache([MemoryTier(), DictTier()], codec=codec)
    value = b"v" if codec is None else [1]
    kept = []
    for number in range(50):
        view = cache.view(f"user-{number}", codec=codec)
        view.set("k", value)
        for _ in range(3):
            assert view.get("k") == value
        assert view.mget(["k", "absent"]) == [value, None]
        kept.append(weakref.ref(view._core.space))
    del view
    gc.collect()
    assert [ref() for ref in kept] == [None] * 50
    assert len(cache._stack._bindings) == 1
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (200, 50)
    assert stats.tiers[0].hits == 200
    assert cache.view("user-7", codec=codec).get("k") == value
    assert cache.stats().hits == 201


def test_views_of_one_namespace_are_one_as_long_as_one_of_them_lives() -> None:
    cache = TieredCache([MemoryTier(), DictTier()])
    one, other = cache.view("a"), cache.view("a")
    assert one._core.space is other._core.space
    assert one._core.members is other._core.members
