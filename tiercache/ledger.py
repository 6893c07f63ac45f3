"""The ledger: what a cache's calls cost and what it saved, by day, namespace, model and answering tier.

`Ledger` says how it is kept, `Statement` is what it says. What was spent is measured. What was saved is
estimated from it: a text that a tier had is worth the mean of those that were paid for, of the same model and
namespace on the same day, or else on all days that are kept. So a hit is counted as it always was, and no
more work is done for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from decimal import Decimal
from typing import Any, Final, Protocol

from tiercache.accounts import COLUMNS, EXACT, FAILED, LOADER, MICRO, MISSED, PICO, TOTAL, Account
from tiercache.errors import ConfigError
from tiercache.tokens import TokenUsage

__all__ = [
    "Ledger",
    "LedgerRow",
    "Pricing",
    "Statement",
    "about_unpriced",
    "money",
    "needs_earlier",
    "statement",
]


class Pricing(Protocol):
    """A table of prices: `tiercache.spending.Prices`."""

    @property
    def currency(self) -> str: ...

    def cost(self, model: str, usage: TokenUsage) -> Decimal | None: ...


@dataclass(frozen=True, slots=True)
class Ledger:
    """How a ledger is kept. ``ledger=True`` is one with what is said here.

    ``usage``
        a function of a loaded value: its `TokenUsage`, or ``None`` where it tells nothing. Unless given, it
        is `TokenUsage.of`, which reads what providers answer.
    ``count_tokens``
        a function from text to its tokens, for calls of which neither tells; without it they are estimated,
        one for four bytes, and counted as such.
    ``keep_days``
        how long a day is kept.
    ``tier``
        the name of the tier that keeps it. Unless given, the lowest that can, which most processes share.

    Raises `ConfigError` for wrong values.
    """

    usage: Callable[[Any], TokenUsage | None] | None = None
    count_tokens: Callable[[str], int] | None = None
    keep_days: int = 400
    tier: str | None = None

    def __post_init__(self) -> None:
        for name in ("usage", "count_tokens"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise ConfigError(f"ledger: {name}={function!r:.60} cannot be called; give a function")
        days = self.keep_days
        if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 36_500:
            raise ConfigError(f"ledger: keep_days={days!r} is not allowed; give a whole number above zero")

    @classmethod
    def of(cls, given: Any) -> Ledger:
        """The ledger that ``given`` stands for: one, or a flag."""
        if isinstance(given, bool):
            return cls()
        if not isinstance(given, Ledger):
            raise ConfigError(f"ledger: {given!r:.60} is not allowed; give True, False or a Ledger")
        return given


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What one tier, or the loader, did for one model and namespace on one day (UTC). In a sum of rows, what
    differs among them is ``""``.

    ``calls``: attempts made, ``failed`` ones among them; ``texts``: keys that they gave a value for, and
    ``served`` those that the tier had. ``input`` to ``cache_write_1h``: the tokens of those calls, as
    `TokenUsage` has them, the last three of the provider's own prompt cache; ``estimated``: how many of all
    these nobody counted. ``unpriced``: calls of a model without a price. ``money_spent`` in the currency of
    the prices, ``seconds_spent`` in calls, failed ones too.

    ``calls_saved``, ``money_saved`` and ``seconds_saved`` are estimates: see `tiercache.ledger`.
    """

    day: str = ""
    namespace: str = ""
    model: str = ""
    tier: str = ""
    calls: int = 0
    failed: int = 0
    texts: int = 0
    served: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    estimated: int = 0
    unpriced: int = 0
    money_spent: Decimal = Decimal(0)
    seconds_spent: float = 0.0
    calls_saved: float = 0.0
    money_saved: Decimal = Decimal(0)
    seconds_saved: float = 0.0

    @property
    def tokens(self) -> int:
        """All of them, in and out."""
        return self.input + self.output + self.cache_read + self.cache_write + self.cache_write_1h

    @property
    def read_to_write(self) -> float | None:
        """Texts that were served from tiers for each that was paid for; ``None`` where none was."""
        return self.served / self.texts if self.texts else None

    @property
    def provider_read_to_write(self) -> float | None:
        """Tokens read from the provider's own prompt cache for each that was written into it."""
        written = self.cache_write + self.cache_write_1h
        return self.cache_read / written if written else None

    def __add__(self, other: LedgerRow) -> LedgerRow:
        sums: dict[str, Any] = {}
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name in Account._fields:
                sums[each.name] = mine if mine == theirs else ""
            elif isinstance(mine, Decimal):
                sums[each.name] = EXACT.add(mine, theirs)
            else:
                sums[each.name] = mine + theirs
        return LedgerRow(**sums)

    def as_dict(self) -> dict[str, Any]:
        """Everything as text and numbers, ready for JSON; money as text, which is exact."""
        money = {name: str(getattr(self, name)) for name in ("money_spent", "money_saved")}
        ratios = {
            "read_to_write": self.read_to_write,
            "provider_read_to_write": self.provider_read_to_write,
        }
        return {**asdict(self), **money, **ratios}


_HEADS: Final = (
    "day", "namespace", "model", "tier", "calls", "failed", "calls saved", "texts", "served", "input",
    "output", "read", "written", "1 h", "spent", "saved", "s spent", "s saved",
)  # fmt: skip
_TEXTS: Final = 4


@dataclass(frozen=True, slots=True)
class Statement:
    """What a ledger says since a day: ``rows``, the earliest first. ``str()`` of it is a table, `as_dict`
    plain data. ``currency`` is that of the prices now, "" without any. ``missed``: on each day, the keys that
    were looked up and no tier had, whether they were loaded then or not."""

    rows: tuple[LedgerRow, ...]
    currency: str = ""
    missed: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> LedgerRow:
        """All rows added up."""
        return _sum(self.rows)

    def by(self, *names: str) -> tuple[LedgerRow, ...]:
        """The sums for each ``day``, ``namespace``, ``model`` or ``tier``, or for several of these; what is
        not among ``names`` is ``""``."""
        wrong = [name for name in names if name not in Account._fields]
        if wrong:
            raise ConfigError(f"{wrong[0]!r} is nothing to sum by; there are {', '.join(Account._fields)}")
        groups: dict[tuple[str, ...], list[LedgerRow]] = {}
        for row in self.rows:
            groups.setdefault(tuple(getattr(row, name) for name in names), []).append(row)
        blank = {name: "" for name in Account._fields if name not in names}
        return tuple(_with(_sum(rows), blank) for _, rows in sorted(groups.items()))

    def as_dict(self) -> dict[str, Any]:
        """Everything as nested dicts, lists, text and numbers, ready for JSON."""
        return {
            "currency": self.currency,
            "rows": [row.as_dict() for row in self.rows],
            "total": self.total.as_dict(),
            "missed": dict(self.missed),
        }

    def __repr__(self) -> str:
        return str(self)  # as of statistics

    def __str__(self) -> str:
        total = self.total
        table = [_HEADS, *map(_cells, self.rows), ("total", "", "", *_cells(total)[3:])]
        table[-1] = (*table[-1][:3], "", *table[-1][4:])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if index < _TEXTS else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        rule = "-" * max(map(len, lines))
        lines[1:1] = [rule]
        lines[-1:-1] = [rule]
        told = f"money in {self.currency}; " if self.currency else ""
        lines.append(f"{told}what was saved is estimated from what was spent")
        if total.estimated:
            lines.append(f"{total.estimated:,} of the tokens were estimated: nobody counted them")
        if total.unpriced:
            lines.append(about_unpriced(total.unpriced))
        return "\n".join(lines)


def statement(rows: Iterable[tuple[Account, Mapping[str, int]]], since: str, currency: str) -> Statement:
    """What there is to say since that day; ``rows`` are all that are kept, for the means, or those since then
    unless that `needs_earlier` ones."""
    kept: list[tuple[Account, Mapping[str, int]]] = []
    wasted: dict[Sequence[str], Mapping[str, int]] = {}
    missed: Counter[str] = Counter()
    for account, amounts in rows:
        if account.tier == MISSED:
            missed[account.day] += amounts.get("served", 0)
        elif account.tier == FAILED:
            wasted[account[:3]] = amounts
        elif account.tier != TOTAL:
            kept.append((account, amounts))
    means = _means(kept, wasted)
    made = [_row(account, amounts, means) for account, amounts in sorted(kept) if account.day >= since]
    return Statement(
        tuple(made), currency, {day: count for day, count in sorted(missed.items()) if day >= since}
    )


def needs_earlier(rows: Mapping[Account, Mapping[str, int]], since: str) -> bool:
    """Whether what was served since that day was not all paid for on its own day, for the same model and
    namespace: then its worth is the mean of other days."""
    paid = {account[:3] for account, amounts in rows.items() if amounts.get("texts")}
    return any(
        account.day >= since and account[:3] not in paid
        for account, amounts in rows.items()
        if amounts.get("served") and account.tier != MISSED
    )


_Sums = Sequence[int]
_WANTED: Final = ("texts", "calls", "failed", "money", "micros")


def _means(
    rows: Iterable[tuple[Account, Mapping[str, int]]], wasted: Mapping[Sequence[str], Mapping[str, int]]
) -> dict[tuple[str, str, str], list[int]]:
    """Sums of `_WANTED` by day, namespace and model, and with day or model left out (``"*"``), all without
    what was ``wasted`` on calls that gave nothing: or a day on which the provider was ill would make each
    hit worth as much as all that failed."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for account, amounts in rows:
        if amounts.get("texts"):
            less = wasted.get(account[:3], {})
            for day in (account.day, "*"):
                for model in (account.model, "*"):
                    sum_ = sums.setdefault((day, account.namespace, model), [0] * len(_WANTED))
                    for index, name in enumerate(_WANTED):
                        sum_[index] += amounts.get(name, 0) - less.get(name, 0)
    return sums


def _row(
    account: Account, amounts: Mapping[str, int], means: Mapping[tuple[str, str, str], _Sums]
) -> LedgerRow:
    made: dict[str, Any] = dict(zip(Account._fields, account, strict=True))
    made |= {name: amounts.get(name, 0) for name in COLUMNS if name not in ("money", "micros")}
    served = made["served"]
    if served:
        # What the cache answers for several models in one namespace does not say which.
        places = (
            (day, account.namespace, model) for model in (account.model, "*") for day in (account.day, "*")
        )
        texts, calls, failed, paid, micros = next(
            (means[one] for one in places if one in means), (1, 0, 0, 0, 0)
        )
        made |= {
            "calls_saved": served * (calls - failed) / texts,
            "money_saved": _amount(served * paid // texts),
            "seconds_saved": served * micros / texts / MICRO,
        }
    return LedgerRow(
        **made,
        money_spent=_amount(amounts.get("money", 0)),
        seconds_spent=amounts.get("micros", 0) / MICRO,
    )


def _amount(pico: int) -> Decimal:
    return EXACT.divide(pico, PICO)


def _sum(rows: Iterable[LedgerRow]) -> LedgerRow:
    total: LedgerRow | None = None
    for row in rows:
        total = row if total is None else total + row
    return LedgerRow() if total is None else total


def _with(row: LedgerRow, changes: Mapping[str, Any]) -> LedgerRow:
    return replace(row, **changes)


def _cells(row: LedgerRow) -> tuple[str, ...]:
    counts = (row.texts, row.served, row.input, row.output, row.cache_read, row.cache_write)
    return (
        row.day,
        row.namespace or "-",
        row.model or "-",
        "-" if not row.tier else row.tier if row.tier != LOADER else "(loader)",
        f"{row.calls:,}",
        f"{row.failed:,}",
        f"{row.calls_saved:,.0f}",
        *(f"{count:,}" for count in counts),
        f"{row.cache_write_1h:,}",
        *(money(amount) for amount in (row.money_spent, row.money_saved)),
        *(f"{seconds:,.1f}" for seconds in (row.seconds_spent, row.seconds_saved)),
    )


def about_unpriced(count: int) -> str:
    """What there is to say of so many calls without a price."""
    if count == 1:
        return "1 call of a model without a price is not in the money"
    return f"{count:,} calls of models without a price are not in the money"


def money(amount: Decimal) -> str:
    """To the hundredth, and with as many more digits as a small amount has, down to the millionth."""
    text = f"{amount:,.6f}".rstrip("0")
    return f"{amount:,.2f}" if len(text.partition(".")[2]) < 2 else text
