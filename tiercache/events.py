"""Events: what happens to a chain's tiers, as frozen records for a hook of the user's.

No event holds a key or a value. A hook is called at once, by the thread (or event loop) to whose call it
happened, so it must be quick, and must not use the cache. Whatever it raises breaks no call: it is logged
once, and the hook is called again for the next event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from tiercache._log import logger
from tiercache.errors import ConfigError

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = [
    "BreakerClosed", "BreakerOpened", "BudgetReached", "Emitter", "Event", "Hook", "TierFailed", "Verbs",
]  # fmt: skip

#: Which calls of a tier a breaker judges.
Verbs: TypeAlias = Literal["all", "reads", "writes"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to the tier of that name."""

    tier: str


@dataclass(frozen=True, slots=True)
class TierFailed(Event):
    """A call raised ``error`` (the name of its type). ``action`` is what the call was to do: ``"read"``,
    ``"write"``, ``"delete"``, ``"clear"``, …. ``timeout``: it ran out of time."""

    action: str
    error: str
    timeout: bool


@dataclass(frozen=True, slots=True)
class BreakerOpened(Event):
    """The tier failed so often in a row that it is left alone for ``pause`` seconds, and then probed."""

    verbs: Verbs
    pause: float


@dataclass(frozen=True, slots=True)
class BreakerClosed(Event):
    """The tier answered a probe and is asked again, ``seconds`` after the breaker had opened."""

    verbs: Verbs
    seconds: float


@dataclass(frozen=True, slots=True)
class BudgetReached(Event):
    """``share`` of the budget of ``day`` (a date in UTC) is spent: ``spent`` of ``limit``, in ``currency``.
    Of all processes that share the ledger, in the tier of that name (``""``: it is in memory), one is told of
    each share, once a day. At 1.0 loaders are called no more, if the budget blocks."""

    share: float
    spent: Decimal
    limit: Decimal
    day: str
    currency: str


#: What a user gives to hear of events.
Hook: TypeAlias = Callable[[Event], object]


class Emitter:
    """Hands events to a hook, if there is one. Thread-safe if the hook is."""

    __slots__ = ("_complained", "hook")

    def __init__(self, hook: Hook | None) -> None:
        if hook is not None and not callable(hook):
            raise ConfigError(f"on_event: {hook!r:.60} cannot be called; give a function of one event")
        self.hook = hook
        self._complained = False

    def emit(self, event: Event) -> None:
        """Tell the hook of ``event``. Raises nothing of what the hook raises."""
        if self.hook is None:
            return
        try:
            self.hook(event)
        except Exception as error:  # noqa: BLE001 - a hook can never break a call
            if not self._complained:
                self._complained = True
                # Not the error itself: nobody knows what it would say.
                logger().warning(
                    "the on_event hook raised %s for %s; said once",
                    type(error).__name__,
                    type(event).__name__,
                )
