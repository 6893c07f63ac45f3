"""`Retry`: when a loader that failed is called again. The tries and their waits are tenacity's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from tiercache._loading.failures import is_passing, retry_after
from tiercache._loading.rate import Pause
from tiercache._loading.shared_rate import is_installed
from tiercache._loading.staleness import chance
from tiercache.errors import ConfigError, MissingPackage
from tiercache.protocols import Clock
from tiercache.units import Duration
from tiercache.units import wait as waited

__all__ = ["MOST_TRIES", "Retry"]

#: No pause grows beyond what a float can hold.
MOST_TRIES = 100


class Retry:
    """Further tries of a loader that failed for a reason that passes.

    ``tries``
        how many there are at most, after the first call.
    ``wait``
        how long before the first of them; before each next one it is twice as long. Up to half of ``wait``
        comes on top, at random, so that those who failed together do not come back together.
    ``longest``
        the longest that a try is waited for. A provider that says when (``Retry-After``) is not asked before
        that; if that is later, its error is raised at once.
    ``on``
        errors that are worth a try besides those that are recognised: classes, names of classes and
        statuses of HTTP. Recognised are rate limits, time-outs, broken connections, and what gateways say
        of these (408, 425, 429, 502, 503, 504, 529). Never one about a wrong request (any other 4xx), unless
        its status is named.

    The last error is raised as it is. Raises `ConfigError` for wrong arguments, and `MissingPackage` without
    tenacity.
    """

    def __init__(
        self,
        tries: int = 3,
        *,
        wait: Duration = 2.0,
        longest: Duration = 60.0,
        on: Sequence[type[Exception] | str | int] = (),
    ) -> None:
        if not isinstance(tries, int) or isinstance(tries, bool) or not 1 <= tries <= MOST_TRIES:
            raise ConfigError(f"retry.tries: {tries!r:.60} is not allowed; give a whole number from 1 to 100")
        is_list = isinstance(on, Sequence | AbstractSet) and not isinstance(on, str | bytes)
        for one in on if is_list else (on,):
            is_class = isinstance(one, type) and issubclass(one, Exception)
            if not is_list or isinstance(one, bool) or not (is_class or isinstance(one, str | int)):
                raise ConfigError(
                    f"retry.on: {one!r:.60} is not allowed; give a list of exceptions, names and statuses"
                )
        if not is_installed("tenacity"):
            raise MissingPackage("tenacity", "pace", "retry=")
        self.tries = tries
        self.wait = waited(wait, name="retry.wait")
        self.longest = waited(longest, name="retry.longest")
        self.on = tuple(on)

    def __repr__(self) -> str:
        return f"Retry({self.tries}, wait={self.wait}, longest={self.longest}, on={self.on!r})"

    def __eq__(self, other: object) -> bool:
        return self._said() == other._said() if isinstance(other, Retry) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._said())

    def _said(self) -> tuple[object, ...]:
        return self.tries, self.wait, self.longest, self.on

    async def run(self, sleep: Pause, clock: Clock, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """What ``attempt()`` makes, at the last try if need be; with ``sleep`` before each further one."""
        from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

        def seconds(state: RetryCallState) -> float:
            told = self._told(state.outcome.exception() if state.outcome is not None else None, clock)
            own = min(self.wait * 2.0 ** (state.attempt_number - 1), self.longest)
            return (own if told is None else told) + chance() * self.wait / 2

        again = AsyncRetrying(
            sleep=sleep,
            stop=stop_after_attempt(1 + self.tries),
            wait=seconds,
            retry=retry_if_exception(lambda error: self._is_worth_it(error, clock)),
            reraise=True,
        )
        return await again(attempt)

    def _is_worth_it(self, error: BaseException, clock: Clock) -> bool:
        if not is_passing(error, self.on):
            return False
        told = self._told(error, clock)
        return told is None or told <= self.longest

    @staticmethod
    def _told(error: BaseException | None, clock: Clock) -> float | None:
        return retry_after(error, clock.time()) if isinstance(error, Exception) else None
