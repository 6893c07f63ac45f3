"""The popular keys of a report, whose counts processes have shared by digest: their names, from the tiers.

Whoever may list a tier may know its keys. So they are named by listing them there, and hashing each, until
all are found: what expired meanwhile, or is in memory alone, stays a digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tiercache._chain.member import Member
from tiercache._running.bridge import BLOCKING, drive
from tiercache.chain import TieredCache
from tiercache.cli._lasting import listed
from tiercache.cli._output import printable
from tiercache.cli._reporting.record import Popular, Statistics
from tiercache.popular import digest

__all__ = ["popular_keys"]

#: Keys asked for at a time.
_PAGE = 1000

#: What could not be done, and why.
Failed = Callable[[str, Exception], None]


def popular_keys(
    cache: TieredCache[Any],
    statistics: Statistics,
    count: int,
    *,
    most: int,
    down: Sequence[str],
    failed: Failed,
) -> tuple[Popular, ...]:
    """The ``count`` keys with the highest counts, in whatever namespace. To name them about ``most`` keys of
    each tier are listed in each of these namespaces, none of tiers that are ``down``."""
    rows = [
        (counted, error, path, name)
        for path, part in statistics.total["popular"].get("namespaces", {}).items()
        for name, counted, error in part["keys"]
    ]
    rows.sort(key=lambda row: row[0], reverse=True)
    found = [
        (path, Popular("/".join(map(printable, json.loads(path))), name, counted, error))
        for counted, error, path, name in rows[:count]
    ]
    keys: dict[tuple[str, str], str] = {}
    for path in dict.fromkeys(path for path, _ in found):
        wanted = {one.digest for inside, one in found if inside == path}
        for member in reversed(_members(cache, json.loads(path))):
            if most and wanted and printable(member.guard.name) not in down:
                try:
                    named = _named(member, wanted, most)
                except Exception as error:  # noqa: BLE001 - whatever a tier raises: digests are known still
                    failed(f"The keys of the tier {printable(member.guard.name)} could not be listed", error)
                    continue
                keys |= {(path, name): key for name, key in named.items()}
                wanted -= named.keys()
    return tuple(replace(one, key=keys.get((path, one.digest))) for path, one in found)


def _members(cache: TieredCache[Any], path: Sequence[str]) -> list[Member]:
    """The tiers that list their keys, as the namespace at ``path`` sees them; none if it is not inside."""
    root = cache._core.path  # noqa: SLF001 - it is of no use to those who write applications
    if tuple(path[: len(root)]) != root:
        return []
    view: TieredCache[Any] = cache
    for name in path[len(root) :]:
        view = view._open_view(name)  # noqa: SLF001 - `view` takes the name of one for what it is called by
    return listed(view)


def _named(member: Member, wanted: set[str], most: int) -> dict[str, str]:
    """The keys of those digests that are ``wanted``, among about ``most`` that ``member`` lists."""
    found: dict[str, str] = {}
    cursor: Any = None
    seen = 0
    while True:
        keys, cursor = drive(member.page(BLOCKING, "", "", cursor, min(most - seen, _PAGE)))
        seen += len(keys)
        found |= {name: key for key in keys if (name := digest(key)) in wanted}
        if cursor is None or seen >= most or len(found) == len(wanted):
            return found
