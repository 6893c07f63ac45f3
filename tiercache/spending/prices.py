"""What tokens cost, by the names of models. The prices come from a file of the user's: see
`tiercache.spending.price_files`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from decimal import Decimal, localcontext
from types import MappingProxyType
from typing import Any

from tiercache.accounts import EXACT
from tiercache.errors import ConfigError
from tiercache.tokens import TokenUsage

__all__ = ["ModelPrice", "Prices"]

_MILLION = 1_000_000
_TEXTS = ("date", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """What a million tokens of one model cost. What its provider's prompt cache serves and takes costs as
    much as other input where no price of its own is given; an hour in it as much as five minutes. ``date``
    and ``source``: when that was so, and who says it. Amounts may be given as int and float, too. Raises
    `ConfigError` for what is no amount: each call would be made and paid for before that shows."""

    input: Decimal
    output: Decimal = Decimal(0)
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    date: date | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in _TEXTS and (value is not None or each.name in ("input", "output")):
                object.__setattr__(self, each.name, _amount(each.name, value))

    def cost(self, usage: TokenUsage) -> Decimal:
        """What ``usage`` costs, exactly."""
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        write_1h = write if self.cache_write_1h is None else self.cache_write_1h
        with localcontext(EXACT):
            return (
                usage.input * self.input
                + usage.output * self.output
                + usage.cache_read * read
                + usage.cache_write * write
                + usage.cache_write_1h * write_1h
            ) / _MILLION


@dataclass(frozen=True, slots=True)
class Prices:
    """A table of prices, by the names of models, all in one ``currency``. Frozen, and so thread-safe. Raises
    `ConfigError` for a price that is no `ModelPrice`."""

    models: Mapping[str, ModelPrice] = field(default_factory=dict)
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name, price in self.models.items():
            if not isinstance(price, ModelPrice):
                raise ConfigError(f"prices: {price!r:.60} is no price of {name!r:.60}; give a ModelPrice")
        object.__setattr__(self, "models", MappingProxyType(dict(self.models)))

    def cost(self, model: str, usage: TokenUsage) -> Decimal | None:
        """What ``usage`` of ``model`` costs, exactly; ``None`` for a model that is not in the table."""
        price = self.models.get(model)
        return None if price is None else price.cost(usage)


def _amount(name: str, value: Any) -> Decimal:
    number = None
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        number = Decimal(str(value))  # of a float what one would write, and not its last binary digit
    if number is None or not number.is_finite() or number < 0:
        raise ConfigError(
            f"price: {name}={value!r:.60} is not allowed; give what a million tokens cost, zero or more"
        )
    return number
