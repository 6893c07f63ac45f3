"""`tiercache export` and `import`: a cache's entries to an archive and back, by file or through a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import click

from tiercache._words import entries, keys
from tiercache.archive import ExportReport, ImportReport, export_archive, import_archive
from tiercache.archive._export import UNOPENED
from tiercache.chain import TieredCache
from tiercache.cli._context import Failed, Settings, command, in_namespace, open_cache
from tiercache.cli._interrupts import ending_soon
from tiercache.cli._lasting import fleeting, lasts
from tiercache.cli._output import note, progress, show_json
from tiercache.errors import ArchiveError, ConfigError, TierError, WriteError

__all__ = ["export", "import_"]

_STREAM = "-"


@command()
@click.argument("file", default=_STREAM)
@click.option("--tier", metavar="NAME", help="Copy that tier, and not all of them.")
@click.option("--resume", is_flag=True, help="Go on with FILE where an earlier export was interrupted.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there, when the new one is whole.")
@in_namespace
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when FILE is written.")
@click.pass_obj
def export(
    settings: Settings,
    file: str,
    tier: str | None,
    resume: bool,
    force: bool,
    namespace: tuple[str, ...],
    as_json: bool,
) -> int:
    """Write all entries to an archive: FILE, or stdout.

    Those of the cache's namespace and of all inside it, with their codecs and times and as they are stored:
    what is encrypted stays so. One archive fits any chain of tiers: see `import`.
    """
    piped = file == _STREAM
    if piped and (resume or force or as_json):
        raise click.UsageError("--resume, --force and --json are for an archive in a FILE")
    if piped and sys.stdout.isatty():
        raise click.UsageError("an archive is no text for a terminal; name a FILE, or pipe it somewhere")
    if resume and force:
        raise click.UsageError("--resume or --force, not both")
    if not piped and Path(file).is_dir():
        raise Failed(f"{file} is a directory; name a FILE in it")
    if not piped and not resume and not force and _has_content(Path(file)):
        raise Failed(f"{file} is there already; --resume goes on with it, --force replaces it")
    target: Any = sys.stdout.buffer if piped else file
    with (
        open_cache(settings, namespace) as cache,
        _counted("exporting", "written", _remedy(file, force=force), _other_tiers(cache, tier)) as advance,
    ):
        _refuse_memory(cache, tier)
        try:
            report = export_archive(
                cache, target, tier=tier, views=cache.views, resume=resume, replace=force, progress=advance
            )
        except ConfigError as error:
            if tier is not None and not resume:
                raise  # that flag is wrong
            raise Failed(str(error)) from error
    return _tell_export(report, as_json=as_json)


def _other_tiers(cache: TieredCache[Any], tier: str | None) -> str:
    """What there is to do where a tier fails."""
    several = tier is None and len(cache.stats().tiers) > 1
    return "; --tier NAME copies another one alone" if several else ""


def _refuse_memory(cache: TieredCache[Any], tier: str | None) -> None:
    """An empty archive would pass for a copy of what the application's memory holds."""
    if not lasts(cache):
        what = "the cache"
    elif tier in fleeting(cache):
        what = f"the tier {tier!r}"
    else:
        return
    raise Failed(
        f"nothing is exported: {what} is memory alone, which each process has of its own, and that of a "
        f"command is empty; export_archive() in the program copies it"
    )


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _remedy(file: str, *, force: bool) -> str:
    """What is left of an export that ends early."""
    path = Path(file)
    if file == _STREAM or (path.exists() and not path.is_file()):
        return ""  # a pipe
    return f"; {file} is as it was" if force and _has_content(path) else "; --resume goes on from there"


def _tell_export(report: ExportReport, *, as_json: bool) -> int:
    if as_json:
        show_json(report.as_dict())
    else:
        more = f", {report.resumed:,} of them before" if report.resumed else ""
        note(f"{entries(report.entries)} exported{more} ({report.seconds:.1f} s)")
        gone = report.unread - report.unreadable
        if gone > 0:
            note(f"{keys(gone)} had no entry to be read: gone meanwhile, or of a codec not known here")
    if report.unreadable:
        note(f"{entries(report.unreadable)} cannot be opened, and not be copied: {UNOPENED}")
    return 1 if report.unreadable else 0


@command("import")
@click.argument("file", default=_STREAM)
@click.option(
    "--remaining", is_flag=True, help="Let entries live for as long as they had left when they were exported."
)
@click.option("--replace", is_flag=True, help="Store what is older than what the cache has, too.")
@click.option("--any-codec", is_flag=True, help="Entries of another codec than the cache has are meant.")
@in_namespace
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
@ending_soon()
def import_(
    settings: Settings,
    file: str,
    remaining: bool,
    replace: bool,
    any_codec: bool,
    namespace: tuple[str, ...],
    as_json: bool,
) -> int:
    """Store the entries of an archive: FILE, or stdin.

    They go into every tier but memory, and expire when they would have. What the cache has already, or has
    something newer of, it keeps: so an import that was interrupted goes on when it is started again.
    """
    if file == _STREAM and sys.stdin.isatty():
        raise click.UsageError("name a FILE, or pipe an archive here")
    with (
        open_cache(settings, namespace, writes=True) as cache,
        nullcontext(sys.stdin.buffer) if file == _STREAM else Path(file).open("rb") as source,
        _counted(
            "importing",
            "read",
            "; started again it goes on from there",
            "" if replace else "; --replace asks no tier whether what it has is newer",
            None if file == _STREAM else source,
        ) as advance,
    ):
        report = import_archive(
            source,
            cache,
            views=cache.views,
            expiry="remaining" if remaining else "absolute",
            replace=replace,
            progress=advance,
        )
    return _tell_import(report, any_codec=any_codec, as_json=as_json)


def _tell_import(report: ImportReport, *, any_codec: bool, as_json: bool) -> int:
    if as_json:
        show_json(report.as_dict())
    else:
        counts = [
            f"{entries(report.stored)} imported",
            *([f"{report.already_there:,} already there"] if report.already_there else []),
            *([f"{report.expired:,} past their time"] if report.expired else []),
        ]
        note(f"{', '.join(counts)} ({report.seconds:.1f} s)")
    for reason, count in report.skipped.items():
        note(f"{entries(count)} skipped: {reason}")
    unmatched = {} if any_codec else report.unmatched
    for reason, count in unmatched.items():
        note(f"{entries(count)} {reason}: no read finds that there (--any-codec, if that is meant)")
    if report.evicted:
        note(f"{entries(report.evicted)} evicted meanwhile: the lowest tier is too small for all")
    if report.failed:
        note(f"not all of them in {', '.join(report.failed)}, which is given them when they are read")
    return 1 if report.skipped or unmatched or report.evicted or report.failed else 0


@contextmanager
def _counted(
    what: str, done: str, remedy: str, around: str, source: BinaryIO | None = None
) -> Iterator[Callable[[int], None]]:
    """A progress bar that tells, when it ends early, how far it came, and the way ``around`` a tier that
    fails. Of a ``source`` that is a file it shows how much of it was read: how many entries are in it, only
    its end says."""
    count = place = 0
    size = os.fstat(source.fileno()).st_size if source is not None and source.seekable() else 0

    def advance(more: int) -> None:
        nonlocal count, place
        count += more
        if source is not None and size:
            more, place = source.tell() - place, source.tell()
        shown(more)

    try:
        with progress(what, size or None, in_bytes=size > 0) as shown:
            yield advance
    except KeyboardInterrupt:
        note(f"{entries(count)} {done}{remedy}")
        raise
    except ArchiveError as error:
        raise Failed(str(error)) from error
    except (TierError, WriteError) as error:
        more = around if isinstance(error, TierError) else ""
        raise Failed(f"{error}\ntiercache: {entries(count)} {done}{remedy}{more}") from error
