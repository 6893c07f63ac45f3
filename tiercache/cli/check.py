"""`tiercache check`: whether a configuration is in order and, with ``--connect``, what is behind it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import click

from tiercache._chain.nested import ChainTier
from tiercache._guard.guarded import GuardedTier
from tiercache._paths import only_looking
from tiercache.chain import TieredCache
from tiercache.cli._context import ANY_PATH, Settings, command
from tiercache.cli._output import Column, Styled, note, say, show_json, show_table, weight
from tiercache.cli._probe import Finding, probe, shortage
from tiercache.errors import ConfigError

__all__ = ["check"]


@dataclass(frozen=True, slots=True)
class _Tier:
    """One tier of one cache: its name, what it is, the seconds that a call may take, what somebody may want
    to know of it, and what ``--connect`` found."""

    cache: str
    name: str
    what: str
    deadline: float | None
    notes: list[str]
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

    if file is not None and settings.config is not None:
        raise click.UsageError(f"name one configuration: FILE is {file!r}, and --config {settings.config!r}")
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
            with nullcontext() if connect else only_looking(), _made(source, name) as cache:
                tiers += _tiers(cache, name or "", connect=connect)
        except ConfigError as error:
            problems += _each_of(error)
    problems = list(dict.fromkeys(problems))  # what is wrong beside all caches is wrong with each
    for tier in tiers:
        if tier.found is not None:
            problems += [f"{_title(tier)}: {problem}" for problem in tier.found.problems]
    if as_json:
        show_json(_as_data(where, tiers, problems))
    else:
        _show(where, tiers, problems, connect=connect)
    return 1 if problems else 0


def _made(source: str | None, name: str | None) -> TieredCache[Any]:
    """The cache. What a disk tier logs of the room on its disk meanwhile is among its notes."""
    logger = logging.getLogger("tiercache.disk")
    before, logger.disabled = logger.disabled, True
    try:
        return TieredCache.from_config(source, name=name)
    finally:
        logger.disabled = before


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
        found = probe(tier) if connect and not alone else None
        short = shortage(tier)
        notes = found.notes if found is not None else [short] if short else []
        yield _Tier(cache, name, _described(tier), guard.policy.deadline, notes, found)


def _described(tier: Any) -> str:
    """What ``tier`` is, in the words of a configuration, and not of a program."""
    inner = tier.tier if isinstance(tier, GuardedTier) else tier
    if not type(inner).__module__.startswith("tiercache."):
        # Only what ours say of themselves is known to hold no password: a dataclass shows all its fields.
        return f"a tier of the class {type(inner).__name__}"
    if getattr(tier, "nonblocking", False) and hasattr(tier, "max_entries"):
        bounds = [f"{tier.max_entries:,} entries"] if tier.max_entries is not None else []
        bounds += [weight(tier.max_bytes)] if tier.max_bytes is not None else []
        return f"memory of each process, {' and '.join(bounds) or 'without bounds'}"
    if hasattr(tier, "directory") and hasattr(tier, "max_bytes"):
        return f"{tier.directory}, {weight(tier.max_bytes)}" + (", temporary" if tier.temporary else "")
    if getattr(inner, "holds_nothing", False):
        return "nothing is kept"
    text = re.sub(r"^\w+Tier\((.*)\)$", r"\1", repr(inner))
    text = re.sub(r"^(sqlite|postgresql|mysql|mariadb)\+\w+", r"\1", text)  # the driver is our choice
    return re.sub(r",? (prefix|table)=(?='[^']*'$)", r", \1 ", text)


def _title(tier: _Tier) -> str:
    return f"{tier.cache}: {tier.name}" if tier.cache else tier.name


def _show(where: str, tiers: list[_Tier], problems: list[str], *, connect: bool) -> None:
    if connect and tiers:
        show_table(_COLUMNS, [_row(tier) for tier in tiers])
    elif tiers:
        columns = (Column("tier"), Column("deadline", figures=True), Column("what it is"))
        show_table(columns, [(_title(tier), _seconds(tier.deadline), tier.what) for tier in tiers])
    for tier in tiers:
        for text in tier.notes:
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
    Column("deadline", figures=True),
    Column("connect", figures=True),
    Column("read", figures=True),
    Column("write", figures=True),
    Column("clock", figures=True),
    Column("room", figures=True),
)


def _row(tier: _Tier) -> list[str | Styled]:
    found = tier.found
    if found is None:
        return [_title(tier), Styled("in memory", "dim"), *[""] * 8]
    about = found.about
    skew = None if about is None else about.skew
    return [
        _title(tier),
        Styled("wrong", "red") if found.problems else Styled("fine", "green"),
        "-" if about is None else about.version,
        ", ".join(found.rights) or "-",
        _seconds(tier.deadline),
        _milliseconds(found.connect),
        _milliseconds(found.read),
        _milliseconds(found.write),
        "-" if skew is None else f"{skew:+.1f} s",
        weight(None if about is None else about.room),
    ]


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:g} s"


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
    data |= {"deadline_seconds": tier.deadline, "notes": tier.notes}
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
        }
    return data
