"""How fast loaders may be called: the options of a cache and of its loading calls, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from tiercache._loading.gate import Gate
from tiercache._loading.rate import Rate
from tiercache._loading.retry import Retry
from tiercache._loading.shared_rate import check_shared
from tiercache.errors import ConfigError
from tiercache.units import LONGEST_WAIT, Duration, duration

__all__ = ["UNPACED", "Made", "Pace", "PaceOptions", "check_pace"]


class PaceOptions(TypedDict, total=False):
    """Options of a cache and of its loading calls, where each of them stands in for the cache's own.

    ``rate``
        how many calls of loaders there may be in a stretch of time, and of how many tokens, such as
        ``"500/min, 90000 tokens/min"``, or a `Rate`. Who would exceed it waits. ``None``: no limit.
    ``rate_shared``
        the URL of a Redis, through which all processes keep to a ``rate`` that is text together: those whose
        caches have the same namespace.
    ``concurrency``
        how many loads there may be at once, of threads and tasks together. ``None``: no limit.
    ``retry``
        how often a loader is called again that failed for a reason that passes: a rate limit, a time-out, a
        broken connection. ``True``: three times, after 2, 4 and 8 seconds and a little more, or when the
        provider says. A `Retry`, or its arguments as a mapping, says more. ``False`` or zero: never.
    ``batch_window``
        loads of few keys that come within so much time, of any threads and tasks, become one call of the
        loader: of ``mget_or_load`` with the same function, and of ``get_or_load`` with ``batched(function)``.
        Zero: each goes by itself.
    ``max_batch``
        how many keys such a call has at most; a batch that is full goes at once. ``None``: no limit.
    """

    rate: str | Rate | None
    rate_shared: str | None
    concurrency: int | None
    retry: bool | int | Mapping[str, Any] | Retry
    batch_window: Duration
    max_batch: int | None


@dataclass(frozen=True, slots=True)
class Pace:
    """The options, checked, with what they count in."""

    rate: Rate | None = None
    shared: str | None = field(default=None, repr=False)  # it may hold a password
    gate: Gate | None = None
    retry: Retry | None = None
    window: float = 0.0
    most: int | None = None

    def override(self, options: Mapping[str, Any], made: Made) -> Pace:
        """The same with ``options`` in the place of these; what they need is kept in ``made``. Raises
        `ConfigError` for a value that is wrong."""
        given: dict[str, Any] = {}
        for name, value in options.items():
            given.update(PACE_READERS[name](value, made))
        rate, shared = options.get("rate"), given.get("shared", self.shared)
        if "rate" not in options and "shared" in given and self.rate is not None:
            # As it is, but for whom it is shared with.
            rate = self.rate.text if self.rate.of_option else self.rate
        if isinstance(rate, Rate) and given.get("shared") is not None:
            raise ConfigError(
                "rate_shared: a Rate is not shared by this; give Rate(..., shared=...), or the rate as text"
            )
        if isinstance(rate, str):
            given["rate"] = made.rate(rate, shared)
        made_so = replace(self, **given)
        return UNPACED if made_so == UNPACED else made_so  # it is asked for by `is`


#: What a cache does unless told.
UNPACED = Pace()


class Made:
    """What was made for options that were given as text or numbers, by these: calls of one cache that say the
    same share it."""

    def __init__(self, name: str = "") -> None:
        #: Tells what processes share from what other caches share.
        self.name = name
        self._made: dict[Any, Any] = {}

    def rate(self, text: str, shared: str | None) -> Rate:
        """The one for ``text`` that is ``shared``. Raises `ConfigError`."""
        found = self._made.get((text, shared))
        if found is None:
            new = Rate(text, shared=shared, name=self.name)
            new.of_option = True
            found = self._made.setdefault((text, shared), new)
        return found  # type: ignore[no-any-return]  # of what was made under such a key

    def one(self, kind: Callable[[Any], Any], value: Any) -> Any:
        """The one ``kind(value)``. Raises what that raises."""
        key: Any = kind, value
        found = self._made.get(key)
        return self._made.setdefault(key, kind(value)) if found is None else found


def check_pace(name: str, value: Any) -> None:
    """Raise `ConfigError` unless the option called ``name`` may be ``value``."""
    UNPACED.override({name: value}, Made())


def _rate(value: Any, _made: Made) -> dict[str, Any]:
    if value is None or isinstance(value, Rate):
        return {"rate": value}
    if not isinstance(value, str):
        Rate(value)  # says what it must be
    return {}  # see `Pace.override`


def _shared(value: Any, _made: Made) -> dict[str, Any]:
    if value is not None:
        check_shared(value)
    return {"shared": value}


def _concurrency(value: Any, made: Made) -> dict[str, Any]:
    if value is None:
        return {"gate": None}
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"concurrency: {value!r:.60} is not allowed; give a whole number, 1 or more, or None for no limit"
        )
    return {"gate": made.one(Gate, value)}


def _retry(value: Any, made: Made) -> dict[str, Any]:
    if isinstance(value, Retry):
        return {"retry": value}
    if isinstance(value, Mapping):
        try:
            return {"retry": Retry(**value)}
        except TypeError:
            raise ConfigError(
                f"retry: {value!r:.60} is not allowed; a mapping has tries, wait, longest and on"
            ) from None
    if not isinstance(value, int) or value < 0:
        raise ConfigError(f"retry: {value!r:.60} is not allowed; give True, False, or how many tries")
    tries = 3 if value is True else value
    return {"retry": made.one(Retry, tries) if tries else None}


def _window(value: Any, _made: Made) -> dict[str, Any]:
    seconds = duration(value, name="batch_window", zero=True)
    if seconds > LONGEST_WAIT:
        raise ConfigError(f"batch_window: {value!r} is not allowed; it must be 24 days at most")
    return {"window": seconds}


def _most(value: Any, _made: Made) -> dict[str, Any]:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError(
            f"max_batch: {value!r:.60} is not allowed; give a whole number, 1 or more, or None for no limit"
        )
    return {"most": value}


#: What reads each option: the fields of `Pace` that it sets. Raises `ConfigError`.
PACE_READERS: dict[str, Callable[[Any, Made], dict[str, Any]]] = {
    "rate": _rate,
    "rate_shared": _shared,
    "concurrency": _concurrency,
    "retry": _retry,
    "batch_window": _window,
    "max_batch": _most,
}
