"""The ledger of a chain whose tiers are chains is kept in the lowest tier that can, wherever that is."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from ledgers import PRICES, paid_load

from tiercache import Budget, BudgetExceeded, DiskTier, MemoryTier, TieredCache

COST = Decimal("0.0002")  # of a `paid_load`


def chain(folder, **options):
    inner = TieredCache([MemoryTier(), DiskTier(folder)], namespace="inner")
    middle = TieredCache([inner.as_tier()], namespace="middle")
    return TieredCache(
        [MemoryTier(), middle.as_tier()], namespace="outer", prices=PRICES, model="m", **options
    )


def test_it_is_kept_where_it_outlives_the_process(tmp_path):
    with chain(tmp_path / "d") as cache:
        cache.get_or_load("a", paid_load)
        cache.get("a")
    with chain(tmp_path / "d", budget=Budget(2 * COST)) as cache:
        assert cache._stack.books.place.name == "chain"

        async def load():
            await cache.aget_or_load("b", paid_load)
            with pytest.raises(BudgetExceeded):
                await cache.aget_or_load("c", paid_load)
            return await cache.aledger()

        total = asyncio.run(load()).total
        assert (total.calls, total.served, total.money_spent) == (2, 1, 2 * COST)
        assert cache.ledger().total == total
