"""Epochs: which keys of a namespace were written since, so that an old value never comes back.

Copying an entry upward, or storing a loaded one, is a *fill*: it is right only as long as nobody wrote
the key since the value was read. A *write* (set, delete, clear) is always right. The rules, for one
namespace of one root chain in one process:

* A fill holds a ticket that was opened before its value was read. It is suppressed for a key whose
  write ended after that, or is going on.
* Fills and writes of one key exclude each other: a write first waits for the fills that are going on
  (so that it comes last in every tier), and for other writes (so that all tiers end with the same).

A chain inside a chain works for an operation of the outer one, and does not wait for that (`holding`): what
the outer one may do, the inner one may do for it.

A write that would wait for itself goes ahead: a blocking one on an event loop's own thread, when what it
waits for can only go on after it on that loop; or one of a ring of writes, each of which holds what the next
one wants. Until what it went ahead of has ended and cleaned up, nobody can tell what lower tiers hold under
those keys: they are *uncertain*, and not asked for.

Checking a ticket and starting a fill is one step under one lock, and so is ending a write and noting
it. The lock is never held while a tier works. `tests/integration/` has the interleavings that make
the naive versions of this fail.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from tiercache._bridge import Runtime, new_future, running_loop
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

__all__ = ["Epochs", "Operation", "holding", "holding_nothing"]

#: Keys noted for tickets that are still open. Beyond it, all that is noted counts as written: a fill is
#: suppressed without need (the cache forgets), never let through without right (it would lie).
_NOTED_KEYS = 262_144


class Operation:
    """A fill or write that is going on. ``superseded`` has those of its ``keys`` that another write has
    written without waiting for it. It must not write them into any more tiers, and must delete what it
    wrote before it ends. ``waits_for``: what whoever holds it waits for just now."""

    __slots__ = ("done", "keys", "loop", "superseded", "waits_for")

    def __init__(self, keys: Collection[str], *, blocking: bool) -> None:
        self.keys = keys
        self.loop = None if blocking else running_loop()
        self.done: Future[Any] | None = None
        self.superseded: set[str] = set()
        self.waits_for: list[Operation] = []

    @property
    def parts(self) -> tuple[Operation, ...]:
        """The operations in single domains that it is made of."""
        return (self,)

    def finished(self) -> Future[Any]:
        """The future that ends with the operation; call it under the owner's lock."""
        if self.done is None:
            self.done = new_future()
        return self.done


#: The operations that the current thread or task works for, outermost first.
_held: ContextVar[tuple[Operation, ...]] = ContextVar("tiercache_operations", default=())


class holding:  # noqa: N801 - read as a statement; a generator would take three times as long
    """``with holding(operation):`` marks the code inside as work for it: chains inside this chain do not
    wait for it."""

    __slots__ = ("_parts", "_token")

    def __init__(self, *operations: Operation) -> None:
        self._parts = tuple(part for operation in operations for part in operation.parts)

    def __enter__(self) -> None:
        held = _held.get()
        self._token = _held.set(held + self._parts)

    def __exit__(self, *_error: object) -> None:
        with suppress(ValueError):  # an abandoned coroutine is closed in whatever context there is
            _held.reset(self._token)


def holding_nothing() -> None:
    """Mark the current context as one that works for no operation."""
    _held.set(())


class _Rings:
    """Who waits for whom, in all epochs. The lock makes looking and noting one step, or two writes could
    close a ring together."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self.lock = threading.Lock()
        #: Event loops whose thread a blocking write holds up, and what that one waits for.
        self.stuck: dict[asyncio.AbstractEventLoop, list[Operation]] = {}

    def ahead_of(self, operation: Operation) -> Iterator[Operation]:
        """``operation`` and all that must end before it can."""
        seen: set[Operation] = set()
        ahead = [operation]
        while ahead:
            current = ahead.pop()
            if current in seen:
                continue
            seen.add(current)
            yield current
            ahead += current.waits_for
            if current.loop is not None:
                ahead += self.stuck.get(current.loop, ())


_rings = _Rings()


class _Waiting:
    """What one write waits for, from looking for it until it has come to an end."""

    def __init__(self, runtime: Runtime, *mine: Operation) -> None:
        self._runtime = runtime
        self.held = _held.get()
        self._mine = (*self.held, *mine)
        self._here = running_loop() if runtime.blocking else None
        self._for: list[Operation] = []

    def closes_a_ring(self, other: Operation) -> bool:
        """Whether ``other`` can only end after this write did. Call it under the rings' lock."""
        here = self._here
        return any(
            ahead in self._mine or (here is not None and ahead.loop is here)
            for ahead in _rings.ahead_of(other)
        )

    def begin(self, others: list[Operation]) -> list[Future[Any]]:
        """Note that ``others`` are waited for. Call it under the locks of the epochs and the rings."""
        self._for = others
        for operation in self._mine:
            operation.waits_for += others
        if self._here is not None and others:
            _rings.stuck.setdefault(self._here, []).extend(others)
        return [other.finished() for other in others]

    async def wait(self, futures: list[Future[Any]]) -> None:
        """Until ``futures``, which `begin` gave, have ended."""
        try:
            for future in futures:
                await self._runtime.wait(future)
        finally:
            with _rings.lock:
                for operation in self._mine:
                    for other in self._for:
                        operation.waits_for.remove(other)
                if self._here is not None and self._for:
                    stuck = _rings.stuck[self._here]
                    for other in self._for:
                        stuck.remove(other)
                    if not stuck:
                        del _rings.stuck[self._here]


class Epochs:
    """The epochs of one namespace. Thread-safe."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._serial = 0
        self._floor = 0
        self._tickets: dict[int, int] = {}  # serial -> how many are open; in order, oldest first
        self._written: dict[str, int] = {}
        self._stored: dict[str, int] = {}
        self._writing: dict[str, Operation] = {}
        self._filling: dict[str, list[Operation]] = {}
        self._clearing: Operation | None = None
        self._uncertain: dict[str, int] = {}  # key -> superseded operations going on

    # -- tickets -----------------------------------------------------------------------------------

    def open_ticket(self) -> int:
        """A ticket for values read from now on. Each one must be closed."""
        with self._lock:
            ticket = self._serial
            self._tickets[ticket] = self._tickets.get(ticket, 0) + 1
            return ticket

    def share_ticket(self, ticket: int) -> int:
        """The same ticket once more, for somebody who closes it by himself."""
        with self._lock:
            self._tickets[ticket] = self._tickets.get(ticket, 0) + 1
            return ticket

    def close_ticket(self, ticket: int) -> None:
        """Forget what was noted for ``ticket`` alone."""
        with self._lock:
            left = self._tickets.get(ticket, 0) - 1
            if left > 0:
                self._tickets[ticket] = left
                return
            self._tickets.pop(ticket, None)  # absent: a fork came between
            if not self._tickets:
                self._written.clear()
                self._stored.clear()

    def changed(self, ticket: int, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` that were written, or stored by a loader, since ``ticket`` was opened."""
        with self._lock:
            if self._floor > ticket:
                return list(keys)
            written, stored = self._written, self._stored
            return [key for key in keys if max(written.get(key, 0), stored.get(key, 0)) > ticket]

    def certain(self, keys: Sequence[str]) -> Sequence[str]:
        """Those of ``keys`` that lower tiers may be asked for."""
        uncertain = self._uncertain
        # Without the lock: who superseded an operation has not returned before it had noted it here.
        return [key for key in keys if key not in uncertain] if uncertain else keys

    # -- fills -------------------------------------------------------------------------------------

    def begin_fill(self, ticket: int, keys: Iterable[str], runtime: Runtime) -> Operation:
        """Start a fill of those ``keys`` for which ``ticket`` is still good: the operation's ``keys``.

        It must be ended, also when it has no keys left.
        """
        with self._lock:
            if self._floor > ticket or self._clearing is not None:
                return Operation((), blocking=runtime.blocking)
            written, writing = self._written, self._writing
            good = [
                key
                for key in keys
                if written.get(key, 0) <= ticket and key not in writing and key not in self._uncertain
            ]
            fill = Operation(good, blocking=runtime.blocking)
            for key in good:
                self._filling.setdefault(key, []).append(fill)
            return fill

    def end_fill(self, fill: Operation, *, stored: bool = False) -> None:
        """The fill is over. ``stored``: its values came from a loader."""
        with self._lock:
            if stored:
                self._note(self._stored, fill.keys)
            self._forget(fill, fill.keys)
        self._finish(fill)

    # -- writes ------------------------------------------------------------------------------------

    async def begin_write(self, keys: Collection[str], runtime: Runtime) -> Operation:
        """Become the only writer of ``keys``, waiting for what is going on with them.

        Its ``keys`` are those that no operation which this one works for has taken already.
        """
        held = _held.get()
        while True:
            with self._lock:
                free = self._free(keys, held) if held else keys
                others = self._others(free) if free else []
                if others:
                    waiting = _Waiting(runtime)
                    waits = self._to_wait_for(others, waiting, free)
                if not others or not waits:
                    write = Operation(free, blocking=runtime.blocking)
                    for key in free:
                        self._writing[key] = write
                    return write
            await waiting.wait(waits)

    def end_write(self, write: Operation) -> None:
        """The write is over: fills with older tickets are suppressed from now on."""
        with self._lock:
            self._note(self._written, write.keys)
            for key in write.keys:
                if self._writing.get(key) is write:
                    del self._writing[key]
            self._forget(write, write.superseded)
        self._finish(write)

    def give_up(self, write: Operation) -> None:
        """The write was interrupted: as if all of it had been superseded."""
        with self._lock:
            self._supersede(write, write.keys)

    async def begin_clear(self, runtime: Runtime) -> Operation:
        """Become the only writer of the namespace.

        Nothing begins once this clear has announced itself, so that what is going on comes to an end:
        to wait for a moment without any write could take for ever.
        """
        clear = Operation((), blocking=runtime.blocking)
        while True:
            waiting = _Waiting(runtime, clear)
            with self._lock:
                earlier = [] if self._clearing is None else [self._clearing]
                waits = self._to_wait_for(earlier, waiting)
                if not waits:
                    if self._clearing is None or self._clearing not in waiting.held:
                        self._clearing = clear
                    going = {id(op): op for op in self._writing.values()}
                    going |= {id(op): op for ops in self._filling.values() for op in ops}
                    waits = self._to_wait_for(going.values(), waiting)
                    break
            await waiting.wait(waits)
        try:
            await waiting.wait(waits)
        except BaseException:
            self.end_clear(clear)
            raise
        return clear

    def end_clear(self, clear: Operation) -> None:
        """The clear is over: every fill with an older ticket is suppressed from now on."""
        with self._lock:
            self._raise_floor()
            if self._clearing is clear:
                self._clearing = None
        self._finish(clear)

    # -- with the lock held ------------------------------------------------------------------------

    def _others(self, keys: Collection[str]) -> list[Operation]:
        found: dict[int, Operation] = {}
        for key in keys:
            if (write := self._writing.get(key)) is not None:
                found[id(write)] = write
            for fill in self._filling.get(key, ()):
                found[id(fill)] = fill
        if self._clearing is not None:
            found[id(self._clearing)] = self._clearing
        return list(found.values())

    def _free(self, keys: Collection[str], held: tuple[Operation, ...]) -> Collection[str]:
        """Those of ``keys`` that none of the operations ``held`` has taken."""
        return [
            key
            for key in keys
            if self._writing.get(key) not in held
            and not any(fill in held for fill in self._filling.get(key, ()))
        ]

    def _to_wait_for(
        self, others: Collection[Operation], waiting: _Waiting, keys: Collection[str] | None = None
    ) -> list[Future[Any]]:
        """What a write of ``keys`` (``None``: of all) has to wait for."""
        wanted = []
        with _rings.lock:
            for other in others:
                if other in waiting.held:
                    continue  # this write works for it
                if waiting.closes_a_ring(other):
                    self._supersede(other, other.keys if keys is None else keys)
                else:
                    wanted.append(other)
            return waiting.begin(wanted)

    def _supersede(self, other: Operation, keys: Collection[str]) -> None:
        overtaken = set(other.keys).intersection(keys) - other.superseded
        other.superseded |= overtaken
        for key in overtaken:
            self._uncertain[key] = self._uncertain.get(key, 0) + 1
            if self._writing.get(key) is other:  # its place goes to the new write; others still wait for it
                del self._writing[key]
                self._filling.setdefault(key, []).append(other)

    def _forget(self, operation: Operation, filling: Collection[str]) -> None:
        for key in filling:
            fills = self._filling.get(key)
            if fills is not None and operation in fills:
                fills.remove(operation)
                if not fills:
                    del self._filling[key]
        for key in operation.superseded:
            left = self._uncertain.get(key, 0) - 1
            if left > 0:
                self._uncertain[key] = left
            else:
                self._uncertain.pop(key, None)

    def _note(self, noted: dict[str, int], keys: Iterable[str]) -> None:
        self._serial += 1
        if not self._tickets:
            return
        noted.update(dict.fromkeys(keys, self._serial))
        if len(noted) > _NOTED_KEYS:
            oldest = next(iter(self._tickets))
            for key in [key for key, serial in noted.items() if serial <= oldest]:
                del noted[key]
            if len(noted) > _NOTED_KEYS // 2:
                self._raise_floor()

    def _raise_floor(self) -> None:
        self._serial += 1
        self._floor = self._serial
        self._written.clear()
        self._stored.clear()

    def _finish(self, operation: Operation) -> None:
        with self._lock:
            done = operation.done
        if done is not None:
            done.set_result(None)
