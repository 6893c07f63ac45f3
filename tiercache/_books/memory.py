"""A ledger in memory: for chains of which no tier can keep one."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from tiercache.accounts import COLUMNS, MOST, MOST_ROWS, TOTAL, Account, Amounts, Deposit, others
from tiercache.forks import reset_after_fork

__all__ = ["MemoryLedger", "add_to", "folded", "merged"]


class MemoryLedger:
    """See `SupportsLedger`. Thread-safe; a forked child goes on with a copy of its own."""

    ledgers = True

    def __init__(self) -> None:
        self._rows: dict[Account, dict[str, int]] = {}
        self._claims: dict[tuple[str, str], str] = {}
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock: another thread may have held the old one."""
        self._lock = threading.RLock()

    def post(self, deposit: Deposit) -> None:
        """See `SupportsLedger.post`; here none can come twice."""
        with self._lock:
            for account, amounts in deposit.rows:
                known = account in self._rows or account.tier == TOTAL
                full = not known and sum(one.day == account.day for one in self._rows) >= MOST_ROWS
                add_to(self._rows, others(account) if full else account, amounts)
            if deposit.keep_from:
                for old in [one for one in self._rows if one.day < deposit.keep_from]:
                    del self._rows[old]
                for claim in [one for one in self._claims if one[0] < deposit.keep_from]:
                    del self._claims[claim]

    def posted(self, since: str) -> list[tuple[Account, dict[str, int]]]:
        """See `SupportsLedger.posted`."""
        with self._lock:
            return [(one, dict(amounts)) for one, amounts in self._rows.items() if one.day >= since]

    def spent(self, day: str, namespace: str) -> int:
        """See `SupportsLedger.spent`."""
        with self._lock:
            return self._rows.get(Account(day, namespace, "", TOTAL), {}).get("money", 0)

    def claim(self, day: str, name: str, token: str) -> bool:
        """See `SupportsLedger.claim`."""
        with self._lock:
            return self._claims.setdefault((day, name), token) == token


def add_to(rows: dict[Account, dict[str, int]], account: Account, amounts: Amounts) -> None:
    """Add ``amounts`` to those of ``account`` in ``rows``."""
    row = rows.setdefault(account, {})
    for name in COLUMNS:
        if more := amounts.get(name, 0):
            row[name] = min(row.get(name, 0) + more, MOST)


def merged(several: Iterable[tuple[Account, Amounts]]) -> dict[Account, dict[str, int]]:
    """All of them, each account once."""
    rows: dict[Account, dict[str, int]] = {}
    for account, amounts in several:
        add_to(rows, account, amounts)
    return rows


def folded(rows: dict[Account, dict[str, int]], most: int) -> dict[Account, dict[str, int]]:
    """``rows``, those beyond ``most`` added to `others`; totals are left as they are."""
    if len(rows) <= most:
        return rows
    fewer: dict[Account, dict[str, int]] = {}
    for account, amounts in rows.items():
        own = account.tier == TOTAL or len(fewer) < most
        add_to(fewer, account if own else others(account), amounts)
    return fewer
