"""Views of the tier under test: every case is written once, for blocking calls, and run through each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tiercache.entry import Entry
from tiercache.protocols import Purge, Size

__all__ = ["View", "listing"]


class View:
    """The tier's own methods, called as they are (``how="blocking"``) or as its async twins, each on an
    event loop of the calling thread (``how="asynchronous"``)."""

    def __init__(self, tier: Any, how: str) -> None:
        self.tier = tier
        self._prefix = "a" if how == "asynchronous" else ""
        self._local = threading.local()

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        found: dict[str, Entry[Any]] = self._call("mget", keys)
        return found

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        self._call("mset", entries)

    def mdelete(self, keys: Sequence[str]) -> None:
        self._call("mdelete", keys)

    def scan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        page: tuple[list[str], Any] = self._call("scan", prefix, skip=skip, cursor=cursor, limit=limit)
        return page

    def clear(self, prefix: str, *, skip: str = "") -> None:
        self._call("clear", prefix, skip=skip)

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        dropped: int = self._call("purge", prefix, skip=skip, what=what)
        return dropped

    def acquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        taken: list[str] = self._call("acquire", keys, token, seconds)
        return taken

    def release(self, keys: Sequence[str], token: str) -> None:
        self._call("release", keys, token)

    def size(self) -> Size:
        size: Size = self.tier.size()
        return size

    def counters(self) -> Mapping[str, int]:
        counters: Mapping[str, int] = self.tier.counters()
        return counters

    def close(self) -> None:
        self._call("close")

    def leave(self) -> None:
        """End the calling thread's event loop, where it has one."""
        runner = self._local.__dict__.pop("runner", None)
        if runner is not None:
            runner.close()

    def dispose(self) -> None:
        """Close the tier for good, whatever a case left of it; called in the thread that made it."""
        try:
            if hasattr(self.tier, "aclose"):
                self.run(self.tier.aclose())
            if hasattr(self.tier, "close"):
                self.tier.close()
        finally:
            self.leave()

    def _call(self, verb: str, *args: Any, **options: Any) -> Any:
        # A capability's async twin is optional: what a tier answers without I/O needs none.
        twin = getattr(self.tier, self._prefix + verb, None) if self._prefix else None
        if twin is None:
            return getattr(self.tier, verb)(*args, **options)
        return self.run(twin(*args, **options))

    def run(self, coroutine: Any) -> Any:
        """Run ``coroutine`` on the calling thread's event loop, which stays open until `leave`."""
        if not hasattr(self._local, "runner"):
            self._local.runner = asyncio.Runner()
        return self._local.runner.run(coroutine)


def listing(view: View, prefix: str = "", *, skip: str = "", limit: int = 1000) -> list[str]:
    """Every key that a whole scan names, in its order, repetitions included."""
    names: list[str] = []
    cursor: Any = None
    for _page in range(10_000):
        page, cursor = view.scan(prefix, skip=skip, cursor=cursor, limit=limit)
        names += page
        if cursor is None:
            return names
    raise AssertionError("scan: after 10,000 pages the cursor is still not None; a listing has to end")
