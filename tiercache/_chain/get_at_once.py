"""Getting one key, or many, of a chain that is one tier alone, which has a road of its own for that
(`SupportsReadOne`, `SupportsReadValues`): the same look-up as `Reader.lookup`, in one go.

Nothing is asked but that tier, nothing is promoted, and nothing is waited for that is not its own. So it
takes no coroutine, no batch and no fences, which are half of what a look-up of one key takes otherwise; nor,
for many, an entry around each value. Where anything is out of the ordinary the caller goes the whole road,
and nothing was asked yet, or counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tiercache._chain.answers import note
from tiercache._chain.batch import Batch
from tiercache._chain.core import Core
from tiercache.protocols import SupportsReadOne, SupportsReadValues

__all__ = ["roads_of_one"]


def roads_of_one(
    core: Core,
    get: Callable[[str, Any], Any],
    mget: Callable[[Sequence[str]], list[Any]],
    view_closed: Callable[[], bool],
) -> dict[str, Callable[..., Any]]:
    """The functions that there are for this chain, by the name of the method they stand before; ``get`` and
    ``mget`` are the whole roads."""
    guard = core.members[0].guard
    tier = guard.tier
    roads: dict[str, Callable[..., Any]] = {}
    if len(core.members) > 1 or core.codec is not None or guard.policy.retries:
        return roads
    if hasattr(tier, "read_one") and isinstance(tier, SupportsReadOne):
        roads["get"] = _get_at_once(core, tier, get, view_closed)
    if hasattr(tier, "read_values") and isinstance(tier, SupportsReadValues):
        roads["mget"] = _mget_at_once(core, tier, mget, view_closed)
    return roads


def _get_at_once(
    core: Core,
    tier: SupportsReadOne,
    whole_road: Callable[[str, Any], Any],
    view_closed: Callable[[], bool],
) -> Callable[..., Any]:
    member, stack = core.members[0], core.stack
    guard = member.guard
    arrears, lane = guard.arrears, guard.lane
    # Bound here, as a port binds its verbs.
    read_one, read, certain, counters = (
        guard.read_one,
        tier.read_one,
        core.space.epochs.certain,
        stack.counters,
    )
    namespace, time, name, tally = member.namespace, stack.clock.time, guard.name, core.tab.hits
    popular = core.popular

    def get(key: str, default: Any = None) -> Any:
        sharing = stack.sharing
        if (
            not isinstance(key, str)
            or stack.closed
            or view_closed()
            or arrears.debts
            or lane.stuck
            or stack.observer is not None
            or (sharing is not None and not sharing.awake)
            or not certain((key,))
        ):
            return whole_road(key, default)
        entry = read_one(read, namespace().fold(key))
        if entry is not None:
            if entry.codec != "bytes":
                guard.foreign(1, "bytes")
                entry = None
            elif entry.fresh_until is not None and not entry.fresh_until > time():  # as in `Reader.lookup`
                guard.no_hits(1)
                entry = None
            elif entry.sliding is not None:
                core.renewer.used(member, Batch({key: entry}, None), {key: entry}, time())
        with counters.lock:
            if entry is None:
                counters.misses += 1
                tally[-1] += 1
            else:
                counters.hits += 1
                tally[0] += 1
        if entry is None:
            return default
        if popular is not None:
            popular.add((key,))
        note(stack, (key,), name)
        return entry.value

    return get


def _mget_at_once(
    core: Core,
    tier: SupportsReadValues,
    whole_road: Callable[[Sequence[str]], list[Any]],
    view_closed: Callable[[], bool],
) -> Callable[[Sequence[str]], list[Any]]:
    member, stack = core.members[0], core.stack
    guard = member.guard
    arrears, lane = guard.arrears, guard.lane
    read_values, read, certain, counters = (
        guard.read_values,
        tier.read_values,
        core.space.epochs.certain,
        stack.counters,
    )
    namespace, name, tally, popular = member.namespace, guard.name, core.tab.hits, core.popular
    of_text = {str}

    def mget(keys: Sequence[str]) -> list[Any]:
        sharing = stack.sharing
        if (
            type(keys) not in (list, tuple)
            or set(map(type, keys)) != of_text
            or stack.closed
            or view_closed()
            or arrears.debts
            or lane.stuck
            or stack.observer is not None
            or (sharing is not None and not sharing.awake)
        ):
            return whole_road(keys)
        asked: Sequence[str] = list(dict.fromkeys(keys))
        if certain(asked) is not asked:
            return whole_road(keys)
        folded = namespace().fold_all(asked)
        values = read_values(read, folded)
        if values is None:
            return whole_road(keys)
        found = list(map(values.get, folded))
        hits = len(values)
        if len(asked) < len(keys):
            found = list(map(dict(zip(asked, found, strict=True)).get, keys))
            hits = len(found) - found.count(None)
        with counters.lock:
            counters.hits += hits
            counters.misses += len(keys) - hits
            tally[-1] += len(asked) - len(values)
            tally[0] += len(values)
        if popular is not None:
            popular.add([key for key, value in zip(keys, found, strict=True) if value is not None])
        note(stack, (key for key, value in zip(keys, found, strict=True) if value is not None), name)
        return found

    return mget
