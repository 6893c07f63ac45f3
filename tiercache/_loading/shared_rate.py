"""A rate that several processes share, through Redis: the windows there are those of the library limits.

When that Redis is ill each process keeps to the rate by itself, and says so in the log: what paces loads must
not end them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, TypeVar

from tiercache._log import logger
from tiercache.errors import ConfigError, MissingPackage
from tiercache.forks import reset_after_fork

__all__ = ["RATE_SCHEMES", "SharedWindows", "check_shared", "is_installed", "margin"]

T = TypeVar("T")

#: Those of `RedisTier`.
RATE_SCHEMES = (
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis+cluster://",
    "rediss+cluster://",
)
#: Seconds that a call of the server may take.
_DEADLINE = 0.5
#: Seconds that it is left alone after a failure: at first, and at most. Each further failure doubles them.
_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_WARN_EVERY = 60.0
_PREFIX = "tiercache:rate"
#: The library counts whole seconds, and what it counts need not be seconds.
_TICKS = 100
#: A call that was let go has so many seconds, or this share of the window, to be at the provider.
_MARGIN, _MARGIN_SHARE = 0.1, 0.01
#: A window of so many entries is enough: each token has one, so that larger limits are counted in grains.
_GRAINS = 1000


def check_shared(url: str) -> None:
    """Raise `ConfigError` for what is no URL of a Redis, and `MissingPackage` without limits or redis."""
    if not isinstance(url, str) or not url.startswith(RATE_SCHEMES):
        raise ConfigError(
            f"rate_shared: give a URL that begins with {', '.join(RATE_SCHEMES)} (what was given is not "
            "shown: it may hold a password)"
        )
    for package in ("limits", "redis"):
        if not is_installed(package):
            raise MissingPackage(package, "pace", "rate_shared=")


@cache
def is_installed(package: str) -> bool:
    """Whether there is such a package. Looked for once: it takes longer than many a hit."""
    return find_spec(package) is not None


class SharedWindows:
    """The windows of one rate on the server at ``url``, under ``name``, for all that give both. Thread-safe.

    ``limits``: how many in how many seconds, by name. Raises what `check_shared` does.
    """

    def __init__(self, url: str, name: str, limits: Mapping[str, tuple[int, float]]) -> None:
        check_shared(url)
        self._url = url
        #: Several servers, where the URL names them: the library reads such URLs in a way of its own, without
        #: a database, TLS, and escapes in passwords.
        self._servers = _servers(url) if "+" in url.partition("://")[0] else None
        self._windows = {
            what: _Window(f"{name}:{what}:{limit}/{period:g}s", limit, period)
            for what, (limit, period) in limits.items()
        }
        self._storage: Any = None
        self._pause = _PAUSE
        self._alone_until = self._next_warning = float("-inf")
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def seconds(self, amounts: Mapping[str, int], taken: set[str]) -> float | None:
        """Take ``amounts`` where there is room for them, and say zero; or else in how many seconds there may
        be some. What was ``taken`` is noted there, and is not taken again. ``None``: the server is ill."""
        return self._ask(partial(self._seconds, amounts, taken))

    def have_room(self, amounts: Mapping[str, int]) -> bool | None:
        """Take ``amounts`` where there is room for all of them, and say whether there was. ``None`` as
        above."""

        def ask(storage: Any) -> bool:
            windows = (
                (self._windows[what], amount) for what, amount in amounts.items() if what in self._windows
            )
            if not all(window.has_room(storage, amount) for window, amount in windows):
                return False
            return not self._seconds(amounts, set(), storage)  # somebody may have been quicker

        return self._ask(ask)

    def _seconds(self, amounts: Mapping[str, int], taken: set[str], storage: Any) -> float:
        # Tokens before requests, so that the moment which counts exactly is that of the request.
        for what in sorted(amounts, reverse=True):
            if what in taken or what not in self._windows:
                continue
            seconds = self._windows[what].seconds(storage, amounts[what])
            if seconds:
                return seconds
            taken.add(what)
        return 0.0

    def _ask(self, ask: Callable[[Any], T]) -> T | None:
        """What ``ask`` hears from the server; ``None`` where that is ill."""
        if time.monotonic() < self._alone_until:
            return None
        try:
            answer = ask(self._connected())
        except Exception as error:  # noqa: BLE001 - whatever is wrong there, loads go on
            self._failed(error)
            return None
        self._pause = _PAUSE
        return answer

    def _connected(self) -> Any:
        with self._lock:
            if self._storage is None:
                self._storage = self._connect()
            return self._storage

    def _connect(self) -> Any:
        from limits.storage import RedisClusterStorage, RedisStorage
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        if self._servers is None:
            options: dict[str, Any] = {
                "socket_timeout": _DEADLINE,
                "socket_connect_timeout": _DEADLINE,
                "retry": Retry(NoBackoff(), 0),  # redis-py's own would have a caller wait for a minute
            }
            return RedisStorage(self._url, key_prefix=_PREFIX, **options)
        if self._servers.kind == "cluster":
            options = self._servers.cluster_options()
            return RedisClusterStorage("redis+cluster://", key_prefix=_PREFIX, **options)
        pool, _close = self._servers.blocking()
        return RedisStorage("redis://", connection_pool=pool, key_prefix=_PREFIX)

    def _failed(self, error: Exception) -> None:
        now = time.monotonic()
        with self._lock:
            self._alone_until = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            warn = now >= self._next_warning
            if warn:
                self._next_warning = now + _WARN_EVERY
        if warn:
            logger().warning(
                "the Redis that shares a rate failed (%s): each process keeps to the rate by itself",
                type(error).__name__,
            )


def _servers(url: str) -> Any:
    """Where the servers are that ``url`` names. Raises `ConfigError`."""
    from tiercache.tiers.redis._connect import Endpoint

    try:
        return Endpoint(url, _DEADLINE)
    except ConfigError as error:
        raise ConfigError(f"rate_shared: {str(error).removeprefix('RedisTier: ')}") from None


def margin(period: float) -> float:
    """By how much a window on the server is longer than ``period``: between being let go there and being at
    the provider a call loses time, and without this there would be too many within one stretch."""
    return max(_MARGIN, period * _MARGIN_SHARE)


class _Window:
    """One of them."""

    def __init__(self, key: str, limit: int, period: float) -> None:
        self._key = key
        self._grain = -(-limit // _GRAINS)
        self._limit = limit // self._grain
        self._ticks = round((period + margin(period)) * _TICKS)

    def has_room(self, storage: Any, amount: int) -> bool:
        """Whether ``amount`` could be taken now."""
        cost = min(-(-amount // self._grain), self._limit)
        since = time.time() * _TICKS - self._ticks
        found = storage.lua_moving_window([storage.prefixed_key(self._key)], [since, self._limit])
        return (int(found[1]) if found else 0) + cost <= self._limit

    def seconds(self, storage: Any, amount: int) -> float:
        """Take ``amount`` and say zero, or in how many seconds to ask again."""
        cost = min(-(-amount // self._grain), self._limit)
        if not cost:
            return 0.0
        key = storage.prefixed_key(self._key)
        now = time.time() * _TICKS
        if storage.lua_acquire_moving_window([key], [now, self._limit, self._ticks, cost]):
            return 0.0
        now = time.time() * _TICKS
        found = storage.lua_moving_window([key], [now - self._ticks, self._limit])
        left = (float(found[0]) + self._ticks - now) / _TICKS if found else 0.0
        return min(max(left, 0.001), self._ticks / _TICKS)
