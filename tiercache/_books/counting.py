"""What a call of a loader amounts to: its tokens, as somebody tells them or as estimated, and their price.

Those who tell are users' functions, and what they give is looked at: what is no count would break the call
that was paid for, or be refused by the store each time it is repeated, with all that comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from math import ceil
from typing import Any, Final

from tiercache._log import logger
from tiercache.accounts import EXACT, MICRO, PICO
from tiercache.ledger import Ledger
from tiercache.tokens import TokenUsage, estimate, texts_in

__all__ = ["amounts_of", "pico", "sound", "usage_of"]

_TOKENS: Final = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
#: No call takes more, nor costs more. Stores add in 64 bits.
_MOST_TOKENS: Final = 10**10
_MOST_MONEY: Final = 10**5 * PICO


def usage_of(
    ledger: Ledger,
    reports: Sequence[TokenUsage],
    values: Iterable[Any],
    asked: Callable[[], Iterable[str]],
) -> TokenUsage:
    """The tokens of a call that gave ``values``: what it reported; or else what the values tell; or else what
    somebody counts in the texts that were ``asked`` and given. Raises nothing."""
    told = sound(reports)
    values = list(values)
    if not told:
        of = TokenUsage.of if ledger.usage is None else ledger.usage
        try:
            told = sound(usage for value in values if (usage := of(value)) is not None)
        except Exception as error:  # noqa: BLE001 - the ledger never breaks a call
            logger().warning("usage= raised %s; the tokens of that call are estimated", type(error).__name__)
    if told:
        return sum(told[1:], told[0])
    count = estimate if ledger.count_tokens is None else ledger.count_tokens
    try:
        return _sound(
            TokenUsage(
                sum(map(count, asked())),
                sum(map(count, texts_in(values))),
                estimated=ledger.count_tokens is None,
            )
        )
    except Exception as error:  # noqa: BLE001 - as above
        logger().warning("count_tokens raised %s; the tokens of that call count as 0", type(error).__name__)
        return TokenUsage(estimated=True)


def sound(told: Iterable[TokenUsage]) -> list[TokenUsage]:
    """Those of ``told`` that are tokens, in whole numbers; the log says where one is not."""
    kept = []
    for one in told:
        try:
            kept.append(_sound(one))
        except Exception as error:  # noqa: BLE001 - as below
            logger().warning("a usage that was told is no number of tokens (%s)", type(error).__name__)
    return kept


def _sound(usage: TokenUsage) -> TokenUsage:
    counts = {name: ceil(getattr(usage, name)) for name in _TOKENS}
    if not all(0 <= count <= _MOST_TOKENS for count in counts.values()):
        raise ValueError
    return TokenUsage(**counts, estimated=bool(usage.estimated))


def amounts_of(usage: TokenUsage, texts: int, seconds: float, money: Decimal | None) -> dict[str, int]:
    """What one call adds to its account. ``money``: what it cost, if there is a price for it."""
    return {
        "calls": 1,
        "texts": texts,
        **{name: getattr(usage, name) for name in _TOKENS},
        "estimated": usage.total if usage.estimated else 0,
        "unpriced": int(money is None),
        "money": 0 if money is None else min(pico(money), _MOST_MONEY),
        "micros": round(seconds * MICRO),
    }


def pico(money: Decimal) -> int:
    """``money`` in whole millionths of a millionth: no price of tokens is known that has a smaller part."""
    return int(EXACT.multiply(money, PICO).to_integral_value(ROUND_HALF_EVEN, EXACT))
