"""How the drivers' connections keep to a call's end: while they are made, and while they are waited for.

Drivers wait in ways of their own. psycopg asks a server that does not answer to cancel the query, and waits
for that; it connects for two seconds at least. PyMySQL gives each packet a whole time-out. So a blocking call
is put under watch: at its end the socket is shut (or SQLite interrupted), and the driver's wait ends with an
error. An awaited call is cancelled by its timer; then `abort` cuts its connection without another word.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from math import ceil
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from tiercache.watchdog import Call, Watch

__all__ = ["abort", "async_creator", "bound_connecting", "watch_connection"]

#: Among a pooled connection's notes: the watch that it was made under; SQLite's time-out for locks, seconds.
_WATCH = "tiercache watch"
_BUSY = "tiercache busy"


def watch_connection(call: Call, connection: Any, dialect: str, *, busy: float | None = None) -> Watch:
    """Have ``connection`` (as checked out of a pool) cut at the end of ``call``.

    ``busy``: the seconds that an SQLite connection of ours waits for locks, when nothing else was said.
    """
    driver = connection.driver_connection
    if dialect == "sqlite":
        if busy is not None:
            _limit_locks(call, connection, busy)
        return call.watch(driver.interrupt)
    made_under: Watch | None = connection.info.pop(_WATCH, None)
    return made_under or call.watch(_descriptor(driver, dialect))


def _descriptor(driver: Any, dialect: str) -> int:
    number: int = driver.fileno() if dialect == "postgresql" else driver._sock.fileno()  # noqa: SLF001 - PyMySQL has no public way to it
    return number


def _limit_locks(call: Call, connection: Any, busy: float) -> None:
    left = call.at_most(None)
    if abs(left - connection.info.get(_BUSY, busy)) > busy / 10:  # mostly it is what it was
        connection.driver_connection.execute(f"PRAGMA busy_timeout = {ceil(left * 1000)}").close()
        connection.info[_BUSY] = left


def bound_connecting(engine: Engine, deadline: float) -> None:
    """Have ``engine``, of ours and for a server, connect within the running call.

    The watch stays on the new connection, for SQLAlchemy asks the first one about the server; it goes over to
    `watch_connection`.
    """
    dialect = engine.dialect.name

    def connect(_dialect: Any, record: Any, positional: Any, named: dict[str, Any]) -> Any:
        call = Call.current()
        if call is None:
            return None  # SQLAlchemy connects
        if dialect == "postgresql":
            connection = _bounded_psycopg().connect(*positional, **named)
        else:
            left = call.at_most(deadline)
            limits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), left)
            connection = engine.dialect.loaded_dbapi.connect(*positional, **named | limits)
            # From here on the watch looks after it; these would outlive the call.
            connection._read_timeout = connection._write_timeout = deadline  # noqa: SLF001 - set once only, publicly
        record.info[_WATCH] = call.watch(_descriptor(connection, dialect))
        return connection

    event.listen(engine, "do_connect", connect)


@cache
def _bounded_psycopg() -> Any:
    """psycopg's connection, whose making ends with the running call."""
    import psycopg  # here: the driver of one database of three

    class Connection(psycopg.Connection[Any]):
        @classmethod
        def _connect_gen(cls, *args: Any, **named: Any) -> Generator[Any, Any, Any]:
            # One address of the server; psycopg tries the next when this raises.
            call = Call.current()
            inner = super()._connect_gen(*args, **named)
            if call is None:
                return (yield from inner)
            watches: dict[int, Watch] = {}
            try:
                wanted = next(inner)  # the socket, and what it is waited for
                while True:
                    if wanted[0] not in watches:  # a new attempt, perhaps without TLS, has a new one
                        watches[wanted[0]] = call.watch(wanted[0])
                    ready = yield wanted
                    if call.over():
                        raise psycopg.OperationalError("connection timeout expired")
                    wanted = inner.send(ready)
            except StopIteration as done:
                return done.value
            finally:
                inner.close()
                for watch in watches.values():
                    watch.end()

    return Connection


@cache
def async_creator(dialect: str) -> dict[str, Any]:
    """What SQLAlchemy is told for making awaited connections that can be cancelled at once."""
    if dialect != "postgresql":
        return {}
    import psycopg  # as above
    import psycopg.waiting

    class AsyncConnection(psycopg.AsyncConnection[Any]):
        async def wait(self, gen: Any, interval: float = 0.1, **named: Any) -> Any:  # type: ignore[override] # a time-out is not in every version
            # Its own sends the server a cancellation first, and waits for that up to ten seconds.
            return await psycopg.waiting.wait_async(gen, self.pgconn.socket, interval=interval, **named)

    return {"async_creator_fn": AsyncConnection.connect}


def abort(driver: Any) -> None:
    """Cut an awaited connection at once: nobody will read what it still owes."""
    if hasattr(driver, "pgconn"):
        driver.pgconn.finish()
    else:
        driver.close()  # asyncmy's, which aborts the transport
