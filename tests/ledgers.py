"""Ledgers in tests: prices that are easy to add up, a cache that pays them, a loader that says what it took,
and tiers that fail to keep a ledger, or to read it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from waiting import LIMIT

from tiercache import MemoryTier, TieredCache, TierUnavailable, TokenUsage, report_usage
from tiercache.accounts import Deposit
from tiercache.spending import ModelPrice, Prices

__all__ = ["PRICES", "FailingPost", "gated_ledger", "paid_load", "paying", "totals"]

#: A million tokens in cost one, out ten.
PRICES = Prices({"m": ModelPrice(input=Decimal(1), output=Decimal(10))}, "EUR")


def paid_load(key: str) -> bytes:
    """Takes 100 tokens in and 10 out: 0.0002 of the currency."""
    report_usage(TokenUsage(100, 10))
    return key.encode()


def paying(*tiers: Any, **options: Any) -> TieredCache[bytes]:
    """A cache over memory and ``tiers`` that pays for calls."""
    options = {"namespace": "n4me", "prices": PRICES, "model": "m", **options}
    return TieredCache([MemoryTier(), *tiers], **options)


def gated_ledger(tier: Any) -> threading.Event:
    """Have ``tier`` tell what was posted only while the event is set, as it is at first."""
    go, posted = threading.Event(), tier.posted
    go.set()

    def gated(since: str) -> Any:
        assert go.wait(LIMIT)
        return posted(since)

    tier.posted = gated
    return go


class FailingPost:
    """The ``post`` of ``tier`` as its server might do it: each of ``faults`` is for one call. ``"before"``:
    it fails and does nothing; ``"after"``: what fails is the answer; ``"skipped"``: it was not even asked."""

    def __init__(self, tier: Any) -> None:
        self._post: Callable[[Deposit], None] = tier.post
        self.faults: list[str] = []
        self.calls = 0
        tier.post = self

    def __call__(self, deposit: Deposit) -> None:
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault not in ("before", "skipped"):
            self._post(deposit)
        if fault:
            error = TierUnavailable("as the test wants it")
            error.skipped = fault == "skipped"
            raise error


def totals(cache: Any) -> tuple[int, int, int, int, Decimal]:
    """Calls, failed ones, texts, texts served, and money spent."""
    total = cache.ledger().total
    return total.calls, total.failed, total.texts, total.served, total.money_spent
