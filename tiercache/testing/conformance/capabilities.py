"""`Capabilities`: what a tier says that it can do, from which the suite chooses its cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

__all__ = ["Capabilities", "needs"]

Case = TypeVar("Case", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Cases for what is not declared are not run; a case of its own finds what is there undeclared.

    ``values``
        ``"bytes"`` for a tier with ``stores_bytes = True``; ``"any"`` for one that keeps objects.
    ``blocking``, ``asynchronous``
        it is a `Tier`, an `AsyncTier`, or both.
    ``scan``, ``clear``, ``purge``, ``size``, ``counters``
        it has these methods (an async tier: those or their async twins).
    ``lease``
        it has ``acquire`` and ``release`` (or their async twins).
    ``persistent``
        a tier made after another was closed, over the same folder, sees what that one stored.
    ``clock``
        it tells the time by ``self.clock``, so that the suite can let time pass.
    ``idle``
        it knows when an entry was last read, and ``purge(idle=…)`` goes by that.
    ``bounded``
        the test class has ``make_bounded_tier``.
    """

    values: Literal["bytes", "any"] = "bytes"
    blocking: bool = True
    asynchronous: bool = False
    scan: bool = False
    clear: bool = False
    purge: bool = False
    size: bool = False
    counters: bool = False
    lease: bool = False
    persistent: bool = False
    clock: bool = False
    idle: bool = False
    bounded: bool = False

    def has(self, wanted: str) -> bool:
        """Whether ``wanted`` is declared: a field's name, or ``"bytes"`` or ``"any"`` for the values."""
        return self.values == wanted if wanted in {"bytes", "any"} else bool(getattr(self, wanted))


def needs(*wanted: str) -> Callable[[Case], Case]:
    """Marks a case that is run only for tiers that declare all of ``wanted``."""

    def mark(case: Case) -> Case:
        case.needs = wanted  # type: ignore[attr-defined] # functions take attributes; their type has none
        return case

    return mark
