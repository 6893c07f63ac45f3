"""`tiercache bench`: how quick a configuration is on this machine."""

from __future__ import annotations

from typing import Any

import click

from tiercache._chain.nested import ChainTier
from tiercache.chain import TieredCache
from tiercache.cli._bench import Bench, Failure, Figure
from tiercache.cli._context import Settings, command, count, open_cache, stacks
from tiercache.cli._interrupts import ending_soon
from tiercache.cli._memory import free_memory
from tiercache.cli._output import Column, note, progress, show_json, show_table, weight
from tiercache.errors import ConfigError
from tiercache.units import SIZES, size

__all__ = ["bench"]

_LONGEST = 60  # seconds
#: How often a batch of values is in memory: as it is made, as it is encoded, and as a memory tier holds it.
_COPIES = 3
_COLUMNS = (
    Column("tier"),
    Column("values", figures=True),
    Column("call"),
    Column("keys", figures=True),
    Column("median", figures=True),
    Column("p95", figures=True),
    Column("keys/s", figures=True),
)


def _size(text: str) -> int:
    """The type of a flag that takes a number of bytes."""
    try:
        return size(int(text) if text.isdecimal() else text, name="")
    except ConfigError:
        raise click.BadParameter(f"{text!r} is no size; give bytes or text {SIZES}") from None


def _seconds(text: str) -> float:
    """The type of a flag that takes a number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:  # NaN is not either
        raise click.BadParameter(f"{text!r} is no number of seconds above 0 and up to {_LONGEST}")
    return seconds


@command()
@click.option(
    "--size",
    "sizes",
    type=_size,
    multiple=True,
    default=("100B", "6KB"),
    show_default=True,
    metavar="SIZE",
    help="Of the values; more than once for several.",
)
@click.option(
    "--batch", type=count, default=100, show_default=True, metavar="N", help="Keys in an mget or mset."
)
@click.option(
    "--seconds",
    type=_seconds,
    default="0.25",
    show_default=True,
    metavar="S",
    help="Time for each measurement.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.pass_obj
@ending_soon()
def bench(settings: Settings, sizes: tuple[int, ...], batch: int, seconds: float, as_json: bool) -> int:
    """Measure each tier, and the chain of them, on this machine.

    get and set of one key, mget and mset of a batch: times of a call, and keys per second. The chain answers
    reads from its first tier. What it writes lies in a namespace of its own and is removed; a tier that is
    full may evict for it.
    """
    _check_memory(max(sizes), batch)
    figures: list[Figure] = []
    failures: list[Failure] = []
    with open_cache(settings) as cache:
        _check_room(cache, max(sizes))
        run = Bench(cache, sizes=sizes, batch=batch, seconds=seconds)
        with progress("measuring", run.total) as advance:
            for one in run.run():
                if isinstance(one, Figure):
                    figures.append(one)
                else:
                    failures.append(one)
                advance(1)
    if as_json:
        show_json(
            {
                "batch": batch,
                "figures": [figure.as_dict() for figure in figures],
                "failures": [failure.as_dict() for failure in failures],
            }
        )
    else:
        show_table(_COLUMNS, [_row(figure) for figure in figures])
    told: dict[tuple[str, int, str], list[str]] = {}
    for failure in failures:
        told.setdefault((failure.where, failure.size, failure.reason), []).append(failure.call)
    for (where, value, reason), calls in told.items():
        note(f"{where}, {', '.join(calls)} of {value:,} B: {reason}")
    return 1 if failures else 0


def _check_memory(value: int, batch: int) -> None:
    """Refuse values of that many bytes of which this machine cannot hold a ``batch``."""
    needed, free = _COPIES * value * batch, free_memory()
    if free is not None and needed > free:
        raise click.UsageError(
            f"{batch:,} values of {weight(value)} need about {weight(needed)} of memory, and there are "
            f"{weight(free)}; give a smaller --size or --batch"
        )


def _check_room(cache: TieredCache[Any], value: int) -> None:
    """Refuse values of so many bytes that no tier takes one."""
    tiers = [guard.tier for stack in stacks(cache) for guard in stack.guards]
    rooms = [getattr(tier, "max_bytes", None) for tier in tiers if not isinstance(tier, ChainTier)]
    bounds = [room for room in rooms if type(room) is int and room > 0]  # others may say anything there
    if len(bounds) == len(rooms) and value > max(bounds):
        raise click.UsageError(
            f"no tier takes a value of {weight(value)}: the largest has room for {weight(max(bounds))}; "
            f"give a smaller --size"
        )


def _row(figure: Figure) -> list[str]:
    return [
        figure.where,
        f"{figure.size:,} B",
        figure.call,
        str(figure.keys),
        _time(figure.median),
        _time(figure.p95),
        f"{figure.keys_per_second:,.0f}",
    ]


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"
