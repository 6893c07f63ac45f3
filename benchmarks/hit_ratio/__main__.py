"""The command: ``python -m benchmarks.hit_ratio TRACE…``, from the project's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from math import inf
from pathlib import Path

import click

from benchmarks.hit_ratio import synthetic
from benchmarks.hit_ratio.report import show_figures, show_summaries
from benchmarks.hit_ratio.study import Case, Costs, Figure, study, summaries
from benchmarks.hit_ratio.traces import FORMATS, Trace, Unreadable, read
from tiercache.cli._context import CONTEXT, Failed, count, span
from tiercache.cli._output import progress, show_json
from tiercache.errors import ConfigError
from tiercache.tiers.memory._policies import POLICIES
from tiercache.units import SIZES, duration, size

__all__ = ["main"]


def _bytes(text: str) -> int:
    """The type of a flag that takes a number of bytes."""
    try:
        return size(int(text) if text.isdecimal() else text, name="")
    except ConfigError:
        raise click.BadParameter(f"{text!r} is no size; give bytes or text {SIZES}") from None


def _bound(text: str) -> float:
    """The type of a flag that takes a number of entries, or below 1 a share of the keys of a trace."""
    share = text.endswith("%")
    try:
        bound = float(text[:-1]) / 100 if share else float(text)
    except ValueError:
        bound = 0.0
    if not (0 < bound < 1 or (not share and bound >= 1 and bound.is_integer())):  # NaN is neither
        raise click.BadParameter(f"{text!r} is no number of entries and no share of the keys such as 10%")
    return bound


def _amount(text: str) -> float:
    """The type of a flag that takes a number which is not negative."""
    try:
        amount = float(text)
    except ValueError:
        amount = inf
    if not 0 <= amount < inf:  # NaN is not either
        raise click.BadParameter(f"{text!r} is no number of zero or more")
    return amount


@click.command(context_settings=CONTEXT)
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.option(
    "--format", "format_", type=click.Choice(list(FORMATS)), help="Of the files; else it is found out."
)
@click.option(
    "--size",
    "sizes",
    type=_bound,
    multiple=True,
    default=("1%", "10%", "30%"),
    show_default=True,
    metavar="SIZE",
    help="Entries in memory, or a share of a trace's keys; more than once for several.",
)
@click.option(
    "--policy",
    "policies",
    type=click.Choice(POLICIES),
    multiple=True,
    default=POLICIES,
    show_default=True,
    help="Of the memory tier; more than once for several.",
)
@click.option("--disk", type=_amount, metavar="TIMES", help="A disk tier below, for so many times as many.")
@click.option(
    "--accesses", type=count, default=500_000, show_default=True, metavar="N", help="Lookups read of a file."
)
@click.option(
    "--value", type=_bytes, default="1KiB", show_default=True, metavar="SIZE", help="Of each value."
)
@click.option(
    "--load-time",
    type=span,
    default="200ms",
    show_default=True,
    metavar="TIME",
    help="To make one that misses.",
)
@click.option(
    "--load-price", type=_amount, default="0", metavar="PRICE", help="Of making one, in any currency."
)
@click.option(
    "--processes",
    type=count,
    default=1,
    show_default=True,
    metavar="N",
    help="So many traces and sizes at once, which makes each lookup's time longer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def main(
    traces: tuple[str, ...],
    format_: str | None,
    sizes: tuple[float, ...],
    policies: tuple[str, ...],
    disk: float | None,
    accesses: int,
    value: int,
    load_time: str,
    load_price: float,
    processes: int,
    as_json: bool,
) -> None:
    """Replay traces of lookups through a memory tier, and maybe a disk tier below.

    A TRACE is a file (a key a line, LIRS, ARC, or binary integers of 32 or 64 bits; also .gz and .xz), or the
    name of one that is made: zipf:0.9, loop, scans or day-night. Each size and policy gets new tiers, and
    what misses is stored. Beside them stand Belady's optimum and, for memory alone and where that package is
    installed, the policies of libcachesim. A lookup's time is what the tiers took here, and the time to make
    what missed.
    """
    costs = Costs(duration(load_time, name="--load-time"), load_price)
    cases = [
        [
            Case(trace, entries, None if disk is None else max(1, round(entries * disk)))
            for entries in dict.fromkeys(_entries(bound, trace.distinct) for bound in sizes)
        ]
        for trace in _apart([_trace(name, format_, accesses) for name in traces])
    ]
    all_cases = [*chain(*cases)]
    studied = study(all_cases, processes=processes, policies=policies, value=value, costs=costs)
    found: list[Figure] = []
    with progress("replaying", len(all_cases)) as advance:
        for of_trace in cases:
            shown: list[Figure] = []
            for _ in of_trace:
                shown += next(studied)
                advance(1)
            found += shown
            if not as_json:
                trace = of_trace[0].trace
                show_figures(f"{trace.name}: {len(trace.keys):,} lookups of {trace.distinct:,} keys", shown)
    summed = summaries(found)
    if as_json:
        show_json(
            {
                "value": value,
                "load": asdict(costs),
                "disk": disk,
                "processes": processes,
                "traces": [
                    {"trace": trace.name, "lookups": len(trace.keys), "keys": trace.distinct}
                    for trace, *_ in (of_trace[0] for of_trace in cases)
                ],
                "figures": [figure.as_dict() for figure in found],
                "summaries": [summary.as_dict() for summary in summed],
            }
        )
    elif summed:
        show_summaries(summed)


def _trace(name: str, format_: str | None, accesses: int) -> Trace:
    made = synthetic.make(name)
    if made is not None:
        return Trace(made.name, made.keys[:accesses])
    try:
        return read(Path(name), format=format_, most=accesses)
    except FileNotFoundError:
        raise click.UsageError(
            f"{name}: no such file, and no trace that is made: {', '.join(synthetic.NAMES)}"
        ) from None
    except (OSError, Unreadable) as error:
        raise Failed(str(error)) from None


def _apart(traces: list[Trace]) -> Iterator[Trace]:
    """With names that tell them apart: two files in two folders may have the same."""
    times: Counter[str] = Counter()
    for trace in traces:
        times[trace.name] += 1
        number = times[trace.name]
        yield trace if number == 1 else trace._replace(name=f"{trace.name}-{number}")


def _entries(bound: float, distinct: int) -> int:
    return int(bound) if bound >= 1 else max(1, int(bound * distinct))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.hit_ratio")
