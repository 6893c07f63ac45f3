"""`ChaosTier`: a tier that fails when it is told to."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from tiercache.entry import Entry
from tiercache.errors import ConfigError, TierUnavailable
from tiercache.testing.wrapping import WrappedTier

__all__ = ["ChaosTier", "Corrupt", "Fault", "Hang", "Partial", "Raise"]


@dataclass(frozen=True, slots=True)
class Raise:
    """The call raises ``error`` and does nothing."""

    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Hang:
    """The call waits until `ChaosTier.release`, at most ``seconds``; then it is carried out after all, as
    a stalled server carries out what it finds in its socket."""

    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Partial:
    """Only the first ``share`` of the keys is served: a read returns fewer hits, a write or delete does its
    part and then raises `TierUnavailable`."""

    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A read returns bytes with one bit of the byte at ``position`` turned over. Over a byte store that
    damages the envelope, over a tier the value."""

    position: int = -1


_READS = frozenset({"mget"})
_KEYED = frozenset({"mget", "mset", "mdelete"})

Fault: TypeAlias = Raise | Hang | Partial | Corrupt


@dataclass(slots=True)
class _Plan:
    fault: Fault
    verbs: frozenset[str]
    times: int | None
    rate: float


class ChaosTier(WrappedTier):
    """Passes calls on to ``tier`` (a tier, async tier or byte store), except where a fault is set.

    Faults come from the script alone: those that `inject` was told of, so often as it was told. With a
    ``rate`` below 1 they come by ``rng``; give a seeded one. It can do what ``tier`` can, except
    `SupportsNamespaces`. Thread-safe.
    """

    def __init__(self, tier: Any, *, rng: random.Random | None = None) -> None:
        super().__init__(tier)
        # The verb of leases has the name of a method of ours, which would be hidden by it.
        self._release_lease: Any = vars(self).pop("release", None)
        self._rng = rng or random.Random(0)  # noqa: S311 - faults to repeat, not secrets
        self._lock = threading.Lock()
        self._plans: list[_Plan] = []
        self._hanging = 0
        self._changed = threading.Condition(self._lock)
        self._gates: list[_Gate] = []

    def inject(
        self,
        fault: Fault,
        *,
        on: str | Iterable[str] | None = None,
        times: int | None = None,
        rate: float = 1.0,
    ) -> None:
        """Let calls of the verbs ``on`` (blocking and async alike) suffer ``fault``.

        ``on``: by default all it can strike, which is `mget` for `Corrupt` and also `mset` and `mdelete`
        for the others. ``times``: at most so often; ``None``: until `heal`. ``rate``: the share of calls,
        0 to 1. Where several faults fit a call, the one injected first happens. Raises `ConfigError` for a
        verb that the tier has not or the fault cannot strike, or numbers out of range.
        """
        strikes = _READS if isinstance(fault, Corrupt) else _KEYED
        verbs = strikes if on is None else frozenset([on] if isinstance(on, str) else on)
        for verb in verbs:
            if verb not in strikes and isinstance(fault, Corrupt | Partial):
                raise ConfigError(f"on: {fault!r} strikes {', '.join(sorted(strikes))}, not {verb!r}")
            if not (hasattr(self.tier, verb) or hasattr(self.tier, f"a{verb}")):
                raise ConfigError(f"on: {self.tier!r} has no {verb!r}")
        if not 0 <= rate <= 1:
            raise ConfigError(f"rate: {rate!r} is not between 0 and 1")
        if times is not None and times < 1:
            raise ConfigError(f"times: {times!r} is not at least 1; None means until heal()")
        with self._lock:
            self._plans.append(_Plan(fault, verbs, times, rate))

    def heal(self) -> None:
        """Take every fault away and let hanging calls go on."""
        with self._lock:
            self._plans.clear()
        self.release()

    def release(self, *lease: Any) -> None:
        """Let the calls that hang now go on; later ones still hang. With arguments it is the tier's verb: see
        `SupportsLease`."""
        if lease:
            self._release_lease(*lease)
            return
        with self._lock:
            gates, self._gates = self._gates, []
        for gate in gates:
            gate.open()

    def wait_for_hang(self, calls: int = 1, *, seconds: float = 10.0) -> None:
        """Block until ``calls`` calls hang at once. Raises `TimeoutError` after ``seconds``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._hanging >= calls, seconds):
                raise TimeoutError(f"{self._hanging} calls hang after {seconds} s, not {calls}")

    def _call(self, _verb: str, _method: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        fault = self._next_fault(_verb)
        if isinstance(fault, Hang):
            gate = self._hang()
            try:
                gate.wait(fault.seconds)
            finally:
                self._go_on(gate)
        served = _before(fault, _verb, args)
        return _after(fault, self.name, args, served, super()._call(_verb, _method, *served, **options))

    async def _acall(
        self, _verb: str, _method: Callable[..., Awaitable[Any]], /, *args: Any, **options: Any
    ) -> Any:
        fault = self._next_fault(_verb)
        if isinstance(fault, Hang):
            gate = self._hang()
            try:
                await gate.await_(fault.seconds)
            finally:
                self._go_on(gate)
        served = _before(fault, _verb, args)
        result = await super()._acall(_verb, _method, *served, **options)
        return _after(fault, self.name, args, served, result)

    def _next_fault(self, verb: str) -> Fault | None:
        with self._lock:
            for plan in self._plans:
                if verb not in plan.verbs or (plan.rate < 1 and self._rng.random() >= plan.rate):
                    continue
                if plan.times is not None:
                    plan.times -= 1
                    if not plan.times:
                        self._plans.remove(plan)
                return plan.fault
        return None

    def _hang(self) -> _Gate:
        gate = _Gate()
        with self._changed:
            self._gates.append(gate)
            self._hanging += 1
            self._changed.notify_all()
        return gate

    def _go_on(self, gate: _Gate) -> None:
        with self._lock:
            self._hanging -= 1
            if gate in self._gates:
                self._gates.remove(gate)


class _Gate:
    """Lets one call wait, a thread or a task, until another thread or task opens it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._wake: Callable[[], object] | None = None

    def open(self) -> None:
        self._event.set()
        if self._wake is not None:
            self._wake()

    def wait(self, seconds: float) -> None:
        self._event.wait(seconds)

    async def await_(self, seconds: float) -> None:
        # Not a worker thread in Event.wait: a cancelled task would leave it behind, and the loop's end waits.
        loop, opened = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.is_closed() or loop.call_soon_threadsafe(opened.set)
        if self._event.is_set():
            return
        try:
            async with asyncio.timeout(seconds):
                await opened.wait()
        except TimeoutError:
            return


def _before(fault: Fault | None, verb: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments that the tier gets to see."""
    if isinstance(fault, Raise):
        raise fault.error or TierUnavailable(f"{verb} fails because it was told to")
    if isinstance(fault, Partial):
        given = args[0]
        part = list(given)[: int(len(given) * fault.share)]
        return ({key: given[key] for key in part} if isinstance(given, Mapping) else part, *args[1:])
    return args


def _after(
    fault: Fault | None, name: str, args: tuple[Any, ...], served: tuple[Any, ...], result: Any
) -> Any:
    """What the caller gets to see."""
    if isinstance(fault, Partial) and result is None:
        raise TierUnavailable(f"did {len(served[0])} keys of {len(args[0])}, as it was told to", tier=name)
    if isinstance(fault, Corrupt) and isinstance(result, dict):
        return {key: _damaged(value, fault.position) for key, value in result.items()}
    return result


def _damaged(value: Any, position: int) -> Any:
    if isinstance(value, Entry):
        return replace(value, value=_damaged(value.value, position))
    if isinstance(value, bytes) and value:
        at = position % len(value)
        return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
    return value
