"""What an integration did not keep, or could not read, without failing its caller: counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tiercache.errors import CacheClosed, TierCacheError
from tiercache.forks import reset_after_fork

__all__ = ["LossCounter", "Losses"]


@dataclass(frozen=True, slots=True)
class Losses:
    """Entries that the caller was not told of. ``unstorable``: values that have no form as bytes;
    ``unwritten``: that no tier took; ``unreadable``: stored, and not readable to this version."""

    unstorable: int = 0
    unwritten: int = 0
    unreadable: int = 0


class LossCounter:
    """The running `Losses`. Thread-safe; a forked child keeps them."""

    def __init__(self) -> None:
        self._losses = Losses()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock: another thread may have held the old one."""
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[LossCounter], tuple[()]]:
        """What is unpickled counts anew: its losses are those of the process that it is in."""
        return LossCounter, ()

    def add(self, *, unstorable: int = 0, unwritten: int = 0, unreadable: int = 0) -> None:
        """Count more of them."""
        with self._lock:
            losses = self._losses
            self._losses = replace(
                losses,
                unstorable=losses.unstorable + unstorable,
                unwritten=losses.unwritten + unwritten,
                unreadable=losses.unreadable + unreadable,
            )

    @contextmanager
    def instead_of_raising(self, entries: int) -> Iterator[None]:
        """Count ``entries`` that were not written, instead of raising one of our errors; but a closed cache
        is a mistake in the program, and told."""
        try:
            yield
        except CacheClosed:
            raise
        except TierCacheError:
            self.add(unwritten=entries)

    def snapshot(self) -> Losses:
        """The counts as they are now."""
        return self._losses
