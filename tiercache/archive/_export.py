"""Out of a cache into an archive: page by page, raising rather than leaving something out in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import replace as replaced
from time import perf_counter
from typing import Any, BinaryIO, Final

import tiercache
from tiercache._chain.batch import at_longest
from tiercache._chain.core import Core
from tiercache._chain.member import Member
from tiercache._running.bridge import BLOCKING
from tiercache._words import entries
from tiercache.archive._asking import answer
from tiercache.archive._format import End, Header, Item, Page, Reader, Writer
from tiercache.archive._listing import Listing, core_of, listing_members, packed, unpacked
from tiercache.archive._pieces import Pieces
from tiercache.archive._streams import Target, opened
from tiercache.chain import TieredCache
from tiercache.entry import Entry
from tiercache.errors import ArchiveError, ConfigError, TierError

__all__ = ["UNOPENED", "ExportReport", "export_archive"]

#: Why a tier cannot open an entry.
UNOPENED: Final = "damaged, or of another secret or a newer version"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    ``tier``
        the name of the tier that it is a copy of, or those of several, from the lowest up, with commas.
    ``entries``
        how many are in the archive; ``resumed`` of them from before it was interrupted.
    ``unread``
        keys that were listed and had no entry when they were read: expired or deleted meanwhile, or, in a
        tier that keeps objects, of a codec that this cache (and its views) does not have.
    ``unreadable``
        entries of a tier that it could not open: damaged, of another secret, or of a newer version. They are
        not in the archive.
    """

    tier: str
    entries: int
    resumed: int
    unread: int
    unreadable: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Everything as texts and numbers, ready for JSON."""
        return asdict(self)


def export_archive(
    cache: TieredCache[Any],
    target: Target,
    *,
    tier: str | None = None,
    views: Mapping[str, TieredCache[Any]] | None = None,
    resume: bool = False,
    replace: bool = False,
    progress: Callable[[int], object] = lambda _count: None,
) -> ExportReport:
    """Write the live entries of ``cache``, and of all namespaces nested in its own, to ``target``: a path,
    or a binary stream (which is left open).

    ``tier``
        the name of the tier to copy; ``None``: all that can list their keys, each entry from the lowest that
        holds it. Upper tiers have what the lower ones did not take. Where the lowest cannot list its keys,
        one is to be named.
    ``views``
        of a tier that keeps objects: which views to copy besides ``cache``, with their codecs.
    ``resume``
        go on with an export to that path which was interrupted; what was written after the last page is
        written anew. Where there is none yet, begin one. A Redis server must not have been restarted
        since: where its listing was is lost then.
    ``replace``
        put the archive in the place of a file that is there, when it is whole: what ends early, or could not
        open all entries, leaves the old one, and nothing to go on with.
    ``progress``
        called with how many more entries were written, page by page: the sum is what ``resume`` keeps.

    An entry that is written, or expires, while this runs is in it or is not; one that is there throughout
    is. A new file is private (0600), and one export at a time writes to a path, where its file system has
    locks. Raises `ConfigError` for wrong arguments and for a file that is there, `TierError` for a tier that
    fails, and for entries that cannot be opened where a file was to be replaced, and `ArchiveError` for a
    file that is of something else, and for one that another export has.
    """
    start = perf_counter()
    before = _unopened(cache)
    core = core_of(cache)
    members = listing_members(core, tier)
    cores = {one.path: one for one in (core, *map(core_of, (views or {}).values()))}
    names = ", ".join(member.guard.name for member in members)
    header = Header(core.stack.clock.time(), names, core.path, tiercache.__version__)
    with opened(target, resume=resume, replace=replace) as (stream, old):
        done = _continued(stream, header) if old else None
        if done is None:
            writer, cursor, resumed = Writer(stream), None, 0
            writer.header(header)
        elif done.whole:
            return ExportReport(names, done.entries, done.entries, 0, 0, perf_counter() - start)
        else:
            writer, cursor, resumed = Writer(stream, checksum=done.checksum), done.cursor, done.entries
        began = header.created_at if done is None else done.began
        export = _Export(cores, core, members, single=tier is not None, began=began, progress=progress)
        progress(resumed)
        export.run(writer, cursor)
        # The tiers count more than that: what another of them could open, and what others read meanwhile.
        unreadable = min(export.unread, _unopened(cache) - before)
        if unreadable and replace:
            raise TierError(f"{entries(unreadable)} cannot be opened: {UNOPENED}", tier=names)
        writer.end(resumed + export.entries)
    seconds = perf_counter() - start
    return ExportReport(names, resumed + export.entries, resumed, export.unread, unreadable, seconds)


def _unopened(cache: TieredCache[Any]) -> int:
    """How many entries the tiers could not open until now."""
    return sum(tier.corrupt + tier.foreign for tier in cache.stats().tiers)


class _Export:
    """One run."""

    def __init__(
        self,
        cores: dict[tuple[str, ...], Core],
        root: Core,
        members: Sequence[Member],
        *,
        single: bool,
        began: float,
        progress: Callable[[int], object],
    ) -> None:
        self.entries = 0
        self.unread = 0
        self._cores = cores
        self._root = root
        self._single = single
        self._began = began
        self._progress = progress
        self._listing = Listing(list(cores.values()), members, began)
        self._pieces = Pieces()

    def run(self, writer: Writer, cursor: Any) -> None:
        before = 0
        for place, depth, groups in self._listing.pages(cursor):
            writer.page(Page(self._root.stack.clock.time(), packed(place)))
            self._progress(self.entries - before)
            before = self.entries
            for path, keys in groups.items():
                self._write(writer, depth, path, keys)
        self._progress(self.entries - before)

    def _write(self, writer: Writer, depth: int, path: tuple[str, ...], keys: list[str]) -> None:
        """Write what there is under ``keys``, which the tier at ``depth`` has listed."""
        core = self._cores.get(path) or Core(self._root.stack, path, None)
        members, listed = core.members, self._listing.depths(core.path)
        below = [members[one] for one in listed if one > depth]
        above = () if self._single else members[:depth][::-1]
        capping = above if members[depth].cuts_lives else ()
        left = set(keys)
        for piece in self._pieces.of([*below, members[depth], *capping], keys):
            found, taken = self._read(core, below, members[depth], capping, piece)
            self._put(writer, path, found)
            left -= taken
        missing = [key for key in keys if key in left]
        for piece in self._pieces.of(above, missing):
            found, taken = self._read_above(core, above, listed, piece)
            self._put(writer, path, found)
            left -= taken
        self.unread += len(left)

    def _put(self, writer: Writer, path: tuple[str, ...], found: Mapping[str, Entry[bytes]]) -> None:
        nested = path[len(self._root.path) :]
        for key, entry in found.items():
            writer.item(Item(nested, key, entry))
        self.entries += len(found)

    def _read(
        self, core: Core, below: Sequence[Member], member: Member, capping: Sequence[Member], keys: list[str]
    ) -> tuple[dict[str, Entry[bytes]], set[str]]:
        """What ``member`` holds of ``keys``, and all those of which nothing more is to be written."""
        found: dict[str, Entry[bytes]] = {}
        taken: set[str] = set()
        for lower in below:
            held = answer(lower, core.stored(BLOCKING, lower, keys))
            # Written already, unless it came after that tier was listed: twice is better than not at all.
            found |= {key: entry for key, entry in held.items() if (entry.created_at or 0.0) > self._began}
            taken.update(held)
            keys = [key for key in keys if key not in held]
        own = answer(member, core.stored(BLOCKING, member, keys))
        for upper in capping:
            held = answer(upper, core.stored(BLOCKING, upper, _finite(own)))
            own |= {key: at_longest(own[key], entry) for key, entry in held.items()}
        return found | own, taken.union(own)

    def _read_above(
        self, core: Core, above: Sequence[Member], listed: Sequence[int], keys: list[str]
    ) -> tuple[dict[str, Entry[bytes]], set[str]]:
        """The same of keys that the tier which listed them does not give; those of another tier that is
        ``listed`` too are written in its turn."""
        found: dict[str, Entry[bytes]] = {}
        later: set[str] = set()
        for member in above:
            unknown = [key for key in keys if key not in found and key not in later]
            held = answer(member, core.stored(BLOCKING, member, unknown + _finite(found)))
            found |= {key: at_longest(found[key], held[key]) for key in found if key in held}
            new = {key: held[key] for key in unknown if key in held}
            if member.depth in listed:
                later.update(new)
            else:
                found |= new
        return found, later.union(found)


def _finite(entries: Mapping[str, Entry[bytes]]) -> list[str]:
    return [key for key, entry in entries.items() if entry.expires_at is not None]


# -- the file --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Done:
    """What an interrupted export has written that can be kept."""

    entries: int
    checksum: int
    cursor: Any
    began: float
    whole: bool = False


def _continued(stream: BinaryIO, header: Header) -> _Done | None:
    """What is in ``stream`` up to the beginning of the last page that says where to go on, behind which it
    stands then; ``None`` if there is nothing to keep, and it is empty then."""
    reader = Reader(stream)
    kept: tuple[int, _Done] | None = None
    place, checksum, began = 0, 0, header.created_at
    try:
        for record in reader:
            if isinstance(record, Header):
                _check_same(record, header)
                began = record.created_at
            elif isinstance(record, Page):
                if record.cursor is not None:
                    kept = place, _Done(reader.entries, checksum, record.cursor, began)
                elif kept is None or not kept[1].entries:
                    raise ConfigError(f"the export of {header.tier!r} cannot be resumed: begin anew")
            elif isinstance(record, End):
                return _Done(reader.entries, reader.checksum, None, began, whole=True)
            place, checksum = reader.offset, reader.checksum
    except ArchiveError as error:
        if error.offset == 0 and not error.truncated:
            raise  # it is somebody else's file
    place, done = kept or (0, None)
    stream.seek(place)
    stream.truncate()
    return done and replaced(done, cursor=unpacked(done.cursor))


def _check_same(found: Header, header: Header) -> None:
    for name in ("tier", "namespace"):
        was, asked = getattr(found, name), getattr(header, name)
        if was != asked:
            raise ConfigError(f"the archive is of the {name} {was!r}, and not of {asked!r}: it cannot go on")
