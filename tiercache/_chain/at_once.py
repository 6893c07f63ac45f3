"""Setting one key of a chain that is memory alone: the same write as `Core.write`, in one go.

Nothing of it waits. So it happens under the lock of the epochs, and nobody ever sees it going on: it needs
no `Operation` that others wait for, no coroutine, no batch, and nothing for the journal. These are most of
what such a write takes otherwise. Where anything is out of the ordinary, nothing is done, and the caller goes
the whole road, which also says what is wrong with its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from tiercache._chain.core import Core, WriteResult
from tiercache._loading.staleness import Staleness
from tiercache.entry import UNSET
from tiercache.protocols import SupportsPut

__all__ = ["SetAtOnce", "set_at_once"]

#: Sets that are counted together.
_NOTES = 1024

#: Takes the key, the value and the ttl as the caller gave it; ``None``: nothing was done.
SetAtOnce: TypeAlias = Callable[[str, Any, Any], WriteResult | None]


def set_at_once(
    core: Core, ttl: float | None, staleness: Staleness, seconds: Callable[[Any], float | None]
) -> SetAtOnce | None:
    """The function for a view with these defaults; ``None`` where there can be none. ``seconds`` reads a ttl
    that is not the default, and raises for a wrong one."""
    guard, clock = core.stack.guards[0], core.stack.clock
    memory: Any = core.members[0].fast
    if len(core.members) > 1 or not isinstance(memory, SupportsPut) or not memory.puts:
        return None
    if memory.clock is not clock or staleness.varies or guard.policy.breaker_failures is not None:
        return None
    stack, space, ledger = core.stack, core.space, guard.ledger
    make, put, free = memory.one, memory.put, memory.free
    at_once, sets = core.space.epochs.at_once, guard.counters.set_seconds
    encode = None if core.codec is None else core.codec.encode
    copy = getattr(core.codec, "copy", None)
    keep = staleness.keep
    time, monotonic = clock.time, clock.monotonic
    stored = WriteResult((guard.name,), ())

    def set_one(key: str, value: Any, given: Any) -> WriteResult | None:
        if type(key) is not str or value is None or stack.closed or ledger.debts:
            return None
        if stack.sharing is not None and not stack.sharing.awake:
            return None
        if encode is None and type(value) is not bytes:
            return None
        life = ttl if given is UNSET else seconds(given)
        now = monotonic()
        wall = time()
        if life is None:
            expires_at = fresh_until = None
        elif keep:
            fresh_until = wall + life
            expires_at = fresh_until + keep
        else:
            expires_at, fresh_until = wall + life, None
        try:
            weight = len(value if encode is None else encode(value))
            own = value if copy is None else copy(value)
            one = make(key, own, weight, now, wall, expires_at, fresh_until)
            try:
                if one is None or not at_once(key, put, one):
                    return None
            finally:
                space.detach((key,))
        except Exception:  # noqa: BLE001 - it comes once more on the whole road, which knows what to do with it
            return None
        free()
        sets.append(monotonic() - now)
        if len(sets) >= _NOTES:
            with guard.counters.lock:
                guard.counters.add_sets()
        return stored

    return set_one
