"""`Closing`: what waits for its turn to load is woken when the cache is closed, and raises `CacheClosed`.

Each wait has a future of its own, and is forgotten when it is over: one future for all of them would keep a
callback for each task that ever waited, as long as the cache is open.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tiercache._running.bridge import Runtime
from tiercache._running.futures import new_future
from tiercache.errors import CacheClosed
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Closing", "end"]


class Closing:
    """The waits of one root chain that end when it is closed. Thread-safe."""

    def __init__(self) -> None:
        self.closed = False
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Who waits is in the parent."""
        #: One entry is put in or taken out at a time, which needs no lock.
        self._waits: dict[Future[Any], None] = {}

    def close(self) -> None:
        """The cache is being closed: wake all who wait, and let nobody wait any more."""
        self.closed = True
        for future in tuple(self._waits):
            end(future)

    def check(self) -> None:
        """Raise `CacheClosed` for who has waited, where that is so."""
        if self.closed:
            raise CacheClosed("the cache was closed while a load waited for its turn")

    @contextmanager
    def ending(self, future: Future[Any]) -> Iterator[None]:
        """Inside, closing ends ``future``. Raises `CacheClosed` at the end where the cache is closed."""
        self._waits[future] = None
        try:
            if self.closed:  # it may have looked before
                end(future)
            yield
        finally:
            self._waits.pop(future, None)
        self.check()

    async def pause(self, runtime: Runtime, seconds: float) -> None:
        """Let so many ``seconds`` pass. Raises `CacheClosed` as soon as the cache is."""
        future = new_future()
        with self.ending(future):
            await runtime.ended(future, seconds=seconds)


def end(future: Future[Any]) -> None:
    """End ``future``, unless it has ended."""
    if future.done():
        return
    from concurrent.futures import InvalidStateError

    with suppress(InvalidStateError):  # whoever else ends it was quicker
        future.set_result(None)
