"""Events: what happens to a chain's tiers, as frozen records for hooks: the user's, and those of
`tiercache.observability`.

No event holds a key or a value. A hook is called at once, by the thread (or event loop) to whose call it
happened, so it must be quick, and must not use the cache. Whatever it raises breaks no call: it is logged
once, and the hook is called again for the next event.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

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

    #: What happened, in one word for programs.
    kind: ClassVar[str] = "event"

    tier: str

    def as_dict(self) -> dict[str, Any]:
        """Its ``kind`` as ``event``, and its fields."""
        return {"event": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True)
class TierFailed(Event):
    """A call raised ``error`` (the name of its type). ``action`` is what the call was to do: ``"read"``,
    ``"write"``, ``"delete"``, ``"clear"``, …. ``timeout``: it ran out of time."""

    kind = "tier_failed"

    action: str
    error: str
    timeout: bool


@dataclass(frozen=True, slots=True)
class BreakerOpened(Event):
    """The tier failed so often in a row that it is left alone for ``pause`` seconds, and then probed."""

    kind = "breaker_opened"

    verbs: Verbs
    pause: float


@dataclass(frozen=True, slots=True)
class BreakerClosed(Event):
    """The tier answered a probe and is asked again, ``seconds`` after the breaker had opened."""

    kind = "breaker_closed"

    verbs: Verbs
    seconds: float


@dataclass(frozen=True, slots=True)
class BudgetReached(Event):
    """``share`` of the budget of ``day`` (a date in UTC) is spent: ``spent`` of ``limit``, in ``currency``.
    Of all processes that share the ledger, in the tier of that name (``""``: it is in memory), one is told of
    each share, once a day. At 1.0 loaders are called no more, if the budget blocks."""

    kind = "budget_reached"

    share: float
    spent: Decimal
    limit: Decimal
    day: str
    currency: str


#: What a user gives to hear of events.
Hook: TypeAlias = Callable[[Event], object]


class Emitter:
    """Hands events to hooks, if there are any. Thread-safe if the hooks are."""

    __slots__ = ("_complained", "_hooks")

    def __init__(self, hook: Hook | None) -> None:
        if hook is not None and not callable(hook):
            raise ConfigError(f"on_event: {hook!r:.60} cannot be called; give a function of one event")
        # Lists, whose methods are atomic: no lock that a fork could leave held.
        self._hooks: list[Hook] = [] if hook is None else [hook]
        self._complained: list[Hook] = []

    def add(self, hook: Hook) -> None:
        """Tell ``hook`` too, from now on."""
        self._hooks.append(hook)

    def remove(self, hook: Hook) -> None:
        """Do so no longer; nothing if it was not told."""
        with suppress(ValueError):
            self._hooks.remove(hook)

    def emit(self, event: Event) -> None:
        """Tell the hooks of ``event``, in their order. Raises nothing of what they raise."""
        for hook in tuple(self._hooks):
            try:
                hook(event)
            except Exception as error:  # noqa: BLE001 - a hook can never break a call
                self._complain(hook, event, error)

    def _complain(self, hook: Hook, event: Event, error: Exception) -> None:
        if hook in self._complained:
            return
        self._complained.append(hook)
        # Not the error itself: nobody knows what it would say.
        logger().warning(
            "an event hook raised %s for %s; said once",
            type(error).__name__,
            type(event).__name__,
        )
