"""The connections of a store's blocking calls: lent to one call at a time, and kept for the next one.

SQLAlchemy makes them, holds the notes about them and ends them. Its pool is left out: to lend a connection
and to take it back costs that more than SQLite needs for a key. So an engine of ours has a `NullPool`, and
the connections that nobody uses lie in a list here, the last one on top. To add to a list and to take from
it is one step each, which no other thread can come into.

How many there are is bounded by the store's turnstile: a new one is only made by a call that found the list
empty, and then all others are with calls that have a turn each.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy.engine import Engine

__all__ = ["Connection", "Connections"]

# A forked child keeps what it must not use for as long as it lives: SQLAlchemy ends a connection that it
# lent and that nobody has any more, and the server would take that for the parent's wish.
_of_the_parent: list[list[Connection]] = []


class Connection:
    """One connection. ``home``: the list in which it lies when it is idle."""

    __slots__ = ("driver_connection", "home", "info", "pooled")

    def __init__(self, pooled: Any, home: list[Connection]) -> None:
        #: As SQLAlchemy lends it.
        self.pooled = pooled
        # Each is asked for in every call, and a property of a property over there.
        self.driver_connection: Any = pooled.driver_connection
        self.info: dict[Any, Any] = pooled.info
        self.home = home


class Connections:
    """The connections of ``engine``, of which at most ``keep`` are kept while they are idle. Thread-safe.

    With ``keep=0`` each goes back to the engine's own pool after its call.
    """

    def __init__(self, engine: Engine, *, keep: int) -> None:
        self._engine = engine
        self._keep = keep
        self._idle: list[Connection] = []
        self._closed = False

    def lend(self) -> Connection:
        """One that nobody else has. Raises what SQLAlchemy and the driver raise when a new one is made."""
        home = self._idle
        try:
            return home.pop()
        except IndexError:
            return Connection(self._engine.raw_connection(), home)

    def take_back(self, connection: Connection) -> None:
        """Keep ``connection``, which is whole and has nothing left to read, for another call."""
        home = connection.home
        if home is not self._idle:  # its call began in the parent of this process, whose connection it is
            home.append(connection)
            return
        if not self._keep:
            connection.pooled.close()
            return
        home.append(connection)
        # Looked at by each call after it added its own: the last one sees whatever is too many.
        if self._closed:
            self.end_idle()
        elif len(home) > self._keep:
            with suppress(IndexError):  # others have lent them all
                home.pop(0).pooled.close()

    def drop(self, connection: Connection) -> None:
        """End ``connection``, which is of no use to anybody; one of the parent of this process is not ours to
        end."""
        if connection.home is not self._idle:
            connection.home.append(connection)
            return
        connection.pooled.invalidate()
        connection.pooled.close()

    def end_idle(self) -> None:
        """End those that nobody uses."""
        while self._idle:
            with suppress(Exception):  # somebody has the last one; what cannot be closed is as good as that
                self._idle.pop().pooled.close()

    def close(self) -> None:
        """End those that nobody uses, and the others when their calls do."""
        self._closed = True
        self.end_idle()

    def after_fork(self) -> None:
        """Forget the parent's connections, but keep them alive: closing them would end the parent's."""
        _of_the_parent.append(self._idle)
        self._idle = []
