"""The entries on a Redis server: what is sent to read, store, drop and list them.

A key is the tier's prefix and the entry's key, its value the envelope, its expiry the envelope's. Each method
is a call on the wire, for `Store` to make: within its deadline, and ``last`` where it is the second try.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from math import ceil
from time import monotonic
from typing import Any

import redis

from tiercache.envelope import HEAD, written_at
from tiercache.errors import EntryRejected
from tiercache.protocols import Blob, Clock
from tiercache.tiers.redis._commands import Command, Request, Wire, exchange, pack, perform
from tiercache.tiers.redis._line import first_error

__all__ = ["Entries"]

#: Keys a ``MGET`` or ``UNLINK``: several such commands one after another beat a single large one, because
#: the server writes the next reply while we read this one.
_CHUNK = 100
#: Redis' own limit for a string.
_MAX_VALUE = 512 * 1024 * 1024
#: Milliseconds; an expiry beyond it would overflow the server's clock.
_MAX_PX = 10**15
#: Keys that a server looks at for one SCAN, at least: a page of few keys is no reason for many round trips.
_SCAN_COUNT = 100

_BYTES = {bytes}

_GLOB = re.compile(rb"([*?\[\]\\^])")


class Entries:
    """Those whose keys begin with ``prefix``. ``clock`` tells how long they have yet to live."""

    def __init__(self, prefix: bytes, clock: Clock) -> None:
        self._prefix = prefix
        self._clock = clock

    async def mget(self, wire: Wire, until: float, last: bool, keys: Sequence[str]) -> dict[str, bytes]:
        folded = self._fold_all(keys)
        if wire.cluster or len(keys) == 1:  # a MGET of a cluster must keep to one slot
            commands: list[Command] = [(b"GET", key) for key in folded]
            values = await perform(wire, commands, until, last=last)
        else:
            commands = [(b"MGET", *chunk) for chunk in _chunks(folded)]
            answers = await perform(wire, commands, until, last=last)
            _raise_errors(answers)
            values = [value for answer in answers if isinstance(answer, list) for value in answer]
        if len(values) != len(keys):
            raise redis.InvalidResponse
        found = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        if set(map(type, found.values())) <= _BYTES:
            return found
        # Something else than a string under our key is no value of ours; MGET says so with a nil.
        _raise_errors([value for value in values if not _is_wrong_type(value)])
        return {key: value for key, value in found.items() if isinstance(value, bytes)}

    async def lengths(self, wire: Wire, until: float, last: bool, keys: Sequence[str]) -> dict[str, int]:
        answers = await perform(wire, [(b"STRLEN", key) for key in self._fold_all(keys)], until, last=last)
        _raise_errors([answer for answer in answers if not _is_wrong_type(answer)])
        return {key: size for key, size in zip(keys, answers, strict=True) if isinstance(size, int) and size}

    async def put(
        self, wire: Wire, until: float, last: bool, keys: Collection[str], blobs: Callable[[], Iterable[Blob]]
    ) -> None:
        too_large: list[str] = []
        commands: Iterable[Command] = self._sets(keys, blobs(), too_large)
        if len(keys) == 1:  # others are made as they are sent
            commands = list(commands)
        _raise_errors(await perform(wire, commands, until, last=last))
        if too_large:
            raise EntryRejected(too_large, "Redis holds at most 512 MiB under a key")

    def _sets(self, keys: Collection[str], blobs: Iterable[Blob], too_large: list[str]) -> Iterator[Command]:
        """What stores ``blobs`` under ``keys``. ``too_large`` gets the keys of those that Redis refuses."""
        now = self._clock.time()
        known, px = None, b""  # most often all of a batch expire at the same time
        for key, name, (data, expires_at) in zip(keys, self._fold_all(keys), blobs, strict=True):
            if len(data) > _MAX_VALUE:
                too_large.append(key)
            elif expires_at is None:
                yield b"SET", name, data
            elif expires_at <= now:
                yield b"UNLINK", name  # over before it got here; the old one is too
            else:
                if expires_at != known:
                    # Not PXAT, which would be exact but is the server's clock and newer than the rest.
                    known, px = expires_at, b"%d" % ceil(min((expires_at - now) * 1000, _MAX_PX))
                yield b"SET", name, data, b"PX", px

    async def mdelete(self, wire: Wire, until: float, last: bool, keys: Sequence[str]) -> None:
        folded = self._fold_all(keys)
        chunks = [[key] for key in folded] if wire.cluster else _chunks(folded)
        _raise_errors(await perform(wire, [(b"UNLINK", *chunk) for chunk in chunks], until, last=last))

    async def scan(
        self,
        wire: Wire,
        until: float,
        last: bool,  # noqa: ARG002 - listing has no second way
        prefix: str,
        skip: str,
        cursor: tuple[str, int] | None,
        limit: int,
    ) -> tuple[list[str], tuple[str, int] | None]:
        """A page of one server; the cursor is a server's name and its own cursor."""
        lanes = wire.lanes()
        names = sorted(lanes)
        name, position = cursor or (names[0], 0)
        if name not in lanes:  # it left the cluster: go on with the one that would have come next
            name, position = next((other for other in names if other > name), ""), 0
            if name not in lanes:
                return [], None
        pattern = _GLOB.sub(rb"\\\1", self._fold(prefix)) + b"*"
        count = b"%d" % max(limit, _SCAN_COUNT)
        found: list[bytes] = []
        enough = (monotonic() + until) / 2
        while True:  # where other people's keys are many, most answers are empty
            command = (b"SCAN", b"%d" % position, b"MATCH", pattern, b"COUNT", count)
            [[answer]] = await exchange(wire, [Request(lanes[name], pack(command), 1)], until)
            _raise_errors([answer])
            if not isinstance(answer, list) or len(answer) != 2:
                raise redis.InvalidResponse
            position = int(answer[0])
            found += answer[1]
            if not position or len(found) >= limit or monotonic() > enough:
                break
        following = name if position else next((other for other in names if other > name), None)
        return self._unfold(found, prefix, skip), None if following is None else (following, position)

    def _unfold(self, found: Iterable[bytes], prefix: str, skip: str) -> list[str]:
        keys = dict[str, None]()  # SCAN may show a key twice
        for folded in found:
            try:
                key = folded[len(self._prefix) :].decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                continue  # somebody else's, under our prefix
            if key.startswith(prefix) and not (skip and key.startswith(skip)):
                keys[key] = None
        return list(keys)

    async def written_before(
        self, wire: Wire, until: float, last: bool, keys: Sequence[str], before: float
    ) -> list[str]:
        """Those of ``keys`` whose envelopes say so; only their heads are read."""
        commands: list[Command] = [(b"GETRANGE", self._fold(key), b"0", b"%d" % (HEAD - 1)) for key in keys]
        heads = await perform(wire, commands, until, last=last)
        _raise_errors([head for head in heads if not _is_wrong_type(head)])
        times = [written_at(head) if isinstance(head, bytes) else None for head in heads]
        return [key for key, time in zip(keys, times, strict=True) if time is not None and time < before]

    def _fold(self, key: str) -> bytes:
        return self._prefix + key.encode("utf-8", "surrogatepass")

    def _fold_all(self, keys: Collection[str]) -> list[bytes]:
        prefix = self._prefix
        try:
            return [prefix + key.encode() for key in keys]
        except UnicodeEncodeError:  # lone surrogates; asking for them costs every other key
            return [prefix + key.encode("utf-8", "surrogatepass") for key in keys]


def _chunks(keys: list[bytes]) -> list[list[bytes]]:
    return [keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK)]


def _is_wrong_type(reply: Any) -> bool:
    return isinstance(reply, redis.ResponseError) and str(reply).startswith("WRONGTYPE")


def _raise_errors(replies: Sequence[Any]) -> None:
    error = first_error(replies)
    if error is not None:
        raise error
