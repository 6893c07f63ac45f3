"""Out of an archive into a cache: batch by batch, and never an older entry over a newer one.

What the target has already it keeps, so that an interrupted import goes on where it was when it is started
again, also through a pipe, and without a word about it in any file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any, BinaryIO, Final, Literal

from tiercache._chain.batch import Batch, decoded
from tiercache._chain.core import Core
from tiercache._running.bridge import BLOCKING, drive
from tiercache._words import entries
from tiercache.archive._asking import answer
from tiercache.archive._cold import Cold, Verbatim, is_read, wants_objects
from tiercache.archive._format import Header, Item, Page, Reader
from tiercache.archive._listing import core_of
from tiercache.archive._pieces import BYTES, Pieces
from tiercache.chain import TieredCache
from tiercache.entry import Entry
from tiercache.errors import ArchiveError, ConfigError, WriteError
from tiercache.protocols import Codec
from tiercache.registry import codec as codec_of
from tiercache.registry import codec_names
from tiercache.stats import TierStats

__all__ = ["ImportReport", "import_archive"]

#: What is in memory at a time.
_ENTRIES: Final = 500
_CORES: Final = 256  # there may be a namespace for each of a million users

Group = dict[str, Entry[bytes]]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    ``read``
        entries read from the archive; each is one of those that follow.
    ``stored``
        entries that are now in the target, down to its lowest tier.
    ``already_there``
        those that the target had, or had something newer of.
    ``expired``
        those past their time.
    ``skipped``
        how many of the others are not there, by the reason.
    ``unmatched``
        how many of those that are there (or something newer) are misses for reads, since their namespace in
        the target has another codec, or a chain inside that takes them has; as far as ``cache`` and
        ``views`` tell that. By what differs.
    ``evicted``
        entries that the target's lowest tier dropped meanwhile: it is too small for all of them.
    ``failed``
        the tiers above the lowest that did not take all: they were ill, or something is larger than all of
        their room. What they lack they are given when it is read.
    """

    read: int
    stored: int
    already_there: int
    expired: int
    skipped: dict[str, int]
    unmatched: dict[str, int]
    evicted: int
    failed: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Everything as dicts and numbers, ready for JSON."""
        return asdict(self)


def import_archive(
    source: str | os.PathLike[str] | BinaryIO,
    cache: TieredCache[Any],
    *,
    views: Mapping[str, TieredCache[Any]] | None = None,
    expiry: Literal["absolute", "remaining"] = "absolute",
    replace: bool = False,
    progress: Callable[[int], object] = lambda _count: None,
) -> ImportReport:
    """Store the entries of the archive ``source``, a path or a binary stream (read to its end, and left
    open), in ``cache``: in its namespace, and in those nested in it, whose names they had.

    ``views``
        whose codecs are told from those of the entries, besides that of ``cache``; and, where some tier keeps
        objects, to decode values with, in other nested namespaces too, besides those that a configuration can
        name.
    ``expiry``
        ``"absolute"``: an entry expires when it would have; ``"remaining"``: it lives on for as long as it
        had when the archive was made.
    ``replace``
        store what is older than what the target has, too.
    ``progress``
        called with how many more entries were read.

    Entries go into every tier below memory as they are, under the caps of these tiers; what memory has of
    their keys is dropped, unless it is the lowest. They keep when they were created, unless their key was
    deleted since: then the target's journal would take them for late writes, and they count as of now.
    Between the look at what the target has, in each tier, and the write, a write of another process is
    overwritten.

    Raises `ArchiveError` for an archive that is damaged or cut short: what is before that place is stored
    then, and ``.report`` of the error tells what became of it. Raises `WriteError` where the target's lowest
    tier takes nothing more, and `TierError` for a tier that cannot be read: what was stored stays, and
    another run goes on from there.
    """
    if expiry not in ("absolute", "remaining"):
        raise ConfigError(f'expiry: {expiry!r} is unknown; it is "absolute" or "remaining"')
    run = _Import(cache, views, remaining=expiry == "remaining", replace=replace, progress=progress)
    with _opened(source) as stream:
        reader = Reader(stream)
        try:
            for record in reader:
                if isinstance(record, Item):
                    run.add(record)
                elif isinstance(record, Page | Header):
                    run.read_at(record.at if isinstance(record, Page) else record.created_at)
        except ArchiveError as error:
            run.flush()
            report = error.report = run.report()
            said = f"{entries(report.stored)}, and {report.already_there:,} already there"
            error.args = (f"{error}; imported before that: {said}",)
            raise
        run.flush()
    return run.report()


@contextmanager
def _opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as stream:  # noqa: PTH123 - a str may be a path too
            yield stream
    else:
        yield source


class _Import:
    """One run: gathers entries and stores them in batches."""

    def __init__(
        self,
        cache: TieredCache[Any],
        views: Mapping[str, TieredCache[Any]] | None,
        *,
        remaining: bool,
        replace: bool,
        progress: Callable[[int], object],
    ) -> None:
        self._start = perf_counter()
        self._cache = cache
        self._root = core_of(cache)
        self._stack = self._root.stack
        self._pieces = Pieces()
        self._clock = self._stack.clock
        self._remaining = remaining
        self._replace = replace
        self._progress = progress
        self._shift = 0.0
        self._groups: dict[tuple[tuple[str, ...], str], Group] = {}
        self._waiting = self._bytes = 0
        self._read = self._stored = self._already_there = self._expired = 0
        self._skipped: dict[str, int] = {}
        self._unmatched: dict[str, int] = {}
        self._names = [member.guard.name for member in self._root.members]
        self._failed: set[str] = set()
        self._evicted = self._stack.stats().tiers[-1].evictions
        #: Whether some tier wants the objects that the bytes stand for.
        self._decodes = wants_objects(self._root)
        cores = [self._root, *map(core_of, (views or {}).values())]
        self._codecs = {core.path: core.codec for core in cores}
        self._known = cores
        self._cores: dict[tuple[tuple[str, ...], str], Sequence[Core]] = {}

    def report(self) -> ImportReport:
        return ImportReport(
            self._read,
            self._stored,
            self._already_there,
            self._expired,
            _most_first(self._skipped),
            _most_first(self._unmatched),
            self._stack.stats().tiers[-1].evictions - self._evicted,
            tuple(name for name in self._names if name in self._failed),
            perf_counter() - self._start,
        )

    def read_at(self, seconds: float) -> None:
        """The entries that follow were read at that time."""
        if self._remaining:
            self._shift = self._clock.time() - seconds

    def add(self, item: Item) -> None:
        """Take one entry, and store what was taken when there is enough of it."""
        self._read += 1
        self._waiting += 1
        entry = item.entry
        if self._shift:
            entry = replace(
                entry,
                expires_at=None if entry.expires_at is None else entry.expires_at + self._shift,
                fresh_until=None if entry.fresh_until is None else entry.fresh_until + self._shift,
            )
        if entry.expires_at is not None and not entry.expires_at > self._clock.time():
            self._expired += 1
        else:
            group = self._groups.setdefault((item.path, entry.codec), {})
            earlier = group.get(item.key)
            self._already_there += earlier is not None  # a server's listing may name a key twice
            if earlier is None or self._replace or _is_newer(entry, earlier):
                group[item.key] = entry
            self._bytes += len(entry.value)
        if self._waiting >= _ENTRIES or self._bytes >= BYTES:
            self.flush()

    def flush(self) -> None:
        """Store what was taken."""
        groups, self._groups = self._groups, {}
        waiting, self._waiting, self._bytes = self._waiting, 0, 0
        for (path, codec), group in groups.items():
            cores = self._cores_of(path, codec)
            if not cores:
                self._skip(f"the codec {codec!r} is not known here", len(group))
            else:
                self._compare(path, codec, group, cores)
                self._store(cores, self._missing(cores[0], group))
        self._progress(waiting)

    def _skip(self, reason: str, count: int) -> None:
        if count:
            self._skipped[reason] = self._skipped.get(reason, 0) + count

    def _compare(self, path: tuple[str, ...], name: str, group: Group, cores: Sequence[Core]) -> None:
        """Note whether no read that is known of the namespace at ``path`` finds ``group``, of the codec that
        ``name`` says. They are stored all the same: a program may have given its codec to some calls alone,
        or be about to."""
        full = (*self._root.path, *path)
        known = [core for core in self._known if core.path == full]
        sample = _sample(group, cores) if known and self._decodes else None
        if not known or any(is_read(core, name, sample) for core in known):
            return
        names = dict.fromkeys("bytes" if core.codec is None else core.codec.name for core in known)
        place = f"the namespace {'/'.join(path)!r} in it" if path else "the cache"
        what = f"of the codec {name!r}, and {place} has {' and '.join(map(repr, names))}"
        if name in names:
            what += ", but keeps it in a chain with another codec alone"
        self._unmatched[what] = self._unmatched.get(what, 0) + len(group)

    def _missing(self, core: Core, group: Group) -> Group:
        """Those of ``group`` that the lowest tier does not have, or has something older of; and of which no
        tier above it has something newer, since it was evicted below, or never taken there."""
        if self._replace:
            return group
        left = group
        for member in reversed(core.members):
            is_wanted = _is_newer if member is core.members[-1] else _is_no_older
            old: set[str] = set()
            for piece in self._pieces.of([member], list(left)):
                held = answer(member, core.stored(BLOCKING, member, piece, raw=True))
                old.update(key for key, entry in held.items() if not is_wanted(left[key], entry))
            left = {key: entry for key, entry in left.items() if key not in old}
        self._already_there += len(group) - len(left)
        return left

    # -- where it goes -----------------------------------------------------------------------------

    def _cores_of(self, path: tuple[str, ...], name: str) -> Sequence[Core]:
        """What writes entries of the codec called ``name`` into the nested namespace at ``path``: one for
        each codec that may have made them, the likeliest first; none if some tier wants the objects, and
        nobody knows that codec."""
        place = path, name
        if len(self._cores) > _CORES:
            self._cores.clear()
        if place not in self._cores:
            full = (*self._root.path, *path)
            codecs: list[Codec[Any] | None] = [Verbatim(name)]
            if name == "bytes":
                codecs = [None]
            elif self._decodes:
                codecs = self._codecs_called(name, full)
            self._cores[place] = [Cold(self._stack, full, codec) for codec in codecs]
        return self._cores[place]

    def _codecs_called(self, name: str, path: tuple[str, ...]) -> list[Codec[Any] | None]:
        """The namespace's own, the cache's, and those of views, since a namespace that nobody named most
        likely shares its options and keys with one of these; at last one with no options at all."""
        known = [self._codecs.get(path), *self._codecs.values()]
        called = {id(codec): codec for codec in known if codec is not None and codec.name == name}
        return [*called.values(), *([codec_of(name)] if name in codec_names() else [])]

    def _store(self, cores: Sequence[Core], group: Group) -> None:
        """Store ``group``. Raises `WriteError` if the lowest tier, which has to keep it, takes no writes."""
        group = self._dated(cores[0], group)
        for core in cores:
            if not self._decodes or core.codec is None:
                self._write(core, Batch(group, core.codec, group))
                return
            objects, _, _ = decoded(group, core.codec)
            self._write(core, Batch(objects, core.codec, {key: group[key] for key in objects}))
            group = {key: entry for key, entry in group.items() if key not in objects}
        for entry in group.values():
            self._skip(f"its codec {entry.codec!r} cannot read it", 1)

    def _write(self, core: Core, batch: Batch) -> None:
        if not batch.objects:
            return
        refused = 0
        if not self._taken(core, batch):
            for key in batch.objects:  # a tier does not tell which ones it took
                rejected = self._lowest.rejected
                if self._taken(core, batch.only([key])):
                    continue
                if self._lowest.rejected == rejected:
                    raise WriteError(
                        f"the tier {self._lowest.name!r} takes no writes, so the import ends here; what was "
                        f"imported stays: run it again when the tier is well"
                    )
                refused += 1
        self._skip(f"larger than the whole tier {self._lowest.name!r}", refused)
        self._stored += len(batch) - refused

    @property
    def _lowest(self) -> TierStats:
        return self._stack.stats().tiers[-1]

    def _taken(self, core: Core, batch: Batch) -> bool:
        try:
            result = drive(core.write(BLOCKING, batch))
        except WriteError:
            return False
        self._failed.update(name for name in result.failed if name != self._names[-1])
        return self._names[-1] not in result.failed

    def _dated(self, core: Core, group: Group) -> Group:
        """``group`` with those of now that would be older than what the target remembers of their keys."""
        deleted = drive(core.fences(BLOCKING, list(group))).deleted
        old: set[str] = set()
        for member in core.members:
            arrears = member.guard.arrears
            if deleted or arrears.debts:
                names = dict(zip(member.fold_all(list(group)), group, strict=True))
                folded = {name: group[key] for name, key in names.items()}
                late = {*arrears.too_old(folded, ()), *_before(folded, deleted)}
                old.update(names[name] for name in late)
        if not old:
            return group
        now = self._clock.time()
        return {key: replace(entry, created_at=now) if key in old else entry for key, entry in group.items()}


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _sample(group: Group, cores: Sequence[Core]) -> Entry[Any] | None:
    """One of ``group`` with the value of its bytes; ``None`` if none of ``cores`` can read any."""
    for key, entry in group.items():
        for core in cores:
            if core.codec is None:
                return entry
            objects, _, _ = decoded({key: entry}, core.codec)
            if objects:
                return objects[key]
    return None


def _is_newer(entry: Entry[bytes], held: Entry[bytes]) -> bool:
    if entry.created_at is None or held.created_at is None:
        return entry.value != held.value or entry.expires_at != held.expires_at
    return entry.created_at > held.created_at


def _is_no_older(entry: Entry[bytes], held: Entry[Any]) -> bool:
    """A copy of ``entry`` in an upper tier alone is no reason to leave it out of those below."""
    return entry.created_at is None or held.created_at is None or entry.created_at >= held.created_at


def _before(folded: Mapping[str, Entry[bytes]], deleted: Mapping[str, float]) -> Iterator[str]:
    for name in folded.keys() & deleted.keys():
        written = folded[name].created_at
        if written is not None and written < deleted[name]:
            yield name
