"""What tiers of an inner chain miss is noted where it outlives the process, if a chain around it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apis import both_apis
from missing import BareTier, LossyTier, restart_process

from tiercache import DiskTier, EntryRejected, MemoryTier, TieredCache, guarded
from tiercache.codecs import JSONCodec
from tiercache.testing import FakeClock

OLD, NEW = "old", "new"

#: What ends the life of the old value under "k".
ENDS: dict[str, tuple[Any, ...]] = {"delete": ("k",), "set": ("k", NEW), "clear": ()}


class Nest:
    """Two servers that an inner chain is over, and a directory; chains over them that come and go."""

    def __init__(self, folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.clock = FakeClock()
        self.held: dict[str, dict[str, Any]] = {"near": {}, "far": {}}
        self.made: list[TieredCache[Any]] = []
        monkeypatch.setattr("tiercache._chain.journal._PAUSE", 0.0)

    def process(
        self,
        *,
        outer: str = "disk",
        inner: str = "",
        depth: int = 1,
        wrap: Callable[[Any], Any] = lambda tier: tier,
        far: Callable[..., Any] = LossyTier,
        namespace: str = "inner",
    ) -> TieredCache[Any]:
        restart_process(self.monkeypatch)
        self.near, self.far = LossyTier(self.held["near"], "near"), far(self.held["far"], "far")
        tiers: list[Any] = [self.near, self.far]
        if inner:
            tiers.insert(0, self._disk(inner))
        for _ in range(depth):
            chain = TieredCache(tiers, clock=self.clock, promote="inline", namespace=namespace)
            self.made.append(chain)
            tiers = [chain.as_tier()]
        upper = [MemoryTier(clock=self.clock)]
        if outer:
            upper.append(self._disk(outer))
        cache = TieredCache(
            [*upper, wrap(tiers[0])], clock=self.clock, promote="inline", codec=JSONCodec(), namespace="outer"
        )
        self.inside = chain
        self.upper = len(upper)
        self.made.append(cache)
        return cache

    def _disk(self, name: str) -> DiskTier:
        return DiskTier(self.folder / name, clock=self.clock, breaker_failures=None, name=name)

    def forget(self, cache: TieredCache[Any]) -> None:
        """Let the tiers above the inner chain lose everything."""
        for tier in cache._stack.guards[1 : self.upper]:
            tier.tier.clear("")
        for member in cache._core.members[:1]:
            assert member.fast is not None
            member.fast.mdelete(["k", "l"])


@pytest.fixture
def nest(tmp_path, monkeypatch) -> Iterator[Nest]:
    made = Nest(tmp_path, monkeypatch)
    yield made
    for cache in reversed(made.made):
        cache.close()


@both_apis
@pytest.mark.parametrize("verb", ENDS)
@pytest.mark.parametrize(
    "options",
    [{}, {"depth": 2}, {"wrap": guarded}, {"inner": "inside"}, {"inner": "inside", "outer": ""}],
    ids=["one deep", "two deep", "guarded", "both", "inside alone"],
)
def test_the_next_process_does_not_serve_what_a_tier_of_the_inner_chain_missed(call, nest, verb, options):
    cache = nest.process(**options)
    cache.mset({"k": OLD, "l": OLD})
    nest.held["near"].clear()
    nest.clock.advance(100)
    nest.far.down = True
    call(cache, verb, *ENDS[verb])
    assert call(cache, "get", "k") == (NEW if verb == "set" else None)
    nest.forget(cache)
    cache = nest.process(**options)
    nest.far.down = False
    nest.held["near"].clear()
    nest.forget(cache)
    assert call(cache, "get", "k") in (None, NEW)
    if verb != "clear":
        assert call(cache, "get", "l") == OLD
    for _ in range(2):  # what began before the tier was back may fail
        cache.flush()
        cache.get("a key that nobody has")
    cache.flush()
    assert [tier.owed for tier in cache.stats().tiers] == [0] * len(cache.stats().tiers)
    nest.clock.advance(100)
    call(cache, "set", "k", NEW)
    nest.forget(cache)
    assert call(cache, "get", "k") == NEW


@both_apis
def test_the_write_says_that_the_chain_did_not_take_all_of_it(call, nest):
    cache = nest.process()
    nest.far.down = True
    assert call(cache, "set", "k", OLD).failed == ("chain",)
    assert call(cache, "delete", "k").failed == ("chain",)
    assert cache.stats().tiers[2].owed == 1
    nest.far.down = False
    assert call(cache, "set", "k", OLD).ok
    cache.flush()
    assert cache.stats().tiers[2].owed == 0


@both_apis
def test_whoever_uses_the_inner_chain_itself_sees_no_difference(call, nest):
    nest.process()
    nest.far.down = True
    assert call(nest.inside, "set", "k", b"v").failed == ("far",)
    assert call(nest.inside, "delete", "k").failed == ("far",)


@both_apis
def test_a_value_that_a_tier_inside_refuses_is_no_debt(call, nest):
    class Small(LossyTier):
        def mset(self, entries: Any) -> None:
            raise EntryRejected(list(entries), "too large", tier=self.name)

    cache = nest.process(far=Small)
    call(cache, "set", "k", OLD)
    assert cache.stats().tiers[2].owed == 0
    nest.forget(cache)
    assert call(cache, "get", "k") == OLD, "from the tier that took it"


@both_apis
@pytest.mark.parametrize("inner", ["", "inside"])
def test_a_chain_that_can_note_nothing_takes_it_on_itself(call, nest, inner):
    """Nobody outside could note it for longer: so one ill tier does not take what the others hold."""
    cache = nest.process(outer="", inner=inner)
    nest.far.down = True
    assert call(cache, "set", "k", NEW).ok
    nest.forget(cache)
    assert call(cache, "get", "k") == NEW


@both_apis
def test_inner_chains_of_two_namespaces_over_one_directory_are_two_tiers(call, nest):
    cache = nest.process(namespace="one")
    cache.set("k", OLD)
    nest.far.down = True
    cache.delete("k")
    other = nest.process(namespace="two")
    nest.far.down = True
    assert other.set("k", OLD).failed == ("chain",)
    names = nest.made[-1]._stack.guards[1].tier.owed()
    assert len(names) == 2


@both_apis
def test_a_clear_inside_that_can_only_leave_behind_holds_for_the_next_process(call, nest):
    cache = nest.process(far=BareTier)
    cache.set("k", OLD)
    nest.clock.advance(100)
    call(cache, "clear")
    cache = nest.process(far=BareTier)
    assert call(cache, "get", "k") is None
