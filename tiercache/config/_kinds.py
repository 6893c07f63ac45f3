"""The kinds of values that options have: what each one takes, and how it says so.

A value is passed on to the constructor as it was given, after its variables were expanded, and where a
format or a variable can say only text (``"1000"``, ``"true"``, ``"none"``), as what that text means.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from tiercache._loading.pace import check_pace
from tiercache._loading.rate import RATES
from tiercache._loading.retry import MOST_TRIES
from tiercache._loading.shared_rate import RATE_SCHEMES
from tiercache._loading.staleness import READERS
from tiercache.budget import Budget
from tiercache.config._problems import lacks, nearest
from tiercache.config._variables import expand
from tiercache.errors import ConfigError
from tiercache.protocols import Codec as AnyCodec
from tiercache.registry import codec_names, is_codec
from tiercache.units import DURATION_UNITS, DURATIONS, SIZES, duration, size, wait

__all__ = [
    "SQLURL",
    "Codec",
    "Eagerness",
    "Filled",
    "Flag",
    "Grace",
    "GraceOnError",
    "Jitter",
    "Keys",
    "Kind",
    "Level",
    "OptionalBudget",
    "OptionalCount",
    "OptionalLasting",
    "OptionalName",
    "OptionalPlace",
    "OptionalRate",
    "OptionalRateURL",
    "OptionalSecrets",
    "OptionalWait",
    "OptionalWeight",
    "Place",
    "RedisURL",
    "Refused",
    "Repeats",
    "Text",
    "Tiers",
    "Tries",
    "Views",
    "Wait",
    "Weight",
    "Window",
    "choice",
    "kind_of",
]

REDIS_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
SQL_DIALECTS = ("sqlite", "postgresql", "mysql", "mariadb")


#: An amount of money above zero and below a million that is text, as a regular expression of JSON Schema too.
AMOUNT = r"(?=.*[1-9])0*[0-9]{1,6}(\.[0-9]+)?"
#: The same of any number.
NUMBER = r"\s*\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*"
_KEY = re.compile(r"(?:[0-9a-f]{32}|[0-9a-f]{48}|[0-9a-f]{64})", re.ASCII | re.IGNORECASE)


class Refused(ValueError):
    """A value that its option does not take; the text says what is allowed, and a likely correction."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value. ``read`` gives back what is passed on, and raises a `ValueError` otherwise;
    ``called`` is its name in schemas, where a choice has none."""

    allowed: str
    read: Callable[[Any], Any]
    names: Callable[[], tuple[str, ...]] = tuple
    hidden: bool = False  # what was found is told to nobody
    place: Literal["", "path", "sqlite"] = ""  # that it names: a relative one begins at a folder
    is_url: bool = False  # what stands in its place may be a password alone
    called: str = ""
    nullable: bool = False

    def check(self, value: Any) -> Any:
        """What is passed on for ``value``. Raises `Refused` or `VariableError`."""
        if isinstance(value, str):
            value = expand(value)
        elif isinstance(value, list | tuple):
            value = [expand(one) if isinstance(one, str) else one for one in value]
        try:
            return self.read(value)
        except Refused as error:
            raise Refused(f"{self.allowed_now}; {error}") from None
        except ValueError:
            hint = nearest(value, self.names()) if isinstance(value, str) else ""
        raise Refused(self.allowed_now + hint)

    @property
    def allowed_now(self) -> str:
        """What is allowed, with the names that are known at this moment."""
        return self.allowed.format(names=", ".join(f'"{name}"' for name in self.names()))

    def optional(self) -> Kind:
        """The same, or null: the text ``"none"`` says it where a format has no null (TOML)."""
        read = self.read
        return replace(
            self,
            allowed=f'{self.allowed}, or "none"',
            read=lambda value: None if value is None or value == "none" else read(value),
            nullable=True,
        )

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)


def _duration(value: Any) -> Any:
    duration(value, name="")
    return value


def _wait(value: Any) -> Any:
    wait(value, name="")
    return value


def _staleness(name: str, value: Any) -> Any:
    READERS[name](value)
    return value


def _pace(name: str, value: Any) -> Any:
    check_pace(name, value)
    return value


def _rate_url(value: Any) -> str:
    if not _text(value).startswith(RATE_SCHEMES):
        raise ValueError
    return str(value)


def _tries(value: Any) -> Any:
    if isinstance(value, bool) or value in ("true", "false"):
        return _flag(value)
    number = _count(value, least=0)
    if number > MOST_TRIES:
        raise ValueError
    return number


def _on_error(value: Any) -> Any:
    return _staleness("stale_if_error", value == "true" if value in ("true", "false") else value)


def _number(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(NUMBER, value):  # Python reads "1_0" and digits of others
        raise ValueError
    return _staleness("refresh_ahead", float(value) if isinstance(value, str) else value)


def _whole(value: Any) -> Any:
    """Formats have one kind of number, and may write 1 as 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _size(value: Any) -> Any:
    value = _whole(value)
    size(value, name="")
    return value


def _count(value: Any, least: int = 1) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else _whole(value)
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ValueError
    return number


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise ValueError


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - all kinds refuse with the same error
    return value


def _filled(value: Any) -> str:
    if not _text(value):
        raise ValueError
    return str(value)


def _place(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if "\0" in _filled(path):
        raise ValueError
    try:
        Path(path).expanduser()
    except RuntimeError:
        raise ValueError from None
    return str(path)


def _one_of(value: Any, names: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in names:
        raise ValueError
    return value


def _secrets(value: Any) -> Any:
    for one in _tables(value) if isinstance(value, list) else [value]:
        if len(one if isinstance(one, bytes) else _text(one).encode("utf-8", "surrogatepass")) < 16:
            raise ValueError
    return value


def kind_of(field: FieldInfo) -> Kind:
    """The kind of a model's field."""
    return next(item for item in field.metadata if isinstance(item, Kind))


def choice(*names: str) -> Kind:
    """One of ``names``."""
    return Kind("{names}", lambda value: _one_of(value, names), lambda: names)


def _tables(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError
    return list(value)


def _tiers(value: Any) -> list[Any]:
    if isinstance(value, Mapping):  # "[tiers]" in TOML, or a table of tables by name
        raise Refused("write [[tiers]], not [tiers], above the options of each")
    if value in ([], ()):
        raise Refused('give at least one, such as one of type = "memory"')
    return _tables(value)


def _views(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError  # noqa: TRY004 - all kinds refuse with the same error
    return value


def _codec(value: Any) -> Any:
    if isinstance(value, Mapping) or (isinstance(value, AnyCodec) and not isinstance(value, type)):
        return value
    if not isinstance(value, str) or not is_codec(value):
        raise ValueError
    return value


def _budget(value: Any) -> Any:
    if isinstance(value, str):
        if not re.fullmatch(AMOUNT, value):
            raise ValueError
        value = float(value)
    try:
        Budget.of(value)
    except ConfigError as error:
        raise Refused(str(error).removeprefix("budget: ")) from None
    return value


def _level(value: Any) -> int:
    level = _count(value)
    if level > 22:
        raise ValueError
    return level


def _keys(value: Any) -> Any:
    for one in _tables(value) if isinstance(value, list) else [value]:
        if not isinstance(one, bytes) and not _KEY.fullmatch(_text(one)):
            raise ValueError
    return value


def _redis_url(value: Any) -> str:
    scheme, separator, _ = _text(value).partition("://")
    if not separator or scheme not in REDIS_SCHEMES:
        raise _no_url(value, REDIS_SCHEMES, "unix://")
    return str(value)


def _sql_url(value: Any) -> str:
    scheme, separator, _ = _text(value).partition("://")
    if not separator or scheme.partition("+")[0] not in (*SQL_DIALECTS, "postgres"):
        raise _no_url(value, (*SQL_DIALECTS, "postgres"), "sqlite:///")
    return str(value)


def _no_url(value: str, schemes: tuple[str, ...], for_path: str) -> ValueError:
    """It shows nothing of ``value``, which a variable may have held."""
    begins = lacks(value, schemes, for_path)
    return ValueError() if begins is None else Refused(f'did you mean "{begins}"?')


_LASTING = Kind(f"more than zero seconds: a number, or text {DURATIONS}", _duration, called="duration")
_WAIT = Kind(
    "more than zero seconds, 24 days at most: a number, or text such as "
    f'"250ms" or "5m" (units: {", ".join(DURATION_UNITS)})',
    _wait,
    called="wait",
)
_WEIGHT = Kind(f"at least one byte: a whole number, or text {SIZES}", _size, called="size")
_COUNT = Kind("a whole number above zero", _count, called="count")
_FILLED = Kind("text that is not empty", _filled, called="filled-text")
_PLACE = Kind('a path, in which "~" and "~user" are home directories', _place, place="path", called="path")

Grace: TypeAlias = Annotated[
    float | str | timedelta,
    Kind(
        'zero (off) or more seconds: a number, or text such as "5m"',
        partial(_staleness, "stale_for"),
        called="duration-or-zero",
    ),
]
GraceOnError: TypeAlias = Annotated[
    bool | float | str | timedelta,
    Kind(
        'true (a day), false, or more than zero seconds: a number, or text such as "5m"',
        _on_error,
        called="duration-or-flag",
    ),
]
Jitter: TypeAlias = Annotated[
    float | str | timedelta,
    Kind(
        'zero (off) or more seconds: a number, or text such as "30s"; or a share of the ttl such as "10%"',
        partial(_staleness, "jitter"),
        called="duration-or-share",
    ),
]
Eagerness: TypeAlias = Annotated[
    float | str, Kind("a number, zero (off) or more; 1.0 is usual", _number, called="number")
]
OptionalRate: TypeAlias = Annotated[
    str | None, Kind(f"text {RATES}", partial(_pace, "rate"), called="rate").optional()
]
Window: TypeAlias = Annotated[
    float | str | timedelta,
    Kind(
        'zero (off) or more seconds, 24 days at most: a number, or text such as "5ms"',
        partial(_pace, "batch_window"),
        called="wait-or-zero",
    ),
]
Tries: TypeAlias = Annotated[
    bool | int | str,
    Kind("true (three tries), false, or a whole number, zero to 100", _tries, called="tries"),
]
Wait: TypeAlias = Annotated[float | str | timedelta, _WAIT]
OptionalWait: TypeAlias = Annotated[float | str | timedelta | None, _WAIT.optional()]
OptionalLasting: TypeAlias = Annotated[float | str | timedelta | None, _LASTING.optional()]
Weight: TypeAlias = Annotated[int | str, _WEIGHT]
OptionalWeight: TypeAlias = Annotated[int | str | None, _WEIGHT.optional()]
OptionalCount: TypeAlias = Annotated[int | None, _COUNT.optional()]
Repeats: TypeAlias = Annotated[
    int, Kind("a whole number, zero or more", lambda value: _count(value, least=0), called="count-or-zero")
]
Flag: TypeAlias = Annotated[bool, Kind("true or false", _flag, called="flag")]
Text: TypeAlias = Annotated[str, Kind("text", _text, called="text")]
Filled: TypeAlias = Annotated[str, _FILLED]
OptionalName: TypeAlias = Annotated[
    str | None,
    replace(_FILLED, read=lambda value: None if value is None else _filled(value), called="name"),
]
OptionalSecrets: TypeAlias = Annotated[
    str | bytes | list[str | bytes] | None,
    Kind(
        "text of 16 bytes and more, or a list of such texts", _secrets, hidden=True, called="secret"
    ).optional(),
]
Place: TypeAlias = Annotated[str, _PLACE]
OptionalPlace: TypeAlias = Annotated[str | None, _PLACE.optional()]
Codec: TypeAlias = Annotated[
    str | dict[str, Any] | None,
    Kind(
        "{names}, a table with a type and its options, compress and encrypt",
        _codec,
        codec_names,
        called="codec",
    ).optional(),
]
OptionalBudget: TypeAlias = Annotated[
    float | str | dict[str, Any] | None,
    Kind(
        "an amount above zero and below a million, or a table with per_day, warn_at and action",
        _budget,
        called="budget",
    ).optional(),
]
Level: TypeAlias = Annotated[int, Kind("a whole number from 1 to 22", _level, called="level")]
Keys: TypeAlias = Annotated[
    str | bytes | list[str | bytes],
    Kind(
        "text of 64 hex digits (32 or 48 will do), or a list of such texts, the current one first",
        _keys,
        hidden=True,
        called="keys",
    ),
]
Tiers: TypeAlias = Annotated[
    list[Any],
    Kind(
        "a list of tables, one for each tier, the fastest first (in TOML: [[tiers]])", _tiers, called="tiers"
    ),
]
Views: TypeAlias = Annotated[
    dict[str, Any],
    Kind("a table of tables, one for each view (in TOML: [views.NAME])", _views, called="views"),
]
RedisURL: TypeAlias = Annotated[
    str,
    Kind(
        "a URL that begins with " + ", ".join(f"{scheme}://" for scheme in REDIS_SCHEMES),
        _redis_url,
        called="redis-url",
        is_url=True,
    ),
]
OptionalRateURL: TypeAlias = Annotated[
    str | None,
    Kind(
        "a URL that begins with " + ", ".join(RATE_SCHEMES),
        _rate_url,
        called="rate-url",
        is_url=True,
    ).optional(),
]
SQLURL: TypeAlias = Annotated[
    str,
    Kind(
        "a database URL that begins with "
        + ", ".join(f"{name}://" for name in SQL_DIALECTS)
        + " (with a driver, for instance, postgresql+psycopg://)",
        _sql_url,
        place="sqlite",
        called="sql-url",
        is_url=True,
    ),
]
