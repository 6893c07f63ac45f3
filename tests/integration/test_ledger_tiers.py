"""Every tier that keeps a ledger keeps it alike: sums that are added to once, by whoever shares it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from ledgers import PRICES, FailingPost, paid_load, totals

from tiercache import Budget, BudgetExceeded, MemoryTier, RedisTier, TieredCache, TierUnavailable
from tiercache.accounts import COLUMNS, LOADER, PICO, TOTAL, Account, Deposit
from tiercache.testing import FakeClock
from tiercache.tiers.redis import _ledger as redis_ledger
from tiercache.tiers.redis import tier as redis_tier

COST = Decimal("0.0002")  # of a `paid_load`
DAY = "2026-07-01"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()
#: No name is too strange.
ONE = Account(DAY, 'a/ü"\\%_{}', "a model", LOADER)


@pytest.fixture
def make(ledger_place):
    """Makes tiers over one and the same place, which is empty."""
    return ledger_place.tier


@contextmanager
def over(tier, clock=None, **options):
    options = {"prices": PRICES, "model": "m", "namespace": "n", **options}
    if clock is not None:
        options["clock"] = clock
    with TieredCache([MemoryTier(**({} if clock is None else {"clock": clock})), tier], **options) as cache:
        assert cache._stack.books.place.name == tier.name
        yield cache


def deposit(number=1, writer="w", rows=None, day=DAY, **options):
    rows = [(ONE._replace(day=day), {"calls": 1, "money": 5})] if rows is None else rows
    return Deposit(writer, number, day, rows, **options)


def amounts(**given):
    return {name: given.get(name, 0) for name in COLUMNS if given.get(name)}


def read(tier, since=""):
    return {
        account: {name: count for name, count in row.items() if count} for account, row in tier.posted(since)
    }


@pytest.fixture
def clock():
    return FakeClock(NOON)


def test_deposits_are_added_up_each_once(make, clock):
    tier = make(clock=clock)
    assert read(tier) == {}
    assert tier.spent(DAY, "n") == 0
    for number in (1, 1, 2, 1, 2, 3):
        tier.post(deposit(number))
    make(clock=clock).post(deposit(1, "another"))
    assert read(tier) == {ONE: amounts(calls=4, money=20)}


def test_all_columns_are_kept_and_large_numbers_exactly(make, clock):
    tier = make(clock=clock)
    row = {name: 10**15 + index for index, name in enumerate(COLUMNS)} | {"money": 9_000_000 * PICO}
    tier.post(deposit(rows=[(ONE, row)]))
    assert read(tier) == {ONE: row}


def test_what_is_too_much_for_a_row_does_not_end_the_posting(make, clock):
    tier = make(clock=clock)
    total = Account(DAY, "n", "", TOTAL)
    for number in range(1, 4):
        tier.post(deposit(number, rows=[(total, {"money": 2**62}), (ONE, {"calls": 1, "money": 2**62})]))
    assert tier.spent(DAY, "n") == 2**63 - 1
    assert read(tier)[ONE] == amounts(calls=3, money=2**63 - 1)


def test_what_was_spent_is_the_total_of_a_namespace(make, clock):
    tier = make(clock=clock)
    total = Account(DAY, "n", "", TOTAL)
    tier.post(deposit(rows=[(total, {"money": 7}), (total._replace(namespace="m"), {"money": 3})]))
    tier.post(deposit(2, rows=[(total, {"money": 1})]))
    assert (tier.spent(DAY, "n"), tier.spent(DAY, "m"), tier.spent("2026-07-02", "n")) == (8, 3, 0)


def test_days_are_read_since_and_forgotten_after(make, clock):
    tier = make(clock=clock)
    days = ["2026-06-01", "2026-06-30", DAY]
    for number, day in enumerate(days, 1):
        tier.post(deposit(number, day=day))
    assert sorted(account.day for account in read(tier)) == days
    assert sorted(account.day for account in read(tier, "2026-06-30")) == days[1:]
    tier.post(deposit(9, keep_from="2026-06-15"))
    assert sorted(account.day for account in read(tier, "2026-06-15")) == days[1:]


def test_a_deposit_of_two_days_is_one(make, clock):
    tier = make(clock=clock)
    for _ in range(2):
        rows = [(ONE, {"calls": 1}), (ONE._replace(day="2026-07-02"), {"calls": 2})]
        tier.post(deposit(rows=rows, day="2026-07-02"))
    assert [row["calls"] for _, row in sorted(read(tier).items())] == [1, 2]


def test_a_claim_is_the_first_ones(make, clock):
    tier = make(clock=clock)
    assert [tier.claim(DAY, "x\n0.75", token) for token in "aba"] == [True, False, True]
    assert tier.claim(DAY, "y", "b")
    assert tier.claim("2026-07-02", "x\n0.75", "b")
    assert read(tier) == {}


def test_a_day_has_so_many_rows(make, clock, monkeypatch):
    for kind in ("disk", "sql", "redis"):
        monkeypatch.setattr(f"tiercache.tiers.{kind}._ledger.MOST_ROWS", 3)
    tier = make(clock=clock)
    for number in range(1, 9):
        one = ONE._replace(namespace=f"root/{number}")
        tier.post(
            deposit(number, rows=[(one, {"calls": 1}), (Account(DAY, "root", "", TOTAL), {"money": 1})])
        )
    tier.post(deposit(9, rows=[(ONE._replace(namespace="root/1"), {"calls": 1})]))
    found = read(tier)
    assert found[ONE._replace(namespace="root/1")] == amounts(calls=2)
    assert found[ONE._replace(namespace="root/(others)", model="(others)")]["calls"] >= 5
    assert sum(row.get("calls", 0) for row in found.values()) == 9
    assert tier.spent(DAY, "root") == 8


def test_days_are_forgotten_however_many_there_are(make, clock, monkeypatch):
    monkeypatch.setattr("tiercache.tiers.sql._ledger._AT_ONCE", 3)
    tier = make(clock=clock)
    for number in range(1, 9):
        tier.post(deposit(1, f"w{number}", day=f"2026-05-0{number}"))
    tier.post(deposit(1, "v", keep_from="2026-06-01"))
    assert sorted(account.day for account in read(tier, "2026-06-01")) == [DAY]
    if not isinstance(tier, RedisTier):  # there the server does it
        assert len(read(tier)) == 1


@pytest.mark.parametrize("api", ["plain", "async"])
def test_what_was_lost_is_made_again(ledger_place, api):
    """Tables that were dropped, a server that was flushed, a database that was replaced."""

    async def native(what):
        with over(ledger_place.tier(breaker_failures=None), budget=1.0, namespace=f"n{what}") as cache:
            await cache.aget_or_load(f"a{what}", paid_load)
            ledger_place.lose(what)
            for key in "bcdef":
                await cache.aget_or_load(f"{key}{what}", paid_load)
            return (await cache.aledger()).total.calls, cache._stack.books.unposted()

    def plain(what):
        with over(ledger_place.tier(breaker_failures=None), budget=1.0, namespace=f"n{what}") as cache:
            cache.get_or_load(f"a{what}", paid_load)
            ledger_place.lose(what)
            for key in "bcdef":
                cache.get_or_load(f"{key}{what}", paid_load)
            return cache.ledger().total.calls, cache._stack.books.unposted()

    for what in ledger_place.losses():
        calls, unposted = plain(what) if api == "plain" else asyncio.run(native(what))
        assert calls in (5, 6), what  # the first call's row may have been in what was lost
        assert unposted == []


def test_entries_and_the_ledger_know_nothing_of_each_other(make, clock):
    with over(make(clock=clock), clock) as cache:
        cache.get_or_load("k", paid_load)
        cache.clear()
        cache.purge(older_than=1)
        assert list(cache.keys()) == []
        assert totals(cache)[0] == 1


@pytest.mark.parametrize("api", ["plain", "async"])
def test_threads_tasks_and_faults(make, api):
    """Two caches as of two processes, each with several callers at once, and posts that fail."""
    tiers = [make(breaker_failures=None, deadline=20) for _ in range(2)]
    if api == "plain":
        for tier in tiers:
            FailingPost(tier).faults = ["after", "before", ""] * 5
    with over(tiers[0]) as one, over(tiers[1]) as two:

        def plain(name):
            for cache in (one, two):
                for number in range(8):
                    cache.get_or_load(f"{name} {number} {cache is one}", paid_load)

        async def native():
            await asyncio.gather(
                *(
                    cache.aget_or_load(f"{number} {cache is one}", paid_load)
                    for cache in (one, two)
                    for number in range(32)
                )
            )
            return (await one.aledger()).total

        if api == "plain":
            threads = [threading.Thread(target=plain, args=(name,)) for name in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            assert asyncio.run(native()).calls == 64
        one.flush()
        two.flush()
        assert totals(one) == totals(two) == (64, 0, 64, 0, 64 * COST)
        assert tiers[0].spent(one._stack.books.today(), "n") == 64 * COST * PICO


@pytest.mark.parametrize("prefix", ["tiercache:", "a{b}c:", "a{b", "a}b{"])
@pytest.mark.parametrize("server", ["valkey", "valkey_cluster"])
def test_a_day_in_redis_does_not_grow_with_its_writers(request, server, prefix, clock):
    server = request.getfixturevalue(server)
    with closing(RedisTier(server.url, prefix=prefix, deadline=20, clock=clock)) as tier:
        for number in range(300):
            tier.post(deposit(1, f"{number}"))
            tier.post(deposit(1, f"{number}"))
        assert read(tier) == {ONE: amounts(calls=300, money=1500)}
        assert tier.claim(DAY, "x", "y")
        lengths = {}
        for node in getattr(server, "nodes", [server]):
            with node.client() as client:
                for key in client.keys("*ledger*"):
                    lengths[key[-1:]] = client.hlen(key), client.ttl(key) // 86_400
        assert lengths[b"}"][0] < 10
        assert lengths[b"}"][1] in (401, 402)  # as long as days are kept, also after a claim
        assert lengths[b"w"][0] == 301
        assert lengths[b"w"][1] <= 3  # the writers of a second are gone long before


def test_what_others_write_in_redis_does_no_harm(valkey, clock):
    with closing(RedisTier(valkey.url, deadline=20, clock=clock)) as tier, valkey.client() as client:
        tier.post(deposit(rows=[(ONE, {"calls": 1, "money": 2**63 - 2, "texts": 1})]))
        [key] = client.keys("*ledger*}")
        [texts] = [field for field in client.hkeys(key) if field.endswith(b"\0texts")]
        client.hset(key, texts, "no number")
        client.hset(key, "n", "none either")
        client.hset(key, b"[1]\0calls", "5")
        client.hset(key, b"[no JSON\0calls", "5")
        tier.post(deposit(2, rows=[(ONE, {"calls": 1, "texts": 1, "money": 5, "micros": 3})]))
        assert read(tier) == {ONE: amounts(calls=2, micros=3, money=2**63 - 1)}
        client.delete(key)
        client.set(key, "no hash")
        for _ in range(2):  # and so nothing of it is done
            with pytest.raises(TierUnavailable):
                tier.post(deposit(3))
        client.delete(key)
        tier.post(deposit(3))
        assert read(tier) == {ONE: amounts(calls=1, money=5)}


def test_redis_needs_no_more_rights_than_are_told(valkey):
    told = redis_tier.__doc__.split("a ledger ``")[1].split("``")[0]
    rights = ["-@all", *told.split(), "+get", "+mget", "+set", "+hello", "+auth", "+ping", "+client|setinfo"]
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "keeper", "on", ">word", "~tiercache:*", *rights)
    tier = RedisTier(valkey.url.replace("redis://", "redis://keeper:word@"), deadline=20)
    with over(tier, budget=1.0) as cache:
        cache.get_or_load("k", paid_load)
        tier.post(deposit(day=cache._stack.books.today(), keep_from="2026-01-01"))
        assert tier.claim(DAY, "x", "y")
        assert totals(cache)[0] == 1
        assert cache.stats().tiers[1].errors == 0


@pytest.mark.parametrize("api", ["plain", "async"])
def test_a_budget_is_that_of_all(make, api):
    budget = Budget(10 * COST)
    with over(make(), budget=budget) as one, over(make(), budget=budget) as two:

        def load(cache, key):
            if api == "plain":
                return cache.get_or_load(key, paid_load)
            return asyncio.run(cache.aget_or_load(key, paid_load))

        for number in range(5):
            load(one, f"a{number}")
            load(two, f"b{number}")
        for cache in (one, two):
            with pytest.raises(BudgetExceeded):
                load(cache, "new")
            assert load(cache, "a1") == b"a1"


def test_a_redis_that_is_flushed_does_not_begin_the_budget_anew(valkey, clock):
    with over(RedisTier(valkey.url, deadline=20, clock=clock), clock, budget=Budget(5 * COST)) as cache:
        called = []

        def load(key):
            called.append(key)
            return paid_load(key)

        for number in range(20):
            with suppress(BudgetExceeded):
                cache.get_or_load(f"{number}", load)
            valkey.flush()
        assert len(called) == 5
        with pytest.raises(BudgetExceeded) as raised:
            cache.get_or_load("new", load)
        assert raised.value.spent == 5 * COST
        assert cache.get_or_load("0", load) == b"0"


def test_what_others_had_spent_before_a_flush_is_not_forgotten(valkey, clock):
    with over(RedisTier(valkey.url, deadline=20, clock=clock), clock, budget=Budget(5 * COST)) as cache:
        with over(RedisTier(valkey.url, deadline=20, name="other", clock=clock), clock) as other:
            for number in range(5):
                other.get_or_load(f"other{number}", paid_load)
        for _ in range(2):
            with pytest.raises(BudgetExceeded):
                cache.get_or_load("new", paid_load)
            valkey.flush()


def test_a_year_of_full_days_is_read_in_redis(valkey, clock):
    """A part at a time, each within the deadline; no answer is held that is larger."""
    days, rows = 60, 250
    first = date(2026, 7, 1) - timedelta(days=days - 1)
    names = [(first + timedelta(days=back)).isoformat() for back in range(days)]
    with closing(RedisTier(valkey.url, deadline=20, clock=clock)) as tier:
        for number, day in enumerate(names):
            given = [(Account(day, f"n/{row}", "m", LOADER), {"calls": row + 1}) for row in range(rows)]
            tier.post(deposit(number + 1, rows=given, day=day))
        asked = []
        hashes = redis_ledger.hashes

        async def counted(wire, until, last, prefix, part):
            asked.append((len(part), until))
            return await hashes(wire, until, last, prefix, part)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(redis_ledger, "hashes", counted)
            found = tier.posted(names[0])
            asked_by_threads = len(asked)
            assert (
                asyncio.run(closing_after(RedisTier(valkey.url, deadline=20, clock=clock), names[0])) == found
            )
    assert len(found) == days * rows
    assert sum(row["calls"] for _, row in found) == days * rows * (rows + 1) // 2
    assert [account.day for account, _ in found] == sorted(account.day for account, _ in found)
    parts = [part for part, _ in asked[:asked_by_threads]]
    assert sum(parts) == days + 1  # and the day that another clock may have begun
    assert max(parts[1:]) * rows <= 2000  # once it is known how full they are
    assert len({until for _, until in asked}) == len(asked)


async def closing_after(tier, since):
    try:
        return await tier.aposted(since)
    finally:
        await tier.aclose()
