"""The ledger counts every call of a loader, what it took and what it cost, and the hits that saved one."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from forked import exit_code
from ledgers import PRICES, paid_load, totals
from waiting import GatedLoader, until

from tiercache import (
    ConfigError,
    DiskTier,
    Ledger,
    Loaded,
    MemoryTier,
    TieredCache,
    TokenUsage,
    report_usage,
)
from tiercache.accounts import Account
from tiercache.codecs import JSONCodec
from tiercache.testing import FakeClock

COST = Decimal("0.0002")  # of a `paid_load`


@pytest.fixture
def cache():
    with TieredCache([MemoryTier()], prices=PRICES, model="m") as made:
        yield made


def rows(cache, **wanted):
    found = cache.ledger().rows
    return [row for row in found if all(getattr(row, name) == value for name, value in wanted.items())]


# -- calls -----------------------------------------------------------------------------------------


def test_each_way_of_loading_is_counted_alike(cache):
    cache.get_or_load("a", paid_load)
    cache.mget_or_load(["b", "c"], lambda keys: [paid_load(key) for key in keys])

    @cache.cached
    def function(text):
        return paid_load(text)

    @cache.cached
    async def coroutine(text):
        return paid_load(text)

    async def native(key):
        return paid_load(key)

    function("d")
    asyncio.run(coroutine("e"))
    asyncio.run(cache.aget_or_load("f", native))
    asyncio.run(cache.aget_or_load("g", paid_load))
    asyncio.run(cache.amget_or_load(["h"], lambda keys: [paid_load(key) for key in keys]))
    [row] = rows(cache, tier="loader")
    assert (row.calls, row.failed, row.texts) == (7, 0, 8)
    assert (row.input, row.output, row.money_spent) == (800, 80, 8 * COST)
    assert (row.model, row.namespace, row.estimated, row.unpriced) == ("m", "", 0, 0)


def test_a_batch_is_one_call_and_its_parts_are_several(cache):
    cache.mget_or_load(list("abcde"), lambda keys: [key.encode() for key in keys], batch_size=2)
    assert totals(cache)[:3] == (3, 0, 5)


def test_failed_calls_are_counted_apart_with_what_they_reported(cache):
    def fails(_key):
        raise OSError

    def fails_late(key):
        paid_load(key)
        raise OSError

    for loader in (fails, fails_late):
        with pytest.raises(OSError):  # noqa: PT011 - any
            cache.get_or_load("k", loader)
    assert totals(cache) == (2, 2, 0, 0, COST)


def test_a_loader_that_gives_nothing_was_called_all_the_same(cache):
    assert cache.get_or_load("k", lambda _key: None) is None
    assert cache.get_or_load("k", lambda _key: Loaded.absent(ttl=0.001)) is None
    assert cache.mget_or_load(["a", "b"], lambda _keys: {"a": b"v"}) == [b"v", None]
    assert totals(cache)[:3] == (3, 0, 1)


def test_views_and_models_have_rows_of_their_own(cache):
    cache.view("a/b", model="other").get_or_load("k", paid_load)
    cache.view("a").view("b").get_or_load("k", paid_load)
    found = {(row.namespace, row.model, row.unpriced) for row in rows(cache)}
    assert found == {("/a%2Fb", "other", 1), ("/a/b", "m", 0)}
    assert [row.namespace for row in cache.view("a").ledger().rows] == ["/a/b"]


def test_nothing_is_kept_unless_it_is_asked_for():
    with TieredCache([MemoryTier()]) as cache:
        cache.get_or_load("k", paid_load)
        with pytest.raises(ConfigError, match="ledger=True"):
            cache.ledger()


@pytest.mark.parametrize("cancelled_while", ["plain", "native"])
def test_a_call_whose_caller_is_cancelled_is_counted_once(cache, cancelled_while):
    load = GatedLoader()

    async def scenario():
        loader = load if cancelled_while == "plain" else load.native
        task = asyncio.create_task(cache.aget_or_load("k", loader))
        while not load.entered.is_set():  # noqa: ASYNC110 - a thread's
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    load.go.set()
    until(lambda: totals(cache)[0] == 1)
    # The plain one ran on, and what it made is there.
    assert totals(cache)[1] == (0 if cancelled_while == "plain" else 1)
    assert cache.get("k") == (b"loaded" if cancelled_while == "plain" else None)


# -- tokens ----------------------------------------------------------------------------------------

USAGE = {"usage": {"prompt_tokens": 70, "completion_tokens": 7}}


def loaded(value, *, ledger=True, report=None):
    with TieredCache([MemoryTier()], codec=JSONCodec(), ledger=ledger, prices=PRICES, model="m") as cache:

        def load(_key):
            if report is not None:
                report_usage(report)
            return value

        cache.get_or_load("eight by", load)
        [row] = cache.ledger().rows
        return row.input, row.output, row.estimated


def test_tokens_are_those_that_somebody_tells():
    assert loaded(USAGE, report=TokenUsage(1, 2)) == (1, 2, 0)
    assert loaded(USAGE, report={"input_tokens": 3, "output_tokens": 4}) == (3, 4, 0)
    assert loaded(USAGE) == (70, 7, 0)
    assert loaded(Loaded(USAGE, ttl=5)) == (70, 7, 0)
    own = Ledger(usage=lambda value: TokenUsage(value["n"]))
    assert loaded({"n": 5, **USAGE}, ledger=own) == (5, 0, 0)


def test_else_they_are_counted_or_estimated_and_marked():
    assert loaded("four", ledger=Ledger(count_tokens=len)) == (8, 4, 0)
    assert loaded(["four", {"x": "more"}]) == (2, 2, 4)


def test_a_counter_that_fails_breaks_nothing(caplog):
    def fails(_what):
        raise ValueError

    assert loaded("four", ledger=Ledger(usage=fails)) == (2, 1, 3)
    assert loaded("four", ledger=Ledger(count_tokens=fails)) == (0, 0, 0)
    assert "usage= raised ValueError" in caplog.text
    assert "count_tokens raised ValueError" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [TokenUsage(-5, 3), TokenUsage(10**20), TokenUsage("7"), TokenUsage(float("nan")), {"prompt_tokens": 3}],
    ids=["negative", "too many", "text", "no number", "a mapping"],
)
@pytest.mark.parametrize("told", ["usage", "reported", "failed"])
def test_what_is_told_and_is_no_usage_breaks_nothing(tmp_path, caplog, wrong, told):
    def load(key):
        if told != "usage" and key == "a":
            report_usage(wrong if isinstance(wrong, TokenUsage) else TokenUsage(wrong))
        if told == "failed" and key == "a":
            raise OSError("failed")
        return b"four"

    ledger = Ledger(usage=lambda _value: wrong) if told == "usage" else True
    with TieredCache([MemoryTier(), DiskTier(tmp_path)], prices=PRICES, model="m", ledger=ledger) as cache:
        if told == "failed":
            with pytest.raises(OSError, match="failed"):
                cache.get_or_load("a", load)
        else:
            assert cache.get_or_load("a", load) == b"four"
        assert cache.get_or_load("b", load) == b"four"
        total = cache._stack.books.place._store.posted("")
        [row] = [amounts for account, amounts in total if account.tier == "loader"]
        assert (row["calls"], row["failed"]) == (2, told == "failed")
        assert row["input"] == row["estimated"] == (1 if told == "failed" else 2)
    assert "is no number of tokens" in caplog.text


def test_parts_of_tokens_are_counted_as_whole_ones():
    assert loaded("four!", ledger=Ledger(count_tokens=lambda text: len(text) / 4)) == (2, 2, 0)


def test_of_a_cached_function_the_arguments_are_estimated(cache):
    @cache.cached
    def ask(messages, *, system):
        return b"answer"

    ask([{"role": "user", "content": "x" * 400}], system="y" * 40)
    assert cache.ledger().total.input == 100 + 10 + 1  # the role is text, too


def test_the_providers_own_cache_is_apart(cache):
    def load(_key):
        report_usage(TokenUsage(1, 2, 30, 40, 50))
        return b"v"

    cache.get_or_load("k", load)
    [row] = cache.ledger().rows
    assert (row.input, row.output, row.cache_read, row.cache_write, row.cache_write_1h) == (1, 2, 30, 40, 50)
    assert row.provider_read_to_write == 30 / 90
    assert row.tokens == 123


# -- hits ------------------------------------------------------------------------------------------


def test_hits_are_those_that_the_tiers_count(tmp_path):
    def made():
        return TieredCache([MemoryTier(), DiskTier(tmp_path / "d")], namespace="n", prices=PRICES, model="m")

    with made() as cache:
        for key in "abcd":
            cache.get_or_load(key, paid_load)
        for _ in range(10):
            cache.get("a")
        cache.mget(["a", "b"])
        cache.mget(["a", "none"])
    with made() as cache:
        cache.mget(["c", "d"])
        cache.get_or_load("c", paid_load)
        cache.view("v").get("a")
        [memory], [disk] = rows(cache, tier="memory"), rows(cache, tier="disk")
        assert (memory.served, disk.served) == (14, 2)
        assert (memory.money_saved, memory.calls_saved) == (14 * COST, 14.0)
        assert cache.ledger().total.read_to_write == 16 / 4


@pytest.mark.parametrize("ledger", [False, True])
def test_disk_alone_has_its_own_roads(tmp_path, ledger):
    with TieredCache([DiskTier(tmp_path / "d")], ledger=ledger) as cache:
        assert cache.get_or_load("k", paid_load) == b"k"
        assert cache.get("k") == b"k"
        assert cache.mget(["k", "l"]) == [b"k", None]
        if ledger:
            assert totals(cache)[:4] == (1, 0, 1, 2)


def test_a_hit_in_memory_takes_the_very_same_road():
    with TieredCache([MemoryTier()]) as without, TieredCache([MemoryTier()], prices=PRICES) as cache:
        for name in ("get", "aget", "_hit", "_hits"):
            mine, theirs = getattr(cache, name), getattr(without, name)
            assert mine.__code__ is theirs.__code__, name


def test_a_forgotten_view_and_its_hits_are_counted(cache):
    view = cache.view("v")
    view.get_or_load("k", paid_load)
    view.get("k")
    assert cache.ledger().total.served == 1
    view.get("k")
    del view
    assert cache.ledger().total.served == 2


def test_what_several_models_answer_in_one_namespace_is_worth_their_mean(cache):
    dear, cheap = cache.view("v", model="m"), cache.view("v", model="none")
    dear.get_or_load("a", paid_load)
    cheap.get_or_load("b", paid_load)
    books = cache._stack.books
    books._count(dear._core.path, "", "memory", 10)
    [row] = rows(cache, tier="memory", model="")
    assert row.money_saved == 10 * COST / 2


# -- days ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept_in", ["memory", "disk"])
def test_days_are_those_of_utc_and_are_kept_for_so_long(tmp_path, kept_in):
    clock = FakeClock(datetime(2026, 7, 1, 23, 59, 59, tzinfo=UTC).timestamp())
    tiers = [MemoryTier(clock=clock)]
    if kept_in == "disk":
        tiers.append(DiskTier(tmp_path / "d", clock=clock))
    with TieredCache(tiers, ledger=Ledger(keep_days=2), clock=clock) as cache:
        cache.get_or_load("a", paid_load)
        clock.advance(1)
        cache.get_or_load("b", paid_load)
        days = [row.day for row in cache.ledger().rows]
        assert days == ["2026-07-01", "2026-07-02"]
        for since in (date(2026, 7, 2), "2026-07-02"):
            assert [row.day for row in cache.ledger(since).rows] == days[1:]
        assert len(cache.ledger(timedelta(days=1)).rows) == 2
        clock.advance(2 * 86_400)
        cache.get_or_load("c", paid_load)
        assert [row.day for row in cache.ledger().rows] == ["2026-07-02", "2026-07-04"]
        with pytest.raises(ConfigError, match="since"):
            cache.ledger("yesterday")
        first = datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))  # the day before in UTC
        for ages in ("99999999d", timedelta.max, 1e300, first):
            assert [row.day for row in cache.ledger(ages).rows] == ["2026-07-02", "2026-07-04"]
        assert not cache.ledger(date.max).rows


@pytest.mark.parametrize("kept_in", ["memory", "disk"])
def test_a_day_has_so_many_rows_and_no_more(tmp_path, monkeypatch, kept_in):
    for module in ("tiercache._books.memory", "tiercache.tiers.disk._ledger"):
        monkeypatch.setattr(f"{module}.MOST_ROWS", 3)
    tiers = [MemoryTier(), *([DiskTier(tmp_path / "d")] if kept_in == "disk" else [])]
    with TieredCache(tiers, namespace="root", prices=PRICES, model="m") as cache:
        for name in "abcdefg":
            cache.view(name).get_or_load("k", paid_load)
        found = {row.namespace: row.calls for row in rows(cache)}
        assert found["root/(others)"] >= 4
        assert sum(found.values()) == 7
        assert len(found) <= 4
        assert cache.ledger().total.money_spent == 7 * COST


# -- what it says ----------------------------------------------------------------------------------


def test_a_statement_is_data_and_a_table(cache):
    cache.get_or_load("k", paid_load)
    cache.view("v").get_or_load("k", lambda _key: b"some text")
    cache.get("k")
    said = cache.ledger()
    assert said.as_dict()["total"]["money_spent"] == str(said.total.money_spent)
    assert [row.tier for row in said.by("tier")] == ["loader", "memory"]
    assert {row.day for row in said.by("namespace")} == {""}
    lines = str(said).splitlines()
    assert lines[0].split()[:6] == ["day", "namespace", "model", "tier", "calls", "failed"]
    assert any(line.startswith("total") for line in lines)
    assert "money in EUR; what was saved is estimated" in str(said)
    assert "tokens were estimated" in str(said)
    with pytest.raises(ConfigError, match="there are day, namespace, model, tier"):
        said.by("size")


def test_sums_of_rows_are_exact():
    tiny = Decimal("0.000000000001")
    with TieredCache([MemoryTier()], ledger=True) as cache:
        books, day = cache._stack.books, cache._stack.books.today()
        for _ in range(3):
            books.note(Account(day, "", "", "loader"), {"calls": 1, "money": 10**18 + 1})
        assert cache.ledger().total.money_spent == 3_000_000 + 3 * tiny


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 10_000, "%2F", "ü"])
def test_any_namespace_will_do(tmp_path, name):
    with TieredCache([DiskTier(tmp_path / "d")], namespace=name, ledger=True) as cache:
        cache.get_or_load("k", paid_load)
        assert totals(cache)[0] == 1
        assert totals(cache.view("\0"))[0] == 0


# -- processes -------------------------------------------------------------------------------------


def test_a_forked_child_adds_what_happens_in_it(tmp_path):
    with TieredCache([MemoryTier(), DiskTier(tmp_path / "d")], prices=PRICES, model="m") as cache:
        cache.get_or_load("a", paid_load)
        for _ in range(3):
            cache.get("a")  # not posted yet
        pid = os.fork()
        if not pid:
            code = 1
            try:
                cache.get("a")
                cache.get_or_load("b", paid_load)
                cache.close()
                code = 0
            finally:
                os._exit(code)
        assert exit_code(pid) == 0
        assert totals(cache) == (2, 0, 2, 4, 2 * COST)


def test_what_is_forgotten_goes(tmp_path):
    """Neither the thread that looks at ledgers nor the interpreter's exit keeps a cache alive."""
    tier = DiskTier(tmp_path / "d")
    gone = weakref.ref(tier)
    cache = TieredCache([MemoryTier(), tier], prices=PRICES, model="m", budget=1.0)
    cache.get_or_load("k", paid_load)
    del cache, tier
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "options",
    [
        {"ledger": 1},
        {"ledger": "yes"},
        {"prices": 3},
        {"prices": "/no/such/file.toml"},
        {"model": ""},
        {"model": 5},
        {"ledger": Ledger(tier="disk")},
    ],
)
def test_wrong_options_are_told(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        TieredCache([MemoryTier()], **options)


@pytest.mark.parametrize("wrong", [{"keep_days": 0}, {"keep_days": True}, {"usage": 1}, {"count_tokens": ""}])
def test_wrong_fields_of_a_ledger_are_told(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Ledger(**wrong)


@pytest.mark.parametrize("name", ["n" * 300, "%" * 80, "/" * 80])
def test_long_names_are_inside_what_they_are_inside_of(name):
    """Also where names are cut, and those of views many times."""
    with TieredCache([MemoryTier()], namespace=name, prices=PRICES, model="m") as cache:
        views = [cache]
        for depth in range(8):
            views.append(views[-1].view(f"{depth}{name}"))
        for view in views:
            view.get_or_load("k", paid_load)
        assert [view.ledger().total.calls for view in views] == [9, 8, 7, 6, 5, 4, 3, 2, 1]
        assert len({row.namespace for row in cache.ledger().rows}) == 9
