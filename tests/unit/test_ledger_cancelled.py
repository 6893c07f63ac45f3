"""A value that was paid for is not lost to a caller who is cancelled while the ledger notes it."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal

import pytest
from ledgers import PRICES, paid_load
from races import assert_at_rest
from waiting import LIMIT, auntil

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.loading import batched


@pytest.mark.parametrize("options", [{}, {"batch_window": "10ms"}, {"concurrency": 1}], ids=str)
def test_it_is_kept_and_given_to_who_waits_and_nobody_loads_it_again(tmp_path, options):
    tier, calls = DiskTier(tmp_path / "d", deadline=LIMIT), []
    posting, go = threading.Event(), threading.Event()
    post = tier.post

    def slow_post(deposit):
        posting.set()
        assert go.wait(LIMIT / 4)
        post(deposit)

    tier.post = slow_post

    async def load(keys):
        calls.append(keys)
        return [paid_load(key) for key in keys]

    async def scenario(cache):
        asking = asyncio.ensure_future(cache.aget_or_load("key", batched(load)))
        await auntil(posting.is_set)
        asking.cancel()
        joined = asyncio.ensure_future(cache.aget_or_load("key", batched(load)))
        await asyncio.sleep(0)
        go.set()
        await asyncio.wait([asking])
        assert asking.cancelled()
        assert await joined == b"key"
        await cache.aflush()
        assert await cache.aget("key") == b"key"

    with TieredCache([MemoryTier(), tier], prices=PRICES, model="m", budget=1, **options) as cache:
        asyncio.run(asyncio.wait_for(scenario(cache), LIMIT))
        total = cache.ledger().total
        assert calls == [["key"]]
        assert (total.calls, total.failed, total.texts, total.money_spent) == (1, 0, 1, Decimal("0.0002"))
        assert not cache._stack.books.spending._under_way
        assert cache.stats().loads == 1
        assert_at_rest(cache._core)
