"""The cache of a worker: made when the application starts in it, closed when it stops, handed to handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from os import PathLike
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from tiercache.chain import TieredCache
from tiercache.errors import ConfigError

__all__ = ["Cache", "get_cache", "lifespan"]

#: Where the cache is: in the state of the application, and in that of each request.
_NAME = "tiercache"

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]
Source: TypeAlias = Callable[[], TieredCache[Any]] | str | PathLike[str] | Mapping[str, Any]


def lifespan(source: Source, *, then: Lifespan | None = None) -> Lifespan:
    """For ``FastAPI(lifespan=lifespan(make_cache))``: each worker has a cache of its own from its start on,
    and closes it when it stops.

    ``source``
        a function without arguments that makes the cache; or what `TieredCache.from_config` takes: the path
        of a file, or a mapping.
    ``then``
        a lifespan of your own, which begins after the cache is there, as ``app.state.tiercache``, and ends
        before it is closed.

    An application may start again: it gets a new cache. A cache that is made already is a `ConfigError`: it
    would be closed for good the first time, and would have been made before the workers were forked.
    """
    if isinstance(source, TieredCache):
        raise ConfigError(
            "lifespan: give a function that makes the cache, such as lambda: TieredCache([...])"
        )
    if not (callable(source) or isinstance(source, str | PathLike | Mapping)):
        raise ConfigError(
            f"lifespan: a {type(source).__name__} is no function, and no file or mapping of a cache"
        )

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        cache = source() if callable(source) else TieredCache.from_config(source)
        if not isinstance(cache, TieredCache):
            raise ConfigError(f"lifespan: what was made is a {type(cache).__name__}, and no TieredCache")
        try:
            setattr(app.state, _NAME, cache)
            if then is None:
                yield {_NAME: cache}
            else:
                async with then(app) as state:
                    yield {**(state or {}), _NAME: cache}
        finally:
            await cache.aclose()

    return running


async def get_cache(connection: HTTPConnection) -> TieredCache[Any]:
    """The cache of the worker, as a dependency; in applications that are mounted below another too. Tests may
    put another in its place: ``app.dependency_overrides[get_cache] = lambda: cache``."""
    # A server hands the state of the outermost application to all below it.
    cache = (connection.scope.get("state") or {}).get(_NAME) or getattr(connection.app.state, _NAME, None)
    if not isinstance(cache, TieredCache):
        raise ConfigError("the application has no cache: FastAPI(lifespan=lifespan(make_cache)) makes one")
    return cache


#: What a handler says to be given the cache: ``async def handler(cache: Cache)``.
Cache: TypeAlias = Annotated[TieredCache[Any], Depends(get_cache)]
