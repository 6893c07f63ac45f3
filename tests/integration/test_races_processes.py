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
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest
from greenlet import getcurrent, greenlet
from interleavings import AT_ONCE, STEPPING, Pause, PlainTier, Scenario, Task, explore_different
from selections import usually

from tiercache import DiskTier, Entry, TieredCache, TierUnavailable
from tiercache._loading.load import Load, Loading
from tiercache._loading.loaders import single
from tiercache._loading.staleness import NEVER_STALE, Staleness
from tiercache._running.bridge import drive
from tiercache.keys import Namespace
from tiercache.policies import Failure
from tiercache.protocols import Glance, Purge
from tiercache.tiers.disk._database import Database
from tiercache.tiers.disk._deletes import Deletes
from tiercache.tiers.disk._journal import Marker
from tiercache.tiers.disk._uses import Uses
from tiercache.tiers.disk._watchdog import Bounded

OLD, NEW, NEWER = b"old", b"new", b"newer"
START = 1_000_000_000.0

pytestmark = pytest.mark.usefixtures("scheduled")


#: What a step has to do with, and whether it changes that: see `Pause`. The world is what is beyond the
#: cache, and which writes have returned; it is what tells whether an entry in the disk is a wrong one.
LOOK = {"disk": False}
CHANGE = {"disk": True, "world": False}
SEE, TURN = {"world": False}, {"world": True}


class _Call(greenlet):
    """A blocking call of a disk tier that stands still before each of its steps."""

    writing = False

    def stand_still(self, touches: Mapping[str, bool], step: str) -> None:
        if not self.writing:
            self.parent.switch({"touches": touches, "step": step})


def _execute(self: Bounded, statement: str, *values: Any) -> sqlite3.Cursor:
    call = getcurrent()
    if isinstance(call, _Call) and not statement.startswith("PRAGMA"):
        assert call.writing or statement.startswith("SELECT"), f"outside of a transaction: {statement}"
        call.stand_still(LOOK, statement)
    return sqlite3.Connection.execute(self, statement, *values)


@pytest.fixture(autouse=True)
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """To another process, a transaction is one step, as is a statement outside of one, and a look at the
    marker beside the database. No thread does anything behind them, at a time of its own; and nobody waits
    for what only a power cut would tell."""
    exists, write = Marker.exists, Database.write

    def marker_exists(self: Marker) -> bool:
        call = getcurrent()
        if isinstance(call, _Call):
            call.stand_still(LOOK, "looks at the marker")
        return exists(self)

    def write_at_once(self: Database, *args: Any, **options: Any) -> Any:
        call = getcurrent()
        if not isinstance(call, _Call):
            return write(self, *args, **options)
        call.stand_still(CHANGE, "writes")
        call.writing = True
        try:
            return write(self, *args, **options)
        finally:
            call.writing = False

    monkeypatch.setattr(Bounded, "execute", _execute, raising=False)
    monkeypatch.setattr(Marker, "exists", marker_exists)
    monkeypatch.setattr(Database, "write", write_at_once)
    monkeypatch.setattr("tiercache.tiers.disk._upkeep.Upkeep.within", lambda *_: None)
    monkeypatch.setattr("os.fsync", lambda _file: None)


class Moment:
    """A `Clock` that shows the moment of the step that is going on."""

    def __init__(self) -> None:
        self.number = 0

    def time(self) -> float:
        return START + self.number

    def monotonic(self) -> float:
        return 5_000.0 + self.number


class Directory:
    """One directory with a database, for the disk tiers of three processes; as it was, for each schedule."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.clock = Moment()
        self.marker = Marker(path)
        self.tiers = [
            stack.enter_context(closing(DiskTier(path, max_bytes="4MiB", deadline=30, clock=self.clock)))
            for _ in range(3)
        ]
        for tier in self.tiers:
            tier.mset({"another": Entry(b"row")})
        connection = sqlite3.connect(path / "cache.db", isolation_level=None)
        self.connection = stack.enter_context(closing(connection))
        connection.execute("PRAGMA synchronous = OFF").close()
        self.keep()

    def keep(self) -> None:
        """It is to be as it is now."""
        tables = self.connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            " ORDER BY name = 'Settings'"  # last: a trigger counts the rows there
        )
        self.rows = {
            table: self.connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - our own names
            for (table,) in tables.fetchall()
        }

    def restore(self) -> Sequence[DiskTier]:
        """The tiers, which know nothing but what was there when it was kept; their connections are open."""
        self.clock.number = 0
        self.marker.take_away()
        self.connection.execute("BEGIN IMMEDIATE").close()
        for table, rows in self.rows.items():
            self.connection.execute(f"DELETE FROM {table}").close()  # noqa: S608 - our own names
            if rows:
                places = ", ".join("?" * len(rows[0]))
                self.connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows).close()  # noqa: S608 - as above
        self.connection.execute("COMMIT").close()
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").close()
        for tier in self.tiers:
            tier.store._deletes = Deletes()
            tier.store._uses = Uses()
            tier.glance([])
        return self.tiers


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

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        return self.disk.purge(prefix, skip=skip, what=what)

    async def apurge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        count: int = await self._stepwise(self.disk.purge, prefix, skip=skip, what=what)
        return count

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
                await Pause(**result)
                result = call.switch()
            return result
        finally:
            call.throw()  # one that stands still gives back what it holds; others are over


class Server(PlainTier):
    """The tier below, as one process reaches it; it does not when it is ``away``."""

    failure = Failure(breaker_failures=None)

    def __init__(self, entries: dict[str, Entry[Any]], clock: Moment, *, away: bool = False) -> None:
        super().__init__("server", time=clock.time)
        self.entries = entries
        self.away = away

    async def _step(self, effect: Callable[..., Any], argument: Any, *, changes: bool = True) -> Any:
        await Pause(touches={"server": changes}, step=f"{effect.__name__} of the server")
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

    async def apurge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        def purge(prefix: str) -> int:
            return self.purge(prefix, what=what)

        count: int = await self._step(purge, prefix)
        return count

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
    ``away``. The disks are the same one as they, and somebody who looks on, have it. Without a namespace a
    clear is several transactions."""

    def __init__(
        self, directory: Directory, work: str, *writes: str, away: bool = False, namespace: str = "n"
    ) -> None:
        self.clock, self.namespace = directory.clock, namespace
        self.disk, reads, writing = directory.restore()
        self.entries: dict[str, Entry[Any]] = {}
        self.reader = self.process(reads)
        self.reader._stack.refresher = RefreshAsTask(self)  # type: ignore[assignment]  # a stand-in
        self.writer = self.process(writing, away=away)
        (self.name,) = self.reader._core.members[0].fold_all(["k"])
        if work != "load":
            self.entries[self.name] = old_entry(work)
        self.source = OLD
        #: What was there before a write that has returned.
        self.wrong: set[bytes | None] = set()
        self.tasks = [
            Task(getattr(self, work)(), process="reader", touches=SEE),
            Task(self.write(writes), process="writer", touches=TURN),
        ]

    def moment(self, number: int) -> None:
        self.clock.number = number

    def process(self, disk: DiskTier, *, away: bool = False) -> TieredCache[Any]:
        cache: TieredCache[Any] = TieredCache(
            [DiskOfOneProcess(disk), Server(self.entries, self.clock, away=away)],
            namespace=self.namespace,
            promote="inline",
            clock=self.clock,
            stats_file=None,  # a thread behind them would not be stepped through
        )
        cache._stack.promoter = cache._stack.journal._promoter = NothingBehind()  # type: ignore[assignment]  # a stand-in
        return cache

    async def get(self) -> None:
        wrong = set(self.wrong)
        found = (await self.reader._core.lookup(STEPPING, ["k"])).objects
        assert "k" not in found or found["k"].value not in wrong, "an old value was served"

    async def load(self, staleness: Staleness = NEVER_STALE) -> None:
        async def loader(_key: str) -> bytes:
            await Pause(touches=SEE, step="loads")
            return self.source

        wrong = set(self.wrong)
        values = await Loading(self.reader._core).load(STEPPING, ["k"], Load(single(loader), None, staleness))
        assert values["k"] not in wrong, "an old value was served"

    async def refresh(self) -> None:
        """A load that is given the old value, while a refresh is loading it anew."""
        await self.load(Staleness(stale_for=inf))

    async def write(self, writes: Sequence[str]) -> None:
        core = self.writer._core
        before: set[bytes | None] = set()
        now: bytes | None = OLD
        for write in writes:
            self.source = NEW
            before.add(now)
            now = {"set": NEW, "set_newer": NEWER}.get(write)
            if now is not None:
                await core.write(STEPPING, core.batch({"k": now}, None))
            elif write == "delete":
                await core.delete(STEPPING, ["k"])
            elif write == "purge":
                await core.purge(STEPPING, Purge(older_than=0.5))  # a moment is 1 s
            else:
                await core.clear(STEPPING)
            await Pause(touches=TURN, step=f"has done its {write}")
            self.wrong = before - {now, None}

    def check(self) -> None:
        if self.wrong:
            held = self.disk.mget([self.name]).get(self.name)
            # A row that goes for want of room is none, and nothing older may come in its place.
            assert held is None or held.value not in self.wrong, f"{held.value!r} came back"

    def finish(self) -> None:
        found = drive(self.process(self.disk)._core.lookup(AT_ONCE, ["k"])).objects
        assert "k" not in found or found["k"].value not in self.wrong, "the next process serves an old value"


def old_entry(work: str) -> Entry[bytes]:
    """What there is to promote, or past its time."""
    return Entry(OLD, created_at=START, fresh_until=START if work == "refresh" else None)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with ExitStack() as stack:
        yield Directory(tmp_path / "disk", stack)


def explored(directory: Directory, work: str, *writes: str, away: bool = False, namespace: str = "n") -> int:
    """How many schedules there are."""
    if work == "refresh":  # it is in both tiers
        directory.tiers[0].mset(dict.fromkeys(Namespace((namespace,)).fold_all(["k"]), old_entry(work)))
        directory.keep()
    return explore_different(lambda: TwoProcesses(directory, work, *writes, away=away, namespace=namespace))


#: How many schedules there are. Another number means that there are other steps, as when a look takes one
#: statement more: then it is to be put here. Without one, an old value is found too late, or too little run.
SCHEDULES = {
    ("get", "set"): 24,
    ("get", "delete"): 16,
    ("get", "clear"): 16,
    ("load", "set"): 45,
    ("load", "delete"): 67,
    ("load", "clear"): 67,
    ("refresh", "set"): 84,
    ("refresh", "delete"): 118,
    ("refresh", "clear"): 118,
}
SCHEDULES_AWAY = {
    ("get", "set"): 24,
    ("get", "delete"): 24,
    ("get", "clear"): 64,
    ("load", "set"): 69,
    ("load", "delete"): 73,
    ("load", "clear"): 294,
    ("refresh", "set"): 123,
    ("refresh", "delete"): 127,
    ("refresh", "clear"): 509,
}
#: Of a clear without a namespace, which is several transactions: whether the server is away, and what else
#: goes on. Not of a refresh while the server is away, which takes more than four minutes: its parts are what
#: a load does, and all of it is run against a clear of one transaction.
SCHEDULES_OF_SEVERAL = {
    (False, "get"): 94,
    (False, "load"): 1061,
    (False, "refresh"): 2208,
    (True, "get"): 378,
    (True, "load"): 3504,
}
#: Of a promotion, while another process writes twice.
SCHEDULES_OF_TWO = {("set", "set_newer"): 82, ("delete", "set"): 95, ("set", "clear"): 60}
#: A clear of a namespace is one transaction, as a delete is; and a refresh meets a set as a load does.
PAIRS = usually({("get", "clear"), ("load", "set"), ("refresh", "delete")}, SCHEDULES)
PAIRS_AWAY = usually({("get", "delete"), ("load", "set")}, SCHEDULES)


@pytest.mark.parametrize(("work", "write"), PAIRS)
def test_a_write_of_another_process(directory: Directory, work: str, write: str) -> None:
    """All orders of the steps of both, however often they interrupt each other."""
    assert explored(directory, work, write) == SCHEDULES[work, write]


@pytest.mark.parametrize(("work", "write"), PAIRS_AWAY)
def test_a_write_of_another_process_that_cannot_reach_the_server(
    directory: Directory, work: str, write: str
) -> None:
    assert explored(directory, work, write, away=True) == SCHEDULES_AWAY[work, write]


@pytest.mark.long
@pytest.mark.parametrize(("away", "work"), SCHEDULES_OF_SEVERAL)
def test_a_clear_of_everything_by_another_process(directory: Directory, away: bool, work: str) -> None:
    found = explored(directory, work, "clear", away=away, namespace="")
    assert found == SCHEDULES_OF_SEVERAL[away, work]


def test_a_purge_of_another_process(directory: Directory) -> None:
    assert explored(directory, "get", "purge") == 18


@pytest.mark.parametrize(("first", "second"), usually({("delete", "set")}, SCHEDULES_OF_TWO))
def test_a_promotion_against_two_writes(directory: Directory, first: str, second: str) -> None:
    assert explored(directory, "get", first, second) == SCHEDULES_OF_TWO[first, second]


# -- what the guards are good for ------------------------------------------------------------------


@pytest.mark.parametrize(("work", "write"), PAIRS)
def test_without_the_fence_the_old_value_comes_back(
    directory: Directory, work: str, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache.tiers.disk._store.written_since", lambda *_: set())
    with pytest.raises(AssertionError, match="b'old' came back"):
        explored(directory, work, write)


@pytest.mark.parametrize("write", ["set", "delete", "clear"])
def test_without_the_journal_the_old_value_is_served(directory: Directory, write: str) -> None:
    without(directory, debts=(), owing=False, deleted={})
    with pytest.raises(AssertionError, match=r"old value|b'old' came back"):
        explored(directory, "get", write, away=True)


@pytest.mark.parametrize("write", ["delete", "clear"])
def test_without_the_times_of_deletes_a_late_load_is_served(directory: Directory, write: str) -> None:
    without(directory, deleted={})
    with pytest.raises(AssertionError, match="the next process serves an old value"):
        explored(directory, "load", write)


def without(directory: Directory, **told: Any) -> None:
    """Instead of what it would say, each glance says what is ``told``."""

    def glance(keys: Sequence[str], really: Callable[[Sequence[str]], Glance]) -> Glance:
        return replace(really(keys), **told)

    for tier in directory.tiers:
        tier.glance = partial(glance, really=tier.glance)
