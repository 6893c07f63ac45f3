"""Accounts: what a ledger's row is called and what it counts, and what storage must be able to do that keeps
them.

All amounts are whole numbers, so that sums are exact in whatever order they are added: money in millionths of
a millionth of the currency, time in microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context
from typing import Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "COLUMNS",
    "EXACT",
    "FAILED",
    "LEDGER_VERBS",
    "LOADER",
    "MICRO",
    "MISSED",
    "MOST",
    "MOST_ROWS",
    "OTHERS",
    "PICO",
    "TOTAL",
    "Account",
    "Amounts",
    "Deposit",
    "SupportsLedger",
    "others",
]

#: What a row counts. ``calls`` are all attempts, ``failed`` those of them that gave nothing; ``texts`` those
#: that were answered by calls, ``served`` those that a tier had. The tokens are those of `TokenUsage`, of
#: which nobody counted ``estimated``; ``unpriced`` are calls of models without a price; ``money`` and
#: ``micros`` what was spent.
COLUMNS: Final = (
    "calls", "failed", "texts", "served", "input", "output", "cache_read", "cache_write", "cache_write_1h",
    "estimated", "unpriced", "money", "micros",
)  # fmt: skip

#: Of one unit of money, and of a second.
PICO: Final = 10**12
MICRO: Final = 10**6
#: Money is added and multiplied in this, and not as the thread's context has it: that is the application's,
#: which may want five digits, or have what is not exact raise.
EXACT: Final = Context(prec=60)
#: Stores add in 64 bits, and what would be more stays at this.
MOST: Final = 2**63 - 1
#: In the place of a tier's name: the loader answered.
LOADER: Final = "loader"
#: The same: ``served`` by nobody, for no tier had it, whether it was loaded then or not. No row of a report.
MISSED: Final = "?"
#: The same: ``micros`` and ``money`` of the calls that gave nothing, which are among the loader's too: what a
#: text costs is the mean of the others. No row of a report.
FAILED: Final = "!"
#: The same: the sum of what a cache has spent that day, under its root's namespace. It is no row of a report.
TOTAL: Final = "="
#: In the place of namespaces and models beyond the `MOST_ROWS` rows of a day.
OTHERS: Final = "(others)"
MOST_ROWS: Final = 1000

#: By the names of columns; those that are zero may be left out.
Amounts: TypeAlias = Mapping[str, int]


class Account(NamedTuple):
    """Whose amounts they are. ``day`` is a date in UTC as ISO 8601 has it, so that later ones sort later; the
    others are text without NUL and lone surrogates."""

    day: str
    namespace: str
    model: str
    tier: str


def others(account: Account) -> Account:
    """Where amounts of ``account`` go when its day has too many rows: inside the same root."""
    root = account.namespace.partition("/")[0]
    return account._replace(namespace=f"{root}/{OTHERS}", model=OTHERS)


@dataclass(frozen=True, slots=True)
class Deposit:
    """Amounts to add, at most once: it is the ``number``-th of its ``writer``, whose earlier ones were
    confirmed. A day is kept for ``keep_days``; with ``keep_from``, those before that are to be dropped."""

    writer: str
    number: int
    day: str
    rows: Sequence[tuple[Account, Amounts]]
    keep_from: str = ""
    keep_days: int = 400


#: The methods of `SupportsLedger`.
LEDGER_VERBS: Final = ("post", "posted", "spent", "claim")


@runtime_checkable
class SupportsLedger(Protocol):
    """Storage that outlives the process, and that several may share: it keeps the ledger of its chains.

    The rows lie apart from the entries: no listing names one, and `clear`, `purge` and `mdelete` leave them
    alone. A store that is native async has these methods with an ``a`` before their names instead or as well.
    """

    @property
    def ledgers(self) -> bool:
        """Whether it can just now: what may only be read cannot."""
        ...

    def post(self, deposit: Deposit) -> None:
        """Add all of ``deposit``, or nothing and raise. One whose ``number`` is not above that of its
        writer's last is there already, and nothing is done. Rows beyond `MOST_ROWS` of a day go to `others`;
        a few more are no harm. A sum beyond `MOST` stays at that."""
        ...

    def posted(self, since: str) -> list[tuple[Account, dict[str, int]]]:
        """All rows since that day, in any order."""
        ...

    def spent(self, day: str, namespace: str) -> int:
        """The ``money`` of the `TOTAL` of that day and namespace."""
        ...

    def claim(self, day: str, name: str, token: str) -> bool:
        """Whether ``name`` is ``token``'s on that day: it is the first one's who asked."""
        ...
