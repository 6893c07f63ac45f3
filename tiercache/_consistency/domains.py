"""Domains: chains of one process that share a tier share their epochs, and end each other's flights.

A delete through one chain has to keep the promotions and loads of another from putting the old value back
into the tier that both write to (or into the memory above it). So both must note their writes in the same
`Epochs`. A *domain* is what such chains share; chains without a tier in common wait for nobody.

Tiers are the same when they are one object, or say that they hold the same entries by an equal
``location`` (`SupportsLocation`): two tier objects over one directory, table or server. The tiers of a
chain inside a chain count as the outer one's too.

A chain that links tiers of several domains belongs to all of them, and takes their epochs one after
the other (`JointEpochs`). Rejected: merging the domains, while operations of both are going on.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from itertools import count
from operator import attrgetter
from typing import Any
from weakref import WeakValueDictionary

from tiercache._consistency.epochs import Epochs
from tiercache._consistency.flights import Flights
from tiercache._consistency.operations import Operation, holding
from tiercache._guard.arrears import Arrears
from tiercache._running.bridge import Runtime
from tiercache._running.owners import Owner, thrown
from tiercache.forks import reset_after_fork
from tiercache.keys import Namespace

__all__ = ["Anchor", "Domain", "Shared", "Space", "join", "keep_owing"]


class Shared:
    """One namespace of a domain: the epochs, and the flights of every chain in it."""

    def __init__(self) -> None:
        self.epochs = Epochs()
        #: Weak, and looked at by every write: a `WeakSet` takes ten times as long to go through.
        self.flights: tuple[weakref.ref[Flights], ...] = ()

    def add(self, flights: Flights) -> None:
        """The flights of one more chain."""
        living = [ref for ref in self.flights if ref() is not None]
        self.flights = (*living, weakref.ref(flights))


class Domain:
    """What chains with a tier in common share. ``rank`` puts all domains into one order."""

    _ranks = count()

    def __init__(self) -> None:
        self.rank = next(self._ranks)
        self._spaces: WeakValueDictionary[tuple[str, ...], Shared] = WeakValueDictionary()

    def shared(self, path: tuple[str, ...]) -> Shared:
        """The shared state of the namespace at ``path``; alive as long as somebody has it."""
        with _registry.lock:
            shared = self._spaces.get(path)
            if shared is None:
                shared = self._spaces[path] = Shared()
            return shared


class Anchor:
    """One tier of this process, whoever uses it: its domain, the namespaces in it that a `clear` could only
    leave behind (see `Namespace.generation`), and what it has yet to hear of."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.moved: dict[tuple[str, ...], Namespace] = {}
        self.arrears = Arrears()


class _Registry:
    def __init__(self) -> None:
        self.anchors: WeakValueDictionary[Hashable, Anchor] = WeakValueDictionary()
        #: Those with something left behind in them: the next chain over the tier must not find it again.
        self.kept: set[Anchor] = set()
        self.pinned: list[Any] = []
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        # Re-entrant: the garbage collector may run somebody's destructor inside, which uses a cache.
        self.lock = threading.RLock()

    def keep(self, anchor: Anchor, tier: Any) -> None:
        """Keep ``anchor`` as long as there is ``tier``; where it names its place, as long as the process."""
        if anchor in self.kept:
            return
        self.kept.add(anchor)
        place = _place(tier)
        if not _is_itself(place):
            return
        try:
            weakref.finalize(place, self.kept.discard, anchor).atexit = False
        except TypeError:  # no weak references: it stays for good, or another object would be taken for it
            self.pinned.append(place)


_registry = _Registry()


def keep_owing(anchors: Sequence[Anchor], tiers: Sequence[Any]) -> None:
    """Keep those of ``anchors`` whose tiers owe something, for the next chain over them."""
    with _registry.lock:
        for anchor, tier in zip(anchors, tiers, strict=True):
            if anchor.arrears.debts:
                _registry.keep(anchor, tier)


def join(tiers: Sequence[Any]) -> tuple[list[Anchor], tuple[Domain, ...]]:
    """The anchor of each of ``tiers``, and the domains of a chain of them, in the order in which to take
    their epochs. The domains live as long as the caller keeps the anchors and the tiers."""
    with _registry.lock:
        places = [_location(tier) for tier in tiers]
        known = [anchor for place in places if (anchor := _registry.anchors.get(place)) is not None]
        found = {anchor.domain for anchor in known}
        found.update(domain for tier in tiers for domain in getattr(tier, "domains", ()))
        domains = sorted(found or {Domain()}, key=attrgetter("rank"))
        anchors = [_registry.anchors.setdefault(place, Anchor(domains[0])) for place in places]
        return anchors, tuple(domains)


def _place(tier: Any) -> Any:
    """Where ``tier`` says that its entries are; if it does not, it is a place of its own."""
    place = getattr(tier, "location", None)
    try:
        hash(place)
    except TypeError:
        place = None
    return tier if place is None else place


def _is_itself(place: Any) -> bool:
    """Whether ``place`` equals nothing but itself, as objects do that do not say otherwise."""
    kind: Any = type(place)
    return kind.__hash__ is object.__hash__


def _location(tier: Any) -> Hashable:
    place = _place(tier)
    # By its id and not itself, which the key of the dictionary would keep alive. While there is an anchor,
    # there is that object: its chain holds it, or `_Registry.keep` sees to it.
    return ("object", id(place)) if _is_itself(place) else place


class Space:
    """One namespace of one chain: its epochs, its flights, and each tier's name for it."""

    def __init__(self, path: tuple[str, ...], anchors: Sequence[Anchor], domains: Iterable[Domain]) -> None:
        #: What it shares with other chains, of each domain.
        self.shared = tuple(domain.shared(path) for domain in domains)
        epochs = [shared.epochs for shared in self.shared]
        #: Of several domains it is a stand-in with the same methods.
        self.epochs: Epochs = epochs[0] if len(epochs) == 1 else JointEpochs(epochs)
        self.flights = Flights()
        for shared in self.shared:
            with _registry.lock:
                shared.add(self.flights)
        self._anchors = anchors
        self._plain = Namespace(path)

    def namespace(self, depth: int) -> Namespace:
        """The namespace as the tier at ``depth`` knows it just now."""
        moved = self._anchors[depth].moved
        return moved.get(self._plain.path, self._plain) if moved else self._plain

    def leave_behind(self, depth: int, tier: Any, generation: int) -> None:
        """Put all entries of ``tier``, at ``depth``, out of reach for every chain of this process. The number
        of the new generation is at least ``generation``."""
        now = self.namespace(depth)
        self._anchors[depth].moved[now.path] = now.next_generation(max(generation, now.generation + 1))
        _registry.keep(self._anchors[depth], tier)

    def detach(self, keys: Collection[str] | None = None) -> None:
        """``keys`` (``None``: all) were written: what loads of them in any chain of the domains began, or
        left behind, is out of date."""
        for shared in self.shared:
            for ref in shared.flights:
                flights = ref()
                if flights is not None and flights.affected:
                    flights.detach(keys)


class JointEpochs(Epochs):
    """The epochs of several domains as one. Tickets and operations are made of one for each."""

    def __init__(self, parts: Sequence[Epochs]) -> None:
        self._parts = tuple(parts)  # all the state there is: every method is its own

    def open_ticket(self) -> Any:
        return tuple(part.open_ticket() for part in self._parts)

    def share_ticket(self, ticket: Any) -> Any:
        return tuple(part.share_ticket(one) for part, one in zip(self._parts, ticket, strict=True))

    def close_ticket(self, ticket: Any) -> None:
        for part, one in zip(self._parts, ticket, strict=True):
            part.close_ticket(one)

    def changed(self, ticket: Any, keys: Iterable[str]) -> list[str]:
        keys = list(keys)
        changed: set[str] = set()
        for part, one in zip(self._parts, ticket, strict=True):
            changed.update(part.changed(one, keys))
        return [key for key in keys if key in changed]

    def certain(self, keys: Sequence[str]) -> Sequence[str]:
        for part in self._parts:
            keys = part.certain(keys)
        return keys

    def begin_fill(
        self, ticket: Any, keys: Iterable[str], runtime: Runtime, owner: Owner | None = None
    ) -> Operation:
        fills = []
        for part, one in zip(self._parts, ticket, strict=True):
            fills.append(part.begin_fill(one, keys, runtime, owner))
            keys = fills[-1].keys
        return _Joint(fills, fills[-1].keys)

    def end_fill(self, fill: Operation, *, stored: bool = False) -> None:
        for part, one in zip(self._parts, fill.parts, strict=True):
            part.end_fill(one, stored=stored)

    def at_once(self, key: str, write: Callable[[Any], bool], given: Any) -> bool:  # noqa: ARG002 - see below
        return False  # a chain of one tier is in one domain

    def fill_at_once(self, *_given: Any, **_options: Any) -> bool:
        return False  # one of several domains is noted in each

    async def begin_write(
        self, keys: Collection[str], runtime: Runtime, owner: Owner | None = None
    ) -> Operation:
        begun: list[Operation] = []
        try:
            for part in self._parts:
                with holding(*begun):  # so that others see what waits for what
                    begun.append(await part.begin_write(keys, runtime, owner))
        except BaseException as error:  # cancelled, interrupted or thrown away while it waited
            thrown(error)
            for part, one in zip(self._parts, begun, strict=False):
                part.end_write(one)
            raise
        return _Joint(begun, set().union(*(one.keys for one in begun)))

    def end_write(self, write: Operation) -> None:
        for part, one in zip(self._parts, write.parts, strict=True):
            part.end_write(one)

    def give_up(self, write: Operation) -> None:
        for part, one in zip(self._parts, write.parts, strict=True):
            part.give_up(one)

    def throw_away(self, operation: Operation) -> None:
        for part, one in zip(self._parts, operation.parts, strict=True):
            part.throw_away(one)

    async def begin_clear(self, runtime: Runtime, owner: Owner | None = None) -> Operation:
        begun: list[Operation] = []
        try:
            for part in self._parts:
                with holding(*begun):
                    begun.append(await part.begin_clear(runtime, owner))
        except BaseException as error:
            thrown(error)
            for part, one in zip(self._parts, begun, strict=False):
                part.end_clear(one)
            raise
        return _Joint(begun, ())

    def end_clear(self, clear: Operation) -> None:
        for part, one in zip(self._parts, clear.parts, strict=True):
            part.end_clear(one)

    async def begin_purge(self, until: float, runtime: Runtime, owner: Owner | None = None) -> Operation:
        begun: list[Operation] = []
        try:
            for part in self._parts:
                with holding(*begun):
                    begun.append(await part.begin_purge(until, runtime, owner))
        except BaseException as error:
            thrown(error)
            for part, one in zip(self._parts, begun, strict=False):
                part.end_purge(one)
            raise
        return _Joint(begun, ())

    def end_purge(self, purge: Operation) -> None:
        for part, one in zip(self._parts, purge.parts, strict=True):
            part.end_purge(one)

    def purged_until(self, ticket: Any) -> float:
        return max(part.purged_until(one) for part, one in zip(self._parts, ticket, strict=True))


class _Joint(Operation):
    """One operation in several domains."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Operation], keys: Collection[str]) -> None:
        self._parts = tuple(parts)
        self.keys = keys

    @property
    def parts(self) -> tuple[Operation, ...]:
        return self._parts

    @property
    def thrown_away(self) -> bool:  # type: ignore[override]  # as below
        return any(part.thrown_away for part in self._parts)

    @property
    def superseded(self) -> set[str]:  # type: ignore[override]  # read alone: each domain notes its own
        return set().union(*(part.superseded for part in self._parts))
