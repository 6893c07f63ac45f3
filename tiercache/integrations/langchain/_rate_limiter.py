"""`RateLimiter`: has a chat model keep to the ``rate`` of the cache that its answers come from.

LangChain asks it after the cache was asked in vain, in the same thread or task; so the look-up knows what the
model is about to be sent.
"""

from __future__ import annotations

from typing import Any

from langchain_core.rate_limiters import BaseRateLimiter

from tiercache._running.bridge import BLOCKING, NATIVE, Runtime, drive
from tiercache.chain import TieredCache
from tiercache.integrations.langchain._misses import Misses
from tiercache.integrations.langchain._paid import books_of

__all__ = ["RateLimiter"]


class RateLimiter(BaseRateLimiter):
    """See `LLMCache.rate_limiter`. ``view`` has the rate, ``misses`` the calls that are about to be made."""

    def __init__(self, view: TieredCache[Any], misses: Misses) -> None:
        self._view = view
        self._misses = misses

    def __repr__(self) -> str:
        return f"RateLimiter({self._view!r})"

    def acquire(self, *, blocking: bool = True) -> bool:
        """Wait until a call of the model may begin, and take its share of the rate. ``blocking=False``: do
        not wait; whether it may. Raises `BudgetExceeded`, and `CacheClosed`, also while it waits."""
        return drive(self._acquire(BLOCKING, blocking=blocking))

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """`acquire` for async code. Who is cancelled while waiting has taken nothing."""
        return await self._acquire(NATIVE, blocking=blocking)

    async def _acquire(self, runtime: Runtime, *, blocking: bool) -> bool:
        view = self._view
        view._check_open()  # noqa: SLF001 - of our own class, as all below
        stack, rate, books = view._stack, view._manner.pace.rate, books_of(view)  # noqa: SLF001
        call = self._misses.announced()
        try:
            if books is not None:
                await books.check(runtime)
            if rate is not None:
                tokens = rate.tokens(call.texts()) if call is not None and rate.counts_tokens else 0
                if not blocking:
                    if not await rate.take_now(runtime, stack.clock, tokens):
                        return False
                else:
                    await rate.take(runtime, stack.clock, tokens, stack.closing)
                    if books is not None:  # others may have spent what was left meanwhile
                        await books.check(runtime)
        except BaseException:
            if call is not None:
                call.over = True  # it is never made
            raise
        if call is not None:
            call.begin()
        return True
