"""`tiercache roi`: what a cache saves, projected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click

from tiercache.cli._context import ANY_PATH, Failed, Settings, command, open_cache
from tiercache.cli._output import Column, show_json, show_table
from tiercache.errors import ConfigError, TierError
from tiercache.spending.roi import Assumptions, Source, measured, project

__all__ = ["roi"]

F = TypeVar("F", bound=Callable[..., Any])

_COLUMNS = (Column("what"), Column("how much", figures=True), Column("source"))
_DEFAULTS = {each.name: each.default for each in fields(Assumptions)}


def _number(text: str) -> Decimal:
    """The type of a flag that takes a number of zero or more."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal(-1)
    if not number.is_finite() or number < 0:
        raise click.BadParameter(f"{text!r} is no number of zero or more")
    return number


def _option(flag: str, metavar: str, text: str, **more: Any) -> Callable[[F], F]:
    default = _DEFAULTS[flag.removeprefix("--").replace("-", "_")]
    shown = f"{text} Unless set: {default}." if isinstance(default, Decimal | int) else text
    return click.option(flag, type=_number, metavar=metavar, help=shown, **more)


@command()
@click.option(
    "--from", "source", metavar="FILE", type=ANY_PATH, help="A configuration, whose cache keeps a ledger."
)
@click.option("--since", metavar="DAY", help="Of that ledger: a day, or how long ago. Unless set: all of it.")
@_option("--daily-queries", "N", "Calls a day. Must be given, or measured.", required=False)
@_option("--duplicate-rate", "SHARE", "How many of them were asked before: 0 to 1. The same.", required=False)
@_option("--days", "N", "For how many days.")
@_option("--tokens", "N", "In and out, of a call.")
@_option("--price", "AMOUNT", "Of 1,000 tokens.")
@_option("--seconds-without", "S", "That a call takes without the cache.")
@_option("--seconds-with", "S", "That a hit takes.")
@_option("--hourly-rate", "AMOUNT", "What an hour of waiting costs.")
@click.option("--currency", metavar="NAME", help="Of all amounts. Unless set: USD.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def roi(settings: Settings, /, source: str | None, since: str | None, as_json: bool, **flags: Any) -> None:
    """Project what a cache saves in money and waiting.

    With --from it begins with what was measured: the ledger of that cache. The numbers that no flag gives and
    nobody measured are assumed, and said to be.
    """
    if since is not None and source is None:
        raise click.UsageError("--since is of a ledger; say with --from FILE of which")
    found = {} if source is None else _measured(settings, source, since)
    given = {name: value for name, value in flags.items() if value is not None}
    missing = [name for name in ("daily_queries", "duplicate_rate") if name not in found | given]
    if missing:
        flag = missing[0].replace("_", "-")
        raise click.UsageError(f"Missing option '--{flag}', which --from FILE may measure.")
    try:
        assumptions = Assumptions(**found | given)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    sources: dict[str, Source] = {name: "given" if name in given else "measured" for name in found | given}
    projection = project(assumptions, sources=sources)
    if as_json:
        show_json(projection.as_dict())
    else:
        show_table(_COLUMNS, projection.rows())


def _measured(settings: Settings, source: str, since: str | None) -> dict[str, Any]:
    """What the ledger of the cache of that configuration says. Raises `Failed` where there is none, or where
    it is empty."""
    with open_cache(replace(settings, config=source)) as cache:
        try:
            found = measured(cache.ledger(since), datetime.now(UTC).date())
        except ConfigError as error:
            raise Failed(f"{source}: {error}") from error
        except TierError as error:
            raise Failed(f"{source}: the ledger cannot be read: {error}") from error
    if not found:
        raise Failed(f"{source}: the ledger has counted nothing yet; give the numbers by flags")
    return found
