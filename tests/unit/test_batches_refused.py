"""A batch that the provider refuses as a whole is asked for apart: what becomes of one of these calls."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal

from ledgers import PRICES, paid_load
from races import assert_at_rest
from waiting import LIMIT, auntil

from tiercache import MemoryTier, TieredCache
from tiercache.loading import batched


class BadRequestError(Exception):
    status_code = 400


def test_what_a_caller_who_is_cancelled_was_paid_for_is_kept_and_counted_once():
    """A plain loader runs on in its thread: it was called for the rest of the batch alone, and is not called
    once more for that."""
    calls, entered, go = [], threading.Event(), threading.Event()

    def load(keys):
        calls.append(sorted(keys))
        if len(keys) > 1:
            raise BadRequestError
        if keys == ["b"]:
            entered.set()
            assert go.wait(LIMIT)
        return [paid_load(key) for key in keys]

    async def scenario(cache):
        tasks = [asyncio.ensure_future(cache.aget_or_load(key, batched(load))) for key in "ab"]
        await auntil(entered.is_set)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert tasks[0].result() == b"a"
        assert tasks[1].cancelled()
        go.set()
        await cache.aflush()
        assert await cache.aget("b") == b"b"

    with TieredCache(
        [MemoryTier()], prices=PRICES, model="m", budget=1, batch_window="20s", max_batch=2
    ) as cache:
        asyncio.run(asyncio.wait_for(scenario(cache), LIMIT))
        total = cache.ledger().total
        assert sorted(calls) == [["a"], ["a", "b"], ["b"]]
        assert (total.calls, total.failed, total.money_spent) == (3, 1, Decimal("0.0004"))
        assert not cache._stack.books.spending._under_way
        assert_at_rest(cache._core)
