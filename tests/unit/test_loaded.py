"""`Loaded`: a life that the loader chooses, and keys that are known to have no value."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from apis import both_apis

from tiercache import ConfigError, Loaded, MemoryTier, TieredCache
from tiercache._consistency.keytimes import KeyTimes
from tiercache.codecs import JSONCodec
from tiercache.testing import DictTier, FakeClock

LIMIT = 20.0


class Counting:
    """A loader of one key and of many, that gives what it is told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def __call__(self, key: str) -> Any:
        self.asked.append(key)
        return self.answer

    def many(self, keys: list[str]) -> Any:
        self.asked += keys
        return [self.answer] * len(keys)


def chain(**options: Any) -> tuple[TieredCache[Any], DictTier, FakeClock]:
    clock = FakeClock()
    low = DictTier("low", clock=clock)
    return TieredCache([MemoryTier(clock=clock), low], clock=clock, **options), low, clock


# -- a life of its own -----------------------------------------------------------------------------


@both_apis
def test_the_loader_chooses_the_life(call: Any) -> None:
    cache, low, clock = chain(ttl=100)
    now = clock.time()
    assert call(cache, "get_or_load", "own", lambda _key: Loaded(b"v", ttl="10s")) == b"v"
    assert call(cache, "get_or_load", "never", lambda _key: Loaded(b"v", ttl=None)) == b"v"
    assert call(cache, "get_or_load", "call", lambda _key: Loaded(b"v"), ttl=50) == b"v"
    assert call(cache, "get_or_load", "cache", lambda _key: Loaded(b"v")) == b"v"
    expiries = {key: entry.expires_at for key, entry in low.entries.items()}
    assert expiries == {"own": now + 10, "never": None, "call": now + 50, "cache": now + 100}
    clock.advance(10)
    assert call(cache, "mget", ["own", "call"]) == [None, b"v"]
    cache.close()


@both_apis
@pytest.mark.parametrize("codec", [None, JSONCodec()])
@pytest.mark.parametrize("mapping", [False, True])
def test_in_a_batch_each_value_has_its_own(call: Any, codec: Any, mapping: bool) -> None:
    cache, low, clock = chain(ttl=100, codec=codec, stale_for=7)
    value: Any = b"v" if codec is None else {"v": 1}
    now = clock.time()

    def load(keys: list[str]) -> Any:
        answers = [Loaded(value, ttl=1), value, Loaded(value, ttl=None), Loaded(value, ttl=1), None]
        answers.append(Loaded.absent(ttl=5))
        return dict(zip(keys, answers, strict=True)) if mapping else answers

    assert call(cache, "mget_or_load", list("abcdef"), load) == [value] * 4 + [None, None]
    times = {key: (entry.fresh_until, entry.expires_at) for key, entry in low.entries.items()}
    soon, late = (now + 1, now + 8), (now + 100, now + 107)
    assert times == {"a": soon, "b": late, "c": (None, None), "d": soon}
    assert call(cache, "mget", list("abcd")) == [value] * 4
    cache.close()


@both_apis
def test_those_who_wait_get_the_value_itself(call: Any) -> None:
    cache, _, _ = chain()
    begun, go = threading.Event(), threading.Event()

    def load(_key: str) -> Loaded[bytes]:
        begun.set()
        assert go.wait(LIMIT)
        return Loaded(b"v", ttl=5)

    given: list[Any] = []
    threads = [
        threading.Thread(target=lambda: given.append(call(cache, "get_or_load", "a", load))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(LIMIT)
    go.set()
    for thread in threads:
        thread.join(LIMIT)
    assert given == [b"v"] * 3
    assert cache.stats().loads == 1
    cache.close()


@both_apis
def test_a_value_that_the_cache_does_not_take_is_only_handed_out_from_inside_too(call: Any) -> None:
    cache, low, _ = chain()
    assert call(cache, "get_or_load", "a", lambda _key: Loaded(5)) == 5
    assert not low.entries
    cache.close()


def test_what_is_wrong_with_it_is_told_when_it_is_made() -> None:
    for bad in (0, -1, float("nan"), "soon", True):
        with pytest.raises(ConfigError, match=r"^ttl: "):
            Loaded(b"v", ttl=bad)
        with pytest.raises(ConfigError, match=r"^ttl: "):
            Loaded.absent(ttl=bad)
    with pytest.raises(TypeError, match="absent"):
        Loaded(None)
    assert Loaded(b"v", ttl="1m").ttl == 60
    assert Loaded(b"v") == Loaded(b"v")


def test_a_cached_function_may_return_it() -> None:
    cache, low, clock = chain(codec=JSONCodec())
    calls: list[int] = []

    @cache.cached(ttl=100)
    def half(number: int) -> Any:
        calls.append(number)
        return Loaded.absent(ttl=5) if number % 2 else Loaded(number // 2, ttl=10)

    assert [half(4), half(4), half(3), half(3)] == [2, 2, None, None]
    assert calls == [4, 3]
    assert [entry.expires_at - clock.time() for entry in low.entries.values()] == [10]
    cache.close()


# -- there is none ---------------------------------------------------------------------------------


@both_apis
def test_that_there_is_none_is_remembered_for_its_time(call: Any) -> None:
    cache, low, clock = chain(ttl=100)
    loader = Counting(Loaded.absent(ttl=30))
    assert call(cache, "get_or_load", "a", loader) is None
    clock.advance(29.9)
    assert call(cache, "get_or_load", "a", loader) is None
    assert call(cache, "mget_or_load", ["a", "b", "a"], loader.many) == [None] * 3
    assert call(cache, "get", "a") is None
    assert loader.asked == ["a", "b"]
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.loads) == (0, 6, 2)
    assert not low.entries
    clock.advance(0.1)
    loader.answer = b"v"
    assert call(cache, "mget_or_load", ["a", "b"], loader.many) == [b"v", None]
    cache.close()


@both_apis
@pytest.mark.parametrize(
    ("options", "seconds"), [({}, 100), ({"ttl": 50}, 50), ({"ttl": None}, 10**9)], ids=str
)
def test_without_a_time_it_is_that_of_a_value(call: Any, options: Any, seconds: float) -> None:
    cache, _, clock = chain(ttl=100)
    loader = Counting(Loaded.absent())
    call(cache, "get_or_load", "a", loader, **options)
    clock.advance(seconds - 0.1)
    call(cache, "get_or_load", "a", loader, **options)
    assert len(loader.asked) == 1
    clock.advance(0.1)
    call(cache, "get_or_load", "a", loader, **options)
    assert len(loader.asked) == (1 if seconds == 10**9 else 2)
    cache.close()


@both_apis
@pytest.mark.parametrize("other", ["itself", "view", "chain"])
@pytest.mark.parametrize("write", ["set", "mset", "delete", "clear"])
def test_a_write_ends_it_whoever_writes(call: Any, other: str, write: str) -> None:
    cache, low, clock = chain(ttl=100)
    here = cache.view("here")
    loader = Counting(Loaded.absent(ttl=30))
    call(here, "get_or_load", "a", loader)
    call(here, "get_or_load", "a", loader)
    assert loader.asked == ["a"]
    beside = TieredCache([MemoryTier(clock=clock), low], clock=clock)
    writer = {"itself": here, "view": cache.view("here"), "chain": beside.view("here")}[other]
    loader.answer = b"loaded"
    if write == "set":
        call(writer, "set", "a", b"set")
    elif write == "mset":
        call(writer, "mset", {"a": b"set"})
    elif write == "delete":
        call(writer, "delete", "a")
    else:
        call(writer, "clear")
    assert call(here, "get_or_load", "a", loader) == (b"set" if "set" in write else b"loaded")
    call(here, "delete", "a")
    assert call(here, "get_or_load", "a", loader) == b"loaded"  # nothing was left of it
    cache.close()


@both_apis
def test_other_namespaces_and_codecs_know_nothing_of_it(call: Any) -> None:
    cache, _, _ = chain()
    call(cache, "get_or_load", "a", Counting(Loaded.absent(ttl=30)))
    assert call(cache.view("other"), "get_or_load", "a", Counting(b"v")) == b"v"
    assert call(cache.with_codec(JSONCodec()), "get_or_load", "a", Counting([1])) == [1]
    cache.close()


@both_apis
def test_a_value_that_another_process_stored_is_found(call: Any) -> None:
    cache, low, _ = chain()
    call(cache, "get_or_load", "a", Counting(Loaded.absent(ttl=30)))
    elsewhere = TieredCache([DictTier()])
    elsewhere.set("a", b"v")
    low.mset(elsewhere._core.members[0].guard.tier.entries)
    assert call(cache, "get", "a") == b"v"
    assert call(cache, "get_or_load", "a", Counting(b"loaded")) == b"v"
    cache.close()
    elsewhere.close()


@both_apis
def test_a_load_that_began_before_a_set_does_not_note_it(call: Any) -> None:
    cache, _, clock = chain(ttl=10)
    begun, go = threading.Event(), threading.Event()

    def load(_key: str) -> Any:
        begun.set()
        assert go.wait(LIMIT)
        return Loaded.absent(ttl=1000)

    loading = threading.Thread(target=lambda: call(cache, "get_or_load", "a", load))
    loading.start()
    assert begun.wait(LIMIT)
    cache.set("a", b"v")
    go.set()
    loading.join(LIMIT)
    assert cache.get("a") == b"v"
    assert cache.stats().suppressed_writes == 1
    clock.advance(10)
    assert call(cache, "get_or_load", "a", Counting(b"new")) == b"new"
    cache.close()


@both_apis
def test_it_takes_the_place_of_a_stale_value(call: Any) -> None:
    cache, low, clock = chain(ttl=10, stale_for=1000)
    call(cache, "set", "a", b"old")
    clock.advance(20)
    loader = Counting(Loaded.absent(ttl=30))
    assert call(cache, "get_or_load", "a", loader, stale_for=0) is None
    assert not low.entries
    assert call(cache, "get_or_load", "a", loader) is None
    assert loader.asked == ["a"]
    cache.close()


@both_apis
def test_none_alone_is_not_remembered(call: Any) -> None:
    cache, _, _ = chain()
    loader = Counting(None)
    call(cache, "get_or_load", "a", loader)
    call(cache, "get_or_load", "a", loader)
    assert loader.asked == ["a", "a"]
    cache.close()


def test_no_more_keys_than_so_many_are_remembered() -> None:
    cache, _, _ = chain()
    keys = [f"k{number}" for number in range(10_050)]
    loader = Counting(Loaded.absent(ttl=30))
    cache.mget_or_load(keys, loader.many)
    assert len(cache._core.space.flights.absent) == 10_000
    loader.asked.clear()
    cache.mget_or_load(keys, loader.many)
    assert len(loader.asked) == 50
    cache.close()


def test_the_table_forgets_the_oldest_note_first() -> None:
    table = KeyTimes(most=3)
    for key in "abc":
        table.note(key, 1.0, key.upper())
    table.note("a", 2.0, "again")
    table.note("d", 1.0, "D")
    assert [table.find(key)[1] for key in "abcd"] == ["again", None, "C", "D"]
    table.drop(["a", "x"])
    assert len(table) == 2
    table.drop()
    assert len(table) == 0
