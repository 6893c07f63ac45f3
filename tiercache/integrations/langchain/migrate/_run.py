"""The one loop of every migration: page by page, skipping what the target has, so that it can be resumed.

A source lists its keys in pages and reads the values of some of them; a target says where a key goes, what it
has already, and what it makes of a value. Neither is ever held in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from tiercache._chain.arguments import check_batch_size
from tiercache.chain import TieredCache, WriteResult
from tiercache.errors import ConfigError, WriteError
from tiercache.integrations.langchain.migrate._progress import progress_of
from tiercache.integrations.langchain.migrate._report import MigrationReport, Tally

__all__ = ["Page", "Source", "Target", "Unfit", "migrate"]

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)


class Unfit(Exception):
    """A key or value that is not migrated; its message is the reason, the same one for all of its kind."""


@dataclass(frozen=True, slots=True)
class Page(Generic[K]):
    """Keys of a source, without duplicates; and keys that are none, each with the reason."""

    keys: Sequence[K]
    unfit: Sequence[tuple[str, str]] = field(default=())


class Source(AbstractContextManager[Any], Protocol[K, R]):
    """Where entries come from. Nothing of it is ever changed. Leaving it closes what it opened."""

    name: str

    def total(self) -> int | None:
        """About how many keys there are, where that is cheap to tell."""
        ...

    def pages(self, size: int) -> Iterator[Page[K]]:
        """All keys, about ``size`` at a time."""
        ...

    def read(self, keys: Sequence[K]) -> dict[K, R | Unfit]:
        """What lies under ``keys``; those that are gone by now are left out."""
        ...

    def label(self, key: K) -> str:
        """What to call ``key`` in a report."""
        ...


class Target(Protocol[K_contra, R_contra]):
    """Where entries go."""

    cache: TieredCache[Any]

    def place(self, key: K_contra) -> str:
        """The target's own key for a source's. Raises `Unfit`."""
        ...

    def held(self, places: Sequence[str]) -> set[str]:
        """Those of ``places`` that are taken."""
        ...

    def learn(self, read: Callable[[], Sequence[R_contra]]) -> None:
        """Look, where that is of use, at what the source has under some keys that are held."""
        ...

    def values(self, raws: Mapping[str, R_contra]) -> dict[str, Any]:
        """What is to be stored under each place, or why not, as an `Unfit`."""
        ...

    def store(self, values: Mapping[str, Any]) -> WriteResult:
        """Store ``values``. Raises `WriteError`."""
        ...


#: How many of the entries that are held a target may look at.
_SAMPLE = 16


def migrate(
    source: Source[K, R], target: Target[K, R], *, batch_size: int, progress: bool
) -> MigrationReport:
    """Copy what ``target`` does not have from ``source``.

    Raises `WriteError` where the target's lowest tier takes nothing more: what was copied stays, and another
    run goes on from there.
    """
    check_batch_size(batch_size)
    if batch_size is None:
        raise ConfigError("batch_size: None is not allowed; it must be a whole number above zero")
    start = perf_counter()
    tally = Tally()
    evicted = target.cache.stats().tiers[-1].evictions
    with source, progress_of(source.name, source.total() if progress else None, shown=progress) as advance:
        for page in source.pages(batch_size):
            tally.skip_all(page.unfit)
            _copy(source, target, page.keys, tally)
            advance(len(page.keys) + len(page.unfit))
    return tally.report(
        source.name,
        evicted=target.cache.stats().tiers[-1].evictions - evicted,
        seconds=perf_counter() - start,
    )


def _copy(source: Source[K, R], target: Target[K, R], keys: Sequence[K], tally: Tally) -> None:
    places: dict[str, K] = {}
    for key in keys:
        try:
            place = target.place(key)
        except Unfit as unfit:
            tally.skip(str(unfit), source.label(key))
            continue
        if places.setdefault(place, key) is not key:
            tally.already_there += 1  # two keys of the source are one of the target's
    held = target.held(list(places)) if places else set()
    tally.already_there += len(held)
    if held:
        sample = [places[place] for place in list(held)[:_SAMPLE]]
        target.learn(lambda: [raw for raw in source.read(sample).values() if not isinstance(raw, Unfit)])
    missing = {place: key for place, key in places.items() if place not in held}
    read = source.read(list(missing.values())) if missing else {}
    raws: dict[str, R] = {}
    for place, key in missing.items():
        raw = read.get(key, Unfit("gone meanwhile"))
        if isinstance(raw, Unfit):
            tally.skip(str(raw), source.label(key))
        else:
            raws[place] = raw
    values = target.values(raws)
    for place, value in values.items():
        if isinstance(value, Unfit):
            tally.skip(str(value), source.label(missing[place]))
    fit = {place: value for place, value in values.items() if not isinstance(value, Unfit)}
    if fit:
        for place, refusal in _store(target, fit).items():
            tally.skip(str(refusal), source.label(missing[place]))
            del fit[place]
        tally.copied += len(fit)


def _store(target: Target[Any, Any], values: Mapping[str, Any]) -> dict[str, Unfit]:
    """Store ``values``; which of them the lowest tier, which has to keep them, did not take, and why.

    Raises `WriteError` if it did not take one that it should have.
    """
    if _taken(target, values):
        return {}
    refused: dict[str, Unfit] = {}
    for place, value in values.items():  # a tier does not tell which ones it took
        rejected = target.cache.stats().tiers[-1].rejected
        if _taken(target, {place: value}):
            continue
        lowest = target.cache.stats().tiers[-1]
        if lowest.rejected == rejected:
            raise WriteError(
                f"the tier {lowest.name!r} takes no writes, so the migration ends here; what was copied "
                f"stays: run it again when the tier is well"
            )
        refused[place] = Unfit(f"larger than the whole tier {lowest.name!r}")
    return refused


def _taken(target: Target[Any, Any], values: Mapping[str, Any]) -> bool:
    try:
        result = target.store(values)
    except WriteError:
        return False
    return target.cache.stats().tiers[-1].name not in result.failed
