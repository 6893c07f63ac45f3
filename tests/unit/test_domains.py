"""Chains that share a tier share their epochs; chains that do not, wait for nobody."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from waiting import LIMIT, GatedLoader, until

from tiercache import (
    DiskTier,
    EncodedTier,
    Entry,
    LoadError,
    MemoryTier,
    RedisTier,
    SQLTier,
    TieredCache,
    TierUnavailable,
)
from tiercache._consistency import domains as _domains
from tiercache._consistency.domains import JointEpochs
from tiercache.codecs import JSONCodec
from tiercache.testing import DictTier, SpyTier


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


class Bare:
    """Can neither clear nor scan."""

    def __init__(self) -> None:
        inner = DictTier()
        self.mget, self.mset, self.mdelete, self.close = inner.mget, inner.mset, inner.mdelete, inner.close


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
    old = GatedLoader(b"old")
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(first.get_or_load, "k", old)
        assert old.entered.wait(LIMIT)
        second.delete("k")
        assert first.get_or_load("k", lambda _key: b"new") == b"new"
        old.go.set()
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
    assert same(
        lambda: SQLTier("postgresql://a:one@host/db"), lambda: SQLTier("postgresql://b:two@host:5432/db")
    )
    at = "postgresql:///db?host=/a"
    assert not same(lambda: SQLTier(at), lambda: SQLTier("postgresql:///db?host=/b"))
    redis = "redis://:secret@host:7/1"
    assert same(lambda: RedisTier(redis), lambda: RedisTier(redis))
    assert not same(lambda: RedisTier(redis), lambda: RedisTier(redis, prefix="other:"))
    local = "redis://user:secret@localhost"
    assert same(lambda: RedisTier(local), lambda: RedisTier("redis://localhost:6379/0"))
    assert same(lambda: RedisTier(local), lambda: RedisTier(redis_py.Redis()))
    assert same(lambda: RedisTier("unix:///a/b"), lambda: RedisTier(redis_py.Redis(unix_socket_path="/a/b")))
    assert not same(lambda: RedisTier(local), lambda: RedisTier("redis://localhost/1"))
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


# -- chains inside chains --------------------------------------------------------------------------


def test_an_old_load_does_not_come_back_through_chains_inside_chains() -> None:
    low = DictTier()
    one = TieredCache([MemoryTier(), TieredCache([low])])
    two = TieredCache([MemoryTier(), TieredCache([low])])
    plain = TieredCache([low])
    for write, left in [
        (lambda: two.delete("k"), None),
        (lambda: plain.delete("k"), None),
        (lambda: plain.set("k", b"new"), b"new"),
        (plain.clear, None),
    ]:
        old = GatedLoader(b"old")
        with ThreadPoolExecutor(1) as threads:
            loading = threads.submit(one.get_or_load, "k", old)
            assert old.entered.wait(LIMIT)
            write()
            old.go.set()
            assert loading.result(LIMIT) == b"old"
        assert plain.get("k") == left
        assert one.get("k") == left
        plain.clear()
        one.clear()


@pytest.mark.parametrize("first", ["plain", "outer"])
def test_a_promotion_out_of_a_chain_inside_is_stopped_too(first: str) -> None:
    memory, low = MemoryTier(), Gate()
    if first == "plain":
        plain = TieredCache([memory, low])
        outer = TieredCache([memory, TieredCache([low])])
    else:
        outer = TieredCache([memory, TieredCache([low])])
        plain = TieredCache([memory, low])
    low.mset({"k": Entry(b"old")})
    low.stops = "mget"
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(outer.get, "k")
        assert low.reached.wait(LIMIT)
        low.stops = None
        plain.delete("k")
        low.open.set()
        assert reading.result(LIMIT) == b"old"
    assert plain.get("k") is None


def test_a_tier_that_holds_a_chain_in_secret_does_not_hang() -> None:
    class Wrapping:
        def __init__(self, tier: Any) -> None:
            self.mget, self.mset, self.mdelete, self.close = tier.mget, tier.mset, tier.mdelete, tier.close
            self.clear = tier.clear

    memory, low = MemoryTier(), DictTier()
    plain = TieredCache([memory, low])
    outer = TieredCache([memory, Wrapping(TieredCache([low]).as_tier())])

    def use() -> None:
        outer.set("k", b"v")
        assert plain.get("k") == b"v"
        assert outer.get_or_load("l", lambda _key: b"w") == b"w"
        outer.delete("k")
        outer.clear()
        assert plain.get("l") is None
        asyncio.run(ause())

    async def ause() -> None:
        await outer.aset("k", b"v")
        assert await plain.aget("k") == b"v"
        await outer.aclear()

    with ThreadPoolExecutor(1) as threads:
        threads.submit(use).result(LIMIT)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_chain_around_one_of_two_linked_chains_does_not_hang(reverse: bool) -> None:
    x, y, z = DictTier(), DictTier(), Gate()
    first, second = TieredCache([x]), TieredCache([y])
    linked = TieredCache([x, y])
    outer = TieredCache([y, first, z] if reverse else [x, second, z])
    z.stops = "mset"
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(outer.set, "k", b"1")
        assert z.reached.wait(LIMIT)
        other = threads.submit(linked.set, "k", b"2")
        z.open.set()
        one.result(LIMIT)
        other.result(LIMIT)
    assert first.get("k") == second.get("k")


def test_chains_that_are_forgotten_leave_nothing() -> None:
    memory = MemoryTier()
    keep = TieredCache([memory])
    gc.collect()
    before = len(_domains._registry.anchors)
    for _ in range(100):
        outer = TieredCache([memory, TieredCache([Bare()])])
        outer.set("k", b"v")
        outer.clear()
    del outer
    gc.collect()
    assert len(_domains._registry.anchors) == before
    assert keep.get("k") is None


def test_a_loader_that_deletes_its_key_and_asks_for_it_again_is_told() -> None:
    shared = DictTier()
    one, other = TieredCache([shared]), TieredCache([shared])

    def load(key: str) -> bytes:
        other.delete(key)
        return one.get_or_load(key, load) or b""

    with pytest.raises(LoadError, match="that it is loading"):
        one.get_or_load("k", load)


# -- what would wait for itself goes ahead ----------------------------------------------------------


def test_a_blocking_write_does_not_wait_for_a_clear_that_waits_for_its_loop() -> None:
    tier = Gate()
    cache = TieredCache([tier])

    async def use() -> None:
        tier.stops = "mset"
        first = asyncio.create_task(cache.aset("k", b"1"))
        await asyncio.to_thread(tier.reached.wait, LIMIT)
        tier.stops = None
        clearing = threads.submit(cache.clear)
        await asyncio.to_thread(until, lambda: cache._core.space.epochs._clearing is not None)
        tier.open.set()
        cache.set("other", b"2")  # the first write can only go on after this call
        await first
        await asyncio.to_thread(clearing.result, LIMIT)

    with ThreadPoolExecutor(2) as threads:
        threads.submit(asyncio.run, use()).result(LIMIT)


def test_two_loops_with_blocking_writes_do_not_wait_for_each_other() -> None:
    low = Gate()
    caches = [TieredCache([low]), TieredCache([low])]
    low.stops = "mset"
    meeting = threading.Barrier(2)

    async def use(cache: TieredCache[bytes], mine: str, theirs: str) -> None:
        going = asyncio.create_task(cache.aset(mine, b"1"))
        await asyncio.to_thread(low.reached.wait, LIMIT)
        await asyncio.to_thread(until, lambda: mine in cache._core.space.epochs._writing)
        await asyncio.to_thread(meeting.wait, LIMIT)
        low.stops = None
        low.open.set()
        cache.set(theirs, b"2")
        await going

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(asyncio.run, use(caches[0], "a", "b"))
        other = threads.submit(asyncio.run, use(caches[1], "b", "a"))
        one.result(LIMIT)
        other.result(LIMIT)
    assert not caches[0]._core.space.epochs._writing
    assert not caches[0]._core.space.epochs._uncertain


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


class Slotted:
    """A byte store that has no weak references."""

    __slots__ = ("held", "ill")

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.ill = False

    def mget(self, keys: Any) -> Any:
        return {key: self.held[key] for key in keys if key in self.held}

    def mset(self, blobs: Any) -> None:
        self.held.update((key, data) for key, (data, _) in blobs.items())

    def mdelete(self, keys: Any) -> None:
        if self.ill:
            raise TierUnavailable("away")
        for key in keys:
            self.held.pop(key, None)

    def close(self) -> None:
        """Nothing to close."""


class Unslotted(Slotted):
    """One that has."""


@pytest.mark.parametrize("kind", [Slotted, Unslotted])
def test_what_a_store_is_owed_is_never_taken_for_what_another_is_owed(kind: Any) -> None:
    """Another object may come to lie where it lay."""
    store = kind()
    cache = TieredCache([EncodedTier(store)])
    cache.set("k", b"v")
    store.ill = True
    assert cache.delete("k").failed
    store.ill = False
    del cache
    gc.collect()
    assert TieredCache([EncodedTier(store)]).get("k") is None  # remembered as long as there is the store
    place = id(store)
    del store
    gc.collect()
    others = []
    while len(others) < 100 and (not others or id(others[-1]) != place):
        others.append(kind())
    assert not TieredCache([EncodedTier(others[-1])])._core.stack._anchors[0].arrears.debts
