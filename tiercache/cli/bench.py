"""`tiercache bench`: how quick a configuration is on this machine."""

from __future__ import annotations

import click

from tiercache.cli._bench import Bench, Failure, Figure
from tiercache.cli._context import Settings, command, count, open_cache
from tiercache.cli._interrupts import ending_soon
from tiercache.cli._output import Column, note, progress, show_json, show_table
from tiercache.errors import ConfigError
from tiercache.units import SIZES, size

__all__ = ["bench"]

_LONGEST = 60  # seconds
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
    figures: list[Figure] = []
    failures: list[Failure] = []
    with open_cache(settings) as cache:
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
    for failure in failures:
        note(f"{failure.where}, {failure.call} of {failure.size:,} B: {failure.reason}")
    return 1 if failures else 0


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
