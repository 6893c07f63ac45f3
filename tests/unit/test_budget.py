"""A budget stops loaders at its limit and nothing else; and each share of it is told once a day."""

from __future__ import annotations

import asyncio
import pickle
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from ledgers import PRICES, FailingPost, paid_load, totals
from waiting import LIMIT, GatedLoader, auntil, pool

from tiercache import (
    Budget,
    BudgetExceeded,
    BudgetReached,
    ConfigError,
    DiskTier,
    MemoryTier,
    TieredCache,
    TierUnavailable,
    TokenUsage,
    report_usage,
)
from tiercache.testing import FakeClock

COST = Decimal("0.0002")  # of a `paid_load`
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()


def made(calls=10, directory=None, clock=None, events=None, **options):
    """A cache that may make so many calls a day, in memory or over the disk."""
    clock = clock or FakeClock(NOON)
    tiers = [MemoryTier(clock=clock), *([] if directory is None else [DiskTier(directory, clock=clock)])]
    budget = options.pop("budget", None) or Budget(calls * COST)
    return TieredCache(
        tiers,
        prices=PRICES,
        model="m",
        budget=budget,
        clock=clock,
        on_event=None if events is None else events.append,
        **options,
    )


def spend(cache, calls, prefix="k"):
    for number in range(calls):
        cache.get_or_load(f"{prefix}{number}", paid_load)


def test_at_the_limit_loaders_are_not_called_and_hits_are_served():
    with made(10) as cache:
        spend(cache, 10)
        with pytest.raises(BudgetExceeded) as raised:
            cache.get_or_load("new", paid_load)
        error = raised.value
        assert (error.spent, error.limit, error.day, error.currency) == (
            10 * COST,
            10 * COST,
            "2026-07-01",
            "EUR",
        )
        assert "is spent: 0.002 of 0.002 EUR" in str(error)
        assert error.under_way == 0
        assert pickle.loads(pickle.dumps(error)).spent == error.spent  # noqa: S301 - our own
        assert cache.get_or_load("k1", paid_load) == b"k1"
        assert cache.get("k2") == b"k2"
        with pytest.raises(BudgetExceeded):
            asyncio.run(cache.aget_or_load("new", paid_load))
        with pytest.raises(BudgetExceeded):
            cache.mget_or_load(["k1", "new"], lambda keys: keys)
        assert totals(cache)[:2] == (10, 0)  # what was not called is no failed call


def test_the_next_day_it_begins_anew():
    clock = FakeClock(NOON)
    with made(2, clock=clock) as cache:
        spend(cache, 2)
        with pytest.raises(BudgetExceeded):
            cache.get_or_load("new", paid_load)
        clock.advance(12 * 3600 - 1)
        with pytest.raises(BudgetExceeded):
            cache.get_or_load("new", paid_load)
        clock.advance(1)
        assert cache.get_or_load("new", paid_load) == b"new"


@pytest.mark.parametrize("option", ["stale_for", "stale_if_error"])
def test_stale_values_are_served_where_that_is_allowed(option):
    clock = FakeClock(NOON)
    with made(2, clock=clock, ttl=10, **{option: 3600}) as cache:
        spend(cache, 2)
        clock.advance(60)
        assert cache.get_or_load("k1", paid_load) == b"k1"
        cache.flush()
        assert cache.get_or_load("k0", paid_load) == b"k0"
        with pytest.raises(BudgetExceeded):
            cache.get_or_load("new", paid_load)
        assert totals(cache)[0] == 2


def test_it_may_only_warn(caplog):
    events = []
    with made(budget=Budget(2 * COST, action="warn"), events=events) as cache:
        spend(cache, 5)
        assert totals(cache)[0] == 5
    assert [event.share for event in events] == [0.75, 0.9, 1.0]
    assert "loaders are not called" not in caplog.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "misspelt"}, "a model 'misspelt' without a price: give"),
        ({"model": None}, "no model that has a name: give"),
        ({"prices": None}, "a model 'm' without a price: give"),
    ],
    ids=str,
)
def test_a_call_that_no_price_is_known_of_is_told_once_a_model(caplog, wrong, said):
    """Such a budget never ends, and who set it believes that it does."""
    options = {"model": "m", "prices": PRICES} | wrong
    with TieredCache([MemoryTier()], budget=10 * COST, **options) as cache:
        spend(cache, 20)
        (told,) = [record for record in caplog.records if "counts nothing" in record.getMessage()]
        assert told.levelname == "WARNING"
        assert said in told.getMessage()
        other = cache.view("v", model="another")
        spend(other, 2)
        assert caplog.text.count("counts nothing") == 2
        for number in range(500):
            spend(cache.view(f"v{number}", model=f"model {number}"), 1)
        assert caplog.text.count("counts nothing") <= 101  # names come from outside, perhaps


def test_a_call_with_a_price_says_nothing_of_it(caplog):
    with made(10) as cache:
        spend(cache, 3)
    assert "counts nothing" not in caplog.text


def test_each_share_is_told_once_a_day_by_one_of_all(tmp_path, caplog):
    clock, events = FakeClock(NOON), []
    with (
        made(10, tmp_path / "d", clock, events, namespace="n") as one,
        made(10, tmp_path / "d", clock, events, namespace="n") as two,
    ):
        for number in range(5):
            spend(one, 1, f"a{number}")
            spend(two, 1, f"b{number}")
        for cache in (one, two):
            with pytest.raises(BudgetExceeded):
                spend(cache, 1, "more")
        assert [(event.share, event.spent) for event in events] == [
            (0.75, 8 * COST),
            (0.9, 9 * COST),
            (1.0, 10 * COST),
        ]
        assert events[0] == BudgetReached("disk", 0.75, 8 * COST, 10 * COST, "2026-07-01", "EUR")
        clock.advance(86_400)
        spend(two, 8, "c")
        assert [(event.share, event.day) for event in events[3:]] == [(0.75, "2026-07-02")]
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "75 % of the budget of 2026-07-01 is spent: 0.0016 of 0.002 EUR"
    assert told[2].endswith("; loaders are not called until midnight UTC")
    assert len(told) == 4


def test_a_share_whose_teller_is_cancelled_is_told_by_the_next(tmp_path):
    clock, events = FakeClock(NOON), []
    asked, go = threading.Event(), threading.Event()
    tier = DiskTier(tmp_path / "d", clock=clock)
    claim = tier.claim

    def slow_claim(*arguments):
        asked.set()
        assert go.wait(LIMIT)
        return claim(*arguments)

    tier.claim = slow_claim

    async def scenario(cache):
        teller = asyncio.ensure_future(cache.aget_or_load("a", paid_load))
        await auntil(asked.is_set)
        teller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await teller
        go.set()
        for key in "bc":
            with pytest.raises(BudgetExceeded):
                await cache.aget_or_load(key, paid_load)

    budget = Budget(COST, warn_at=())
    with TieredCache(
        [tier], prices=PRICES, model="m", budget=budget, clock=clock, on_event=events.append
    ) as cache:
        asyncio.run(scenario(cache))
    assert [event.share for event in events if isinstance(event, BudgetReached)] == [1.0]


def test_others_in_the_same_tier_have_budgets_of_their_own(tmp_path):
    with made(2, tmp_path / "d", namespace="a") as one, made(2, tmp_path / "d", namespace="b") as two:
        spend(one, 2)
        spend(two.view("inside"), 2)
        for cache in (one, two):
            with pytest.raises(BudgetExceeded):
                spend(cache, 1, "more")


def test_one_call_may_go_over_by_what_it_costs():
    def dear(key):
        report_usage(TokenUsage(0, 1_000_000))
        return key.encode()

    with made(10) as cache:
        cache.get_or_load("k", dear)
        assert totals(cache)[4] == 10
        with pytest.raises(BudgetExceeded):
            cache.get_or_load("l", dear)


def test_calls_under_way_count_with_what_they_will_probably_cost():
    with made(5) as cache, pool(8) as threads:
        spend(cache, 3)
        gates = [GatedLoader(b"v") for _ in range(4)]
        asked = [threads.submit(cache.get_or_load, f"g{n}", gate) for n, gate in enumerate(gates[:2])]
        for gate in gates[:2]:
            assert gate.entered.wait(20)
        with pytest.raises(BudgetExceeded, match=r"leaves room for no other call") as raised:
            cache.get_or_load("g2", gates[2])
        for error in (raised.value, pickle.loads(pickle.dumps(raised.value))):  # noqa: S301 - our own
            assert (error.spent, error.under_way, error.limit) == (3 * COST, 2 * COST, 5 * COST)
            assert "0.0006 of 0.001 EUR are spent" in str(error)
            assert "calls under way will cost about 0.0004" in str(error)
        for gate in gates:
            gate.go.set()
        assert [one.result(20) for one in asked] == [b"v", b"v"]
        assert cache._stack.books.spending._under_way == {}


@pytest.mark.parametrize("how", ["raises", "cancelled"])
def test_what_ends_in_whatever_way_is_not_under_way(how):
    def fails(_key):
        raise OSError

    async def cancelled():
        task = asyncio.create_task(cache.aget_or_load("k", asyncio.sleep))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, TypeError)):
            await task

    with made(5) as cache:
        spend(cache, 1)
        if how == "raises":
            with pytest.raises(OSError):  # noqa: PT011 - any
                cache.get_or_load("k", fails)
        else:
            asyncio.run(cancelled())
        assert cache._stack.books.spending._under_way == {}


def test_where_the_sum_cannot_be_read_the_last_one_counts(tmp_path):
    tier = DiskTier(tmp_path / "d", breaker_failures=None)
    spent, post = tier.spent, tier.post
    ill = threading.Event()

    def failing(verb):
        def call(*arguments):
            if ill.is_set():
                raise TierUnavailable("as the test wants it")
            return verb(*arguments)

        return call

    tier.spent, tier.post = failing(spent), failing(post)
    with TieredCache(
        [MemoryTier(), tier], prices=PRICES, model="m", budget=Budget(10 * COST, warn_at=())
    ) as cache:
        spend(cache, 4)
        ill.set()
        spend(cache, 6, "ill")
        with pytest.raises(BudgetExceeded):
            cache.get_or_load("new", paid_load)
        ill.clear()
        with pytest.raises(BudgetExceeded):
            cache.get_or_load("new", paid_load)
        assert totals(cache)[0] == 10


def test_what_is_being_posted_is_spent(tmp_path):
    """What waited while the tier was ill is sent just now, and neither there nor waiting."""
    tier = DiskTier(tmp_path / "d", breaker_failures=None)
    post = FailingPost(tier)
    gate, entered = threading.Event(), threading.Event()

    def slow(deposit):
        if not post.faults:
            entered.set()
            assert gate.wait(20)
        post(deposit)

    tier.post = slow
    with (
        TieredCache([MemoryTier(), tier], prices=PRICES, model="m", budget=Budget(4 * COST)) as cache,
        pool(1) as threads,
    ):
        post.faults = ["before"] * 4
        spend(cache, 4)
        flushed = threads.submit(cache.flush)
        assert entered.wait(20)
        try:
            for _ in range(2):
                with pytest.raises(BudgetExceeded):
                    cache.get_or_load("new", paid_load)
        finally:
            gate.set()
        flushed.result(20)
        with pytest.raises(BudgetExceeded) as raised:
            cache.get_or_load("new", paid_load)
        assert raised.value.spent == 4 * COST  # and nothing of it twice
        assert totals(cache)[0] == 4


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_posted_while_the_sum_is_read_is_spent(tmp_path, fails):
    tier = DiskTier(tmp_path / "d", breaker_failures=None)
    spent = tier.spent
    armed, gate, entered = (threading.Event() for _ in range(3))

    def slow(*arguments):
        read = spent(*arguments)
        if armed.is_set() and not entered.is_set():
            entered.set()
            assert gate.wait(20)
            if fails:
                raise TierUnavailable("as the test wants it")
        return read

    tier.spent = slow
    with (
        TieredCache([MemoryTier(), tier], prices=PRICES, model="m", budget=Budget(4 * COST)) as cache,
        pool(1) as threads,
    ):
        spend(cache, 1)
        armed.set()
        late = threads.submit(cache.get_or_load, "late", paid_load)
        assert entered.wait(20)
        spend(cache, 3, "l")
        gate.set()
        with pytest.raises(BudgetExceeded):
            late.result(20)
        assert totals(cache)[0] == 4


def test_calls_that_ask_at_the_same_moment_see_each_other(tmp_path):
    async def load(key):
        await asyncio.sleep(0.01)
        return paid_load(key)

    async def all_at_once(cache):
        return await asyncio.gather(
            *(cache.aget_or_load(f"a{number}", load) for number in range(20)), return_exceptions=True
        )

    budget = Budget(5 * COST, warn_at=(0.4,))  # by then the other spends; so one of these stops to tell
    with made(directory=tmp_path / "d", budget=budget) as cache:
        spend(cache, 1)
        with made(directory=tmp_path / "d", budget=budget) as other:
            spend(other, 1, "other")
        given = asyncio.run(all_at_once(cache))
        assert totals(cache)[0] == 5
        assert sum(isinstance(one, BudgetExceeded) for one in given) == 17


@pytest.mark.parametrize("given", [1.5, {"per_day": 1.5}, Budget(1.5)])
def test_it_is_given_as_a_number_a_table_or_itself(given):
    with TieredCache([MemoryTier()], budget=given) as cache:
        budget = cache._stack.books.spending.budget
        assert (budget.per_day, budget.warn_at, budget.action) == (Decimal("1.5"), (0.75, 0.9), "block")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0, "per_day"),
        (-1.0, "per_day"),
        (True, "per_day"),
        (float("nan"), "per_day"),
        ("100", "per_day"),
        ({}, "per_day is missing"),
        ({"per_day": 1, "warn": 2}, "'warn' is unknown; a budget has per_day, warn_at, action"),
        ({"per_day": 1, "warn_at": [1.5]}, "warn_at"),
        ({"per_day": 1, "warn_at": 0.5}, "warn_at"),
        ({"per_day": 1, "action": "stop"}, "action"),
    ],
)
def test_wrong_ones_are_told(given, said):
    with pytest.raises(ConfigError, match=f"budget: .*{said}"):
        TieredCache([MemoryTier()], budget=given)


def test_a_clock_that_is_set_back_over_midnight_has_no_share_told_again():
    clock, told = FakeClock(NOON), []
    with made(3, clock=clock, events=told) as cache:
        for step, prefix in ((0, "a"), (86_400, "b"), (-86_400, "c")):
            clock.step_wall(step)
            with pytest.raises(BudgetExceeded):
                spend(cache, 4, prefix)
    shares = [(event.day, event.share) for event in told if isinstance(event, BudgetReached)]
    assert shares == [(day, share) for day in ("2026-07-01", "2026-07-02") for share in (0.75, 0.9, 1.0)]
