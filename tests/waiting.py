"""Waits that end, for a condition, at a gate, in threads: a deadlock fails a test, and does not hang it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

__all__ = ["LIMIT", "GatedLoader", "auntil", "pool", "until"]

#: Seconds after which a test has failed.
LIMIT = 20.0


def until(condition: Callable[[], object], what: str = "what the test waits for") -> None:
    """Poll ``condition()`` until it is true; fails, and names ``what``, when that takes too long."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"{what} took more than {LIMIT} s"
        time.sleep(0.001)


async def auntil(condition: Callable[[], object]) -> None:
    """The same, while the event loop goes on."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - what it looks at knows no event loop
            await asyncio.sleep(0.001)


@contextmanager
def pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads, which nobody waits for in the end."""
    made = ThreadPoolExecutor(threads)
    try:
        yield made
    finally:
        made.shutdown(wait=False, cancel_futures=True)


class GatedLoader:
    """A loader that has ``entered`` and waits until it is let ``go``, and counts its calls.

    It returns ``result``, or what that makes of the key, or raises it; `native` is for event loops.
    """

    def __init__(self, result: Any = b"loaded") -> None:
        self.calls: list[Any] = []
        self.entered = threading.Event()
        self.go = threading.Event()
        self.result = result

    def __call__(self, key: Any) -> Any:
        self.calls.append(key)
        self.entered.set()
        assert self.go.wait(LIMIT)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result(key) if callable(self.result) else self.result

    async def native(self, key: Any) -> Any:
        self.calls.append(key)
        self.entered.set()
        await auntil(self.go.is_set)  # it is set by other threads too
        return self.result
