"""Leases in a database: locks on keys, in a table of their own beside that of the entries.

The table ``<table>_lease`` is made at the first lease, where the tier may make tables::

    id        digest of the key (`row_id`), the primary key
    token     whose it is
    taken_at  seconds: when it was taken, or last renewed
    ends_at   seconds: when it runs out

Times are those of the database's own clock, for its clients' clocks differ. A lease that was taken in the
future is of before the clock was set back, and nobody has it. SQLite has no clock: there it is the machine's
monotonic one, which all of its processes share.

Plans as in `_plans`: each may be begun anew.
"""

# ruff: noqa: S608 - names of tables are checked against an allow-list; all else is a parameter

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Final

from tiercache.errors import TierUnavailable
from tiercache.protocols import Clock
from tiercache.tiers.sql._dialects import Step
from tiercache.tiers.sql._ids import row_id, row_ids
from tiercache.tiers.sql._plans import COMMIT, Plan

__all__ = ["LeasePlans"]

_ROWS: Final = 250  # of a statement: in SQLite each row of a list is a parameter, of which there are 999
_LONGEST: Final = 3600.0  # seconds; longer than any lease: such a row is damaged
_PRUNE_SECONDS: Final = 60.0
_COLUMNS: Final = "id, token, taken_at, ends_at"


class LeasePlans:
    """The plans for the leases beside ``table``, whose dialect is named ``kind``. Thread-safe."""

    def __init__(self, kind: str, table: str, clock: Clock, *, create: bool) -> None:
        self._statements = _KINDS[kind](table, clock)
        self._clock = clock
        self._create = create
        self._ready = False
        self._pruned_at = float("-inf")

    def acquire(self, keys: Sequence[str], token: str, seconds: float) -> Plan[list[str]]:
        """See `SupportsLease.acquire`. ``seconds`` may be an hour at most."""
        names = row_ids(keys)
        owner, seconds = token.encode(), min(seconds, _LONGEST)
        yield from self._prepare()
        yield from self._prune()
        taken: list[str] = []
        for ids in _portions(names):
            yield from self._begin()
            rows = yield self._statements.take(ids, owner, seconds)
            mine = self._statements.mine(ids, owner)
            if mine is not None:
                rows = yield mine
            yield COMMIT
            taken += [names[bytes(row)] for (row,) in rows]
        return taken

    def release(self, keys: Sequence[str], token: str) -> Plan[None]:
        """See `SupportsLease.release`."""
        yield from self._prepare()
        for ids in _portions(row_ids(keys)):
            yield from self._begin()
            yield self._statements.give_up(ids, token.encode())
            yield COMMIT

    def forget_table(self) -> None:
        """Look for the table again at the next call: it may have been dropped."""
        self._ready = False

    def _prepare(self) -> Plan[None]:
        if self._ready:
            return
        if not (yield self._statements.exists())[0][0]:
            if not self._create:
                raise TierUnavailable(
                    f"there is no table {self._statements.name!r} to keep leases in, and create=False"
                )
            yield from self._begin()
            yield Step(self._statements.create)
            yield COMMIT
        self._ready = True

    def _prune(self) -> Plan[None]:
        """Drop what those who were killed have left and nobody asked for since."""
        now = self._clock.monotonic()
        if now - self._pruned_at < _PRUNE_SECONDS:
            return
        self._pruned_at = now
        yield from self._begin()
        yield self._statements.prune()
        yield COMMIT

    def _begin(self) -> Plan[None]:
        if self._statements.begin:
            yield Step(self._statements.begin)


class _Statements:
    """The statements of one database. Instances are immutable."""

    place: ClassVar[str] = "%s"
    quote: ClassVar[str] = '"'
    begin: ClassVar[str] = ""
    #: SQL for the seconds of its clock.
    now: ClassVar[str]

    #: Makes the table; any number of processes may do so at once.
    create: str

    def __init__(self, table: str, clock: Clock) -> None:
        self.clock = clock
        self.schema, _, name = table.rpartition(".")
        self.name = f"{name}_lease"
        parts = [self.schema, self.name] if self.schema else [self.name]
        self.table = ".".join(f"{self.quote}{part}{self.quote}" for part in parts)

    def nobodys(self, prefix: str = "") -> str:
        """SQL that is true of a lease that ran out, or that cannot be right."""
        taken, ends = f"{prefix}taken_at", f"{prefix}ends_at"
        return f"NOT ({taken} <= {self.now} AND {ends} > {self.now} AND {ends} - {taken} <= {_LONGEST})"

    def exists(self) -> Step:
        """One row, whose first column says whether the table is there."""
        raise NotImplementedError

    def take(self, ids: Sequence[bytes], token: bytes, seconds: float) -> Step:
        """Insert leases, or take over those that are the token's own or nobody's."""
        raise NotImplementedError

    def mine(self, ids: Sequence[bytes], token: bytes) -> Step | None:
        """Those of ``ids`` that the token has, after `take`; ``None`` where that says it by itself."""
        return self._of_token("SELECT id", ids, token)

    def give_up(self, ids: Sequence[bytes], token: bytes) -> Step:
        """Drop those of ``ids`` that the token has."""
        return self._of_token("DELETE", ids, token)

    def _of_token(self, verb: str, ids: Sequence[bytes], token: bytes) -> Step:
        marks = ", ".join([self.place] * len(ids))
        condition = f"id IN ({marks}) AND token = {self.place}"
        return Step(f"{verb} FROM {self.table} WHERE {condition}", [*ids, token])

    def prune(self) -> Step:
        """Drop what nobody has."""
        return Step(f"DELETE FROM {self.table} WHERE {self.nobodys()}")


class _SQLite(_Statements):
    place = "?"
    begin = "BEGIN IMMEDIATE"
    now = ":now"

    def __init__(self, table: str, clock: Clock) -> None:
        super().__init__(table, clock)
        self.create = (
            f"CREATE TABLE IF NOT EXISTS {self.table} (id BLOB NOT NULL PRIMARY KEY, token BLOB NOT NULL, "
            "taken_at REAL NOT NULL, ends_at REAL NOT NULL) WITHOUT ROWID"
        )
        self._take = (
            f"INSERT INTO {self.table} ({_COLUMNS}) VALUES (:id, :token, :now, :ends) "
            "ON CONFLICT (id) DO UPDATE SET "
            "token = excluded.token, taken_at = excluded.taken_at, ends_at = excluded.ends_at "
            f"WHERE token = excluded.token OR {self.nobodys()}"
        )

    def exists(self) -> Step:
        found = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?)"
        return Step(f"SELECT EXISTS ({found})", (self.name,))

    def take(self, ids: Sequence[bytes], token: bytes, seconds: float) -> Step:
        now = self.clock.monotonic()
        rows = [{"id": row, "token": token, "now": now, "ends": now + seconds} for row in ids]
        return Step(self._take, rows, many=True)

    def prune(self) -> Step:
        return super().prune()._replace(parameters={"now": self.clock.monotonic()})


class _PostgreSQL(_Statements):
    now = "extract(epoch from clock_timestamp())::float8"

    def __init__(self, table: str, clock: Clock) -> None:
        super().__init__(table, clock)
        # IF NOT EXISTS alone loses races, as for the table of the entries.
        lock = int.from_bytes(row_id(self.table.encode())[:7], "big")
        self.create = (
            f"DO $do$ BEGIN PERFORM pg_advisory_xact_lock({lock}); CREATE TABLE IF NOT EXISTS {self.table} "
            "(id bytea NOT NULL PRIMARY KEY, token bytea NOT NULL, taken_at float8 NOT NULL, "
            "ends_at float8 NOT NULL); END $do$"
        )
        self._take = (
            f"INSERT INTO {self.table} AS l ({_COLUMNS}) "
            f"SELECT i.id, %b::bytea, {self.now}, {self.now} + %b::float8 FROM unnest(%b::bytea[]) AS i (id) "
            "ORDER BY i.id ON CONFLICT (id) DO UPDATE SET "
            "token = excluded.token, taken_at = excluded.taken_at, ends_at = excluded.ends_at "
            f"WHERE l.token = excluded.token OR {self.nobodys('l.')} RETURNING l.id"
        )

    def exists(self) -> Step:
        return Step("SELECT to_regclass(%s::text) IS NOT NULL", (self.table,))

    def take(self, ids: Sequence[bytes], token: bytes, seconds: float) -> Step:
        return Step(self._take, (token, seconds, list(ids)))

    def mine(self, ids: Sequence[bytes], token: bytes) -> None:  # noqa: ARG002 - `take` returned them
        return None

    def _of_token(self, verb: str, ids: Sequence[bytes], token: bytes) -> Step:
        return Step(f"{verb} FROM {self.table} WHERE id = ANY(%b) AND token = %b", (list(ids), token))


class _MySQL(_Statements):
    """MySQL and MariaDB."""

    quote = "`"
    # Not NOW, which is when the statement began: it may have waited since then for who took the lease, and
    # would find it taken in the future.
    now = "UNIX_TIMESTAMP(SYSDATE(6))"

    def __init__(self, table: str, clock: Clock) -> None:
        super().__init__(table, clock)
        self.create = (
            f"CREATE TABLE IF NOT EXISTS {self.table} (id BINARY(20) NOT NULL PRIMARY KEY, "
            "token VARBINARY(255) NOT NULL, taken_at DOUBLE NOT NULL, ends_at DOUBLE NOT NULL) ENGINE=InnoDB"
        )
        self._row = f"(%s, %s, {self.now}, {self.now} + %s)"
        # Columns are set from left to right, and each sees those before it changed.
        times = ", ".join(f"{it} = IF(token = VALUES(token), VALUES({it}), {it})" for it in _TIMES)
        self._end = (
            f"ON DUPLICATE KEY UPDATE token = IF(token = VALUES(token) OR {self.nobodys()}, "
            f"VALUES(token), token), {times}"
        )

    def exists(self) -> Step:
        found = (
            "SELECT 1 FROM information_schema.tables "
            "WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s"
        )
        return Step(f"SELECT EXISTS ({found})", (self.schema or None, self.name))

    def take(self, ids: Sequence[bytes], token: bytes, seconds: float) -> Step:
        rows = ", ".join([self._row] * len(ids))
        values = [value for row in ids for value in (row, token, seconds)]
        return Step(f"INSERT INTO {self.table} ({_COLUMNS}) VALUES {rows} {self._end}", values)


_TIMES: Final = ("taken_at", "ends_at")
_KINDS: Final[dict[str, type[_Statements]]] = {
    "sqlite": _SQLite,
    "postgresql": _PostgreSQL,
    "mysql": _MySQL,
    "mariadb": _MySQL,
}


def _portions(ids: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Parts of at most `_ROWS`, in order: then no two batches deadlock."""
    ordered = sorted(ids)
    return (ordered[start : start + _ROWS] for start in range(0, len(ordered), _ROWS))
