"""An `SQLStore`'s table as a source: pages by key, and SQLite files opened read-only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from tiercache._masking import blot, mask, torn
from tiercache.errors import ConfigError, MissingPackage
from tiercache.integrations.langchain.migrate._run import Page, Unfit

__all__ = ["SQLRows", "open_read_only"]

_TABLE = "langchain_key_value_stores"
#: Drivers that come with an extra of ours, by the beginning of URLs.
_DRIVERS = {"mysql": "pymysql", "mariadb": "pymysql", "postgresql": "psycopg"}


def open_read_only(path: str | Path) -> sqlite3.Connection:
    """The SQLite file at ``path``, which nothing is written to. Raises `ConfigError` if there is none."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise ConfigError(f"{path} is no file; give the path of an SQLite database")
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)


class SQLRows:
    """The rows of ``namespace`` in the database at ``url`` (SQLAlchemy's, of a blocking driver).

    Raises `ConfigError` for a URL that leads to no such table, `MissingPackage` without SQLAlchemy.
    """

    def __init__(self, url: str, namespace: str) -> None:
        try:
            import sqlalchemy as sa
        except ImportError:
            raise MissingPackage("sqlalchemy", "sql", "migrating an SQLStore") from None
        try:
            parsed = sa.make_url(url)
        except (sa.exc.ArgumentError, ValueError):  # which may name a piece of a password, or be one
            raise ConfigError(
                "SQLStore: the text is not an SQLAlchemy URL; it is like sqlite:///path or "
                "postgresql+psycopg://user:password@host/database"
            ) from None
        written = url if isinstance(url, str) else parsed.render_as_string(hide_password=False)
        shown = mask(written)
        wrong = torn(written, parsed.username, parsed.port)
        if wrong:
            raise ConfigError(f"SQLStore: {shown} is not an SQLAlchemy URL that can be used: {wrong}")
        try:
            self._engine = _engine_of(parsed, shown)
        except (sa.exc.ArgumentError, ValueError, TypeError) as error:
            if isinstance(error, ConfigError):
                raise
            why = blot(str(error).partition("\n")[0], written)
            raise ConfigError(f"SQLStore: {shown} is not an SQLAlchemy URL that can be used: {why}") from None
        self.name = f"SQLStore {shown} namespace {namespace!a}"
        if not self._asked(written):
            raise ConfigError(f"{shown} has no table {_TABLE}: it is no SQLStore's")
        self._sa: Any = sa
        columns = (
            sa.column("namespace", sa.Text),
            sa.column("key", sa.Text),
            sa.column("value", sa.LargeBinary),
        )
        self._table = sa.table(_TABLE, *columns)
        self._ours = self._table.c.namespace == namespace

    def _asked(self, url: str) -> bool:
        """Whether the table is there. What the driver says of a server that it cannot use comes through,
        unless there is a secret in it."""
        import sqlalchemy as sa

        try:
            return bool(sa.inspect(self._engine).has_table(_TABLE))
        except sa.exc.SQLAlchemyError as error:
            said = str(error).partition("\n")[0]
            if blot(str(error), url) == str(error):
                raise
            told = blot(said, url)
        raise ConfigError(f"SQLStore: {mask(url)} cannot be used: {told}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def total(self) -> int:
        (row,) = self._rows(self._sa.select(self._sa.func.count()).select_from(self._table).where(self._ours))
        return int(row[0])

    def pages(self, size: int) -> Iterator[Page[str]]:
        key = self._table.c.key
        query = self._sa.select(key).where(self._ours).order_by(key).limit(size)
        rows = self._rows(query)
        while rows:
            yield Page([str(row[0]) for row in rows])
            rows = self._rows(query.where(key > rows[-1][0]))

    def read(self, keys: Sequence[str]) -> dict[str, bytes | Unfit]:
        key, value = self._table.c.key, self._table.c.value
        rows = self._rows(self._sa.select(key, value).where(self._ours, key.in_(keys)))
        kinds = bytes, bytearray, memoryview
        return {
            str(name): bytes(data) if isinstance(data, kinds) else Unfit("no bytes") for name, data in rows
        }

    def label(self, key: str) -> str:
        return key

    def _rows(self, query: Any) -> list[Any]:
        # A connection a query: none is kept in a transaction, which writers would wait for.
        with self._engine.connect() as connection:
            return list(connection.execute(query).fetchall())


def _engine_of(url: Any, shown: str) -> Any:
    import sqlalchemy as sa

    backend = url.get_backend_name()
    try:
        is_async = url.get_dialect().is_async
        made = None if backend == "sqlite" or is_async else sa.create_engine(url, poolclass=sa.NullPool)
    except ImportError as error:
        other = f", or write {backend}+{_DRIVERS[backend]}://" if backend in _DRIVERS else ""
        raise ConfigError(
            f"SQLStore: {shown} needs the package {error.name!r}, which is not installed; install it{other}"
        ) from None
    if is_async:
        raise ConfigError(
            f"{shown} is for async code; give the same database with a blocking driver, such as sqlite or "
            f"postgresql+psycopg"
        )
    if made is not None:
        return made
    path = url.database or ""
    open_read_only(path).close()
    return sa.create_engine("sqlite://", creator=lambda: open_read_only(path), poolclass=sa.NullPool)
