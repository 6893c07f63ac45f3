"""Interrupts blocking calls that overrun: the last resort of a tier's deadline.

A `Call` is one blocking call of a tier with its end. What the caller's own thread can bound (the time-outs
of a socket, of a pool, of a lock) gets what is left of it. What it cannot, a driver that waits in C or a
reply that drips in, is put under watch with `Call.watch`: when the time is over, a thread of this module
cuts it off, and the caller's thread goes on with an error.

There is one such thread a process, a daemon, started by the first watch. A call that ends in time costs two
short turns with a lock; the thread looks at it only if it is still under watch when its time is over. Around
a fork the thread is ended and begun again, so that a child is never forked from a second thread of ours.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Self

__all__ = ["Call", "Watch", "shut"]

#: What a step gets that begins when nothing is left: zero would mean "do not wait" or even "for ever".
_LEAST = 0.001


class Watch:
    """Something to be cut when its time is over. Made by `Call.watch` alone."""

    __slots__ = ("_cut", "_done", "until")

    def __init__(self, until: float, cut: Callable[[], None], done: Callable[[], None] | None) -> None:
        self.until = until
        self._cut = cut
        self._done = done

    def extend(self, until: float) -> None:
        """Move the end, monotonic seconds, to a later time."""
        with _dog.changed:
            self.until = until

    def end(self) -> bool:
        """Watch no longer. ``False`` if it was cut: it is of no use to anybody now. Once it is ended it is
        not cut any more; ending it again is harmless."""
        with _dog.changed:
            known = self in _dog.watches
            _dog.watches.discard(self)
        if known and self._done is not None:
            self._done()
        return known

    def over(self) -> None:
        """The thread's part, under its lock: the two others cannot come in between."""
        with suppress(Exception):  # already closed, or gone: then it has been cut
            self._cut()
        if self._done is not None:
            self._done()


class Call:
    """One blocking call in this thread, which ends at ``until`` (monotonic seconds).

    Used with ``with``; `current` then finds it, also from within a driver's own call-backs.
    """

    __slots__ = ("_outer", "until")

    def __init__(self, seconds: float) -> None:
        self.until = monotonic() + seconds
        self._outer: Call | None = None

    @staticmethod
    def current() -> Call | None:
        """The call that this thread is in."""
        return getattr(_here, "call", None)

    def __enter__(self) -> Self:
        self._outer = getattr(_here, "call", None)
        _here.call = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.call = self._outer

    def left(self) -> float:
        """Seconds that are left, above zero. Raises `TimeoutError` when there are none."""
        left = self.until - monotonic()
        if left <= 0:
            raise TimeoutError("the deadline is over")
        return left

    def over(self) -> bool:
        """Whether nothing is left."""
        return monotonic() >= self.until

    def at_most(self, seconds: float | None) -> float:
        """``seconds``, or what is left where that is less; above zero in any case."""
        left = max(_LEAST, self.until - monotonic())
        return left if seconds is None else min(seconds, left)

    def watch(self, what: int | Callable[[], None]) -> Watch:
        """Cut ``what`` when the time is over: a socket, by its file descriptor, is shut; a function is
        called (in another thread, with a lock held: it must neither block nor raise). End the watch."""
        if not isinstance(what, int):
            return _dog.begin(Watch(self.until, what, None))
        # A descriptor of our own for the same socket. The driver's may be closed at any moment, and its
        # number be another's by the time that the thread gets to it.
        own = os.dup(what)
        return _dog.begin(Watch(self.until, lambda: shut(own), lambda: os.close(own)))


def shut(descriptor: int) -> None:
    """End both directions of a socket, so that whoever waits for it wakes up; it stays open."""
    own = socket.socket(fileno=os.dup(descriptor))
    try:
        own.shutdown(socket.SHUT_RDWR)
    finally:
        own.close()


class _Watchdog:
    """All watches of the process, and the thread that looks after them."""

    changed: threading.Condition
    watches: set[Watch]
    _thread: threading.Thread | None
    _wakes: float

    def __init__(self) -> None:
        self.after_fork()

    def begin(self, watch: Watch) -> Watch:
        with self.changed:
            self.watches.add(watch)
            if self._thread is None:
                self._start()
            elif watch.until < self._wakes:  # else it looks early enough by itself
                self._wakes = watch.until
                self.changed.notify()
        return watch

    def before_fork(self) -> None:
        with self.changed:
            thread, self._thread = self._thread, None
            self.changed.notify()
        if thread is not None:
            thread.join()

    def after_fork_in_parent(self) -> None:
        with self.changed:
            if self.watches and self._thread is None:
                self._start()

    def after_fork(self) -> None:
        """A new beginning for the child: those calls are its parent's."""
        self.changed = threading.Condition(threading.Lock())
        self.watches = set()
        self._thread = None
        self._wakes = float("inf")

    def _start(self) -> None:
        self._wakes = float("-inf")  # it looks before it waits
        self._thread = threading.Thread(target=self._run, name="tiercache-watchdog", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        me = threading.current_thread()
        with self.changed:
            while self._thread is me:
                now = monotonic()
                for watch in [watch for watch in self.watches if watch.until <= now]:
                    self.watches.discard(watch)
                    watch.over()
                self._wakes = min((watch.until for watch in self.watches), default=float("inf"))
                self.changed.wait(None if self._wakes == float("inf") else self._wakes - now)


_here = threading.local()
_dog = _Watchdog()

if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=_dog.before_fork,
        after_in_parent=_dog.after_fork_in_parent,
        after_in_child=_dog.after_fork,
    )
