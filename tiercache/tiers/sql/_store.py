"""Runs the SQL tier's plans on connections of SQLAlchemy's pools: blocking, and awaited.

`SQLStore` is a `ByteStore`; `AsyncSQLStore` adds the asyncio twins. Both run the same plans, judge failures
by the same rules, and differ in ``await`` alone.

* A connection that broke is thrown away. If it came from the pool it may have been stale (a server that was
  started anew), so the plan is begun again on another one; plans are idempotent.
* A plan that lost a deadlock is begun again.
* Everything that goes wrong is a `TierTimeout` or a `TierUnavailable`, whose message holds neither values
  nor passwords.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tiercache.errors import CacheClosed, EntryRejected, TierError, TierTimeout, TierUnavailable
from tiercache.forks import reset_after_fork
from tiercache.protocols import Blob, Purge
from tiercache.tiers.sql._engines import LoopEngines, masked, secrets
from tiercache.tiers.sql._lease import LeasePlans
from tiercache.tiers.sql._plans import COMMIT, Plan, Plans

if TYPE_CHECKING:  # not importable without greenlet, which blocking use does not need
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["AsyncSQLStore", "SQLStore"]

T = TypeVar("T")

#: How often a plan may lose a deadlock before its caller hears of it.
_DEADLOCKS = 5
#: Set on a pooled connection once it served us.
_USED = "tiercache"


class SQLStore:
    """Bytes in one table. Thread-safe. ``deadline`` (seconds) is for a whole call; `clear` and `purge` of a
    large range take as long as they need, and have it for each batch."""

    def __init__(
        self,
        engine: Engine,
        plans: Plans,
        leases: LeasePlans,
        *,
        name: str,
        deadline: float,
        owned: bool,
    ) -> None:
        self.name = name
        self._engine = engine
        self._plans = plans
        self._leases = leases
        self._deadline = deadline
        #: An engine of ours commits every statement; one that we were given is used as it is, and stays open.
        self._owned = owned
        self._ready = False
        self._closed = False
        self._inherited: list[Any] = []
        if owned:  # a store that is forgotten, or still open when the interpreter ends, leaves nothing open
            weakref.finalize(self, engine.dispose)
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
        if self._owned:
            self._engine.dispose()

    # -- capabilities ----------------------------------------------------------------------------

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
        """See `SupportsPurge`. ``what.idle`` drops nothing: the table does not know an entry's last use."""
        self._check_open()
        return self._run(lambda: self._plans.purge(prefix, skip, what), batches=True)

    def acquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """See `SupportsLease`."""
        self._check_open()
        return self._run(lambda: self._leases.acquire(keys, token, seconds)) if keys else []

    def release(self, keys: Sequence[str], token: str) -> None:
        """See `SupportsLease`."""
        self._check_open()
        if keys:
            self._run(lambda: self._leases.release(keys, token))

    def counters(self) -> Mapping[str, int]:
        """See `SupportsCounters`."""
        return {"evictions": self._plans.evictions, "expirations": self._plans.expirations}

    def after_fork(self) -> None:
        """See `Forkable`."""
        self._inherited.append(self._engine.pool)  # kept: closing its connections would end the parent's
        self._engine.dispose(close=False)
        self._plans.after_fork()

    # -- running a plan --------------------------------------------------------------------------

    def _run(self, plan: Callable[[], Plan[T]], *, batches: bool = False) -> T:
        watch = _Watch(self._deadline, batches=batches)
        driver_error = self._engine.dialect.loaded_dbapi.Error
        while True:
            self._check_open()
            try:
                connection = self._engine.raw_connection()
            except (SQLAlchemyError, driver_error, OSError) as error:
                raise self._failure(error) from error
            try:
                watch.connected(connection.info)
                result = self._drive(connection, plan, watch)
            except TierError as error:
                _clean(connection, broken=False)
                error.tier = self.name
                raise
            except (driver_error, OSError) as error:
                broken = self._engine.dialect.is_disconnect(error, connection.driver_connection, None)  # type: ignore[arg-type] # any driver error
                _clean(connection, broken=broken)
                if not watch.again(broken=broken, deadlocked=self._plans.dialect.deadlocked(error)):
                    raise self._failure(error) from error
            except BaseException:  # KeyboardInterrupt amid a reply: nobody may read the rest of it
                connection.invalidate()
                raise
            else:
                return result
            finally:
                connection.close()

    def _drive(self, connection: Any, plan: Callable[[], Plan[T]], watch: _Watch) -> T:
        driver = connection.driver_connection
        cursor = driver.cursor(binary=True) if self._plans.dialect.binary else driver.cursor()
        try:
            if not self._ready:
                self._steps(connection, cursor, self._plans.prepare(), watch)
                self._ready = True
            return self._steps(connection, cursor, plan(), watch)
        finally:
            cursor.close()

    def _steps(self, connection: Any, cursor: Any, plan: Plan[T], watch: _Watch) -> T:
        result: Any = None
        try:
            while True:
                step = plan.send(result)
                watch.check()
                if step is COMMIT:
                    watch.batch_done()
                    if self._plans.dialect.begin or not self._owned:
                        connection.commit()
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

    def _failure(self, error: BaseException) -> TierError:
        """What our caller is told: the place, the kind of error, and the server's first line."""
        if self._plans.dialect.lost_table(error):
            self._ready = False  # the next call makes it anew
            self._leases.forget_table()
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        lines = str(cause).strip().splitlines()
        said = f": {lines[0]}" if lines else ""
        for secret in secrets(self._engine.url):
            said = said.replace(secret, "***")
        text = f"{masked(self._engine.url)}: {type(cause).__name__}{said}{self._plans.dialect.cure(cause)}"
        late = isinstance(cause, PoolTimeout | TimeoutError) or self._plans.dialect.timed_out(cause)
        return (TierTimeout if late else TierUnavailable)(text, tier=self.name)


class AsyncSQLStore(SQLStore):
    """The same, with asyncio twins over engines of their own, one for each event loop."""

    def __init__(
        self,
        engine: Engine,
        loops: LoopEngines,
        plans: Plans,
        leases: LeasePlans,
        *,
        name: str,
        deadline: float,
    ) -> None:
        super().__init__(engine, plans, leases, name=name, deadline=deadline, owned=True)
        self._loops = loops

    async def amget(self, keys: Sequence[str]) -> dict[str, bytes]:
        self._check_open()
        return await self._arun(lambda: self._plans.mget(keys)) if keys else {}

    async def amset(self, blobs: Mapping[str, Blob]) -> None:
        self._check_open()
        rows, rejected = self._plans.fitting(blobs)
        if rows:
            await self._arun(lambda: self._plans.mset(rows))
            if self._plans.due():
                with suppress(TierError):
                    await self._arun(self._plans.housekeep, batches=True)
        if rejected:
            await self._arun(lambda: self._plans.mdelete(rejected))
            raise self._rejection(rejected)

    async def amdelete(self, keys: Sequence[str]) -> None:
        self._check_open()
        if keys:
            await self._arun(lambda: self._plans.mdelete(keys))

    async def aclose(self) -> None:
        self._closed = True
        await self._loops.aclose()
        self._engine.dispose()

    async def ascan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        """See `SQLStore.scan`."""
        self._check_open()
        return await self._arun(lambda: self._plans.scan(prefix, skip, cursor, limit))

    async def aclear(self, prefix: str, *, skip: str = "") -> None:
        """See `SQLStore.clear`."""
        self._check_open()
        await self._arun(lambda: self._plans.clear(prefix, skip), batches=True)

    async def apurge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        """See `SQLStore.purge`."""
        self._check_open()
        return await self._arun(lambda: self._plans.purge(prefix, skip, what), batches=True)

    async def aacquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """See `SQLStore.acquire`."""
        self._check_open()
        return await self._arun(lambda: self._leases.acquire(keys, token, seconds)) if keys else []

    async def arelease(self, keys: Sequence[str], token: str) -> None:
        """See `SQLStore.release`."""
        self._check_open()
        if keys:
            await self._arun(lambda: self._leases.release(keys, token))

    def close(self) -> None:
        super().close()
        self._loops.close()

    def after_fork(self) -> None:
        super().after_fork()
        self._loops.after_fork()

    async def _arun(self, plan: Callable[[], Plan[T]], *, batches: bool = False) -> T:
        watch = _Watch(self._deadline, batches=batches)
        try:
            async with asyncio.timeout(self._deadline) as watch.scope:
                while True:
                    self._check_open()
                    connection = await (await self._loops.get()).connect()
                    try:
                        outcome = await self._attempt(connection, plan, watch)
                    finally:
                        await connection.close()
                    if outcome is not None:
                        return outcome[0]
        except (SQLAlchemyError, OSError) as error:  # no connection, or no time (TimeoutError is an OSError)
            raise self._failure(error) from error

    async def _attempt(
        self, connection: AsyncConnection, plan: Callable[[], Plan[T]], watch: _Watch
    ) -> tuple[T] | None:
        """Run ``plan`` once; its result in a tuple, or ``None`` when it is to be begun again."""
        raw = await connection.get_raw_connection()
        watch.connected(raw.info)
        driver: Any = raw.driver_connection
        try:
            return (await self._adrive(driver, plan, watch),)
        except TierError as error:
            error.tier = self.name
            raise
        except connection.dialect.loaded_dbapi.Error as error:
            broken = connection.dialect.is_disconnect(error, driver, None)
            if broken:
                await connection.invalidate()
            if not watch.again(broken=broken, deadlocked=self._plans.dialect.deadlocked(error)):
                raise self._failure(error) from error
            return None
        except BaseException:  # cancelled amid a reply: nobody may read the rest of it
            await connection.invalidate()
            raise

    async def _adrive(self, driver: Any, plan: Callable[[], Plan[T]], watch: _Watch) -> T:
        cursor = driver.cursor(binary=True) if self._plans.dialect.binary else driver.cursor()
        try:
            if not self._ready:
                await self._asteps(cursor, self._plans.prepare(), watch)
                self._ready = True
            return await self._asteps(cursor, plan(), watch)
        finally:
            await cursor.close()

    async def _asteps(self, cursor: Any, plan: Plan[T], watch: _Watch) -> T:
        result: Any = None
        try:
            while True:
                step = plan.send(result)
                if step is COMMIT:  # by itself: the engine is ours
                    watch.batch_done()
                    continue
                if step.many:
                    await cursor.executemany(step.sql, step.parameters)
                else:
                    await cursor.execute(step.sql, step.parameters)
                result = (await cursor.fetchall()) if cursor.description else cursor.rowcount
        except StopIteration as done:
            value: T = done.value
            return value


class _Watch:
    """One call's time and its attempts. ``batches``: each batch of work has the whole deadline."""

    def __init__(self, deadline: float, *, batches: bool) -> None:
        self.scope: asyncio.Timeout | None = None
        self._deadline = deadline
        self._batches = batches
        self._limit = monotonic() + deadline
        self._stale = False
        self._attempts = 0
        self._deadlocks = 0

    def check(self) -> None:
        """Raises `TimeoutError` once the time is over: the next statement does not begin."""
        if monotonic() >= self._limit:
            raise TimeoutError(f"no answer within {self._deadline:g} s")

    def batch_done(self) -> None:
        """A transaction has ended."""
        if self._batches:
            self._limit = monotonic() + self._deadline
            if self.scope is not None:
                self.scope.reschedule(asyncio.get_running_loop().time() + self._deadline)

    def connected(self, info: dict[Any, Any]) -> None:
        """A connection was checked out, whose notes are ``info``."""
        self._attempts += 1
        self._stale = _USED in info
        info[_USED] = True

    def again(self, *, broken: bool, deadlocked: bool) -> bool:
        """Whether the plan, which failed, shall be begun again."""
        self._deadlocks += deadlocked
        if monotonic() >= self._limit:
            return False
        # Every connection of the pool may be stale; a new one that breaks at once says more.
        return (broken and (self._stale or self._attempts == 1)) or (
            deadlocked and self._deadlocks <= _DEADLOCKS
        )


def _clean(connection: Any, *, broken: bool) -> None:
    """Make a connection fit for the pool again after an error, or throw it away."""
    if not broken:
        try:
            connection.rollback()
        except Exception:  # noqa: BLE001 - whatever the driver raises, the connection is of no use
            broken = True
    if broken:
        connection.invalidate()
