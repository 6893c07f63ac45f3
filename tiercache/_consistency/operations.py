"""Operations: the fills and writes that are going on, and which of them the current code works for."""

from __future__ import annotations

from collections.abc import Collection
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from tiercache._consistency.flights import loading
from tiercache._consistency.rings import Awaited, Waiting
from tiercache._running.bridge import Runtime
from tiercache._running.event_loops import running_loop
from tiercache._running.futures import new_future
from tiercache._running.owners import Owner

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Ends", "Operation", "ended", "holding", "holding_nothing", "waiting_with", "works_for"]

#: Operations to wait for, each with the future that ends with it.
Ends: TypeAlias = "list[tuple[Operation, Future[Any]]]"


class Operation(Awaited):
    """A fill or write that is going on. ``superseded`` has those of its ``keys`` that another write has
    written without waiting for it. It must not write them into any more tiers, and must delete what it
    wrote before it ends."""

    __slots__ = ("done", "keys", "superseded", "thrown_away")

    def __init__(self, keys: Collection[str], *, blocking: bool, owner: Owner | None = None) -> None:
        self.keys = keys
        self.owner = owner
        self.loop = None if blocking else running_loop()
        self.done: Future[Any] | None = None
        self.superseded: set[str] = set()
        #: Whether its coroutine was, so that nothing more can be awaited for it.
        self.thrown_away = False
        self.waits_for = []

    @property
    def was_left(self) -> bool:
        """Whether its coroutine is no more."""
        return self.thrown_away or super().was_left

    @property
    def parts(self) -> tuple[Operation, ...]:
        """The operations in single domains that it is made of."""
        return (self,)

    def finished(self) -> Future[Any]:
        """The future that ends with the operation; call it under the owner's lock."""
        if self.done is None:
            self.done = new_future()
        return self.done


#: See `works_for`.
_held: ContextVar[tuple[Operation, ...]] = ContextVar("tiercache_operations", default=())


class holding:  # noqa: N801 - read as a statement; a generator would take three times as long
    """``with holding(operation):`` marks the code inside as work for it: chains inside this chain do not
    wait for it."""

    __slots__ = ("_parts", "_token")

    def __init__(self, *operations: Operation) -> None:
        self._parts = tuple(part for operation in operations for part in operation.parts)

    def __enter__(self) -> None:
        self._token = _held.set(works_for() + self._parts)

    def __exit__(self, *_error: object) -> None:
        try:  # noqa: SIM105 - `suppress` takes as long as all else here
            _held.reset(self._token)
        except ValueError:  # an abandoned coroutine is closed in whatever context there is
            pass


def works_for() -> tuple[Operation, ...]:
    """The operations that the current thread or task works for, outermost first."""
    held = _held.get()
    for operation in held:
        if operation.was_left:  # an interrupt kept `holding` from its end
            held = tuple(operation for operation in held if not operation.was_left)
            _held.set(held)
            break
    return held


def holding_nothing() -> None:
    """Mark the current context as one that works for no operation."""
    _held.set(())


def waiting_with(runtime: Runtime, mine: tuple[Operation, ...]) -> Waiting:
    """What a call waits by that is part of ``mine``."""
    return Waiting((*mine, *loading()), running_loop() if runtime.blocking else None)


async def ended(runtime: Runtime, waiting: Waiting, ends: Ends) -> None:
    """Wait for ``ends``, as far as they will come; ``waiting`` has begun for them."""
    try:
        for operation, future in ends:
            await runtime.ended(future, awaited=operation)
    finally:
        waiting.end()
