"""The ledger in the database of a disk tier, in tables of its own: sums that all processes here add to.

A deposit is one transaction, with the number of its writer in it: so it is there whole, and once. What a
process was told is there survives its end, and with ``durability="power"`` a power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from tiercache.accounts import COLUMNS, MOST, MOST_ROWS, TOTAL, Account, Deposit, others
from tiercache.tiers.disk._tables import exists

__all__ = ["LedgerMethods"]

_NAMES: Final = ", ".join(Account._fields)
_COUNTS: Final = ", ".join(f'"{name}"' for name in COLUMNS)
#: The rows, the last number of each writer, and whose the claims are; and what each of these tables is.
_TABLES: Final = {
    "Tier_ledger": (
        "(day TEXT NOT NULL, namespace TEXT NOT NULL, model TEXT NOT NULL, tier TEXT NOT NULL,"
        + ",".join(f' "{name}" INTEGER NOT NULL' for name in COLUMNS)
        + f", PRIMARY KEY ({_NAMES}))"
    ),
    "Tier_ledger_writer": "(writer TEXT PRIMARY KEY, number INTEGER NOT NULL, day TEXT NOT NULL)",
    "Tier_ledger_claim": (
        "(day TEXT NOT NULL, name TEXT NOT NULL, token TEXT NOT NULL, PRIMARY KEY (day, name))"
    ),
}
_NEXT: Final = (
    "INSERT INTO Tier_ledger_writer VALUES (?, ?, ?) ON CONFLICT (writer) DO UPDATE"
    " SET number = excluded.number, day = excluded.day WHERE number < excluded.number"
)
_KNOWN: Final = "SELECT 1 FROM Tier_ledger WHERE day = ? AND namespace = ? AND model = ? AND tier = ?"
_ROWS: Final = "SELECT count(*) FROM Tier_ledger WHERE day = ?"
_ADD: Final = (
    f"INSERT INTO Tier_ledger ({_NAMES}, {_COUNTS}) VALUES"  # noqa: S608 - constants
    f" ({', '.join('?' * (len(Account._fields) + len(COLUMNS)))})"
    f" ON CONFLICT ({_NAMES}) DO UPDATE SET "
    + ", ".join(
        f'"{name}" = min("{name}", {MOST} - excluded."{name}") + excluded."{name}"' for name in COLUMNS
    )
)
_SINCE: Final = f"SELECT {_NAMES}, {_COUNTS} FROM Tier_ledger WHERE day >= ?"  # noqa: S608 - constants
_SPENT: Final = "SELECT money FROM Tier_ledger WHERE day = ? AND namespace = ? AND model = '' AND tier = ?"
_CLAIM: Final = "INSERT OR IGNORE INTO Tier_ledger_claim VALUES (?, ?, ?)"
_CLAIMED: Final = "SELECT token FROM Tier_ledger_claim WHERE day = ? AND name = ?"


class LedgerMethods:
    """Part of `DiskStore`; see `SupportsLedger`."""

    _read_only: bool
    _run: Callable[..., Any]
    _write: Callable[..., Any]

    @property
    def ledgers(self) -> bool:
        """See `SupportsLedger`."""
        return not self._read_only

    def post(self, deposit: Deposit) -> None:
        """See `SupportsLedger.post`."""

        def add(connection: sqlite3.Connection) -> None:
            _make(connection)
            first = connection.execute(_NEXT, (deposit.writer, deposit.number, deposit.day)).rowcount
            if not first:
                return
            for account, amounts in deposit.rows:
                if account.tier != TOTAL and not connection.execute(_KNOWN, account).fetchall():
                    ((rows,),) = connection.execute(_ROWS, (account.day,)).fetchall()
                    account = others(account) if rows >= MOST_ROWS else account  # noqa: PLW2901 - this row's
                connection.execute(_ADD, (*account, *(amounts.get(name, 0) for name in COLUMNS)))
            if deposit.keep_from:
                _forget(connection, deposit)

        self._write(add)

    def posted(self, since: str) -> list[tuple[Account, dict[str, int]]]:
        """See `SupportsLedger.posted`."""
        names = len(Account._fields)
        rows = self._run(lambda connection: _rows(connection, _SINCE, (since,)))
        return [
            (Account(*row[:names]), dict(zip(COLUMNS, row[names:], strict=True)))
            for row in rows
            if all(isinstance(name, str) for name in row[:names])  # else it is damaged
            and all(isinstance(count, int) for count in row[names:])
        ]

    def spent(self, day: str, namespace: str) -> int:
        """See `SupportsLedger.spent`."""
        rows = self._run(lambda connection: _rows(connection, _SPENT, (day, namespace, TOTAL)))
        return int(rows[0][0]) if rows else 0

    def claim(self, day: str, name: str, token: str) -> bool:
        """See `SupportsLedger.claim`."""

        def take(connection: sqlite3.Connection) -> bool:
            _make(connection)
            connection.execute(_CLAIM, (day, name, token))
            return bool(connection.execute(_CLAIMED, (day, name)).fetchall() == [(token,)])

        return bool(self._write(take))


def _make(connection: sqlite3.Connection) -> None:
    if not exists(connection, *_TABLES):
        for name, columns in _TABLES.items():
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} {columns} WITHOUT ROWID")


def _rows(connection: sqlite3.Connection, statement: str, values: tuple[str, ...]) -> list[Any]:
    if not exists(connection, "Tier_ledger"):
        return []
    return connection.execute(statement, values).fetchall()


def _forget(connection: sqlite3.Connection, deposit: Deposit) -> None:
    for table in ("Tier_ledger", "Tier_ledger_claim"):
        connection.execute(f"DELETE FROM {table} WHERE day < ?", (deposit.keep_from,))  # noqa: S608 - constants
    # A writer that has not written for a day has nothing left to repeat.
    connection.execute("DELETE FROM Tier_ledger_writer WHERE day < date(?, '-2 days')", (deposit.day,))
