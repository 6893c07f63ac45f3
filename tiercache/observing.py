"""Observing: what takes time in a chain, told to an observer while it happens.

A look-up that leaves memory and a load are each an observation: begun and ended by the thread or in the task
that it happens for, in its context, so that the observer can change that for as long as it lasts. What
memory answers, and what no observer is there for, pays nothing. No observer hears of a key or a value, and
none can break a call: what it raises is logged once.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Observation", "Observer"]


class Observation(Protocol):
    """Something that goes on."""

    def answered(self, tier: str, asked: int, hits: int) -> None:
        """Of a look-up: ``tier`` was asked for so many keys, and had so many of them."""
        ...

    def leave(self) -> None:
        """It goes on without its caller, who was cancelled: the context is the caller's own again. It ends
        elsewhere."""
        ...

    def end(self, error: BaseException | None) -> None:
        """It is over, with what it raised. Called once; in another context only after `leave`."""
        ...


class Observer(Protocol):
    """Who hears of what a chain does. Thread-safe."""

    def lookup(self, keys: int) -> Observation:
        """So many keys are looked up in the tiers below memory, of which the first is asked now."""
        ...

    def load(self, keys: int, *, behind: bool) -> Observation:
        """A loader is called for so many keys; ``behind`` the callers, who have older values."""
        ...
