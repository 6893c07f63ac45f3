"""Runs the SQL tier's plans on connections of SQLAlchemy's making, for blocking callers.

`SQLStore` is a `ByteStore`; `_async_store.AsyncSQLStore` adds the asyncio twins. Both run the same plans,
judge failures by the same rules, and differ in ``await`` alone.

* A connection that broke is thrown away. If it was used before it may have been stale (a server that was
  started anew), so the plan is begun again on another one; plans are idempotent.
* A plan that lost a deadlock is begun again.
* Everything that goes wrong is a `TierTimeout` or a `TierUnavailable`, whose message holds neither values
  nor passwords.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tiercache._turns import Turns
from tiercache.accounts import Account, Deposit
from tiercache.errors import CacheClosed, ConfigError, EntryRejected, TierError, TierTimeout, TierUnavailable
from tiercache.forks import reset_after_fork
from tiercache.protocols import About, Blob, Purge
from tiercache.sqlite_gate import GATE
from tiercache.tiers.sql._bounded import watch_connection
from tiercache.tiers.sql._connections import Connection, Connections
from tiercache.tiers.sql._engines import KEPT, in_memory, masked, most_connections, without_secrets
from tiercache.tiers.sql._lease import LeasePlans
from tiercache.tiers.sql._ledger import LedgerPlans
from tiercache.tiers.sql._plans import COMMIT, Plan, Plans
from tiercache.tiers.sql._progress import Progress
from tiercache.tiers.sql._room import room
from tiercache.watchdog import Call, Watch

if TYPE_CHECKING:  # not importable without greenlet, which blocking use does not need
    pass

__all__ = ["SQLStore"]

T = TypeVar("T")


class SQLStore:
    """Bytes in one table. Thread-safe. ``deadline`` (seconds) is for a whole call; `clear` and `purge` of a
    large range take as long as they need, and have it for each batch."""

    def __init__(
        self,
        engine: Engine,
        plans: Plans,
        leases: LeasePlans,
        ledger: LedgerPlans,
        *,
        name: str,
        deadline: float,
        owned: bool,
    ) -> None:
        self.name = name
        self._engine = engine
        self._plans = plans
        self._leases = leases
        self._ledger = ledger
        self._deadline = deadline
        #: An engine of ours commits every statement; one that we were given is used as it is, and stays open.
        self._owned = owned
        self._ready = False
        self._closed = False
        self._inherited: list[Any] = []
        self._turns = self._new_turns()
        self._connections = Connections(engine, keep=KEPT if owned else 0)
        self._busy = deadline if owned else None
        self._driver_error: type[Exception] = engine.dialect.loaded_dbapi.Error
        #: SQLite's own state does not survive a fork in the middle of a call: see `sqlite_gate`.
        self._gated = engine.dialect.name == "sqlite" and not in_memory(engine.url)
        if self._gated:
            GATE.add(self)
        if owned:  # a store that is forgotten, or still open when the interpreter ends, leaves nothing open
            weakref.finalize(self, self._connections.close)
        reset_after_fork(self)

    def __repr__(self) -> str:
        return f"{masked(self._engine.url)} table={self._plans.dialect.name!r}"

    # -- ByteStore -------------------------------------------------------------------------------

    def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        self._check_open()
        return self._run(lambda: self._plans.mget(keys)) if keys else {}

    def mset(self, blobs: Mapping[str, Blob]) -> None:
        self._check_open()
        rows, rejected = self._plans.fitting(blobs)
        if rows:
            self._run(lambda: self._plans.mset(rows))
            if self._plans.due():
                with suppress(TierError):  # what was asked for is done; the next writer tries again
                    self._run(self._plans.housekeep, batches=True)
        if rejected:  # what was there before is no longer their value
            self._run(lambda: self._plans.mdelete(rejected))
            raise self._rejection(rejected)

    def mdelete(self, keys: Sequence[str]) -> None:
        self._check_open()
        if keys:
            self._run(lambda: self._plans.mdelete(keys))

    def close(self) -> None:
        self._closed = True
        self._connections.close()

    # -- capabilities ----------------------------------------------------------------------------

    def lengths(self, keys: Sequence[str]) -> dict[str, int]:
        """See `SupportsLengths`."""
        self._check_open()
        return self._run(lambda: self._plans.lengths(keys)) if keys else {}

    def scan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        """See `SupportsScan`; in the order of the keys' first 200 bytes."""
        self._check_open()
        return self._run(lambda: self._plans.scan(prefix, skip, cursor, limit))

    def clear(self, prefix: str, *, skip: str = "") -> None:
        """See `SupportsClear`."""
        self._check_open()
        self._run(lambda: self._plans.clear(prefix, skip), batches=True)

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        """See `SupportsPurge`."""
        self._check_open()
        self.check_purge(what)
        return self._run(lambda: self._plans.purge(prefix, skip, what), batches=True)

    def check_purge(self, what: Purge) -> None:
        """See `ChecksPurge`. The table does not know an entry's last use: noting it would make every read a
        write."""
        if what.idle is not None:
            raise ConfigError(
                "purge: a SQL table does not know when an entry was last used; purge by older_than="
            )

    def acquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """See `SupportsLease`."""
        self._check_open()
        return self._run(lambda: self._leases.acquire(keys, token, seconds)) if keys else []

    def release(self, keys: Sequence[str], token: str) -> None:
        """See `SupportsLease`."""
        self._check_open()
        if keys:
            self._run(lambda: self._leases.release(keys, token))

    ledgers = True

    def post(self, deposit: Deposit) -> None:
        """See `SupportsLedger`, as the next three."""
        self._check_open()
        self._run(lambda: self._ledger.post(deposit))

    def posted(self, since: str) -> list[tuple[Account, dict[str, int]]]:
        self._check_open()
        return self._run(lambda: self._ledger.posted(since))

    def spent(self, day: str, namespace: str) -> int:
        self._check_open()
        return self._run(lambda: self._ledger.spent(day, namespace))

    def claim(self, day: str, name: str, token: str) -> bool:
        self._check_open()
        return self._run(lambda: self._ledger.claim(day, name, token))

    def counters(self) -> Mapping[str, int]:
        """See `SupportsCounters`."""
        return {"evictions": self._plans.evictions, "expirations": self._plans.expirations}

    def about(self) -> About:
        """See `SupportsAbout`."""
        return About(*self._run(self._plans.about), room(self._engine.url))

    def _new_turns(self) -> Turns | None:
        # An engine that we were given has a pool with a time-out of its own.
        return Turns(most_connections(self._engine.url)) if self._owned else None

    def after_fork(self) -> None:
        """See `Forkable`."""
        self._connections.after_fork()
        self._inherited.append(self._engine.pool)  # kept: closing its connections would end the parent's
        self._engine.dispose(close=False)
        self._turns = self._new_turns()
        self._plans.after_fork()

    # -- running a plan --------------------------------------------------------------------------

    def _run(self, plan: Callable[[], Plan[T]], *, batches: bool = False) -> T:
        turns = self._turns  # those of this process: a call may go on in a child that was forked amid it
        with Call(self._deadline) as call:
            progress = Progress(self._deadline, batches=batches, call=call)
            while True:
                # Our own turnstile, because the pool's would wait for the whole deadline again.
                if turns is not None and not turns.acquire(timeout=call.at_most(None)):
                    raise self._failure(PoolTimeout("all connections are busy"), progress)
                try:
                    self._check_open()  # now that it is our turn
                    if self._gated:
                        outcome = self._pass(call, plan, progress)
                    else:
                        outcome = self._attempt(call, plan, progress)
                finally:
                    if turns is not None:
                        turns.release()
                if outcome is not None:
                    return outcome[0]

    def _pass(self, call: Call, plan: Callable[[], Plan[T]], progress: Progress) -> tuple[T] | None:
        """An attempt inside the gate that a fork shuts."""
        if GATE.broken:
            raise TierUnavailable("this process was forked in the middle of a call of SQLite", tier=self.name)
        if not GATE.enter(call.at_most(None)):
            raise TierTimeout("the process is being forked", tier=self.name)
        try:
            return self._attempt(call, plan, progress)
        finally:
            GATE.leave()

    def disconnect(self) -> None:
        """See `Disconnectable`."""
        self._connections.end_idle()
        with suppress(Exception):  # a connection that cannot be closed is as good as closed
            self._engine.dispose()

    def _attempt(self, call: Call, plan: Callable[[], Plan[T]], progress: Progress) -> tuple[T] | None:
        """Run ``plan`` once; its result in a tuple, or ``None`` when it is to be begun again."""
        dialect = self._engine.dialect
        try:
            connection = self._connections.lend()
        except (SQLAlchemyError, self._driver_error, OSError) as error:
            raise self._failure(error, progress) from error
        watch: Watch | None = None
        fit = False  # KeyboardInterrupt amid a reply: nobody may read the rest of it
        try:
            progress.watch = watch = watch_connection(call, connection, dialect.name, busy=self._busy)
            progress.connected(connection.info)
            outcome = (self._drive(connection, plan, progress),)
            fit = True
            return outcome
        except TierError as error:
            fit = _rolled_back(connection)
            error.tier = self.name
            raise
        except (self._driver_error, OSError) as error:
            broken = dialect.is_disconnect(error, connection.driver_connection, None)  # type: ignore[arg-type] # any driver error
            fit = not broken and _rolled_back(connection)
            if not progress.again(broken=broken, deadlocked=self._plans.dialect.deadlocked(error)):
                raise self._failure(error, progress) from error
            return None
        finally:
            if watch is not None and not watch.end() and dialect.name != "sqlite":
                fit = False  # (SQLite was interrupted, no more.)
            if fit:
                self._connections.take_back(connection)
            else:
                self._connections.drop(connection)

    def _drive(self, connection: Connection, plan: Callable[[], Plan[T]], progress: Progress) -> T:
        driver = connection.driver_connection
        cursor = driver.cursor(binary=True) if self._plans.dialect.binary else driver.cursor()
        try:
            if not self._ready:
                self._steps(connection, cursor, self._plans.prepare(), progress)
                self._ready = True
            return self._steps(connection, cursor, plan(), progress)
        finally:
            cursor.close()

    def _steps(self, connection: Connection, cursor: Any, plan: Plan[T], progress: Progress) -> T:
        result: Any = None
        try:
            while True:
                step = plan.send(result)
                progress.check()
                if step is COMMIT:
                    progress.batch_done()
                    if self._plans.dialect.begin or not self._owned:
                        connection.driver_connection.commit()
                    continue
                if step.many:
                    cursor.executemany(step.sql, step.parameters)
                else:
                    cursor.execute(step.sql, step.parameters)
                result = cursor.fetchall() if cursor.description else cursor.rowcount
        except StopIteration as done:
            value: T = done.value
            return value

    def _check_open(self) -> None:
        if self._closed:
            raise CacheClosed(f"the tier {self.name!r} is closed")

    def _rejection(self, keys: Sequence[str]) -> EntryRejected:
        return EntryRejected(keys, f"larger than max_bytes={self._plans.max_bytes:,} bytes", tier=self.name)

    def _failure(self, error: BaseException, progress: Progress) -> TierError:
        """What our caller is told: the place, the kind of error, and the server's first line."""
        if self._plans.dialect.lost_table(error):
            self._ready = False  # the next call makes it anew
            self._leases.forget_table()
            self._ledger.forget_table()
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        late = isinstance(cause, PoolTimeout | TimeoutError) or self._plans.dialect.timed_out(cause)
        if progress.over() and (not late or not str(cause)):  # what a driver says of being cut off misleads
            late, cause = True, progress.late()
        lines = str(cause).strip().splitlines()
        said = f": {lines[0]}" if lines else ""
        said = without_secrets(said, self._engine.url)
        text = f"{masked(self._engine.url)}: {type(cause).__name__}{said}{self._plans.dialect.cure(cause)}"
        return (TierTimeout if late else TierUnavailable)(text, tier=self.name)


def _rolled_back(connection: Connection) -> bool:
    """Whether ``connection`` is fit for another call after an error."""
    try:
        connection.driver_connection.rollback()
    except Exception:  # noqa: BLE001 - whatever the driver raises, the connection is of no use
        return False
    return True
