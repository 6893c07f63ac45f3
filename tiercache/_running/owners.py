"""What becomes of operations and flights that nobody ends, since the coroutine they belong to is no more.

An interrupt can come between any two steps, also between noting that something begins and the ``try`` that
would end it, or within its ``finally``. So what others wait for knows its `Owner`; when that is gone, it is
over, and whoever comes next takes it away.

A coroutine may also be thrown away by the garbage collector, in whatever this thread is at: it may hold the
very lock that the clean-up needs, or one that another thread wants which holds it. So clean-ups touch no lock
then, and are `leavings` for who comes next. Every coroutine that cleans up says so itself, of the
``GeneratorExit`` that it met (`thrown`): that there is one does not mean that it is ours. A generator of the
caller's that is closed may well call us in its ``finally``, and what it begins there ends at once.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from types import CoroutineType
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import ref

from tiercache.forks import reset_after_fork

__all__ = ["Owner", "leavings", "owned", "thrown"]

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

#: Noted in a ``GeneratorExit``. Each coroutine is given one of its own, also where one awaits the other.
_OURS = "_tiercache_throws_away"


class Owner:
    """A coroutine that something belongs to. It is known by itself, weakly, and not by something that its
    frame holds: a traceback that somebody keeps holds the frame too."""

    __slots__ = ("_coroutine",)

    def own(self, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """It is ``coroutine``."""
        self._coroutine = ref(coroutine)
        return coroutine

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, in whatever way."""
        coroutine = self._coroutine()
        return coroutine is None or (isinstance(coroutine, CoroutineType) and coroutine.cr_frame is None)


def owned(
    method: Callable[Concatenate[S, Owner, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Decorates a coroutine method that gets its own `Owner` as the first argument."""

    @wraps(method)
    def call(self: S, /, *args: P.args, **options: P.kwargs) -> Coroutine[Any, Any, T]:
        owner = Owner()
        return owner.own(method(self, owner, *args, **options))

    return call


class _Leavings:
    """Clean-ups of coroutines that were thrown away, in their order."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._jobs: deque[Callable[[], object]] = deque()

    def take(self, job: Callable[..., object], *args: Any, **options: Any) -> bool:
        """Keep ``job`` for later, if the coroutine that calls is being `thrown` away; whether it is."""
        if sys.exception() is None or not _throwing_away():
            return False
        self._jobs.append(partial(job, *args, **options))
        return True

    def settle(self) -> None:
        """Do what was left; call it without a lock."""
        if not self._jobs or _throwing_away():
            return
        while self._jobs:
            try:
                job = self._jobs.popleft()
            except IndexError:  # another thread was quicker
                return
            job()


leavings = _Leavings()


def thrown(error: BaseException) -> None:
    """A coroutine of ours has met ``error``, and cleans up next: if it is being thrown away, that is left for
    later."""
    if isinstance(error, GeneratorExit):
        vars(error)[_OURS] = True


def _throwing_away() -> bool:
    error = sys.exception()  # that of the caller, too, where he calls us while he handles one
    return isinstance(error, GeneratorExit) and _OURS in vars(error)
