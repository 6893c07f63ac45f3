"""What the steps of a hit in memory cost: each row does all of the row above it and one thing more, written
out by hand, down to a whole look-up in a chain of three tiers."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from benchmarks.contest import Contest
from tiercache import TieredCache


class Held:
    """An entry, as far as a hit looks at it."""

    __slots__ = ("deadline", "used", "value")

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.deadline = monotonic() + 3600
        self.used = 0.0


def test_steps(  # noqa: C901  # functions within it, each of them simple
    hold: Any, chain: TieredCache[bytes], keys: list[str]
) -> None:
    value = b"x" * 100
    plain = dict.fromkeys(keys, value).get
    held = {key: Held(value) for key in keys}.get
    notes: list[Held] = []

    def called(key: str, default: Any = None) -> Any:
        return plain(key, default)

    def entered(key: str, default: Any = None) -> Any:
        entry = held(key)
        if entry is None:
            return default
        return entry.value

    def dated(key: str, default: Any = None) -> Any:
        entry = held(key)
        if entry is None or monotonic() >= entry.deadline:
            return default
        return entry.value

    def noted(key: str, default: Any = None) -> Any:
        entry = held(key)
        if entry is None or monotonic() >= entry.deadline:
            return default
        found = entry.value
        notes.append(entry)
        return found

    def recent(key: str, default: Any = None) -> Any:
        entry = held(key)
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
