"""Tables of prices as files, which users keep beside their project: what is in one, and what is wrong there.

Nothing is built in, since prices change. `example_prices` is a table to begin with, as old as its dates say.
Needs pydantic, of the extra ``config``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from tiercache.config._kinds import Filled, Kind
from tiercache.config._models import Options
from tiercache.config._options import validate
from tiercache.config._problems import Problems, join, show
from tiercache.config._sources import parsed
from tiercache.errors import ConfigError
from tiercache.spending.prices import ModelPrice, Prices

__all__ = ["example_prices", "read_prices"]

_VERSION = 1


def _amount(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError  # noqa: TRY004 - all kinds refuse with the same error
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError from None
    if not amount.is_finite() or amount < 0:
        raise ValueError
    return amount


def _date(value: Any) -> date:
    return value if type(value) is date else date.fromisoformat(value if isinstance(value, str) else "")


def _version(value: Any) -> int:
    if value != _VERSION or isinstance(value, bool):
        raise ValueError
    return _VERSION


def _models(value: Any) -> Any:
    if not isinstance(value, Mapping) or not value:
        raise ValueError
    return value


_Amount: TypeAlias = Annotated[Any, Kind("what a million tokens cost: a number, zero or more", _amount)]
_Date: TypeAlias = Annotated[Any, Kind("a date, such as 2026-07-03", _date)]


class _ModelOptions(Options):
    input: _Amount
    output: _Amount = Decimal(0)
    cache_read: _Amount = None
    cache_write: _Amount = None
    cache_write_1h: _Amount = None
    date: _Date = None
    source: Filled | None = None


class _TableOptions(Options):
    version: Annotated[Any, Kind(f"{_VERSION}", _version)]
    currency: Filled = "USD"
    date: _Date = None
    source: Filled | None = None
    models: Annotated[Any, Kind('tables, such as [models."a-model"]', _models)]


def read_prices(path: str | os.PathLike[str]) -> Prices:
    """The prices in the file at ``path`` (TOML, YAML or JSON): for each of its ``models`` what a million
    tokens cost, as in `ModelPrice`, in the table's ``currency``; a ``date`` and ``source`` of the whole table
    are those of the models without. Raises `ConfigError`, which names the file and all that is wrong."""
    file = Path(path).expanduser()
    content = parsed(file)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{file}: holds no table of prices; begin with a copy of the example")
    problems = Problems(str(file))
    table = validate(_TableOptions, content, problems, "")
    listed = content.get("models")
    models = {
        name: _model(name, options, table, problems)
        for name, options in (listed.items() if isinstance(listed, Mapping) else ())
    }
    if problems.any or table is None:
        raise problems.error()
    return Prices({name: price for name, price in models.items() if price is not None}, table.currency)


def example_prices() -> Prices:
    """The table that comes with this package: a few models, to show how it is done. Check them first."""
    with as_file(files("tiercache.spending").joinpath("example_prices.toml")) as path:
        return read_prices(path)


def _model(name: Any, content: Any, table: _TableOptions | None, problems: Problems) -> ModelPrice | None:
    path = join("models", name)
    if not isinstance(name, str) or not isinstance(content, Mapping):
        problems.add(path, f"found {show(content)}; allowed: a table with at least input")
        return None
    options = validate(_ModelOptions, content, problems, path)
    if options is None or table is None:
        return None
    return ModelPrice(**{"date": table.date, "source": table.source, **options.given()})
