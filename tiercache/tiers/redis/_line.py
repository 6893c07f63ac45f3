"""A connection to one server that is written and read without redis-py, once that has made it.

redis-py's pool, and its way with a single reply, cost a short call more than all else: observers are told of
each lending, the text of an error is made before there is one. A `Line` is the connection's socket with a
parser of hiredis of its own. It serves connections of ours alone, in the second version of the protocol, in
which a server says nothing unasked; others go redis-py's way, and so do all where hiredis is not installed.

Every step has what is left of the call that makes it, so that no watchdog is needed.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

import redis
import redis.connection
import redis.sentinel

try:
    import hiredis
except ImportError:
    hiredis = None  # type: ignore[assignment] # a module or nothing

__all__ = ["Line", "first_error", "left", "suits"]

#: What the parser gives while a reply is not whole.
_MORE: Final = object()
#: Bytes that are read at a time: many replies of some kilobytes, and still within a processor's cache.
_READ: Final = 128 * 1024
#: Seconds by which a step may begin later than its time-out was set: most calls set it but once.
_SLACK: Final = 0.002


def left(until: float) -> float:
    """Seconds until the end of a call. Raises redis-py's `TimeoutError` where there are none."""
    seconds = until - monotonic()
    if seconds <= 0:
        raise redis.TimeoutError("the deadline is over")
    return seconds


def suits(pool: Any) -> bool:
    """Whether connections of ``pool``, which is ours, can be lines. A Sentinel's cannot: redis-py looks at
    their replies for signs of a master that is none any more."""
    return (
        hiredis is not None
        and hasattr(select, "poll")  # not on Windows
        and not isinstance(pool, redis.sentinel.SentinelConnectionPool)
        and str(pool.connection_kwargs.get("protocol")) == "2"
    )


class Line:
    """One connection, for one call at a time."""

    __slots__ = ("_buffer", "_owed", "_poll", "_reader", "_timeout", "connection")

    def __init__(self, connection: Any) -> None:
        """``connection`` of redis-py's, which is connected and owes nothing."""
        self.connection = connection
        self._timeout = -1.0  # as no call has it
        self._owed = 0  # replies
        # By redis-py's own table of errors, so that they are the same on both roads.
        parse_error = connection._parser.parse_error  # noqa: SLF001 - redis-py has no public way to it
        self._reader = hiredis.Reader(
            protocolError=redis.InvalidResponse, replyError=parse_error, notEnoughData=_MORE
        )
        self._buffer = bytearray(_READ)
        self._poll = select.poll()
        self._poll.register(connection._sock, select.POLLIN)  # noqa: SLF001 - the same

    def settled(self) -> bool:
        """Whether the call is over that had it: every reply was read, and it was not cut. Whoever was
        interrupted, and interrupted again while cutting it, leaves it owing."""
        return not self._owed and self.connection._sock is not None  # noqa: SLF001 - the same

    def idle(self) -> bool:
        """Whether it may serve another call: it is settled, the server has not cut it, and nothing waits to
        be read that nobody asked for."""
        return self.settled() and not (self._reader.has_data() or self._poll.poll(0))

    def send(self, payload: bytes, replies: int, until: float) -> None:
        """Write ``payload``, which will have so many ``replies``."""
        sock = self._limited(until)
        self._owed += replies
        try:
            sock.sendall(payload)
        except TimeoutError:
            raise
        except OSError as error:
            raise redis.ConnectionError(f"Error while writing to socket: {error}") from error

    def receive(self, replies: int, until: float) -> list[Any]:
        """The next replies, in order; an error that the server answered is one of them."""
        gets = self._reader.gets
        answer: list[Any] = []
        for _ in range(replies):
            reply = gets()
            while reply is _MORE:
                self._read(until)
                reply = gets()
            answer.append(reply)
        self._owed -= replies
        refusal = first_error(answer, redis.ConnectionError)
        if refusal is not None:  # what a server says before it hangs up
            raise refusal
        return answer

    def _read(self, until: float) -> None:
        sock = self._limited(until)
        try:
            count = sock.recv_into(self._buffer)
        except TimeoutError:
            raise
        except OSError as error:
            raise redis.ConnectionError(f"Error while reading from socket: {error}") from error
        if not count:
            raise redis.ConnectionError("Connection closed by server.")
        self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type] # any buffer, whatever its types say

    def _limited(self, until: float) -> Any:
        """The socket, whose time-out is what is left. Asked for each time: kept here, the garbage collector
        may come to it before the connection that would have closed it."""
        sock = self.connection._sock  # noqa: SLF001 - the same
        if sock is None:
            raise redis.ConnectionError("Connection closed.")  # by another thread, with the tier
        seconds = left(until)
        if not -_SLACK < seconds - self._timeout < _SLACK:
            sock.settimeout(seconds)
            self._timeout = seconds
        return sock


def first_error(replies: Sequence[Any], kind: type[Exception] = Exception) -> Exception | None:
    """The first of ``replies`` that is an error of that ``kind``. Looked for by the types that there are, one
    or two among thousands: a loop over the replies takes as long as reading them did."""
    if not any(issubclass(each, kind) for each in set(map(type, replies))):
        return None
    return next(reply for reply in replies if isinstance(reply, kind))
