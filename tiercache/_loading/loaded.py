"""`Loaded`: what a loader returns to say more than a value. And what its answer amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Never, TypeAlias, TypeVar

from tiercache.entry import MISS, UNSET, Sentinel
from tiercache.units import Duration, duration

__all__ = ["Answer", "Loaded"]

T_co = TypeVar("T_co", covariant=True)

_TTL: TypeAlias = "Duration | Literal[Sentinel.UNSET] | None"


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T_co]):
    """A loaded value with a life of its own: ``return Loaded(value, ttl="10m")``.

    ``ttl``
        how long this entry is fresh: a duration, ``None`` for no expiry; unless given, what the call or the
        cache says.

    A loader of many keys may return some of its values like this. Raises `ConfigError` for a wrong ttl and
    `TypeError` for ``None``, which is never a value: see `absent`.
    """

    value: T_co
    ttl: _TTL = UNSET

    def __post_init__(self) -> None:
        if self.value is None:
            raise TypeError(
                "None is not a value; return None, or Loaded.absent(ttl=...) to have it remembered"
            )
        if self.ttl is not UNSET and self.ttl is not None:
            object.__setattr__(self, "ttl", duration(self.ttl, name="ttl"))

    @classmethod
    def absent(cls, *, ttl: _TTL = UNSET) -> Loaded[Never]:
        """There is no value, and for ``ttl`` the loader need not be asked again: callers get ``None``.

        This process remembers it, for at most 10,000 keys a namespace (the oldest are forgotten first),
        until somebody in it writes the key or clears the namespace. A value that another process stored is
        found all the same.
        """
        absent: Any = Loaded(MISS, ttl)
        return absent  # type: ignore[no-any-return]  # a value that nobody ever reads


@dataclass(slots=True)
class Answer:
    """A loader's answer, taken apart: the values there are; the ttl of each that has one of its own; and for
    how long (``UNSET``: as long as a value) to remember that a key has none."""

    values: dict[str, Any] = field(default_factory=dict)
    ttls: dict[str, float | None] = field(default_factory=dict)
    absent: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Answer:
        """The answer that gave ``given``: values, some of them `Loaded`."""
        answer = cls()
        for key, value in given.items():
            if not isinstance(value, Loaded):
                answer.values[key] = value
            elif value.value is MISS:
                answer.absent[key] = value.ttl
            else:
                answer.values[key] = value.value
                if value.ttl is not UNSET:
                    answer.ttls[key] = value.ttl  # type: ignore[assignment]  # seconds since it was made
        return answer
