"""`tiercache roi`: what a cache saves, projected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click

from tiercache.cli._context import command
from tiercache.cli._output import Column, show_json, show_table
from tiercache.errors import ConfigError
from tiercache.spending.roi import Assumptions, project

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
@_option("--daily-queries", "N", "Calls a day.", required=True)
@_option("--duplicate-rate", "SHARE", "How many of them were asked before: 0 to 1.", required=True)
@_option("--days", "N", "For how many days.")
@_option("--tokens", "N", "In and out, of a call.")
@_option("--price", "AMOUNT", "Of 1,000 tokens.")
@_option("--seconds-without", "S", "That a call takes without the cache.")
@_option("--seconds-with", "S", "That a hit takes.")
@_option("--hourly-rate", "AMOUNT", "What an hour of waiting costs.")
@click.option("--currency", metavar="NAME", help="Of all amounts. Unless set: USD.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def roi(as_json: bool, **flags: Any) -> None:
    """Project what a cache saves in money and waiting.

    The numbers that no flag gives are assumed, and said to be.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        assumptions = Assumptions(**given)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    projection = project(assumptions, sources=dict.fromkeys(given, "given"))
    if as_json:
        show_json(projection.as_dict())
    else:
        show_table(_COLUMNS, projection.rows())
