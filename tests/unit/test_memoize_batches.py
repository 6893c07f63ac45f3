"""``@cache.cached(batch=True)``: a function of a list, which callers call for one item each."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from races import assert_at_rest
from waiting import LIMIT, pool, until

from tiercache import ConfigError, EncodedTier, LoadError, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec
from tiercache.loading import Rate
from tiercache.testing import DictStore

WINDOW = {"batch_window": "1h"}  # a batch that is full waits for nothing


@pytest.fixture
def cache():
    with TieredCache([MemoryTier(), EncodedTier(DictStore())], codec=JSONCodec()) as made:
        yield made
        assert_at_rest(made._core)


def doubled(calls, *, native, answer=lambda items: [2 * item for item in items]):
    """A function of a list that notes its ``calls``."""

    def function(items):
        calls.append(items)
        return answer(items)

    async def afunction(items):
        await asyncio.sleep(0)
        return function(items)

    return afunction if native else function


def together(function, items):
    """What callers get who call ``function`` at once, each for one of ``items``; errors too."""

    async def tasks():
        async with asyncio.timeout(LIMIT):
            return await asyncio.gather(*map(function, items), return_exceptions=True)

    if asyncio.iscoroutinefunction(function):
        return asyncio.run(tasks())
    with pool(len(items)) as threads:
        asked = [threads.submit(function, item) for item in items]
        return [one.exception(LIMIT) or one.result() for one in asked]


@pytest.fixture(params=[False, True], ids=["threads", "tasks"])
def native(request):
    return request.param


def test_callers_of_one_item_each_share_a_call(cache, native):
    calls = []
    double = cache.cached(batch=True, max_batch=5, **WINDOW)(doubled(calls, native=native))
    assert together(double, range(10)) == [2 * number for number in range(10)]
    assert [len(items) for items in calls] == [5, 5]
    assert sorted(number for items in calls for number in items) == list(range(10))
    assert together(double, range(10)) == [2 * number for number in range(10)]
    assert len(calls) == 2


def test_without_a_window_each_goes_by_itself(cache, native):
    calls = []
    double = cache.cached(batch=True)(doubled(calls, native=native))
    assert together(double, [1, 2]) == [2, 4]
    assert sorted(calls) == [[1], [2]]


def test_each_item_has_a_key_of_its_own_and_can_be_dropped(cache, native):
    calls = []
    double = cache.cached(batch=True)(doubled(calls, native=native))
    assert together(double, [1]) == [2]
    assert cache.get(double.cache_key(1)) == 2
    assert double.cache_key(1) == double.cache_key(items=1) != double.cache_key("1")
    assert double.cache_key([1]) != double.cache_key(1)
    dropped = asyncio.run(double.cache_delete(1)) if native else double.cache_delete(1)
    assert dropped.ok
    assert cache.get(double.cache_key(1)) is None
    assert together(partial(double), [1]) == [2] if not native else together(double, [1]) == [2]
    assert calls == [[1], [1]]


def test_items_may_be_whatever_has_a_key(cache, native):
    calls = []
    joined = cache.cached(batch=True, max_batch=2, **WINDOW)(
        doubled(calls, native=native, answer=lambda items: ["".join(item["words"]) for item in items])
    )
    assert together(joined, [{"words": ["a", "b"]}, {"words": ["c"]}]) == ["ab", "c"]
    assert len(calls) == 1


def test_a_mapping_is_by_items_and_what_is_none_is_kept_only_if_wanted(cache, native):
    for kept, times in ((False, 2), (True, 1)):
        calls = []
        answer = doubled(
            calls, native=native, answer=lambda items: {item: 2 * item for item in items if item}
        )
        double = cache.cached(batch=True, max_batch=2, cache_none=kept, name=f"{kept}", **WINDOW)(answer)
        assert together(double, [0, 1]) == [None, 2]
        lone = cache.cached(batch=True, cache_none=kept, name=f"{kept}")(answer)
        assert together(lone, [0]) == [None]
        assert len(calls) == times


def test_an_error_in_the_place_of_a_result_is_its_callers_alone(cache, native):
    calls = []

    def answer(items):
        return [ValueError("odd") if item % 2 else item for item in items]

    even = cache.cached(batch=True, max_batch=3, **WINDOW)(doubled(calls, native=native, answer=answer))
    zero, one, two = together(even, range(3))
    assert (zero, two) == (0, 2)
    assert isinstance(one, ValueError)
    assert len(calls) == 1


@pytest.mark.parametrize("wrong", [[1], "12", 3])
def test_an_answer_of_the_wrong_kind_says_so(cache, native, wrong):
    double = cache.cached(batch=True, max_batch=2, **WINDOW)(
        doubled([], native=native, answer=lambda items: wrong)
    )
    errors = together(double, [1, 2])
    assert [type(error) for error in errors] == [LoadError, LoadError]


def test_two_functions_have_batches_of_their_own(cache):
    calls, more = [], []
    one = cache.cached(batch=True, max_batch=2, name="one", **WINDOW)(doubled(calls, native=False))
    two = cache.cached(batch=True, max_batch=2, name="two", **WINDOW)(doubled(more, native=False))
    with pool(4) as threads:
        asked = [threads.submit(function, number) for function in (one, two) for number in (1, 2)]
        assert [each.result(LIMIT) for each in asked] == [2, 4, 2, 4]
    assert (len(calls), len(more)) == (1, 1)


def test_tokens_are_those_of_the_items(cache, native):
    counted = []
    rate = Rate("1000 tokens/min", count_tokens=lambda text: counted.append(text) or len(text))
    double = cache.cached(batch=True, max_batch=2, rate=rate, **WINDOW)(doubled([], native=native))
    assert together(double, ["ab", "c"]) == ["abab", "cc"]
    assert sorted(counted) == ["ab", "c"]


def test_a_thread_that_waits_alone_goes_when_the_window_is_over(cache):
    calls = []
    double = cache.cached(batch=True, batch_window="10ms")(doubled(calls, native=False))
    assert double(1) == double(items=1) == 2
    assert calls == [[1]]


def test_a_value_that_cannot_be_stored_is_told_by_the_functions_name(cache, caplog):
    strange = cache.cached(batch=True)(
        doubled([], native=False, answer=lambda items: [object()] * len(items))
    )
    assert strange(1) is not None
    assert "doubled.<locals>.function" in caplog.text


@pytest.mark.parametrize(
    "function", [lambda: [0], lambda one, two: [], lambda *items: [], lambda *, items: [], lambda a, b=1: []]
)
def test_a_function_of_something_else_is_refused(cache, function):
    with pytest.raises(TypeError, match="takes one argument"):
        cache.cached(batch=True)(function)


def test_batch_is_a_bool(cache):
    with pytest.raises(ConfigError, match=r"^batch: "):
        cache.cached(batch=5)(lambda items: items)


def test_other_arguments_are_bound(cache):
    def scaled(by, items):
        return [by * item for item in items]

    double, triple = (cache.cached(batch=True)(partial(scaled, by)) for by in (2, 3))
    assert (double(1), triple(1)) == (2, 3)
    assert cache.stats().loads == 2


def test_who_gathers_is_seen(cache):
    double = cache.cached(batch=True, max_batch=2, **WINDOW)(doubled([], native=False))
    with pool(2) as threads:
        first = threads.submit(double, 1)
        until(lambda: cache._stack.batches._open)
        assert double(2) == 4
        assert first.result(LIMIT) == 2
