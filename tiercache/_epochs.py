"""Epochs: which keys of a namespace were written since, so that an old value never comes back.

Copying an entry upward, or storing a loaded one, is a *fill*: it is right only as long as nobody wrote
the key since the value was read. A *write* (set, delete, clear) is always right. The rules, for one
namespace of one root chain in one process:

* A fill holds a ticket that was opened before its value was read. It is suppressed for a key whose
  write ended after that, or is going on.
* Fills and writes of one key exclude each other: a write first waits for the fills that are going on
  (so that it comes last in every tier), and for other writes (so that all tiers end with the same).

A blocking write on an event loop's own thread cannot wait for what that loop is doing, and goes ahead.
Until what it went ahead of has ended and cleaned up, nobody can tell what lower tiers hold under those
keys: they are *uncertain*, and not asked for.

Checking a ticket and starting a fill is one step under one lock, and so is ending a write and noting
it. The lock is never held while a tier works. `tests/integration/` has the interleavings that make
the naive versions of this fail.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tiercache._bridge import Runtime, new_future, running_loop
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Epochs", "Operation"]

#: Keys noted for tickets that are still open. Beyond it, all that is noted counts as written: a fill is
#: suppressed without need (the cache forgets), never let through without right (it would lie).
_NOTED_KEYS = 262_144


class Operation:
    """A fill or write that is going on. ``superseded`` has those of its ``keys`` that a blocking write,
    on the thread of the event loop that runs this operation, has written without waiting for it. It
    must not write them into any more tiers, and must delete what it wrote before it ends."""

    __slots__ = ("done", "keys", "loop", "superseded")

    def __init__(self, keys: Collection[str], *, blocking: bool) -> None:
        self.keys = keys
        self.loop = None if blocking else running_loop()
        self.done: Future[Any] | None = None
        self.superseded: set[str] = set()

    def finished(self) -> Future[Any]:
        """The future that ends with the operation; call it under the owner's lock."""
        if self.done is None:
            self.done = new_future()
        return self.done


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
        """Become the only writer of ``keys``, waiting for what is going on with them."""
        write = Operation(keys, blocking=runtime.blocking)
        while True:
            with self._lock:
                waits = self._to_wait_for(self._others(keys), runtime, keys)
                if not waits:
                    for key in keys:
                        self._writing[key] = write
                    return write
            for future in waits:
                await runtime.wait(future)

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
            with self._lock:
                earlier = [] if self._clearing is None else [self._clearing]
                waits = self._to_wait_for(earlier, runtime)
                if not waits:
                    self._clearing = clear
                    going = {id(op): op for op in self._writing.values()}
                    going |= {id(op): op for ops in self._filling.values() for op in ops}
                    waits = self._to_wait_for(going.values(), runtime)
                    break
            for future in waits:
                await runtime.wait(future)
        try:
            for future in waits:
                await runtime.wait(future)
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

    def _to_wait_for(
        self, others: Collection[Operation], runtime: Runtime, keys: Collection[str] | None = None
    ) -> list[Future[Any]]:
        """What a write of ``keys`` (``None``: of all) has to wait for."""
        here = running_loop() if others and runtime.blocking else None
        waits = []
        for other in others:
            if here is not None and other.loop is here:
                # A blocking call on this loop's own thread: the other can only go on after it.
                self._supersede(other, other.keys if keys is None else keys)
            else:
                waits.append(other.finished())
        return waits

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
