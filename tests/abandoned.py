"""Calls whose caller goes away: cancelled while its loader runs, or thrown away while it looks up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from waiting import GatedLoader, auntil

from tiercache import TieredCache
from tiercache.testing import AsyncDictTier

__all__ = ["Never", "begun", "cancel_async_load", "cancel_plain_load"]


class Never(AsyncDictTier):
    """A look-up of it does not end."""

    async def amget(self, keys: Any) -> Any:
        await asyncio.Event().wait()


def begun(cache: TieredCache[Any]) -> Coroutine[Any, Any, Any]:
    """A look-up that waits for `Never`, on a loop that is no more."""
    coroutine = cache.aget("a")

    async def begin() -> None:
        coroutine.send(None)

    asyncio.run(begin())
    return coroutine


async def cancel_async_load(cache: TieredCache[Any]) -> None:
    """The caller of an async loader is cancelled while that runs."""
    began = asyncio.Event()

    async def load(_key: str) -> bytes:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(cache.aget_or_load("a", load))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancel_plain_load(cache: TieredCache[Any], load: GatedLoader, left: Callable[[], object]) -> None:
    """The same of a plain loader, which runs on in a thread: ``left`` is called then, and it may end."""
    task = asyncio.create_task(cache.aget_or_load("a", load))
    await auntil(load.entered.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left()
    load.go.set()
    await cache.aflush()
