"""The circuit breaker: leaves a tier alone for a while after it failed several times in a row.

Closed, calls pass. After ``failures`` failures in a row it opens, and for a pause none passes. Then it is
half-open: one call passes at a time, the probe. A probe that succeeds closes it; one that fails opens it
again, for twice as long, up to a limit. Pauses are shortened at random, by up to a quarter: processes
that lost one server together shall not come back to it all at once.

A caller takes a permit, and gives it back with how the call went. Permits of an earlier time are worth
nothing: a call that began before the breaker opened says nothing of the tier as it is now.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from tiercache._running.owners import leavings
from tiercache.policies import Failure
from tiercache.protocols import Clock

__all__ = ["Breaker", "Permit"]

Permit: TypeAlias = int

_JITTER = 0.25  # of a pause, at most, is left out


class Breaker:
    """The breaker of one tier, or of its reads or writes. Thread-safe.

    The healthy path takes no lock: read `permit`, make the call, see that `ailing` is false. ``draw`` gives
    numbers from 0 up to 1, by default at random.
    """

    __slots__ = (
        "_clock", "_draw", "_failures", "_generation", "_limit", "_lock", "_longest", "_next_pause",
        "_opened", "_pause", "_probing", "_until", "ailing", "permit",
    )  # fmt: skip

    def __init__(
        self,
        policy: Failure,
        clock: Clock,
        draw: Callable[[], float] | None = None,
    ) -> None:
        #: What a caller may begin a call with; ``None``: ask `probe`.
        self.permit: Permit | None = 0
        #: Whether a success is news.
        self.ailing = False
        self._limit = policy.breaker_failures
        self._pause = self._next_pause = policy.breaker_pause
        self._longest = policy.breaker_longest
        self._clock = clock
        self._draw = draw or _random
        self._generation = 0
        self._failures = 0
        self._probing = False
        self._until = self._opened = 0.0
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """A new lock, for a forked child; and whoever was probing is not there."""
        self._lock = threading.Lock()
        if self._probing:
            self._give_back()

    def probe(self) -> Permit | None:
        """A permit where `permit` is ``None``: for one caller at a time, and for none during the pause."""
        leavings.settle()  # the probe may have been thrown away
        with self._lock:
            if self.permit is not None:
                return self.permit  # closed in the meantime
            if self._probing or self._clock.monotonic() < self._until:
                return None
            self._probing = True
            self._generation += 1
            return self._generation

    def failed(self, permit: Permit) -> float | None:
        """The tier failed. How long it is left alone, in seconds, if that opened a closed breaker."""
        chance = self._draw()  # not under the lock: what it imports makes garbage, and that may be anybody's
        with self._lock:
            if permit != self._generation:
                return None
            if self._probing:
                self._probing = False
                self._open(chance)
                return None
            if self.permit is None:
                return None
            self._failures += 1
            self.ailing = True
            if self._limit is None or self._failures < self._limit:
                return None
            self._opened = self._clock.monotonic()
            return self._open(chance)

    def succeeded(self, permit: Permit) -> float | None:
        """The tier did what it was asked. For how many seconds it had been left alone, if that closed the
        breaker."""
        with self._lock:
            if permit != self._generation or (self.permit is None and not self._probing):
                return None
            self._failures = 0
            self.ailing = False
            if not self._probing:
                return None
            self._probing = False
            self._next_pause = self._pause
            self._generation += 1
            self.permit = self._generation
            return self._clock.monotonic() - self._opened

    def undecided(self, permit: Permit) -> None:
        """The call told nothing of the tier: its caller was cancelled, or a value was at fault."""
        if leavings.take(self.undecided, permit):
            return
        with self._lock:
            if self._probing and permit == self._generation:
                self._give_back()

    def _give_back(self) -> None:
        """The next caller is the probe; the pause is over already."""
        self._probing = False
        self._generation += 1

    def _open(self, chance: float) -> float:
        pause = self._next_pause * (1 - _JITTER * chance)
        self._next_pause = min(2 * self._next_pause, self._longest)
        self._until = self._clock.monotonic() + pause
        self._generation += 1
        self.permit = None
        return pause


def _random() -> float:
    import random  # here: most tiers never fail

    return random.random()  # noqa: S311 - pauses are no secrets
