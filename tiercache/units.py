"""Durations and sizes as users write them: numbers, `timedelta`, ``"5m"``, ``"256MiB"``."""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING, TypeAlias

from tiercache.errors import ConfigError

__all__ = [
    "DURATIONS",
    "DURATION_UNITS",
    "LONGEST_WAIT",
    "SIZES",
    "SIZE_DIGITS",
    "SIZE_UNITS",
    "Duration",
    "Size",
    "duration",
    "optional_duration",
    "optional_size",
    "optional_wait",
    "size",
    "wait",
]

if TYPE_CHECKING:
    from datetime import timedelta

Duration: TypeAlias = "float | int | timedelta | str"
Size: TypeAlias = int | str

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
#: Seconds. SQLite and PostgreSQL count milliseconds in 32 bits, and take more of them for none or an error.
LONGEST_WAIT = 24 * 86400.0
_SPELLINGS = {unit.lower(): factor for unit, factor in _BYTES.items()}
#: The units of durations, in small letters and capitals alike.
DURATION_UNITS = tuple(_SECONDS)
#: The units of sizes, likewise.
SIZE_UNITS = tuple(_BYTES)
#: What may be written, for messages.
DURATIONS = f'such as "250ms", "5m" or "30d" (units: {", ".join(DURATION_UNITS)})'
SIZES = f'such as "64KiB", "256MiB" or "10GB" (units: {", ".join(SIZE_UNITS)})'
#: So many digits before the point has a size that is text.
SIZE_DIGITS = 30
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)


def duration(value: Duration, *, name: str, zero: bool = False) -> float:
    """Seconds in ``value``: a number of seconds, a `timedelta`, or text such as ``"250ms"``.

    Zero is allowed only where it means "off" (``zero=True``). Raises `ConfigError`, which is a
    `ValueError`, for anything negative, infinite, NaN or unreadable; ``name`` is what it calls it.
    """
    seconds: float
    datetime = sys.modules.get("datetime")  # nobody has a timedelta who has not imported it
    if datetime is not None and isinstance(value, datetime.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _parse(value, _SECONDS, name, DURATIONS)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
    else:
        raise ConfigError(f"{name}: {value!r} is no duration; give seconds, a timedelta, or text {DURATIONS}")
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        wanted = "zero or more" if zero else "more than zero"
        raise ConfigError(f"{name}: {value!r} is not allowed; it must be finite and {wanted} seconds")
    return seconds


def optional_duration(value: Duration | None, *, name: str, zero: bool = False) -> float | None:
    """Like `duration`, with ``None`` passed through."""
    return None if value is None else duration(value, name=name, zero=zero)


def wait(value: Duration, *, name: str) -> float:
    """Like `duration`, of how long something is waited for: `LONGEST_WAIT` seconds at most."""
    seconds = duration(value, name=name)
    if seconds > LONGEST_WAIT:
        raise ConfigError(f"{name}: {value!r} is not allowed; it must be 24 days at most")
    return seconds


def optional_wait(value: Duration | None, *, name: str) -> float | None:
    """Like `wait`, with ``None`` passed through."""
    return None if value is None else wait(value, name=name)


def size(value: Size, *, name: str) -> int:
    """Bytes in ``value``: a positive int, or text such as ``"256MiB"`` (2**20) or ``"10GB"`` (10**9).

    Raises `ConfigError` for anything else; ``name`` is what it calls it.
    """
    if isinstance(value, str):
        quantity = _parse(value, _SPELLINGS, name, SIZES)
        digits = sum(map(str.isdigit, value.partition(".")[0]))
        if digits > SIZE_DIGITS:
            raise ConfigError(
                f"{name}: a number of {digits} digits is not allowed; it must be finite, "
                f"with {SIZE_DIGITS} digits at most"
            )
        number = int(quantity)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise ConfigError(f'{name}: {value!r} is no size; give bytes or text such as "256MiB"')
    if number <= 0:
        raise ConfigError(f"{name}: {value!r} is not allowed; it must be at least one byte")
    return number


def optional_size(value: Size | None, *, name: str) -> int | None:
    """Like `size`, with ``None`` passed through."""
    return None if value is None else size(value, name=name)


def _parse(text: str, units: dict[str, float] | dict[str, int], name: str, examples: str) -> float:
    match = _QUANTITY.fullmatch(text)
    factor: float | None = None
    if match is not None:
        unit = match[2]
        factor = units.get(unit.lower()) if unit else 1
    if match is None or factor is None:
        raise ConfigError(f"{name}: {text!r} cannot be read; write a number and one unit, {examples}")
    return float(match[1]) * factor
