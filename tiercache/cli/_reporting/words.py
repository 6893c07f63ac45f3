"""Numbers as a report shows them: each with its unit, "-" where nobody knows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from tiercache.accounts import LOADER
from tiercache.cli._output import printable, weight
from tiercache.cli._reporting.record import Popular, Spent, TierPart
from tiercache.ledger import money

__all__ = [
    "amount", "day_of", "entries_of", "hours", "key_of", "moment", "percent", "processes", "seconds",
    "size_of", "spent_of", "state_of", "who",
]  # fmt: skip

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: Characters of a key: it may be a whole prompt.
_KEY = 100
_STATES = {
    "listed": "counted now",
    "memory": "as running processes told",
    "unlisted": "not counted",
    "down": "down",
}


def percent(share: float | None) -> str:
    """``0.5`` is "50.0%"."""
    return "-" if share is None else f"{share:.1%}"


def seconds(value: float | None) -> str:
    """In the unit that fits."""
    if value is None:
        return "-"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1:
            return f"{value * factor:,.1f} {unit}"
    return f"{value * 1e9:.0f} ns"


def hours(value: float) -> str:
    """Seconds as hours, or in a unit that fits better."""
    if value >= 3600:
        return f"{value / 3600:,.1f} h"
    return f"{value / 60:.1f} min" if value >= 60 else seconds(value) if value else "0 s"


def processes(count: int, running: int) -> str:
    """How many there are, and how many of them run."""
    return f"{count:,} {'process' if count == 1 else 'processes'} ({running:,} running)"


def amount(value: Decimal, currency: str) -> str:
    """An amount of money, a small one with more digits; "-" where there is no currency, and so no price."""
    if not currency:
        return "-"
    return f"{_plain(value)} {currency}"


def spent_of(spent: Spent) -> str:
    """What is spent of a budget, which is a number also where nobody says of what."""
    return f"{_plain(spent.spent)} of {_plain(spent.per_day)} {spent.currency}".rstrip()


def _plain(value: Decimal) -> str:
    return f"{value:,.2f}" if value >= 1 else money(value)


def entries_of(tier: TierPart) -> str:
    """How many entries ``tier`` has; ">" where there are more."""
    return "-" if tier.entries is None else f"{'' if tier.whole else '> '}{tier.entries:,}"


def size_of(tier: TierPart) -> str:
    """How much they weigh."""
    return weight(tier.bytes) if tier.whole or tier.bytes is None else f"> {weight(tier.bytes)}"


def state_of(tier: TierPart) -> str:
    """Where these numbers come from."""
    if tier.state == "memory" and tier.entries is None:
        return "of no running process"
    return tier.why or _STATES[tier.state]


def who(tier: str) -> str:
    """Who answered, as the ledger has it."""
    return "(loader)" if tier == LOADER else tier or "-"


def key_of(one: Popular) -> str:
    """Its key on one line, the beginning of a long one; "-" where no tier has named it."""
    shown = "-" if one.key is None else printable(one.key)
    return shown if len(shown) <= _KEY else f"{shown[: _KEY - 1]}…"


def day_of(day: str) -> str:
    """ "2026-07-01" is "1 Jul"."""
    found = date.fromisoformat(day)
    return f"{found.day} {_MONTHS[found.month - 1]}"


def moment(when: float) -> str:
    """Unix seconds as a date and time in UTC."""
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M} UTC"
