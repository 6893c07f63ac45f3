"""`RateLimiter`: has a chat model keep to the ``rate`` and the ``concurrency`` of the cache that its answers
come from.

LangChain asks it after the cache was asked in vain, in the same thread or task; so the look-up knows what the
model is about to be sent.
"""

from __future__ import annotations

from typing import Any

from langchain_core.rate_limiters import BaseRateLimiter

from tiercache._log import logger
from tiercache._running.bridge import BLOCKING, NATIVE, Runtime, drive
from tiercache._running.owners import thrown
from tiercache.chain import TieredCache
from tiercache.integrations.langchain._call_place import CallPlace
from tiercache.integrations.langchain._misses import Call, Misses, Run
from tiercache.integrations.langchain._paid import books_of

__all__ = ["RateLimiter"]


class RateLimiter(BaseRateLimiter):
    """See `LLMCache.rate_limiter`. ``view`` has the pace, ``misses`` the calls that are about to be made."""

    def __init__(self, view: TieredCache[Any], misses: Misses) -> None:
        self._view = view
        self._misses = misses
        self._has_told = False

    def __repr__(self) -> str:
        return f"RateLimiter({self._view!r})"

    def acquire(self, *, blocking: bool = True) -> bool:
        """Wait until a call of the model may begin, and take its place and its share of the rate.
        ``blocking=False``: do not wait; whether it may. Raises `BudgetExceeded`, and `CacheClosed`, also
        while it waits."""
        return drive(self._acquire(BLOCKING, blocking=blocking))

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """`acquire` for async code. Who is cancelled while waiting has taken nothing."""
        return await self._acquire(NATIVE, blocking=blocking)

    async def _acquire(self, runtime: Runtime, *, blocking: bool) -> bool:
        view = self._view
        view._check_open()  # noqa: SLF001 - of our own class, as all below
        call = self._misses.announced()
        run = None if view._manner.pace.gate is None else self._run(runtime)  # noqa: SLF001 - as above
        begins = False
        try:
            begins = await self._turn(runtime, call, run, blocking=blocking)
        except BaseException as error:
            thrown(error)
            if call is not None:
                call.over = True  # it is never made
            raise
        finally:
            if run is not None and not begins:
                run.leave()
                run.place = None
        if begins and call is not None:
            call.begin()
        return begins

    async def _turn(self, runtime: Runtime, call: Call | None, run: Run | None, *, blocking: bool) -> bool:
        """Wait, unless not to be ``blocking``, and take what ``call`` needs, in the order in which loads do;
        whether there was all of it."""
        stack, pace = self._view._stack, self._view._manner.pace  # noqa: SLF001 - of our own class
        rate, gate = pace.rate, pace.gate
        await self._check_budget(runtime)
        if gate is not None and run is not None:
            run.place = await CallPlace.take(runtime, gate, stack.closing, run.number, wait=blocking)
            if run.place is None:
                return False
            await self._check_budget(runtime)  # others may have spent what was left meanwhile
        if rate is not None:
            tokens = rate.tokens(call.texts()) if call is not None and rate.counts_tokens else 0
            if not blocking:
                return await rate.take_now(runtime, stack.clock, tokens)
            await rate.take(runtime, stack.clock, tokens, stack.closing)
            await self._check_budget(runtime)
        return True

    async def _check_budget(self, runtime: Runtime) -> None:
        books = books_of(self._view)
        if books is not None:
            await books.check(runtime)

    def _run(self, runtime: Runtime) -> Run | None:
        """What is to have a place. Without callbacks nobody would give it back."""
        run = self._misses.asking(blocking=runtime.blocking)
        if run is None and not self._has_told and not self._misses.hears():
            self._has_told = True
            logger().warning(
                "concurrency is not kept for calls of a chat model that has the cache's rate_limiter alone; "
                "give it callbacks=[llm_cache.callback_handler] too"
            )
        return run
