"""The promoter: copies hits into lower tiers behind the caller, one worker thread a root chain.

What it has not done yet is bounded, and may be lost: a promotion is only ever a copy.

It lingers a few milliseconds before it begins. Without that it would run beside the very caller whose hits
it copies, and have the interpreter's lock when that one wants it: a caller who looks for one key after the
other would wait longer for the promoter than for the tiers. And the hits that came meanwhile are one
transaction of the disk tier, which takes as long for one entry as for ten.
"""

from __future__ import annotations

from typing import Final

from tiercache._running.queue import WorkQueue

__all__ = ["Promoter"]

_LINGER: Final = 0.01  # seconds


class Promoter(WorkQueue):
    """The queue of one root chain's promotions. Thread-safe."""

    def __init__(self) -> None:
        super().__init__("promotion", threads=1, max_entries=16_384, max_bytes=64 * 2**20, linger=_LINGER)
