"""The wires that commands take to Redis servers: over a blocking client, and over an asyncio one.

Each is a `Wire` (`tiercache.tiers.redis._commands`). What `BlockingWire` does never suspends, so `drive` runs
a call to its end in the caller's thread; `NativeWire` awaits.

redis-py supplies connections, handshakes, Sentinel look-ups and cluster topology. Its pipelines are not
used: they pack every argument by itself, and their deadlines are per reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import redis
import redis.asyncio.cluster
import redis.cluster

from tiercache._turns import Turns
from tiercache.tiers.redis._bounded import bounded, watch_socket
from tiercache.tiers.redis._commands import Command
from tiercache.tiers.redis._line import Line, left, suits
from tiercache.watchdog import Call, Watch

__all__ = ["BlockingWire", "NativeWire", "drive"]

T = TypeVar("T")


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("a blocking wire suspended")


class _Lent:
    """A blocking connection of redis-py in the hands of one call, whose end cuts it."""

    __slots__ = ("connection", "watch")

    def __init__(self, connection: Any, watch: Watch) -> None:
        self.connection = connection
        self.watch = watch

    def send(self, payload: bytes, replies: int, until: float) -> None:  # noqa: ARG002 - redis-py counts them
        _limit(self.connection, left(until))
        self.connection.send_packed_command([payload], check_health=False)

    def receive(self, replies: int, until: float) -> list[Any]:
        _limit(self.connection, left(until))
        read = self.connection.read_response
        answer = []
        for _ in range(replies):
            try:
                answer.append(read())
            except redis.ResponseError as error:
                answer.append(error)
        return answer


class BlockingWire:
    """Over a `redis.ConnectionPool` or a `redis.RedisCluster`. Thread-safe. Every step gets what is left of
    the running `Call`, and the watchdog sees to those that take longer all the same.

    ``ours``: the source was made from a URL, so that how it connects is for us to say. Then a single server's
    connections are `Line`s, which stay with the wire between calls.
    """

    def __init__(self, source: Any, limit: int, *, ours: bool) -> None:
        self.source = source
        self._ours = ours
        self._doubted = False
        self._learnt = 0  # how often
        self.cluster = isinstance(source, redis.cluster.RedisCluster)
        self._lines = ours and not self.cluster and suits(source)
        self._idle: list[Line] = []
        self._turns = Turns(limit)

    async def enter(self, until: float) -> int:
        if not self._turns.acquire(timeout=left(until)):
            raise redis.TimeoutError("all connections are busy")
        if self._doubted:
            try:
                await self.refresh(self._learnt)
            except BaseException:
                self._turns.release()
                raise
        return self._learnt

    def leave(self) -> None:
        self._turns.release()

    async def refresh(self, known: int) -> None:
        # As in `NativeWire`; several threads may at the same time, for none is to wait beyond its own end.
        if self.cluster and self._learnt == known:
            self.source.nodes_manager.initialize()
            self._learnt += 1
            self._doubted = False

    def doubt(self) -> None:
        self._doubted = self.cluster

    def lane(self, key: bytes) -> Any:
        return self._pool(self.source.get_node_from_key(key)) if self.cluster else self.source

    def lanes(self) -> dict[str, Any]:
        if not self.cluster:
            return {"": self.source}
        return {node.name: self._pool(node) for node in self.source.get_primaries()}

    def _pool(self, node: Any) -> Any:
        pool = self.source.get_redis_connection(node).connection_pool
        if self._ours:
            pool.connection_class = bounded(pool.connection_class)
        return pool

    async def acquire(self, lane: Any, until: float) -> Line | _Lent:
        left(until)
        while self._idle:
            with suppress(IndexError):  # another thread was quicker
                line = self._idle.pop()
                try:
                    if line.idle():
                        return line
                except BaseException:
                    self._give_up(lane, line.connection)
                    raise
                self._give_up(lane, line.connection)
        connection = lane.get_connection()
        if self._lines:
            try:
                return Line(connection)
            except BaseException:
                self._give_up(lane, connection)
                raise
        call = Call.current()
        assert call is not None, "a blocking wire is used within a call"  # noqa: S101 - for the reader
        return _Lent(connection, watch_socket(call, connection._sock))  # noqa: SLF001 - no public way to it

    async def send(self, lent: Line | _Lent, payload: bytes, replies: int, until: float) -> None:
        lent.send(payload, replies, until)

    async def receive(self, lent: Line | _Lent, replies: int, until: float) -> list[Any]:
        return lent.receive(replies, until)

    async def drop(self, lent: Line | _Lent) -> None:
        lent.connection.disconnect()

    async def release(self, lane: Any, lent: Line | _Lent) -> None:
        connection = lent.connection
        if isinstance(lent, Line):
            if lent.settled():
                self._idle.append(lent)
            else:
                self._give_up(lane, connection)
            return
        if not lent.watch.end():
            connection.disconnect()  # cut after its last reply; the next call must not find that out
        _limit(connection, connection.socket_timeout)  # a client of somebody else has time-outs of its own
        lane.release(connection)

    @staticmethod
    def _give_up(lane: Any, connection: Any) -> None:
        connection.disconnect()
        lane.release(connection)  # which connects it anew when it is wanted

    async def redirect(self, command: Command, until: float) -> Any:
        left(until)
        try:
            return self.source.execute_command(command[0].decode(), *command[1:])
        except redis.ResponseError as error:
            return error


def _limit(connection: Any, seconds: float | None) -> None:
    # The socket's own time-out is the only one that redis-py leaves to its caller in every version.
    sock = connection._sock  # noqa: SLF001 - see above
    if sock is not None:
        sock.settimeout(seconds)


class NativeWire:
    """Over a `redis.asyncio.ConnectionPool` or `redis.asyncio.RedisCluster`, for one event loop.

    The caller's timer bounds the call, so nothing here looks at its end.
    """

    def __init__(self, source: Any, limit: int) -> None:
        self.source = source
        self.cluster = isinstance(source, redis.asyncio.cluster.RedisCluster)
        self._doubted = False
        self._turns = asyncio.Semaphore(limit)
        self._learning = asyncio.Lock()
        self._learnt = 0  # how often

    async def enter(self, _until: float) -> int:
        await self._turns.acquire()
        # Not the client's own `initialize`: that also asks one node for its commands, and gives up
        # when that node hangs. Only redirections need it, and make up for it.
        if self._doubted or (self.cluster and not self.source.nodes_manager.slots_cache):
            try:
                await self.refresh(self._learnt)
            except BaseException:
                self._turns.release()
                raise
        return self._learnt

    def leave(self) -> None:
        self._turns.release()

    async def refresh(self, known: int) -> None:
        # One task for all whose calls were under way: redis-py before 7.4 replaces the nodes each time, and
        # closes the connections of the old ones, which these are using. If each who fails of that did it
        # again, it would never end.
        async with self._learning:
            if self.cluster and self._learnt == known:
                await self._learn()
                self._learnt += 1
                self._doubted = False

    async def _learn(self) -> None:
        manager = self.source.nodes_manager
        try:
            await manager.initialize()
        except redis.exceptions.RedisClusterException:
            # redis-py before 7.4 asks each node over one connection, which may have died with all the others.
            for node in [*manager.startup_nodes.values()]:
                await node.disconnect()
            await manager.initialize()

    def doubt(self) -> None:
        self._doubted = self.cluster

    def lane(self, key: bytes) -> Any:
        return self.source.get_node_from_key(key) if self.cluster else self.source

    def lanes(self) -> dict[str, Any]:
        return (
            {node.name: node for node in self.source.get_primaries()} if self.cluster else {"": self.source}
        )

    async def acquire(self, lane: Any, _until: float) -> Any:
        if not self.cluster:
            return await lane.get_connection()
        connection = lane.acquire_connection()
        try:
            # A node lends connections unseen; one that its server closed meanwhile is made anew.
            if connection.is_connected and connection._reader.at_eof():  # noqa: SLF001 - no public look at it
                await connection.disconnect(nowait=True)
            await connection.connect()
        except BaseException:
            await self.release(lane, connection)
            raise
        return connection

    async def send(self, connection: Any, payload: bytes, _replies: int, _until: float) -> None:
        await connection.send_packed_command([payload], check_health=False)

    async def receive(self, connection: Any, replies: int, _until: float) -> list[Any]:
        read = connection.read_response
        answer = []
        for _ in range(replies):
            try:
                answer.append(await read())
            except redis.ResponseError as error:
                answer.append(error)
        return answer

    async def drop(self, connection: Any) -> None:
        await connection.disconnect(nowait=True)

    async def release(self, lane: Any, connection: Any) -> None:
        if not self.cluster:
            await lane.release(connection)
        else:
            # redis-py 6 has no method for it.
            getattr(lane, "release", lane._free.append)(connection)  # noqa: SLF001 - see above

    async def redirect(self, command: Command, _until: float) -> Any:
        try:
            await self.source.initialize()
            return await self.source.execute_command(command[0].decode(), *command[1:])
        except redis.ResponseError as error:
            return error
