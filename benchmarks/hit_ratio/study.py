"""All figures of a trace at one size: those of the tiers by each policy, and those they are held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.hit_ratio import optimum, simulators
from benchmarks.hit_ratio.replay import Replayed, replay
from benchmarks.hit_ratio.traces import Trace

__all__ = ["OPTIMUM", "Case", "Costs", "Figure", "Summary", "figures", "study", "summaries"]

OPTIMUM = "optimum"
#: What the others are compared with.
_COMMON = "lru"


class Case(NamedTuple):
    """A trace and a size: what is done in one go."""

    trace: Trace
    entries: int  # that memory has room for
    disk: int | None  # likewise of a tier below, if there is one


@dataclass(frozen=True, slots=True)
class Costs:
    """What a lookup that misses in all tiers costs: the time (seconds) and the price of making its value."""

    seconds: float
    price: float


@dataclass(frozen=True, slots=True)
class Figure:
    """How one policy did on one trace at one size. ``replayed`` is there where real tiers were asked, and so
    are the estimates of what a lookup took: the measured time of the tiers, and what the misses cost."""

    trace: str
    size: int
    policy: str
    hit_ratio: float  # of the whole chain
    memory_ratio: float  # of the memory tier alone
    replayed: Replayed | None = None
    seconds: float | None = None
    price: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Summary:
    """How a policy did over all traces and sizes: hit ratios of memory, and points above LRU."""

    policy: str
    mean: float
    above: float
    worst: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def study(
    cases: Sequence[Case], *, processes: int, policies: Sequence[str], value: int, costs: Costs
) -> Iterator[list[Figure]]:
    """The figures of each case, in order; so many cases at once."""
    done = partial(_study, policies=policies, value=value, costs=costs)
    if processes == 1:
        yield from map(done, cases)
        return
    # New interpreters: a fork would copy what threads of this one hold, and never let go of it.
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(done, cases)


def _study(case: Case, *, policies: Sequence[str], value: int, costs: Costs) -> list[Figure]:
    trace, entries, disk = case
    return [*figures(trace, entries, policies=policies, disk=disk, value=value, costs=costs)]


def figures(
    trace: Trace, size: int, *, policies: Sequence[str], disk: int | None, value: int, costs: Costs
) -> Iterator[Figure]:
    """Each policy of ``policies`` in turn through real tiers, then what they are held against."""
    lookups = len(trace.keys)
    for policy in policies:
        done = replay(trace, policy=policy, size=size, disk=disk, value=value)
        misses = 1 - done.hits / lookups
        yield Figure(
            trace.name,
            size,
            policy,
            done.hits / lookups,
            done.tiers[0].hits / lookups,
            done,
            done.seconds / lookups + misses * costs.seconds,
            misses * costs.price,
        )
    if disk is None and size >= simulators.LEAST and simulators.installed():  # they know of one tier only
        for policy in simulators.SIMULATED:
            ratio = simulators.hits(policy, trace.keys, size) / lookups
            yield Figure(trace.name, size, f"libcachesim {policy}", ratio, ratio)
    in_memory = optimum.hits(trace.keys, size) / lookups
    # No chain has more hits than one tier with all its room would have that knows the future.
    in_all = in_memory if disk is None else optimum.hits(trace.keys, size + disk) / lookups
    yield Figure(trace.name, size, OPTIMUM, in_all, in_memory)


def summaries(found: Sequence[Figure]) -> list[Summary]:
    """One for each policy, in the order in which they came; none if LRU was not among them."""
    ratios: dict[str, dict[tuple[str, int], float]] = {}
    for figure in found:
        ratios.setdefault(figure.policy, {})[figure.trace, figure.size] = figure.memory_ratio
    common = ratios.get(_COMMON)
    if common is None:
        return []
    summed = []
    for policy, by_case in ratios.items():
        above = [100 * (ratio - common[case]) for case, ratio in by_case.items()]
        summed.append(Summary(policy, fmean(by_case.values()), fmean(above), min(above)))
    return summed
