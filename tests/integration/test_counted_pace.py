"""The ledger, the budget and observers beside the pace of loaders: each single attempt is counted, asked for
and told of, whoever waits for it."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

import httpx
import pytest
from apis import both_apis
from ledgers import PRICES, paid_load, totals
from provider import provider
from waiting import LIMIT, GatedLoader, auntil, pool, until

from tiercache import Budget, BudgetExceeded, DiskTier, MemoryTier, TieredCache, TokenUsage, report_usage
from tiercache._loading.closing import Closing
from tiercache.loading import Retry, batched
from tiercache.testing import FakeClock

COST = Decimal("0.0002")  # of a `paid_load`
#: No test waits for it: its batches are full before.
LONG = "20s"


@pytest.fixture
def clock():
    return FakeClock(1_780_000_000.0)


@pytest.fixture
def slept(clock, monkeypatch):
    """For how long callers slept, on a clock that went on at once."""
    seconds = []

    async def sleep(_self, _runtime, pause):
        seconds.append(pause)
        clock.advance(pause)

    monkeypatch.setattr(Closing, "pause", sleep)
    return seconds


def made(*tiers, clock=None, **options):
    tiers = tiers or ((MemoryTier(clock=clock) if clock else MemoryTier()),)
    more = {} if clock is None else {"clock": clock}
    return TieredCache(list(tiers), prices=PRICES, model="m", **more, **options)


class Passing(Exception):
    """Too many requests."""

    status_code = 429


class Observed:
    """An observer of loads, and what each ended with."""

    def __init__(self, cache):
        self.loads = []
        self.ended = []
        cache._stack.observer = self

    def lookup(self, keys):
        return self

    def load(self, keys, *, behind):
        self.loads.append(keys)
        return _Load(self)

    def answered(self, tier, asked, hits):
        pass

    leave = answered

    def end(self, error):
        pass


class _Load:
    def __init__(self, observed):
        self.observed = observed

    def leave(self):
        pass

    def end(self, error):
        self.observed.ended.append(None if error is None else type(error).__name__)


# -- retry -----------------------------------------------------------------------------------------


@both_apis
def test_each_attempt_at_a_provider_is_a_call(call, clock, slept):
    with provider() as server, made(clock=clock, retry=Retry(3, on=[500])) as cache:
        observed = Observed(cache)
        server.script = [429, 500, 200]

        def load(key):
            answer = httpx.post(server.url, content=json.dumps([key]), timeout=5)
            answer.raise_for_status()
            report_usage(TokenUsage(100, 10))
            return answer.content

        assert b"vector of a" in call(cache, "get_or_load", "a", load)
        assert len(server.asked) == 3
        assert totals(cache) == (3, 2, 1, 0, COST)
        assert observed.loads == [1, 1, 1]
        assert observed.ended == ["HTTPStatusError", "HTTPStatusError", None]


def test_attempts_last_as_long_as_they_do_and_pauses_do_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tiercache._books.keeping.perf_counter", lambda: now[0])

    async def sleep(_self, _runtime, pause):
        now[0] += 1000

    monkeypatch.setattr(Closing, "pause", sleep)
    tries = [Passing(), Passing(), None]

    def load(key):
        now[0] += 1
        error = tries.pop(0)
        if error is not None:
            raise error
        return paid_load(key)

    with made(retry=3) as cache:
        cache.get_or_load("a", load)
        assert cache.ledger().total.seconds_spent == 3


@both_apis
@pytest.mark.parametrize("on", [[], [Exception], ["BudgetExceeded"], ["TierCacheError"]])
def test_a_spent_budget_is_not_tried_again(call, slept, clock, on):
    with made(clock=clock, budget=float(COST), retry=Retry(3, on=on)) as cache:
        call(cache, "get_or_load", "a", paid_load)
        with pytest.raises(BudgetExceeded):
            call(cache, "get_or_load", "b", paid_load)
        assert not slept
        assert totals(cache) == (1, 0, 1, 0, COST)


def test_a_try_that_the_budget_no_longer_allows_is_not_made(slept, clock):
    calls = []

    def load(key):
        calls.append(key)
        report_usage(TokenUsage(100, 10))  # paid for, though it fails
        raise Passing

    with made(clock=clock, budget=float(2 * COST), retry=5) as cache:
        with pytest.raises(BudgetExceeded):
            cache.get_or_load("a", load)
        assert len(calls) == 2
        assert totals(cache) == (2, 2, 0, 0, 2 * COST)


# -- batches ---------------------------------------------------------------------------------------


def paid_many(keys):
    return [paid_load(key) for key in keys]


def test_what_is_loaded_together_is_one_call_of_all_its_texts():
    with made(batch_window=LONG, max_batch=4) as cache, pool(4) as threads:
        observed = Observed(cache)
        done = [threads.submit(cache.get_or_load, key, batched(paid_many)) for key in "abcd"]
        assert [one.result(LIMIT) for one in done] == [b"a", b"b", b"c", b"d"]
        assert totals(cache) == (1, 0, 4, 0, 4 * COST)
        assert observed.loads == [4]
        cache.mget(list("abcd"))
        (served,) = cache.ledger().by("tier")[1:]
        assert (served.tier, served.served, served.money_saved) == ("memory", 4, 4 * COST)


def test_views_of_one_loader_have_calls_of_their_own():
    with made(batch_window=LONG, max_batch=2) as cache, pool(4) as threads:
        views = [cache.view(name, model=f"{name}-model") for name in ("one", "two")]
        done = [
            threads.submit(view.get_or_load, key, batched(paid_many)) for key in ("a", "b") for view in views
        ]
        for one in done:
            one.result(LIMIT)
        found = [(row.namespace, row.model, row.calls, row.texts) for row in cache.ledger().rows]
        assert found == [("/one", "one-model", 1, 2), ("/two", "two-model", 1, 2)]


def test_a_batch_that_is_tried_again_is_a_call_each_time(slept, clock):
    tries = [Passing(), None]

    def load_many(keys):
        error = tries.pop(0)
        if error is not None:
            raise error
        return paid_many(keys)

    with made(clock=clock, batch_window=LONG, max_batch=2, retry=2) as cache, pool(2) as threads:
        done = [threads.submit(cache.get_or_load, key, batched(load_many)) for key in "ab"]
        assert [one.result(LIMIT) for one in done] == [b"a", b"b"]
        assert totals(cache) == (2, 1, 2, 0, 2 * COST)


def test_a_spent_budget_is_told_to_all_of_a_batch(clock):
    with made(budget=float(COST), batch_window=LONG, max_batch=2) as cache, pool(2) as threads:
        cache.get_or_load("first", paid_load)
        done = [threads.submit(cache.get_or_load, key, batched(paid_many)) for key in "ab"]
        for one in done:
            with pytest.raises(BudgetExceeded):
                one.result(LIMIT)
        assert totals(cache) == (1, 0, 1, 0, COST)


# -- a caller who has gone -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"retry": 2}, {"rate": "100/s", "concurrency": 1}, {"batch_window": LONG, "max_batch": 1}],
    ids=["plain", "retry", "rate", "batch"],
)
def test_a_loader_that_runs_on_without_its_caller_is_counted_once(options):
    gate = GatedLoader({})

    def load_many(keys):
        gate(keys)
        return paid_many(keys)

    async def scenario(cache):
        task = asyncio.ensure_future(cache.amget_or_load(["a"], load_many))
        await auntil(gate.entered.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.go.set()

    with made(**options) as cache:
        observed = Observed(cache)
        asyncio.run(asyncio.wait_for(scenario(cache), LIMIT))
        until(lambda: totals(cache)[0] > 0)
        cache.flush()
        assert totals(cache)[:3] == (1, 0, 1)
        assert totals(cache)[4] == COST
        assert observed.ended == [None]
        assert cache.get("a") == b"a"
        assert not cache._stack.books.spending


@pytest.mark.parametrize("options", [{}, {"batch_window": LONG, "max_batch": 1}], ids=["plain", "batch"])
def test_one_that_no_thread_can_wait_for_is_counted_as_failed(options, monkeypatch):
    gate = GatedLoader({})

    def load_many(keys):
        gate(keys)
        return paid_many(keys)

    async def scenario(cache):
        task = asyncio.ensure_future(cache.amget_or_load(["a"], load_many))
        await auntil(gate.entered.is_set)

        def no_more(_function):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("tiercache._loading.leading.in_thread", no_more)
        monkeypatch.setattr("tiercache._loading.batches.in_thread", no_more)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.go.set()

    with made(**options) as cache:
        observed = Observed(cache)
        asyncio.run(asyncio.wait_for(scenario(cache), LIMIT))
        assert totals(cache)[:3] == (1, 1, 0)
        assert observed.ended == ["RuntimeError"]


# -- rate ------------------------------------------------------------------------------------------


@both_apis
def test_what_the_budget_refuses_takes_nothing_from_the_rate(call, slept, clock, tmp_path):
    tiers = [MemoryTier(clock=clock), DiskTier(tmp_path, clock=clock)]
    with made(*tiers, clock=clock, budget=Budget(2 * COST), rate="3/h", concurrency=1) as cache:
        for key in "ab":
            call(cache, "get_or_load", key, paid_load)
        for number in range(10):
            with pytest.raises(BudgetExceeded):
                call(cache, "get_or_load", f"{number}", paid_load)
        assert not slept
        assert cache._manner.pace.rate._requests._sum == 2
        assert len(cache._manner.pace.gate) == 0
        assert totals(cache)[:2] == (2, 0)


def test_what_waits_for_the_rate_asks_the_budget_again(slept, clock):
    """Before the wait there was money left; then another spent it."""
    with made(clock=clock, budget=Budget(2 * COST), rate="1/h") as cache:
        cache.get_or_load("a", paid_load)
        spending = cache._stack.books.spending
        checked = spending.check
        spent = []

        async def check(runtime):
            await checked(runtime)
            if not spent:
                spent.append(True)
                cache.view("other").get_or_load("b", paid_load, rate=None)

        spending.check = check
        with pytest.raises(BudgetExceeded):
            cache.get_or_load("c", paid_load)
        assert slept, "it waited for the rate"
        assert totals(cache)[:2] == (2, 0)


def test_the_rate_counts_the_texts_that_the_ledger_counts(slept, clock):
    with made(clock=clock, rate="1000 tokens/min") as cache:

        @cache.cached
        def ask(prompt):
            return prompt.encode()

        ask("x" * 400)
        assert cache._manner.pace.rate._spent._sum == 100
        assert cache.ledger().total.input == 100
