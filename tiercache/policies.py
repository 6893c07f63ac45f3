"""Frozen records of what users choose for a tier or a chain, each with the one parser of its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiercache.errors import ConfigError
from tiercache.units import Duration, optional_wait, wait

__all__ = ["Failure"]

#: Seconds; a breaker's pause grows to this, or stays what it is where it was set longer.
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Failure:
    """What a chain does about a tier that fails or hangs.

    ``deadline``
        seconds for a whole call; ``None``: as long as the tier takes.
    ``breaker_failures``
        after so many failures in a row the tier is left alone for a while; ``None``: never.
    ``breaker_pause``, ``breaker_longest``
        seconds that it is left alone: at first, and at most. Each failed probe doubles the pause.
    ``retries``
        how often a call that failed, though not for time, is made again within the deadline.
    ``writes_apart``
        the tier's writes may fail while its reads are well, so each have a breaker of their own.
    """

    deadline: float | None = None
    breaker_failures: int | None = 3
    breaker_pause: float = 1.0
    breaker_longest: float = _LONGEST_PAUSE
    retries: int = 0
    writes_apart: bool = False

    @classmethod
    def of(
        cls,
        owner: str,
        *,
        deadline: Duration | None,
        breaker_failures: int | None,
        breaker_pause: Duration,
        breaker_longest: Duration,
        retries: int,
        writes_apart: bool = False,
    ) -> Failure:
        """The record for the arguments that ``owner``, a class or function, was given under these names.
        Raises `ConfigError`."""
        if breaker_failures is not None:
            _check_count(breaker_failures, 1, f"{owner}.breaker_failures", ", or None for no breaker")
        _check_count(retries, 0, f"{owner}.retries", "")
        pause = wait(breaker_pause, name=f"{owner}.breaker_pause")
        longest = wait(breaker_longest, name=f"{owner}.breaker_longest")
        return cls(
            deadline=optional_wait(deadline, name=f"{owner}.deadline"),
            breaker_failures=breaker_failures,
            breaker_pause=pause,
            breaker_longest=max(pause, longest),
            retries=retries,
            writes_apart=writes_apart,
        )

    @classmethod
    def of_tier(cls, tier: Any) -> Failure:
        """What ``tier`` says of itself. Without a word on that: of memory nothing, since it does not fail; of
        anybody's tier the usual, with no deadline, which would cost it a thread."""
        own = getattr(tier, "failure", None)
        if isinstance(own, Failure):
            return own
        return cls(breaker_failures=None) if getattr(tier, "nonblocking", False) else cls()


def _check_count(value: Any, least: int, name: str, otherwise: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f"{name}: {value!r} is not allowed; give a whole number, {least} or more{otherwise}"
        )
