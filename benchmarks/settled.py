"""Waits for what tiercache does behind its callers, so that it ends within the turn that it belongs to: what
`Contest.add` takes as ``settle``.

Promotions, and a disk's upkeep: its log brought home and pages given back. Not the times of last uses, which
are written a minute after a read: most contests are over by then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from threading import Thread
from time import monotonic, sleep
from types import FrameType
from typing import Any

from tiercache import DiskTier, TieredCache

__all__ = ["settled"]

#: What is due later than in so many seconds is not waited for.
_SOON = 1.0
#: And how long anything is waited for, before something must be wrong.
_PATIENCE = 60.0


def settled(cache: TieredCache[Any] | None, *tiers: object) -> Callable[[], None]:
    """Waits until ``cache`` and those of its ``tiers`` that are disks have nothing to do."""
    disks = [tier for tier in tiers if isinstance(tier, DiskTier)]

    def settle() -> None:
        if cache is not None:
            cache.flush()
        for disk in disks:
            end = monotonic() + _PATIENCE
            while _at_work(disk):
                assert monotonic() < end, "the upkeep of a disk does not end"
                sleep(0.0002)

    return settle


def _at_work(disk: DiskTier) -> bool:
    """Whether a step of its upkeep runs or is due soon. It has no call to ask that: users need none."""
    upkeep = disk.store._upkeep  # noqa: SLF001 - as said
    thread: Thread | None = upkeep._thread  # noqa: SLF001 - as said
    if thread is None:
        return False
    due: float | None = upkeep._due  # noqa: SLF001 - as said
    if due is None or due < monotonic() + _SOON:
        return True
    # A step may run while the next one is a minute ahead.
    return any(frame.f_code.co_name == "_keep_up" for frame in _frames(thread))


def _frames(thread: Thread) -> Iterator[FrameType]:
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented, for its underscore
    while frame is not None:
        yield frame
        frame = frame.f_back
