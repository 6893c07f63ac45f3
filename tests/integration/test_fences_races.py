"""Two processes over one disk tier, in every order: what one writes is not undone by what the other read.

The scheduler of `interleavings` runs both, each a chain with epochs of its own, as two processes have. What
they share is one directory, with the real disk tier, and one server below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import pytest
from interleavings import AT_ONCE, STEPPING, Pause, PlainTier, Scenario, Task, explore

from tiercache import DiskTier, Entry, TieredCache, TierUnavailable
from tiercache._bridge import drive
from tiercache._load import Load, Loading
from tiercache._loaders import single
from tiercache.policies import Failure
from tiercache.protocols import Debt, Glance

OLD, NEW, NEWER = b"old", b"new", b"newer"
WRITES = ["set", "delete", "clear"]

pytestmark = pytest.mark.usefixtures("scheduled")


class DiskOfOneProcess:
    """``disk`` as one process has it: each call is a step. No location, so that nothing else is shared."""

    stores_bytes = True
    journals = True
    failure = Failure(breaker_failures=None)
    name = "disk"

    def __init__(self, disk: DiskTier) -> None:
        self.disk = disk
        self.mget, self.mset, self.mdelete, self.fill = disk.mget, disk.mset, disk.mdelete, disk.fill
        self.glance, self.record, self.settle = disk.glance, disk.record, disk.settle
        self.due, self.owed, self.owes_nothing = disk.due, disk.owed, disk.owes_nothing

    def clear(self, prefix: str, *, skip: str = "", everywhere: bool = False) -> None:
        self.disk.clear(prefix, skip=skip, everywhere=everywhere)

    def close(self) -> None:
        pass

    async def amget(self, keys: Sequence[str]) -> dict[str, Entry[bytes]]:
        await Pause()
        return self.disk.mget(keys)

    async def amset(self, entries: Mapping[str, Entry[bytes]], *, debts: Sequence[Debt] = ()) -> None:
        await Pause()
        self.disk.mset(entries, debts=debts)

    async def amdelete(self, keys: Sequence[str], **options: Any) -> None:
        await Pause()
        self.disk.mdelete(keys, **options)

    async def aclear(self, prefix: str, **options: Any) -> None:
        await Pause()
        self.disk.clear(prefix, **options)

    async def afill(self, entries: Mapping[str, Entry[bytes]], ticket: int) -> list[str]:
        await Pause()
        return self.disk.fill(entries, ticket)

    async def aglance(self, keys: Sequence[str]) -> Glance:
        await Pause()
        return self.disk.glance(keys)

    async def arecord(self, debts: Sequence[Debt]) -> None:
        await Pause()
        self.disk.record(debts)

    async def aclose(self) -> None:
        pass


class Server(PlainTier):
    """The tier below, as one process reaches it; it does not when it is ``away``."""

    failure = Failure(breaker_failures=None)

    def __init__(self, entries: dict[str, Entry[Any]], *, away: bool = False) -> None:
        super().__init__("server")
        self.entries = entries
        self.away = away

    async def _step(self, effect: Callable[..., Any], argument: Any) -> Any:
        await Pause()
        if self.away:
            raise TierUnavailable("away")
        return effect(argument)

    async def amget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        return await self._step(self.mget, keys)

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


class TwoProcesses(Scenario):
    """One process promotes or loads, the other writes; which cannot reach the server if it is ``away``."""

    def __init__(self, disk: DiskTier, *works: str, away: bool = False, held: bool = True) -> None:
        self.disk = disk
        disk.mdelete(["k"])
        disk.settle(disk.due("server", 100))
        self.entries: dict[str, Entry[Any]] = {"k": Entry(OLD, created_at=time())} if held else {}
        self.reader = self.process()
        self.writer = self.process(away=away)
        self.source = OLD
        self.returned = False
        self.allowed: set[bytes | None] = set()
        self.tasks = [Task(getattr(self, work)()) for work in works]

    def process(self, *, away: bool = False) -> TieredCache[Any]:
        cache: TieredCache[Any] = TieredCache(
            [DiskOfOneProcess(self.disk), Server(self.entries, away=away)], promote="inline"
        )
        cache._stack.promoter = cache._stack.journal._promoter = NothingBehind()  # type: ignore[assignment]  # a stand-in
        return cache

    async def get(self) -> None:
        after = self.returned
        found = (await self.reader._core.lookup(STEPPING, ["k"])).objects
        if after and "k" in found:
            assert found["k"].value in self.allowed, "an old value was served"

    async def load(self) -> None:
        async def loader(_key: str) -> bytes:
            await Pause()
            value = self.source
            await Pause()
            return value

        after = self.returned
        values = await Loading(self.reader._core).load(STEPPING, ["k"], Load(single(loader)))
        assert not after or values["k"] in (NEW, NEWER), "an old value was served"

    async def set(self) -> None:
        self.source = NEW
        await self.writer._core.write(STEPPING, self.writer._core.batch({"k": NEW}, None))
        self.over({NEW})

    async def set_newer(self) -> None:
        self.source = NEWER
        await self.writer._core.write(STEPPING, self.writer._core.batch({"k": NEWER}, None))
        self.over({NEW, NEWER})

    async def delete(self) -> None:
        self.source = NEW
        await self.writer._core.delete(STEPPING, ["k"])
        self.over({None, NEW})

    async def clear(self) -> None:
        self.source = NEW
        await self.writer._core.clear(STEPPING)
        self.over({None, NEW})

    def over(self, allowed: set[bytes | None]) -> None:
        self.allowed = self.allowed | allowed if self.returned else allowed
        self.returned = True

    def check(self) -> None:
        if self.returned:
            held = self.disk.mget(["k"]).get("k")
            value = None if held is None else held.value
            # A row that goes for want of room is none, and nothing else may come in its place.
            assert value in self.allowed | {None}, f"{value!r} came back"

    def finish(self) -> None:
        found = drive(self.process()._core.lookup(AT_ONCE, ["k"])).objects
        assert "k" not in found or found["k"].value in self.allowed, "the next process serves an old value"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskTier]:
    with closing(DiskTier(tmp_path / "disk", deadline=30)) as tier:
        tier.mset({"another": Entry(b"row")})
        yield tier


@pytest.mark.parametrize("away", [False, True], ids=["reached", "away"])
@pytest.mark.parametrize("write", WRITES)
def test_a_promotion_against_a_write_of_another_process(disk: DiskTier, write: str, away: bool) -> None:
    race = partial(TwoProcesses, disk, "get", write, away=away)
    assert explore(race, interruptions=4) > 20


@pytest.mark.parametrize("away", [False, True], ids=["reached", "away"])
@pytest.mark.parametrize("write", WRITES)
def test_a_load_against_a_write_of_another_process(disk: DiskTier, write: str, away: bool) -> None:
    assert explore(lambda: TwoProcesses(disk, "load", write, away=away, held=False), interruptions=2) > 20


@pytest.mark.parametrize("writes", [("set", "set_newer"), ("delete", "set"), ("set", "clear")])
def test_a_promotion_against_two_writes(disk: DiskTier, writes: tuple[str, str]) -> None:
    assert explore(lambda: TwoProcesses(disk, "get", *writes), interruptions=1) > 20


@pytest.mark.parametrize("work", ["get", "load"])
@pytest.mark.parametrize("write", WRITES)
def test_without_the_fence_the_old_value_comes_back(
    disk: DiskTier, work: str, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache.tiers.disk._store.written_since", lambda *_: set())
    with pytest.raises(AssertionError, match="b'old' came back"):
        explore(lambda: TwoProcesses(disk, work, write, held=work == "get"), interruptions=2)


@pytest.mark.parametrize("write", WRITES)
def test_without_the_journal_the_old_value_is_served(disk: DiskTier, write: str) -> None:
    really = disk.glance
    disk.glance = lambda keys: Glance(really(keys).ticket, (), owing=False)  # type: ignore[method-assign]  # the guard removed
    with pytest.raises(AssertionError):
        explore(lambda: TwoProcesses(disk, "get", write, away=True))


@pytest.mark.parametrize("write", ["delete", "clear"])
def test_without_the_times_of_deletes_a_late_load_is_served(disk: DiskTier, write: str) -> None:
    really = disk.glance
    disk.glance = lambda keys: replace(really(keys), deleted={})  # type: ignore[method-assign]  # the guard removed
    with pytest.raises(AssertionError, match="the next process serves an old value"):
        explore(lambda: TwoProcesses(disk, "load", write, held=False), interruptions=2)
