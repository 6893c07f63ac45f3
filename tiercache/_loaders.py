"""Users' loaders as the core calls them: for some keys, through a runtime, with their answer checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from tiercache._bridge import Runtime
from tiercache._staleness import NEVER_STALE, Staleness
from tiercache.errors import LoadError

__all__ = ["Load", "LoadMany", "many", "single"]

#: Calls a loader for some keys and gives back the values there are, some of them `Loaded`.
LoadMany = Callable[[Runtime, list[str]], Awaitable[dict[str, Any]]]


@dataclass(slots=True)
class Load:
    """What a loading call asks for, besides its keys."""

    load_many: LoadMany
    ttl: float | None = None
    staleness: Staleness = NEVER_STALE
    batch_size: int | None = None


def single(loader: Callable[[str], Any]) -> LoadMany:
    """A loader of one key, as a loader of many that is only ever asked for one."""

    async def load(runtime: Runtime, keys: list[str]) -> dict[str, Any]:
        value = await runtime.call(loader, keys[0])
        return {} if value is None else {keys[0]: value}

    return load


def many(loader: Callable[[list[str]], Any]) -> LoadMany:
    """A loader of many keys, its answer checked."""

    async def load(runtime: Runtime, keys: list[str]) -> dict[str, Any]:
        answer = await runtime.call(loader, list(keys))
        if isinstance(answer, Mapping):
            pairs = [(key, answer.get(key)) for key in keys]
        else:
            try:
                given = None if isinstance(answer, str | bytes | AbstractSet) else list(answer)
            except TypeError:
                given = None
            if given is None:
                raise LoadError(
                    f"the loader returned {type(answer).__name__}; it must return a sequence of values in "
                    f"the order of its keys, or a mapping"
                )
            if len(given) != len(keys):
                raise LoadError(f"the loader was asked for {len(keys)} keys and returned {len(given)} values")
            pairs = list(zip(keys, given, strict=True))
        return {key: value for key, value in pairs if value is not None}

    return load
