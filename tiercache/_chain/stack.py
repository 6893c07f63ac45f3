"""The stack: what all views of one root chain share. Tiers with their guards, the namespaces in use, the
promoter, the counters, and whether it is open."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from tiercache._chain.journal import Journal
from tiercache._chain.member import Member
from tiercache._chain.renewals import Renewals
from tiercache._consistency.domains import Space, join, keep_owing
from tiercache._guard.guard import Guard
from tiercache._loading.batches import Batches
from tiercache._loading.closing import Closing
from tiercache._loading.pace import Made
from tiercache._loading.refresh import Refresher
from tiercache._loading.telling import Told
from tiercache._running.bridge import BLOCKING, Runtime
from tiercache._running.futures import in_thread
from tiercache._running.promoter import Promoter
from tiercache.entry import UNSET
from tiercache.errors import CacheClosed, ConfigError
from tiercache.events import Emitter
from tiercache.forks import reset_after_fork
from tiercache.observing import Observer
from tiercache.popular import KeyCounter
from tiercache.protocols import AsyncTier, Clock, Codec, Namespaced, SupportsKeyCounts, Tier
from tiercache.stats import CacheCounters, CacheStats, Histograms, TierStats

if TYPE_CHECKING:
    from tiercache._books.keeping import Bookkeeping
    from tiercache._sharing import Publisher

__all__ = ["Binding", "Stack"]


class Tab:
    """What the tiers have answered in a binding, and how much of that the ledger knows: ``hits`` in each tier
    but on the fast ``roads``, which count by themselves, and last what none had; who adds to it holds the
    lock of the chain's counters. ``model``: whose calls the hits save, as the last of its views said."""

    __slots__ = ("hits", "model", "path", "roads", "taken")

    def __init__(self, path: tuple[str, ...], roads: list[Namespaced | None]) -> None:
        self.path = path
        self.roads = roads
        self.model = ""
        self.hits = [0] * (len(roads) + 1)
        self.taken = [0] * (len(roads) + 1)


class Binding:
    """What equal views of one chain share: their namespace, and its tiers as these views see them."""

    def __init__(
        self, space: Space, members: tuple[Member, ...], path: tuple[str, ...], popular: KeyCounter | None
    ) -> None:
        self.space = space
        self.members = members
        self.tab = Tab(path, [member.fast for member in members])
        self.renewals = Renewals()
        #: What counts the keys of the namespace, if they are counted.
        self.popular = popular
        road: object = members[0].fast
        if popular is not None and isinstance(road, SupportsKeyCounts):
            road.count_keys(popular.add)


class Stack:
    """The shared part of a chain and its views. Thread-safe."""

    def __init__(
        self,
        tiers: Sequence[Any],
        *,
        clock: Clock,
        promote: str,
        events: Emitter | None = None,
        popular: int | None = None,
    ) -> None:
        if not tiers:
            raise ConfigError("tiers: a cache needs at least one tier")
        if promote not in ("background", "inline"):
            raise ConfigError(f"promote: {promote!r} is unknown; it is 'background' or 'inline'")
        self.clock = clock
        self.promote_inline = promote == "inline"
        self.events = events or Emitter(None)
        self.guards = tuple(
            Guard(tier, name, clock, self.events) for tier, name in zip(tiers, _names(tiers), strict=True)
        )
        self.counters = CacheCounters()
        self.told = Told()
        self.made = Made()
        self.batches = Batches()
        self.promoter = Promoter()
        self.refresher = Refresher()
        self.closing = Closing()
        self.closed = False
        #: Who is told of look-ups that leave memory, and of loads, if anybody is.
        self.observer: Observer | None = None
        #: What shares the statistics, if they are shared.
        self.sharing: Publisher | None = None
        self._anchors, self.domains = join(tiers)
        for guard, anchor in zip(self.guards, self._anchors, strict=True):
            guard.arrears = anchor.arrears
        self.journal = Journal(self.guards, self.promoter, partial(keep_owing, self._anchors, tiers))
        # Weak, so that a view for each user of a service costs nothing once it is forgotten.
        self._spaces: WeakValueDictionary[tuple[str, ...], Space] = WeakValueDictionary()
        self._bindings: WeakValueDictionary[Any, Binding] = WeakValueDictionary()
        #: How many counters of keys each namespace has, if any, and those of the namespaces in use.
        self._popular = popular
        self._key_counters: WeakValueDictionary[tuple[str, ...], KeyCounter] = WeakValueDictionary()
        #: The fast roads of forgotten views, whose hits are yet to be counted.
        self._retired: deque[Tab] = deque()
        #: What keeps the ledger, if one is kept.
        self.books: Bookkeeping | None = None
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        # Re-entrant: the garbage collector may run somebody's destructor inside, which uses this cache.
        self._lock = threading.RLock()
        self.counters.lock = threading.Lock()
        for guard in self.guards:
            guard.after_fork()

    def check_open(self, *, view_closed: bool = False) -> None:
        """Raise `CacheClosed` after `close`, or for a view that was closed by itself."""
        if self.closed or view_closed:
            what = "the cache" if self.closed else "this view"
            raise CacheClosed(f"{what} is closed: make a new one, or close it where nobody uses it any more")
        if self.sharing is not None and not self.sharing.awake:
            self.sharing.wake()
        if self.books is not None and not self.books.awake:
            self.books.wake()

    def tabs(self) -> list[Tab]:
        """Those of all bindings that there are."""
        with self._lock:
            self._count_retired()
            return [binding.tab for binding in self._bindings.values()]

    def share(self, path: Any, cache: str) -> None:
        """Share the statistics of ``cache`` in the file ``path``; ``UNSET``: in the first that a tier names;
        ``None``: not at all. Raises `ConfigError`."""
        insisted = path is not UNSET
        if not insisted:
            named = [getattr(guard.tier, "stats_file", None) for guard in self.guards]
            path = None
            if any(one is not None for one in named):  # else nobody needs pathlib, which takes its time
                from pathlib import Path

                path = next((one for one in named if isinstance(one, Path)), None)
        if path is not None:
            from tiercache._sharing import Publisher  # it brings SQLite
            from tiercache.shared_stats import StatsFile

            file = StatsFile.at(path) if insisted else StatsFile(path)
            self.sharing = Publisher(file, cache, self, insisted=insisted)

    def bind(self, path: tuple[str, ...], codec: Codec[Any] | None) -> Binding:
        """What a view of ``path`` with ``codec`` stands on; one and the same for equal views."""
        view = (path, codec)
        try:
            hash(view)
        except TypeError:
            view = (path, id(codec))  # type: ignore[assignment]  # the members keep the codec alive
        with self._lock:
            self._count_retired()
            binding = self._bindings.get(view)
            if binding is not None:
                return binding
            space = self._spaces.get(path)
            if space is None:
                space = self._spaces[path] = Space(path, self._anchors, self.domains)
            last = len(self.guards) - 1
            members = tuple(
                Member(
                    guard,
                    namespace=partial(space.namespace, depth),
                    codec=codec,
                    lowest=depth == last,
                    clock=self.clock,
                    depth=depth,
                    journal=self.journal,
                )
                for depth, guard in enumerate(self.guards)
            )
            binding = self._bindings[view] = Binding(space, members, path, self._key_counter(path))
            # Only an append: the garbage collector may come while this thread holds any lock.
            weakref.finalize(binding, self._retired.append, binding.tab).atexit = False
            return binding

    def _key_counter(self, path: tuple[str, ...]) -> KeyCounter | None:
        if self._popular is None:
            return None
        counter = self._key_counters.get(path)
        if counter is None:
            counter = self._key_counters[path] = KeyCounter(self._popular)
        return counter

    @property
    def counts_no_keys(self) -> bool:
        """Whether no namespace has counters of keys."""
        return self._popular is None

    def key_counters(self) -> list[tuple[tuple[str, ...], KeyCounter]]:
        """What counts the keys of each namespace in use."""
        if self._popular is None:
            return []
        self.settle_counts()
        with self._lock:
            return list(self._key_counters.items())

    def settle_counts(self, path: tuple[str, ...] | None = None) -> None:
        """Have the keys counted that memory has answered by itself in the namespace at ``path``; ``None``: in
        all."""
        with self._lock:
            bindings = [
                binding for binding in self._bindings.values() if path is None or binding.tab.path == path
            ]
        for binding in bindings:
            road: object = binding.members[0].fast
            if isinstance(road, SupportsKeyCounts):
                road.settle_counts()

    def _count_retired(self) -> None:
        """Count what forgotten views were answered by their fast roads."""
        while True:
            try:
                tab = self._retired.popleft()
            except IndexError:
                return
            if self.books is not None:
                self.books.retired(tab)
            for depth, road in enumerate(tab.roads):
                if road is not None and (hits := road.hit_count()):
                    self.guards[depth].add_fast_hits(hits, road.hit_samples())
                    if depth == 0:
                        with self.counters.lock:
                            self.counters.hits += hits

    def own_counters(self) -> list[dict[str, int]]:
        """What the tiers themselves have counted, from the top down."""
        return [guard.own_counters() for guard in self.guards]

    def stats(self, *, asking: bool = True) -> CacheStats:
        """A snapshot over all views. Unless ``asking``, no tier is called: it may stand still."""
        tiers: list[TierStats] = []
        fast_hits = 0  # at the top, where they are the chain's as well
        for depth, (guard, (hits, samples)) in enumerate(zip(self.guards, self._fast(), strict=True)):
            tiers.append(guard.stats(hits, samples, owed=self.journal.owed(depth), asking=asking))
            if depth == 0:
                fast_hits = hits
        counters = self.counters
        with counters.lock:
            return CacheStats(
                tiers=tuple(tiers),
                hits=counters.hits + fast_hits,
                misses=counters.misses,
                loads=counters.loads,
                load_errors=counters.load_errors,
                load_seconds=counters.load_seconds,
                stale_served=counters.stale_served,
                suppressed_writes=counters.suppressed_writes,
                coalesced=counters.coalesced,
                promotions_dropped=counters.promotions_dropped,
                refreshes_dropped=counters.refreshes_dropped,
                unstorable=counters.unstorable,
                not_admitted=counters.not_admitted,
            )

    def histograms(self) -> Histograms:
        """How long calls took, over all views. No tier is called."""
        pairs = [guard.histograms(*fast) for guard, fast in zip(self.guards, self._fast(), strict=True)]
        with self.counters.lock:
            loads = self.counters.load_latency.counts()
        return Histograms([reads.counts() for reads, _ in pairs], [one.counts() for _, one in pairs], loads)

    def _fast(self) -> list[tuple[int, list[float]]]:
        """What the fast roads of each tier have answered, and the seconds that some of these hits took."""
        with self._lock:
            self._count_retired()
            bindings = list(self._bindings.values())
        found = []
        for depth in range(len(self.guards)):
            roads = [road for binding in bindings if (road := binding.members[depth].fast) is not None]
            samples = [seconds for road in roads for seconds in road.hit_samples()]
            found.append((sum(road.hit_count() for road in roads), samples))
        return found

    async def flush(self, runtime: Runtime) -> None:
        """Wait until refresher and promoter have nothing left to do, in this order: a refresh may promote."""
        await self.refresher.flush(runtime)
        await runtime.wait(self.promoter.idle())
        if self.books is not None:
            await self.books.settle(runtime)

    async def close(self, runtime: Runtime) -> None:
        """Flush, and close every tier. Idempotent. Raises the first error of a tier, after all were
        asked."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            bindings = list(self._bindings.values())
        self.closing.close()
        for binding in bindings:
            for member in binding.members:
                if member.fast is not None:
                    member.fast.detach()
        try:
            await self.flush(runtime)
        finally:
            # Also if the flush was cancelled or interrupted: nobody can close the tiers later.
            failure = await self._close_tiers(runtime)
        if self.books is not None:
            self.books.leave()
        if self.sharing is not None:
            await _ended(runtime, self.sharing)
        if failure is not None:
            raise failure

    async def _close_tiers(self, runtime: Runtime) -> Exception | None:
        failure: Exception | None = None
        interruption: BaseException | None = None
        keep_owing(self._anchors, [guard.tier for guard in self.guards])
        for guard in self.guards:
            guard.closed = True
        for guard in self.guards:
            ports = [runtime.port(guard.tier, guard.lane)]
            if not runtime.blocking and isinstance(guard.tier, Tier) and hasattr(guard.tier, "aclose"):
                ports.append(BLOCKING.port(guard.tier))  # the connections of its other half
            for port in ports:
                try:
                    await port.close()
                except GeneratorExit:  # its event loop is no more, and nothing can be awaited
                    raise
                except Exception as error:  # noqa: BLE001 - the other tiers are still to be closed
                    failure = failure or error
                except BaseException as error:  # noqa: BLE001 - raised below; nobody can close the others later
                    interruption = interruption or error
        if interruption is not None:
            raise interruption
        return failure


async def _ended(runtime: Runtime, sharing: Publisher) -> None:
    if runtime.blocking:
        sharing.end()
        return
    with suppress(RuntimeError):  # no more threads; it is tried again at the interpreter's exit
        await runtime.wait(in_thread(sharing.end))


def _names(tiers: Sequence[Any]) -> list[str]:
    """A name for each tier: its own or its type's, numbered from the second on when there are several."""
    names: list[str] = []
    if len({id(tier) for tier in tiers}) < len(tiers):
        raise ConfigError("tiers: the same tier stands there twice")
    for tier in tiers:
        if isinstance(tier, type) or not isinstance(tier, Tier | AsyncTier):
            from tiercache._masking import mask  # it imports more than this needs to

            raise ConfigError(
                f"tiers: {mask(repr(tier)):.60} is no tier; a tier has mget, mset, mdelete and close "
                f"(or amget, amset, amdelete and aclose)"
            )
        own = getattr(tier, "name", None)
        base = own if isinstance(own, str) and own else type(tier).__name__.lower().removesuffix("tier")
        base = base or "tier"
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names
