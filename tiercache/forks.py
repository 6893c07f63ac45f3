"""What belongs to one process. A forked child must forget it: locks that another thread held, threads that no
longer exist. It is not pickled either."""

from __future__ import annotations

import os
import weakref
from typing import NoReturn, Protocol

__all__ = ["Forkable", "not_pickled", "reset_after_fork"]


class Forkable(Protocol):
    """Has state that a forked child cannot use."""

    def after_fork(self) -> None:
        """Called in the child, in its only thread, before any other code: make new locks, drop threads
        and connections (without closing what the parent still uses). Must not raise and not block."""
        ...


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def reset_after_fork(item: Forkable) -> None:
    """Have ``item.after_fork()`` called in every child forked from now on, as long as ``item`` lives."""
    _forkables.add(item)


def not_pickled(item: object) -> NoReturn:
    """``__reduce__`` of a class that holds connections, locks or threads. Raises `TypeError`."""
    raise TypeError(
        f"a {type(item).__name__} cannot be pickled or copied: it holds connections, locks or threads. Make "
        "it in each process, or pickle a cache that was made by TieredCache.from_config(...)"
    )


def _reset() -> None:
    for item in list(_forkables):
        item.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_reset)
