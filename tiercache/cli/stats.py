"""`tiercache stats`: what the processes of this machine have counted, one by one and summed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tiercache._counted import quantiles
from tiercache._paths import only_looking
from tiercache.chain import TieredCache
from tiercache.cli._context import ANY_PATH, Failed, Settings, command, for_a_shell, in_two_lines, sharings
from tiercache.cli._output import Column, Styled, age, laid_out, printable, say, show_json, show_table
from tiercache.errors import ConfigError
from tiercache.shared_stats import EARLIER, Record, StatsFile, summed

__all__ = ["savings", "stats", "with_ratios"]

#: Where the statistics are, and of which caches there; ``None``: of all.
Files = Mapping[Path, set[str] | None]

_SECONDS = 2.0  # between two looks of --watch
_COLUMNS = (
    Column("process"),
    Column("hits", figures=True),
    Column("misses", figures=True),
    Column("ratio", figures=True),
    Column("loads", figures=True),
    Column("sets", figures=True),
    Column("evicted", figures=True),
    Column("errors", figures=True),
    Column("owed", figures=True),
)
_STYLES = {"running": "green", "ended": "dim", "elsewhere": "yellow"}


@command()
@click.argument("file", required=False, type=ANY_PATH)
@click.option("--watch", is_flag=True, help="Show it anew every two seconds, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --watch one a line.")
@click.pass_obj
def stats(settings: Settings, file: str | None, watch: bool, as_json: bool) -> int:
    """Show what the processes of this machine have counted.

    Each process that uses the cache shares its statistics in a file, a few seconds late: in `stats.db` in the
    directory of the disk tier, or where `stats_file` says. FILE is the configuration, that file or that
    directory. Exit code 1 if there are none yet.
    """
    files = _files(settings, file)
    if watch:
        _watch(files, as_json=as_json)
    records = _read(files)
    if as_json:
        show_json(_as_data(files, records))
    elif records:
        show_table(_COLUMNS, _rows(records))
        say(_saved(records))
    else:
        raise Failed(_nothing(files))
    return 0 if records else 1


def _files(settings: Settings, file: str | None) -> Files:
    """Where the statistics are, whether there are any yet or not."""
    if file is not None:
        path = Path(file)
        only = None if settings.cache is None else {settings.cache}
        if not path.exists():
            raise Failed(f"{file}: there is no such file or directory")
        if path.is_dir():
            return {(path / "stats.db").absolute(): only}
        if _is_database(path):
            return {path.absolute(): only}
    source = settings.config if file is None else file
    try:
        found = _configured(source, settings.cache)
    except ConfigError as error:
        raise Failed(in_two_lines(for_a_shell(str(error)))) from error
    if not found:
        raise Failed(
            "the cache shares no statistics: give it a stats_file, or a disk tier that it may write to"
        )
    return found


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as opened:
            return opened.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def _configured(source: str | None, only: str | None) -> Files:
    from tiercache.config import cache_names, read  # it needs pydantic

    found: dict[Path, set[str]] = {}
    for name in [only] if only is not None else cache_names(read(source).content) or [None]:
        with only_looking(), TieredCache.from_config(source, name=name) as cache:
            for sharing in sharings(cache):
                found.setdefault(sharing.file.path, set()).add(sharing.cache)
    return {path: None if only is None else names for path, names in found.items()}


def _read(files: Files) -> list[Record]:
    """What the caches that are asked for have written. What is left of the processes of long ago is not told
    apart by caches, and so is none of any one."""
    return [
        record
        for file, only in files.items()
        for record in StatsFile(file).read()
        if only is None or (record.cache in only and record.token != EARLIER)
    ]


def _nothing(files: Files) -> str:
    names = sorted({name for only in files.values() for name in only or ()})
    whose = f" of {', '.join(map(printable, names))}" if any(names) else ""
    return f"no process has shared its statistics{whose} in {', '.join(map(str, files))} yet"


# -- again and again -------------------------------------------------------------------------------


def _watch(files: Files, *, as_json: bool) -> None:
    """Until Ctrl-C."""
    if as_json or not sys.stdout.isatty():
        while True:
            records = _read(files)
            if as_json:
                say(json.dumps(_as_data(files, records)))
            elif records:
                show_table(_COLUMNS, _rows(records))
                say(f"{_saved(records)}\n")
            else:
                say(f"{_nothing(files)}\n")
            sys.stdout.flush()
            time.sleep(_SECONDS)
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        while True:
            records = _read(files)
            if records:
                table = laid_out(_COLUMNS, _rows(records), live.console.width)
                live.update(Group(table, Text(_saved(records))), refresh=True)
            else:
                live.update(Text(_nothing(files)), refresh=True)
            time.sleep(_SECONDS)


# -- how it is shown -------------------------------------------------------------------------------


def _rows(records: Sequence[Record]) -> list[list[str | Styled]]:
    """The sum first: of a long list a terminal shows the beginning."""
    running = sum(record.state == "running" for record in records)
    rows = _block(Styled(f"all, {running} running", "bold"), summed(records))
    now = time.time()
    for record in records:
        who = (
            "earlier ones" if record.token == EARLIER else f"{record.pid} {printable(record.cache)}".rstrip()
        )
        text = f"{who}, {record.state}, {age(now - record.updated)} ago"
        rows += _block(Styled(text, _STYLES[record.state]), record.stats)
    return rows


def _block(title: Styled, counted: Mapping[str, Any]) -> list[list[str | Styled]]:
    """The chain, and below it its tiers."""
    rows: list[list[str | Styled]] = [[title, *_asked(counted), f"{counted['loads']:,}", "", "", "", ""]]
    for tier in counted["tiers"]:
        errors = tier["errors"] + tier["timeouts"] + tier["corrupt"]
        rows.append(
            [
                *(f"  {printable(tier['name'])}", *_asked(tier), ""),
                *(f"{tier[name]:,}" for name in ("sets", "evictions")),
                Styled(f"{errors:,}", "red" if errors else ""),
                Styled(f"{tier['owed']:,}", "yellow" if tier["owed"] else ""),
            ]
        )
    return rows


def _asked(counted: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{counted['hits']:,}", f"{counted['misses']:,}", f"{_ratio(counted):.1%}"


def _ratio(counted: Mapping[str, Any]) -> float:
    asked = counted["hits"] + counted["misses"]
    return counted["hits"] / asked if asked else 0.0


def _saved(records: Sequence[Record]) -> str:
    saved = savings(summed(records))
    text = f"Calls saved: {saved['calls']:,}"
    seconds = saved["seconds"]
    return text if seconds is None else f"{text}, about {age(seconds)} of loading"


def savings(total: Mapping[str, Any]) -> dict[str, Any]:
    """What the cache was good for: look-ups that it answered, and callers that shared a load; and the time of
    so many loads, if there was one to measure."""
    calls = total["hits"] + total["coalesced"]
    return {
        "calls": calls,
        "seconds": calls * total["load_seconds"] / total["loads"] if total["loads"] else None,
    }


def _as_data(files: Files, records: Sequence[Record]) -> dict[str, Any]:
    total = summed(records)
    return {
        "files": [str(file) for file in files],
        "processes": [_record_as_data(record) for record in records],
        "sum": with_ratios(total),
        "saved": savings(total),
    }


def _record_as_data(record: Record) -> dict[str, Any]:
    return {
        "pid": record.pid or None,
        "cache": record.cache,
        "state": record.state,
        "started": record.started,
        "updated": record.updated,
        "stats": with_ratios(record.stats),
    }


def with_ratios(counted: Mapping[str, Any]) -> dict[str, Any]:
    """``counted`` with its ratios, and with quantiles in the place of what they are read from; without what
    it says of popular keys, which is told to who asks for them."""
    counted = {name: value for name, value in counted.items() if name != "popular"}
    tiers = [{**_timed(tier), "hit_ratio": _ratio(tier)} for tier in counted["tiers"]]
    return {**_timed(counted), "hit_ratio": _ratio(counted), "tiers": tiers}


def _timed(table: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        name: f"{kind}_latency" for kind in ("read", "write", "load") if (name := f"{kind}_times") in table
    }
    return {
        names.get(name, name): asdict(quantiles(value)) if name in names else value
        for name, value in table.items()
    }
