"""Staleness on purpose: how long a value outlives its time, who may still get it, when it is made anew early.

An entry that is stored for a ttl ``T`` is fresh for ``T`` and held for ``keep`` seconds more. In between it
is stale: a miss for everybody but the loading calls whose options want it. Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf, log
from sys import float_info
from typing import Any, Literal, TypedDict

from tiercache.entry import Sliding
from tiercache.errors import ConfigError
from tiercache.units import Duration, duration, optional_duration, optional_wait

__all__ = ["NEVER_STALE", "READERS", "Staleness", "StalenessOptions", "chance"]

#: How long ``stale_if_error=True`` is.
_A_DAY = 86_400.0
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*", re.ASCII)


class StalenessOptions(TypedDict, total=False):
    """Options of a cache and of its loading calls, where each of them stands in for the cache's own.

    ``stale_for``
        how long after its time a value is still served, at once, while one background refresh makes it
        anew. Zero: not at all.
    ``stale_if_error``
        how long after its time a value is served when the loader fails; ``True``: a day.
    ``refresh_ahead``
        refresh values that are still fresh behind the caller, the more likely the nearer their end and the
        longer a load takes (XFetch); 1.0 is usual, more is earlier, zero is off.
    ``jitter``
        shorten each life at random by up to this much: a duration, or a share of the ttl such as
        ``"10%"``. Zero: not at all.
    ``sliding``
        what is stored ends so long after its last use, and at the end of its ttl at the latest. A use renews
        it, within a quarter of this, in every tier that holds it. ``None``: uses renew nothing.
    ``load_deadline``
        when the loader takes longer, the caller gets the old value that ``stale_if_error`` allows, and the
        load is finished behind it. Without such a value the caller waits. ``None``: everybody waits.
    ``lock``
        ``"process"``: of all threads and tasks one loads a key. ``"shared"``: of all processes too that share
        the lowest tier which keeps leases (disk, Redis, SQL).
    """

    stale_for: Duration
    stale_if_error: Duration | bool
    refresh_ahead: float
    jitter: Duration
    sliding: Duration | None
    load_deadline: Duration | None
    lock: Literal["process", "shared"]


@dataclass(frozen=True, slots=True)
class Staleness:
    """The options, checked, in seconds. ``keep``: how much longer than fresh an entry is held, the most that
    the cache or the call wants: a call that wants less does not take from what others may get."""

    stale_for: float = 0.0
    stale_if_error: float = 0.0
    refresh_ahead: float = 0.0
    jitter: float = 0.0
    jitter_share: float = 0.0
    load_deadline: float | None = None
    shared: bool = False
    keep: float = 0.0
    sliding: float | None = None

    def override(self, options: Mapping[str, Any]) -> Staleness:
        """The same with ``options`` in the place of these. Raises `ConfigError` for a value that is wrong
        and `TypeError` for an option that there is not."""
        if not options:
            return self
        given: dict[str, Any] = {}
        for name, value in options.items():
            read = READERS.get(name)
            if read is None:
                raise TypeError(f"there is no option {name!r} here; there are {', '.join(READERS)}")
            given.update(read(value))
        made = replace(self, **given)
        return replace(made, keep=max(self.keep, made.stale_for, made.stale_if_error))

    @property
    def varies(self) -> bool:
        """Whether lives of one ttl differ."""
        return self.jitter > 0 or self.jitter_share > 0

    def times(self, now: float, ttl: float | None) -> tuple[float | None, float | None, Sliding | None]:
        """When an entry stored ``now`` for ``ttl`` expires, until when it is fresh (``None``: until then),
        and how it slides."""
        if self.varies and ttl is not None:
            # chance() is below one, so that something of every life is left.
            ttl -= chance() * min(ttl, self.jitter or ttl * self.jitter_share)
        period = self.sliding
        if period is not None and (ttl is None or period < ttl):
            return now + period + self.keep, now + period, Sliding(period, inf if ttl is None else ttl)
        if ttl is None:
            return None, None, None
        if not self.keep:
            return now + ttl, None, None
        return now + ttl + self.keep, now + ttl, None

    def due(self, left: float, load_seconds: float) -> bool:
        """Whether a value that is fresh for ``left`` more seconds is to be made anew already, when making
        one takes ``load_seconds``."""
        return -load_seconds * self.refresh_ahead * log(1.0 - chance()) >= left


#: What a cache does unless told.
NEVER_STALE = Staleness()


def chance() -> float:
    """A random number, at least zero and below one."""
    from random import random  # here, because few need it, and it brings hashlib

    return random()  # noqa: S311 - nothing here is secret


def _if_error(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"stale_if_error": _A_DAY if value else 0.0}
    return {"stale_if_error": duration(value, name="stale_if_error")}


def _beta(value: Any) -> dict[str, Any]:
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or not 0 <= value <= float_info.max:
        raise ConfigError(
            f"refresh_ahead: {value!r} is not allowed; give a number, 1.0 as a rule, or 0 for off"
        )
    return {"refresh_ahead": float(value)}


def _jitter(value: Any) -> dict[str, Any]:
    share = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if share is None:
        return {"jitter": duration(value, name="jitter", zero=True), "jitter_share": 0.0}
    if float(share[1]) > 100:
        raise ConfigError(f"jitter: {value!r} is not allowed; no life can be shortened by more than 100%")
    return {"jitter": 0.0, "jitter_share": float(share[1]) / 100}


def _lock(value: Any) -> dict[str, Any]:
    if value not in ("process", "shared"):
        raise ConfigError(f"lock: {value!r} is unknown; it is 'process' or 'shared'")
    return {"shared": value == "shared"}


#: What reads each option: the fields of `Staleness` that it sets. Raises `ConfigError`.
READERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "stale_for": lambda value: {"stale_for": duration(value, name="stale_for", zero=True)},
    "stale_if_error": _if_error,
    "refresh_ahead": _beta,
    "jitter": _jitter,
    "sliding": lambda value: {"sliding": optional_duration(value, name="sliding")},
    "load_deadline": lambda value: {"load_deadline": optional_wait(value, name="load_deadline")},
    "lock": _lock,
}
