"""`tiercache check`: whether a configuration is in order and, with ``--connect``, what is behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import click

from tiercache._nested import ChainTier
from tiercache.chain import TieredCache
from tiercache.cli._context import ANY_PATH, Settings, command
from tiercache.cli._output import Column, Styled, note, say, show_json, show_table, weight
from tiercache.cli._probe import Finding, probe
from tiercache.errors import ConfigError
from tiercache.tiers.disk._directory import only_looking

__all__ = ["check"]


@dataclass(frozen=True, slots=True)
class _Tier:
    """One tier of one cache: its name, what it is, and what ``--connect`` found."""

    cache: str
    name: str
    what: str
    found: Finding | None


@command()
@click.argument("file", required=False, type=ANY_PATH)
@click.option("--connect", is_flag=True, help="Open each tier, and try what the cache will do.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; times are seconds.")
@click.pass_obj
def check(settings: Settings, file: str | None, connect: bool, as_json: bool) -> int:
    """Tell whether a configuration is in order.

    All that is wrong with it is told at once. With --connect each tier is asked for its version, clock and
    room, and a small entry is written, read, listed and deleted. Exit code 1 if something is wrong.
    """
    from tiercache.config import cache_names, read  # it needs pydantic

    source = settings.config if file is None else file
    where, names = source or "the configuration", list[str | None]()
    tiers: list[_Tier] = []
    problems: list[str] = []
    try:
        origin = read(source)
        where = origin.where
        names += [settings.cache] if settings.cache is not None else cache_names(origin.content) or [None]
    except ConfigError as error:
        problems += _each_of(error)
    for name in names:
        try:
            with (
                nullcontext() if connect else only_looking(),
                TieredCache.from_config(source, name=name) as cache,
            ):
                tiers += _tiers(cache, name or "", connect=connect)
        except ConfigError as error:
            problems += _each_of(error)
    for tier in tiers:
        if tier.found is not None:
            problems += [f"{_title(tier)}: {problem}" for problem in tier.found.problems]
    if as_json:
        show_json(_as_data(where, tiers, problems))
    else:
        _show(where, tiers, problems, connect=connect)
    return 1 if problems else 0


def _each_of(error: ConfigError) -> Iterator[str]:
    """The problems of a configuration, each with the name of the file."""
    first, *more = str(error).splitlines()
    where = first.rpartition(": ")[0]
    return (f"{where}: {line.strip()}" for line in more) if more else iter([first])


def _tiers(cache: TieredCache[Any], name: str, *, connect: bool) -> Iterator[_Tier]:
    guards = cache._stack.guards  # noqa: SLF001 - past the chain: it would make misses of what fails
    return _each(guards, name, "", connect=connect)


def _each(guards: Any, cache: str, within: str, *, connect: bool) -> Iterator[_Tier]:
    for guard in guards:
        tier, name = guard.tier, within + guard.name
        if isinstance(tier, ChainTier):
            inner = tier._core.stack.guards  # noqa: SLF001 - as above
            yield from _each(inner, cache, f"{name}/", connect=connect)
            continue
        alone = getattr(tier, "nonblocking", False)  # memory of this process: there is nothing to try
        yield _Tier(cache, name, repr(tier), probe(tier) if connect and not alone else None)


def _title(tier: _Tier) -> str:
    return f"{tier.cache}: {tier.name}" if tier.cache else tier.name


def _show(where: str, tiers: list[_Tier], problems: list[str], *, connect: bool) -> None:
    if connect and tiers:
        show_table(_COLUMNS, [_row(tier) for tier in tiers])
    elif tiers:
        columns = (Column("tier"), Column("what it is"))
        show_table(columns, [(_title(tier), tier.what) for tier in tiers])
    for tier in tiers:
        if tier.found is not None:
            for text in tier.found.notes:
                note(f"{_title(tier)}: {text}")
    for problem in problems:
        note(problem)
    if not problems:
        say(f"{where}: in order" + (", and every tier answers" if connect else ""))


_COLUMNS = (
    Column("tier"),
    Column("state"),
    Column("version"),
    Column("rights"),
    Column("connect", figures=True),
    Column("read", figures=True),
    Column("write", figures=True),
    Column("clock", figures=True),
    Column("room", figures=True),
)


def _row(tier: _Tier) -> list[str | Styled]:
    found = tier.found
    if found is None:
        return [_title(tier), Styled("in memory", "dim"), "", "", "", "", "", "", ""]
    about = found.about
    skew = None if about is None else about.skew
    return [
        _title(tier),
        Styled("wrong", "red") if found.problems else Styled("fine", "green"),
        "-" if about is None else about.version,
        ", ".join(found.rights) or "-",
        _milliseconds(found.connect),
        _milliseconds(found.read),
        _milliseconds(found.write),
        "-" if skew is None else f"{skew:+.1f} s",
        weight(None if about is None else about.room),
    ]


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.2f} ms"


def _as_data(where: str, tiers: list[_Tier], problems: list[str]) -> dict[str, Any]:
    return {
        "configuration": where,
        "in_order": not problems,
        "problems": problems,
        "tiers": [_tier_as_data(tier) for tier in tiers],
    }


def _tier_as_data(tier: _Tier) -> dict[str, Any]:
    data: dict[str, Any] = {"cache": tier.cache or None, "tier": tier.name, "what": tier.what}
    found = tier.found
    if found is not None:
        about = found.about
        data |= {
            "version": None if about is None else about.version,
            "rights": found.rights,
            "connect_seconds": found.connect,
            "read_seconds": found.read,
            "write_seconds": found.write,
            "clock_skew_seconds": None if about is None else about.skew,
            "room_bytes": None if about is None else about.room,
            "notes": found.notes,
        }
    return data
