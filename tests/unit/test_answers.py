"""Who answered a look-up, for callers who ask."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from apis import both_apis

from tiercache import Entry, TieredCache
from tiercache._chain.answers import Answer, Source, collecting
from tiercache.testing import DictTier

LIMIT = 20.0


def chain() -> TieredCache[bytes]:
    upper, lower = DictTier(name="upper"), DictTier(name="lower")
    upper.mset({"a": Entry(b"1")})
    lower.mset({"b": Entry(b"2")})
    return TieredCache([upper, lower], promote="inline")


@both_apis
def test_each_key_has_the_tier_that_answered(call: Any) -> None:
    cache = chain()
    with collecting(cache._stack) as answers:
        call(cache, "mget", ["a", "b", "absent", "a"])
    assert answers == {"a": "upper", "b": "lower"}
    call(cache, "mget", ["b"])
    assert answers == {"a": "upper", "b": "lower"}  # it is over
    with collecting(cache._stack) as answers:
        call(cache, "mget", ["b"])
    assert answers == {"b": "upper"}  # promoted


@both_apis
def test_what_a_loader_made_is_told_from_what_it_looked_up(call: Any) -> None:
    cache = chain()
    other = cache.view("other")
    other.set("x", b"0")

    def load(keys: list[str]) -> dict[str, bytes]:
        assert other.get("x") == b"0"
        return dict.fromkeys(keys[:1], b"3")

    with collecting(cache._stack) as answers:
        call(cache, "mget_or_load", ["a", "c", "d"], load)
    assert answers == {"a": "upper", "c": Source.LOADER}


def test_a_flight_that_was_joined_answers_too() -> None:
    cache = chain()
    begun, go_on = threading.Event(), threading.Event()

    def load(_key: str) -> bytes:
        begun.set()
        assert go_on.wait(LIMIT)
        return b"3"

    def join() -> dict[str, Answer]:
        with collecting(cache._stack) as answers:
            assert cache.get_or_load("c", load) == b"3"
        return answers

    with ThreadPoolExecutor(2) as threads:
        leader = threads.submit(join)
        assert begun.wait(LIMIT)
        follower = threads.submit(join)
        while not cache.stats().coalesced:  # until it waits
            pass
        go_on.set()
        assert leader.result(LIMIT) == {"c": Source.LOADER}
        assert follower.result(LIMIT) == {"c": Source.FLIGHT}


def test_a_chain_inside_answers_as_one_tier() -> None:
    inner = chain()
    outer = TieredCache([DictTier(name="top"), inner], promote="inline")
    with collecting(outer._stack) as answers:
        outer.mget(["a", "b", "absent"])
    assert answers == {"a": "chain", "b": "chain"}
