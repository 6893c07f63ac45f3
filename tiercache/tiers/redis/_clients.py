"""When the wires of a Redis tier are made and ended: one for blocking calls, one for each event loop.

They are made by the first call that needs them; what could not be made is tried again by the next call.
An asyncio client belongs to its loop, so it ends with it: an asynchronous generator is left suspended on
the loop, which closes its generators when it shuts down (`asyncio.run` does). The alternative, finding out
afterwards, is too late: the sockets of a dead loop cannot be closed without noise.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any

import redis

from tiercache.errors import TierUnavailable
from tiercache.forks import reset_after_fork
from tiercache.tiers.redis._wires import BlockingWire, NativeWire
from tiercache.watchdog import Call

__all__ = ["BlockingClients", "Maker", "NativeClients"]

#: Makes what a wire travels over, and says what closes it (nothing, for a client of somebody else).
Maker = Callable[[], tuple[Any, list[Callable[[], Any]]]]

# A forked child keeps what it must not use: ending it would reach for locks and sockets of the parent.
_of_the_parent: list[Any] = []


class _Timer:
    """A `Call`, to be entered with ``async with`` as an asyncio timer is. No generator, which takes several
    times as long."""

    __slots__ = ("_call",)

    def __init__(self, seconds: float) -> None:
        self._call = Call(seconds)

    async def __aenter__(self) -> None:
        self._call.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.__exit__(kind, error, trace)


class BlockingClients:
    """The wire for blocking calls, shared by all threads."""

    def __init__(self, make: Maker, limit: int, *, ours: bool) -> None:
        self._make = make
        self._limit = limit
        self._ours = ours
        self._lock = threading.Lock()
        self._wire: BlockingWire | None = None
        self._closers: list[Callable[[], Any]] = []
        reset_after_fork(self)

    async def wire(self, until: float) -> BlockingWire:
        if self._wire is None:
            # A cluster's topology is read here: the others wait for it, as long as their own time lasts.
            if not self._lock.acquire(timeout=max(0.0, until - monotonic())):
                raise redis.TimeoutError("another thread is still connecting")
            try:
                if self._wire is None:
                    source, self._closers = self._make()
                    self._wire = BlockingWire(source, self._limit, ours=self._ours)
            finally:
                self._lock.release()
        return self._wire

    def timer(self, seconds: float) -> _Timer:
        """Every step of a blocking wire gets what is left of its call's time, which is known by this."""
        return _Timer(seconds)

    def close(self) -> None:
        with self._lock:
            self._wire = None
            closers, self._closers = self._closers, []
        for close in closers:
            with suppress(redis.RedisError, OSError):
                close()

    def after_fork(self) -> None:
        _of_the_parent.append((self._wire, self._closers))
        self._lock = threading.Lock()
        self._wire, self._closers = None, []


class NativeClients:
    """The wires for asyncio, one for each event loop that calls."""

    def __init__(self, make: Maker, limit: int, *, one_loop: bool) -> None:
        self._make = make
        self._limit = limit
        self._one_loop = one_loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._wires: dict[asyncio.AbstractEventLoop, tuple[NativeWire, AsyncGenerator[None]]] = {}
        reset_after_fork(self)

    async def wire(self, until: float) -> NativeWire:  # noqa: ARG002 - making it does not wait
        loop = asyncio.get_running_loop()
        known = self._wires.get(loop)
        if known is not None:
            return known[0]
        if self._one_loop:
            self._claim(loop)
        source, closers = self._make()
        wire = NativeWire(source, self._limit)
        keeper = self._keep(loop, closers)
        await keeper.asend(None)  # up to its yield, which suspends nothing
        with self._lock:
            for other in [other for other in self._wires if other.is_closed()]:
                del self._wires[other]
            self._wires[loop] = wire, keeper
        return wire

    def timer(self, seconds: float) -> asyncio.Timeout:
        return asyncio.timeout(seconds)

    async def aclose(self) -> None:
        """Close the running loop's client; those of other loops close with their loops."""
        with self._lock:
            known = self._wires.pop(asyncio.get_running_loop(), None)
        if known is not None:
            await known[1].aclose()

    def after_fork(self) -> None:
        _of_the_parent.append((self._wires, self._loop))
        self._lock = threading.Lock()
        self._wires, self._loop = {}, None

    async def _keep(
        self, loop: asyncio.AbstractEventLoop, closers: list[Callable[[], Any]]
    ) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._wires.pop(loop, None)
            for close in closers:
                with suppress(redis.RedisError, OSError):
                    await close()

    def _claim(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self._loop is None:
                self._loop = loop
            if self._loop is not loop:
                raise TierUnavailable(
                    "the asyncio client that this tier was given belongs to another event loop; "
                    "give the tier a URL, and it makes a client for each loop"
                )
