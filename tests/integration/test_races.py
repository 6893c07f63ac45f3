"""Writes against promotions and loads, in every order there is: the old value never comes back.

`interleavings` runs the core's own coroutines, with a pause before and after each effect of a tier or
loader. After every step the tiers are looked at as a new reader would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any

import pytest
from interleavings import AT_ONCE, LOOP, STEPPING, Pause, PlainTier, Scenario, SteppingTier, Task, explore
from interleavings import running_loop as scheduled_loop

from tiercache import Entry, MemoryTier, TieredCache
from tiercache._core import Core
from tiercache._epochs import Epochs, Operation
from tiercache._load import Load, Loading
from tiercache._loaders import single
from tiercache._refresh import Refresh
from tiercache._staleness import NEVER_STALE, Staleness
from tiercache.testing import ChaosTier, DictTier, Hang

LIMIT = 20.0  # seconds after which a test has failed
OLD, NEW, NEWER = b"old", b"new", b"newer"


@pytest.fixture(autouse=True)
def _loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiercache._epochs.running_loop", scheduled_loop)
    monkeypatch.setattr("tiercache._flights.running_loop", scheduled_loop)
    monkeypatch.setattr("tiercache._flights.is_over", lambda _loop: False)


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
    """No ticket, operation or flight is left."""
    for epochs in getattr(core.space.epochs, "_parts", [core.space.epochs]):
        assert not epochs._tickets
        assert not epochs._writing
        assert not epochs._filling
        assert not epochs._uncertain
        assert epochs._clearing is None
        assert not epochs._written
        assert not epochs._stored
    assert len(core.space.flights) == 0


def stale(*works: str, **options: Any) -> Race:
    """A race about a value that is past its time, and still held, everywhere."""
    race = Race(*works, everywhere=True, **options)
    for tier in race.tiers:
        tier.entries["k"] = Entry(OLD, fresh_until=0.0)
    return race


WRITES = ["set", "delete", "clear"]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("everywhere", [False, True], ids=["low", "everywhere"])
def test_a_promotion_against_a_write_in_every_order(write: str, everywhere: bool) -> None:
    assert explore(lambda: Race("get", write, everywhere=everywhere)) > (20 if everywhere else 200)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("promote", ["inline", "background"])
def test_promotion_through_three_tiers_against_a_write(write: str, promote: str) -> None:
    assert explore(lambda: Race("get", write, tiers=3, promote=promote), interruptions=3) > 200


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("held", [None, OLD], ids=["absent", "held"])
def test_a_load_against_a_write(write: str, held: bytes | None) -> None:
    assert explore(lambda: Race("load", write, held=held), interruptions=4) > 150


@pytest.mark.long
@pytest.mark.parametrize("write", WRITES)
def test_two_loads_and_a_write(write: str) -> None:
    assert explore(lambda: Race("load", write, "load", held=None), interruptions=2) > 300


@pytest.mark.long
@pytest.mark.parametrize("write", WRITES)
def test_a_load_a_promotion_and_a_write(write: str) -> None:
    assert explore(lambda: Race("load", "get", write), interruptions=2) > 300


@pytest.mark.parametrize(
    "writes", [("set", "set_newer"), ("set", "delete"), ("delete", "clear")], ids="-".join
)
def test_two_writes_and_a_promotion_leave_all_tiers_alike(writes: tuple[str, str]) -> None:
    def make() -> Race:
        race = Race("get", *writes)
        race.check = lambda: None  # type: ignore[method-assign]  # either write may have come last
        return race

    assert explore(make, interruptions=2) > 200


@pytest.mark.parametrize("write", WRITES)
def test_a_refresh_against_a_write(write: str) -> None:
    started: list[Race] = []

    def make() -> Race:
        started.append(stale("refresh", write))
        return started[-1]

    assert explore(make, interruptions=3) > 150
    assert sum(race.refreshes for race in started) > 100


@pytest.mark.long
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("other", ["refresh", "load", "get"])
def test_a_refresh_a_write_and_another_caller(write: str, other: str) -> None:
    assert explore(lambda: stale("refresh", write, other), interruptions=1) > 40


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("writer", ["tiers", "below", "linked"])
def test_a_refresh_against_a_write_of_another_chain(write: str, writer: str) -> None:
    assert explore(lambda: stale("refresh", write, writer=writer), interruptions=2) > 40


@pytest.mark.parametrize("write", WRITES)
def test_without_tickets_a_refresh_brings_the_old_value_back(
    write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Epochs, "begin_fill", _always_allowed)
    with pytest.raises(AssertionError, match=r"came back|do not agree"):
        explore(lambda: stale("refresh", write), interruptions=2)


# -- the write goes through another chain ----------------------------------------------------------

ON_LOOP = ["set_old@loop", "get@loop", "load@loop"]
ANOTHER = ["tiers", "below", "linked"]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("writer", ANOTHER)
@pytest.mark.parametrize("promote", ["inline", "background"])
def test_a_promotion_against_a_write_of_another_chain(write: str, writer: str, promote: str) -> None:
    def make() -> Race:
        return Race("get", write, tiers=3, writer=writer, promote=promote)

    assert explore(make, interruptions=2) > 50


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("writer", ANOTHER)
def test_a_load_against_a_write_of_another_chain(write: str, writer: str) -> None:
    def make() -> Race:
        return Race("load", write, tiers=3, held=None, writer=writer)

    assert explore(make, interruptions=2) > 40


@pytest.mark.parametrize("work", ON_LOOP)
@pytest.mark.parametrize("writer", ["tiers", "linked"])
def test_a_blocking_write_of_another_chain_overtakes_what_its_loop_is_doing(work: str, writer: str) -> None:
    def make() -> Race:
        return Race(work, "delete_blocking@thread", "probe", tiers=3, memory=True, writer=writer)

    assert explore(make, interruptions=2) > 40


def test_without_a_common_domain_the_old_value_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiercache._domains._location", lambda _tier: object())
    for work, held in [("get", OLD), ("load", None)]:
        with pytest.raises(AssertionError, match=r"came back|do not agree"):
            explore(lambda work=work, held=held: Race(work, "delete", writer="tiers", held=held))


# -- a blocking write on the thread of the event loop ----------------------------------------------

BLOCKING_WRITES = ["set_blocking@thread", "delete_blocking@thread", "clear_blocking@thread"]


@pytest.mark.parametrize("write", BLOCKING_WRITES)
@pytest.mark.parametrize("work", ON_LOOP)
@pytest.mark.parametrize("tiers", [2, pytest.param(3, marks=pytest.mark.long)])
def test_a_blocking_write_overtakes_what_its_loop_is_doing(work: str, write: str, tiers: int) -> None:
    def make() -> Race:
        return Race(work, write, "probe", "probe", tiers=tiers, memory=True)

    assert explore(make, interruptions=3) > 40


@pytest.mark.parametrize("write", BLOCKING_WRITES)
@pytest.mark.parametrize("work", ["set_old", "get", "load"])
def test_what_was_overtaken_cleans_up_even_when_cancelled(work: str, write: str) -> None:
    def make() -> Race:
        return Race(f"{work}@cancelled", write, "probe", tiers=3, memory=True)

    assert explore(make, interruptions=3) > 40


@pytest.mark.parametrize("write", BLOCKING_WRITES)
@pytest.mark.parametrize("work", ON_LOOP)
def test_a_third_writer_waits_for_what_was_overtaken(work: str, write: str) -> None:
    def make() -> Race:
        race = Race(work, write, "set_newer", memory=True)
        race.check = lambda: None  # type: ignore[method-assign]  # any of them may have come last
        race.always = {OLD}
        return race

    assert explore(make, interruptions=3) > 40


# -- the explorer finds the bugs that the guards prevent -------------------------------------------


def _always_allowed(self: Epochs, _ticket: int, keys: Any, runtime: Any) -> Operation:
    return Operation(list(keys), blocking=runtime.blocking)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("work", ["get", "load"])
def test_without_tickets_the_old_value_comes_back(
    work: str, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Epochs, "begin_fill", _always_allowed)
    with pytest.raises(AssertionError, match=r"came back|do not agree"):
        explore(lambda: Race(work, write, held=None if work == "load" else OLD), interruptions=2)


def test_without_waiting_for_fills_the_old_value_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Epochs, "_others", lambda _self, _keys: [])
    with pytest.raises(AssertionError, match=r"came back|do not agree"):
        explore(lambda: Race("get", "delete"), interruptions=2)


@pytest.mark.parametrize("work", ["set_old", "load"])
def test_without_cleaning_up_the_overtaken_value_comes_back(
    work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_args: Any) -> None:
        pass

    monkeypatch.setattr(Core, "undo_superseded", nothing)
    with pytest.raises(AssertionError, match=r"came back|do not agree"):
        explore(
            lambda: Race(f"{work}@loop", "delete_blocking@thread", memory=True, held=None), interruptions=2
        )


def test_the_explorer_counts_what_it_should() -> None:
    class TwoByTwo(Scenario):
        def __init__(self) -> None:
            self.tasks = [Task(self.pause()), Task(self.pause())]

        async def pause(self) -> None:
            await Pause()

    assert explore(TwoByTwo) == 6  # two segments each: 4! / (2! 2!)
    assert explore(TwoByTwo, interruptions=0) == 2


def test_a_cancelled_write_leaves_nothing_open() -> None:
    for work in ["set", "delete", "clear", "get", "load"]:

        class Cancelled(Race):
            def check(self) -> None:
                pass

            def finish(self) -> None:
                assert_at_rest(self.core)

        explore(lambda work=work: Cancelled(f"{work}@cancelled", "load", held=None), interruptions=2)


def test_clear_comes_to_its_turn_while_others_go_on_writing() -> None:
    """It announces itself first; waiting for a moment without a write might take for ever."""

    async def scenario() -> None:
        cache = TieredCache([SlowTier()])
        stop = asyncio.Event()

        async def write(number: int) -> None:
            while not stop.is_set():
                await cache.aset(f"k{number}", b"v")

        writers = [asyncio.create_task(write(number)) for number in range(4)]
        await asyncio.sleep(0)
        await asyncio.wait_for(cache.aclear(), 10)
        stop.set()
        await asyncio.gather(*writers)
        await cache.aclose()

    asyncio.run(scenario())


class SlowTier(PlainTier):
    """Native async calls that take a different number of turns of the loop each."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.calls = 0

    async def amget(self, keys: Any) -> Any:
        return self.mget(keys)

    async def amset(self, entries: Any) -> None:
        self.calls += 1
        for _ in range(3 + self.calls % 5):
            await asyncio.sleep(0)
        self.mset(entries)

    async def amdelete(self, keys: Any) -> None:
        self.mdelete(keys)

    async def aclear(self, prefix: str, *, skip: str = "") -> None:
        self.clear(prefix)

    async def aclose(self) -> None:
        pass


# -- the same with real threads: the promoter's, and the workers of async callers ------------------


@pytest.mark.parametrize("write", WRITES)
def test_a_write_waits_for_the_promoter(write: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes last in the tier that is being filled; without waiting the old value would."""
    monkeypatch.undo()
    middle, low = ChaosTier(DictTier("middle")), DictTier("low")
    low.mset({"k": Entry(OLD)})
    with TieredCache([MemoryTier(), middle, low]) as cache, ThreadPoolExecutor(1) as threads:
        middle.inject(Hang(LIMIT), on="mset", times=1)
        assert cache.get("k") == OLD
        middle.wait_for_hang()
        filling = cache._core.space.epochs._filling["k"][0]
        call = {"set": lambda: cache.set("k", NEW), "delete": lambda: cache.delete("k"), "clear": cache.clear}
        writing = threads.submit(call[write])
        until(lambda: filling.done is not None)
        assert not writing.done()
        middle.heal()
        writing.result(LIMIT)
        expected = NEW if write == "set" else None
        assert cache.get("k") == expected
        cache.flush()
        for tier in (middle.tier, low):
            assert [entry.value for entry in tier.mget(["k"]).values()] == ([NEW] if expected else [])


@pytest.mark.parametrize("write", ["set", "delete"])
def test_a_promotion_read_before_a_write_is_suppressed_after_it(
    write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value was read, the promoter is busy with another key, the write comes and goes."""
    monkeypatch.undo()
    middle, low = ChaosTier(DictTier("middle")), DictTier("low")
    low.mset({"k": Entry(OLD), "other": Entry(b"other")})
    with TieredCache([MemoryTier(), middle, low]) as cache:
        middle.inject(Hang(LIMIT), on="mset", times=1)
        assert cache.get("other") == b"other"
        middle.wait_for_hang()
        assert cache.get("k") == OLD  # queued
        cache.set("k", NEW) if write == "set" else cache.delete("k")
        middle.heal()
        cache.flush()
        assert cache.get("k") == (NEW if write == "set" else None)
        assert cache.stats().suppressed_writes == 1
        held = middle.tier.mget(["k", "other"])
        assert {key: entry.value for key, entry in held.items()} == (
            {"k": NEW, "other": b"other"} if write == "set" else {"other": b"other"}
        )


@pytest.mark.parametrize("tiers", [1, 2])
@pytest.mark.parametrize("write", ["set", "delete", "clear"])
def test_a_blocking_write_on_the_loop_during_an_async_one_in_a_worker_thread(
    write: str, tiers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    low = ChaosTier(DictTier("low"))
    expected = NEW if write == "set" else None

    async def scenario() -> None:
        cache = TieredCache([MemoryTier(), low][-tiers:])
        low.inject(Hang(LIMIT), on="mset", times=1)
        older = asyncio.create_task(cache.aset("k", OLD))
        await asyncio.to_thread(low.wait_for_hang)
        if write == "set":
            cache.set("k", NEW)
        else:
            cache.delete("k") if write == "delete" else cache.clear()
        assert cache.get("k") in (expected, None)
        newest = asyncio.create_task(asyncio.to_thread(cache.set, "k", NEWER))  # waits for both
        low.heal()
        await older
        await newest
        assert cache.get("k") == NEWER
        assert low.tier.entries["k"].value == NEWER
        assert_at_rest(cache._core)
        await cache.aclose()

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it never came to it"
        time.sleep(0.001)
