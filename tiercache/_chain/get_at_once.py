"""Getting one key of a chain that is one tier alone, which has a road of its own for that
(`SupportsReadOne`): the same look-up as `Reader.lookup`, in one go.

Nothing is asked but that tier, nothing is promoted, and nothing is waited for that is not its own. So it
takes no coroutine, no batch and no fences, which are half of what such a look-up takes otherwise. Where
anything is out of the ordinary the caller goes the whole road, and nothing was asked yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiercache._chain.answers import note
from tiercache._chain.core import Core
from tiercache.protocols import SupportsReadOne

__all__ = ["get_at_once"]


def get_at_once(
    core: Core, whole_road: Callable[[str, Any], Any], view_closed: Callable[[], bool]
) -> Callable[..., Any] | None:
    """The function ``get(key, default=None)``; ``None`` where there can be none."""
    member, stack = core.members[0], core.stack
    guard = member.guard
    tier, ledger, lane = guard.tier, guard.ledger, guard.lane
    if len(core.members) > 1 or core.codec is not None or guard.policy.retries:
        return None
    if not (hasattr(tier, "read_one") and isinstance(tier, SupportsReadOne)):
        return None
    # Bound here, as a port binds its verbs.
    read_one, read, certain, counters = (
        guard.read_one,
        tier.read_one,
        core.space.epochs.certain,
        stack.counters,
    )
    namespace, time, name = member.namespace, stack.clock.time, guard.name

    def get(key: str, default: Any = None) -> Any:
        sharing = stack.sharing
        if (
            not isinstance(key, str)
            or stack.closed
            or view_closed()
            or ledger.debts
            or lane.stuck
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
        with counters.lock:
            if entry is None:
                counters.misses += 1
            else:
                counters.hits += 1
        if entry is None:
            return default
        note(stack, (key,), name)
        return entry.value

    return get
