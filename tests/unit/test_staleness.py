"""Values past their time: who gets them, for how long, and how they count. Each case on both APIs."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from apis import blocking
from selections import together

from tiercache import ConfigError, Entry, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec
from tiercache.testing import DictTier, FakeClock

LIMIT = 20.0
OLD, NEW = b"old", b"new"


@pytest.fixture(params=["blocking", "native"])
def call(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A call of a cache's method, or of its async twin; all of a test's on one loop, as tasks live there."""
    if request.param == "blocking":
        yield blocking
        return
    with asyncio.Runner() as runner:

        def native(cache: Any, verb: str, *args: Any, **options: Any) -> Any:
            async def twin() -> Any:
                return await getattr(cache, f"a{verb}")(*args, **options)

            return runner.run(twin())

        yield native


class World:
    """A chain of memory over a lower tier, on one clock, and a loader that counts."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.memory = MemoryTier(clock=self.clock)
        self.low = DictTier("low", clock=self.clock)
        self.cache = TieredCache([self.memory, self.low], clock=self.clock, **{"ttl": 10, **options})
        self.value: bytes | None = NEW
        self.error: Exception | None = None
        self.loads: list[list[str]] = []

    def load(self, key: str) -> bytes | None:
        self.loads.append([key])
        if self.error is not None:
            raise self.error
        return self.value

    def load_many(self, keys: list[str]) -> list[bytes | None]:
        self.loads.append(keys)
        if self.error is not None:
            raise self.error
        return [self.value] * len(keys)

    def check(self) -> None:
        """Nothing is left behind."""
        assert not self.cache._core.space.epochs._tickets
        assert len(self.cache._core.space.flights) == 0
        assert not self.cache._core.space.flights._refreshes


@pytest.fixture
def make(call: Any) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def world(**options: Any) -> World:
        made.append(World(**options))
        return made[-1]

    yield world
    for one in made:
        call(one.cache, "flush")
        one.check()
        one.cache.close()


# -- plain reads -----------------------------------------------------------------------------------


def test_a_plain_read_never_gives_a_stale_value(call: Any, make: Any) -> None:
    world = make(stale_for=100)
    cache = world.cache
    call(cache, "mset", {"a": OLD, "b": OLD})
    world.clock.advance(9.5)
    assert call(cache, "get", "a") == OLD
    assert call(cache, "mget", ["a", "b"]) == [OLD, OLD]
    world.clock.advance(0.5)
    before = cache.stats()
    assert call(cache, "get", "a") is None
    assert call(cache, "get", "a", b"default") == b"default"
    assert call(cache, "mget", ["a", "b", "a"]) == [None] * 3
    after = cache.stats()
    assert set(world.low.entries) == {"a", "b"}  # they are held all the same
    assert (after.hits, after.misses, after.stale_served) == (before.hits, before.misses + 5, 0)
    for tier, was in zip(after.tiers, before.tiers, strict=True):
        assert (tier.hits, tier.misses) == (was.hits, was.misses + 4)
    world.clock.advance(100)
    assert world.memory.size().entries == 0


def test_the_entry_says_how_long_it_is_fresh_and_how_long_it_is_held(call: Any, make: Any) -> None:
    world = make(stale_for=100, stale_if_error=50)
    now = world.clock.time()
    call(world.cache, "set", "a", OLD)
    call(world.cache, "set", "b", OLD, ttl=None)
    call(world.cache, "get_or_load", "c", world.load, stale_if_error="10m")
    call(world.cache, "get_or_load", "d", world.load, stale_for=0)
    times = {key: (entry.fresh_until, entry.expires_at) for key, entry in world.low.entries.items()}
    assert times == {
        "a": (now + 10, now + 110),
        "b": (None, None),
        "c": (now + 10, now + 610),
        "d": (now + 10, now + 110),  # what one call declines, others may want
    }


def test_without_options_nothing_is_held_longer(call: Any, make: Any) -> None:
    world = make()
    call(world.cache, "get_or_load", "a", world.load)
    assert world.low.entries["a"].fresh_until is None
    world.clock.advance(10)
    assert call(world.cache, "get", "a") is None
    with pytest.raises(ZeroDivisionError):
        call(world.cache, "get_or_load", "a", lambda _key: 1 // 0, stale_if_error=True)


def test_a_wall_clock_that_is_set_back_does_not_make_it_fresh_again(call: Any, make: Any) -> None:
    world = make(stale_for=100)
    call(world.cache, "set", "a", OLD)
    world.low.entries.clear()
    world.clock.advance(11)
    world.clock.step_wall(-7200)
    assert call(world.cache, "get", "a") is None
    assert call(world.cache, "mget", ["a", "b"]) == [None, None]


def test_a_wall_clock_that_is_set_back_does_not_make_it_less_stale(call: Any) -> None:
    clock = FakeClock()
    with TieredCache(
        [MemoryTier(clock=clock)], ttl=10, stale_for=60, stale_if_error=36_000, clock=clock
    ) as cache:
        call(cache, "set", "a", OLD)
        clock.advance(5010)
        clock.step_wall(-7200)
        assert call(cache, "get_or_load", "a", lambda _key: NEW) == NEW


# -- stale_for -------------------------------------------------------------------------------------


def test_the_old_value_comes_at_once_and_the_new_one_is_made_behind(call: Any, make: Any) -> None:
    world = make(stale_for=100)
    cache = world.cache
    call(cache, "set", "a", OLD)
    world.clock.advance(60)
    before = cache.stats()
    go = threading.Event()

    def slow(key: str) -> bytes | None:
        assert go.wait(LIMIT)
        return world.load(key)

    assert call(cache, "get_or_load", "a", slow) == OLD
    assert call(cache, "get_or_load", "a", slow) == OLD
    assert call(cache, "mget_or_load", ["a", "a"], slow) == [OLD, OLD]
    go.set()
    call(cache, "flush")
    after = cache.stats()
    assert call(cache, "get", "a") == NEW
    assert world.low.entries["a"].value == NEW
    assert world.loads == [["a"]]
    assert (after.hits, after.misses, after.stale_served) == (before.hits + 4, before.misses, 4)
    assert (after.loads, after.load_errors) == (1, 0)


def test_after_the_window_the_caller_waits_for_the_load(call: Any, make: Any) -> None:
    world = make(stale_for=100, stale_if_error=1000)
    call(world.cache, "set", "a", OLD)
    world.clock.advance(110)
    assert call(world.cache, "get_or_load", "a", world.load) == NEW
    assert world.cache.stats().stale_served == 0


def test_a_fresher_value_further_down_is_taken_instead(call: Any, make: Any) -> None:
    world = make(stale_for=100)
    call(world.cache, "set", "a", OLD)
    world.clock.advance(20)
    now = world.clock.time()
    world.low.mset({"a": Entry(NEW, now + 110, now, now + 10)})  # another process was quicker
    assert call(world.cache, "get_or_load", "a", world.load) == NEW
    assert not world.loads
    assert call(world.cache, "get", "a") == NEW
    assert world.memory.size().entries == 1
    stats = world.cache.stats()
    assert (stats.stale_served, stats.tiers[0].promotions) == (0, 1)


def test_the_freshest_of_two_stale_values_is_served(call: Any, make: Any) -> None:
    world = make(stale_for=1000)
    call(world.cache, "set", "a", OLD)
    world.clock.advance(50)
    now = world.clock.time()
    world.low.mset({"a": Entry(NEW, now + 100, now - 20, now - 10)})
    world.error = OSError()
    assert call(world.cache, "get_or_load", "a", world.load) == NEW


def test_many_keys_of_all_kinds(call: Any, make: Any) -> None:
    world = make(stale_for=100)
    call(world.cache, "mset", {"s1": OLD, "s2": OLD})
    world.clock.advance(20)
    call(world.cache, "set", "f", b"fresh")
    before = world.cache.stats()
    keys = ["s1", "f", "m", "s2", "s1"]
    assert call(world.cache, "mget_or_load", keys, world.load_many) == [OLD, b"fresh", NEW, OLD, OLD]
    call(world.cache, "flush")
    assert sorted(world.loads) == [["m"], ["s1", "s2"]]  # one batch behind
    after = world.cache.stats()
    assert (after.hits - before.hits, after.misses - before.misses) == (4, 1)
    assert after.stale_served == 3
    assert call(world.cache, "mget", keys) == [NEW, b"fresh", NEW, NEW, NEW]


def test_a_refresh_keeps_to_the_batch_size(call: Any, make: Any) -> None:
    world = make(stale_for=100)
    call(world.cache, "mset", dict.fromkeys("abcde", OLD))
    world.clock.advance(20)
    assert call(world.cache, "mget_or_load", list("abcde"), world.load_many, batch_size=2) == [OLD] * 5
    call(world.cache, "flush")
    assert world.loads == [["a", "b"], ["c", "d"], ["e"]]


def test_what_the_loader_says_there_is_no_more_is_served_no_more(call: Any, make: Any) -> None:
    world = make(stale_for=100)
    call(world.cache, "set", "a", OLD)
    world.clock.advance(20)
    world.value = None
    assert call(world.cache, "get_or_load", "a", world.load) == OLD
    call(world.cache, "flush")
    assert call(world.cache, "get_or_load", "a", world.load) is None
    assert len(world.loads) == 2
    assert not world.low.entries
    assert world.cache.stats().tiers[1].deletes == 0  # nobody deleted anything


# -- stale_if_error --------------------------------------------------------------------------------


@pytest.mark.parametrize(("how_long", "until"), [("1m", 60), (timedelta(minutes=1), 60), (True, 86_400)])
def test_the_old_value_stands_in_for_a_loader_that_fails(
    call: Any, make: Any, how_long: Any, until: float, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(stale_if_error=how_long)
    call(world.cache, "set", "a", OLD)
    world.error = OSError("secret a")
    world.clock.advance(10 + until - 0.5)
    before = world.cache.stats()
    assert call(world.cache, "get_or_load", "a", world.load) == OLD
    assert call(world.cache, "mget_or_load", ["a", "a"], world.load_many) == [OLD, OLD]
    after = world.cache.stats()
    assert (after.stale_served, after.load_errors, after.loads) == (3, 2, 2)
    # The first two were looked up, missed, and loaded in vain.
    assert (after.hits - before.hits, after.misses - before.misses) == (0, 3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "OSError" in caplog.text
    assert "secret" not in caplog.text
    world.clock.advance(0.5)
    with pytest.raises(OSError, match="secret") as raised:
        call(world.cache, "get_or_load", "a", world.load)
    assert raised.value is world.error


def test_without_an_old_value_the_error_reaches_the_caller(call: Any, make: Any) -> None:
    world = make(stale_if_error=True)
    call(world.cache, "set", "a", OLD)
    world.clock.advance(20)
    world.error = OSError("no")
    with pytest.raises(OSError, match="no"):
        call(world.cache, "get_or_load", "b", world.load)
    with pytest.raises(OSError, match="no"):
        call(world.cache, "mget_or_load", ["a", "b"], world.load_many)
    assert world.cache.stats().stale_served == 0


def test_a_loader_that_recovers_is_noticed_at_once_and_one_that_does_not_is_left_alone(
    call: Any, make: Any
) -> None:
    world = make(stale_if_error="1d")
    call(world.cache, "set", "a", OLD)
    world.clock.advance(20)
    world.error = OSError()
    assert call(world.cache, "get_or_load", "a", world.load) == OLD
    world.error = None
    assert call(world.cache, "get_or_load", "a", world.load) == NEW
    world.clock.advance(20)
    world.error = OSError()
    world.loads.clear()
    asked = []
    for _ in range(2000):  # 200 seconds
        before = len(world.loads)
        assert call(world.cache, "get_or_load", "a", world.load) == NEW
        if len(world.loads) > before:
            asked.append(round(world.clock.monotonic() - 5000 - 40, 1))
        world.clock.advance(0.1)
    pauses = [later - sooner for sooner, later in pairwise(asked)]
    assert pauses == pytest.approx([0.1, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30], abs=0.11)
    stats = world.cache.stats()
    assert stats.stale_served == 2001
    world.error = None
    world.clock.advance(30)
    assert call(world.cache, "get_or_load", "a", world.load) == NEW


def test_a_pause_ends_with_a_write(call: Any, make: Any) -> None:
    world = make(stale_if_error="1d")
    call(world.cache, "set", "a", OLD)
    world.clock.advance(20)
    world.error = OSError()
    for _ in range(5):
        call(world.cache, "get_or_load", "a", world.load)
    assert len(world.loads) == 2
    call(world.cache, "set", "a", b"newer")
    world.clock.advance(20)
    call(world.cache, "get_or_load", "a", world.load)
    assert len(world.loads) == 3


def test_a_refresh_that_fails_leaves_the_old_value(call: Any, make: Any) -> None:
    world = make(stale_for="1d")
    call(world.cache, "set", "a", OLD)
    world.clock.advance(20)
    world.error = OSError()
    for _ in range(20):
        assert call(world.cache, "get_or_load", "a", world.load) == OLD
        call(world.cache, "flush")
    assert len(world.loads) == 2
    assert world.cache.stats().load_errors == 2
    world.error = None
    world.clock.advance(1)
    assert call(world.cache, "get_or_load", "a", world.load) == OLD
    call(world.cache, "flush")
    assert call(world.cache, "get_or_load", "a", world.load) == NEW


@pytest.mark.parametrize("step", [0, -7200])
def test_an_old_value_is_not_served_after_its_end_when_the_loader_took_longer(
    call: Any, make: Any, step: float
) -> None:
    world = make(stale_if_error=100)
    call(world.cache, "set", "a", OLD)
    world.clock.advance(60)

    def slow(_key: str) -> bytes:
        world.clock.advance(50)
        world.clock.step_wall(step)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        call(world.cache, "get_or_load", "a", slow)


# -- load_deadline ---------------------------------------------------------------------------------


def test_after_the_deadline_the_old_value_comes_and_the_load_ends_behind(call: Any, make: Any) -> None:
    world = make(stale_if_error="1d", load_deadline="20ms")
    call(world.cache, "mset", {"a": OLD, "b": OLD})
    world.clock.advance(20)
    go = threading.Event()

    def slow(keys: list[str]) -> Any:
        assert go.wait(LIMIT)
        return world.load_many(keys)

    before = world.cache.stats()
    assert call(world.cache, "mget_or_load", ["a", "b", "a"], slow) == [OLD, OLD, OLD]
    assert call(world.cache, "mget_or_load", ["a"], slow) == [OLD]  # joins, and waits no longer either
    go.set()
    call(world.cache, "flush")
    after = world.cache.stats()
    assert world.loads == [["a", "b"]]
    assert (after.stale_served, after.loads) == (4, 2)
    assert (after.hits - before.hits, after.misses - before.misses) == (0, 4)
    assert call(world.cache, "mget", ["a", "b"]) == [NEW, NEW]


def test_a_load_in_time_is_waited_for(call: Any, make: Any) -> None:
    world = make(stale_if_error="1d", load_deadline=LIMIT)
    call(world.cache, "mset", {"a": OLD, "b": OLD})
    world.clock.advance(20)
    assert call(world.cache, "get_or_load", "a", world.load) == NEW
    assert call(world.cache, "mget_or_load", ["b", "c"], world.load_many) == [NEW, NEW]
    world.clock.advance(20)
    world.error = OSError()
    assert call(world.cache, "get_or_load", "a", world.load) == NEW
    assert world.cache.stats().stale_served == 1
    world.error, world.value = None, None
    world.clock.advance(20)
    assert call(world.cache, "get_or_load", "a", world.load) is None


def test_without_an_old_value_the_deadline_means_nothing(call: Any, make: Any) -> None:
    world = make(stale_if_error="1d", load_deadline=0.001)
    gate = threading.Event()

    def slow(key: str) -> bytes | None:
        gate.wait(0.05)
        return world.load(key)

    assert call(world.cache, "get_or_load", "a", slow) == NEW


# -- refresh_ahead ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["memory", "low"])
@pytest.mark.parametrize("verb", ["get_or_load", "mget_or_load"])
def test_a_fresh_value_is_made_anew_near_its_end(
    call: Any, make: Any, where: str, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tiercache._loading.staleness.chance", lambda: 1 - 1 / math.e
    )  # -log(1 - chance) is 1
    world = make(ttl=100, refresh_ahead=2)

    def five_seconds(keys: Any) -> Any:
        world.clock.advance(5)
        return world.load(keys) if isinstance(keys, str) else world.load_many(keys)

    key = "a" if verb == "get_or_load" else ["a"]
    first = call(world.cache, verb, key, five_seconds)
    for left, loads in [(50, 1), (10.5, 1), (9.5, 2)]:
        world.clock.advance(world.low.entries["a"].expires_at - left - world.clock.time())
        if where == "low":
            world.memory.clear()
            world.cache._core.members[0].fast.clear("")
        assert call(world.cache, verb, key, five_seconds) == first
        call(world.cache, "flush")
        assert len(world.loads) == loads, left
    assert world.low.entries["a"].expires_at - world.clock.time() == 100
    stats = world.cache.stats()
    assert (stats.loads, stats.stale_served) == (2, 0)
    # A plain read knows no loader, and off is off.
    world.clock.advance(99)
    assert call(world.cache, "get", "a") == NEW
    assert call(world.cache, verb, key, five_seconds, refresh_ahead=0) == first
    call(world.cache, "flush")
    assert len(world.loads) == 2


def test_nothing_is_refreshed_ahead_before_a_load_was_seen_or_where_nothing_ends(
    call: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache._loading.staleness.chance", lambda: 1 - 1e-15)
    world = make(refresh_ahead=1000)
    call(world.cache, "set", "a", OLD)
    assert call(world.cache, "get_or_load", "a", world.load) == OLD
    call(world.cache, "set", "b", OLD, ttl=None)
    world.cache._core.space.flights.load_time = 10.0
    assert call(world.cache, "get_or_load", "b", world.load) == OLD
    call(world.cache, "flush")
    assert not world.loads


def test_a_loader_that_fails_ahead_of_the_end_is_left_alone_too(
    call: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache._loading.staleness.chance", lambda: 1 - 1e-15)
    world = make(refresh_ahead=1000)
    call(world.cache, "set", "a", OLD)
    world.cache._core.space.flights.load_time = 10.0
    world.error = OSError()
    for _ in range(10):
        assert call(world.cache, "get_or_load", "a", world.load) == OLD
        call(world.cache, "flush")
    assert len(world.loads) == 2


# -- jitter ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jitter", "most"),
    [(4, 4), ("4s", 4), (timedelta(seconds=4), 4), ("25%", 2.5), ("2.5 %", 0.25), (60, 10)],
)
@pytest.mark.parametrize("by_chance", [0.0, 0.5, 0.999])
def test_a_life_is_shortened_by_at_most_the_jitter(
    call: Any, make: Any, jitter: Any, most: float, by_chance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache._loading.staleness.chance", lambda: by_chance)
    world = make(jitter=jitter, stale_for=100)
    now = world.clock.time()
    call(world.cache, "set", "a", OLD)
    call(world.cache, "get_or_load", "b", world.load)
    call(world.cache, "set", "c", OLD, ttl=None)
    for key in "ab":
        entry = world.low.entries[key]
        assert entry.fresh_until == pytest.approx(now + 10 - by_chance * most)
        assert entry.expires_at == pytest.approx(entry.fresh_until + 100)
    assert world.low.entries["c"].expires_at is None


@pytest.mark.parametrize("codec", [None, JSONCodec()])
def test_the_lives_of_one_batch_differ(call: Any, make: Any, codec: Any) -> None:
    world = make(jitter="50%", codec=codec)
    value: Any = b"v" if codec is None else ["v"]
    keys = [f"k{number}" for number in range(200)]
    now = world.clock.time()
    call(world.cache, "mset", dict.fromkeys(keys, value))
    lives = [entry.expires_at - now for entry in world.low.entries.values()]
    assert all(5 < life <= 10 for life in lives)
    assert len(set(lives)) > 150
    assert max(lives) - min(lives) > 2


# -- options ---------------------------------------------------------------------------------------

BAD: list[tuple[str, Any]] = [
    *[("stale_for", bad) for bad in (-1, math.nan, math.inf, "soon", None, True, b"1")],
    *[("stale_if_error", bad) for bad in (-1, 0, math.nan, "soon", None, [])],
    *[("refresh_ahead", bad) for bad in (-0.1, math.nan, math.inf, 10**400, "1", None, True)],
    *[("jitter", bad) for bad in (-1, math.nan, "-10%", "101%", "ten %", None, False)],
    *[("load_deadline", bad) for bad in (-1, 0, math.nan, "soon", True)],
]


@together(("name", "bad"), BAD)
def test_a_wrong_option_is_told_by_its_name(call: Any, name: str, bad: Any) -> None:
    options: Any = {name: bad}
    with pytest.raises(ConfigError, match=rf"^{name}: "):
        TieredCache([MemoryTier()], **options)
    with TieredCache([MemoryTier()]) as cache:
        cache.set("a", OLD)  # told on a hit as well
        with pytest.raises(ConfigError, match=rf"^{name}: "):
            call(cache, "get_or_load", "a", lambda _key: NEW, **options)
        with pytest.raises(ConfigError, match=rf"^{name}: "):
            call(cache, "mget_or_load", ["a"], lambda _keys: [NEW], **options)
        with pytest.raises(ConfigError, match=rf"^{name}: "):
            cache.cached(**options)


def test_zero_is_off_and_none_no_deadline(call: Any) -> None:
    clock = FakeClock()
    with TieredCache(
        [MemoryTier(clock=clock)],
        ttl=10,
        stale_for=0,
        stale_if_error=False,
        refresh_ahead=0,
        jitter=0,
        load_deadline=None,
        clock=clock,
    ) as cache:
        assert cache._staleness.times(0.0, 10.0) == (10.0, None, None)
        call(cache, "set", "a", OLD)
        clock.advance(10)
        assert call(cache, "get_or_load", "a", lambda _key: NEW, stale_for=0, jitter="0%") == NEW


def test_an_unknown_option_is_a_type_error(call: Any) -> None:
    with TieredCache([MemoryTier()]) as cache:
        wrong: Any = {"stale_fro": 5}
        with pytest.raises(TypeError, match="stale_fro"):
            call(cache, "get_or_load", "a", lambda _key: NEW, **wrong)
        with pytest.raises(TypeError, match="stale_fro"):
            cache.cached(**wrong)


def test_views_inherit_and_calls_override(call: Any, make: Any) -> None:
    world = make(stale_for=100)
    view = world.cache.view("inner").view("most", ttl=20)
    call(view, "set", "a", OLD)
    world.clock.advance(50)
    world.error = OSError("no")
    assert call(view, "get_or_load", "a", world.load) == OLD
    call(view, "flush")
    with pytest.raises(OSError, match="no"):
        call(view, "get_or_load", "a", world.load, stale_for=0)
    assert call(view, "get_or_load", "a", world.load, stale_for=0, stale_if_error="1m") == OLD
    with pytest.raises(OSError, match="no"):
        call(view, "get_or_load", "a", world.load, stale_for=29)  # 30 s past its time


def test_a_cached_function_takes_the_options() -> None:
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], codec=JSONCodec(), clock=clock) as cache:
        calls: list[int] = []

        @cache.cached(ttl=10, stale_if_error="1m")
        def square(number: int) -> int:
            calls.append(number)
            if len(calls) > 1:
                raise OSError
            return number**2

        @cache.cached(ttl=10, stale_for="1m", cache_none=True)
        async def cube(number: int) -> int:
            calls.append(number)
            return number**3 + len(calls)

        async def twice() -> list[int]:
            old = await cube(2)
            clock.advance(20)
            again = await cube(2)
            await cache.aflush()
            return [old, again, await cube(2)]

        assert square(3) == 9
        clock.advance(20)
        assert square(3) == 9
        assert calls == [3, 3]
        assert asyncio.run(twice()) == [11, 11, 12]


# -- other shapes of chains ------------------------------------------------------------------------


@pytest.mark.parametrize("tier", [MemoryTier, DictTier])
def test_a_chain_of_one_tier(call: Any, tier: Any) -> None:
    clock = FakeClock()
    with TieredCache([tier(clock=clock)], ttl=10, stale_for=100, clock=clock) as cache:
        call(cache, "set", "a", OLD)
        clock.advance(20)
        assert call(cache, "get", "a") is None
        assert call(cache, "get_or_load", "a", lambda _key: NEW) == OLD
        call(cache, "flush")
        assert call(cache, "get", "a") == NEW


def test_a_chain_inside_a_chain_gives_its_stale_values_to_who_loads(call: Any) -> None:
    clock = FakeClock()
    inner = TieredCache([DictTier("inner", clock=clock)], clock=clock)
    with TieredCache([MemoryTier(clock=clock), inner], ttl=10, stale_for=1000, clock=clock) as cache:
        call(cache, "set", "a", OLD)
        clock.advance(500)  # memory's own cap is 300
        assert call(cache, "get", "a") is None
        assert call(cache, "get_or_load", "a", lambda _key: NEW) == OLD
        call(cache, "flush")
        assert call(cache, "get", "a") == NEW
        assert inner.get("a") == NEW


def test_a_mutable_stale_value_is_each_callers_own(call: Any, make: Any) -> None:
    world = make(stale_for=100, codec=JSONCodec())
    call(world.cache, "set", "a", [1])
    world.clock.advance(20)
    world.error = OSError()
    first, second = call(world.cache, "mget_or_load", ["a", "a"], world.load_many)
    first.append(2)
    assert second == [1]
    assert call(world.cache, "get_or_load", "a", world.load) == [1]
