"""Popular keys as the processes of a machine share them: the highest counts of each namespace, by digest.

What one process leaves is bounded, and so is what several become when they are merged: so many keys of so
many namespaces. How high those that are left out can have come is kept beside them (``beyond``), of a
namespace and of all that are not named. A key that one process has not named counts as that much there, and
its ``error`` says so: as in `tiercache.popular` no count is too low, and none is too high by more than its
error.

It is plain data, for JSON: ``{"beyond": 0, "namespaces": {'["shop"]': {"beyond": 3, "keys": [[digest, count,
error], …]}}}``, where a namespace is its path; ``{}`` where no keys were counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from tiercache.popular import KeyCounter, digest

__all__ = ["MOST_KEYS", "MOST_NAMESPACES", "Digests", "digests", "merged", "sound"]

MOST_KEYS: Final = 100
MOST_NAMESPACES: Final = 10
#: Above what anybody counts.
_MOST: Final = 2**63

Digests: TypeAlias = Mapping[str, Any]


def digests(counters: Iterable[tuple[tuple[str, ...], KeyCounter]]) -> Digests:
    """What ``counters``, one for each path, say just now."""
    rest, found = 0, {}
    totals = [(counter.settled(), path, counter) for path, counter in counters]
    busiest = sorted(totals, key=_total, reverse=True)
    if not busiest:
        return {}
    for number, (total, path, counter) in enumerate(busiest):
        if number < MOST_NAMESPACES:
            keys, floor = counter.leading(MOST_KEYS + 1)
            rows = [[digest(one.key), one.count, one.error] for one in keys]
            if rows:
                found[json.dumps(path)] = _cut(rows, floor)
        elif total <= rest:
            break  # those after it were counted even less
        else:
            keys, _floor = counter.leading(1)
            rest = max(rest, keys[0].count if keys else 0)
    return {"beyond": rest, "namespaces": found}


def _total(row: tuple[int, tuple[str, ...], KeyCounter]) -> int:
    return row[0]


def merged(many: Iterable[Digests]) -> Digests:
    """All of them as one."""
    parts = [one for one in many if one]
    if not parts:
        return {}
    rest = sum(one["beyond"] for one in parts)
    found: list[tuple[int, str, dict[str, Any]]] = []
    for path in dict.fromkeys(path for one in parts for path in one["namespaces"]):
        counted = [one["namespaces"].get(path) or {"beyond": one["beyond"], "keys": []} for one in parts]
        floor = sum(part["beyond"] for part in counted)
        sums: dict[str, list[Any]] = {}
        for part in counted:
            for name, count, error in part["keys"]:
                row = sums.setdefault(name, [name, floor, floor])
                row[1] += count - part["beyond"]
                row[2] += error - part["beyond"]
        whole = _cut(sorted(sums.values(), key=_count, reverse=True), floor)
        found.append((whole["keys"][0][1] if whole["keys"] else floor, path, whole))
    found.sort(key=lambda row: row[0], reverse=True)
    for most, _path, _whole in found[MOST_NAMESPACES : MOST_NAMESPACES + 1]:
        rest = max(rest, most)
    return {"beyond": rest, "namespaces": {path: whole for _, path, whole in found[:MOST_NAMESPACES]}}


def _cut(rows: list[list[Any]], floor: int) -> dict[str, Any]:
    """The first of ``rows``, which are in order; a key that has none was counted ``floor`` times at most."""
    left = rows[MOST_KEYS][1] if len(rows) > MOST_KEYS else 0
    return {"beyond": max(floor, left), "keys": rows[:MOST_KEYS]}


def _count(row: list[Any]) -> int:
    count: int = row[1]
    return count


def sound(data: Any) -> Digests:
    """``data`` if it is what `digests` makes. Raises what reading anything else raises."""
    if not data:
        return {}
    found = {}
    for path, part in data["namespaces"].items():
        names = json.loads(path)
        if not names == [str(one) for one in names]:
            raise TypeError(path)
        keys = [[_hex(name), _number(count), _number(error)] for name, count, error in part["keys"]]
        found[path] = {"beyond": _number(part["beyond"]), "keys": keys}
    return {"beyond": _number(data["beyond"]), "namespaces": found}


def _hex(name: Any) -> str:
    if not isinstance(name, str) or len(name) != 16 or int(name, 16) < 0:
        raise TypeError(name)
    return name


def _number(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < _MOST:
        raise TypeError(value)
    return value
