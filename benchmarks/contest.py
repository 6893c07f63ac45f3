"""A contest: several ways of doing one job, timed by turns in one run, so that a machine whose speed changes
meanwhile changes it for all of them.

Each round runs every contender once, in an order of its own (the same in every run), so that what one
leaves behind falls upon each of the others. What a contender prepares before its turn is not timed, nor
what it does behind its callers, which is waited for after it. Compared are the rounds, not the sums: a
ratio is the median of those of the rounds, told with the quarters below and above where there are several.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf
from random import Random
from statistics import median, quantiles
from time import perf_counter
from typing import Any, Literal

__all__ = ["Contest", "Spread", "lines"]

#: Seconds that a turn should take at least, of jobs that can be repeated within it.
_TURN = 0.005
#: And what a first call takes of a job that needs not be tried again to know that it takes a turn at least.
_LONG = 0.1
#: Rounds that are held however long they take, and of what has figures to reach.
_LEAST, _LEAST_JUDGED = 3, 5
#: Rounds of the latter that may take twice the time.
_WANTED_JUDGED = 7


@dataclass(frozen=True, slots=True)
class Spread:
    """Of some numbers the one in the middle, and what a quarter of them is at most and at least; of one alone
    nothing more."""

    median: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, numbers: list[float]) -> Spread:
        if len(numbers) == 1:
            return cls(numbers[0])
        low, _, high = quantiles(numbers, n=4, method="inclusive")
        return cls(median(numbers), low, high)

    def told(self) -> dict[str, float]:
        """As plain data, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(slots=True)
class Contender:
    """One way: ``job`` is timed, what ``prepare`` returns are its arguments. ``settle`` and ``runner``: see
    `Contest.add`."""

    name: str
    job: Callable[..., object]
    prepare: Callable[[], tuple[Any, ...]] | None
    calls: int
    size: int
    #: Whose times its ratio is to, if not those of the contest's base.
    beside: str | None
    settle: Callable[[], object] | None
    runner: asyncio.Runner | None
    times: list[float] = field(default_factory=list)
    #: The curve that its figure is a point of, and where on it.
    point: tuple[str, int] | None = None


#: What a bound is of, of how long one takes and another.
_COMPARED: dict[str, Callable[[float, float], float]] = {
    "at most": lambda mine, other: mine / other,
    "at least": lambda mine, other: other / mine,
    "at most more": lambda mine, other: mine - other,
}


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of what ``name`` takes: in the contest's unit, times what ``of`` takes, or so much more."""

    name: str
    bound: Literal["at most", "at least", "at most more"]
    limit: float
    of: str | None
    #: Bounds of which one that holds is enough too.
    others: tuple[Target, ...] = ()


class Contest:
    """One case of the suite. ``name`` is what reports and documents refer to; ``size`` is how many things
    (keys, texts) a job does, and what it takes is told for one of them.

    In ``unit`` bytes nothing is timed: a job returns how many it took. ``rounds``: no more than that.
    ``axis``: what there are so many of at the points of a curve.
    """

    def __init__(
        self,
        name: str,
        title: str,
        *,
        size: int = 1,
        thing: str = "key",
        unit: Literal["seconds", "bytes"] = "seconds",
        rounds: int | None = None,
        axis: str = "entries",
    ) -> None:
        self.name = name
        self.title = title
        self.size = size
        self.thing = thing
        self.unit = unit
        self.axis = axis
        self._rounds = rounds
        self._contenders: list[Contender] = []
        self._targets: list[Target] = []
        self._absent: dict[str, str] = {}

    def add(
        self,
        name: str,
        job: Callable[..., object],
        *,
        prepare: Callable[[], tuple[Any, ...]] | None = None,
        calls: int = 1,
        point: tuple[str, int] | None = None,
        size: int | None = None,
        beside: str | None = None,
        settle: Callable[[], object] | None = None,
        runner: asyncio.Runner | None = None,
    ) -> None:
        """``job`` takes what ``prepare`` returns, which is called before each call. With that a turn is so
        many ``calls``; without it as many as take some milliseconds. ``point``: the curve that its figure
        belongs to, in a chart, and of what size it is there. ``size``: how many things this one does, if not
        as many as the others. ``beside``: whom it is compared with, in a contest of several pairs.

        ``settle`` waits, after each turn and each prepared call, for what the job left to be done behind its
        caller, which would else go on in the turn of somebody else. ``runner``: ``job`` is awaited on its
        loop, which has begun to run before the time is taken: beginning and ending a run takes longer than
        much of what is awaited. A loop of its own keeps a contender's tasks out of the others' turns.
        """
        self._contenders.append(
            Contender(name, job, prepare, calls, size or self.size, beside, settle, runner, point=point)
        )

    def absent(self, name: str, reason: str) -> None:
        """Somebody who cannot do the job as it is told, and why."""
        self._absent[name] = reason

    def at_most(self, limit: float, *, of: str | None = None, who: str = "tiercache") -> None:
        """The figure to reach: ``who`` takes at most ``limit`` times what ``of`` takes; without that, so much
        in the contest's unit, a thing."""
        self._targets.append(Target(who, "at most", limit, of))

    def or_at_most(self, limit: float, *, of: str | None = None, who: str = "tiercache") -> None:
        """What is enough too, where the figure to reach that was told last is missed."""
        last = self._targets[-1]
        self._targets[-1] = replace(last, others=(*last.others, Target(who, "at most", limit, of)))

    def times_faster(self, limit: float, *, than: str, who: str = "tiercache") -> None:
        """The figure to reach: ``than`` takes at least ``limit`` times as long as ``who``."""
        self._targets.append(Target(who, "at least", limit, than))

    def at_most_more(self, seconds: float, *, than: str, who: str = "tiercache") -> None:
        """The figure to reach: ``who`` takes at most so many ``seconds`` a thing more than ``than``."""
        self._targets.append(Target(who, "at most more", seconds, than))

    @property
    def told(self) -> list[str]:
        """Everybody of whom there is a figure, or the reason why there is none."""
        return [*(each.name for each in self._contenders), *self._absent]

    @property
    def first(self) -> tuple[Callable[..., object], Callable[[], tuple[Any, ...]] | None]:
        """The job and the preparation of the contender that was added first, for a blocking caller."""
        first = self._contenders[0]
        job, runner = first.job, first.runner
        if runner is None:
            return job, first.prepare
        return lambda *given: runner.run(_awaited(job, given, 1)), first.prepare

    def run(self, rounds: int = 30, seconds: float = inf) -> dict[str, Any]:
        """Hold it: so many ``rounds``, or fewer where those take longer than ``seconds``, but enough to tell
        how far they differ, and some more where there are figures to reach. What comes back is plain data:
        see `benchmarks.report`."""
        judged = bool(self._targets)
        least, wanted = (_LEAST_JUDGED, _WANTED_JUDGED) if judged else (_LEAST, 0)
        if self.unit == "bytes":  # they hardly differ, and processes of their own take long
            rounds = min(rounds, _LEAST_JUDGED if judged else _LEAST)
            least, wanted = 1, 0
        rounds = rounds if self._rounds is None else min(rounds, self._rounds)
        repeats = {each.name: self._repeats(each) for each in self._contenders}
        gc.collect()
        gc.freeze()  # millions of entries that wait for their turn would be looked through after each round
        gc.disable()
        begun = perf_counter()
        try:
            for turn in range(rounds):
                given = seconds * 2 if turn < wanted else seconds
                if turn >= least and perf_counter() - begun > given:
                    break
                for each in Random(turn).sample(self._contenders, len(self._contenders)):
                    each.times.append(self._time(each, repeats[each.name]) / each.size)
                gc.collect()
        finally:
            gc.enable()
            gc.unfreeze()
        times = {each.name: each.times for each in self._contenders}
        spreads = {name: Spread.of(taken) for name, taken in times.items()}
        series: dict[str, list[list[float]]] = {}
        for each in self._contenders:
            if each.point is not None:
                curve, size = each.point
                series.setdefault(curve, []).append([size, spreads[each.name].median])
        return {
            "name": self.name,
            "title": self.title,
            "thing": self.thing,
            "rounds": len(self._contenders[0].times),
            "unit": self.unit,
            "seconds": {},
            self.unit: {name: spread.told() for name, spread in spreads.items()},
            "axis": self.axis if series else "",
            "series": series,
            "targets": [self._judged(target, times) for target in self._targets],
            "absent": self._absent,
            **self._compared(times),
        }

    def _repeats(self, contender: Contender) -> int:
        """How often it runs in one turn; and it is warm then."""
        if self.unit == "bytes":
            return 1
        if contender.prepare is not None:
            # Fewer rounds are of a job that takes too long to be done for nothing.
            if self._rounds is None or self._rounds >= _LEAST:
                self._time(contender, 1)
            return contender.calls
        if self._time(contender, 1) > _LONG:
            return 1
        number = 1  # again: what the first call alone opens and makes would count as a whole turn
        while (taken := self._time(contender, number) * number) < _TURN:
            number = max(number + 1, min(number * 10, round(number * _TURN / max(taken, 1e-9))))
        return number

    def _time(self, contender: Contender, number: int) -> float:
        job, prepare = contender.job, contender.prepare
        settle = contender.settle or _nothing
        if self.unit == "bytes":
            taken: Any = job(*(prepare() if prepare is not None else ()))
            return float(taken)
        seconds = 0.0
        for _ in range(1 if prepare is None else number):
            given = () if prepare is None else prepare()
            once = number if prepare is None else 1
            if contender.runner is None:
                seconds += _blocking(job, given, once)
            else:
                seconds += contender.runner.run(_awaited(job, given, once))
            settle()
        return seconds / number

    def _compared(self, times: dict[str, list[float]]) -> dict[str, Any]:
        """Of each how many times as long it took as the ``base``: tiercache, or who was added first; where
        there are pairs, as the other one of its pair."""
        beside = {each.name: each.beside for each in self._contenders if each.beside is not None}
        base = "tiercache, likewise"
        if not beside:
            base = "tiercache" if "tiercache" in times else next(iter(times))
            beside = {name: base for name in times if name != base}
        ratios = {
            name: Spread.of([one / of for one, of in zip(times[name], times[other], strict=True)]).told()
            for name, other in beside.items()
        }
        return {"base": base, "ratios": ratios}

    @staticmethod
    def _judged(target: Target, times: dict[str, list[float]]) -> dict[str, Any]:
        ours = times[target.name]
        if target.of is None:
            reached = Spread.of(ours)
        else:
            theirs = times[target.of]
            compared = _COMPARED[target.bound]
            pairs = zip(ours, theirs, strict=True)
            reached = Spread.of([compared(mine, other) for mine, other in pairs])
        at_least = target.bound == "at least"
        holds = reached.median >= target.limit if at_least else reached.median <= target.limit
        others = [Contest._judged(other, times) for other in target.others]
        return {
            "name": target.name,
            "bound": target.bound,
            "limit": target.limit,
            "of": target.of,
            "reached": reached.told(),
            "holds": holds or any(other["holds"] for other in others),
            **({"or": others} if others else {}),
        }


def _nothing() -> None:
    """What there is to wait for after most turns."""


def _blocking(job: Callable[..., object], given: tuple[Any, ...], number: int) -> float:
    """Seconds that so many calls take; what nothing is prepared for may be short."""
    turns = range(number)
    if given:
        start = perf_counter()
        for _ in turns:
            job(*given)
    else:
        start = perf_counter()
        for _ in turns:
            job()
    return perf_counter() - start


async def _awaited(job: Callable[..., Any], given: tuple[Any, ...], number: int) -> float:
    """The same of a job that is awaited."""
    turns = range(number)
    start = perf_counter()
    for _ in turns:
        await job(*given)
    return perf_counter() - start


def lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """What a contest gave, for a terminal: microseconds or bytes a thing, and ratios beside what they should
    be."""
    rounds = figures["rounds"]
    yield f"{figures['name']}: {figures['title']} ({rounds} round{'s' if rounds > 1 else ''})"
    symbol, units = ("B", 1.0) if figures["unit"] == "bytes" else ("µs", 1e6)
    for name, took in figures[figures["unit"]].items():
        half = f", half {_half(took, units, '.3f')}" if "low" in took else ""
        yield f"  {name:28} {units * took['median']:10.3f} {symbol} a {figures['thing']}{half}"
    for name, reason in figures["absent"].items():
        yield f"  {name:28} {reason}"
    for target in figures["targets"]:
        told = "; or ".join(_told(each, symbol, units) for each in (target, *target.get("or", ())))
        yield f"  {'reached' if target['holds'] else 'MISSED'}: {told}"


def _told(target: Mapping[str, Any], symbol: str, units: float) -> str:
    reached, of, bound = target["reached"], target["of"], target["bound"]
    scale = 1.0 if of is not None and bound != "at most more" else units
    unit = {
        "at most": f" {symbol}" if of is None else f" x {of}",
        "at least": f" times faster than {of}",
        "at most more": f" {symbol} more than {of}",
    }[bound]
    half = f" (half {_half(reached, scale, '.3g')})" if "low" in reached else ""
    return (
        f"{target['name']} {scale * reached['median']:.3g}{unit}{half},"
        f" {bound.removesuffix(' more')} {scale * target['limit']:g}"
    )


def _half(spread: Mapping[str, float], scale: float, digits: str) -> str:
    """Where the middle half of the rounds was."""
    return f"from {scale * spread['low']:{digits}} to {scale * spread['high']:{digits}}"
