"""``@cache.cached``: keeps what a function, or an async function, returns for its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar

from tiercache._chain.arguments import check_key
from tiercache._loading.options import Manner
from tiercache.call_keys import call_key, function_name
from tiercache.codecs.optional import NONE, OptionalCodec
from tiercache.entry import UNSET, Sentinel
from tiercache.errors import ConfigError
from tiercache.protocols import Codec
from tiercache.units import Duration

if TYPE_CHECKING:
    from tiercache.chain import TieredCache

__all__ = ["Memoized", "Memoizer", "cached_function", "memoize", "sent_by"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


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


def memoize(
    cache: TieredCache[Any],
    function: Callable[P, R],
    *,
    ttl: Duration | Literal[Sentinel.UNSET] | None,
    key: Callable[..., str] | None,
    name: str | None,
    codec: Codec[Any] | Literal[Sentinel.UNSET] | None,
    cache_none: bool,
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
    kept = cache
    if codec is not UNSET or cache_none:
        inner = cache.codec if codec is UNSET else codec
        kept = cache.with_codec(OptionalCodec(inner) if cache_none else inner)
    kept = kept.with_manner(manner)
    make_key = call_key(function, name) if key is None else _checked(key, name)
    wrap = _async if inspect.iscoroutinefunction(function) else _blocking
    wrapper: Any = wraps(function)(wrap(kept, function, make_key, ttl, NONE if cache_none else None))
    wrapper.cache_key = make_key
    return wrapper  # type: ignore[no-any-return]  # attributes on a function are beyond the type system


def cached_function(loader: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose results ``loader`` makes, for the log; any other loader itself. Looked for behind
    the call's own closure, so that a hit pays nothing for it."""
    loader = inspect.unwrap(loader)
    if getattr(loader, "__module__", None) != __name__:
        return loader
    function: Callable[..., Any] = inspect.getclosurevars(loader).nonlocals["function"]
    return function


def sent_by(loader: Callable[..., Any]) -> list[str] | None:
    """What the loader of a cached function sends, near enough: all text in its arguments, also that in lists
    and mappings. ``None`` for any other loader. As `cached_function` has it, so that a hit pays nothing."""
    if getattr(loader, "__module__", None) != __name__:
        return None
    given = inspect.getclosurevars(loader).nonlocals
    found: list[str] = []
    ahead = [given["args"], given["kwargs"]]
    while ahead:
        one = ahead.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, Mapping):
            ahead += one.values()
        elif isinstance(one, list | tuple):
            ahead += one
    return found


def _checked(key: Callable[..., str], name: str | None) -> Callable[..., str]:
    """The keys that ``key`` makes, behind the ``name`` if there is one."""
    beginning = "" if name is None else f"{name}:"

    def checked(*args: Any, **kwargs: Any) -> str:
        made = key(*args, **kwargs)
        check_key(made)
        return beginning + made

    return checked


def _blocking(
    cache: TieredCache[Any], function: Callable[..., Any], make_key: Callable[..., str], ttl: Any, none: Any
) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        def load(_key: str) -> Any:
            result = function(*args, **kwargs)
            return none if result is None else result

        result = cache.get_or_load(make_key(*args, **kwargs), load, ttl=ttl)
        return None if result is NONE else result

    def delete(*args: Any, **kwargs: Any) -> Any:
        return cache.delete(make_key(*args, **kwargs))

    call.cache_delete = delete  # type: ignore[attr-defined]  # as above
    return call


def _async(
    cache: TieredCache[Any], function: Callable[..., Any], make_key: Callable[..., str], ttl: Any, none: Any
) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        async def load(_key: str) -> Any:
            result = await function(*args, **kwargs)
            return none if result is None else result

        result = await cache.aget_or_load(make_key(*args, **kwargs), load, ttl=ttl)
        return None if result is NONE else result

    async def delete(*args: Any, **kwargs: Any) -> Any:
        return await cache.adelete(make_key(*args, **kwargs))

    call.cache_delete = delete  # type: ignore[attr-defined]  # as above
    return call
