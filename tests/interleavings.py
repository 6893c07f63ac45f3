"""Runs coroutines of the core in every order there is.

The core reaches tiers, futures and loaders only through a `Runtime`. Here that runtime, and the tiers,
pause before and after each effect, so that a scheduler decides who goes on; `explore` tries all
schedules of a scenario one after another, from a fresh start each. A schedule is a list of choices, so
that what failed can be run again.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from time import time
from typing import Any

import pytest

from tiercache import Entry
from tiercache._running.ports import Port
from tiercache.protocols import Purge


class _Loop(str):
    """The name of an event loop that is never closed."""

    __slots__ = ()

    def is_closed(self) -> bool:
        return False


LOOP = _Loop("the loop")


class Pause:
    """Awaited, lets the scheduler choose who goes on; with ``until``, not before that has ended. ``touches``:
    what the step that follows has to do with, and whether it changes that; ``None``: with everything.
    ``step`` names it."""

    def __init__(
        self, until: Future[Any] | None = None, *, touches: Mapping[str, bool] | None = None, step: str = ""
    ) -> None:
        self.until = until
        self.touches = touches
        self.step = step

    def __await__(self) -> Generator[Pause, None, None]:
        yield self


class SteppingRuntime:
    """A `Runtime` for the scheduler. ``blocking``: tier calls are one step, as on a thread of their own."""

    def __init__(self, *, blocking: bool) -> None:
        self.blocking = blocking

    def port(self, tier: object) -> Port:
        raise AssertionError("ports of these tiers are bound when the chain is made")

    async def wait(self, future: Future[Any]) -> Any:
        while not future.done():
            await Pause(future)
        return future.result()

    async def ended(self, future: Future[Any], *, seconds: None = None, awaited: Any = None) -> bool:
        while not future.done():
            await Pause(future)
        return True

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        result = function(*args)
        return await result if inspect.isawaitable(result) else result


STEPPING = SteppingRuntime(blocking=False)
AT_ONCE = SteppingRuntime(blocking=True)


class PlainTier:
    """A dict, in one step."""

    def __init__(self, name: str, *, nonblocking: bool = False, time: Callable[[], float] = time) -> None:
        self.name = name
        self.nonblocking = nonblocking
        self.time = time
        self.entries: dict[str, Entry[Any]] = {}

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        return {key: self.entries[key] for key in keys if key in self.entries}

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        self.entries.update(entries)

    def mdelete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.entries.pop(key, None)

    def clear(self, prefix: str, *, skip: str = "") -> None:
        self.entries.clear()

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        assert what.older_than is not None
        before = self.time() - what.older_than
        old = [key for key, entry in self.entries.items() if (entry.created_at or 0.0) <= before]
        self.mdelete(old)
        return len(old)

    def close(self) -> None:
        pass


class SteppingTier(PlainTier):
    """A dict whose calls pause before and after their effect."""

    async def amget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        return await self._stepwise(self.mget, keys)

    async def amset(self, entries: Mapping[str, Entry[Any]]) -> None:
        await self._stepwise(self.mset, entries)

    async def amdelete(self, keys: Sequence[str]) -> None:
        await self._stepwise(self.mdelete, keys)

    async def aclear(self, prefix: str, *, skip: str = "") -> None:
        await self._stepwise(self.clear, prefix)

    async def apurge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        count: int = await self._stepwise(partial(self.purge, what=what), prefix)
        return count

    async def aclose(self) -> None:
        pass

    @staticmethod
    async def _stepwise(effect: Callable[..., Any], argument: Any) -> Any:
        await Pause()
        result = effect(argument)
        await Pause()
        return result


@dataclass(eq=False)
class Task:
    """One coroutine. ``loop``: the event loop it runs on, ``None`` for a thread of its own. ``holds``: it
    is a blocking call on that loop's thread, which holds up everything else there. ``process``: whose memory
    it shares; ``touches`` and ``step``: its next step, as in `Pause`."""

    coroutine: Coroutine[Any, Any, Any]
    loop: str | None = None
    holds: bool = False
    process: str = ""
    touches: Mapping[str, bool] | None = None
    step: str = "begins"
    started: bool = field(default=False, init=False)
    done: bool = field(default=False, init=False)
    cancel: bool = field(default=False, init=False)
    until: Future[Any] | None = field(default=None, init=False)
    context: contextvars.Context = field(default_factory=contextvars.Context, init=False)


class Scenario:
    """What is explored: override `check`, and give `tasks` in `__init__`. More may be added on the way."""

    tasks: list[Task]

    def moment(self, number: int) -> None:
        """Called by `explore_different` before each step, which is of this moment: see `_Moments`."""

    def check(self) -> None:
        """Called after every step. Raises `AssertionError` for what must never be."""

    def finish(self) -> None:
        """Called at the end."""


class _Current:
    task: Task | None = None


_current = _Current()


def running_loop() -> str | None:
    """What the core is to take for the running loop (patch it in)."""
    return None if _current.task is None else _current.task.loop


@pytest.fixture
def scheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core sees the scheduler's loops for as long as a test takes."""
    monkeypatch.setattr("tiercache._consistency.operations.running_loop", running_loop)
    monkeypatch.setattr("tiercache._consistency.flights.running_loop", running_loop)


def _runnable(tasks: list[Task]) -> list[Task]:
    held = {task.loop: task for task in tasks if task.holds and task.started and not task.done}
    return [
        task
        for task in tasks
        if not task.done
        and (task.until is None or task.until.done() or task.cancel)
        and held.get(task.loop, task) is task
    ]


def _step(task: Task) -> None:
    _current.task = task
    try:
        if task.cancel and task.started:
            task.cancel = False
            pause = task.context.run(task.coroutine.throw, asyncio.CancelledError())
        else:
            pause = task.context.run(task.coroutine.send, None)
        task.until, task.touches, task.step = pause.until, pause.touches, pause.step
    except StopIteration:
        task.done = True
    except asyncio.CancelledError:
        task.done = True
    finally:
        task.started = True
        _current.task = None


def replay(
    make: Callable[[], Scenario], choices: Sequence[int], *, known: int = 0
) -> list[tuple[int, int, bool]]:
    """Run one schedule; beyond ``choices`` everybody goes on as long as he can. The choices made, of how
    many each, and whether another one would have interrupted somebody. The first steps, which are ``known``
    from an earlier schedule, are not checked once more."""
    scenario = make()
    try:
        return _run(scenario, choices, known)
    finally:
        for task in scenario.tasks:
            task.coroutine.close()


def _run(scenario: Scenario, choices: Sequence[int], known: int) -> list[tuple[int, int, bool]]:
    made: list[tuple[int, int, bool]] = []
    last: Task | None = None
    while any(not task.done for task in scenario.tasks):
        options = _runnable(scenario.tasks)
        assert options, "deadlock: nobody can go on"
        interrupts = last in options
        if interrupts:
            options.sort(key=lambda task: task is not last)  # stable: the last one first
        choice = choices[len(made)] if len(made) < len(choices) else 0
        assert choice < len(options), f"{_DIFFERS}: {len(options)} can go on, and not {choice + 1}"
        made.append((choice, len(options), interrupts))
        last = options[choice]
        _step(last)
        if len(made) > known:
            scenario.check()
    scenario.finish()
    return made


def explore(make: Callable[[], Scenario], *, interruptions: int | None = None) -> int:
    """Run every schedule (with at most so many ``interruptions``); how many there were. Raises the first
    `AssertionError`, with the schedule in its notes."""
    choices: list[int] = []
    before: list[tuple[int, int, bool]] = []
    count = 0
    while True:
        try:
            made = replay(make, choices, known=len(choices) - 1)
            assert made[: len(before)] == before, f"{_DIFFERS}: {made}, and earlier {before}"
        except AssertionError as error:
            error.add_note(f"schedule {count}: {choices}")
            raise
        count += 1
        while made:
            choice, options, interrupts = made.pop()
            spent = sum(1 for other, _, would in made if would and other)
            allowed = not interrupts or interruptions is None or spent < interruptions
            if choice + 1 < options and allowed:
                choices = [other for other, _, _ in made] + [choice + 1]
                before = made
                break
        else:
            return count


#: The same choices have to lead to the same steps, or what was explored is not what is told.
_DIFFERS = "a replay differs from what was there before"


class _Moments:
    """When each step is: just after the last of those before it whose order with it makes a difference. So
    the order of others makes none to what tells the time either. (These are Lamport's clocks.)"""

    def __init__(self) -> None:
        self._processes: dict[str, int] = {}
        self._changes: dict[str, int] = {}
        self._looks: dict[str, int] = {}
        self._latest = self._latest_of_all = 0

    def next(self, task: Task) -> int:
        """That of the next step of ``task``."""
        if task.touches is None:
            moment = self._latest_of_all = self._latest + 1
        else:
            after = [self._latest_of_all, self._processes.get(task.process, 0)]
            for place, changes in task.touches.items():
                after.append(self._changes.get(place, 0))
                if changes:
                    after.append(self._looks.get(place, 0))
            moment = max(after) + 1
            for place, changes in task.touches.items():
                last = self._changes if changes else self._looks
                last[place] = max(moment, last.get(place, 0))
        self._processes[task.process] = moment
        self._latest = max(self._latest, moment)
        return moment


@dataclass
class _Fork:
    """A state of a scenario: who can go on, by number, and with what; which of them may; who goes on just
    now; and who need not, since all that would come of it was seen when he went on earlier."""

    runnable: dict[int, tuple[str, str]]
    options: list[int]
    asleep: set[int]
    chosen: int = 0

    def __str__(self) -> str:
        return ": ".join(self.runnable[self.options[self.chosen]])


def explore_different(make: Callable[[], Scenario]) -> int:
    """Run every schedule but those that differ from another only in the order of two steps of different
    processes that do not touch the same, or only read it; how many there were. (These are the traces of
    Mazurkiewicz; those that need not be run are found by Godefroid's sleep sets.)"""
    path: list[_Fork] = []
    count = 0
    while True:
        scenario = make()
        try:
            count += _follow(scenario, path)
        except AssertionError as error:
            error.add_note("\n".join([f"schedule {count}:", *map(str, path)]))
            raise
        finally:
            for task in scenario.tasks:
                task.coroutine.close()
        while path and path[-1].chosen + 1 == len(path[-1].options):
            path.pop()
        if not path:
            return count
        path[-1].chosen += 1


def _follow(scenario: Scenario, path: list[_Fork]) -> bool:
    """Go along ``path`` and then on to an end, which is added to it; False if there is nothing new there."""
    known = len(path) - 1
    asleep: set[int] = set()
    tasks = scenario.tasks
    moments = _Moments()
    step = 0
    while any(not task.done for task in tasks):
        can = _runnable(tasks)
        runnable = {number: (task.process, task.step) for number, task in enumerate(tasks) if task in can}
        assert runnable, "deadlock: nobody can go on"
        if step == len(path):
            options = [number for number in runnable if number not in asleep]
            if not options:
                return False
            path.append(_Fork(runnable, options, asleep))
        fork = path[step]
        assert runnable == fork.runnable, f"{_DIFFERS}: at step {step} {runnable}, and not {fork.runnable}"
        task = tasks[fork.options[fork.chosen]]
        before = fork.asleep | set(fork.options[: fork.chosen])
        asleep = {number for number in before if _is_apart(tasks[number], task)}
        scenario.moment(moments.next(task))
        _step(task)
        if step >= known:
            scenario.check()
        step += 1
    assert step >= len(path), f"{_DIFFERS}: it is over after {step} steps, and not {len(path)}"
    scenario.finish()
    return True


def _is_apart(one: Task, other: Task) -> bool:
    """Whether the order of their next steps makes no difference."""
    if one.process == other.process or one.touches is None or other.touches is None:
        return False
    return not any(
        changes or other.touches[place] for place, changes in one.touches.items() if place in other.touches
    )
