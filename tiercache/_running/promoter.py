"""The promoter: copies hits into lower tiers behind the caller, one worker thread a root chain.

What it has not done yet is bounded, and may be lost: a promotion is only ever a copy.
"""

from __future__ import annotations

from tiercache._running.queue import WorkQueue

__all__ = ["Promoter"]


class Promoter(WorkQueue):
    """The queue of one root chain's promotions. Thread-safe."""

    def __init__(self) -> None:
        super().__init__("promotion", threads=1, max_entries=16_384, max_bytes=64 * 2**20)
