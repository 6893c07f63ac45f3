"""What the steps of reads and writes of memory cost: each row does all of the row above it and one thing
more, written out by hand, down to the whole call."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from time import monotonic, time
from typing import Any

import cachetools

from benchmarks.contest import Contest
from tiercache import MemoryTier, TieredCache

VALUE = b"x" * 100


class Held:
    """An entry, as far as a hit looks at it, and with its neighbours by use and by end of life."""

    __slots__ = ("after", "before", "created", "deadline", "key", "later", "sooner", "used", "value")

    value: bytes
    deadline: float
    used: float
    created: float
    key: str
    before: Any
    after: Any
    sooner: Any
    later: Any


def held(value: bytes) -> Held:
    entry = Held()
    entry.value = value
    entry.deadline = monotonic() + 3600
    entry.used = 0.0
    return entry


def test_steps(  # noqa: C901  # functions within it, each of them simple
    hold: Any, chain: TieredCache[bytes], keys: list[str]
) -> None:
    plain = dict.fromkeys(keys, VALUE).get
    look_up = {key: held(VALUE) for key in keys}.get
    notes: list[Held] = []

    def called(key: str, default: Any = None) -> Any:
        return plain(key, default)

    def entered(key: str, default: Any = None) -> Any:
        entry = look_up(key)
        if entry is None:
            return default
        return entry.value

    def dated(key: str, default: Any = None) -> Any:
        entry = look_up(key)
        if entry is None or monotonic() >= entry.deadline:
            return default
        return entry.value

    def noted(key: str, default: Any = None) -> Any:
        entry = look_up(key)
        if entry is None or monotonic() >= entry.deadline:
            return default
        found = entry.value
        notes.append(entry)
        return found

    def recent(key: str, default: Any = None) -> Any:
        entry = look_up(key)
        if entry is None:
            return default
        now = monotonic()
        if now >= entry.deadline:
            return default
        found = entry.value
        entry.used = now
        notes.append(entry)
        return found

    def looped(get: Callable[[str], Any]) -> Callable[[], None]:
        def run() -> None:
            notes.clear()
            for key in keys:
                get(key)

        return run

    contest = Contest("memory-steps", "A hit in memory, step by step", size=len(keys))
    for name, get in {
        "dict": plain,
        "a function of ours around it": called,
        "an entry instead of the value": entered,
        "its end compared with the clock": dated,
        "a note of the hit": noted,
        "when it was used last": recent,
        "tiercache": chain.get,
    }.items():
        contest.add(name, looped(get))
    hold(contest)


def test_steps_of_a_batch(hold: Any, chain: TieredCache[bytes], keys: list[str]) -> None:
    entries = {key: held(VALUE) for key in keys}

    def looked_up() -> list[Held]:
        return list(map(entries.__getitem__, keys))

    def values() -> list[bytes]:
        return [entry.value for entry in looked_up()]

    def once() -> list[bytes]:
        if len(set(keys)) != len(keys):
            raise AssertionError
        return values()

    def used() -> list[bytes]:
        found = looked_up()
        if len(set(keys)) != len(found):
            raise AssertionError
        now = monotonic()
        for entry in found:
            entry.used = now
        return [entry.value for entry in found]

    contest = Contest("memory-mget-steps", "`mget` of 1,000 keys in memory, step by step", size=len(keys))
    for name, job in {
        "entries looked up": looked_up,
        "their values": values,
        "whether a key comes twice": once,
        "when they were used last": used,
        "tiercache": lambda: chain.mget(keys),
    }.items():
        contest.add(name, job)
    hold(contest)


class Ring:
    """A full cache of `Held` in one order, or two, under a lock, or two, to whom ``steps`` are done."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.data: dict[str, Held] = {}
        self.lock = threading.Lock()
        self.epochs = threading.Lock()
        self.serial = 0
        self.seconds: list[float] = []
        self.end = Held()
        self.end.before = self.end.after = self.end.sooner = self.end.later = self.end

    def set(self, key: str, value: bytes) -> None:
        """A new key in the place of the oldest."""
        steps = self.steps
        entry = Held()
        entry.key, entry.value = key, value
        if steps > 0:
            entry.used = now = monotonic()
            entry.created = time()
            entry.deadline = now + 3600
        if steps > 2:
            with self.epochs:
                self.serial += 1
                self._put(entry)
        else:
            self._put(entry)
        if steps > 3:
            self.seconds.append(monotonic() - now)
            if len(self.seconds) > 1024:
                self.seconds.clear()

    def _put(self, entry: Held) -> None:
        with self.lock:
            end = self.end
            if len(self.data) >= 10_000:
                oldest = end.after
                end.after, oldest.after.before = oldest.after, end
                if self.steps > 1:
                    oldest.sooner.later, oldest.later.sooner = oldest.later, oldest.sooner
                del self.data[oldest.key]
            entry.before, entry.after = end.before, end
            end.before.after = end.before = entry
            if self.steps > 1:
                entry.sooner, entry.later = end.sooner, end
                end.sooner.later = end.sooner = entry
            self.data[entry.key] = entry


def test_steps_of_a_set(hold: Any) -> None:
    numbers = itertools.count()

    def some() -> tuple[list[str]]:
        return ([f"key-{next(numbers)}" for _ in range(1000)],)

    def filled(put: Callable[[str, bytes], Any]) -> Callable[[Sequence[str]], None]:
        def run(keys: Sequence[str]) -> None:
            for key in keys:
                put(key, VALUE)

        for _ in range(11):
            run(*some())
        return run

    lru: cachetools.LRUCache[str, bytes] = cachetools.LRUCache(10_000)
    lock = threading.RLock()

    def locked(key: str, value: bytes) -> None:
        with lock:
            lru[key] = value

    contest = Contest("memory-set-steps", "`set` of a new key into a full memory, step by step", size=1000)
    contest.add("cachetools + RLock", filled(locked), prepare=some)
    for name, steps in {
        "an entry in a ring, and a lock": 0,
        "two clocks, for its times": 1,
        "a ring by end of life": 2,
        "the lock of the epochs": 3,
        "counted, with its time": 4,
    }.items():
        contest.add(name, filled(Ring(steps).set), prepare=some)
    with TieredCache([MemoryTier(max_entries=10_000)], ttl="1h") as cache:
        contest.add("tiercache", filled(cache.set), prepare=some)
        hold(contest)
