"""The kinds of values that options have: what each one is called and what it says that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from tiercache._loading.rate import RATES
from tiercache._loading.shared_rate import RATE_SCHEMES
from tiercache.config import _values
from tiercache.config._problems import nearest
from tiercache.config._values import REDIS_SCHEMES, SQL_DIALECTS, Refused, RefusedPart
from tiercache.config._variables import VariableError, expand
from tiercache.registry import codec_names
from tiercache.units import DURATION_UNITS, DURATIONS, SIZES

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
        """What is passed on for ``value``. Raises `Refused`, `RefusedPart` or `VariableError`."""
        if isinstance(value, str):
            value = expand(value)
        elif isinstance(value, list | tuple):
            value = [expand(one) if isinstance(one, str) else one for one in value]
        try:
            return self.read(value)
        except Refused as error:
            raise Refused(f"{self.allowed_now}; {error}") from None
        except (RefusedPart, VariableError):  # the second of one inside a table
            raise
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


def kind_of(field: FieldInfo) -> Kind:
    """The kind of a model's field."""
    return next(item for item in field.metadata if isinstance(item, Kind))


def choice(*names: str) -> Kind:
    """One of ``names``."""
    return Kind("{names}", lambda value: _values.one_of(value, names), lambda: names)


_LASTING = Kind(f"more than zero seconds: a number, or text {DURATIONS}", _values.duration, called="duration")
_WAIT = Kind(
    "more than zero seconds, 24 days at most: a number, or text such as "
    f'"250ms" or "5m" (units: {", ".join(DURATION_UNITS)})',
    _values.wait,
    called="wait",
)
_WEIGHT = Kind(f"at least one byte: a whole number, or text {SIZES}", _values.size, called="size")
_COUNT = Kind("a whole number above zero", _values.count, called="count")
_FILLED = Kind("text that is not empty", _values.filled, called="filled-text")
_PLACE = Kind(
    'a path, in which "~" and "~user" are home directories', _values.place, place="path", called="path"
)

Grace: TypeAlias = Annotated[
    float | str | timedelta,
    Kind(
        'zero (off) or more seconds: a number, or text such as "5m"',
        partial(_values.staleness, "stale_for"),
        called="duration-or-zero",
    ),
]
GraceOnError: TypeAlias = Annotated[
    bool | float | str | timedelta,
    Kind(
        'true (a day), false, or more than zero seconds: a number, or text such as "5m"',
        _values.on_error,
        called="duration-or-flag",
    ),
]
Jitter: TypeAlias = Annotated[
    float | str | timedelta,
    Kind(
        'zero (off) or more seconds: a number, or text such as "30s"; or a share of the ttl such as "10%"',
        partial(_values.staleness, "jitter"),
        called="duration-or-share",
    ),
]
Eagerness: TypeAlias = Annotated[
    float | str, Kind("a number, zero (off) or more; 1.0 is usual", _values.number, called="number")
]
OptionalRate: TypeAlias = Annotated[
    str | None, Kind(f"text {RATES}", partial(_values.pace, "rate"), called="rate").optional()
]
Window: TypeAlias = Annotated[
    float | str | timedelta,
    Kind(
        'zero (off) or more seconds, 24 days at most: a number, or text such as "5ms"',
        partial(_values.pace, "batch_window"),
        called="wait-or-zero",
    ),
]
Tries: TypeAlias = Annotated[
    bool | int | str,
    Kind("true (three tries), false, or a whole number, zero to 100", _values.tries, called="tries"),
]
Wait: TypeAlias = Annotated[float | str | timedelta, _WAIT]
OptionalWait: TypeAlias = Annotated[float | str | timedelta | None, _WAIT.optional()]
OptionalLasting: TypeAlias = Annotated[float | str | timedelta | None, _LASTING.optional()]
Weight: TypeAlias = Annotated[int | str, _WEIGHT]
OptionalWeight: TypeAlias = Annotated[int | str | None, _WEIGHT.optional()]
OptionalCount: TypeAlias = Annotated[int | None, _COUNT.optional()]
Repeats: TypeAlias = Annotated[
    int,
    Kind("a whole number, zero or more", lambda value: _values.count(value, least=0), called="count-or-zero"),
]
Flag: TypeAlias = Annotated[bool, Kind("true or false", _values.flag, called="flag")]
Text: TypeAlias = Annotated[str, Kind("text", _values.text, called="text")]
Filled: TypeAlias = Annotated[str, _FILLED]
OptionalName: TypeAlias = Annotated[
    str | None,
    replace(_FILLED, read=lambda value: None if value is None else _values.filled(value), called="name"),
]
OptionalSecrets: TypeAlias = Annotated[
    str | bytes | list[str | bytes] | None,
    Kind(
        "text of 16 bytes and more, or a list of such texts", _values.secrets, hidden=True, called="secret"
    ).optional(),
]
Place: TypeAlias = Annotated[str, _PLACE]
OptionalPlace: TypeAlias = Annotated[str | None, _PLACE.optional()]
Codec: TypeAlias = Annotated[
    str | dict[str, Any] | None,
    Kind(
        "{names}, a table with a type and its options, compress and encrypt",
        _values.codec,
        codec_names,
        called="codec",
    ).optional(),
]
OptionalBudget: TypeAlias = Annotated[
    float | str | dict[str, Any] | None,
    Kind(
        "an amount above zero and below a million, or a table with per_day, warn_at and action",
        _values.budget,
        called="budget",
    ).optional(),
]
Level: TypeAlias = Annotated[int, Kind("a whole number from 1 to 22", _values.level, called="level")]
Keys: TypeAlias = Annotated[
    str | bytes | list[str | bytes],
    Kind(
        "text of 64 hex digits (32 or 48 will do), or a list of such texts, the current one first",
        _values.keys,
        hidden=True,
        called="keys",
    ),
]
Tiers: TypeAlias = Annotated[
    list[Any],
    Kind(
        "a list of tables, one for each tier, the fastest first (in TOML: [[tiers]])",
        _values.tiers,
        called="tiers",
    ),
]
Views: TypeAlias = Annotated[
    dict[str, Any],
    Kind("a table of tables, one for each view (in TOML: [views.NAME])", _values.views, called="views"),
]
RedisURL: TypeAlias = Annotated[
    str,
    Kind(
        "a URL that begins with " + ", ".join(f"{scheme}://" for scheme in REDIS_SCHEMES),
        _values.redis_url,
        called="redis-url",
        is_url=True,
    ),
]
OptionalRateURL: TypeAlias = Annotated[
    str | None,
    Kind(
        "a URL that begins with " + ", ".join(RATE_SCHEMES),
        _values.rate_url,
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
        _values.sql_url,
        place="sqlite",
        called="sql-url",
        is_url=True,
    ),
]
