"""How quick the tiers of a cache are here and now, one by one and as a chain.

What is written lies in a namespace of its own, of which nobody else knows the name, is removed at the end,
and runs out by itself if this process is killed before. Values are random bytes, past the cache's codec, and
new ones for every write: a database does not write pages that do not change.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count, cycle
from statistics import median, quantiles
from time import perf_counter
from typing import Any, Final

from tiercache._chain.batch import Batch
from tiercache._chain.core import Core
from tiercache._chain.member import Member
from tiercache._log import describe
from tiercache._running.bridge import BLOCKING, drive
from tiercache.archive._listing import core_of
from tiercache.chain import TieredCache
from tiercache.errors import TierCacheError, TierError, TierUnavailable

__all__ = ["CALLS", "CHAIN", "Bench", "Failure", "Figure"]

CALLS: Final = ("set", "mset", "get", "mget")
CHAIN: Final = "chain"
#: Seconds after which what a killed process left behind is gone.
_LIFE: Final = 600.0
_FEWEST: Final = 5  # calls; a measurement of fewer says nothing
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: ``calls`` calls of ``call``, each of ``keys`` values of ``size`` bytes, in the tier
    ``where`` or in the whole chain. Times are seconds a call."""

    where: str
    size: int
    call: str
    keys: int
    calls: int
    median: float
    p95: float
    keys_per_second: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be measured, and why."""

    where: str
    size: int
    call: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Bench:
    """Measures ``cache`` with values of ``sizes`` bytes, ``batch`` keys in an ``mget`` or ``mset``, for about
    ``seconds`` a measurement."""

    def __init__(self, cache: TieredCache[Any], *, sizes: Sequence[int], batch: int, seconds: float) -> None:
        name = f"tiercache-bench-{os.urandom(8).hex()}"
        self._view: TieredCache[bytes] = cache.view(name, codec=None, ttl=_LIFE)
        self._core = core_of(self._view)
        self._sizes = sizes
        self._keys = [f"bench-{number}" for number in range(batch)]
        self._seconds = seconds
        #: Why what failed did: by place, size and call.
        self._reasons: dict[tuple[str, int, str], str] = {}
        self._last: dict[str, str] = {}
        self._places: list[Any] = [_Tier(self._core, member) for member in self._core.members]
        self._places.append(_Chain(self._view))
        self.total = len(sizes) * len(self._places) * len(CALLS)

    def run(self) -> Iterator[Figure | Failure]:
        """Each measurement as it is done; what was written is removed at the end, however that comes."""
        try:
            for size in self._sizes:
                for place in self._places:
                    for call in CALLS:
                        yield self._measured(place, size, call)
                    self._remove()
        finally:
            self._remove()

    def _remove(self) -> None:
        with suppress(TierCacheError):  # a tier that is ill has it run out by itself
            self._view.mdelete(self._keys)

    def _measured(self, place: Any, size: int, call: str) -> Figure | Failure:
        values = _values(size)
        many = call.startswith("m")
        parts = cycle([self._keys] if many else [[key] for key in self._keys])
        writes = call.endswith("set")
        verb: Callable[[Any], Any] = place.write if writes else place.read
        times: list[float] = []
        try:
            begin = perf_counter()
            while len(times) < _MOST:
                keys = next(parts)
                what = place.prepared({key: next(values) for key in keys}) if writes else keys
                start = perf_counter()
                verb(what)
                end = perf_counter()
                times.append(end - start)
                if end - begin > self._seconds and len(times) >= _FEWEST:
                    break
        except (TierCacheError, MemoryError) as error:
            return Failure(place.name, size, call, self._reason(place.name, size, call, error))
        keys_a_call = len(self._keys) if many else 1
        p95 = quantiles(times, n=20, method="inclusive")[-1]
        rate = keys_a_call * len(times) / sum(times)
        return Figure(place.name, size, call, keys_a_call, len(times), median(times), p95, rate)

    def _reason(self, where: str, size: int, call: str, error: Exception) -> str:
        """Why it failed, and not what came of that."""
        if isinstance(error, MemoryError):
            return "there is not enough memory for it"
        unwritten = self._reasons.get((where, size, "mset"))
        if isinstance(error, _NotTakenError):
            reasons = (self._reasons.get((name, size, call), "it failed") for name in error.names)
            reason = "; ".join(
                f"not taken by {name} ({why})" for name, why in zip(error.names, reasons, strict=True)
            )
        elif isinstance(error, _NotThereError) and unwritten is not None:
            reason = unwritten
        elif isinstance(error, TierUnavailable) and error.skipped and where in self._last:
            reason = self._last[where]  # since then the tier is left alone
        else:
            reason = str(error) or describe(error)
        self._reasons[where, size, call] = self._last[where] = reason
        return reason


class _NotTakenError(TierCacheError):
    """The tiers of these names did not take what was written."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class _NotThereError(TierCacheError):
    """Not all of what was written is there."""


def _values(size: int) -> Iterator[bytes]:
    """Values of ``size`` bytes, each another one, made quickly."""
    body = os.urandom(size)
    for number in count():
        head = number.to_bytes(8, "little")
        yield (head + body)[:size] if size >= len(head) else os.urandom(size)


class _Tier:
    """One tier, behind its guard, as the chain calls it."""

    def __init__(self, core: Core, member: Member) -> None:
        self.name = member.guard.name
        self._core = core
        self._member = member

    def prepared(self, values: dict[str, bytes]) -> Batch:
        return self._core.batch(values, _LIFE)

    def write(self, batch: Batch) -> None:
        _, failure = drive(self._member.write(BLOCKING, batch))
        if failure is not None:
            raise failure if isinstance(failure, TierCacheError) else TierError(describe(failure))

    def read(self, keys: list[str]) -> None:
        found = drive(self._member.read(BLOCKING, keys))
        if len(found) < len(keys):  # an ill tier is a miss: this tells why
            try:
                drive(self._member.stored(BLOCKING, keys, {}, raw=True))
            except TierCacheError:
                raise
            except Exception as error:
                raise TierError(describe(error)) from error
        _check_all(len(found), len(keys))


class _Chain:
    """The chain as its users call it: what was just written is in its first tier."""

    name = CHAIN

    def __init__(self, view: TieredCache[bytes]) -> None:
        self._view = view

    def prepared(self, values: dict[str, bytes]) -> dict[str, bytes]:
        return values

    def write(self, values: dict[str, bytes]) -> None:
        if len(values) == 1:
            ((key, value),) = values.items()
            result = self._view.set(key, value)
        else:
            result = self._view.mset(values)
        if result.failed:
            raise _NotTakenError(result.failed)

    def read(self, keys: list[str]) -> None:
        values = [self._view.get(keys[0])] if len(keys) == 1 else self._view.mget(keys)
        _check_all(len(values) - values.count(None), len(keys))


def _check_all(found: int, asked: int) -> None:
    if found < asked:
        raise _NotThereError(f"{asked - found} of {asked} values that were written were not there")
