"""How observers are told (see `tiercache.observing`): so that nothing that one raises gets out, and so that
what a coroutine has begun ends, however that ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tiercache._log import logger
from tiercache._running.bridge import LeftRunning
from tiercache._running.owners import leavings, thrown
from tiercache.observing import Observation

__all__ = ["Watch", "watched"]

T = TypeVar("T")


class Watch:
    """One observation, which ``begin`` makes when it is known of how many keys it is."""

    __slots__ = ("_begin", "_observation", "over")

    def __init__(self, begin: Callable[[int], Observation]) -> None:
        self._begin = begin
        self._observation: Observation | None = None
        #: Whether it has ended, or never will have begun.
        self.over = False

    def begin(self, keys: int) -> None:
        """It begins now, if it has not yet."""
        if self._observation is None and not self.over:
            try:
                self._observation = self._begin(keys)
            except Exception as error:  # noqa: BLE001 - as in `end`
                self.over = True
                _complain(error)

    def answered(self, tier: str, asked: int, hits: int) -> None:
        """See `Observation.answered`."""
        self._tell("answered", tier, asked, hits)

    def leave(self) -> None:
        """See `Observation.leave`."""
        self._tell("leave")

    def end(self, error: BaseException | None) -> None:
        """It is over: of several calls the first counts."""
        observation, self._observation, self.over = self._observation, None, True
        if observation is not None:
            try:
                observation.end(error)
            except Exception as failure:  # noqa: BLE001 - an observer can never break a call
                _complain(failure)

    def _tell(self, what: str, *args: Any) -> None:
        if self._observation is not None:
            try:
                getattr(self._observation, what)(*args)
            except Exception as error:  # noqa: BLE001 - as in `end`
                _complain(error)


async def watched(watch: Watch, work: Awaitable[T]) -> T:
    """The result of ``work``, with which ``watch`` ends; of a loader that runs on without its caller, not
    yet."""
    try:
        result = await work
    except LeftRunning:
        watch.leave()
        raise
    except BaseException as error:
        thrown(error)
        watch.leave()
        if not leavings.take(watch.end, error):
            watch.end(error)
        raise
    watch.end(None)
    return result


def _complain(error: Exception) -> None:
    """An observer raised ``error``: told once."""
    global _complained  # noqa: PLW0603 - once a process
    if not _complained:
        _complained = True
        # Not the error itself: nobody knows what it would say.
        logger().warning("an observer of a cache raised %s; said once", type(error).__name__)


_complained = False
