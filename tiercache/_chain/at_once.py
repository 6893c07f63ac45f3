"""Setting one key of a chain that is memory alone: the same write as `Core.write`, in one go.

Nothing of it waits. So it happens under the lock of the epochs, and nobody ever sees it going on: it needs
no `Operation` that others wait for, no coroutine, no batch, and nothing for the journal. These are most of
what such a write takes otherwise. Where anything is out of the ordinary, nothing is done, and the caller goes
the whole road, which also says what is wrong with its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from tiercache._chain.core import Core, WriteResult
from tiercache._loading.staleness import Staleness
from tiercache.entry import UNSET
from tiercache.protocols import SupportsPut

if TYPE_CHECKING:
    from tiercache._chain.view import View

__all__ = ["NOTES", "TIMED", "Set", "is_memory_alone", "set_at_once"]

#: Sets that are counted together, and how many of them there are to one that is timed.
NOTES = 1024
TIMED = 16

#: Takes what `TieredCache.set` takes.
Set: TypeAlias = Callable[..., Any]
#: Makes one that calls the function it is given, with key, value and ttl, where nothing can be done at once.
MakeSet: TypeAlias = Callable[[Callable[[str, Any, Any], Any]], Set]


def set_at_once(  # noqa: C901 - closures over the same cells, for one road without a turn
    core: Core,
    ttl: float | None,
    staleness: Staleness,
    seconds: Callable[[Any], float | None],
    view: View[Any],
) -> MakeSet | None:
    """What makes ``set`` for ``view``, which has these defaults; ``None`` where there can be none.
    ``seconds`` reads a ttl that is not the default, and raises for a wrong one."""
    memory: Any = core.members[0].fast
    if not is_memory_alone(core) or staleness.varies or staleness.sliding is not None:
        return None
    guard, clock = core.stack.guards[0], core.stack.clock
    stack, arrears, counters = core.stack, guard.arrears, guard.counters
    (shared,), at_once = core.space.shared, core.space.epochs.at_once
    put, dropped, free = memory.put, memory.dropped, memory.free
    usual, other = _makers(memory, ttl, staleness.keep)
    encode = None if core.codec is None else core.codec.encode
    copy = getattr(core.codec, "copy", None)
    time, monotonic = clock.time, clock.monotonic
    sets = counters.set_seconds
    stored = WriteResult((guard.name,), ())

    def set_or(whole_road: Callable[[str, Any, Any], Any]) -> Set:
        def set_(key: str, value: Any, *, ttl: Any = UNSET) -> Any:
            if (
                type(key) is not str
                or value is None
                or stack.closed
                or view._closed  # noqa: SLF001 - its own view
                or arrears.debts
                or (stack.sharing is not None and not stack.sharing.awake)
            ):
                return whole_road(key, value, ttl)
            make = usual if ttl is UNSET else other(seconds(ttl))
            now = monotonic()
            wall = time()
            done = False
            try:
                if encode is None:
                    one = make(key, value, len(value), now, wall) if type(value) is bytes else None
                else:
                    weight = len(encode(value))
                    one = make(key, value if copy is None else copy(value), weight, now, wall)
                if one is not None:
                    try:
                        done = at_once(key, put, one)
                    finally:  # as `Space.detach`, whose call takes longer than there is mostly to do
                        for ref in shared.flights:
                            flights = ref()
                            if flights is not None and flights.affected:
                                flights.detach((key,))
            except Exception:  # noqa: BLE001, S110 - it comes once more on the whole road, which knows what to do
                pass
            if not done:
                return whole_road(key, value, ttl)
            if dropped:
                free()
            noted = len(sets)
            sets.append(None if noted % TIMED else monotonic() - now)
            if noted >= NOTES:
                with counters.lock:
                    counters.add_sets()
            return stored

        return set_

    return set_or


def is_memory_alone(core: Core) -> bool:
    """Whether to put one value into memory is all there is to setting a key."""
    memory: Any = core.members[0].fast
    return (
        len(core.members) == 1
        and isinstance(memory, SupportsPut)
        and memory.puts
        and memory.clock is core.stack.clock
        and core.stack.guards[0].policy.breaker_failures is None
        and len(core.space.shared) == 1  # the epochs of several domains never do it at once
    )


def _makers(memory: SupportsPut, ttl: float | None, keep: float) -> tuple[Any, Callable[[float | None], Any]]:
    """The maker for ``ttl``, and what gives that for another one: the last one is kept, since entries that
    one maker has made share what they have in common."""
    usual = memory.maker(ttl, keep)
    latest: tuple[float | None, Any] = ttl, usual

    def other(life: float | None) -> Any:
        nonlocal latest
        known, make = latest
        if known != life:
            make = memory.maker(life, keep)
            latest = life, make
        return make

    return usual, other
