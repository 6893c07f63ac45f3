"""What the value of an option has to be: a function for each kind, which gives back what is passed on.

That is the value as it was given, and where a format or a variable can say only text (``"1000"``, ``"true"``,
``"none"``), what that text means. What an option does not take is a `ValueError`; `Refused` and
`RefusedPart` say why.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiercache import units
from tiercache._loading.pace import check_pace
from tiercache._loading.retry import MOST_TRIES
from tiercache._loading.shared_rate import RATE_SCHEMES
from tiercache._loading.staleness import READERS
from tiercache.budget import Budget
from tiercache.config._budgets import budget_in
from tiercache.config._problems import lacks
from tiercache.errors import ConfigError
from tiercache.protocols import Codec as AnyCodec
from tiercache.registry import is_codec

__all__ = [
    "NUMBER",
    "REDIS_SCHEMES",
    "SQL_DIALECTS",
    "Refused",
    "RefusedPart",
    "budget",
    "codec",
    "count",
    "duration",
    "filled",
    "flag",
    "keys",
    "level",
    "number",
    "on_error",
    "one_of",
    "pace",
    "place",
    "rate_url",
    "redis_url",
    "secrets",
    "size",
    "sql_url",
    "staleness",
    "text",
    "tiers",
    "tries",
    "views",
    "wait",
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

#: Any number of zero or more as text, as a regular expression of JSON Schema too.
NUMBER = r"\s*\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*"
_KEY = re.compile(r"(?:[0-9a-f]{32}|[0-9a-f]{48}|[0-9a-f]{64})", re.ASCII | re.IGNORECASE)


class Refused(ValueError):
    """A value that its option does not take; the text says what is allowed, and a likely correction."""


class RefusedPart(ValueError):
    """A table that its option takes, but for a part of it; the text says all there is to be said."""


def duration(value: Any) -> Any:
    units.duration(value, name="")
    return value


def wait(value: Any) -> Any:
    units.wait(value, name="")
    return value


def staleness(name: str, value: Any) -> Any:
    READERS[name](value)
    return value


def pace(name: str, value: Any) -> Any:
    check_pace(name, value)
    return value


def rate_url(value: Any) -> str:
    if not text(value).startswith(RATE_SCHEMES):
        raise ValueError
    return str(value)


def tries(value: Any) -> Any:
    if isinstance(value, bool) or value in ("true", "false"):
        return flag(value)
    found = count(value, least=0)
    if found > MOST_TRIES:
        raise ValueError
    return found


def on_error(value: Any) -> Any:
    return staleness("stale_if_error", value == "true" if value in ("true", "false") else value)


def number(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(NUMBER, value):  # Python reads "1_0" and digits of others
        raise ValueError
    return staleness("refresh_ahead", float(value) if isinstance(value, str) else value)


def _whole(value: Any) -> Any:
    """Formats have one kind of number, and may write 1 as 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def size(value: Any) -> Any:
    value = _whole(value)
    units.size(value, name="")
    return value


def count(value: Any, least: int = 1) -> int:
    found = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else _whole(value)
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise ValueError
    return found


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise ValueError


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - all kinds refuse with the same error
    return value


def filled(value: Any) -> str:
    if not text(value):
        raise ValueError
    return str(value)


def place(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if "\0" in filled(path):
        raise ValueError
    try:
        Path(path).expanduser()
    except RuntimeError:
        raise ValueError from None
    return str(path)


def one_of(value: Any, names: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in names:
        raise ValueError
    return value


def secrets(value: Any) -> Any:
    for one in _tables(value) if isinstance(value, list) else [value]:
        if len(one if isinstance(one, bytes) else text(one).encode("utf-8", "surrogatepass")) < 16:
            raise ValueError
    return value


def _tables(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError
    return list(value)


def tiers(value: Any) -> list[Any]:
    if isinstance(value, Mapping):  # "[tiers]" in TOML, or a table of tables by name
        raise Refused("write [[tiers]], not [tiers], above the options of each")
    if value in ([], ()):
        raise Refused('give at least one, such as one of type = "memory"')
    return _tables(value)


def views(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError  # noqa: TRY004 - all kinds refuse with the same error
    return value


def codec(value: Any) -> Any:
    if isinstance(value, Mapping) or (isinstance(value, AnyCodec) and not isinstance(value, type)):
        return value
    if not isinstance(value, str) or not is_codec(value):
        raise ValueError
    return value


def budget(value: Any) -> Any:
    value = budget_in(value)
    try:
        Budget.of(value)
    except ConfigError as error:
        if not isinstance(value, Mapping):
            raise ValueError from None  # noqa: TRY004 - all kinds refuse with the same error
        raise RefusedPart(str(error).removeprefix("budget: ")) from None
    return value


def level(value: Any) -> int:
    found = count(value)
    if found > 22:
        raise ValueError
    return found


def keys(value: Any) -> Any:
    for one in _tables(value) if isinstance(value, list) else [value]:
        if not isinstance(one, bytes) and not _KEY.fullmatch(text(one)):
            raise ValueError
    return value


def redis_url(value: Any) -> str:
    scheme, separator, _ = text(value).partition("://")
    if not separator or scheme not in REDIS_SCHEMES:
        raise _no_url(value, REDIS_SCHEMES, "unix://")
    return str(value)


def sql_url(value: Any) -> str:
    scheme, separator, _ = text(value).partition("://")
    if not separator or scheme.partition("+")[0] not in (*SQL_DIALECTS, "postgres"):
        raise _no_url(value, (*SQL_DIALECTS, "postgres"), "sqlite:///")
    return str(value)


def _no_url(value: str, schemes: tuple[str, ...], for_path: str) -> ValueError:
    """It shows nothing of ``value``, which a variable may have held."""
    begins = lacks(value, schemes, for_path)
    return ValueError() if begins is None else Refused(f'did you mean "{begins}"?')
