"""Loading one key of a chain that is memory alone, for a blocking caller whom nobody joins or precedes: the
same load as `Loading.load`, in one go.

The flight, the look, the ticket and the counts are those of every load. What is left out serves what cannot
be here: batches, values past their time, leases, a ledger, and tiers that may fail or that others write to.
It is two thirds of what such a load takes otherwise. Where anything is out of the ordinary before the loader
is called, nothing is done, and the caller goes the whole road; where what it returns is, `Leading` stores it.

The flight is taken before memory is looked at, so that one look is enough: who had loaded the key until then
has stored it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeAlias

from tiercache._chain.answers import is_collecting
from tiercache._chain.at_once import NOTES, TIMED, is_memory_alone
from tiercache._chain.core import Core
from tiercache._consistency.flights import get_off, ride
from tiercache._loading.leading import Leading, note_load_time
from tiercache._loading.loaded import Loaded
from tiercache._loading.loaders import Load, check_takes_one, single
from tiercache._loading.options import PLAIN, Manner
from tiercache._running.bridge import BLOCKING, called, drive
from tiercache._running.owners import Owner, thrown

__all__ = ["LEFT", "LoadAlone", "load_alone"]

#: Nothing was done. Not `MISS`: a loader may return that, which would be called once more then.
LEFT = object()

#: Takes the key, the loader and the ttl; may return `LEFT`.
LoadAlone: TypeAlias = "Callable[[str, Any, float | None], Any]"


def load_alone(  # noqa: C901, PLR0915  # closures over the same cells; each of them is simple
    core: Core, manner: Manner
) -> LoadAlone | None:
    """The function for a view with these defaults; ``None`` where there can be none."""
    guard, clock = core.stack.guards[0], core.stack.clock
    memory: Any = core.members[0].fast
    if not is_memory_alone(core) or manner != PLAIN or core.stack.books is not None:
        return None
    stack, arrears, epochs, flights = core.stack, guard.arrears, core.space.epochs, core.space.flights
    lead_one, end, fill_at_once = flights.lead_one, flights.end, epochs.fill_at_once
    open_ticket, close_ticket = epochs.open_ticket, epochs.close_ticket
    holds, put, free, sets = memory.holds, memory.put, memory.free, guard.counters.set_seconds
    #: The last ttl that was asked for, with its maker: what one maker has made shares what it has in common.
    latest: tuple[float | None, Any] = None, memory.maker(None, 0.0)
    encode = None if core.codec is None else core.codec.encode
    copy = getattr(core.codec, "copy", None)
    copied, tier, chain = core.copied, guard.counters, stack.counters
    time, monotonic, popular = clock.time, clock.monotonic, core.popular

    def load_one(key: str, loader: Callable[[str], Any], ttl: float | None) -> Any:
        if type(key) is not str or not callable(loader) or stack.closed or arrears.debts:
            return LEFT
        if flights.pauses.notes or flights.absent.notes or is_collecting() or stack.observer is not None:
            return LEFT
        if stack.sharing is not None and not stack.sharing.awake:
            return LEFT
        owner = Owner()
        return drive(owner.own(load(owner, key, loader, ttl)))

    async def load(  # noqa: PLR0915 - each part of it in a function of its own takes a tenth longer
        owner: Owner, key: str, loader: Callable[[str], Any], ttl: float | None
    ) -> Any:
        start = perf_counter()
        flight = lead_one(key, BLOCKING, owner)
        if flight is None:
            return LEFT
        values: dict[str, Any] | None = None
        error: Exception | None = None
        try:
            ticket = open_ticket()  # before the look: what is written after that stands
            try:
                if holds(key):
                    return LEFT  # who waits already looks for it too
                seconds = perf_counter() - start
                with tier.lock:
                    tier.misses += 1
                    tier.read_seconds += seconds
                    tier.read_latency.add(seconds)
                begun = monotonic()
                failed = True
                riding = ride((flight,))
                try:
                    value = called(loader, key)
                    note_load_time(flights, monotonic() - begun)
                    failed = False
                except TypeError:
                    check_takes_one(loader)
                    raise
                finally:
                    get_off(riding)
                    with chain.lock:
                        chain.misses += 1
                        chain.loads += 1
                        chain.took(perf_counter() - start - seconds)
                        chain.load_errors += failed
                if value is None:
                    values = {}
                    return None
                if popular is not None:
                    popular.add((key,))
                if store(key, value, ttl, ticket):
                    values = {key: value}
                    return value if copy is None else copied(value)
                whole = Load(single(loader), ttl)
                leading = Leading(core, flight, whole, sharing=None, stale=(), since=ticket)
                brought = await leading.bring(BLOCKING, key, value)
                return None if brought is None else copied(brought)  # `None` is no value for a codec
            finally:
                close_ticket(ticket)
        except Exception as failure:
            error = failure
            raise
        except GeneratorExit as gone:
            thrown(gone)
            raise
        finally:
            end(flight, values, error)  # without either somebody else leads: this was interrupted

    def store(key: str, value: Any, ttl: float | None, ticket: int) -> bool:
        nonlocal latest
        if type(value) is not bytes and (encode is None or isinstance(value, Loaded)):
            return False
        now = monotonic()
        wall = time()
        try:
            weight = len(value if encode is None else encode(value))
            own = value if copy is None else copy(value)
            life, make = latest
            if life != ttl:
                make = memory.maker(ttl, 0.0)
                latest = ttl, make
            one = make(key, own, weight, now, wall)
            if one is None or not fill_at_once(ticket, key, put, one, stored=True):
                return False
        except Exception:  # noqa: BLE001 - it comes once more on the whole road, which knows what to do with it
            return False
        free()
        noted = len(sets)
        sets.append(None if noted % TIMED else monotonic() - now)
        if noted >= NOTES:
            with tier.lock:
                tier.add_sets()
        return True

    return load_one
