"""How batches of commands travel to Redis servers, over a blocking or an asyncio client.

Everything above the two wires is written once, as coroutines: those of `BlockingWire` never suspend, so
`drive` runs them to their end in the caller's thread; `NativeWire` awaits. A *lane* is where the
connections to one server come from; a single server has one, a cluster one for each primary.

A connection is lent to one call at a time. Whatever interrupts the call (an error, a deadline, a
cancelled task, Ctrl-C), its connections are dropped with their outstanding replies, so that no later
call can read them as its own.

redis-py supplies connections, handshakes, Sentinel look-ups and cluster topology. Its pipelines are not
used: they pack every argument by itself, and their deadlines are per reply.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

import redis
import redis.asyncio.cluster
import redis.cluster

from tiercache._turns import Turns
from tiercache.tiers.redis._bounded import bounded, watch_socket
from tiercache.tiers.redis._line import Line, left, suits
from tiercache.watchdog import Call, Watch

__all__ = [
    "BlockingWire",
    "Command",
    "Moved",
    "NativeWire",
    "Request",
    "Wire",
    "drive",
    "exchange",
    "pack",
    "perform",
]

T = TypeVar("T")

#: A command and its arguments; the first argument is a key, or of an ``EVAL`` the third.
Command = tuple[bytes, ...]

#: Replies that a lane still owes while more is sent to it: enough to hide the way there and back.
_AHEAD = 4

_BATCH_KEYS = 100
_BATCH_BYTES = 256 * 1024


class Moved(Exception):
    """A cluster's keys are not where its topology said."""


class Request(NamedTuple):
    """Packed commands for one lane, and how many replies they will have."""

    lane: Any
    payload: bytes
    replies: int


class Wire(Protocol):
    """What `exchange` and `perform` need of a client. ``until`` is the call's end, monotonic seconds."""

    cluster: bool

    async def enter(self, until: float) -> None:
        """Wait for a turn (a bounded number of calls is on the wire), and for a cluster's topology."""

    def leave(self) -> None:
        """Give the turn back."""

    async def refresh(self) -> None:
        """Learn a cluster's topology anew."""

    def doubt(self) -> None:
        """A call ran out of time: in a cluster a node may have been replaced that hangs and does not say so.
        The next call that enters learns the topology anew."""

    def lane(self, key: bytes) -> Any: ...

    def lanes(self) -> dict[str, Any]:
        """Every lane that holds keys, by a name that stays."""

    async def acquire(self, lane: Any, until: float) -> Any: ...

    async def send(self, connection: Any, payload: bytes, replies: int, until: float) -> None:
        """Write what will have so many ``replies``."""

    async def receive(self, connection: Any, replies: int, until: float) -> list[Any]:
        """The next replies, in order; an error that the server answered is one of them."""

    async def drop(self, connection: Any) -> None:
        """Cut a connection whose replies nobody will read."""

    async def release(self, lane: Any, connection: Any) -> None: ...

    async def redirect(self, command: Command, until: float) -> Any:
        """One command by the cluster client, which follows redirections."""


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("a blocking wire suspended")


def pack(command: Sequence[bytes]) -> bytes:
    """``command`` in the protocol's form."""
    arguments = [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in command]
    return b"*%d\r\n%b" % (len(command), b"".join(arguments))


async def exchange(wire: Wire, requests: Iterable[Request], until: float) -> list[list[Any]]:
    """The replies to each request, in order; later ones travel while earlier ones are answered."""
    held: dict[int, tuple[Any, Any]] = {}  # by the lane's id: not every version of redis-py can hash a node
    waiting: deque[tuple[Any, int]] = deque()
    answers: list[list[Any]] = []
    try:
        for lane, payload, replies in requests:
            if id(lane) not in held:
                held[id(lane)] = lane, await wire.acquire(lane, until)
            connection = held[id(lane)][1]
            if len(waiting) >= _AHEAD * len(held):
                answers.append(await wire.receive(*waiting.popleft(), until))
            await wire.send(connection, payload, replies, until)
            waiting.append((connection, replies))
        while waiting:
            answers.append(await wire.receive(*waiting.popleft(), until))
    except BaseException:
        for _, connection in held.values():
            await wire.drop(connection)
        raise
    finally:
        for lane, connection in held.values():
            await wire.release(lane, connection)
    return answers


async def _ask(wire: Wire, lane: Any, payload: bytes, until: float) -> list[Any]:
    """`exchange` for a single request, without what keeps several in order: a seventh of a look-up of one
    key."""
    connection = await wire.acquire(lane, until)
    try:
        await wire.send(connection, payload, 1, until)
        return await wire.receive(connection, 1, until)
    except BaseException:
        await wire.drop(connection)
        raise
    finally:
        await wire.release(lane, connection)


async def perform(wire: Wire, commands: Iterable[Command], until: float, *, last: bool) -> list[Any]:
    """The reply to each command, in order.

    Raises `Moved` when a cluster redirected one, unless this is the ``last`` attempt: then what is
    still redirected (a slot on its way to another node) goes one by one. Without a cluster's client there is
    nobody to follow it: an error like others.
    """
    if not wire.cluster and isinstance(commands, list) and len(commands) == 1:
        return await _ask(wire, wire.lane(b""), pack(commands[0]), until)
    if not wire.cluster:
        # Made and packed as they are sent: the server is at work on the first ones by then.
        answers = await exchange(wire, _batches(wire.lane(b""), commands), until)
        return answers[0] if len(answers) == 1 else [reply for answer in answers for reply in answer]
    commands = list(commands)
    routes: dict[int, tuple[Any, list[int]]] = {}
    for position, command in enumerate(commands):
        lane = wire.lane(command[3] if command[0] == b"EVAL" else command[1])
        routes.setdefault(id(lane), (lane, []))[1].append(position)
    queues = [
        (deque(_batches(lane, [commands[position] for position in positions])), iter(positions))
        for lane, positions in routes.values()
    ]
    requests: list[Request] = []
    order: list[int] = []
    while queues:  # in turn, so that the nodes of a cluster work at the same time
        for queue, positions in queues:
            request = queue.popleft()
            requests.append(request)
            order += islice(positions, request.replies)
        queues = [each for each in queues if each[0]]
    replies: list[Any] = [None] * len(commands)
    answers = await exchange(wire, requests, until)
    for position, reply in zip(order, (reply for answer in answers for reply in answer), strict=True):
        if isinstance(reply, redis.exceptions.AskError | redis.exceptions.TryAgainError):
            if not last:
                raise Moved
            reply = await wire.redirect(commands[position], until)  # noqa: PLW2901 - the answer, at last
        replies[position] = reply
    return replies


def _batches(lane: Any, commands: Iterable[Command]) -> Iterator[Request]:
    """``commands``, packed, a batch a request."""
    pieces: list[bytes] = []
    replies = size = 0
    known = latest = ending = b""
    start = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n"
    for command in commands:
        count = len(command)
        if count == 5 and command[0] == b"SET":  # in one go: there are thousands, most often of one life
            _, key, value, unit, number = command
            if number is not latest or unit != known:
                known, latest = unit, number
                ending = b"\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(unit), unit, len(number), number)
            length = len(value)
            pieces += (start % (len(key), key, length), value, ending)  # a value is copied once, by `join`
            size += length
        else:
            piece = pack(command)
            pieces.append(piece)
            size += len(piece)
        replies += 1
        # One of as many keys as a batch has is a batch of its own.
        if size >= _BATCH_BYTES or replies >= _BATCH_KEYS or count > _BATCH_KEYS:
            yield Request(lane, b"".join(pieces), replies)
            pieces, replies, size = [], 0, 0
    if pieces:
        yield Request(lane, b"".join(pieces), replies)


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
        self.cluster = isinstance(source, redis.cluster.RedisCluster)
        self._lines = ours and not self.cluster and suits(source)
        self._idle: list[Line] = []
        self._turns = Turns(limit)

    async def enter(self, until: float) -> None:
        if not self._turns.acquire(timeout=left(until)):
            raise redis.TimeoutError("all connections are busy")
        if self._doubted:
            try:
                await self.refresh()
            except BaseException:
                self._turns.release()
                raise

    def leave(self) -> None:
        self._turns.release()

    async def refresh(self) -> None:
        if self.cluster:
            self.source.nodes_manager.initialize()
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

    async def enter(self, _until: float) -> None:
        await self._turns.acquire()
        # Not the client's own `initialize`: that also asks one node for its commands, and gives up
        # when that node hangs. Only redirections need it, and make up for it.
        if self._doubted or (self.cluster and not self.source.nodes_manager.slots_cache):
            try:
                await self.refresh()
            except BaseException:
                self._turns.release()
                raise

    def leave(self) -> None:
        self._turns.release()

    async def refresh(self) -> None:
        if self.cluster:
            await self.source.nodes_manager.initialize()
        self._doubted = False

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
