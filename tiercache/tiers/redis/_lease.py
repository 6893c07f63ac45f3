"""Leases in Redis: one key for each, under the tier's prefix, that the server drops when its time is over.

Such a key goes on with a byte that no UTF-8 text holds. So it is no entry's, and listings, which leave out
what is no text, and `clear`, which drops what they name, pass it by.

Each command is a script, for one key, because comparing the token and changing the key has to be one step.
That takes the right ``+eval`` besides those of the tier (``SET``, ``GET`` and ``DEL`` inside are among them).
Rejected: ``GET`` and then ``DEL`` for users without it. A holder that was stopped between the two would take
the lease of another away. Without the right taking a lease fails, and the chain goes on without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import redis

from tiercache.tiers.redis._commands import Command, Wire, perform

__all__ = ["acquire", "release"]

_MARK: Final = b"\xfflease:"

#: ``SET … NX PX`` for a key that is free, ``SET … PX`` for one's own.
_TAKE: Final = (
    b"local t=redis.call('GET',KEYS[1]) "
    b"if t and t~=ARGV[1] then return 0 end "
    b"redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2]) return 1"
)
_GIVE_UP: Final = b"if redis.call('GET',KEYS[1])==ARGV[1] then redis.call('DEL',KEYS[1]) end return 1"


async def acquire(
    wire: Wire, until: float, last: bool, prefix: bytes, keys: Sequence[str], token: str, seconds: float
) -> list[str]:
    """See `SupportsLease.acquire`."""
    px = b"%d" % max(1, round(seconds * 1000))
    replies = await _perform(wire, until, last, _TAKE, prefix, keys, token, px)
    return [key for key, taken in zip(keys, replies, strict=True) if taken]


async def release(
    wire: Wire, until: float, last: bool, prefix: bytes, keys: Sequence[str], token: str
) -> None:
    """See `SupportsLease.release`."""
    await _perform(wire, until, last, _GIVE_UP, prefix, keys, token)


async def _perform(
    wire: Wire,
    until: float,
    last: bool,
    script: bytes,
    prefix: bytes,
    keys: Sequence[str],
    token: str,
    *arguments: bytes,
) -> list[int]:
    commands: list[Command] = [
        (b"EVAL", script, b"1", _lease_key(prefix, key), token.encode(), *arguments) for key in keys
    ]
    replies: list[Any] = await perform(wire, commands, until, last=last)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
        if not isinstance(reply, int):
            raise redis.InvalidResponse
    return replies


def _lease_key(prefix: bytes, key: str) -> bytes:
    return prefix + _MARK + key.encode("utf-8", "surrogatepass")
