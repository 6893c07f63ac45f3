"""Scenarios for `interleavings`: the core's own coroutines, some of which write, and some of which copy or
store what they read before.

After every step the tiers are looked at as a new reader would: the old value never comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import product
from math import inf
from typing import Any

from interleavings import AT_ONCE, LOOP, STEPPING, Pause, PlainTier, Scenario, SteppingTier, Task
from selections import usually

from tiercache import Entry, TieredCache
from tiercache._chain.core import Core
from tiercache._consistency.epochs import Epochs
from tiercache._consistency.operations import Operation
from tiercache._loading.load import Load, Loading
from tiercache._loading.loaders import single
from tiercache._loading.refresh import Refresh
from tiercache._loading.staleness import NEVER_STALE, Staleness
from tiercache._running.owners import leavings

OLD, NEW, NEWER = b"old", b"new", b"newer"
WRITES = ["set", "delete", "clear"]
#: Which write, and through which other chain: each of both is tried in the usual run.
ELSEWHERE = usually(
    {("set", "below"), ("delete", "tiers"), ("clear", "linked")},
    product(WRITES, ["tiers", "below", "linked"]),
)
ON_LOOP = ["set_old@loop", "get@loop", "load@loop"]


class _PromoteAsTask:
    """Stands for the promoter: what it is given becomes one more task of the scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def submit(self, job: Callable[[], None], *, entries: int, size: int) -> bool:
        async def run() -> None:
            job()

        self.scenario.tasks.append(Task(run()))
        return True


class _RefreshAsTask:
    """The same for the refresher."""

    def __init__(self, scenario: Race) -> None:
        self.scenario = scenario

    def start(self, runtime: Any, refresh: Refresh, run: Callable[[Any], Coroutine[Any, Any, None]]) -> bool:
        assert refresh.keys
        self.scenario.refreshes += 1
        self.scenario.tasks.append(Task(run(runtime)))
        return True

    def sweep(self) -> None:
        """Its loops never stand still."""

    def may_warn(self, now: float) -> bool:
        return False  # an abandoned one ends in the middle, and nobody wants to know


class Race(Scenario):
    """A chain with `OLD` in its lowest tier (and in the others too, if ``everywhere``), some work that would
    copy it upward or store it anew, and writes. What the world holds beyond the cache is ``source``.

    ``writer``: ``"same"`` chain writes; or another one of the same ``"tiers"``; or of the same tiers
    ``"below"`` a memory of its own, so that the reader's own is not looked at; or ``"linked"``: both chains
    link tiers of two others that have nothing in common.
    """

    def __init__(
        self,
        *works: str,
        tiers: int = 2,
        promote: Any = "inline",
        everywhere: bool = False,
        held: bytes | None = OLD,
        memory: bool = False,
        writer: str = "same",
    ) -> None:
        top: PlainTier = PlainTier("top", nonblocking=True) if memory else SteppingTier("top")
        # Stepping, and yet filled before the look-up returns.
        top.nonblocking = True
        self.tiers = [top, *(SteppingTier(f"lower-{depth}") for depth in range(1, tiers))]
        if writer == "linked":
            self.others = [TieredCache([tier]) for tier in self.tiers[1:]]
        self.cache = TieredCache(self.tiers, promote=promote)
        self.core: Core = self.cache._core
        self.writing = self.core
        if writer in ("tiers", "linked"):
            self.writing = TieredCache(self.tiers)._core
        elif writer == "below":
            self.writing = TieredCache([PlainTier("own", nonblocking=True), *self.tiers[1:]])._core
            self.tiers = self.tiers[1:]
        if promote == "background":
            self.cache._stack.promoter = _PromoteAsTask(self)  # type: ignore[assignment]  # a stand-in
        if held is not None:
            for tier in self.tiers if everywhere else self.tiers[-1:]:
                tier.entries["k"] = Entry(held)
        self.refreshes = 0
        self.cache._stack.refresher = _RefreshAsTask(self)  # type: ignore[assignment]  # a stand-in
        self.source = OLD
        self.allowed: set[bytes | None] = {None, OLD}
        self.always: set[bytes | None] = set()
        self.returned: set[str] = set()
        self.tasks = []
        for work in works:
            self.add(work)

    def add(self, work: str) -> None:
        name, _, where = work.partition("@")
        task = Task(getattr(self, name)(), loop=LOOP if where else None, holds=where == "thread")
        if where == "cancelled":
            self.tasks.append(Task(self.cancel(task)))
        self.tasks.append(task)

    # -- what is run against each other ------------------------------------------------------------

    async def get(self) -> None:
        await self.core.lookup(STEPPING, ["k"])

    async def load(self, staleness: Staleness = NEVER_STALE) -> None:
        async def loader(_key: str) -> bytes:
            await Pause()
            value = self.source
            await Pause()
            return value

        before = set(self.returned)
        values = await Loading(self.core).load(STEPPING, ["k"], Load(single(loader), None, staleness))
        assert not (before and values["k"] == OLD), "a load after the write gave the old value"

    async def refresh(self) -> None:
        """A load that is given the old value, while a refresh is loading it anew; see `stale`."""
        await self.load(Staleness(stale_for=inf))

    async def set(self) -> None:
        self.source = NEW
        await self._write(self.writing.write(STEPPING, self.core.batch({"k": NEW}, None)), {NEW})

    async def set_newer(self) -> None:
        await self._write(self.writing.write(STEPPING, self.core.batch({"k": NEWER}, None)), {NEW, NEWER})

    async def set_old(self) -> None:
        if self.returned:
            self.allowed = self.allowed | {OLD}  # then it is the newer one
        await self.writing.write(STEPPING, self.core.batch({"k": OLD}, None))

    async def delete(self) -> None:
        self.source = NEW
        await self._write(self.writing.delete(STEPPING, ["k"]), {None, NEW})

    async def clear(self) -> None:
        self.source = NEW
        await self._write(self.writing.clear(STEPPING), {None, NEW})

    async def set_blocking(self) -> None:
        self.source = NEW
        await self._write(self.writing.write(AT_ONCE, self.core.batch({"k": NEW}, None)), {None, NEW})

    async def delete_blocking(self) -> None:
        self.source = NEW
        await self._write(self.writing.delete(AT_ONCE, ["k"]), {None, NEW})

    async def clear_blocking(self) -> None:
        self.source = NEW
        await self._write(self.writing.clear(AT_ONCE), {None, NEW})

    async def probe(self) -> None:
        """A read in one step, at any time; it may promote."""
        before = set(self.returned)
        found = (await self.core.lookup(AT_ONCE, ["k"])).objects
        if before:
            assert "k" not in found or found["k"].value in self.allowed, "a read gave the old value"

    async def cancel(self, task: Task) -> None:
        task.cancel = task.started and not task.done

    async def _write(self, write: Coroutine[Any, Any, Any], allowed: set[bytes | None]) -> None:
        await write
        self.allowed = self.allowed | allowed if self.returned else allowed
        self.returned.add(str(write))

    # -- what must hold ----------------------------------------------------------------------------

    def seen(self) -> bytes | None:
        """What a reader who comes now would get."""
        uncertain = self.core.space.epochs.certain(["k"]) == []
        for tier in self.tiers:
            if "k" in tier.entries and (tier.nonblocking or not uncertain):
                value: bytes = tier.entries["k"].value
                return value
        return None

    def check(self) -> None:
        if self.returned:
            assert self.seen() in self.allowed, f"{self.seen()!r} came back"

    def finish(self) -> None:
        held = {tier.entries["k"].value for tier in self.tiers if "k" in tier.entries}
        assert len(held) <= 1, f"the tiers do not agree: {held}"
        if self.returned:
            assert held <= self.allowed | self.always
        assert_at_rest(self.core)


def assert_at_rest(core: Core) -> None:
    """No ticket, operation or flight is left, once what was thrown away is cleaned up, as by any call."""
    leavings.settle()
    for epochs in getattr(core.space.epochs, "_parts", [core.space.epochs]):
        assert not epochs._tickets
        assert not epochs._writing
        assert not epochs._filling
        assert not epochs._uncertain
        assert epochs._clearing is None
        assert not epochs._purges.noted
        assert not epochs._written
        assert not epochs._stored
    assert len(core.space.flights) == 0


def stale(*works: str, **options: Any) -> Race:
    """A race about a value that is past its time, and still held, everywhere."""
    race = Race(*works, everywhere=True, **options)
    for tier in race.tiers:
        tier.entries["k"] = Entry(OLD, fresh_until=0.0)
    return race


def always_allowed(self: Epochs, _ticket: int, keys: Any, runtime: Any, _owner: Any = None) -> Operation:
    """Stands for `Epochs.begin_fill`, which then lets everything pass."""
    return Operation(list(keys), blocking=runtime.blocking)
