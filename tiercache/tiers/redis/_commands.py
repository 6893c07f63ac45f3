"""Commands and their replies: packed, sent in batches to the servers that hold the keys, answered in order.

Written once, as coroutines, for both wires (`tiercache.tiers.redis._wires`). A *lane* is where the
connections to one server come from; a single server has one, a cluster one for each primary.

A connection is lent to one call at a time. Whatever interrupts the call (an error, a deadline, a
cancelled task, Ctrl-C), its connections are dropped with their outstanding replies, so that no later
call can read them as its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import redis

__all__ = ["Command", "Moved", "Request", "Wire", "exchange", "pack", "perform"]

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

    async def enter(self, until: float) -> int:
        """Wait for a turn (a bounded number of calls is on the wire), and for a cluster's topology: how often
        that was learnt by now."""

    def leave(self) -> None:
        """Give the turn back."""

    async def refresh(self, known: int) -> None:
        """Learn a cluster's topology anew, for a call that failed with the ``known`` one."""

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
