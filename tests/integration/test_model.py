"""A cache may forget; it must never lie.

Random programs run against a chain and against a dict with expiries. What the chain gives is the truth or
a miss, and exactly the truth where its lowest tier is unbounded and well. Sync and async calls are mixed;
upper tiers lose entries behind the chain's back; chains are closed and made anew over what persists.
"""

from __future__ import annotations

import asyncio
import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tiercache import UNSET, DiskTier, MemoryTier, SQLTier, TieredCache
from tiercache._running.bridge import BLOCKING, drive
from tiercache.codecs import JSONCodec
from tiercache.testing import AsyncDictTier, DictTier, FakeClock

NAMES = ["", "a", "b", "a/b", "\n", "é\ud800", "k" * 300]
POLICIES = ["lru", "lfu", "fifo", "random", "s3-fifo"]

name = st.sampled_from(NAMES)
names = st.lists(name, max_size=6)
number = st.integers(0, 2)  # of a view
ttl = st.sampled_from([UNSET, UNSET, None, 5, 400])
binary = st.binary(max_size=40)
tree = st.one_of(st.integers(-9, 9), st.text(max_size=3), st.lists(st.integers(0, 9), min_size=1, max_size=3))
value = st.tuples(binary, tree)  # one for each kind of view
either = st.booleans()

TIERS = ["tiny memory", "memory", "disk", "sqlite", "dict", "async dict", "chain"]


def changed(found: Any) -> None:
    """What a caller may do to a value that is his."""
    if isinstance(found, list):
        found.append("changed by a caller")


def parts_of(space: Any) -> list[Any]:
    """The epochs of each of its domains."""
    return list(getattr(space.epochs, "_parts", [space.epochs]))


class CacheModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tiercache-model-"))
        self.clock = FakeClock()
        self.loop = asyncio.new_event_loop()
        self.cache: TieredCache[Any] | None = None
        self.looked_up = self.unique = 0

    @initialize(
        kinds=st.lists(st.sampled_from(TIERS), min_size=1, max_size=3),
        policy=st.sampled_from(POLICIES),
        promote=st.sampled_from(["inline", "background"]),
        default=st.sampled_from([None, 50]),
        json=either,
    )
    def begin(self, kinds: list[str], policy: str, promote: Any, default: int | None, json: bool) -> None:
        self.kinds, self.policy, self.promote, self.default = kinds, policy, promote, default
        self.json = json
        self.truth: dict[tuple[int, str], tuple[Any, float | None]] = {}
        self.maybe: set[tuple[int, str]] = set()
        self.open()

    def open(self) -> None:
        self.memories: list[MemoryTier] = []
        tiers = [self.tier(kind, depth) for depth, kind in enumerate(self.kinds)]
        self.cache = TieredCache(
            tiers,
            namespace="app",
            ttl=self.default,
            codec=JSONCodec() if self.json else None,  # type: ignore[arg-type]  # either
            promote=self.promote,
            clock=self.clock,
        )
        # The same values, other values, and a view of a view; the default life is inherited.
        other = self.cache.view("ü", codec=None if self.json else JSONCodec())  # type: ignore[arg-type]  # either
        self.views = [self.cache, other, other.view("app")]
        self.is_json = [self.json, not self.json, False]
        self.looked_up = self.unique = 0

    def tier(self, kind: str, depth: int) -> Any:
        clock = self.clock
        if kind in {"tiny memory", "memory"}:
            bound = 3 if kind == "tiny memory" else None
            self.memories.append(MemoryTier(max_entries=bound, policy=self.policy, clock=clock))
            return self.memories[-1]
        if kind == "disk":
            return DiskTier(self.folder / f"disk {depth}", clock=clock)
        if kind == "sqlite":
            return SQLTier(f"sqlite:///{self.folder}/{depth}.sqlite", clock=clock)
        if kind == "dict":
            return DictTier(clock=clock)
        if kind == "async dict":
            return AsyncDictTier(clock=clock)
        memory = MemoryTier(max_entries=2, clock=clock)
        return TieredCache([memory, DictTier(clock=clock)], namespace="inner", clock=clock)

    @property
    def exact(self) -> bool:
        return self.kinds[-1] != "tiny memory"

    def run(self, asynchronous: bool, view: int, method: str, *args: Any, **options: Any) -> Any:
        target = self.views[view]
        if not asynchronous:
            return getattr(target, method)(*args, **options)

        async def call() -> Any:
            return await getattr(target, f"a{method}")(*args, **options)

        return self.loop.run_until_complete(call())

    # -- the oracle --------------------------------------------------------------------------------

    def live(self, view: int, key: str) -> Any:
        """The truth, or ``None``."""
        held, expires_at = self.truth.get((view, key), (None, None))
        return None if expires_at is not None and expires_at <= self.clock.time() else held

    def must(self, view: int, key: str) -> bool:
        """Whether the cache must know it."""
        return self.exact and (view, key) not in self.maybe and self.live(view, key) is not None

    def put(self, view: int, key: str, new: Any, life: Any) -> None:
        seconds = self.default if life is UNSET else life
        expires_at = None if seconds is None else self.clock.time() + seconds
        self.truth[view, key] = (copy.deepcopy(new), expires_at)
        self.maybe.discard((view, key))

    def agree(self, view: int, key: str, found: Any) -> None:
        truth = self.live(view, key)
        if found is None:
            assert not self.must(view, key), f"{key!r} was forgotten: it is {truth!r}"
        else:
            assert found == truth, f"{key!r} is {truth!r}, not {found!r}"

    def fit(self, view: int, pair: tuple[bytes, Any]) -> Any:
        return copy.deepcopy(pair[1] if self.is_json[view] else pair[0])

    def count(self, keys: list[str]) -> None:
        self.looked_up += len(keys)
        self.unique += len(set(keys))

    # -- what may be done --------------------------------------------------------------------------

    @rule(view=number, key=name, way=either)
    def get(self, view: int, key: str, way: bool) -> None:
        found = self.run(way, view, "get", key)
        self.count([key])
        self.agree(view, key, found)
        changed(found)

    @rule(view=number, keys=names, way=either)
    def mget(self, view: int, keys: list[str], way: bool) -> None:
        found = self.run(way, view, "mget", keys)
        self.count(keys)
        assert len(found) == len(keys)
        for key, each in zip(keys, found, strict=True):
            self.agree(view, key, each)
        for each in found:
            changed(each)

    @rule(view=number, key=name, new=value, life=ttl, way=either)
    def set(self, view: int, key: str, new: Any, life: Any, way: bool) -> None:
        new = self.fit(view, new)
        assert self.run(way, view, "set", key, new, ttl=life).ok
        self.put(view, key, new, life)
        changed(new)

    @rule(view=number, new=st.lists(st.tuples(name, value), max_size=6), life=ttl, way=either, pairs=either)
    def mset(self, view: int, new: list[Any], life: Any, way: bool, pairs: bool) -> None:
        items = [(key, self.fit(view, each)) for key, each in new]
        assert self.run(way, view, "mset", iter(items) if pairs else dict(items), ttl=life).ok
        for key, each in items:
            self.put(view, key, each, life)
        for _, each in items:
            changed(each)

    @rule(view=number, keys=names, way=either)
    def mdelete(self, view: int, keys: list[str], way: bool) -> None:
        assert self.run(way, view, "mdelete", keys).ok
        for key in keys:
            self.truth.pop((view, key), None)

    @rule(view=number, way=either)
    def clear(self, view: int, way: bool) -> None:
        self.run(way, view, "clear")
        self.truth = {each: held for each, held in self.truth.items() if each[0] != view}

    @rule(view=number, keys=names, new=value, life=ttl, way=either, mapping=either, some=either)
    def mget_or_load(
        self, view: int, keys: list[str], new: Any, life: Any, way: bool, mapping: bool, some: bool
    ) -> None:
        asked: list[str] = []
        new = self.fit(view, new)

        def load(wanted: list[str]) -> Any:
            asked.extend(wanted)
            have = {key: copy.deepcopy(new) for key in wanted if not (some and key in NAMES[:3])}
            return have if mapping else [have.get(key) for key in wanted]

        found = self.run(way, view, "mget_or_load", keys, load, ttl=life, batch_size=2 if some else None)
        self.count(keys)
        assert len(asked) == len(set(asked))
        assert set(asked) <= set(keys)
        assert asked == [key for key in dict.fromkeys(keys) if key in asked], "not in first-seen order"
        for key in asked:
            assert not self.must(view, key), f"{key!r} was loaded although the cache knew it"
            if not (some and key in NAMES[:3]):
                self.put(view, key, new, life)
        for key, each in zip(keys, found, strict=True):
            if each is None:
                assert key in asked
            self.agree(view, key, each)
        for each in found:
            changed(each)

    @rule(view=number, key=name, new=st.none() | value, life=ttl, way=either)
    def get_or_load(self, view: int, key: str, new: Any, life: Any, way: bool) -> None:
        asked = []
        new = None if new is None else self.fit(view, new)

        def load(wanted: str) -> Any:
            asked.append(wanted)
            return new

        found = self.run(way, view, "get_or_load", key, load, ttl=life)
        self.count([key])
        if asked:
            assert asked == [key]
            assert not self.must(view, key)
            assert found == new
            if new is not None:
                self.put(view, key, new, life)
        else:
            assert found is not None
            self.agree(view, key, found)
        changed(found)
        changed(new)

    @rule(view=number, prefix=st.sampled_from(["", "a", "a/", "k"]), way=either)
    def keys(self, view: int, prefix: str, way: bool) -> None:
        if way:

            async def listing() -> list[str]:
                return [key async for key in self.views[view].akeys(prefix)]

            listed = self.loop.run_until_complete(listing())
        else:
            listed = list(self.views[view].keys(prefix))
        expected = {key for key in NAMES if self.live(view, key) is not None and key.startswith(prefix)}
        assert len(listed) == len(set(listed))
        assert set(listed) <= expected
        assert {key for key in expected if self.must(view, key)} <= set(listed)

    @rule(view=number, age=st.sampled_from([None, None, 1, 60]), way=either)
    def purge(self, view: int, age: int | None, way: bool) -> None:
        assert self.run(way, view, "purge", older_than=age) >= 0
        if age is not None:
            self.maybe |= {each for each in self.truth if each[0] == view}

    @rule(seconds=st.sampled_from([0.5, 4.5, 60, 301]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(way=either)
    def flush(self, way: bool) -> None:
        self.run(way, 0, "flush")

    @precondition(lambda self: len(self.kinds) > 1)
    @rule(view=number, keys=names, depth=st.integers(0, 1), way=either)
    def an_upper_tier_forgets(self, view: int, keys: list[str], depth: int, way: bool) -> None:
        members = self.views[view]._core.members
        member = members[min(depth, len(members) - 2)]
        drive(member.delete(BLOCKING, keys, counted=False))

    @rule(way=either)
    def reopen(self, way: bool) -> None:
        self.run(way, 0, "close")
        if self.kinds[-1] not in ("disk", "sqlite"):
            self.maybe |= set(self.truth)
        self.open()

    # -- what must hold at every moment ------------------------------------------------------------

    @invariant()
    def figures_add_up(self) -> None:
        if self.cache is None:
            return
        stats = self.cache.stats()
        assert stats.hits + stats.misses == self.looked_up
        first, *rest = stats.tiers
        assert self.unique <= first.hits + first.misses <= self.looked_up
        above = first
        for tier in rest:
            assert tier.hits + tier.misses == above.misses
            above = tier
        for tier in stats.tiers:
            assert (tier.errors, tier.timeouts, tier.corrupt, tier.rejected) == (0, 0, 0, 0)
        assert stats.suppressed_writes == 0

    @invariant()
    def nothing_is_left_over(self) -> None:
        if self.cache is None:
            return
        for memory in self.memories:
            assert memory.max_entries is None or memory.size().entries <= memory.max_entries
        for view in self.views:
            space = view._core.space
            assert len(space.flights) == 0
            for epochs in parts_of(space):
                assert not epochs._writing
                assert not epochs._uncertain

    def teardown(self) -> None:
        if self.cache is not None:
            self.cache.flush()
            for view in self.views:
                for epochs in parts_of(view._core.space):
                    assert not epochs._tickets
                    assert not epochs._filling
            self.cache.close()
        self.loop.close()
        shutil.rmtree(self.folder)


TestModel = CacheModel.TestCase
TestModel.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
