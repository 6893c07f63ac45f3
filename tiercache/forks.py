"""What a forked child must forget: locks that another thread held, threads that no longer exist."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Forkable", "reset_after_fork"]


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


def _reset() -> None:
    for item in list(_forkables):
        item.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_reset)
