"""Sliding expiry: a use renews the life of an entry in every tier that holds it, up to the end of its ttl."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from apis import both_apis
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercache import ConfigError, DiskTier, EncodedTier, MemoryTier, TieredCache
from tiercache._chain.renewals import Renewals, renewed
from tiercache.codecs import JSONCodec
from tiercache.entry import Entry, Sliding
from tiercache.testing import DictStore, DictTier, FakeClock

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def disk(clock: FakeClock, tmp_path: Path) -> Iterator[DiskTier]:
    with closing(DiskTier(tmp_path / "disk", clock=clock)) as tier:
        yield tier


def memory_alone(clock: FakeClock, **options: Any) -> TieredCache[Any]:
    return TieredCache([MemoryTier(clock=clock)], clock=clock, **options)


def left(tier: Any, clock: FakeClock, key: str = "key") -> float | None:
    """How many seconds ``tier`` will have ``key`` for, without using it."""
    entry = tier.peek([key]).get(key)
    return None if entry is None else entry.expires_at - clock.time()


@both_apis
@pytest.mark.parametrize("verb", ["get", "mget", "get_or_load"])
def test_an_entry_is_gone_an_hour_after_its_last_use_and_a_day_after_it_was_written(
    verb: str, call: Any, clock: FakeClock
) -> None:
    def is_there() -> bool:
        if verb == "get_or_load":
            value = call(cache, verb, "key", lambda _key: b"new")
            if value == b"new":
                cache.delete("key")
            return value == b"value"
        return call(cache, verb, "key" if verb == "get" else ["key"]) in (b"value", [b"value"])

    cache = memory_alone(clock, ttl="1d", sliding="1h")
    cache.set("key", b"value")
    for _ in range(10):
        clock.advance(0.7 * HOUR)
        assert is_there()
    clock.advance(HOUR)
    assert not is_there()
    cache.set("key", b"value")
    for _ in range(47):
        clock.advance(HOUR / 2)
        assert is_there()
    clock.advance(HOUR / 2)
    assert not is_there()


def test_a_sliding_that_is_longer_than_the_ttl_changes_nothing(clock: FakeClock) -> None:
    cache = memory_alone(clock, ttl=10, sliding=10)
    cache.set("key", b"value")
    assert cache._core.members[0].fast.mget(["key"])["key"].sliding is None  # type: ignore[union-attr]  # it is in memory, so there is a fast way
    clock.advance(9.9)
    assert cache.get("key") == b"value"
    clock.advance(0.1)
    assert cache.get("key") is None


def test_without_a_ttl_an_entry_lives_as_long_as_it_is_used(clock: FakeClock) -> None:
    cache = memory_alone(clock, sliding=10)
    cache.set("key", b"value")
    for _ in range(100):
        clock.advance(7)
        assert cache.get("key") == b"value"
    clock.advance(10)
    assert cache.get("key") is None


def test_looks_and_listings_are_no_uses(clock: FakeClock, disk: DiskTier) -> None:
    cache = TieredCache([MemoryTier(clock=clock), disk], clock=clock, sliding=10)
    cache.set("key", b"value")
    clock.advance(6)
    assert list(cache.keys()) == ["key"]
    handle: Any = cache._core.members[0].fast
    assert left(handle, clock) == pytest.approx(4)
    assert left(disk, clock) == pytest.approx(4)
    clock.advance(4)
    assert cache.get("key") is None


def test_a_use_in_memory_renews_the_tier_below_and_is_no_set_and_no_promotion(
    clock: FakeClock, disk: DiskTier
) -> None:
    cache = TieredCache([MemoryTier(clock=clock, ttl=None), disk], clock=clock, ttl=100, sliding=40)
    cache.set("key", b"value")
    clock.advance(9)
    assert cache.get("key") == b"value"  # within the first quarter: renews nothing
    cache.flush()
    assert left(disk, clock) == 31
    clock.advance(2)
    assert cache.get("key") == b"value"
    cache.flush()
    assert left(disk, clock) == 40
    for _ in range(4):
        clock.advance(20)
        assert cache.get("key") == b"value"
        cache.flush()
    assert left(disk, clock) == pytest.approx(9)  # of the 100 s
    tier = cache.stats().tiers[1]
    assert (tier.sets, tier.promotions, tier.hits, tier.misses) == (1, 0, 0, 0)


@pytest.mark.parametrize("codec", [None, JSONCodec()])
def test_a_use_in_a_lower_tier_renews_it_and_rises_with_the_new_end(
    codec: Any, clock: FakeClock, disk: DiskTier
) -> None:
    value = b"value" if codec is None else {"a": 1}
    cache = TieredCache([MemoryTier(clock=clock), disk], clock=clock, sliding=40, codec=codec)
    cache.set("key", value)
    for cached in (cache, TieredCache([disk], clock=clock, codec=codec)):
        clock.advance(20)
        handle: Any = cache._core.members[0].fast
        handle.mdelete(["key"])
        assert cached.get("key") == value
        cached.flush()
        assert (
            left(
                disk,
                clock,
            )
            == 40
        )
    assert cache.mget(["key"]) == [value]
    assert left(handle, clock) == pytest.approx(40)


def test_what_was_deleted_or_written_elsewhere_is_not_brought_back_by_a_use_in_memory(
    clock: FakeClock, disk: DiskTier, tmp_path: Path
) -> None:
    cache = TieredCache([MemoryTier(clock=clock), disk], clock=clock, sliding=40)
    with closing(DiskTier(tmp_path / "disk", clock=clock)) as same:  # as of another process
        cache.mset({"deleted": b"old", "written": b"old"})
        clock.advance(20)
        same.mdelete(["deleted"])
        end = clock.time() + 5
        same.mset({"written": Entry(b"new", end, clock.time(), end, sliding=Sliding(40, 100))})
        assert cache.mget(["deleted", "written"]) == [b"old", b"old"]
        cache.flush()
        assert disk.peek(["deleted"]) == {}
        assert disk.peek(["written"])["written"].value == b"new"
        assert left(disk, clock, "written") == 5


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_delete_between_the_use_and_its_renewal_wins(
    *, elsewhere: bool, clock: FakeClock, disk: DiskTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TieredCache([MemoryTier(clock=clock), disk], clock=clock, sliding=40)
    cache.set("key", b"value")
    clock.advance(20)
    read, deleted = Event(), Event()
    fill = cache._core.fill

    async def later(*args: Any, **options: Any) -> None:
        read.set()
        assert deleted.wait(20)
        await fill(*args, **options)

    monkeypatch.setattr(cache._core, "fill", later)
    assert cache.get("key") == b"value"
    assert read.wait(20)
    if elsewhere:
        disk.mdelete(["key"])
    else:
        cache.delete("key")
    deleted.set()
    cache.flush()
    assert disk.peek(["key"]) == {}


def test_a_value_that_is_loaded_while_an_older_one_is_renewed_is_not_lost_to_it(clock: FakeClock) -> None:
    written, go = Event(), Event()

    class Hanging(DictStore):
        """Keeps the second write from coming about until it may."""

        writes = 0

        def mset(self, blobs: Any) -> None:
            self.writes += 1
            if self.writes == 2:
                written.set()
                assert go.wait(20)
            super().mset(blobs)

    low = EncodedTier(Hanging(), clock=clock)
    with TieredCache([MemoryTier(clock=clock), low], clock=clock, ttl="1d", sliding=100) as cache:
        cache.set("key", b"old")
        clock.advance(50)
        assert cache.get("key") == b"old"  # which is to be renewed below
        assert written.wait(20)
        clock.advance(60)  # the renewal did not come in time for memory either
        cache._core.members[0].fast.clear()
        assert cache.get_or_load("key", lambda _: b"new") == b"new"
        go.set()
        cache.flush()
        assert cache.get("key") == b"new"
        cache._core.members[0].fast.clear()
        assert cache.get("key") in {None, b"new"}
        assert not cache._core.space.epochs._tickets


def test_renewals_are_batched_and_at_most_one_a_key_and_quarter(
    clock: FakeClock, disk: DiskTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    fills: list[list[str]] = []
    fill = disk.fill
    gate = Event()

    def counted(entries: Any, ticket: int) -> list[str]:
        fills.append(list(entries))
        return fill(entries, ticket)

    monkeypatch.setattr(disk, "fill", counted)
    cache = TieredCache([MemoryTier(clock=clock), disk], clock=clock, sliding=40)
    cache._stack.promoter.submit(lambda: gate.wait(20), entries=1)
    keys = [f"key {number}" for number in range(50)]
    cache.mset(dict.fromkeys(keys, b"value"))
    clock.advance(20)
    for _ in range(3):
        for key in keys:
            assert cache.get(key) == b"value"
    gate.set()
    cache.flush()
    assert sorted(key for keys in fills for key in keys) == sorted(keys)
    assert len(fills) <= 2  # what came before the worker stood at the gate, and the rest
    clock.advance(9)
    assert cache.mget(keys) == [b"value"] * 50
    cache.flush()
    assert sum(map(len, fills)) == 50


def test_what_could_not_be_queued_is_tried_at_the_next_use(
    clock: FakeClock, disk: DiskTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TieredCache([disk], clock=clock, sliding=40)
    cache.set("key", b"value")
    clock.advance(20)
    with monkeypatch.context() as patch:
        patch.setattr(cache._stack.promoter, "submit", lambda _job, **_sizes: False)
        assert cache.get("key") == b"value"
    cache.flush()
    assert left(disk, clock) == 20
    assert cache.get("key") == b"value"
    cache.flush()
    assert left(disk, clock) == 40


def test_a_tier_that_is_only_read_is_not_written(
    clock: FakeClock, disk: DiskTier, caplog: pytest.LogCaptureFixture
) -> None:
    TieredCache([disk], clock=clock, sliding=40).set("key", b"value")
    with closing(DiskTier(disk.directory, clock=clock, read_only=True)) as reader:
        cache = TieredCache([MemoryTier(clock=clock), reader], clock=clock)
        clock.advance(30)
        assert cache.get("key") == b"value"
        cache.flush()
        assert left(disk, clock) == 10
        assert cache.stats().tiers[1].rejected == 0
        clock.advance(30)
        assert cache.get("key") == b"value"  # what was used is in memory for a whole period
    assert not caplog.records


def test_memory_holds_it_for_its_own_ttl_and_goes_on_renewing_what_is_below(
    clock: FakeClock, disk: DiskTier
) -> None:
    cache = TieredCache([MemoryTier(clock=clock, ttl=100), disk], clock=clock, sliding=40)
    cache.set("key", b"value")
    for _ in range(9):
        clock.advance(11)
        assert cache.get("key") == b"value"
        cache.flush()
        assert left(disk, clock) == 40
    assert cache.stats().tiers[1].hits == 0
    handle: Any = cache._core.members[0].fast
    assert handle.peek(["key"])
    clock.advance(1)
    assert handle.peek(["key"]) == {}
    assert cache.get("key") == b"value"
    assert cache.stats().tiers[1].hits == 1


@pytest.mark.parametrize("upper", ["memory", "disk"])
def test_a_tier_that_cuts_lives_short_delays_no_renewal_below_it(
    upper: str, clock: FakeClock, disk: DiskTier, tmp_path: Path
) -> None:
    short: Any = (
        MemoryTier(ttl=2, clock=clock)
        if upper == "memory"
        else DiskTier(tmp_path / "short", ttl=16, clock=clock)
    )
    with closing(TieredCache([short, disk], clock=clock, sliding=100)) as cache:
        cache.set("key", b"value")
        for seconds in (23, 1.5, 2, 7):  # the second is a use at 24.5, when it is too early on disk
            clock.advance(seconds)
            assert cache.mget(["key", "absent"]) == [b"value", None]
            cache.flush()
        clock.advance(75)
        assert cache.get("key") == b"value"


@settings(max_examples=50, deadline=None)
@given(uses=st.lists(st.tuples(st.booleans(), st.floats(0.1, 40)), min_size=1, max_size=30))
def test_below_the_memories_of_two_processes_an_entry_lives_for_half_a_period_after_its_last_use(
    uses: list[tuple[bool, float]],
) -> None:
    clock, store = FakeClock(), DictStore()
    tiers = [EncodedTier(store, clock=clock) for _ in range(2)]
    caches = [
        TieredCache([MemoryTier(ttl=None, clock=clock), tier], clock=clock, sliding=100) for tier in tiers
    ]
    caches[0].set("key", b"value")
    for which, seconds in uses:
        clock.advance(seconds)
        assert caches[which].get("key") == b"value"
        caches[which].flush()
        (entry,) = tiers[0].mget(["key"]).values()
        assert entry.expires_at - clock.time() > 50 - 1e-3
    for cache in caches:
        cache.close()


def test_the_ttl_of_a_lower_tier_bounds_it_from_when_it_was_written(clock: FakeClock, tmp_path: Path) -> None:
    with closing(DiskTier(tmp_path / "capped", ttl=60, clock=clock)) as disk:
        cache = TieredCache([disk], clock=clock, sliding=40)
        cache.set("key", b"value")
        for _ in range(3):
            clock.advance(19)
            assert cache.get("key") == b"value"
            cache.flush()
        assert left(disk, clock) == pytest.approx(3)
        clock.advance(3)
        assert cache.get("key") is None


def test_the_soft_end_slides_and_what_is_stale_is_not_renewed_by_who_gets_it(
    clock: FakeClock, disk: DiskTier
) -> None:
    options: Any = {"clock": clock, "ttl": 100, "sliding": 40, "stale_if_error": 20}
    cache = TieredCache([MemoryTier(clock=clock, ttl=None), disk], **options)

    def down(_key: str) -> bytes:
        raise OSError

    cache.set("key", b"value")
    clock.advance(30)
    assert cache.get("key") == b"value"
    cache.flush()
    assert left(disk, clock) == 60
    clock.advance(41)
    assert cache.get("key") is None
    for _ in range(2):
        assert cache.get_or_load("key", down) == b"value"
        cache.flush()
        assert left(disk, clock) == 19
        assert cache.get("key") is None
    clock.advance(19)
    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        cache.get_or_load("key", down)


def test_no_use_keeps_it_fresh_for_longer_than_its_ttl(clock: FakeClock) -> None:
    cache = memory_alone(clock, ttl=100, sliding=40, stale_for=20)
    cache.set("key", b"value")
    for _ in range(9):
        clock.advance(11)
        assert cache.get("key") == b"value"
    clock.advance(1)
    assert cache.get("key") is None
    assert cache.get_or_load("key", lambda _key: b"new") == b"value"  # stale, while it is made anew


def test_jitter_shortens_the_whole_life_and_not_the_period(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache._loading.staleness.chance", lambda: 0.5)
    cache = memory_alone(clock, ttl=100, sliding=40, jitter=20)
    entry = cache._core.batch({"key": b"value"}, 100, cache._staleness).objects["key"]
    assert entry.sliding == Sliding(40, 90)
    assert entry.expires_at == clock.time() + 40


def test_a_clock_that_is_set_ends_no_life_in_memory_and_renews_none(clock: FakeClock) -> None:
    for step in (-7200, 7200):
        cache = memory_alone(clock, ttl=100, sliding=40)
        cache.set("key", b"value")
        clock.step_wall(step)
        for _ in range(4):
            clock.advance(22)
            assert cache.get("key") == b"value"
        clock.advance(12)
        assert cache.get("key") is None
        cache.set("key", b"value")
        clock.step_wall(step)
        clock.advance(40)
        assert cache.get("key") is None


def test_a_chain_inside_a_chain_is_renewed_by_uses_of_the_outer_one(clock: FakeClock, disk: DiskTier) -> None:
    inner = TieredCache([MemoryTier(clock=clock), disk], clock=clock)
    outer = TieredCache([MemoryTier(clock=clock), inner], clock=clock, sliding=40)
    outer.set("key", b"value")
    for _ in range(5):
        clock.advance(25)
        assert outer.get("key") == b"value"
        outer.flush()
        inner.flush()
        assert left(disk, clock) == 40


def test_views_and_calls_may_say_otherwise(clock: FakeClock) -> None:
    cache = memory_alone(clock, ttl=100, sliding=40)
    cache.get_or_load("key", lambda _key: b"value", sliding=None)
    clock.advance(99)
    assert cache.get("key") == b"value"
    cache.view("inside").set("key", b"value")
    clock.advance(40)
    assert cache.view("inside").get("key") is None
    with pytest.raises(ConfigError, match="sliding"):
        memory_alone(clock, sliding=0)


def test_an_entry_that_slides_is_worth_a_write_after_a_quarter(clock: FakeClock) -> None:
    now = clock.time()
    entry = Entry(b"value", now + 40, now, now + 40, sliding=Sliding(40, 100))
    assert renewed(entry, now + 9.9) is None
    later = renewed(entry, now + 10)
    assert later is not None
    assert (later.expires_at, later.fresh_until) == (now + 50, now + 50)
    assert renewed(Entry(b"value", now + 40, None, now + 40, sliding=Sliding(40, 100)), now + 10) is None
    assert renewed(Entry(b"value", now + 40, now, now + 40), now + 39) is None
    assert renewed(Entry(b"value", now + 100, now, now + 100, sliding=Sliding(40, 100)), now + 99) is None


def test_what_is_remembered_of_renewals_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiercache._chain.renewals._MOST_NOTED", 3)
    renewals = Renewals()
    entry = Entry(b"value", 40, 0, 40, sliding=Sliding(40, 100))
    for number in range(10):
        assert renewals.begin([(str(number), entry)], 10, 10)
        assert not renewals.begin([(str(number), entry)], 10, 10)
    assert len(renewals._noted) <= 3


@settings(max_examples=60, deadline=None)
@given(
    ttl=st.none() | st.integers(1, 60),
    keep=st.sampled_from([0, 5]),
    below=st.booleans(),
    steps=st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["get", "mget", "forget", "set"])), max_size=25
    ),
)
def test_an_entry_lives_from_three_quarters_of_a_period_to_one_after_its_last_use(
    ttl: int | None, keep: int, *, below: bool, steps: list[tuple[int, str]]
) -> None:
    """Against a reference: when it was last used, and when it was written. ``forget``: by memory alone."""
    clock, period = FakeClock(), 16
    tiers: list[Any] = [MemoryTier(clock=clock, ttl=20 if below else None)]
    if below:
        tiers.append(EncodedTier(DictStore(), clock=clock))
    cache = TieredCache(tiers, clock=clock, ttl=ttl, sliding=period, stale_for=keep)
    written = used = -1000.0
    for wait, what in steps:
        clock.advance(wait)
        now = clock.monotonic()
        if what == "set":
            cache.set("key", b"value")
            written = used = now
        elif what == "forget":
            handle: Any = cache._core.members[0].fast
            if below:
                handle.mdelete(["key"])
        else:
            found = cache.get("key") if what == "get" else cache.mget(["key"])[0]
            cache.flush()
            over = used + period if ttl is None else min(used + period, written + ttl)
            sure = used + 0.75 * period if ttl is None else min(used + 0.75 * period, written + ttl)
            if now < sure:
                assert found == b"value"
            if now >= over:
                assert found is None
            if found is None:
                written = used = -1000.0
                cache.delete("key")
            else:
                used = now
    cache.close()


def test_what_is_purged_while_it_is_renewed_stays_gone(
    clock: FakeClock, disk: DiskTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = DictTier("below", clock=clock)
    with TieredCache([MemoryTier(clock=clock), disk, below], clock=clock, ttl="1d", sliding=100) as cache:
        cache.set("old", b"1")
        clock.advance(30)
        cache.set("young", b"2")
        clock.advance(40)
        read, purged = Event(), Event()
        fill = cache._core.fill

        async def later(*args: Any, **options: Any) -> None:
            read.set()
            assert purged.wait(20)
            await fill(*args, **options)

        monkeypatch.setattr(cache._core, "fill", later)
        assert cache.mget(["old", "young"]) == [b"1", b"2"]
        assert read.wait(20)
        assert cache.purge(older_than=60) == 1
        purged.set()
        cache.flush()
        assert cache.mget(["old", "young"]) == [None, b"2"]
        for tier in disk, below:
            assert set(tier.mget(["old", "young"])) == {"young"}
        # It is over: what is renewed later is kept, as old as it may be.
        for _ in range(4):
            clock.advance(40)
            assert cache.get("young") == b"2"
            cache.flush()
        assert set(below.mget(["young"])) == {"young"}
