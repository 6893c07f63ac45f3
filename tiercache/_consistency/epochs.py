"""Epochs: which keys of a namespace were written since, so that an old value never comes back.

Copying an entry upward, or storing a loaded one, is a *fill*: it is right only as long as nobody wrote
the key since the value was read. A *write* (set, delete, clear) is always right. The rules, for one
namespace of one root chain in one process:

* A fill holds a ticket that was opened before its value was read. It is suppressed for a key whose
  write ended after that, or is going on.
* Fills and writes of one key exclude each other: a write first waits for the fills that are going on
  (so that it comes last in every tier), and for other writes (so that all tiers end with the same).
* A purge by age keeps nobody waiting, who is to look at every entry of a tier. Fills leave out what it is to
  drop, from when it begins, and with tickets of before its end; and it first waits for those going on.

A chain inside a chain works for an operation of the outer one, and does not wait for that
(`tiercache._consistency.operations`): what the outer one may do, the inner one may do for it.

A write that would wait for itself goes ahead: a blocking one on an event loop's own thread, when what it
waits for can only go on after it on that loop; or one of a ring of writes, each of which holds what the next
one wants. Until what it went ahead of has ended and cleaned up, nobody can tell what lower tiers hold under
those keys: they are *uncertain*, and not asked for. Nor does a write wait for what an event loop was at when
it was closed: that is over wherever it had come to, as after a crash. (One on a loop that stands still is
waited for, since it may go on.)

Checking a ticket and starting a fill is one step under one lock, and so is ending a write and noting
it. The lock is never held while a tier works, but for a write that memory alone takes, at once (`at_once`).
`tests/integration/` has the interleavings that make the naive versions of this fail.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf
from sys import exception
from typing import Any

from tiercache._consistency.operations import Ends, Operation, ended, waiting_with, works_for
from tiercache._consistency.purges import Purges
from tiercache._consistency.rings import Waiting, rings
from tiercache._running.bridge import Runtime
from tiercache._running.owners import Owner, leavings, thrown
from tiercache.forks import reset_after_fork

__all__ = ["Epochs"]

#: Keys noted for tickets that are still open. Beyond it, all that is noted counts as written: a fill is
#: suppressed without need (the cache forgets), never let through without right (it would lie).
_NOTED_KEYS = 262_144


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
        self._purges = Purges()
        self._uncertain: dict[str, int] = {}  # key -> superseded operations going on

    # -- tickets -----------------------------------------------------------------------------------

    def open_ticket(self) -> int:
        """A ticket for values read from now on. Each one must be closed."""
        leavings.settle()
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
        if exception() is not None and leavings.take(self.close_ticket, ticket):
            return
        with self._lock:
            left = self._tickets.get(ticket, 0) - 1
            if left > 0:
                self._tickets[ticket] = left
                return
            self._tickets.pop(ticket, None)  # absent: a fork came between, or the floor was raised
            if not self._tickets:
                self._forget_notes()

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

    def begin_fill(
        self, ticket: int, keys: Iterable[str], runtime: Runtime, owner: Owner | None = None
    ) -> Operation:
        """Start a fill of those ``keys`` for which ``ticket`` is still good: the operation's ``keys``.

        It must be ended, also when it has no keys left; it is over without, when its ``owner`` is gone.
        """
        leavings.settle()
        with self._lock:
            if self._clearing is not None and self._clearing.was_left:
                self._clear_going_on()  # perhaps with all of it cleared
            if self._floor > ticket or self._clear_going_on() is not None:
                return Operation((), blocking=runtime.blocking)
            written, writing = self._written, self._writing
            keys = list(keys)
            left = [writing[key] for key in keys if key in writing and writing[key].was_left]
            for write in left:  # perhaps with all of it written
                self._note(written, write.keys)
                self._bury(write, write.keys)
            if left and self._floor > ticket:
                return Operation((), blocking=runtime.blocking)
            good = [
                key
                for key in keys
                if written.get(key, 0) <= ticket
                and (key not in writing or writing[key].is_over)
                and key not in self._uncertain
            ]
            fill = Operation(good, blocking=runtime.blocking, owner=owner)
            for key in good:
                self._add_fill(key, fill)
            return fill

    def end_fill(self, fill: Operation, *, stored: bool = False) -> None:
        """The fill is over. ``stored``: its values came from a loader."""
        if leavings.take(self.end_fill, fill, stored=stored):
            return
        with self._lock:
            if stored:
                self._note(self._stored, fill.keys)
            if not fill.thrown_away:
                self._forget(fill, fill.keys, fill.superseded)
        self._finish(fill)

    def fill_at_once(
        self, ticket: int, key: str, write: Callable[[Any], bool], given: Any, *, stored: bool
    ) -> bool:
        """All of a fill under the lock, as `at_once` is of a write; ``stored`` as in `end_fill`. False if
        ``write`` said so, or without a call where ``ticket`` is not good for ``key``, or others are at it:
        then `begin_fill`."""
        with self._lock:
            if (
                self._floor > ticket
                or self._written.get(key, 0) > ticket
                or key in self._writing
                or key in self._filling
                or key in self._uncertain
                or self._clearing is not None
                or self._purges.noted
            ):
                return False
            if stored and (len(self._tickets) > 1 or self._tickets.get(ticket, 1) > 1):  # for those of others
                self._note(self._stored, (key,))
            return write(given)

    def purged_until(self, ticket: int) -> float:
        """A fill that has begun with ``ticket`` leaves out what was written until then (Unix seconds)."""
        purges = self._purges
        if not purges.noted:  # one that begins from now on waits for that fill
            return -inf
        with self._lock:
            for purge in [one for one in purges.noted if one.is_over and purges.is_going_on(one)]:
                self._end_purge(purge)
            return purges.until(ticket)

    def overtaken(self, ticket: int, fill: Operation) -> list[str]:
        """Those keys of ``fill`` that a loader stored since ``ticket`` was opened, or that others fill too
        just now."""
        with self._lock:
            return [
                key
                for key in fill.keys
                if self._stored.get(key, 0) > ticket
                or self._floor > ticket
                or any(other is not fill for other in self._filling.get(key, ()))
            ]

    # -- writes ------------------------------------------------------------------------------------

    async def begin_write(
        self, keys: Collection[str], runtime: Runtime, owner: Owner | None = None
    ) -> Operation:
        """Become the only writer of ``keys``, waiting for what is going on with them.

        Its ``keys`` are those that no operation which this one works for has taken already. The write must
        be ended; it is over without, when its ``owner`` is gone.
        """
        leavings.settle()
        held = works_for()
        while True:
            with self._lock:
                free = self._free(keys, held) if held else keys
                others = self._others(free) if free else []
                if others:
                    waiting = waiting_with(runtime, held)
                    waits = self._to_wait_for(others, waiting, held, free)
                if not others or not waits:
                    write = Operation(free, blocking=runtime.blocking, owner=owner)
                    self._writing.update(dict.fromkeys(free, write))
                    return write
            await ended(runtime, waiting, waits)

    def at_once(self, key: str, write: Callable[[Any], bool], given: Any) -> bool:
        """Call ``write(given)``, which never waits, as the only writer of ``key``: all of a write under the
        lock, so that nobody ever sees it going on. False if it said so, or without a call where others are at
        the key: then `begin_write`."""
        leavings.settle()
        with self._lock:
            if key in self._writing or key in self._filling or self._clearing is not None:
                return False
            # Noted first, for an interrupt may come between; until the lock is given back nobody can tell.
            self._serial += 1
            if self._tickets:
                self._note(self._written, (key,))
            return write(given)

    def end_write(self, write: Operation) -> None:
        """The write is over: fills with older tickets are suppressed from now on."""
        if leavings.take(self.end_write, write):
            return
        with self._lock:
            self._note(self._written, write.keys)
            for key in write.keys:
                if self._writing.get(key) is write:
                    del self._writing[key]
            if not write.thrown_away:
                self._forget(write, write.superseded, write.superseded)
        self._finish(write)

    def give_up(self, write: Operation) -> None:
        """The write was interrupted: as if all of it had been superseded."""
        if leavings.take(self.give_up, write):
            return
        with self._lock:
            self._supersede(write, write.keys)

    def throw_away(self, operation: Operation) -> None:
        """The fill or write was left in the middle, and nobody can clean up after it: what is superseded of
        it stays uncertain until it is written."""
        operation.thrown_away = True
        if leavings.take(self.throw_away, operation):
            return
        with self._lock:
            self._bury(operation, set(operation.keys) - operation.superseded)

    async def begin_clear(self, runtime: Runtime, owner: Owner | None = None) -> Operation:
        """Become the only writer of the namespace; see `begin_write`.

        Nothing begins once this clear has announced itself, so that what is going on comes to an end:
        to wait for a moment without any write could take for ever.
        """
        leavings.settle()
        clear = Operation((), blocking=runtime.blocking, owner=owner)
        held = works_for()
        while True:
            waiting = waiting_with(runtime, (*held, clear))
            with self._lock:
                going_on = self._clear_going_on()
                waits = self._to_wait_for([] if going_on is None else [going_on], waiting, held)
                if not waits:
                    if going_on is None or going_on not in held:
                        self._clearing = clear
                    going = {id(op): op for op in self._writing.values()}
                    going |= {id(op): op for ops in self._filling.values() for op in ops}
                    living = self._living(going.values())
                    waits = self._to_wait_for(living, waiting, held)
                    break
            await ended(runtime, waiting, waits)
        try:
            await ended(runtime, waiting, waits)
        except BaseException as error:
            thrown(error)
            self.end_clear(clear)
            raise
        return clear

    def end_clear(self, clear: Operation) -> None:
        """The clear is over: every fill with an older ticket is suppressed from now on."""
        if leavings.take(self.end_clear, clear):
            return
        with self._lock:
            self._raise_floor()
            if self._clearing is clear:
                self._clearing = None
        self._finish(clear)

    async def begin_purge(self, until: float, runtime: Runtime, owner: Owner | None = None) -> Operation:
        """Let no fill store what was written ``until`` then (Unix seconds), and wait for those that are going
        on. The purge must be ended; it is over without, when its ``owner`` is gone."""
        leavings.settle()
        purge = Operation((), blocking=runtime.blocking, owner=owner)
        held = works_for()
        waiting = waiting_with(runtime, held)
        with self._lock:
            self._purges.begin(purge, until)
            fills = {id(op): op for ops in self._filling.values() for op in ops}
            waits = self._to_wait_for(self._living(fills.values()), waiting, held)
        try:
            await ended(runtime, waiting, waits)
        except BaseException as error:
            thrown(error)
            self.end_purge(purge)
            raise
        return purge

    def end_purge(self, purge: Operation) -> None:
        """The purge is over: what is read from now on may be as old as it is."""
        if leavings.take(self.end_purge, purge):
            return
        with self._lock:
            if self._purges.is_going_on(purge):  # else somebody found it left
                self._end_purge(purge)

    # -- with the lock held ------------------------------------------------------------------------

    def _others(self, keys: Collection[str]) -> list[Operation]:
        if not self._writing and not self._filling and self._clearing is None:
            return []
        found: dict[int, Operation] = {}
        for key in keys:
            if (write := self._writing.get(key)) is not None:
                found[id(write)] = write
            for fill in self._filling.get(key, ()):
                found[id(fill)] = fill
        others = self._living(found.values(), keys) if found else []
        clear = self._clear_going_on()
        return others if clear is None else [*others, clear]

    def _clear_going_on(self) -> Operation | None:
        clear = self._clearing
        if clear is not None and clear.is_over:
            self._raise_floor()
            clear = self._clearing = None
        return clear

    def _living(
        self, operations: Iterable[Operation], keys: Collection[str] | None = None
    ) -> list[Operation]:
        """Those of ``operations`` that will come to an end. What the others have of ``keys`` (``None``: all)
        is free."""
        living = []
        for operation in operations:
            if operation.is_over:
                self._bury(operation, operation.keys if keys is None else keys)
            else:
                living.append(operation)
        return living

    def _bury(self, operation: Operation, keys: Collection[str]) -> None:
        """Take ``keys`` from an ``operation`` that will never end. What it did to others stays as it is until
        these are written: as after a crash, nobody can tell how far it had come."""
        taken = set(operation.keys).intersection(keys)
        for key in taken:
            if self._writing.get(key) is operation:
                del self._writing[key]
        self._forget(operation, taken, operation.superseded & taken)
        operation.superseded -= taken
        # If its coroutine is thrown away after all, it is to leave these alone.
        operation.keys = [key for key in operation.keys if key not in taken]

    def _free(self, keys: Collection[str], held: tuple[Operation, ...]) -> Collection[str]:
        """Those of ``keys`` that none of the operations ``held`` has taken."""
        return [
            key
            for key in keys
            if self._writing.get(key) not in held
            and not any(fill in held for fill in self._filling.get(key, ()))
        ]

    def _to_wait_for(
        self,
        others: Iterable[Operation],
        waiting: Waiting,
        held: Collection[Operation],
        keys: Collection[str] | None = None,
    ) -> Ends:
        """What a write of ``keys`` (``None``: of all) has to wait for. ``held``: what it works for."""
        wanted: list[Operation] = []
        with rings.lock:
            for other in others:
                if other in held:
                    continue
                if waiting.is_part_of(other) or waiting.holds_up(other):
                    self._supersede(other, other.keys if keys is None else keys)
                else:
                    wanted.append(other)
            waiting.begin(wanted)
            return [(other, other.finished()) for other in wanted]

    def _supersede(self, other: Operation, keys: Collection[str]) -> None:
        overtaken = set(other.keys).intersection(keys) - other.superseded
        other.superseded |= overtaken
        for key in overtaken:
            self._uncertain[key] = self._uncertain.get(key, 0) + 1
            if self._writing.get(key) is other:  # its place goes to the new write; others still wait for it
                del self._writing[key]
                self._add_fill(key, other)

    def _forget(self, operation: Operation, filling: Collection[str], superseded: Collection[str]) -> None:
        for key in filling:
            fills = self._filling.get(key)
            if fills is not None and operation in fills:
                if len(fills) == 1:  # in one step, so that an interrupt leaves no empty list
                    del self._filling[key]
                else:
                    fills.remove(operation)
        for key in superseded:
            left = self._uncertain.get(key, 0) - 1
            if left > 0:
                self._uncertain[key] = left
            else:
                self._uncertain.pop(key, None)

    def _add_fill(self, key: str, fill: Operation) -> None:
        if key in self._filling:
            self._filling[key].append(fill)
        else:
            self._filling[key] = [fill]

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

    def _end_purge(self, purge: Operation) -> None:
        self._serial += 1
        self._purges.end(purge, self._serial)
        if not self._tickets:
            self._purges.forget()

    def _raise_floor(self) -> None:
        self._serial += 1
        self._floor = self._serial
        self._tickets.clear()  # good for nothing now; an interrupt may have kept one from being closed
        self._forget_notes()

    def _forget_notes(self) -> None:
        self._written.clear()
        self._stored.clear()
        if self._purges.noted:
            self._purges.forget()

    def _finish(self, operation: Operation) -> None:
        with self._lock:
            done = operation.done
        if done is not None:
            done.set_result(None)
