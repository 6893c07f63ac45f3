"""``@cached``: keeps the responses of a handler."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import update_wrapper
from hashlib import blake2b
from typing import Any, ParamSpec

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tiercache._chain.answers import collecting
from tiercache._loading.attempts import attempt
from tiercache._running.bridge import NATIVE, LeftRunning, Runtime
from tiercache.call_keys import function_name
from tiercache.chain import TieredCache
from tiercache.errors import BudgetExceeded, CacheClosed, ConfigError, TierCacheError
from tiercache.integrations.fastapi._answers import Style, answer, mark
from tiercache.integrations.fastapi._declared import Declared
from tiercache.integrations.fastapi._handlers import Asked, CachedHandler, Handler, asked
from tiercache.integrations.fastapi._headers import Wishes, wishes
from tiercache.integrations.fastapi._responses import Kept, ResponseCodec, headers_of, keepable
from tiercache.integrations.fastapi._sources import source_of
from tiercache.units import Duration, duration

__all__ = ["cached"]

P = ParamSpec("P")

_CREDENTIALS = frozenset({"authorization", "cookie"})
#: What a dependency says with them is about this response, and none that is kept goes with it.
_OF_DEPENDENCIES = ("cache-control", "etag", "set-cookie", "vary")
_AT_ONCE: Mapping[str, Any] = {"stale_for": 0, "refresh_ahead": 0, "load_deadline": None}
_ASKED, _IDENTITY, _CHOSEN = "tiercache_asked", "tiercache_identity", "tiercache_key"


def cached(
    *,
    ttl: Duration,
    key: Callable[..., Any] | None = None,
    vary: Iterable[str] = (),
    identity: Callable[..., Any] | None = None,
    public: bool = False,
    max_age: Duration | None = None,
    statuses: Container[int] = range(200, 300),
    reload: bool = True,
    name: str | None = None,
) -> Callable[[Callable[P, Any]], CachedHandler[P]]:
    """Decorator of a FastAPI handler, sync or async, below the route's own: keeps its responses to GET.

    ``ttl``
        how long a response is kept, and clients are told to keep it (``Cache-Control: max-age`` of the rest).
    ``key``
        a dependency that returns text: what the response depends on, in place of the parameters of the query.
        The application's title, host, path, identity and ``vary`` are in the key anyway.
    ``vary``
        names of request headers that the response depends on; those that the handler or its dependencies
        declare with ``Header()`` or ``Cookie()`` are found by themselves.
    ``identity``
        a dependency that returns as text whose response it is: nobody else gets it, shared caches are told
        ``private``. ``None``: this request has nothing to do with the cache.
    ``public``
        the response is the same for everybody, whoever asks. Unless this or ``identity`` is given, requests
        with ``Authorization`` or ``Cookie``, and routes that depend on one of FastAPI's schemes of security,
        are left to the handler: their responses are not kept, and theirs are not told apart.
    ``max_age``
        how long clients keep a response at most, zero: they ask each time, and get a 304 for what they have.
    ``statuses``
        of responses that are kept; never 206 and 304.
    ``reload``
        whether clients may have the handler run, by ``Cache-Control: no-cache`` or ``max-age``.
    ``name``
        under which the responses lie, instead of the function's (its module's and its own; of a script, the
        script's path). Handlers of one name share them, where application, host and path are the same too.

    Dependencies are solved for every request; the handler runs once however many ask at a time. What it
    raises is not kept, nor are responses that stream, set a cookie, or forbid it in ``Cache-Control`` or
    ``Vary``. ``X-Cache`` tells the name of the tier that had the response, or ``miss``; without it the cache
    was not asked. A cache that is ill is a miss; at the limit of its budget `BudgetExceeded` is raised in the
    place of a run. Raises `ConfigError` for a wrong argument, `TypeError` for a
    generator."""
    if identity is not None and public:
        raise ConfigError(
            "identity says whose a response is, and public that it is everybody's: give one of them"
        )
    for option, given in {"key": key, "identity": identity}.items():
        if given is not None and not callable(given):
            raise ConfigError(f"{option}: a {type(given).__name__} is no dependency; give a function")
    if isinstance(vary, str):
        raise ConfigError(f"vary: give a list of names, [{vary!r}]")
    headers = frozenset(header.strip().lower() for header in vary)
    if "*" in headers:
        raise ConfigError("vary: with '*' no request is like another, and nothing would be kept")
    rules = _Rules(
        life=duration(ttl, name="ttl"),
        vary=headers,
        identified=identity is not None,
        chosen=key is not None,
        public=public,
        max_age=None if max_age is None else duration(max_age, name="max_age", zero=True),
        statuses=statuses,
        reload=reload,
    )
    wanted = {_IDENTITY: identity, _CHOSEN: key}
    dependencies = {_ASKED: asked, **{slot: one for slot, one in wanted.items() if one is not None}}

    def decorate(function: Callable[P, Any]) -> CachedHandler[P]:
        if not inspect.isroutine(function):
            raise TypeError(f"cached decorates functions, and a {type(function).__name__} is none")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is a generator: what streams cannot be kept")
        handler = Handler(function)
        responses = _Responses(handler, rules, name or function_name(function))

        async def call(*args: Any, **arguments: Any) -> Any:
            request: Asked | None = arguments.pop(_ASKED, None)
            identity = arguments.pop(_IDENTITY, None)
            chosen = arguments.pop(_CHOSEN, None)
            if request is None:  # by hand
                found: Any = function(*args, **arguments)
                return await found if inspect.isawaitable(found) else found
            return await responses.answer(request, identity, chosen, arguments)

        update_wrapper(call, function)
        # FastAPI would look through us, at a function without our parameters.
        del call.__wrapped__  # type: ignore[attr-defined]  # a function has any attribute
        call.__signature__ = handler.signature(**dependencies)  # type: ignore[attr-defined]  # as above
        call.cache_clear = responses.clear  # type: ignore[attr-defined]  # as above
        return call  # type: ignore[return-value]  # as above

    return decorate


@dataclass(frozen=True, slots=True)
class _Rules:
    life: float
    vary: frozenset[str]
    identified: bool
    chosen: bool
    public: bool
    max_age: float | None
    statuses: Container[int]
    reload: bool


@dataclass(slots=True)
class _Run:
    """What a run of the handler for this request came to, besides a response that is kept."""

    started: bool = False
    response: Response | None = None
    refusal: HTTPException | None = None
    background: BackgroundTask | None = None


class _Responses:
    """The responses of one handler."""

    def __init__(self, handler: Handler, rules: _Rules, name: str) -> None:
        self._handler = handler
        self._rules = rules
        self._name = f"fastapi:{name}"
        self._codec = ResponseCodec()
        #: The view of the cache that was used last: to make one takes longer than to find a response.
        self._latest: tuple[TieredCache[Any], TieredCache[Kept]] | None = None

    async def clear(self, cache: TieredCache[Any]) -> None:
        """`CachedHandler.cache_clear`."""
        await self._view(cache).aclear()

    async def answer(self, asked: Asked, identity: Any, chosen: Any, arguments: dict[str, Any]) -> Any:
        """What FastAPI is to send."""
        request, rules = asked.request, self._rules
        if request.method not in ("GET", "HEAD"):
            return await self._handler.run(arguments)
        declared = self._handler.declared(request)
        vary = rules.vary | declared.headers
        # Who sends credentials gets another answer, unless they make no difference.
        style = Style(rules.identified, vary if rules.public else vary | _CREDENTIALS, rules.max_age)
        if not self._takes_part(asked, identity, declared):
            value = await self._handler.run(arguments)
            mark(value if isinstance(value, Response) else asked.response, style.vary)
            return value
        key = _key(request, sorted(vary), identity, chosen if rules.chosen else None)
        # Credentials are in no key: who sends them has a part in this only by identity, or as anybody.
        varies = vary if rules.identified else style.vary
        response = await self._respond(asked, style, key, varies, arguments)
        # FastAPI adds these to what it makes of a value by itself.
        response.headers.raw.extend(asked.response.headers.raw)
        return response

    def _takes_part(self, asked: Asked, identity: Any, declared: Declared) -> bool:
        """Whether a response to this request may be one that is kept."""
        headers, rules = asked.request.headers, self._rules
        # A body, as some send it with GET, is in no key.
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return False
        if declared.unbounded:
            return False
        status: int | None = asked.response.status_code  # FastAPI has none there until somebody says one
        said = headers_of(asked.response)
        if status is not None or any(name in said for name in _OF_DEPENDENCIES):
            return False
        if rules.identified:
            return identity is not None
        return rules.public or not (declared.secured or any(name in headers for name in _CREDENTIALS))

    async def _respond(
        self, asked: Asked, style: Style, key: str, varies: frozenset[str], arguments: dict[str, Any]
    ) -> Response:
        run = _Run()
        request = asked.request
        wish = wishes(request.headers.getlist("cache-control"), request.headers.getlist("pragma"))
        if not self._rules.reload:
            wish = replace(wish, max_age=None)
        now, kept, source = 0.0, None, "miss"
        view: TieredCache[Kept] | None = None
        try:
            view = self._view(asked.cache)
            clock = view._stack.clock  # noqa: SLF001 - ages and lives are told by one clock
            with collecting(view._stack) as answers:  # noqa: SLF001 - no public call tells who answered
                if wish.no_store or request.method == "HEAD":
                    kept = await self._look(view, key, wish, clock.time())
                else:
                    kept = await self._load(view, key, wish, run, asked, varies, arguments)
            source = "miss" if kept is None else source_of(view, answers.get(key))
            now = clock.time()
        except TierCacheError as error:
            # Closed, nobody to tell of a reload, or a spent budget, by which a run apart is refused too. The
            # handler's own errors are not for us to judge.
            if run.started:
                raise
            if isinstance(error, CacheClosed):
                view = None
        if run.refusal is not None:
            raise run.refusal
        if kept is not None:
            return answer(kept, request, style, now=now, source=source, background=run.background)
        # Also for those who waited for a response that turned out to be of no use to them.
        response = run.response or await self._apart(view, key, asked, arguments)
        mark(response, style.vary, "miss")
        return response

    async def _apart(
        self, view: TieredCache[Kept] | None, key: str, asked: Asked, arguments: dict[str, Any]
    ) -> Response:
        """A run whose response is not kept. Its call is in the ledger and the budget like those of loaders:
        or whoever says ``no-store`` could spend what is not there. Without a ``view`` the cache is closed."""
        if view is None:
            return await self._handler.respond(asked, arguments)

        async def load(_runtime: Runtime, keys: list[str]) -> dict[str, Any]:
            return {keys[0]: await self._handler.respond(asked, arguments)}

        # It is no load: nobody joins it, and nothing of it is stored or counted in statistics.
        try:
            given = await attempt(view._core, NATIVE, load, [key], lambda: [key])  # noqa: SLF001 - our own class
        except LeftRunning as left:
            raise left.cancelled from None
        response: Response = given[key]
        return response

    async def _look(self, view: TieredCache[Kept], key: str, wish: Wishes, now: float) -> Kept | None:
        """A response that is kept already: what a handler does for HEAD is none to a GET, and what came of a
        request with ``no-store`` is not to be kept."""
        kept = await view.aget(key)
        return None if kept is not None and _too_old(kept, wish, now) else kept

    async def _load(
        self,
        view: TieredCache[Kept],
        key: str,
        wish: Wishes,
        run: _Run,
        asked: Asked,
        varies: frozenset[str],
        arguments: dict[str, Any],
    ) -> Kept | None:
        clock = view._stack.clock  # noqa: SLF001 - as above

        async def load(_key: str) -> Kept | None:
            run.started = True
            made = clock.time()
            try:
                response = await self._handler.respond(asked, arguments)
            except HTTPException as error:
                # An answer like another, and none to replace by an old one: it may say that there is no such
                # thing.
                if error.status_code >= 500:
                    raise
                run.refusal = error
                return None
            rules = self._rules
            if not keepable(response, statuses=rules.statuses, varies=varies, private=rules.identified):
                run.response = response
                return None
            run.background = response.background
            return Kept.of(response, made=made, life=rules.life)

        if wish.max_age is not None:
            # Deleted, and not overwritten later: then one run serves all who want that, and none that began
            # before somebody changed things is waited for, or kept.
            kept = await view.aget(key) if wish.max_age else None
            if not wish.max_age or (kept is not None and _too_old(kept, wish, clock.time())):
                await self._make_room(view, key)
        return await view.aget_or_load(key, load)

    async def _make_room(self, view: TieredCache[Kept], key: str) -> None:
        """Drop a response for a newer one, unless the budget allows none: it is the best there is then."""
        books = view._stack.books  # noqa: SLF001 - of our own class
        try:
            if books is not None:
                await books.check(NATIVE)
        except BudgetExceeded:
            return
        await view.adelete(key)

    def _view(self, cache: TieredCache[Any]) -> TieredCache[Kept]:
        latest = self._latest
        if latest is None or latest[0] is not cache:
            view = cache.view(self._name, codec=self._codec, ttl=self._rules.life)
            # Nothing behind the caller: the handler's dependencies are over with its request.
            staleness = view._staleness.override(_AT_ONCE)  # noqa: SLF001 - the rest is the cache's own
            latest = self._latest = cache, view.with_staleness(staleness)
        return latest[1]


def _too_old(kept: Kept, wish: Wishes, now: float) -> bool:
    return wish.max_age is not None and (not wish.max_age or kept.age(now) > wish.max_age)


def _key(request: Request, vary: Iterable[str], identity: Any, chosen: Any) -> str:
    """The key: all that the response depends on. A digest, for there may be secrets in it."""
    scope = request.scope
    # Parameters of one name keep their order.
    query = sorted(request.query_params.multi_items(), key=lambda item: item[0])
    parts = [
        # Two services may have a module, a function and a path of one name each, and behind a proxy one host.
        getattr(scope["app"], "title", None),
        scope.get("scheme"),
        request.headers.get("host"),
        scope.get("root_path"),
        scope["path"],
        _text(chosen, "key") if chosen is not None else query,
        [[name, request.headers.getlist(name)] for name in vary],
        None if identity is None else _text(identity, "identity"),
    ]
    return blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} returned a {type(value).__name__}; it must be text, a str")
    return value
