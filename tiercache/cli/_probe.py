"""Tries one tier, past the chain: what is behind it, what it lets us do, and how long that takes.

What is written is one small entry in a namespace of its own, which is deleted at once, and runs out within a
minute if this process ends before.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from statistics import median
from typing import Any

from tiercache._log import describe
from tiercache._running.bridge import BLOCKING, drive
from tiercache._running.ports import Port, Verb
from tiercache.cli._output import weight
from tiercache.entry import Entry
from tiercache.errors import TierError
from tiercache.keys import Namespace
from tiercache.protocols import About, SupportsAbout

__all__ = ["Finding", "probe", "shortage"]

#: Seconds that a clock may be wrong: what ends is judged by each machine's own clock.
_SKEW = 2.0
#: Bytes of room that are little.
_ROOM = 64 << 20
_SPACE = Namespace(("tiercache check",))
_LIFE = 60.0
_TRIES = 5


@dataclass(slots=True)
class Finding:
    """What was found out about one tier. Times are seconds: of the first call, which connects, and the
    medians of a few reads and writes. ``rights`` are what it let us do; ``problems`` are what is wrong,
    ``notes`` what somebody may want so."""

    about: About | None = None
    connect: float | None = None
    read: float | None = None
    write: float | None = None
    rights: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Denied(Exception):
    """A call failed, which is one of the problems by now."""


def probe(tier: Any) -> Finding:
    """Try ``tier``. Whatever it raises is one of the problems."""
    found = Finding()
    with suppress(_Denied):
        _try(found, tier, BLOCKING.port(tier), _SPACE.fold(token_hex(8)))
    return found


def shortage(tier: Any) -> str:
    """What is wrong with the room of a tier that knows without being asked for more; ``""`` where nothing."""
    told = getattr(tier, "shortage", None)
    ours = type(tier).__module__.startswith("tiercache.")  # others may have that name for something else
    return str(told()) if ours and callable(told) else ""


def _try(found: Finding, tier: Any, port: Port, key: str) -> None:
    _, found.connect = _timed(found, "read", port.mget, [key], tries=1)
    if isinstance(tier, SupportsAbout):
        _ask(found, tier)
    _, found.read = _timed(found, "read", port.mget, [key])
    if port.scan is not None:
        _list(found, port.scan, key)
    if not getattr(tier, "journals", True):
        found.notes.append("it is set read_only: nothing is written to it")
        return
    now = time.time()
    entry = Entry(token_hex(32).encode(), now + _LIFE, now)
    _, found.write = _timed(found, "write", port.mset, {key: entry})
    stored, _ = _timed(found, "read", port.mget, [key], tries=1)
    if key not in stored or stored[key].value != entry.value:
        found.problems.append("what was written to it is not there, or is another value")
    _timed(found, "delete", port.mdelete, [key], tries=1)
    left, _ = _timed(found, "read", port.mget, [key], tries=1)
    if left:
        found.problems.append("what was deleted from it is still there")


def _list(found: Finding, scan: Verb, key: str) -> None:
    """See whether it lists keys: one page, for there may be a million. A cache does without."""
    alone = Finding()
    with suppress(_Denied):
        _timed(alone, "list", partial(scan, limit=1), key, tries=1)
    found.rights += alone.rights
    found.notes += [f"{problem}; `keys`, `clear` and `export` need that" for problem in alone.problems]


def _ask(found: Finding, tier: SupportsAbout) -> None:
    try:
        about = found.about = tier.about()
    except Exception as error:  # noqa: BLE001 - whatever a tier raises is what there is to tell
        found.problems.append(f"it does not tell what it is: {_reason(error)}")
        return
    if about.skew is not None and abs(about.skew) > _SKEW:
        way = "ahead of" if about.skew > 0 else "behind"
        found.problems.append(
            f"its clock is {abs(about.skew):,.1f} s {way} this machine's: entries will end early or late"
        )
    short = shortage(tier)
    if short:
        found.notes.append(short)
    elif about.room is not None and about.room < _ROOM:
        found.notes.append(f"it has little room left: {weight(about.room)}")


def _reason(error: Exception) -> str:
    """What is wrong, without the name of a class of ours where the text says it all."""
    return str(error) if isinstance(error, TierError) else describe(error)


def _timed(
    found: Finding, right: str, verb: Verb, argument: Any, *, tries: int = _TRIES
) -> tuple[Any, float]:
    """The last answer to a few calls, which are a ``right`` then, and their median seconds. Or `_Denied`."""
    seconds = []
    answer: Any = None

    async def call() -> Any:
        return await verb(argument)

    for _ in range(tries):
        start = time.perf_counter()
        try:
            answer = drive(call())
        except Exception as error:
            found.problems.append(f"it cannot {right}: {_reason(error)}")
            raise _Denied from error
        seconds.append(time.perf_counter() - start)
    if right not in found.rights:
        found.rights.append(right)
    return answer, median(seconds)
