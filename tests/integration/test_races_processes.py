"""Two processes over one disk tier, in every order: what one writes is not undone by what the other read.

The scheduler of `interleavings` runs both, each a chain with epochs and a disk tier of its own, as two
processes have. What they share is one directory and one server below it. They change places before each
transaction, and each statement outside of one, of the real disk tier, and before each call of the server:
elsewhere it makes no difference to the other. Nothing else bounds how often they do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from contextvars import copy_context
from functools import partial
from math import inf
from pathlib import Path
from time import time
from typing import Any

import pytest
from greenlet import getcurrent, greenlet
from interleavings import AT_ONCE, STEPPING, Pause, PlainTier, Scenario, Task, explore_different

from tiercache import DiskTier, Entry, TieredCache, TierUnavailable
from tiercache._bridge import drive
from tiercache._load import Load, Loading
from tiercache._loaders import single
from tiercache._staleness import NEVER_STALE, Staleness
from tiercache.policies import Failure
from tiercache.tiers.disk._journal import Marker
from tiercache.tiers.disk._watchdog import Bounded

OLD, NEW = b"old", b"new"
WRITES = ["set", "delete", "clear"]
WORKS = ["get", "load", "refresh"]

pytestmark = pytest.mark.usefixtures("scheduled")


#: What a step has to do with, and whether it changes that: see `Pause`. The world is what is beyond the
#: cache, and which writes have returned; it is what tells whether an entry in the disk is a wrong one.
LOOK = {"disk": False}
CHANGE = {"disk": True, "world": False}
SEE, TURN = {"world": False}, {"world": True}


class _Call(greenlet):
    """A blocking call of a disk tier that stands still before each of its steps."""

    connection: sqlite3.Connection | None = None

    def stand_still(self, touches: Mapping[str, bool]) -> None:
        if self.connection is None or not self.connection.in_transaction:
            self.parent.switch(touches)


def _execute(self: Bounded, statement: str, *values: Any) -> sqlite3.Cursor:
    call = getcurrent()
    if isinstance(call, _Call) and not statement.startswith("PRAGMA"):
        call.connection = self
        call.stand_still(LOOK if statement.startswith("SELECT") else CHANGE)
    return sqlite3.Connection.execute(self, statement, *values)


@pytest.fixture(autouse=True)
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """To another process, a transaction is one step, as is a statement outside of one, and a look at the
    marker beside the database."""
    exists = Marker.exists

    def marker_exists(self: Marker) -> bool:
        call = getcurrent()
        if isinstance(call, _Call):
            call.stand_still(LOOK)
        return exists(self)

    monkeypatch.setattr(Bounded, "execute", _execute, raising=False)
    monkeypatch.setattr(Marker, "exists", marker_exists)


class DiskOfOneProcess:
    """``disk`` as one process has it, step by step. No location, so that nothing else is shared."""

    stores_bytes = True
    journals = True
    failure = Failure(breaker_failures=None)
    name = "disk"

    def __init__(self, disk: DiskTier) -> None:
        self.disk = disk
        self.mget, self.mset, self.mdelete, self.fill = disk.mget, disk.mset, disk.mdelete, disk.fill
        self.glance, self.record, self.settle = disk.glance, disk.record, disk.settle
        self.due, self.owed, self.owes_nothing = disk.due, disk.owed, disk.owes_nothing
        for verb in ("mget", "mset", "mdelete", "fill", "glance", "record", "settle", "due", "owed"):
            setattr(self, f"a{verb}", partial(self._stepwise, getattr(disk, verb)))

    def clear(self, prefix: str, *, skip: str = "", everywhere: bool = False) -> None:
        self.disk.clear(prefix, skip=skip, everywhere=everywhere)

    async def aclear(self, prefix: str, *, skip: str = "", everywhere: bool = False) -> None:
        await self._stepwise(self.disk.clear, prefix, skip=skip, everywhere=everywhere)

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    @staticmethod
    async def _stepwise(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        call = _Call(partial(function, *args, **options))
        call.gr_context = copy_context()
        result = call.switch()
        try:
            while not call.dead:
                await Pause(touches=result)
                result = call.switch()
            return result
        finally:
            call.throw()  # one that stands still gives back what it holds; others are over


class Server(PlainTier):
    """The tier below, as one process reaches it; it does not when it is ``away``."""

    failure = Failure(breaker_failures=None)

    def __init__(self, entries: dict[str, Entry[Any]], *, away: bool = False) -> None:
        super().__init__("server")
        self.entries = entries
        self.away = away

    async def _step(self, effect: Callable[..., Any], argument: Any, *, changes: bool = True) -> Any:
        await Pause(touches={"server": changes})
        if self.away:
            raise TierUnavailable("away")
        return effect(argument)

    async def amget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        return await self._step(self.mget, keys, changes=False)

    async def amset(self, entries: Mapping[str, Entry[Any]]) -> None:
        await self._step(self.mset, entries)

    async def amdelete(self, keys: Sequence[str]) -> None:
        await self._step(self.mdelete, keys)

    async def aclear(self, prefix: str, *, skip: str = "") -> None:
        await self._step(self.clear, prefix)

    async def aclose(self) -> None:
        pass


class NothingBehind:
    """Instead of the promoter: what would run behind the callers never comes to it."""

    def submit(self, *_args: Any, **_options: Any) -> bool:
        return False


class RefreshAsTask:
    """Stands for the refresher: a refresh becomes one more task of the scenario."""

    def __init__(self, scenario: TwoProcesses) -> None:
        self.scenario = scenario

    def start(self, runtime: Any, refresh: Any, run: Callable[[Any], Coroutine[Any, Any, None]]) -> bool:
        self.scenario.tasks.append(Task(run(runtime), process="reader"))
        return True

    def sweep(self) -> None:
        """Its loops never stand still."""

    def may_warn(self, now: float) -> bool:
        return False


class TwoProcesses(Scenario):
    """One process promotes, loads or refreshes, the other writes; which cannot reach the server if it is
    ``away``. The disks are the same one as they, and somebody who looks on, have it."""

    def __init__(self, disks: Sequence[DiskTier], work: str, *writes: str, away: bool = False) -> None:
        self.disk, reads, writing = disks
        self.disk.mdelete(["k"])
        self.disk.settle(self.disk.due("server", 100))
        self.entries: dict[str, Entry[Any]] = {}
        if work != "load":
            self.entries["k"] = Entry(OLD, created_at=time(), fresh_until=0.0 if work == "refresh" else None)
        for disk in disks:
            disk.glance(["k"])  # knows what the schedule before this one deleted
        self.reader = self.process(reads)
        self.reader._stack.refresher = RefreshAsTask(self)  # type: ignore[assignment]  # a stand-in
        if work == "refresh":  # as it is, past its time, in both tiers
            self.disk.mset(self.entries)
        self.writer = self.process(writing, away=away)
        self.source = OLD
        self.returned = False
        self.allowed: set[bytes | None] = set()
        self.tasks = [Task(getattr(self, work)(), process="reader", touches=SEE)]
        self.tasks += [
            Task(getattr(self, write)(), process=f"writer {write}", touches=TURN) for write in writes
        ]

    def process(self, disk: DiskTier, *, away: bool = False) -> TieredCache[Any]:
        cache: TieredCache[Any] = TieredCache(
            [DiskOfOneProcess(disk), Server(self.entries, away=away)], promote="inline"
        )
        cache._stack.promoter = cache._stack.journal._promoter = NothingBehind()  # type: ignore[assignment]  # a stand-in
        return cache

    async def get(self) -> None:
        after = self.returned
        found = (await self.reader._core.lookup(STEPPING, ["k"])).objects
        if after and "k" in found:
            assert found["k"].value in self.allowed, "an old value was served"

    async def load(self, staleness: Staleness = NEVER_STALE) -> None:
        async def loader(_key: str) -> bytes:
            await Pause(touches=SEE)
            return self.source

        after = self.returned
        values = await Loading(self.reader._core).load(STEPPING, ["k"], Load(single(loader), None, staleness))
        assert not after or values["k"] == NEW, "an old value was served"

    async def refresh(self) -> None:
        """A load that is given the old value, while a refresh is loading it anew."""
        await self.load(Staleness(stale_for=inf))

    async def set(self) -> None:
        self.source = NEW
        await self.writer._core.write(STEPPING, self.writer._core.batch({"k": NEW}, None))
        await self.over({NEW})

    async def delete(self) -> None:
        self.source = NEW
        await self.writer._core.delete(STEPPING, ["k"])
        await self.over({None, NEW})

    async def clear(self) -> None:
        self.source = NEW
        await self.writer._core.clear(STEPPING)
        await self.over({None, NEW})

    async def over(self, allowed: set[bytes | None]) -> None:
        await Pause(touches=TURN)
        self.allowed = self.allowed | allowed if self.returned else allowed
        self.returned = True

    def check(self) -> None:
        if self.returned:
            held = self.disk.mget(["k"]).get("k")
            value = None if held is None else held.value
            # A row that goes for want of room is none, and nothing else may come in its place.
            assert value in self.allowed | {None}, f"{value!r} came back"

    def finish(self) -> None:
        found = drive(self.process(self.disk)._core.lookup(AT_ONCE, ["k"])).objects
        assert "k" not in found or found["k"].value in self.allowed, "the next process serves an old value"


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[list[DiskTier]]:
    with ExitStack() as stack:
        tiers = [stack.enter_context(closing(DiskTier(tmp_path / "disk", deadline=30))) for _ in range(3)]
        for tier in tiers:
            tier.mset({"another": Entry(b"row")})
        yield tiers


#: A clear is several transactions, one for each range of a namespace, so that there are thousands of
#: schedules; `test_fences_races` has the shorter version.
WRITES_AS_LONG = ["set", "delete", pytest.param("clear", marks=pytest.mark.long)]
PAIRS = [(work, write) for work in WORKS for write in WRITES]
LONG_TO_FIND = ("refresh", "clear")


@pytest.mark.parametrize("write", WRITES_AS_LONG)
@pytest.mark.parametrize("work", WORKS)
def test_a_write_of_another_process(disks: list[DiskTier], work: str, write: str) -> None:
    """All orders of the steps of both, however often they interrupt each other."""
    assert explore_different(lambda: TwoProcesses(disks, work, write)) > 10


@pytest.mark.parametrize("work", ["get", "load"])
@pytest.mark.parametrize("write", ["set", "delete"])
def test_a_write_of_another_process_that_cannot_reach_the_server(
    disks: list[DiskTier], work: str, write: str
) -> None:
    assert explore_different(lambda: TwoProcesses(disks, work, write, away=True)) > 10


@pytest.mark.parametrize(
    ("work", "write"),
    [pytest.param(*pair, marks=pytest.mark.long if pair == LONG_TO_FIND else ()) for pair in PAIRS],
)
def test_without_the_fence_the_old_value_comes_back(
    disks: list[DiskTier], work: str, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache.tiers.disk._store.written_since", lambda *_: set())
    with pytest.raises(AssertionError, match="b'old' came back"):
        explore_different(lambda: TwoProcesses(disks, work, write))
