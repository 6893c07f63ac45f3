"""Who waits for whom: so that nobody waits for what can only go on after he has.

What others wait for is an `Awaited`: a flight, a refresh, an operation. All are in one table, for rings are
closed across them: a loader waits for a write on an event loop, whose thread a blocking call holds up that
waits for what this very loader makes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tiercache._running.event_loops import is_over
from tiercache._running.owners import Owner
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    import asyncio

__all__ = ["Awaited", "Waiting", "rings"]


class Awaited:
    """Something that others wait for. ``loop``: the event loop that it needs to come to its end; ``None``: it
    has a thread. ``owner``: whose end is its end, where that is known. ``waits_for``: what it waits for
    itself just now; several, when an async loader gathers."""

    __slots__ = ("loop", "owner", "waits_for")

    loop: asyncio.AbstractEventLoop | None
    owner: Owner | None
    waits_for: list[Awaited]

    @property
    def was_left(self) -> bool:
        """Whether its owner is gone."""
        return self.owner is not None and self.owner.is_gone

    @property
    def is_over(self) -> bool:
        """Whether it will never come to an end, if it has not: it has stopped somewhere in the middle."""
        return is_over(self.loop) or self.was_left


class _Rings:
    """Who waits for whom. The lock makes looking and noting one step, or two could close a ring together."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self.lock = threading.Lock()
        #: Event loops whose thread a blocking call holds up, and what that one waits for.
        self.stuck: dict[asyncio.AbstractEventLoop, list[Awaited]] = {}

    def ahead_of(self, awaited: Awaited) -> Iterator[Awaited]:
        """``awaited`` and all that must end before it can."""
        seen: set[Awaited] = set()
        ahead = [awaited]
        while ahead:
            current = ahead.pop()
            if current in seen:
                continue
            seen.add(current)
            yield current
            ahead += current.waits_for
            if current.loop is not None:
                ahead += self.stuck.get(current.loop, ())


rings = _Rings()


class Waiting:
    """What one call waits for. ``mine``: what waits with it, for that is what the call is part of; ``here``:
    the event loop whose thread it holds up, if it does."""

    __slots__ = ("_for", "here", "mine")

    def __init__(self, mine: Sequence[Awaited], here: asyncio.AbstractEventLoop | None) -> None:
        self.mine = mine
        self.here = here
        self._for: Sequence[Awaited] = ()

    def is_part_of(self, other: Awaited) -> bool:
        """Whether ``other`` can only end after what this call is part of. Under the rings' lock the answer
        holds until `begin`."""
        return bool(self.mine) and any(ahead in self.mine for ahead in rings.ahead_of(other))

    def holds_up(self, other: Awaited) -> bool:
        """The same for the event loop whose thread this call is on."""
        return self.here is not None and any(ahead.loop is self.here for ahead in rings.ahead_of(other))

    def begin(self, others: Sequence[Awaited]) -> None:
        """Note that ``others`` are waited for. Call it under the rings' lock, and `end` later without."""
        self._for = others
        for one in self.mine:
            one.waits_for += others
        if self.here is not None and others:
            rings.stuck.setdefault(self.here, []).extend(others)

    def end(self) -> None:
        """They are not waited for any more."""
        if not self._for:
            return
        # Without the lock: what is thrown away may be in a thread that holds it. To miss that somebody waits
        # no more is to see a ring that was there just now.
        for one in self.mine:
            for other in self._for:
                one.waits_for.remove(other)
        if self.here is not None:  # a blocking call, which nobody throws away
            with rings.lock:
                stuck = rings.stuck[self.here]
                for other in self._for:
                    stuck.remove(other)
                if not stuck:
                    del rings.stuck[self.here]
        self._for = ()
