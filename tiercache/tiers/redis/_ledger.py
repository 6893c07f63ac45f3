"""The ledger in Redis: one hash for each day, under the tier's prefix, which the server drops after its time.

Its key goes on with a byte that no UTF-8 text holds, as those of leases do. A deposit is a script, since its
sums and the number of its writer have to change in one step: with it, adding may be repeated. The numbers
lie in a hash of their own, which no reader asks for and which goes long before the sums: a day may have
thousands of writers that live for a second. Both keys have the day for their hash tag, so that a cluster has
them in one place; a prefix with a tag brings its own. That takes the rights ``+eval +hget +hgetall +hset
+hsetnx +hexists +hincrby +expire`` besides those of the tier. A server that evicts keys when it is full may
evict a day, too.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import redis

from tiercache.accounts import COLUMNS, MOST, MOST_ROWS, TOTAL, Account, Amounts, Deposit, others
from tiercache.protocols import Clock
from tiercache.tiers.redis._commands import Command, Wire, perform

__all__ = ["claim", "hashes", "post", "posted", "spent"]

_MARK: Final = b"\xffledger:"
#: Days that are read at most.
_MOST_DAYS: Final = 4000
#: Days that are read in one call, and about as many rows as those have at most.
_AT_ONCE: Final = 40
_ROWS_AT_ONCE: Final = 2000

#: The fields of a day: ``r`` and a row, which is there; ``n``, how many of them; and a row and a column, its
#: amount. What a script has done before an error stays done, so nothing may fail once the number is set: what
#: is no hash does before that, and an amount that cannot be added to, since somebody wrote there, keeps no
#: others out.
_POST: Final = (
    b"local k=KEYS[1] local n=tonumber(redis.call('HGET',k,'n') or '0') or 0 "
    b"local last=redis.call('HGET',KEYS[2],ARGV[1]) "
    b"if last and (tonumber(last) or 0)>=tonumber(ARGV[2]) then return 0 end "
    b"redis.call('HSET',KEYS[2],ARGV[1],ARGV[2]) redis.call('EXPIRE',KEYS[2],ARGV[5]) local i=6 "
    b"while i<=#ARGV do local row=ARGV[i] "
    b"if ARGV[i+1]~='' and redis.call('HEXISTS',k,'r\\0'..row)==0 then "
    b"if n>=tonumber(ARGV[3]) then row=ARGV[i+1] end "
    b"if redis.call('HSETNX',k,'r\\0'..row,'1')==1 then n=n+1 redis.pcall('HINCRBY',k,'n',1) end end "
    b"local m=tonumber(ARGV[i+2]) "
    b"for j=i+3,i+2+2*m,2 do local f=row..'\\0'..ARGV[j] local r=redis.pcall('HINCRBY',k,f,ARGV[j+1]) "
    b"if type(r)=='table' and string.find(r.err,'overflow') then "
    b"redis.call('HSET',k,f,'%d') end end "
    b"i=i+3+2*m end "
    b"redis.call('EXPIRE',k,ARGV[4]) return 1"
) % MOST
#: Claims lie with the numbers: a field is ``c`` and a name, and a number's is the writer.
_CLAIM: Final = (
    b"redis.call('HSETNX',KEYS[1],ARGV[1],ARGV[2]) redis.call('EXPIRE',KEYS[1],ARGV[3]) "
    b"if redis.call('HGET',KEYS[1],ARGV[1])==ARGV[2] then return 1 end return 0"
)
#: So long after the last deposit of a day the numbers and claims are kept: what failed is repeated within
#: seconds, or once the server is well.
_NUMBERS_LAST: Final = b"%d" % (3 * 86_400)


async def post(wire: Wire, until: float, last: bool, prefix: bytes, deposit: Deposit) -> None:
    """See `SupportsLedger.post`. Each day is a step of its own, and so is repeated by itself."""
    days: dict[str, list[tuple[Account, Amounts]]] = {}
    for account, amounts in deposit.rows:
        days.setdefault(account.day, []).append((account, amounts))
    commands: list[Command] = [
        (
            b"EVAL", _POST, b"2", _key(prefix, day), _numbers(prefix, day), deposit.writer.encode(),
            b"%d" % deposit.number, b"%d" % MOST_ROWS, b"%d" % ((deposit.keep_days + 2) * 86_400),
            _NUMBERS_LAST, *_arguments(rows),
        )
        for day, rows in days.items()
    ]  # fmt: skip
    _counts(await perform(wire, commands, until, last=last))


async def posted(
    ask: Callable[[Sequence[str]], Awaitable[list[Any]]], since: str, clock: Clock
) -> list[tuple[Account, dict[str, int]]]:
    """See `SupportsLedger.posted`. ``ask`` is `hashes`, a call of its own: a year of full days is more than
    any server sends within one deadline."""
    days = deque(_days(since, clock.time()))
    found: list[tuple[Account, dict[str, int]]] = []
    names: dict[bytes, tuple[str, str, str]] = {}
    most = _AT_ONCE
    while days:
        part = [days.popleft() for _ in range(min(most, len(days)))]
        rows = [
            row for day, reply in zip(part, await ask(part), strict=True) for row in _rows(day, reply, names)
        ]
        found += rows
        most = max(1, min(_AT_ONCE, _ROWS_AT_ONCE * len(part) // max(len(rows), 1)))
    return found


async def hashes(wire: Wire, until: float, last: bool, prefix: bytes, days: Sequence[str]) -> list[Any]:
    """What there is of each of ``days``, in their order."""
    commands: list[Command] = [(b"HGETALL", _key(prefix, day)) for day in days]
    replies = await perform(wire, commands, until, last=last)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


async def spent(wire: Wire, until: float, last: bool, prefix: bytes, day: str, namespace: str) -> int:
    """See `SupportsLedger.spent`."""
    field = _row(Account(day, namespace, "", TOTAL)) + b"\0money"
    (reply,) = await perform(wire, [(b"HGET", _key(prefix, day), field)], until, last=last)
    if isinstance(reply, Exception):
        raise reply
    return int(reply or 0)


async def claim(wire: Wire, until: float, last: bool, prefix: bytes, day: str, name: str, token: str) -> bool:
    """See `SupportsLedger.claim`."""
    field = b"c\0" + name.encode()
    command: Command = (
        b"EVAL", _CLAIM, b"1", _numbers(prefix, day), field, token.encode(), _NUMBERS_LAST,
    )  # fmt: skip
    return bool(_counts(await perform(wire, [command], until, last=last))[0])


def _counts(replies: Sequence[Any]) -> list[int]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
        if not isinstance(reply, int):
            raise redis.InvalidResponse
    return list(replies)


def _key(prefix: bytes, day: str) -> bytes:
    return prefix + _MARK + b"{" + day.encode() + b"}"


def _numbers(prefix: bytes, day: str) -> bytes:
    return _key(prefix, day) + b"w"


def _row(account: Account) -> bytes:
    return json.dumps(account[1:]).encode()


def _arguments(rows: Sequence[tuple[Account, Amounts]]) -> Iterator[bytes]:
    for account, amounts in rows:
        given = [(name, amounts[name]) for name in COLUMNS if amounts.get(name)]
        yield _row(account)
        yield b"" if account.tier == TOTAL else _row(others(account))
        yield b"%d" % len(given)
        for name, amount in given:
            yield name.encode()
            yield b"%d" % amount


def _days(since: str, now: float) -> Iterator[str]:
    today = datetime.fromtimestamp(now, UTC).date() + timedelta(days=1)  # a clock may be behind another's
    first = today - timedelta(days=_MOST_DAYS)
    if since:
        first = max(first, date.fromisoformat(since))
    return ((first + timedelta(days=each)).isoformat() for each in range((today - first).days + 1))


def _rows(
    day: str, reply: Any, names: dict[bytes, tuple[str, str, str]]
) -> list[tuple[Account, dict[str, int]]]:
    """Of a day's hash, without what makes no sense: anybody may write on a server. ``names``: what is known
    to stand in rows, which are the same on most days."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    found: dict[Account, dict[str, int]] = {}
    for field, amount in pairs:
        row, _, column = bytes(field).partition(b"\0")
        name = column.decode("ascii", "replace")
        if row.startswith(b"[") and name in COLUMNS:
            with suppress(ValueError, TypeError):
                if row not in names:
                    names[row] = _names(row)
                found.setdefault(Account(day, *names[row]), {})[name] = int(amount)
    return list(found.items())


def _names(row: bytes) -> tuple[str, str, str]:
    namespace, model, tier = map(str, json.loads(row))
    return namespace, model, tier
