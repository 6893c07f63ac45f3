"""Budgets: how much may be spent on calls in a day, and what happens then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from tiercache.accounts import EXACT, PICO
from tiercache.errors import ConfigError

__all__ = ["Budget"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a cache may spend in a day (UTC), in the currency of its prices.

    ``per_day``
        the limit, more than zero and less than a million.
    ``warn_at``
        shares of it, above 0 and up to 1: a line in the log and an event at each, once a day.
    ``action``
        at the limit: ``"block"``, loaders are no longer called, and `BudgetExceeded` is raised in their
        place; ``"warn"``: no more than the line and the event.

    It counts what all processes have spent that share the ledger, in the cache's namespace and those inside.
    Raises `ConfigError` for wrong values.
    """

    per_day: float | Decimal
    warn_at: Sequence[float] = (0.75, 0.90)
    action: Literal["block", "warn"] = "block"

    def __post_init__(self) -> None:
        number = _number(self.per_day)
        if number is None or EXACT.multiply(number, PICO) < 1:  # or it would be spent before the first call
            raise ConfigError(
                f"budget: per_day={self.per_day!r} is not allowed; "
                "give a number above zero and below a million"
            )
        object.__setattr__(self, "per_day", number)
        given = self.warn_at
        shares = [_number(one) for one in given] if isinstance(given, list | tuple) else [None]
        if any(one is None or not 0 < one <= 1 for one in shares):
            raise ConfigError(
                f"budget: warn_at={given!r} is not allowed; give a list of shares, such as 0.75 for 75 %"
            )
        object.__setattr__(self, "warn_at", tuple(float(one) for one in sorted(set(given))))
        if self.action not in ("block", "warn"):
            raise ConfigError(f"budget: action={self.action!r} is unknown; it is 'block' or 'warn'")

    @classmethod
    def of(cls, given: Any) -> Budget | None:
        """The budget that ``given`` stands for: one, a number (`per_day`), a mapping of the fields, or
        ``None``. Raises `ConfigError`."""
        if given is None or isinstance(given, Budget):
            return given
        if not isinstance(given, Mapping):
            return cls(given)
        names = [each.name for each in fields(cls)]
        unknown = [name for name in given if name not in names]
        if unknown or "per_day" not in given:
            what = f"{unknown[0]!r} is unknown" if unknown else "per_day is missing"
            raise ConfigError(f"budget: {what}; a budget has {', '.join(names)}")
        return cls(**given)

    @property
    def limit(self) -> int:
        """``per_day`` as the ledger counts money."""
        return int(EXACT.multiply(Decimal(self.per_day), PICO))


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        number = Decimal(str(value))  # of a float what one would write, and not its last binary digit
    except InvalidOperation:
        return None
    return number if number.is_finite() and number < 10**6 else None
