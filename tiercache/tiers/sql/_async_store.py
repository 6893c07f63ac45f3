"""Runs the SQL tier's plans for async callers: the asyncio twins of `_store.SQLStore`, by the same rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tiercache.accounts import Account, Deposit
from tiercache.errors import TierError
from tiercache.protocols import Blob, Purge
from tiercache.tiers.sql._bounded import abort
from tiercache.tiers.sql._engines import LoopEngines
from tiercache.tiers.sql._lease import LeasePlans
from tiercache.tiers.sql._ledger import LedgerPlans
from tiercache.tiers.sql._plans import COMMIT, Plan, Plans
from tiercache.tiers.sql._progress import Progress
from tiercache.tiers.sql._store import SQLStore

if TYPE_CHECKING:  # not importable without greenlet, which blocking use does not need
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["AsyncSQLStore"]

T = TypeVar("T")


class AsyncSQLStore(SQLStore):
    """The same, with asyncio twins over engines of their own, one for each event loop."""

    def __init__(
        self,
        engine: Engine,
        loops: LoopEngines,
        plans: Plans,
        leases: LeasePlans,
        ledger: LedgerPlans,
        *,
        name: str,
        deadline: float,
    ) -> None:
        super().__init__(engine, plans, leases, ledger, name=name, deadline=deadline, owned=True)
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
        self._connections.close()

    async def alengths(self, keys: Sequence[str]) -> dict[str, int]:
        """See `SupportsLengths`."""
        self._check_open()
        return await self._arun(lambda: self._plans.lengths(keys)) if keys else {}

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
        self.check_purge(what)
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

    async def apost(self, deposit: Deposit) -> None:
        """See `SQLStore.post`, as the next three."""
        self._check_open()
        await self._arun(lambda: self._ledger.post(deposit))

    async def aposted(self, since: str) -> list[tuple[Account, dict[str, int]]]:
        self._check_open()
        return await self._arun(lambda: self._ledger.posted(since))

    async def aspent(self, day: str, namespace: str) -> int:
        self._check_open()
        return await self._arun(lambda: self._ledger.spent(day, namespace))

    async def aclaim(self, day: str, name: str, token: str) -> bool:
        self._check_open()
        return await self._arun(lambda: self._ledger.claim(day, name, token))

    def close(self) -> None:
        super().close()
        self._loops.close()

    def after_fork(self) -> None:
        super().after_fork()
        self._loops.after_fork()

    async def _arun(self, plan: Callable[[], Plan[T]], *, batches: bool = False) -> T:
        progress = Progress(self._deadline, batches=batches)
        try:
            async with asyncio.timeout(self._deadline) as progress.scope:
                while True:
                    self._check_open()
                    connection = await (await self._loops.get()).connect()
                    try:
                        outcome = await self._aattempt(connection, plan, progress)
                    finally:
                        await connection.close()
                    if outcome is not None:
                        return outcome[0]
        except (SQLAlchemyError, OSError) as error:  # no connection, or no time (TimeoutError is an OSError)
            raise self._failure(error, progress) from error

    async def _aattempt(
        self, connection: AsyncConnection, plan: Callable[[], Plan[T]], progress: Progress
    ) -> tuple[T] | None:
        """Run ``plan`` once; its result in a tuple, or ``None`` when it is to be begun again."""
        raw = await connection.get_raw_connection()
        progress.connected(raw.info)
        driver: Any = raw.driver_connection
        try:
            return (await self._adrive(driver, plan, progress),)
        except TierError as error:
            error.tier = self.name
            if not await _rolled_back(driver):
                await connection.invalidate()
            raise
        except connection.dialect.loaded_dbapi.Error as error:
            broken = connection.dialect.is_disconnect(error, driver, None)
            # A transaction that was begun by a statement is the next call's otherwise, and its locks stay.
            if broken or not await _rolled_back(driver):
                await connection.invalidate()
            if not progress.again(broken=broken, deadlocked=self._plans.dialect.deadlocked(error)):
                raise self._failure(error, progress) from error
            return None
        except BaseException:  # cancelled amid a reply: nobody may read the rest of it
            await connection.invalidate()
            raise

    async def _adrive(self, driver: Any, plan: Callable[[], Plan[T]], progress: Progress) -> T:
        cursor = driver.cursor(binary=True) if self._plans.dialect.binary else driver.cursor()
        try:
            if not self._ready:
                await self._asteps(cursor, self._plans.prepare(), progress)
                self._ready = True
            return await self._asteps(cursor, plan(), progress)
        except asyncio.CancelledError:  # by our timer or our caller
            abort(driver)  # first, for closing a cursor may wait for the rest of an answer
            raise
        finally:
            await cursor.close()

    async def _asteps(self, cursor: Any, plan: Plan[T], progress: Progress) -> T:
        result: Any = None
        try:
            while True:
                step = plan.send(result)
                if step is COMMIT:  # by itself: the engine is ours
                    progress.batch_done()
                    continue
                if step.many:
                    await cursor.executemany(step.sql, step.parameters)
                else:
                    await cursor.execute(step.sql, step.parameters)
                result = (await cursor.fetchall()) if cursor.description else cursor.rowcount
        except StopIteration as done:
            value: T = done.value
            return value


async def _rolled_back(driver: Any) -> bool:
    """Whether ``driver``'s connection is fit for another call after an error."""
    try:
        await driver.rollback()
    except Exception:  # noqa: BLE001 - whatever the driver raises, the connection is of no use
        return False
    return True
