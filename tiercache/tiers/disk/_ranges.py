"""Ranges of a disk tier's keys, listed, cleared and purged page by page: what begins with a prefix.

Tags are in the order of their bytes, so a prefix is a range of them (see `ranges`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tiercache.errors import TierFull
from tiercache.protocols import Clock, Purge
from tiercache.tiers.disk._fences import next_serial, note_clear, note_purge
from tiercache.tiers.disk._statements import (
    SCAN,
    STEP,
    clear_some,
    condition,
    drop_some,
    key_of,
    look_at_some,
    ranges,
)
from tiercache.tiers.disk._upkeep import Upkeep

__all__ = ["RangeMethods"]


class RangeMethods:
    """Part of `DiskStore`; see `SupportsScan`, `SupportsClear` and `SupportsPurge`."""

    _clock: Clock
    _deadline: float
    _read_only: bool
    _upkeep: Upkeep
    _run: Callable[..., Any]
    _write: Callable[..., Any]
    _write_uses: Callable[..., None]
    _count: Callable[..., None]

    def scan(
        self, prefix: str, *, skip: str = "", cursor: bytes | None = None, limit: int = 1000
    ) -> tuple[list[str], bytes | None]:
        """See `SupportsScan.scan`. Keys come in the order of their UTF-8 bytes; costs O(range)."""
        now = self._clock.time()

        def page(connection: sqlite3.Connection) -> list[bytes]:
            tags: list[bytes] = []
            for low, high in ranges(prefix, skip):
                start = low if cursor is None else max(low, cursor)
                if start < high and len(tags) < limit:
                    rows = connection.execute(SCAN, (start, high, now, limit - len(tags)))
                    tags += [tag for (tag,) in rows if type(tag) is bytes]  # or damaged
            return tags

        tags = self._run(page)
        # A damaged index may not be in order: then rather half a listing than one without an end.
        more = len(tags) >= limit and (cursor is None or tags[-1] >= cursor)
        following = tags[-1] + b"\0" if more else None
        return [key for key in map(key_of, tags) if key is not None], following

    def clear(self, prefix: str, *, skip: str = "", everywhere: bool = False) -> None:
        """See `SupportsClear.clear` and `SupportsJournal`. Costs O(range), in bounded transactions."""
        now = self._clock.time()

        def step(connection: sqlite3.Connection, limit: int, low: bytes, high: bytes) -> int:
            note_clear(connection, next_serial(connection, now), low, high, now if everywhere else None)
            return clear_some(connection, low, high, limit)

        for low, high in ranges(prefix, skip):
            at_once = STEP
            while True:
                try:
                    if self._write(partial(step, low=low, high=high, limit=at_once)) < at_once:
                        break
                except TierFull:
                    if at_once == 1:
                        raise
                    at_once //= 10
        self._upkeep.within(0)

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        """See `SupportsPurge.purge`. Costs O(range), in bounded transactions."""
        now = self._clock.time()
        doomed, values = condition(what, now)
        if not doomed:
            return 0
        if what.older_than is not None and not self._read_only:
            until = now - what.older_than
            self._write(lambda connection: note_purge(connection, next_serial(connection, now), until))
        if what.idle is not None:
            self._write_uses(seconds=self._deadline)
        dropped = 0
        for low, high in ranges(prefix, skip):
            start: bytes | None = low
            while start is not None:
                count, start = self._purge_page(start, high, doomed, values)
                dropped += count
        if dropped:
            self._upkeep.within(0)
        return dropped

    def _purge_page(
        self, start: bytes, high: bytes, doomed: str, values: Mapping[str, Any]
    ) -> tuple[int, bytes | None]:
        """Purge among the next rows of a range; how many went, and where the next page begins."""
        span = {**values, "start": start, "high": high, "limit": STEP}
        page = self._run(lambda connection: look_at_some(connection, doomed, span))
        following = page[-1][1] + b"\0" if len(page) == STEP else None
        rowids = [rowid for rowid, _, goes in page if goes]
        if not rowids:
            return 0, following
        chosen = {**values, "rowids": f"[{','.join(map(str, rowids))}]"}
        expired, dropped = self._write(lambda connection: drop_some(connection, doomed, chosen))
        self._count(expirations=expired)
        return dropped, following
