"""What tokens cost, by the names of models. The prices come from a file of the user's: see
`tiercache.spending.price_files`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from types import MappingProxyType

from tiercache.tokens import TokenUsage

__all__ = ["ModelPrice", "Prices"]

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """What a million tokens of one model cost. What its provider's prompt cache serves and takes costs as
    much as other input where no price of its own is given; an hour in it as much as five minutes. ``date``
    and ``source``: when that was so, and who says it."""

    input: Decimal
    output: Decimal = Decimal(0)
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    date: date | None = None
    source: str | None = None

    def cost(self, usage: TokenUsage) -> Decimal:
        """What ``usage`` costs, exactly."""
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        write_1h = write if self.cache_write_1h is None else self.cache_write_1h
        return (
            usage.input * self.input
            + usage.output * self.output
            + usage.cache_read * read
            + usage.cache_write * write
            + usage.cache_write_1h * write_1h
        ) / _MILLION


@dataclass(frozen=True, slots=True)
class Prices:
    """A table of prices, by the names of models, all in one ``currency``. Frozen, and so thread-safe."""

    models: Mapping[str, ModelPrice] = field(default_factory=dict)
    currency: str = "USD"

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", MappingProxyType(dict(self.models)))

    def cost(self, model: str, usage: TokenUsage) -> Decimal | None:
        """What ``usage`` of ``model`` costs, exactly; ``None`` for a model that is not in the table."""
        price = self.models.get(model)
        return None if price is None else price.cost(usage)
