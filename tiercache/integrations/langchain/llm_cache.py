"""`LLMCache`: answers of chat models and LLMs, kept in a chain of tiers behind ``set_llm_cache``."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.outputs import Generation

from tiercache._chain.view import TTL
from tiercache._ledgered import check_model
from tiercache._running.bridge import BLOCKING, NATIVE, Runtime, drive
from tiercache.chain import TieredCache
from tiercache.entry import UNSET
from tiercache.errors import CacheClosed, CodecError, ConfigError, TierCacheError
from tiercache.forks import reset_after_fork
from tiercache.integrations.langchain._failed_calls import FailedCalls
from tiercache.integrations.langchain._generations import AnswerCodec, from_record, to_record
from tiercache.integrations.langchain._llm_explain import Difference, Explanation, nearest
from tiercache.integrations.langchain._llm_key import CallKey, Parts
from tiercache.integrations.langchain._llm_stats import LLMCounters, LLMStats, Prices, Tokens, tokens_of
from tiercache.integrations.langchain._misses import Misses
from tiercache.integrations.langchain._paid import books_of, note_price, per_thousand
from tiercache.integrations.langchain._rate_limiter import RateLimiter
from tiercache.tokens import TokenUsage

__all__ = ["Difference", "Explanation", "LLMCache", "LLMStats", "Prices", "Tokens"]

#: Entries that `LLMCache.explain` compares at most, and keys that it lists at most to find them.
_COMPARED = 100
_LISTED = 10_000


class LLMCache(BaseCache):
    """LangChain's cache of model answers over the tiers of ``cache``, blocking and natively async.

    ``cache``
        a `TieredCache` of any codec; the answers lie in a view of it and leave its other entries alone.
    ``namespace``
        the name of that view.
    ``ttl``
        life of an answer; the cache's own if it is not given, ``None``: until evicted.
    ``prices``
        of 1,000 tokens; then `stats` tells money too.
    ``model_name``
        what the cache's ledger and prices call the model; unless given, what the call says.

    Use it with ``set_llm_cache(LLMCache(cache))``, or for one model as ``model.cache = LLMCache(cache)``.
    LangChain asks a cache for ``invoke``, ``ainvoke``, ``batch`` and ``abatch``; it never asks one for
    ``stream()`` and ``astream()``, which always reach the model.

    A conversation replays: what an earlier answer cost, its ids and what its provider said of it are no
    part of the key; every message and every parameter is (`_llm_key` has the rules). Answers are stored as
    plain JSON, and no class is made that is not on a list of four (`_generations`); an answer that does not
    fit is not kept. Each look-up hands out objects of its own, which the caller may change.

    Chat models keep to the pace of ``cache`` by `rate_limiter` and `callback_handler` together: its ``rate``,
    its ``concurrency`` and its budget; ``retry`` and batches are for loaders. `callback_handler` says which
    calls are no longer counted.

    Nothing here fails a model call: an ill tier is a miss, and an answer that cannot be stored is counted
    in `stats`. Only where the cache has a budget, and that is spent, `BudgetExceeded` is raised in the place
    of a miss; and only after ``cache`` was closed `CacheClosed` is raised. `clear` and the listing in
    `explain` are no model calls: a `clear` that a tier did not confirm raises `WriteError`. Serves
    threads, tasks and event loops at once.
    """

    def __init__(
        self,
        cache: TieredCache[Any],
        *,
        namespace: str = "llm",
        ttl: TTL = UNSET,
        prices: Prices | None = None,
        model_name: str | None = None,
    ) -> None:
        if not isinstance(cache, TieredCache):
            raise ConfigError(f"LLMCache: a {type(cache).__name__} is no TieredCache")
        if prices is not None and not isinstance(prices, Prices):
            raise ConfigError(f"prices: {prices!r} is no Prices(input=…, output=…)")
        self._cache: TieredCache[dict[str, Any]] = cache.view(namespace, codec=AnswerCodec(), ttl=ttl)
        self._counters = LLMCounters(prices)
        self._misses = Misses(self._cache, check_model(model_name))
        self._limiter = RateLimiter(self._cache, self._misses)
        self._failed_calls = FailedCalls(self._misses)
        self._price = (
            None
            if prices is None
            else per_thousand(
                prices.input, prices.output, prices.cache_read, prices.cache_write_5m, prices.cache_write_1h
            )
        )
        self._recent: OrderedDict[str, str | None] = OrderedDict()  # key -> why it was not kept, if so
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock, for a forked child: another thread may have held the old one."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"LLMCache({self._cache!r})"

    @property
    def cache(self) -> TieredCache[dict[str, Any]]:
        """The view that holds the answers; its keys are digests."""
        return self._cache

    @property
    def rate_limiter(self) -> RateLimiter:
        """For a chat model's ``rate_limiter``: calls of the model keep to the ``rate`` (and ``rate_shared``)
        of the cache, together with its loads, and to its budget; with the `callback_handler` to its
        ``concurrency`` as well. A hit waits for nothing."""
        return self._limiter

    @property
    def callback_handler(self) -> FailedCalls:
        """For the ``callbacks`` of a chat model, or of a call: has the ledger count calls that failed, each
        once, after a miss here. Without it there are in the ledger those that brought an answer.

        It also tells when what the `rate_limiter` let begin has ended, so that ``concurrency`` can be kept;
        without it that is not kept, and the log says so once. Not counted any more are the threads of
        cancelled calls, where a model has no async methods of its own, and streams of which different tasks,
        or threads of a pool, read one piece each, after the first: so it is with ``astream`` and
        ``astream_events`` of a chain (``prompt | model``), for which LangChain makes these tasks itself, not
        with those of the model alone. The other way round, a plain
        ``stream_events(version="v3")`` that is given up, which LangChain cannot close, counts for as long as
        a tracer has its run."""
        return self._failed_calls

    # -- LangChain's methods -----------------------------------------------------------------------

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """The stored answer as new objects, or ``None``."""
        call = self._asked(prompt, llm_string)
        found = None if call.unkeyable else self._answer(call, self._cache.get(call.key))
        if found is None:
            drive(self._misses.missed(BLOCKING, call))
        else:
            self._misses.found()
        return found

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """`lookup` for async code."""
        call = self._asked(prompt, llm_string)
        found = None if call.unkeyable else self._answer(call, await self._cache.aget(call.key))
        if found is None:
            await self._misses.missed(NATIVE, call)
        else:
            self._misses.found()
        return found

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Store an answer, if it fits and a tier takes it."""
        drive(self._paid(BLOCKING, prompt, llm_string, return_val))
        if (item := self._offered(prompt, llm_string, return_val)) is None:
            return
        try:
            self._cache.set(*item)
        except CacheClosed:
            raise
        except TierCacheError as error:
            self._unwritten(item[0], error)
        else:
            self._written(item[0])

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """`update` for async code."""
        await self._paid(NATIVE, prompt, llm_string, return_val)
        if (item := self._offered(prompt, llm_string, return_val)) is None:
            return
        try:
            await self._cache.aset(*item)
        except CacheClosed:
            raise
        except TierCacheError as error:
            self._unwritten(item[0], error)
        else:
            self._written(item[0])

    def clear(self, **kwargs: Any) -> None:
        """Drop all answers of this namespace, and nothing else. Takes what LangChain may pass, and needs
        none of it. Raises `WriteError` if a tier did not confirm."""
        del kwargs
        self._forget()
        self._cache.clear()

    async def aclear(self, **kwargs: Any) -> None:
        """`clear` for async code."""
        del kwargs
        self._forget()
        await self._cache.aclear()

    # -- what it tells -----------------------------------------------------------------------------

    def stats(self) -> LLMStats:
        """Calls, tokens and money since this object was made. (``cache.stats()`` has the tiers'.)"""
        return self._counters.snapshot()

    def explain(self, prompt: str, llm_string: str) -> Explanation:
        """Whether this call is stored, and if not, in what it differs from the nearest one that is.

        Compared are at most 100 entries: those with the same prompt, those that this object stored or
        served last, and the end of the listing's first 10,000 keys; so it works in a new process over the
        same disk, and costs a listing. Its look-ups count in ``cache.stats()``, not in `stats`.
        """
        call = CallKey(prompt, llm_string)
        if call.unkeyable:
            return Explanation("unkeyable", call.key, call.unkeyable)
        if (record := self._cache.get(call.key)) is not None or call.key in self._recent:
            return self._found(call, record)
        listed: list[str] = []
        try:
            same = list(islice(self._cache.keys(f"{call.prompt_digest}-"), _COMPARED))
            listed = self._candidates(same, deque(islice(self._cache.keys(), _LISTED), _COMPARED))
        except CacheClosed:
            raise
        except TierCacheError:  # no tier lists its keys, or it is ill
            listed = self._candidates([], deque())
        return self._compared(call, listed, self._cache.mget(listed))

    async def aexplain(self, prompt: str, llm_string: str) -> Explanation:
        """`explain` for async code."""
        call = CallKey(prompt, llm_string)
        if call.unkeyable:
            return Explanation("unkeyable", call.key, call.unkeyable)
        if (record := await self._cache.aget(call.key)) is not None or call.key in self._recent:
            return self._found(call, record)
        listed: list[str] = []
        try:
            same = [key async for key in _first(self._cache.akeys(f"{call.prompt_digest}-"), _COMPARED)]
            last = deque([key async for key in _first(self._cache.akeys(), _LISTED)], _COMPARED)
            listed = self._candidates(same, last)
        except CacheClosed:
            raise
        except TierCacheError:
            listed = self._candidates([], deque())
        return self._compared(call, listed, await self._cache.amget(listed))

    # -- what both APIs share ----------------------------------------------------------------------

    def _asked(self, prompt: str, llm_string: str) -> CallKey:
        call = CallKey(prompt, llm_string)
        self._counters.add(asked=1, unkeyable=int(call.unkeyable is not None))
        return call

    async def _paid(
        self, runtime: Runtime, prompt: str, llm_string: str, generations: Sequence[Generation]
    ) -> None:
        """Have the ledger, where one is kept, know what was paid for ``generations``."""
        call = CallKey(prompt, llm_string)
        if books_of(self._cache) is not None:
            note_price(self._cache, self._misses.model_of(call), self._price)
        told = (TokenUsage.of(getattr(one, "message", None)) for one in generations)
        usage = next((one for one in told if one is not None), None)
        texts = [one.text for one in generations]
        await self._misses.answered(runtime, call, usage, texts, lambda: [prompt])

    def _answer(self, call: CallKey, record: dict[str, Any] | None) -> list[Generation] | None:
        if record is None:
            return None
        try:
            generations = from_record(record["generations"])
        except CodecError:
            self._counters.add(unreadable=1)
            return None
        self._counters.add(answered=tokens_of(generations))
        self._note(call.key, None)
        return generations

    def _offered(
        self, prompt: str, llm_string: str, generations: Sequence[Generation]
    ) -> tuple[str, dict[str, Any]] | None:
        """The key and the record to store, or ``None`` if it is not to be."""
        call = CallKey(prompt, llm_string)
        self._counters.add(paid=tokens_of(generations))
        if call.unkeyable:
            return None
        try:
            return call.key, {"parts": call.parts.as_json(), "generations": to_record(generations)}
        except CodecError as error:
            self._counters.add(unstorable=1)
            self._note(call.key, str(error))
            return None

    def _written(self, key: str) -> None:
        self._counters.add(stored=1)
        self._note(key, None)

    def _unwritten(self, key: str, error: TierCacheError) -> None:
        self._counters.add(unwritten=1)
        self._note(key, str(error))

    def _note(self, key: str, refusal: str | None) -> None:
        with self._lock:
            self._recent[key] = refusal
            self._recent.move_to_end(key)
            if len(self._recent) > _COMPARED:
                self._recent.popitem(last=False)

    def _forget(self) -> None:
        with self._lock:
            self._recent.clear()

    def _found(self, call: CallKey, record: dict[str, Any] | None) -> Explanation:
        if record is not None:
            try:
                from_record(record["generations"])
            except CodecError:
                return Explanation("gone", call.key)
            return Explanation("hit", call.key)
        with self._lock:
            refusal = self._recent.get(call.key)
        return Explanation("gone", call.key) if refusal is None else Explanation("refused", call.key, refusal)

    def _candidates(self, same_prompt: list[str], listed: deque[str]) -> list[str]:
        with self._lock:
            recent = [key for key, refusal in self._recent.items() if refusal is None]
        ordered = chain(same_prompt, reversed(recent), reversed(listed))
        return list(islice(dict.fromkeys(ordered), _COMPARED))

    @staticmethod
    def _compared(call: CallKey, keys: list[str], records: list[dict[str, Any] | None]) -> Explanation:
        stored = list(_parts(keys, records))
        found = nearest(call.parts, stored)
        if found is None:
            return Explanation("empty", call.key)
        return Explanation("different", call.key, "", len(stored), *found)


def _parts(keys: list[str], records: list[dict[str, Any] | None]) -> Iterator[tuple[str, Parts]]:
    for key, record in zip(keys, records, strict=True):
        if record is None:
            continue
        try:
            yield key, Parts.from_json(record.get("parts"))
        except CodecError:
            continue  # not ours to judge; there are others


async def _first(keys: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    async for key in keys:
        yield key
        count -= 1
        if count <= 0:
            return
