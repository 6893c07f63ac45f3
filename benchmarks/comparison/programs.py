"""What takes several operations, or values that JSON has not: done within the process under test."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.comparison.adapter import MISS, Absent, Adapter

__all__ = ["PROGRAMS"]


@dataclass(frozen=True)
class Point:
    """An object of somebody's own."""

    x: int


class Bomb:
    """Whoever unpickles it runs code, which makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (Path(self.path),)


async def _value(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


async def _put(cache: Any, key: str, value: Any) -> None:
    if hasattr(cache, "set"):
        await _value(cache.set(key, value))
    else:
        await _again(cache, key, value)


async def _again(cache: Any, key: str, value: Any = None) -> Any:
    if hasattr(cache, "get"):
        return await _value(cache.get(key))
    return await _value(cache.load(key, lambda: value))


async def mutate(cache: Adapter) -> Any:
    """What a cache gives after a caller changed what it had been given."""
    value = [1]
    await _put(cache, "list", value)
    (await _again(cache, "list", value)).append(2)
    return await _again(cache, "list", value)


async def rewrite(cache: Any, size: int) -> None:
    """Write one key over and over, until the process is killed."""
    if hasattr(cache, "rewrites"):
        cache.rewrites(["a" * size, "b" * size])
    while True:
        for letter in "ab":
            await _put(cache, "torn", letter * size)


async def read_whole(cache: Any, rounds: int) -> int:
    """How many of so many reads of what `rewrite` writes gave something else: another value, or an error."""
    torn = 0
    for _ in range(rounds):
        try:
            found = await _value(cache.get("torn"))
        except Exception:  # noqa: BLE001 - whatever is raised, it is no value and no miss
            torn += 1
        else:
            torn += found is not MISS and found.strip(found[:1]) != ""
    return torn


async def thing(cache: Adapter, kind: str) -> str:
    """What a value of this kind comes back as."""
    value: Any = {"tuple": (1, 2), "object": Point(1)}[kind]
    await _put(cache, kind, value)
    found = await _again(cache, kind, value)
    if found is MISS:
        return "is not kept"
    return "as it was" if type(found) is type(value) and found == value else f"as a {type(found).__name__}"


async def plant(cache: Adapter, path: str) -> None:
    """Store what runs code when it is unpickled."""
    if not hasattr(cache, "set"):
        raise Absent("set")
    await _put(cache, "bomb", Bomb(path))


PROGRAMS: dict[str, Callable[..., Awaitable[Any]]] = {
    "mutate": mutate,
    "rewrite": rewrite,
    "read_whole": read_whole,
    "thing": thing,
    "plant": plant,
}
