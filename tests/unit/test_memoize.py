"""``@cache.cached``: which calls are one, whose results are kept, and what is refused."""

from __future__ import annotations

import asyncio
import inspect
import threading
from dataclasses import dataclass
from datetime import date
from enum import Enum
from functools import partial

import pytest

from tiercache import EncodedTier, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec
from tiercache.errors import ConfigError
from tiercache.testing import DictStore, DictTier, FakeClock


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Point:
    x: int


@pytest.fixture
def cache():
    with TieredCache([MemoryTier(), EncodedTier(DictStore())], codec=JSONCodec()) as cache:
        yield cache


def run(function, *args, **kwargs):
    """Call a plain or an async function."""
    result = function(*args, **kwargs)
    return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result


async def _awaited(awaitable):
    return await awaitable


def counted(calls, *, asynchronous, result=None):
    """A function that notes its arguments in ``calls``."""
    if asynchronous:

        async def function(a, b=2, *rest, c=3, **more):
            calls.append((a, b, rest, c, more))
            return result if result is not None else [len(calls)]
    else:

        def function(a, b=2, *rest, c=3, **more):
            calls.append((a, b, rest, c, more))
            return result if result is not None else [len(calls)]

    return function


both = pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])


@both
@pytest.mark.parametrize("bare", [True, False], ids=["@cached", "@cached()"])
def test_a_result_is_kept(cache, asynchronous, bare):
    calls = []
    function = counted(calls, asynchronous=asynchronous)
    kept = cache.cached(function) if bare else cache.cached()(function)
    assert [run(kept, 1), run(kept, 1), run(kept, 2)] == [[1], [1], [2]]
    assert inspect.iscoroutinefunction(kept) == asynchronous
    assert kept.__name__ == "function"
    assert kept.__wrapped__ is function
    assert inspect.signature(kept) == inspect.signature(function)


@both
def test_calls_that_mean_the_same_are_one(cache, asynchronous):
    calls = []
    kept = cache.cached(counted(calls, asynchronous=asynchronous))
    for args, kwargs in [
        ((1,), {}),
        ((1, 2), {}),
        ((1,), {"b": 2}),
        ((), {"b": 2, "a": 1}),
        ((), {"c": 3, "a": 1}),
    ]:
        assert run(kept, *args, **kwargs) == [1]
    run(kept, 1, x=1, y=2)
    run(kept, 1, y=2, x=1)
    assert len(calls) == 2


ARGUMENTS = [
    None, 0, 1, 1.0, True, False, "1", b"1", "", (), [], {}, (1,), [1], {1}, frozenset({2}), {"a": 1},
    {"a": "1"}, {1: "a"}, ((1, 2),), (1, 2), ([1], 2), "None", Colour.RED, Point(1), date(2020, 1, 1), -0.0,
    1j, "\ud800",
]  # fmt: skip


@both
def test_arguments_of_other_types_or_values_are_other_calls(cache, asynchronous):
    calls = []
    kept = cache.cached(counted(calls, asynchronous=asynchronous))
    results = [run(kept, argument) for argument in ARGUMENTS]
    assert results == [[number + 1] for number in range(len(ARGUMENTS))]
    assert [run(kept, argument) for argument in ARGUMENTS] == results


def test_the_place_of_an_argument_counts(cache):
    kept = cache.cached(lambda a, b=None, *rest, **more: [a, b, list(rest), more])
    assert kept(1, 2) != kept(2, 1)
    assert kept("ab", "c") != kept("a", "bc")
    assert kept(1, 2, 3) != kept(1, 2, x=3)


@both
def test_an_argument_without_a_canonical_form_is_refused_with_the_cure(cache, asynchronous):
    calls = []
    kept = cache.cached(counted(calls, asynchronous=asynchronous))
    for argument in (object(), threading.Lock(), [object()], {"x": {1: object()}}, lambda: 1):
        with pytest.raises(TypeError, match=r"function.*'a'.*key="):
            run(kept, argument)
    assert calls == []


@both
def test_wrong_arguments_are_the_callers_error(cache, asynchronous):
    kept = cache.cached(counted([], asynchronous=asynchronous))
    with pytest.raises(TypeError, match="'a'"):
        run(kept)


@both
def test_key_makes_the_key_of_the_arguments(cache, asynchronous):
    calls = []
    kept = cache.cached(key=lambda a, b=2, **_: f"user:{a}")(counted(calls, asynchronous=asynchronous))
    assert run(kept, 1, object()) == run(kept, 1, c=object()) == [1]
    assert cache.get("user:1") == [1]
    assert kept.cache_key(5) == "user:5"


def test_functions_of_two_names_with_equal_keys_do_not_share_results(cache):
    @cache.cached(name="one", key=lambda x: x)
    def one(x):
        return ["one", x]

    @cache.cached(name="two", key=lambda x: x)
    def two(x):
        return ["two", x]

    assert [one("q"), two("q"), one("q"), two("q")] == [["one", "q"], ["two", "q"]] * 2
    one.cache_delete("q")
    assert cache.mget([one.cache_key("q"), two.cache_key("q")]) == [None, ["two", "q"]]


@both
def test_functions_of_one_name_share_results(cache, asynchronous):
    calls = []
    first = cache.cached(name="shared", key=str)(lambda x: [x, "first"])
    second = cache.cached(name="shared", key=str)(counted(calls, asynchronous=asynchronous))
    assert first(1) == run(second, 1) == [1, "first"]
    assert first.cache_key(1) == second.cache_key(1) == "shared:1"
    one, two = (cache.cached(name="shared")(function) for function in (lambda x: [x], lambda x: [x, x]))
    assert one(2) == two(2) == [2]
    assert one.cache_key(2).startswith("shared:")
    assert calls == []


def test_a_name_is_a_text_and_not_empty(cache):
    with pytest.raises(ConfigError, match=r"^name: .*key="):
        cache.cached(name="")(lambda x: [x])
    with pytest.raises(TypeError, match="name must be a str, not int"):
        cache.cached(name=7)(lambda x: [x])


def test_methods_are_kept_with_a_key(cache):
    class Service:
        def __init__(self, name):
            self.name = name

        @cache.cached(key=lambda self, number: f"{self.name}:{number}")
        def work(self, number):
            return [self.name, number]

    one, two = Service("one"), Service("two")
    assert [one.work(1), two.work(1), one.work(1)] == [["one", 1], ["two", 1], ["one", 1]]
    assert cache.stats().loads == 2
    Service.work.cache_delete(one, 1)
    assert cache.mget([Service.work.cache_key(it, 1) for it in (one, two)]) == [None, ["two", 1]]


@both
def test_a_key_that_is_no_text_is_refused(cache, asynchronous):
    kept = cache.cached(key=lambda a: 7)(counted([], asynchronous=asynchronous))
    with pytest.raises(TypeError, match="key must be a str"):
        run(kept, 1)
    with pytest.raises(TypeError, match="key"):
        cache.cached(key="user:{a}")(counted([], asynchronous=asynchronous))


@both
def test_none_is_returned_and_not_kept(cache, asynchronous):
    calls = []

    def plain(x):
        calls.append(x)

    async def coroutine(x):
        calls.append(x)

    kept = cache.cached(coroutine if asynchronous else plain)
    assert run(kept, 1) is None
    assert run(kept, 1) is None
    assert calls == [1, 1]


def test_cache_none_is_a_bool(cache):
    for wrong in ("no", 1, None):
        with pytest.raises(ConfigError, match=r"^cache_none: "):
            cache.cached(cache_none=wrong)(lambda a: a)


@both
@pytest.mark.parametrize("codec", [JSONCodec(), None], ids=["json", "bytes"])
def test_none_is_kept_with_cache_none(asynchronous, codec):
    calls = []
    tier = EncodedTier(DictStore())
    value = b"1" if codec is None else [1]

    def plain(x):
        calls.append(x)
        return value if x else None

    async def coroutine(x):
        return plain(x)

    for _ in range(2):  # out of memory, and then out of bytes by themselves
        with TieredCache([MemoryTier(), tier], codec=codec) as cache:
            tier.close = lambda: None
            kept = cache.cached(cache_none=True, key=str)(coroutine if asynchronous else plain)
            assert [run(kept, x) for x in (0, 1, 0, 1)] == [None, value, None, value]
    assert calls == [0, 1]


@both
def test_cache_delete_drops_one_call(cache, asynchronous):
    calls = []
    kept = cache.cached(counted(calls, asynchronous=asynchronous))
    run(kept, 1)
    run(kept, 2)
    assert run(kept.cache_delete, a=1, b=2).ok
    assert run(kept, 2) == [2]
    assert run(kept, 1) == [3]


@both
def test_ttl_is_the_life_of_results(asynchronous):
    clock = FakeClock()
    calls = []
    with TieredCache([DictTier(clock=clock)], clock=clock, ttl=1000) as cache:
        kept = cache.cached(ttl="1m")(counted(calls, asynchronous=asynchronous, result=b"1"))
        run(kept, 1)
        clock.advance(59)
        run(kept, 1)
        assert len(calls) == 1
        clock.advance(1)
        run(kept, 1)
        assert len(calls) == 2


@both
def test_codec_is_used_instead_of_the_caches(asynchronous):
    with TieredCache([MemoryTier(), EncodedTier(DictStore())]) as cache:
        calls = []
        kept = cache.cached(codec=JSONCodec())(counted(calls, asynchronous=asynchronous))
        assert run(kept, 1) == run(kept, 1) == [1]
        assert cache.get(kept.cache_key(1)) is None  # it is no bytes
        plain = cache.cached(counted(calls, asynchronous=asynchronous, result="text"))
        assert [run(plain, 2), run(plain, 2)] == ["text", "text"]
        assert cache.stats().unstorable == 2


@both
def test_an_error_reaches_the_caller_and_nothing_is_kept(cache, asynchronous):
    calls = []

    def plain(x):
        calls.append(x)
        raise ZeroDivisionError("mine")

    async def coroutine(x):
        plain(x)

    kept = cache.cached(coroutine if asynchronous else plain)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="mine"):
            run(kept, 1)
    assert calls == [1, 1]


def test_threads_share_one_call(cache):
    barrier = threading.Barrier(20)
    calls, results = [], []

    @cache.cached
    def slow(x):
        calls.append(x)
        return [x]

    def ask():
        barrier.wait(10)
        results.append(slow(7))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert calls == [7]
    assert results == [[7]] * 20


def test_tasks_share_one_call(cache):
    calls = []

    @cache.cached
    async def slow(x):
        calls.append(x)
        await asyncio.sleep(0)
        return [x]

    async def main():
        return await asyncio.gather(*(slow(7) for _ in range(50)))

    assert asyncio.run(main()) == [[7]] * 50
    assert calls == [7]


def test_generators_and_things_that_are_no_functions_are_refused(cache):
    def generator():
        yield 1

    async def async_generator():
        yield 1

    for function in (generator, async_generator):
        with pytest.raises(TypeError, match="generator"):
            cache.cached(function)
    for thing, said in (
        (7, r"write cached\(ttl=7\)"),
        ("5m", r"write cached\(ttl='5m'\)"),
        ([], "not list$"),
    ):
        with pytest.raises(TypeError, match=f"functions.*{said}"):
            cache.cached(thing)


def test_functions_that_do_not_tell_their_parameters_need_a_key(cache):
    for function, name in ((dict, r"builtins\.dict"), (partial(max, 3), r"builtins\.max")):
        with pytest.raises(TypeError, match=f"{name}.*key="):
            cache.cached(function)
    assert cache.cached(key=str)(dict)([("a", 1)]) == {"a": 1}


def test_a_method_without_a_key_is_told_which_to_give(cache):
    class Service:
        @cache.cached
        def work(self, number: int = 7, *rest, **more):
            return [number]

    with pytest.raises(
        TypeError, match=r"'self'.*such as key=lambda self, number, \*rest, \*\*more: \.\.\.$"
    ):
        Service().work(1)


def test_functions_of_one_name_in_two_modules_are_two(cache):
    def function(x):
        return [1]

    one = cache.cached(function)

    def function(x):
        return [2]

    function.__module__ = "elsewhere"
    assert (one(1), cache.cached(function)(1)) == ([1], [2])


def test_lambdas_are_told_apart(cache):
    one, two = cache.cached(lambda x: [x + 1]), cache.cached(lambda x: [x + 2])
    assert (one(1), two(1)) == ([2], [3])


def test_mutable_results_are_the_callers_own(cache):
    kept = cache.cached(lambda x: [x])
    for _ in range(3):
        result = kept(1)
        assert result == [1]
        result.append(2)


class Model:
    def __init__(self, name):
        self.name = name

    def embed(self, text):
        return [self.name, text]


def test_a_method_bound_to_an_object_needs_a_key(cache):
    with pytest.raises(TypeError, match=r"bound to.*Model.*key="):
        cache.cached(Model("one").embed)
    kept = [cache.cached(key=lambda text, name=name: f"{name}/{text}")(Model(name).embed) for name in "ab"]
    assert [embed("x") for embed in kept] == [["a", "x"], ["b", "x"]]


@dataclass(frozen=True)
class Scale:
    factor: int

    def times(self, x):
        return x * self.factor

    def __call__(self, x):
        return x * self.factor


def test_what_a_function_is_bound_to_is_part_of_its_key(cache):
    for make in (
        lambda n: Scale(n).times,
        Scale,
        lambda n: partial(multiply, n),
        lambda n: partial(multiply, y=n),
    ):
        assert [cache.cached(make(n))(5) for n in (2, 3)] == [10, 15]


def multiply(x, y):
    return x * y
