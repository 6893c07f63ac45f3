"""Handlers of FastAPI: what they need of a request, and how they are run so that there is a response to keep.

FastAPI has solved a handler's dependencies before it is called, also where its response is kept: who may not
see it is told so by them. What a handler returns becomes a response by a route of its own, which FastAPI
makes from the handler's: models, classes of responses and status are its business."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, Protocol
from weakref import ref

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from tiercache.chain import TieredCache
from tiercache.integrations.fastapi._declared import Declared, declared
from tiercache.integrations.fastapi._lifespan import Cache

__all__ = ["Asked", "CachedHandler", "Handler", "asked"]

P = ParamSpec("P")


class CachedHandler(Protocol[P]):
    """A handler whose responses are kept. Called by hand, without FastAPI, it runs the function; it is
    awaited also where that is a plain one."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...

    async def cache_clear(self, cache: TieredCache[Any]) -> None:
        """Drop all responses of this handler from all tiers of ``cache``."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of a handler. ``response`` has the headers that dependencies set."""

    request: Request
    response: Response
    cache: TieredCache[Any]


async def asked(request: Request, response: Response, cache: Cache) -> Asked:
    """A dependency, because a handler cannot have two parameters that are the request."""
    return Asked(request, response, cache)


@dataclass(frozen=True, slots=True)
class _Route:
    """``make`` runs the handler of `_running` and makes a response of what it returns. ``route`` is weak: it
    has the application, and that has its cache."""

    route: ref[Any]
    make: Callable[[Request], Any]
    declared: Declared


#: The handler that runs for this task, with its arguments.
_running: ContextVar[Callable[[Response], Any]] = ContextVar("tiercache_fastapi_running")


class Handler:
    """A function that the user wrote, sync or async."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function)
        #: By the identity of the route, which is gone from here before another has it: routes have no hash.
        self._routes: dict[int, _Route] = {}

    def signature(self, **dependencies: Callable[..., Any]) -> inspect.Signature:
        """The function's, for FastAPI, with further parameters that are ``dependencies``."""
        try:
            signature = inspect.signature(self._function, eval_str=True)
        except NameError:  # of a type that is there for type checkers alone: FastAPI says more about it
            signature = inspect.signature(self._function)
        further = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[Any, Depends(function)]
            )
            for name, function in dependencies.items()
        ]
        return signature.replace(parameters=[*signature.parameters.values(), *further])

    async def run(self, arguments: dict[str, Any]) -> Any:
        """What the function returns."""
        if self._is_async:
            return await self._function(**arguments)
        return await run_in_threadpool(self._function, **arguments)

    async def respond(self, asked: Asked, arguments: dict[str, Any]) -> Response:
        """The response that FastAPI makes of what the function returns, with the headers that it set."""

        def run(fresh: Response) -> Any:
            # What the function says of the response belongs to it, and what dependencies say to the request.
            return self.run(
                {name: fresh if value is asked.response else value for name, value in arguments.items()}
            )

        token = _running.set(run)
        try:
            return await self._route(asked.request).make(asked.request)  # type: ignore[no-any-return]  # what the handler gives
        finally:
            _running.reset(token)

    def declared(self, request: Request) -> Declared:
        """What the function and its dependencies say of responses, for this request: the application may
        have put others in their place since the last one."""
        overrides = getattr(request.app, "dependency_overrides", None)
        return (
            declared(_route_of(request).dependant, overrides) if overrides else self._route(request).declared
        )

    def _route(self, request: Request) -> _Route:
        """What is to be known of the route that leads here."""
        route = _route_of(request)
        name = id(route)
        known = self._routes.get(name)
        if known is None:
            known = self._routes[name] = _Route(
                ref(route, lambda _: self._routes.pop(name, None)),
                _like(route).get_route_handler(),
                declared(route.dependant),
            )
        return known


def _route_of(request: Request) -> Any:
    scope = request.scope
    # A router that is included adds to a route: newer versions keep that beside it.
    return scope.get("fastapi", {}).get("effective_route_context") or scope["route"]


async def _endpoint(response: Response) -> Any:
    return await _running.get()(response)


def _like(route: Any) -> APIRoute:
    """A route without parameters, that makes the same of what `_endpoint` returns as ``route`` would."""
    options = {
        name: getattr(route, name)
        for name in (
            "response_model",
            "status_code",
            "response_class",
            "response_model_include",
            "response_model_exclude",
            "response_model_by_alias",
            "response_model_exclude_unset",
            "response_model_exclude_defaults",
            "response_model_exclude_none",
        )
    }
    return APIRoute(route.path if route.path.startswith("/") else "/", _endpoint, **options)
