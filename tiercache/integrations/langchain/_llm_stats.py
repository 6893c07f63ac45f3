"""What an `LLMCache` saved, and what was paid for: calls, tokens and money.

Three things are kept apart: calls that our cache answered (their tokens cost nothing again), calls that
were paid for, and, among the tokens of the latter, those that the provider read from or wrote into a
prompt cache of its own.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from tiercache.errors import ConfigError
from tiercache.forks import reset_after_fork

__all__ = ["LLMCounters", "LLMStats", "Prices", "Tokens", "tokens_of"]

#: The fields of `Tokens` in the table, and how they are called there.
_COLUMNS = {
    "calls": "calls",
    "input": "input",
    "output": "output",
    "cache_read": "provider read",
    "cache_written_5m": "written 5 min",
    "cache_written_1h": "written 1 h",
    "cache_written": "written",
}


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of 1,000 tokens, in any one currency. Those of a provider's own cache (read from it, written
    into it for 5 minutes or an hour) are the input's where they are ``None``. Raises `ConfigError` for
    what is no price."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write_5m: float | None = None
    cache_write_1h: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            price = getattr(self, field.name)
            if price is None and field.name.startswith("cache"):
                continue
            number = isinstance(price, int | float) and not isinstance(price, bool)
            if not number or not math.isfinite(price) or price < 0:
                raise ConfigError(f"{field.name}: {price!r} is no price of 1,000 tokens")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Calls, and their tokens. ``input`` is all input, and holds the four below ``output``, which are what
    the provider's own cache had to do with it; ``unknown`` counts calls that came without token counts."""

    calls: int = 0
    unknown: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_written_5m: int = 0
    cache_written_1h: int = 0
    cache_written: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def cost(self, prices: Prices) -> float:
        """What these calls cost. Tokens written for a time the provider did not tell are priced as for 5
        minutes."""

        def price(own: float | None) -> float:
            return prices.input if own is None else own

        cached = self.cache_read + self.cache_written_5m + self.cache_written_1h + self.cache_written
        total = max(0, self.input - cached) * prices.input + self.output * prices.output
        total += self.cache_read * price(prices.cache_read)
        total += (self.cache_written_5m + self.cache_written) * price(prices.cache_write_5m)
        total += self.cache_written_1h * price(prices.cache_write_1h)
        return total / 1000


@dataclass(frozen=True, slots=True)
class LLMStats:
    """A snapshot. ``str()`` of it is a table without the columns that are all zero, `as_dict` plain data.

    ``asked`` calls came by, ``answered.calls`` of them were answered from the cache; ``paid`` are those
    whose answers were brought to be stored. ``unstorable``: answers that do not fit the format;
    ``unwritten``: that no tier took; ``unreadable``: stored, and not readable to this version; ``unkeyable``:
    calls with an object as a parameter that has no text of its own.
    """

    asked: int = 0
    answered: Tokens = Tokens()
    paid: Tokens = Tokens()
    stored: int = 0
    unstorable: int = 0
    unwritten: int = 0
    unreadable: int = 0
    unkeyable: int = 0
    prices: Prices | None = None

    @property
    def money_saved(self) -> float | None:
        """What the answered calls had cost when they were paid for; ``None`` without prices."""
        return None if self.prices is None else self.answered.cost(self.prices)

    @property
    def money_paid(self) -> float | None:
        """What the paid calls cost."""
        return None if self.prices is None else self.paid.cost(self.prices)

    @property
    def money_saved_by_provider(self) -> float | None:
        """What the provider's own cache took off the paid calls; below zero while writing into it cost more
        than reading from it saved."""
        if self.prices is None:
            return None
        plain = replace(self.prices, cache_read=None, cache_write_5m=None, cache_write_1h=None)
        return self.paid.cost(plain) - self.paid.cost(self.prices)

    def as_dict(self) -> dict[str, Any]:
        """Everything as nested dicts and numbers, ready for JSON."""
        money = {
            name: getattr(self, name) for name in ("money_saved", "money_paid", "money_saved_by_provider")
        }
        return {**asdict(self), **money}

    def __str__(self) -> str:
        kept = [self.answered, self.paid]
        columns: list[tuple[str, ...]] = [("", "answered from here", "paid for")]
        for name, head in _COLUMNS.items():
            counts = [getattr(tokens, name) for tokens in kept]
            if name == "calls" or any(counts):
                columns.append((head, *(f"{count:,}" for count in counts)))
        if self.prices is not None:
            columns.append(("money", *(_money(tokens.cost(self.prices)) for tokens in kept)))
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(
                cell.rjust(width) if index else cell.ljust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in zip(*columns, strict=True)
        ]
        lines.insert(1, "-" * len(lines[0]))
        ratio = self.answered.calls / self.asked if self.asked else 0.0
        lines.append(
            f"{self.asked:,} asked, {self.answered.calls:,} answered ({ratio:.1%}); {self.stored:,} stored, "
            f"{self.unstorable:,} not storable, {self.unwritten:,} not written, "
            f"{self.unreadable:,} not readable, {self.unkeyable:,} without a key"
        )
        if self.money_saved_by_provider is not None:
            lines.append(f"saved by the provider's own cache: {_money(self.money_saved_by_provider)}")
        return "\n".join(lines)


def _money(amount: float) -> str:
    """Two decimals, and as many more as three digits of a small amount need: a call may cost 0.0000213."""
    if amount == 0:
        return "0"
    return f"{amount:,.{max(2, 2 - math.floor(math.log10(abs(amount))))}f}"


class LLMCounters:
    """The running counts. Thread-safe; a forked child keeps them."""

    def __init__(self, prices: Prices | None) -> None:
        self._stats = LLMStats(prices=prices)
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock: another thread may have held the old one."""
        self._lock = threading.Lock()

    def add(self, *, answered: Tokens | None = None, paid: Tokens | None = None, **counts: int) -> None:
        """Add to the tokens, and to the counts of that name."""
        with self._lock:
            stats = self._stats
            changes: dict[str, Any] = {name: getattr(stats, name) + count for name, count in counts.items()}
            if answered is not None:
                changes["answered"] = stats.answered + answered
            if paid is not None:
                changes["paid"] = stats.paid + paid
            self._stats = replace(stats, **changes)

    def snapshot(self) -> LLMStats:
        """The counts as they are now."""
        return self._stats


def tokens_of(generations: Sequence[Any]) -> Tokens:
    """The tokens of one call. Of several generations the first that has counts stands for all: a provider
    counts the call, and LangChain writes that into each."""
    for generation in generations:
        usage = getattr(getattr(generation, "message", None), "usage_metadata", None)
        if isinstance(usage, dict) and usage.keys() & {"input_tokens", "output_tokens"}:
            details = usage.get("input_token_details")
            details = details if isinstance(details, dict) else {}
            short, long = (
                _count(details, "ephemeral_5m_input_tokens"),
                _count(details, "ephemeral_1h_input_tokens"),
            )
            return Tokens(
                calls=1,
                input=_count(usage, "input_tokens"),
                output=_count(usage, "output_tokens"),
                cache_read=_count(details, "cache_read"),
                cache_written_5m=short,
                cache_written_1h=long,
                # Some versions give the sum of the two here as well, some only what is neither.
                cache_written=max(0, _count(details, "cache_creation") - short - long),
            )
    return Tokens(calls=1, unknown=1)


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0
