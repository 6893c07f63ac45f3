"""The half of a cache's methods that has to do with its ledger: how it is kept, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from tiercache._chain.view import View
from tiercache._running.bridge import BLOCKING, NATIVE, Runtime, drive
from tiercache.errors import ConfigError
from tiercache.units import Duration, duration

if TYPE_CHECKING:
    from datetime import date

    from tiercache._chain.stack import Stack
    from tiercache.ledger import Statement

__all__ = ["LedgerMethods", "Since", "check_model", "first_day", "keep_books"]

T = TypeVar("T")

#: A day, as a date or as ISO 8601 has it; or a duration before now; ``None``: as long as days are kept.
Since: TypeAlias = "date | Duration | None"


class LedgerMethods(View[T]):
    """What was spent and saved, part of `TieredCache`."""

    def ledger(self, since: Since = None) -> Statement:
        """What the calls of loaders cost in this namespace and those inside, and what the cache saved, in all
        processes that share the ledger: a `Statement`, whose ``str()`` is a table.

        ``since`` is a day (a `date`, or text such as ``"2026-07-01"``; days are those of UTC), or how long
        ago (``"30d"``); ``None``: all that is kept. Hits that other processes counted in the last few seconds
        may be missing. Raises `ConfigError` where no ledger is kept, and a `TierError` where the tier that
        keeps it cannot be read.
        """
        return drive(self._statement(BLOCKING, since))

    async def aledger(self, since: Since = None) -> Statement:
        """`ledger` for async code."""
        return await self._statement(NATIVE, since)

    async def _statement(self, runtime: Runtime, since: Since) -> Statement:
        self._check_open()
        books = self._stack.books
        if books is None:
            raise ConfigError("ledger: none is kept; make the cache with ledger=True")
        return await books.read(runtime, first_day(since, books.clock.time()), self._core.path)


def keep_books(
    stack: Stack, path: tuple[str, ...], *, ledger: Any, prices: Any, budget: Any, model: Any
) -> str:
    """Have ``stack`` keep a ledger, if these options of its cache ask for one; the model. Raises
    `ConfigError`."""
    whose = check_model(model)
    if ledger is False and budget is None and prices is None:
        return whose
    from tiercache import _sharing
    from tiercache._books.books import place_of
    from tiercache._books.keeping import Bookkeeping
    from tiercache.budget import Budget
    from tiercache.ledger import Ledger

    kept = Ledger.of(ledger)
    stack.books = Bookkeeping(
        stack,
        place_of(stack.guards, kept),
        path,
        kept,
        _prices(prices),
        Budget.of(budget),
        wake=_sharing.look_at,
        leave=_sharing.leave,
    )
    _sharing.keep(stack.books)
    return whose


def check_model(model: Any) -> str:
    """The name of a model, "" for none. Raises `ConfigError` for what is no name."""
    if model is not None and (not isinstance(model, str) or not model):
        raise ConfigError(f"model: {model!r:.60} is not allowed; give the name of a model")
    return model or ""


def _prices(given: Any) -> Any:
    from os import PathLike

    if isinstance(given, str | PathLike):
        from tiercache.spending.price_files import read_prices  # it needs pydantic

        try:
            return read_prices(given)
        except ConfigError as error:
            raise ConfigError(f"prices: {error}") from error
    if given is not None:
        from tiercache.spending.prices import Prices

        if not isinstance(given, Prices):
            raise ConfigError(f"prices: {given!r:.60} is not allowed; give the path of a file, or Prices")
    return given


def first_day(since: Since, now: float) -> str:
    """The day, as the ledger has it, that ``since`` means when it is ``now``; ``""``: the first of all."""
    from datetime import UTC, date, datetime, timedelta  # whoever keeps a ledger has imported it

    if since is None:
        return ""
    if isinstance(since, datetime):
        try:
            return since.astimezone(UTC).date().isoformat()
        except (OverflowError, ValueError):  # at either end of the calendar there is no other zone's day
            return since.date().isoformat()
    if isinstance(since, date):
        return since.isoformat()
    if isinstance(since, str):
        try:
            return date.fromisoformat(since).isoformat()
        except ValueError:
            pass  # a duration, or nothing at all
    seconds = duration(since, name="since")
    try:
        return (datetime.fromtimestamp(now, UTC) - timedelta(seconds=seconds)).date().isoformat()
    except OverflowError:  # before the first day of the calendar, and so of all
        return ""
