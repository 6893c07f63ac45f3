"""What servers say of themselves: which they are, what their clocks say, how much memory they have left.

None of it needs a right that a tier could not do without: what a user may not ask is not known.
"""

from __future__ import annotations

from typing import Any

from tiercache.protocols import About, Clock
from tiercache.tiers.redis._commands import Command, Request, Wire, exchange, pack

__all__ = ["ask"]


async def ask(wire: Wire, until: float, last: bool, clock: Clock) -> About:  # noqa: ARG001 - there is no second way
    """That of all servers that hold keys: their versions, the clock that is most wrong, the least room."""
    lanes = list(wire.lanes().values())
    facts = [_facts(answer) for answer in await _all(wire, lanes, (b"INFO",), until)]
    greetings = [_greeting(answer) for answer in await _all(wire, lanes, (b"HELLO",), until)]
    before = clock.time()
    times = await _all(wire, lanes, (b"TIME",), until)
    here = (before + clock.time()) / 2
    versions = dict.fromkeys(map(_version, facts, greetings))
    skews = [seconds - here for seconds in map(_seconds, times) if seconds is not None]
    rooms = [room for room in map(_room, facts) if room is not None]
    return About(", ".join(versions), max(skews, key=abs, default=None), min(rooms, default=None))


async def _all(wire: Wire, lanes: list[Any], command: Command, until: float) -> list[Any]:
    """The answer of each server; an error is one."""
    payload = pack(command)
    replies = await exchange(wire, [Request(lane, payload, 1) for lane in lanes], until)
    return [answer for [answer] in replies]


def _facts(answer: Any) -> dict[str, str]:
    """The lines of INFO; none where the user may not ask."""
    if not isinstance(answer, bytes):
        return {}
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _greeting(answer: Any) -> dict[str, str]:
    """What HELLO without arguments says, which changes nothing: names and values in turn, or a table."""
    if isinstance(answer, list):
        answer = dict(zip(answer[::2], answer[1::2], strict=False))
    if not isinstance(answer, dict):
        return {}
    return {
        name.decode(): value.decode(errors="replace")
        for name, value in answer.items()
        if isinstance(name, bytes) and isinstance(value, bytes)
    }


def _version(told: dict[str, str], greeted: dict[str, str]) -> str:
    if "valkey_version" in told:
        return f"Valkey {told['valkey_version']}"
    server = greeted.get("server", "redis").capitalize()
    version = told.get("redis_version") or greeted.get("version")
    return f"{server} {version}" if version else "a server that does not say what it is"


def _seconds(answer: Any) -> float | None:
    if isinstance(answer, list) and len(answer) == 2:
        seconds, micros = map(int, answer)
        return seconds + micros / 1e6
    return None


def _room(told: dict[str, str]) -> int | None:
    """Bytes up to the bound that its owner set, if there is one."""
    bound, used = told.get("maxmemory", ""), told.get("used_memory", "")
    if not (bound.isdigit() and used.isdigit()) or bound == "0":
        return None
    return max(int(bound) - int(used), 0)
