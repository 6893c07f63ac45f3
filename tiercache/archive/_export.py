"""Out of a cache into an archive: page by page, raising rather than leaving something out in silence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO, Final

import tiercache
from tiercache._bridge import BLOCKING, drive
from tiercache._core import Core
from tiercache._member import Member
from tiercache.archive._format import End, Header, Item, Page, Reader, Writer
from tiercache.archive._listing import Listing, core_of, listing_member, packed, unpacked
from tiercache.chain import TieredCache
from tiercache.entry import Entry
from tiercache.errors import ArchiveError, ConfigError

__all__ = ["ExportReport", "export_archive"]

#: About how many bytes of values are in memory at a time; the first look is at so many keys.
_BYTES: Final = 4 << 20
_FIRST: Final = 32


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    ``entries``
        how many are in the archive; ``resumed`` of them from before it was interrupted.
    ``unread``
        keys that were listed and had no entry when they were read: expired or deleted meanwhile, or, in a
        tier that keeps objects, of a codec that this cache (and its views) does not have.
    """

    tier: str
    entries: int
    resumed: int
    unread: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Everything as texts and numbers, ready for JSON."""
        return asdict(self)


def export_archive(
    cache: TieredCache[Any],
    target: str | os.PathLike[str] | BinaryIO,
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
        the name of the tier to copy; ``None``: the lowest that can list its keys, and for those that it has
        no entry of (it failed to take them, say) the tiers above it.
    ``views``
        of a tier that keeps objects: which views to copy besides ``cache``, with their codecs.
    ``resume``
        go on with an export to that path which was interrupted; what was written after the last page is
        written anew. Where there is none yet, begin one. A Redis server must not have been restarted
        since: where its listing was is lost then.
    ``replace``
        write over a file that is there.
    ``progress``
        called with how many more entries were written.

    An entry that is written, or expires, while this runs is in it or is not; one that is there throughout
    is. A new file is private (0600). Raises `ConfigError` for wrong arguments and for a file that is there,
    what a tier raises that fails, and `ArchiveError` for a file that is of something else.
    """
    start = perf_counter()
    core = core_of(cache)
    member = listing_member(core, tier)
    cores = {one.path: one for one in (core, *map(core_of, (views or {}).values()))}
    header = Header(core.stack.clock.time(), tier or member.guard.name, core.path, tiercache.__version__)
    export = _Export(cores, core, member, single=tier is not None, progress=progress)
    with _opened(target, resume=resume, replace=replace) as (stream, old):
        done = _continued(stream, header) if old else None
        if done is None:
            writer, cursor, resumed = Writer(stream), None, 0
            writer.header(header)
        elif done.whole:
            return ExportReport(header.tier, done.entries, done.entries, 0, perf_counter() - start)
        else:
            writer, cursor, resumed = Writer(stream, checksum=done.checksum), done.cursor, done.entries
        progress(resumed)
        export.run(writer, cursor)
        writer.end(resumed + export.entries)
        stream.flush()
    seconds = perf_counter() - start
    return ExportReport(header.tier, resumed + export.entries, resumed, export.unread, seconds)


class _Export:
    """One run."""

    def __init__(
        self,
        cores: dict[tuple[str, ...], Core],
        root: Core,
        member: Member,
        *,
        single: bool,
        progress: Callable[[int], object],
    ) -> None:
        self.entries = 0
        self.unread = 0
        self._cores = cores
        self._root = root
        self._depth = member.depth
        self._single = single
        self._progress = progress
        self._listing = Listing(list(cores.values()), member)
        self._at_once = _FIRST

    def run(self, writer: Writer, cursor: Any) -> None:
        for place, groups in self._listing.pages(cursor):
            writer.page(Page(self._root.stack.clock.time(), packed(place)))
            for path, keys in groups.items():
                self._write(writer, path, keys)

    def _write(self, writer: Writer, path: tuple[str, ...], keys: list[str]) -> None:
        core = self._cores.get(path) or Core(self._root.stack, path, None)
        nested = path[len(self._root.path) :]
        while keys:
            some, keys = keys[: self._at_once], keys[self._at_once :]
            found = self._read(core, some)
            for key, entry in found.items():
                writer.item(Item(nested, key, entry))
            self.entries += len(found)
            self.unread += len(some) - len(found)
            self._progress(len(found))
            if found:
                average = sum(len(entry.value) for entry in found.values()) // len(found) + 1
                self._at_once = max(1, min(_BYTES // average, 2 * self._at_once))

    def _read(self, core: Core, keys: list[str]) -> dict[str, Entry[bytes]]:
        found = drive(core.stored(BLOCKING, core.members[self._depth], keys))
        if not self._single:
            for member in reversed(core.members[: self._depth]):
                missing = [key for key in keys if key not in found]
                if missing:
                    found |= drive(core.stored(BLOCKING, member, missing))
        return found


# -- the file --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Done:
    """What an interrupted export has written that can be kept."""

    entries: int
    checksum: int
    cursor: Any
    whole: bool = False


@contextmanager
def _opened(
    target: str | os.PathLike[str] | BinaryIO, *, resume: bool, replace: bool
) -> Iterator[tuple[BinaryIO, bool]]:
    """The stream to write to, and whether there is something in it to go on with."""
    if not isinstance(target, str | os.PathLike):
        if resume:
            raise ConfigError("resume: a stream cannot be resumed; give a path")
        yield target, False
        return
    path = Path(target)
    old = path.exists() and path.stat().st_size > 0
    if old and not resume and not replace:
        raise ConfigError(
            f"{path}: it is there already; resume=True goes on with it, replace=True replaces it"
        )
    flags = os.O_RDWR | os.O_CREAT | (0 if resume else os.O_TRUNC)
    with os.fdopen(os.open(path, flags, 0o600), "r+b") as stream:  # values may be secrets
        yield stream, old and resume


def _continued(stream: BinaryIO, header: Header) -> _Done | None:
    """What is in ``stream`` up to the beginning of its last page, behind which it stands then; ``None`` if
    there is nothing to keep, and it is empty then."""
    reader = Reader(stream)
    kept: tuple[int, _Done] | None = None
    place, checksum = 0, 0
    try:
        for record in reader:
            if isinstance(record, Header):
                _check_same(record, header)
            elif isinstance(record, Page):
                if record.cursor is None:
                    raise ConfigError(f"the tier {header.tier!r} cannot resume an export: begin anew")
                kept = place, _Done(reader.entries, checksum, record.cursor)
            elif isinstance(record, End):
                return _Done(reader.entries, reader.checksum, None, whole=True)
            place, checksum = reader.offset, reader.checksum
    except ArchiveError as error:
        if error.offset == 0 and not error.truncated:
            raise  # it is somebody else's file
    place, done = kept or (0, None)
    stream.seek(place)
    stream.truncate()
    return done and _Done(done.entries, done.checksum, unpacked(done.cursor))


def _check_same(found: Header, header: Header) -> None:
    for name in ("tier", "namespace"):
        was, asked = getattr(found, name), getattr(header, name)
        if was != asked:
            raise ConfigError(f"the archive is of the {name} {was!r}, and not of {asked!r}: it cannot go on")
