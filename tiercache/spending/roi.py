"""The return on investment of a cache in front of paid calls: what it saves in money and in waiting.

A projection is arithmetic over `Assumptions`; it says of each of them whether it was measured, given or
assumed, since that is what it is worth. Sums are decimal: what is added up by hand comes out the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal, localcontext
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from tiercache.accounts import EXACT
from tiercache.errors import ConfigError
from tiercache.ledger import Statement

__all__ = ["Assumptions", "Projection", "Source", "measured", "project"]

#: No number is larger.
_MOST = 10**15

#: Where a number comes from.
Source: TypeAlias = Literal["measured", "given", "assumed"]
Number: TypeAlias = "int | float | Decimal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What a projection is made from. Raises `ConfigError` for a number that cannot be.

    ``daily_queries`` calls a day, of which the share ``duplicate_rate`` (0 to 1) was asked before, and so
    comes from the cache; for ``days``. A call is ``tokens`` long and costs ``price`` for 1,000 of them, in
    ``currency``. It takes ``seconds_without`` the cache, and ``seconds_with`` it. An hour of who waits is
    worth ``hourly_rate``.
    """

    daily_queries: Number
    duplicate_rate: Number
    days: Number = 30
    tokens: Number = 100
    price: Number = Decimal("0.0001")
    seconds_without: Number = Decimal("2.5")
    seconds_with: Number = Decimal("0.1")
    hourly_rate: Number = 50
    currency: str = "USD"

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.name != "currency":
                object.__setattr__(self, each.name, _number(each.name, getattr(self, each.name)))
        if self.duplicate_rate > 1:
            raise ConfigError(
                f"duplicate_rate: {self.duplicate_rate} is not a share; give 0 to 1, such as 0.7 for 70 %"
            )


@dataclass(frozen=True, slots=True)
class Projection:
    """What a cache saves; ``str()`` is a table. Money is in ``assumptions.currency``."""

    assumptions: Assumptions
    #: Of each number of ``assumptions`` where it comes from.
    sources: Mapping[str, Source]
    queries: Decimal
    #: Of those, how many the cache answers.
    hits: Decimal
    cost_without: Decimal
    cost_with: Decimal
    hours_saved: Decimal
    #: What those hours are worth.
    time_saved: Decimal
    #: The calls that need not be paid, and the time.
    saved: Decimal

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        given = {each.name: getattr(self.assumptions, each.name) for each in fields(self.assumptions)}
        results = {each.name: getattr(self, each.name) for each in fields(self)}
        plain = {name: float(value) if isinstance(value, Decimal) else value for name, value in given.items()}
        return {
            "assumptions": {
                name: {"value": value, "source": self.sources.get(name, "assumed")}
                for name, value in plain.items()
            },
            **{name: float(value) for name, value in results.items() if isinstance(value, Decimal)},
        }

    def __str__(self) -> str:
        return "\n".join(f"{label:<34} {value:>16}  {note}".rstrip() for label, value, note in self.rows())

    def rows(self) -> list[tuple[str, str, str]]:
        """What it is made from and what comes of it: a label, a number, and where that comes from."""
        made, currency = self.assumptions, self.assumptions.currency

        def row(label: str, name: str, unit: str = "") -> tuple[str, str, str]:
            number = getattr(made, name)
            shown = f"{number:.1%}" if name == "duplicate_rate" else f"{_plain(number)}{unit and ' ' + unit}"
            return label, shown, self.sources.get(name, "assumed")

        return [
            row("queries a day", "daily_queries"),
            row("asked before", "duplicate_rate"),
            row("days", "days"),
            row("tokens a query", "tokens"),
            row("price of 1,000 tokens", "price", currency),
            row("a query without the cache", "seconds_without", "s"),
            row("a query with it", "seconds_with", "s"),
            row("an hour of waiting", "hourly_rate", currency),
            ("", "", ""),
            ("queries", _plain(self.queries), ""),
            ("of which the cache answers", _plain(self.hits), ""),
            ("cost without the cache", f"{_money(self.cost_without)} {currency}", ""),
            ("cost with it", f"{_money(self.cost_with)} {currency}", ""),
            ("hours of waiting saved", f"{self.hours_saved:z,.1f}", ""),
            ("worth", f"{_money(self.time_saved)} {currency}", ""),
            ("saved in all", f"{_money(self.saved)} {currency}", ""),
        ]


def project(assumptions: Assumptions, *, sources: Mapping[str, Source] = MappingProxyType({})) -> Projection:
    """What a cache saves if things are as in ``assumptions``; those not in ``sources`` are assumed."""
    a: dict[str, Any] = {each.name: getattr(assumptions, each.name) for each in fields(assumptions)}
    with localcontext(EXACT):
        queries = a["daily_queries"] * a["days"]
        hits = queries * a["duplicate_rate"]
        call = a["tokens"] / 1000 * a["price"]
        # A cache that is slower than what it stands for costs time, and is told so.
        hours = hits * (a["seconds_without"] - a["seconds_with"]) / 3600
        without, with_it = queries * call, (queries - hits) * call
        worth = hours * a["hourly_rate"]
        saved = without - with_it + worth
    return Projection(
        assumptions,
        MappingProxyType(dict(sources)),
        *(queries, hits, without, with_it, hours, worth, saved),
    )


def measured(said: Statement, today: date) -> dict[str, Any]:
    """Those of the `Assumptions` that can be told by what a ledger ``said`` until ``today``; rounded, as what
    they are. A query is a text. What a hit takes, and what waiting is worth, no ledger knows."""
    total = said.total
    queries = total.texts + total.served
    if not queries:
        return {}
    # At least one: a machine whose clock is ahead may have begun its next day.
    days = max(1, (today - date.fromisoformat(min(row.day for row in said.rows))).days + 1)
    found: dict[str, Any] = {
        "daily_queries": _ratio(queries, days, 1),
        "duplicate_rate": _ratio(total.served, queries, 4),
    }
    if total.texts:
        found["tokens"] = _ratio(total.tokens, total.texts, 1)
        # What hits saved is without calls that failed: those of a bad day would make all others look slow.
        seconds, texts = total.seconds_spent, total.texts
        if total.seconds_saved:
            seconds, texts = total.seconds_saved, total.served
        found["seconds_without"] = _ratio(Decimal(str(seconds)), texts, 4)
    if total.tokens and not total.unpriced:
        found["price"] = _ratio(EXACT.multiply(total.money_spent, 1000), total.tokens, 12)
        found["currency"] = said.currency
    return found


def _ratio(one: Decimal | int, other: int, places: int) -> Decimal:
    with localcontext(EXACT):
        return (Decimal(one) / other).quantize(Decimal(1).scaleb(-places)).normalize()


def _number(name: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ConfigError(f"{name}: {value!r} is no number")
    number = Decimal(str(value))  # of a float what one would write, and not its last binary digit
    if not number.is_finite() or not 0 <= number <= _MOST:  # or the results would be no numbers
        raise ConfigError(f"{name}: {value} is not allowed; give a number of zero or more, up to {_MOST:.0e}")
    return number


def _plain(number: Decimal) -> str:
    """Without an exponent, and without zeros that say nothing."""
    text = f"{number:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _money(amount: Decimal) -> str:
    """To the hundredth, and with as many more digits as a small amount has, down to the millionth."""
    text = f"{amount:,.6f}".rstrip("0")
    return f"{amount:,.2f}" if len(text.partition(".")[2]) < 2 else text
