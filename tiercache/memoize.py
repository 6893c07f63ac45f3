"""``@cache.cached``: keeps what a function, or an async function, returns for its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from tiercache._chain.arguments import check_key
from tiercache._chain.core import WriteResult
from tiercache._loading.gathered import Gathered, Many
from tiercache._loading.loaders import Batched
from tiercache._loading.options import Manner
from tiercache.call_keys import call_key, function_name
from tiercache.codecs.optional import NONE, OptionalCodec
from tiercache.entry import UNSET, Sentinel
from tiercache.errors import ConfigError
from tiercache.protocols import Codec
from tiercache.units import Duration

if TYPE_CHECKING:
    from tiercache.chain import TieredCache

__all__ = ["BatchMemoizer", "Memoized", "Memoizer", "memoize"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")
T = TypeVar("T")


class Memoized(Protocol[P, R_co]):
    """A function whose results are kept."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key under which the result for these arguments is kept."""
        ...

    def __get__(self, instance: Any, owner: Any = None, /) -> Any:
        """A method, where the function stands in a class."""
        ...

    def cache_delete(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Drop the result for these arguments: a `WriteResult`, to be awaited if the function is async."""
        ...


class Memoizer(Protocol):
    """What ``cached(...)`` returns: the decorator, with its options bound."""

    def __call__(self, function: Callable[P, R], /) -> Memoized[P, R]: ...


class BatchMemoizer(Protocol):
    """The same with ``batch=True``: of a function of a list it makes one of a single item."""

    @overload
    def __call__(
        self, function: Callable[[list[T]], Coroutine[Any, Any, Sequence[R]]], /
    ) -> Memoized[[T], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[T]], Coroutine[Any, Any, Mapping[T, R]]], /
    ) -> Memoized[[T], Coroutine[Any, Any, R | None]]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], Sequence[R]], /) -> Memoized[[T], R]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], Mapping[T, R]], /) -> Memoized[[T], R | None]: ...


def memoize(
    cache: TieredCache[Any],
    function: Callable[P, R],
    *,
    ttl: Duration | Literal[Sentinel.UNSET] | None,
    key: Callable[..., str] | None,
    name: str | None,
    codec: Codec[Any] | Literal[Sentinel.UNSET] | None,
    cache_none: bool,
    batch: bool,
    manner: Manner,
) -> Memoized[P, R]:
    """``function`` with its results kept in ``cache``; the options are those of `LoadingMethods.cached`."""
    given: Any = function
    if not callable(given):
        cure = f"; write cached(ttl={given!r:.60})" if isinstance(given, str | int | float) else ""
        raise TypeError(f"cached decorates functions, not {type(given).__name__}{cure}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function_name(function)} is a generator, which cannot be kept; return a list")
    if key is not None and not callable(key):
        raise TypeError(f"key must be a function of the arguments that returns a str, not {key!r:.60}")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}: {name!r:.60}")
    if name == "":
        raise ConfigError("name: '' names nothing; leave it out, and key= makes the whole key")
    if not isinstance(cache_none, bool):
        raise ConfigError(f"cache_none: {cache_none!r:.60} is not allowed; it is True or False")
    if not isinstance(batch, bool):
        raise ConfigError(f"batch: {batch!r:.60} is not allowed; it is True or False")
    if batch:
        _check_takes_a_list(function)
    kept = cache
    if codec is not UNSET or cache_none:
        inner = cache.codec if codec is UNSET else codec
        kept = cache.with_codec(OptionalCodec(inner) if cache_none else inner)
    kept = kept.with_manner(manner)
    make_key = call_key(function, name) if key is None else _checked(key, name)
    native = inspect.iscoroutinefunction(function)
    wrap = (_async_gathering if batch else _async) if native else (_gathering if batch else _blocking)
    wrapper: Any = wraps(function)(wrap(kept, function, make_key, ttl, NONE if cache_none else None))
    wrapper.cache_key = make_key
    wrapper.cache_delete = (_async_delete if native else _delete)(kept, make_key)
    return wrapper  # type: ignore[no-any-return]  # attributes on a function are beyond the type system


def _delete(cache: TieredCache[Any], make_key: Callable[..., str]) -> Callable[..., WriteResult]:
    return lambda *args, **kwargs: cache.delete(make_key(*args, **kwargs))


def _async_delete(
    cache: TieredCache[Any], make_key: Callable[..., str]
) -> Callable[..., Awaitable[WriteResult]]:
    async def delete(*args: Any, **kwargs: Any) -> WriteResult:
        return await cache.adelete(make_key(*args, **kwargs))

    return delete


def _check_takes_a_list(function: Callable[..., Any]) -> None:
    """Raise `TypeError` unless ``function`` takes one argument, and that alone."""
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 1 or parameters[0].kind not in {
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    }:
        raise TypeError(
            f"{function_name(function)}: with batch=True a function takes one argument, the list of what its "
            f"callers give; bind others with functools.partial"
        )


def _checked(key: Callable[..., str], name: str | None) -> Callable[..., str]:
    """The keys that ``key`` makes, behind the ``name`` if there is one."""
    beginning = "" if name is None else f"{name}:"

    def checked(*args: Any, **kwargs: Any) -> str:
        made = key(*args, **kwargs)
        check_key(made)
        return beginning + made

    return checked


def _blocking(
    cache: TieredCache[Any],
    function: Callable[..., Any],
    make_key: Callable[..., str],
    ttl: Any,
    none: Any,
) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        def load(_key: str) -> Any:
            result = function(*args, **kwargs)
            return none if result is None else result

        result = cache.get_or_load(make_key(*args, **kwargs), load, ttl=ttl)
        return None if result is NONE else result

    return call


def _async(
    cache: TieredCache[Any],
    function: Callable[..., Any],
    make_key: Callable[..., str],
    ttl: Any,
    none: Any,
) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        async def load(_key: str) -> Any:
            result = await function(*args, **kwargs)
            return none if result is None else result

        result = await cache.aget_or_load(make_key(*args, **kwargs), load, ttl=ttl)
        return None if result is NONE else result

    return call


def _gathering(
    cache: TieredCache[Any],
    function: Callable[..., Any],
    make_key: Callable[..., str],
    ttl: Any,
    none: Any,
) -> Any:
    many = Many(function, none)

    def call(*args: Any, **kwargs: Any) -> Any:
        key = make_key(*args, **kwargs)
        (item,) = args or kwargs.values()
        result = cache.get_or_load(key, Batched(Gathered(many, {key: item}).load), ttl=ttl)
        return None if result is NONE else result

    return call


def _async_gathering(
    cache: TieredCache[Any],
    function: Callable[..., Any],
    make_key: Callable[..., str],
    ttl: Any,
    none: Any,
) -> Any:
    many = Many(function, none)

    async def call(*args: Any, **kwargs: Any) -> Any:
        key = make_key(*args, **kwargs)
        (item,) = args or kwargs.values()
        result = await cache.aget_or_load(key, Batched(Gathered(many, {key: item}).aload), ttl=ttl)
        return None if result is NONE else result

    return call
