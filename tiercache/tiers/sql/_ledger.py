"""The ledger in a database, in two tables beside that of the entries, made when they are first needed::

    <table>_ledger       id (digest of the account), day, account (JSON), and a column for each amount
    <table>_ledger_mark  id, day, number, token: of writers their last number, of claims whose they are

Plans as in `_plans`. A deposit is a transaction: first its writer's mark is locked, so that one that is
repeated while the first try is still under way waits for that, and finds its number there. What is too old
is dropped after it: a transaction that deletes by the day locks more than it deletes, in MySQL everything
that it looks at, and depositors would deadlock with it.
"""

# ruff: noqa: S608 - names of tables are checked against an allow-list; all else is a parameter

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from typing import ClassVar, Final

from tiercache.accounts import COLUMNS, MOST, MOST_ROWS, TOTAL, Account, Deposit, others
from tiercache.errors import TierUnavailable
from tiercache.tiers.sql._dialects import Step
from tiercache.tiers.sql._ids import row_id
from tiercache.tiers.sql._plans import COMMIT, Plan

__all__ = ["LedgerPlans"]

#: Rows that are dropped in one transaction.
_AT_ONCE: Final = 250


class LedgerPlans:
    """The plans for the ledger beside ``table``, whose dialect is named ``kind``. Thread-safe."""

    def __init__(self, kind: str, table: str, *, create: bool) -> None:
        self._statements = _KINDS[kind](table)
        self._create = create
        self._ready = False
        #: Rows that are known to be there, of the last day that was posted to.
        self._known: tuple[str, frozenset[bytes]] = "", frozenset()

    def post(self, deposit: Deposit) -> Plan[None]:
        """See `SupportsLedger.post`."""
        yield from self._prepare()
        one = self._statements
        writer = _id("w", deposit.writer)
        yield Step(one.begin)
        yield Step(one.mark, (writer, deposit.day, 0, ""))
        ((number,),) = yield Step(one.locked, (writer,))
        if number < deposit.number:
            rows = []
            for account, amounts in deposit.rows:
                place = yield from self._place(account)
                rows.append((_id("r", *place), place, amounts))
            # In one order, so that no two deposits deadlock.
            for row, place, amounts in sorted(rows, key=lambda each: each[0]):
                counts = [amounts.get(name, 0) for name in COLUMNS]
                yield Step(one.add, (row, place.day, json.dumps(place).encode(), *counts))
            yield Step(one.number, (deposit.number, deposit.day, writer))
        yield from self._commit()
        if deposit.keep_from:
            yield from self._forget(one.ledger, deposit.keep_from)
            # What has not been written for a day has nothing left to repeat.
            before = date.fromisoformat(deposit.day) - timedelta(days=2)
            yield from self._forget(one.marks, before.isoformat())

    def posted(self, since: str) -> Plan[list[tuple[Account, dict[str, int]]]]:
        """See `SupportsLedger.posted`."""
        yield from self._prepare()
        rows = yield Step(self._statements.since, (since,))
        return [
            (Account(*json.loads(bytes(account))), dict(zip(COLUMNS, map(int, counts), strict=True)))
            for account, *counts in rows
        ]

    def spent(self, day: str, namespace: str) -> Plan[int]:
        """See `SupportsLedger.spent`."""
        yield from self._prepare()
        rows = yield Step(self._statements.money, (_id("r", day, namespace, "", TOTAL),))
        return int(rows[0][0]) if rows else 0

    def claim(self, day: str, name: str, token: str) -> Plan[bool]:
        """See `SupportsLedger.claim`."""
        yield from self._prepare()
        one, mark = self._statements, _id("c", day, name)
        yield Step(one.begin)
        yield Step(one.mark, (mark, day, 0, token))
        ((whose,),) = yield Step(one.whose, (mark,))
        yield from self._commit()
        return bool(whose == token)

    def forget_table(self) -> None:
        """Look for the tables again at the next call: they may have been dropped."""
        self._ready = False
        self._known = "", frozenset()

    def _place(self, account: Account) -> Plan[Account]:
        """The row for ``account``: its own, or that of the others of a day that has too many."""
        row = _id("r", *account)
        day, known = self._known
        if account.tier == TOTAL or (day == account.day and row in known):
            return account
        one = self._statements
        if not (yield Step(one.has, (row,))):
            ((rows,),) = yield Step(one.rows, (account.day,))
            if rows >= MOST_ROWS:
                return others(account)
        # Threads may overwrite each other's: then it is looked for once more.
        self._known = account.day, (known if day == account.day else frozenset()) | {row}
        return account

    def _forget(self, table: str, before: str) -> Plan[None]:
        """Drop what is of a day ``before`` that, by its ids: then no other row is locked."""
        one = self._statements
        while old := (yield Step(one.old.format(table), (before,))):
            yield Step(one.begin)
            ids = sorted(bytes(row) for (row,) in old)
            yield Step(one.drop.format(table, _marks(one.place, len(ids))), ids)
            yield from self._commit()

    def _prepare(self) -> Plan[None]:
        if self._ready:
            return
        one = self._statements
        if not (yield one.exists())[0][0]:
            if not self._create:
                names = " and ".join(map(repr, one.names))
                raise TierUnavailable(f"there are no tables {names} to keep a ledger in, and create=False")
            for create in one.create:
                yield Step(create)
            yield COMMIT
        self._ready = True

    def _commit(self) -> Plan[None]:
        if self._statements.commit:
            yield Step(self._statements.commit)
        yield COMMIT


def _id(kind: str, *names: str) -> bytes:
    return row_id(json.dumps([kind, *names]).encode())


class _Statements:
    """The statements of one database. Instances are immutable."""

    place: ClassVar[str] = "%s"
    quote: ClassVar[str] = '"'
    begin: ClassVar[str] = "BEGIN"
    #: What ends a transaction that was begun by a statement; "" where the driver knows of it.
    commit: ClassVar[str] = "COMMIT"
    lock: ClassVar[str] = " FOR UPDATE"
    #: The types of an id, of a day, a token, an account and a number.
    types: ClassVar[tuple[str, ...]]
    #: What an insertion does where the row is there, and how one that is there is added to.
    unless: ClassVar[str] = " ON CONFLICT DO NOTHING"
    added: ClassVar[str] = f"LEAST(l.{{0}}, {MOST} - excluded.{{0}}) + excluded.{{0}}"
    conflict: ClassVar[str] = "ON CONFLICT (id) DO UPDATE SET"
    alias: ClassVar[str] = " AS l"

    def __init__(self, table: str) -> None:
        self.schema, _, name = table.rpartition(".")
        self.names = f"{name}_ledger", f"{name}_ledger_mark"
        self.ledger, self.marks = ledger, marks = self._named(self.names[0]), self._named(self.names[1])
        columns = [f"{self.quote}{column}{self.quote}" for column in COLUMNS]
        listed = ", ".join(columns)
        key, day, token, account, number = self.types
        counts = ", ".join(f"{column} {number} NOT NULL" for column in columns)
        self.create = self._made(
            f"CREATE TABLE IF NOT EXISTS {ledger} (id {key} NOT NULL PRIMARY KEY, day {day} NOT NULL, "
            f"account {account} NOT NULL, {counts}",
            f"CREATE TABLE IF NOT EXISTS {marks} (id {key} NOT NULL PRIMARY KEY, day {day} NOT NULL, "
            f"number {number} NOT NULL, token {token} NOT NULL",
        )
        here = self.place
        self.mark = f"INSERT INTO {marks} (id, day, number, token) VALUES ({_marks(here, 4)}){self.unless}"
        self.locked = f"SELECT number FROM {marks} WHERE id = {here}{self.lock}"
        self.number = f"UPDATE {marks} SET number = {here}, day = {here} WHERE id = {here}"
        self.whose = f"SELECT token FROM {marks} WHERE id = {here}"
        adding = ", ".join(f"{column} = {self.added.format(column)}" for column in columns)
        self.add = (
            f"INSERT INTO {ledger}{self.alias} (id, day, account, {listed}) "
            f"VALUES ({_marks(here, 3 + len(columns))}) {self.conflict} {adding}"
        )
        self.has = f"SELECT 1 FROM {ledger} WHERE id = {here}"
        self.rows = f"SELECT count(*) FROM {ledger} WHERE day = {here}"
        self.since = f"SELECT account, {listed} FROM {ledger} WHERE day >= {here}"
        self.money = f"SELECT {self.quote}money{self.quote} FROM {ledger} WHERE id = {here}"
        self.old = f"SELECT id FROM {{}} WHERE day < {here} LIMIT {_AT_ONCE}"
        self.drop = "DELETE FROM {} WHERE id IN ({})"

    def exists(self) -> Step:
        """One row, whose first column says whether both tables are there: somebody may have dropped one."""
        raise NotImplementedError

    def _named(self, name: str) -> str:
        parts = [self.schema, name] if self.schema else [name]
        return ".".join(f"{self.quote}{part}{self.quote}" for part in parts)

    def _made(self, *tables: str) -> Sequence[str]:
        """The statements that make ``tables``, which want their last bracket, and indexes of their days."""
        name = self.names[0].removesuffix("_ledger")
        indexes = [
            f"CREATE INDEX IF NOT EXISTS {self.quote}{name}{kind}_day{self.quote} ON {of} (day)"
            for kind, of in (("_ledger", self.ledger), ("_mark", self.marks))
        ]
        return [*(f"{table})" for table in tables), *indexes]


class _SQLite(_Statements):
    place = "?"
    begin = "BEGIN IMMEDIATE"
    commit = ""
    lock = ""
    added = _Statements.added.replace("LEAST", "min")
    types = ("BLOB", "TEXT", "TEXT", "BLOB", "INTEGER")

    def exists(self) -> Step:
        found = "type = 'table' AND lower(name) IN (lower(?), lower(?))"
        return Step(f"SELECT count(*) = 2 FROM sqlite_master WHERE {found}", self.names)


class _PostgreSQL(_Statements):
    types = ("bytea", "varchar(10)", "text", "bytea", "bigint")

    def exists(self) -> Step:
        found = "to_regclass(%s::text) IS NOT NULL"
        return Step(f"SELECT {found} AND {found}", (self.ledger, self.marks))

    def _made(self, *tables: str) -> Sequence[str]:
        # IF NOT EXISTS alone loses races, as for the table of the entries. And it waits for all who write to
        # a table that is there, before it looks for the index: with two tables that is a deadlock.
        lock = int.from_bytes(row_id(self.marks.encode())[:7], "big")
        named, made = (self.ledger, self.marks), super()._made(*tables)
        each = "".join(
            f"IF to_regclass('{of}') IS NULL THEN {table}; {index}; END IF; "
            for of, table, index in zip(named, made[:2], made[2:], strict=True)
        )
        return (f"DO $do$ BEGIN PERFORM pg_advisory_xact_lock({lock}); {each}END $do$",)


class _MySQL(_Statements):
    """MySQL and MariaDB."""

    quote = "`"
    begin = "START TRANSACTION"
    types = ("BINARY(20)", "VARCHAR(10)", "VARCHAR(64)", "BLOB", "BIGINT")
    # Not INSERT IGNORE: that warns of each row that is there, and a driver logs it.
    unless = " ON DUPLICATE KEY UPDATE number = number"
    added = f"LEAST({{0}}, {MOST} - VALUES({{0}})) + VALUES({{0}})"
    conflict = "ON DUPLICATE KEY UPDATE"
    alias = ""

    def exists(self) -> Step:
        found = "table_schema = COALESCE(%s, DATABASE()) AND table_name IN (%s, %s)"
        return Step(
            f"SELECT count(*) = 2 FROM information_schema.tables WHERE {found}",
            (self.schema or None, *self.names),
        )

    def _made(self, *tables: str) -> Sequence[str]:
        return [f"{table}, INDEX (day)) ENGINE=InnoDB" for table in tables]


_KINDS: Final[dict[str, type[_Statements]]] = {
    "sqlite": _SQLite,
    "postgresql": _PostgreSQL,
    "mysql": _MySQL,
    "mariadb": _MySQL,
}


def _marks(place: str, count: int) -> str:
    return ", ".join([place] * count)
