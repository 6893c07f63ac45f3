"""`LangGraphCache`: it does what LangGraph's own cache does, and keeps it where other processes find it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import pythons
from absent import said_without
from apis import both_apis
from cached_graph import arun, graph, run
from chains import KINDS, chain_of
from langgraph.cache.base import BaseCache
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from places import unwritable

from tiercache import (
    CacheClosed,
    ConfigError,
    DiskTier,
    EncodedTier,
    MemoryTier,
    TieredCache,
    WriteError,
)
from tiercache.integrations.langgraph import LangGraphCache, Losses
from tiercache.testing import ChaosTier, Corrupt, DictStore, FakeClock, Raise

NAMESPACES = [(), ("",), ("", ""), ("a",), ("a", "b"), ("a,b",), ("a", "b", "c"), ("a,b", "c"), ("a", "b,c")]
NAMESPACES += [("1:a",), ("ab",), ("a", ""), ("", "a"), ("a/b",), ("é\n\ud83d",)]
KEYS = ["", "k", "1:a", "b", "bk", "k\0k"]


@pytest.fixture(params=["LangGraph's own", *KINDS])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseCache[Any]]:
    """LangGraph's cache and ours, which stand the same tests."""
    if request.param == "LangGraph's own":
        yield InMemoryCache()
        return
    with chain_of(request.param, request, tmp_path) as chain:
        yield LangGraphCache(chain)


# -- the same scenarios on both --------------------------------------------------------------------


@both_apis
def test_nothing_is_there_at_first(cache, call):
    assert call(cache, "get", [(("a",), "k")]) == {}
    assert call(cache, "get", []) == {}
    call(cache, "set", {})
    call(cache, "clear")
    call(cache, "clear", [])
    call(cache, "clear", [("never", "seen")])


VALUES: list[Any] = [
    None,
    0,
    False,
    "",
    b"",
    b"\0bytes\0",
    bytearray(b"x"),
    {"a": [1, None, 2.5], 3: "int key"},
    deque([["channel", {"x": 1}], ["other", None]]),
    {1, 2},
    Path("/a"),
    "\U0001f600",
]


@both_apis
def test_values_come_back(cache, call):
    pairs = {(("a",), str(number)): (value, None) for number, value in enumerate(VALUES)}
    call(cache, "set", pairs)
    found = call(cache, "get", [*pairs, (("a",), "other")])
    assert list(found.values()) == VALUES
    assert list(found) == list(pairs)
    assert [type(value) for value in found.values()] == [type(value) for value in VALUES]


@both_apis
def test_no_two_keys_run_into_each_other(cache, call):
    pairs = {(ns, key): (f"{ns!r} {key!r}", None) for ns in NAMESPACES for key in KEYS}
    call(cache, "set", pairs)
    found = call(cache, "get", list(pairs))
    assert found == {full: value for full, (value, _) in pairs.items()}


@both_apis
def test_clear_takes_exact_namespaces(cache, call):
    pairs = {(ns, key): (1, None) for ns in NAMESPACES for key in KEYS}
    for cleared in [[("a",)], [()], [("",), ("a,b",)], [("a", "b")], [("not there",)]]:
        call(cache, "set", pairs)
        call(cache, "clear", cleared)
        found = call(cache, "get", list(pairs))
        assert set(found) == {full for full in pairs if full[0] not in cleared}
    call(cache, "clear")
    assert call(cache, "get", list(pairs)) == {}


@both_apis
def test_keys_as_lists_and_twice(cache, call):
    call(cache, "set", {(("a", "b"), "k"): ("v", None)})
    found = call(cache, "get", [(["a", "b"], "k"), (("a", "b"), "k")])
    assert found == {(("a", "b"), "k"): "v"}


@both_apis
def test_the_last_write_wins(cache, call):
    for value in ("old", "new"):
        call(cache, "set", {(("a",), "k"): (value, 60)})
    assert call(cache, "get", [(("a",), "k")]) == {(("a",), "k"): "new"}


@both_apis
@pytest.mark.parametrize("ttl", [0, -1])
def test_a_life_that_is_over_at_once(cache, call, ttl):
    call(cache, "set", {(("a",), "k"): ("old", None), (("a",), "l"): ("old", None)})
    call(cache, "set", {(("a",), "k"): ("new", ttl)})
    assert call(cache, "get", [(("a",), "k"), (("a",), "l")]) == {(("a",), "l"): "old"}


@both_apis
def test_each_reader_gets_a_value_of_its_own(cache, call):
    given = {"list": [1]}
    full = (("a",), "k")
    call(cache, "set", {full: (given, None)})
    given["list"].append("changed")
    call(cache, "get", [full])[full]["list"].append("changed")
    assert call(cache, "get", [full]) == {full: {"list": [1]}}


RUNS = pytest.mark.parametrize("run_", [run, arun])


@RUNS
def test_a_node_of_a_graph_runs_once(cache, run_):
    ran: list[int] = []
    compiled = graph(cache, ran)
    assert [run_(compiled, n) for n in (1, 1, 2, 1)] == [2, 2, 4, 2]
    assert ran == [1, 2]
    compiled.clear_cache()
    assert run_(compiled, 1) == 2
    assert ran == [1, 2, 1]


# -- what is ours ----------------------------------------------------------------------------------


def test_a_node_that_another_process_ran_does_not_run_again(tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from cached_graph import graph, run
from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.integrations.langgraph import LangGraphCache
with TieredCache([MemoryTier(), DiskTier({str(tmp_path)!r})]) as chain:
    ran = []
    print(run(graph(LangGraphCache(chain), ran), 21), len(ran))
"""
    done = pythons.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "42 1\n"
    with TieredCache([MemoryTier(), DiskTier(tmp_path)]) as chain:
        ran: list[int] = []
        assert run(graph(LangGraphCache(chain), ran), 21) == 42
        assert ran == []


@RUNS
def test_the_life_of_a_policy_and_of_the_cache(run_):
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], ttl=100, clock=clock) as chain:
        for ttl, life in ((30, 30), (None, 100), (1000, 1000)):
            ran: list[int] = []
            compiled = graph(LangGraphCache(chain, namespace=str(ttl)), ran, ttl)
            run_(compiled, 1)
            clock.advance(life - 1)
            run_(compiled, 1)
            assert len(ran) == 1
            clock.advance(1)
            run_(compiled, 1)
            assert len(ran) == 2


@RUNS
def test_an_ill_tier_never_fails_a_graph(run_):
    tier = ChaosTier(DictStore())
    with TieredCache([EncodedTier(tier, breaker_failures=None)]) as chain:
        cache = LangGraphCache(chain)
        ran: list[int] = []
        compiled = graph(cache, ran)
        tier.inject(Raise())
        assert [run_(compiled, 1), run_(compiled, 1)] == [2, 2]
        assert len(ran) == 2
        assert cache.losses() == Losses(unwritten=2)
        tier.heal()
        run_(compiled, 1)
        tier.inject(Corrupt(), times=1)
        assert run_(compiled, 1) == 2
        assert len(ran) == 4
        assert run_(compiled, 1) == 2
        assert len(ran) == 4


@both_apis
def test_what_has_no_form_as_bytes_is_not_kept_nor_what_it_replaced(call):
    with TieredCache([MemoryTier()]) as chain:
        cache = LangGraphCache(chain)
        full, other = (("a",), "k"), (("a",), "l")
        call(cache, "set", {full: ("old", None)})
        call(cache, "set", {full: (object(), None), other: ("fine", None)})
        assert call(cache, "get", [full, other]) == {other: "fine"}
        assert cache.losses() == Losses(unstorable=1)


@both_apis
def test_bytes_that_cannot_be_read_are_a_miss(call):
    with TieredCache([MemoryTier()]) as chain:
        cache = LangGraphCache(chain)
        full = (("a",), "k")
        call(cache, "set", {full: ("value", None)})
        (key,) = cache.cache.keys()
        for payload in (b"", b"msgpack", b"msgpack\0", b"pickle\0cos\nsystem\n.", b"\xff\0x", b"no such\0x"):
            cache.cache.set(key, payload)
            assert call(cache, "get", [full]) == {}
        assert cache.losses() == Losses(unreadable=6)


def test_no_pickle():
    with TieredCache([MemoryTier()]) as chain:
        with pytest.raises(ConfigError, match="pickle"):
            LangGraphCache(chain, serde=JsonPlusSerializer(pickle_fallback=True))
        assert LangGraphCache(chain).serde.pickle_fallback is False
        own = JsonPlusSerializer(allowed_msgpack_modules=None)
        assert LangGraphCache(chain, serde=own).serde is own


@both_apis
def test_a_clear_that_was_not_confirmed_is_told(call, tmp_path):
    with TieredCache([MemoryTier(), unwritable(tmp_path)]) as chain:
        cache = LangGraphCache(chain)
        call(cache, "set", {(("a",), "k"): (1, None)})
        for namespaces in (None, [("a",)]):
            with pytest.raises(WriteError):
                call(cache, "clear", namespaces)


class Unlisted:
    """A byte tier that can do the least."""

    def __init__(self) -> None:
        self._entries: dict[str, Any] = {}

    def mget(self, keys: Any) -> dict[str, Any]:
        return {key: self._entries[key] for key in keys if key in self._entries}

    def mset(self, entries: Any) -> None:
        self._entries.update(entries)

    def mdelete(self, keys: Any) -> None:
        for key in keys:
            self._entries.pop(key, None)

    def close(self) -> None: ...


@both_apis
def test_over_a_tier_that_can_neither_clear_nor_list_everything_goes(call):
    """Too much, for what must go could not be told from the rest."""
    with TieredCache([MemoryTier(), Unlisted()]) as chain:
        cache = LangGraphCache(chain)
        chain.set("mine", b"stays")
        one, other = (("a",), "k"), (("b",), "k")
        call(cache, "set", {one: (1, None), other: (1, None)})
        call(cache, "clear", [])
        assert call(cache, "get", [one, other]) == {one: 1, other: 1}
        call(cache, "clear", [("a",)])
        assert call(cache, "get", [one, other]) == {}
        assert chain.get("mine") == b"stays"


@both_apis
def test_it_shares_a_chain(call):
    with TieredCache([MemoryTier()]) as chain:
        chain.set("mine", b"stays")
        ours, theirs = LangGraphCache(chain), LangGraphCache(chain, namespace="theirs")
        full = (("a",), "k")
        for cache in (ours, theirs):
            call(cache, "set", {full: (1, None)})
        call(ours, "clear")
        assert call(ours, "get", [full]) == {}
        assert call(theirs, "get", [full]) == {full: 1}
        assert chain.get("mine") == b"stays"
        assert "langgraph" in repr(ours)


@both_apis
@pytest.mark.parametrize(
    ("verb", "args"), [("get", [[((), "k")]]), ("set", [{((), "k"): (1, None)}]), ("clear", [])]
)
def test_a_closed_cache_is_told(call, verb, args):
    chain = TieredCache([MemoryTier()])
    cache = LangGraphCache(chain)
    chain.close()
    with pytest.raises(CacheClosed):
        call(cache, verb, *args)


def test_wrong_arguments():
    with pytest.raises(ConfigError, match="no TieredCache"):
        LangGraphCache(InMemoryCache())
    with TieredCache([MemoryTier()]) as chain, pytest.raises(TypeError, match="tuple of str"):
        LangGraphCache(chain).get([((1,), "k")])


def test_folding_is_injective():
    from tiercache.integrations.langgraph import _key

    folded = {(ns, key): _key((ns, key)) for ns in NAMESPACES for key in KEYS}
    assert all(folded[one] != folded[other] for one, other in combinations(folded, 2))


def test_without_the_package_it_says_what_to_install():
    said = said_without("langgraph", code="import tiercache.integrations.langgraph")
    assert "'langgraph'" in said
    assert 'pip install "tiercache-framework[langgraph]"' in said
