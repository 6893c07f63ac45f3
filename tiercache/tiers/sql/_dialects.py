"""The SQL of each database: statements with their parameters, and what its errors mean. No I/O.

The statements are text for the driver's own cursor. SQLAlchemy's expression language was measured and left
out here: through it a PostgreSQL read costs three times the CPU, and ``bytea`` arrives as hexadecimal text.

One table holds everything::

    id          digest of the key (`row_id`), the primary key
    head        the first `HEAD` bytes of the key: what can be indexed where keys have any length
    cache_key   the key in UTF-8 (lone surrogates included), so that bytes sort as code points do
    value       the blob
    expires_at  Unix seconds; NULL: never
    written_at  Unix seconds: when the value was written, here or in the tier that it came from
    size        bytes of key and value

Its companion, ``<table>_meta``, says which format the table has.
"""

# ruff: noqa: S608 - names of tables are checked against an allow-list; all else is a parameter

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from tiercache.tiers.sql._ids import row_id

__all__ = ["DIALECTS", "FORMAT", "HEAD", "Dialect", "Row", "Step"]

#: The version of the table's layout, kept in the companion table.
FORMAT: Final = 1
#: PostgreSQL refuses index rows above about 2,700 bytes and InnoDB above 3,072.
HEAD: Final = 200
#: Rows a statement: past this the cost a row no longer falls, while the statement's memory grows.
ROWS: Final = 1000
#: Bytes a statement: below every server's default packet limit, whatever the escaping adds.
BYTES: Final = 4 * 2**20

T = TypeVar("T")


class Row(NamedTuple):
    """One row as it is written; the order is that of the columns."""

    id: bytes
    head: bytes
    cache_key: bytes
    value: bytes
    expires_at: float | None
    written_at: float
    size: int


class Step(NamedTuple):
    """One statement to run; ``many``: once for each of ``parameters``."""

    sql: str
    parameters: Sequence[Any] | Mapping[str, Any] = ()
    many: bool = False


_COLUMNS = ", ".join(Row._fields)
_REPLACED = Row._fields[3:]  # the columns that an overwrite changes


class Dialect:
    """What the databases have in common. Instances are immutable: threads share them."""

    place: ClassVar[str] = "%s"
    quote: ClassVar[str] = '"'
    #: Opens a write transaction where single statements are not one each; "" where they are.
    begin: ClassVar[str] = ""
    #: Whether the driver's cursor is asked for binary results.
    binary: ClassVar[bool] = False
    #: One row: what the database is, of which version, and its clock's Unix seconds, where it has one.
    about: ClassVar[str]

    def __init__(self, table: str) -> None:
        self.schema, _, self.name = table.rpartition(".")
        self.table = self._quoted(self.name)
        self.meta = self._quoted(f"{self.name}_meta")
        p = self.place
        self.in_range = (
            f"head >= {p} AND head < {p} AND cache_key >= {p} AND cache_key < {p} "
            f"AND NOT (cache_key >= {p} AND cache_key < {p})"
        )
        self.expired = f"expires_at <= {p}"
        self.written_before = f"written_at <= {p}"
        self._scan = (
            f"SELECT head, id, cache_key FROM {self.table} WHERE {self.in_range} "
            f"AND (expires_at IS NULL OR expires_at > {p}) AND (head, id) > ({p}, {p}) "
            f"ORDER BY head, id LIMIT {p}"
        )

    def _quoted(self, name: str) -> str:
        parts = [self.schema, name] if self.schema else [name]
        return ".".join(f"{self.quote}{part}{self.quote}" for part in parts)

    # -- reading ---------------------------------------------------------------------------------

    def select(self, ids: Sequence[bytes], column: str = "value") -> Iterator[Step]:
        """Yields rows of ``id`` and ``value``, or another column."""
        raise NotImplementedError

    def scan(
        self, bounds: Sequence[bytes], now: float, after: tuple[bytes, bytes] | None, limit: int
    ) -> Step:
        """One page of ``head``, ``id``, ``cache_key``, in order, after the row that ended the last page.

        The row comparison alone would do, were it not that MySQL uses no index for one; so the page's
        first ``head`` is the range's lower bound as well.
        """
        head, row = after or (bounds[0], b"")
        return Step(self._scan, (head, *bounds[1:], now, head, row, limit))

    def totals(self) -> Step:
        """One row: how many entries there are and the sum of their sizes."""
        return Step(f"SELECT COUNT(*), COALESCE(SUM(size), 0) FROM {self.table}")

    def oldest(self) -> Step:
        """``id`` and ``size`` of the entries written longest ago."""
        return Step(f"SELECT id, size FROM {self.table} ORDER BY written_at LIMIT {ROWS}")

    # -- writing ---------------------------------------------------------------------------------

    def upsert(self, rows: Sequence[Row]) -> Step:
        """Insert or replace ``rows``, which are in the order of their ids: then no two batches deadlock."""
        raise NotImplementedError

    def delete(self, ids: Sequence[bytes]) -> Iterator[Step]:
        """Drop rows, which are in order, as above."""
        raise NotImplementedError

    def delete_some(self, condition: str, parameters: Sequence[Any], *, wait: bool) -> Step:
        """Drop at most `ROWS` rows that meet ``condition``. ``wait=False`` may leave out locked ones."""
        raise NotImplementedError

    # -- the tables ------------------------------------------------------------------------------

    def exists(self) -> Step:
        """One row: whether the table is there, and whether its companion is."""
        raise NotImplementedError

    def create(self) -> Iterator[Step]:
        """Make what is missing; any number of processes may do so at once."""
        raise NotImplementedError

    def format(self) -> Step:
        """The format of the table, as text."""
        return Step(f"SELECT value FROM {self.meta} WHERE name = 'format'")

    # -- errors ----------------------------------------------------------------------------------

    def timed_out(self, error: BaseException) -> bool:
        """Whether the driver's ``error`` means that time ran out, also while waiting for a lock."""
        raise NotImplementedError

    def deadlocked(self, error: BaseException) -> bool:
        """Whether another transaction was preferred, so that the same command may well succeed now."""
        raise NotImplementedError

    def lost_table(self, error: BaseException) -> bool:
        """Whether the table is gone."""
        raise NotImplementedError

    #: What drivers say where the URL has no password, and where it has a wrong one.
    no_password: tuple[str, ...] = ()
    wrong_password: tuple[str, ...] = ()

    def cure(self, error: BaseException) -> str:
        """What the user can do about ``error``, to be added to its text; mostly nothing: a server's files are
        its keeper's to mend."""
        said = str(error)
        if any(words in said for words in self.no_password):
            return "; the server wants a password, and the URL has none: write //user:password@host"
        if any(words in said for words in self.wrong_password):
            return "; the server refused the user or password in the URL"
        return ""


class SQLite(Dialect):
    place = "?"
    about = "SELECT 'SQLite ' || sqlite_version(), NULL"
    #: A transaction that reads first and then writes is "locked" at once when another process wrote in
    #: between, whatever the busy time-out; one that is a writer from its start waits for its turn.
    begin = "BEGIN IMMEDIATE"
    #: Sizes of lists of ids: few, so that each statement is prepared once, and below the 999 parameters that
    #: old builds allow.
    _SIZES = (1, 16, 128, 512)

    def __init__(self, table: str) -> None:
        super().__init__(table)
        lists = {size: ", ".join("?" * size) for size in self._SIZES}
        # As a table that is walked through: of an IN list SQLite makes an index first, a tenth of the read.
        tables = {size: ", ".join(["(?)"] * size) for size in self._SIZES}
        self._selects = {
            column: {
                size: f"SELECT id, {column} FROM (VALUES {marks}) CROSS JOIN {self.table} ON id = column1"
                for size, marks in tables.items()
            }
            for column in ("value", "size")
        }
        self._deletes = {
            size: f"DELETE FROM {self.table} WHERE id IN ({marks})" for size, marks in lists.items()
        }
        self._upsert = (
            f"INSERT INTO {self.table} ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET "
            + ", ".join(f"{column} = excluded.{column}" for column in _REPLACED)
        )

    def select(self, ids: Sequence[bytes], column: str = "value") -> Iterator[Step]:
        # In their order, which is that in which a batch was written: its pages lie one after the other.
        return self._listed(self._selects[column], sorted(ids))

    def upsert(self, rows: Sequence[Row]) -> Step:
        return Step(self._upsert, rows, many=True)

    def delete(self, ids: Sequence[bytes]) -> Iterator[Step]:
        return self._listed(self._deletes, ids)

    def _listed(self, statements: dict[int, str], ids: Sequence[bytes]) -> Iterator[Step]:
        if len(ids) == 1:
            yield Step(statements[1], ids)
            return
        for part in _chunks(ids, self._SIZES[-1]):
            size = next(size for size in self._SIZES if size >= len(part))
            yield Step(statements[size], [*part, *[None] * (size - len(part))])  # NULL equals no id

    def delete_some(self, condition: str, parameters: Sequence[Any], *, wait: bool) -> Step:  # noqa: ARG002 - one writer at a time
        return Step(
            f"DELETE FROM {self.table} WHERE rowid IN "
            f"(SELECT rowid FROM {self.table} WHERE {condition} LIMIT {ROWS})",
            parameters,
        )

    def exists(self) -> Step:
        one = "EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(?))"
        return Step(f"SELECT {one}, {one}", (self.name, f"{self.name}_meta"))

    def create(self) -> Iterator[Step]:
        # A rowid table: without one, values of some kilobytes would sit in the primary key's own tree.
        yield Step(
            f"CREATE TABLE IF NOT EXISTS {self.table} (id BLOB NOT NULL PRIMARY KEY, head BLOB NOT NULL, "
            "cache_key BLOB NOT NULL, value BLOB NOT NULL, expires_at REAL, written_at REAL NOT NULL, "
            "size INTEGER NOT NULL)"
        )
        for name, columns in _INDEXES.items():
            index = f'"{self.name}_{name}"'
            where = "WHERE expires_at IS NOT NULL" if name == "expiry" else ""
            yield Step(f"CREATE INDEX IF NOT EXISTS {index} ON {self.table} ({columns}) {where}")
        yield Step(
            f"CREATE TABLE IF NOT EXISTS {self.meta} (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)"
        )
        yield Step(f"INSERT OR IGNORE INTO {self.meta} VALUES ('format', '{FORMAT}')")

    def timed_out(self, error: BaseException) -> bool:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED

    def deadlocked(self, error: BaseException) -> bool:  # noqa: ARG002 - one writer at a time
        return False

    def lost_table(self, error: BaseException) -> bool:
        return "no such table" in str(error)

    def cure(self, error: BaseException) -> str:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (11, 26):  # SQLITE_CORRUPT, SQLITE_NOTADB
            return ""
        return (
            "; if the file holds nothing but the cache, delete it while no process uses it, and with it "
            "those of its name with -wal and -shm, to start afresh"
        )


class PostgreSQL(Dialect):
    binary = True
    no_password = ("no password supplied",)
    wrong_password = ("password authentication failed",)
    about = (
        "SELECT 'PostgreSQL ' || current_setting('server_version'), "
        "extract(epoch FROM clock_timestamp())::float8"
    )
    #: What is sent of a row; the other columns follow from these, and the driver makes an array item by item.
    _SENT: ClassVar[dict[str, str]] = {
        "id": "bytea",
        "cache_key": "bytea",
        "value": "bytea",
        "expires_at": "float8",
        "written_at": "float8",
    }

    def __init__(self, table: str) -> None:
        super().__init__(table)
        # One array a column: executemany costs a round trip's worth of work a row.
        arrays = ", ".join(f"%b::{kind}[]" for kind in self._SENT.values())
        sent = ", ".join(self._SENT)
        self._upsert = (
            f"INSERT INTO {self.table} ({sent}, head, size) SELECT {sent}, substr(cache_key, 1, {HEAD}), "
            f"length(cache_key) + length(value) FROM unnest({arrays}) AS sent ({sent}) "
            "ON CONFLICT (id) DO UPDATE SET "
            + ", ".join(f"{column} = excluded.{column}" for column in _REPLACED)
        )
        # Locks are taken in the order of ids, as upserts do; a bare DELETE takes them in the plan's order.
        self._delete = (
            f"DELETE FROM {self.table} WHERE id IN "
            f"(SELECT id FROM {self.table} WHERE id = ANY(%b) ORDER BY id FOR UPDATE)"
        )

    def select(self, ids: Sequence[bytes], column: str = "value") -> Iterator[Step]:
        # By itself, one is planned once; a list is planned in every call, for it may have any length.
        one = len(ids) == 1
        sql = f"SELECT id, {column} FROM {self.table} WHERE id = {'%b' if one else 'ANY(%b)'}"
        return iter([Step(sql, ids)]) if one else (Step(sql, (part,)) for part in _chunks(ids))

    def upsert(self, rows: Sequence[Row]) -> Step:
        return Step(self._upsert, [[getattr(row, name) for row in rows] for name in self._SENT])

    def delete(self, ids: Sequence[bytes]) -> Iterator[Step]:
        return (Step(self._delete, (part,)) for part in _chunks(ids))

    def delete_some(self, condition: str, parameters: Sequence[Any], *, wait: bool) -> Step:
        locking = "FOR UPDATE" if wait else "FOR UPDATE SKIP LOCKED"
        return Step(
            f"DELETE FROM {self.table} WHERE id = ANY(ARRAY("
            f"SELECT id FROM {self.table} WHERE {condition} LIMIT {ROWS} {locking}))",
            parameters,
        )

    def exists(self) -> Step:
        one = "to_regclass(%s::text) IS NOT NULL"
        return Step(f"SELECT {one}, {one}", (self.table, self.meta))

    def create(self) -> Iterator[Step]:
        # IF NOT EXISTS alone loses races (unique violations in the catalogue), hence the advisory lock.
        # Compression is for values that compress, and theirs is the codec's business: EXTERNAL stores
        # them as they are, and rows up to 8,160 bytes stay in one piece. Both save a fifth of a read.
        indexes = "".join(
            f'CREATE INDEX IF NOT EXISTS "{self.name}_{name}" ON {self.table} ({columns})'
            f"{' WHERE expires_at IS NOT NULL' if name == 'expiry' else ''}; "
            for name, columns in _INDEXES.items()
        )
        lock = int.from_bytes(row_id(self.table.encode())[:7], "big")
        yield Step(
            f"DO $do$ BEGIN PERFORM pg_advisory_xact_lock({lock}); "
            f"IF to_regclass('{self.table}') IS NULL THEN CREATE TABLE {self.table} "
            "(id bytea NOT NULL PRIMARY KEY, head bytea NOT NULL, cache_key bytea NOT NULL, "
            "value bytea NOT NULL, expires_at float8, written_at float8 NOT NULL, size int8 NOT NULL) "
            "WITH (toast_tuple_target = 8160); "
            f"ALTER TABLE {self.table} ALTER COLUMN value SET STORAGE EXTERNAL; {indexes}END IF; "
            f"CREATE TABLE IF NOT EXISTS {self.meta} (name text NOT NULL PRIMARY KEY, value text NOT NULL); "
            f"INSERT INTO {self.meta} VALUES ('format', '{FORMAT}') ON CONFLICT DO NOTHING; END $do$"
        )

    def timed_out(self, error: BaseException) -> bool:
        # A statement was cancelled at its time-out; a lock was not to be had in time.
        return getattr(error, "sqlstate", None) in ("57014", "55P03") or "timeout expired" in str(error)

    def deadlocked(self, error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) in ("40P01", "40001")

    def lost_table(self, error: BaseException) -> bool:
        return getattr(error, "sqlstate", None) == "42P01"


class MySQL(Dialect):
    """MySQL and MariaDB: the statements are those that both understand."""

    quote = "`"
    no_password = ("(using password: NO)",)
    wrong_password = ("(using password: YES)",)
    about = (
        "SELECT CONCAT(IF(LOCATE('MariaDB', VERSION()), '', 'MySQL '), VERSION()), "
        "UNIX_TIMESTAMP(SYSDATE(6)) + 0e0"
    )

    def __init__(self, table: str) -> None:
        super().__init__(table)
        # The drivers send one multi-row INSERT only where VALUES holds placeholders alone.
        self._upsert = (
            f"INSERT INTO {self.table} ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s) "
            "ON DUPLICATE KEY UPDATE " + ", ".join(f"{column} = VALUES({column})" for column in _REPLACED)
        )

    def select(self, ids: Sequence[bytes], column: str = "value") -> Iterator[Step]:
        sql = f"SELECT id, {column} FROM {self.table} WHERE id IN %s"
        return (Step(sql, (tuple(part),)) for part in _chunks(ids))

    def upsert(self, rows: Sequence[Row]) -> Step:
        return Step(self._upsert, [tuple(row) for row in rows], many=True)

    def delete(self, ids: Sequence[bytes]) -> Iterator[Step]:
        sql = f"DELETE FROM {self.table} WHERE id IN %s"
        return (Step(sql, (tuple(part),)) for part in _chunks(ids))

    def delete_some(self, condition: str, parameters: Sequence[Any], *, wait: bool) -> Step:  # noqa: ARG002 - SKIP LOCKED is not everywhere
        return Step(f"DELETE FROM {self.table} WHERE {condition} LIMIT {ROWS}", parameters)

    def exists(self) -> Step:
        one = (
            "EXISTS (SELECT 1 FROM information_schema.tables "
            "WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s)"
        )
        schema = self.schema or None
        return Step(f"SELECT {one}, {one}", (schema, self.name, schema, f"{self.name}_meta"))

    def create(self) -> Iterator[Step]:
        # The server commits each of these by itself. The companion comes first, so that a table without
        # one is never ours.
        yield Step(
            f"CREATE TABLE IF NOT EXISTS {self.meta} "
            "(name VARCHAR(64) CHARACTER SET ascii NOT NULL PRIMARY KEY, "
            "value VARCHAR(255) CHARACTER SET ascii NOT NULL) ENGINE=InnoDB"
        )
        yield Step(f"INSERT IGNORE INTO {self.meta} VALUES ('format', '{FORMAT}')")
        indexes = ", ".join(f"INDEX `{name}` ({columns})" for name, columns in _INDEXES.items())
        yield Step(
            f"CREATE TABLE IF NOT EXISTS {self.table} (id BINARY(20) NOT NULL PRIMARY KEY, "
            f"head VARBINARY({HEAD}) NOT NULL, cache_key LONGBLOB NOT NULL, value LONGBLOB NOT NULL, "
            f"expires_at DOUBLE NULL, written_at DOUBLE NOT NULL, size BIGINT NOT NULL, {indexes}) "
            "ENGINE=InnoDB"
        )

    def timed_out(self, error: BaseException) -> bool:
        # lock wait, statement time (MySQL, MariaDB), and a socket that gave up
        return _number(error) in (1205, 3024, 1969) or "timed out" in str(error)

    def deadlocked(self, error: BaseException) -> bool:
        return _number(error) == 1213

    def lost_table(self, error: BaseException) -> bool:
        return _number(error) == 1146


#: (written_at, size) covers both the oldest entries and the totals: neither reads a value.
_INDEXES = {"head": "head, id", "expiry": "expires_at", "age": "written_at, size"}

DIALECTS: Final[dict[str, type[Dialect]]] = {
    "sqlite": SQLite,
    "postgresql": PostgreSQL,
    "mysql": MySQL,
    "mariadb": MySQL,
}


def _chunks(ids: Sequence[T], size: int = ROWS) -> Iterator[list[T]]:
    return (list(ids[start : start + size]) for start in range(0, len(ids), size))


def _number(error: BaseException) -> object:
    return error.args[0] if error.args else None
