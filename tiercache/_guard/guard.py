"""The guard: all calls of one tier pass through it, so that an ill tier is a miss and is counted.

One that keeps failing is left alone (`tiercache._guard.breaker`): it is not asked, its reads are misses, its
writes and deletes fail at once. Nothing expired, and nothing that is not an entry, gets past it
(`tiercache._guard.sound`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from tiercache._guard.arrears import Arrears
from tiercache._guard.breaker import Breaker, Permit
from tiercache._guard.retries import tried
from tiercache._guard.sound import alive, sound
from tiercache._guard.tally import LOG_INTERVAL, Tally
from tiercache._log import describe, logger
from tiercache._running.lanes import Lane
from tiercache._running.owners import thrown
from tiercache._running.ports import Port
from tiercache.entry import Entry
from tiercache.errors import (
    CodecError,
    EntryRejected,
    TierFull,
    TierTimeout,
    TierUnavailable,
)
from tiercache.events import BreakerClosed, BreakerOpened, Emitter, Verbs
from tiercache.policies import Failure
from tiercache.protocols import Clock, Debt, SupportsNamespaces

__all__ = ["Guard"]

T = TypeVar("T")
K = TypeVar("K")


class Guard(Tally):
    """The guard of one tier in one root chain. Thread-safe."""

    def __init__(self, tier: Any, name: str, clock: Clock, events: Emitter | None = None) -> None:
        super().__init__(tier, name, clock, events or Emitter(None))
        self.policy = Failure.of_tier(tier)
        #: Where the tier's blocking calls run for async callers.
        self.lane = Lane(name, patience=self.policy.deadline)
        #: What the tier has yet to hear of; all chains of the process over the tier share one.
        self.arrears = Arrears()
        self._reads = self._writes = Breaker(self.policy, clock) if self.policy.breaker_failures else None
        if self._reads is not None and self.policy.writes_apart:
            self._writes = Breaker(self.policy, clock)
        self._ours = hasattr(tier, "open_namespace") and isinstance(tier, SupportsNamespaces)
        #: Whether what it answers need not be looked at, and what it is given is left as it is.
        self._careful = self._ours or getattr(tier, "verifies", False) is True
        self._plain = self._careful and not self.policy.retries
        self._last = ""  # what the tier raised last
        self._next_opening = float("-inf")
        self.after_fork()

    def after_fork(self) -> None:
        """New locks, for a forked child: another thread may have held the old ones."""
        self._renew_locks()
        for breaker in (self._reads, self._writes):
            if breaker is not None:
                breaker.after_fork()

    async def read(self, port: Port, keys: Sequence[str], *, counted: bool) -> dict[str, Entry[Any]]:
        """The live entries under ``keys``; whatever goes wrong is a miss. A second look of one call is not
        ``counted``, anywhere."""
        counters = self.counters
        breaker = self._reads
        permit = self._permit(breaker)
        if permit is None:
            if counted:
                with counters.lock:
                    counters.misses += len(keys)
                    counters.skipped += len(keys)
            return {}
        start = perf_counter()
        found: dict[str, Entry[Any]] = {}
        expired = 0
        garbage: list[str] = []
        try:
            if self._plain and port.now is not None:
                answer = port.now(keys)
            else:
                answer = await self._asked(port, port.mget, keys)
            if not answer and self._careful:
                pass
            elif self._ours or not self._careful:
                now = self._clock.time() if answer else 0.0
                found, expired, garbage = sound(answer, keys, now, tier=self.name, ours=self._ours)
            else:
                found, expired = alive(answer, self._clock.time())
        except Exception as error:  # noqa: BLE001 - a read never raises because a tier is ill
            self.failed(error, "read", counted=counted)
            self._fell(breaker, permit, error)
        except BaseException as error:  # cancelled, interrupted or thrown away
            self._undecided(breaker, permit, error)
            raise
        else:
            if breaker is not None and breaker.ailing:
                self._stood(breaker, permit)
        seconds = perf_counter() - start
        if counted:
            with counters.lock:
                counters.hits += len(found)
                counters.misses += len(keys) - len(found)
                counters.expirations += expired
                counters.corrupt += len(garbage)
                counters.read_seconds += seconds
                counters.read_latency.add(seconds)
        if garbage:
            await self.delete(port, garbage, counted=False)
        return found

    def read_one(self, read: Callable[[str], Entry[Any] | None], key: str) -> Entry[Any] | None:
        """`read` of a single key by ``read``; see `SupportsReadOne`."""
        permit = self._permit(self._reads)
        if permit is None:
            self.unasked(1)
            return None
        start = perf_counter()
        entry = self._at_once(read, key, permit, None)
        expired = (
            entry is not None and entry.expires_at is not None and not entry.expires_at > self._clock.time()
        )
        if expired:
            entry = None
        seconds = perf_counter() - start
        counters = self.counters
        with counters.lock:
            if entry is None:
                counters.misses += 1
                counters.expirations += expired
            else:
                counters.hits += 1
            counters.read_seconds += seconds
            counters.read_latency.add(seconds)
        return entry

    def read_values(
        self, read: Callable[..., dict[str, bytes] | None], keys: Sequence[str]
    ) -> dict[str, bytes] | None:
        """The values of the hits by ``read``; see `SupportsReadValues`."""
        permit = self._permit(self._reads)
        if permit is None:
            self.unasked(len(keys))
            return {}
        start = perf_counter()
        nothing: dict[str, bytes] | None = {}
        values = self._at_once(partial(read, time=self._clock.time), keys, permit, nothing)
        if values is None:
            return None
        seconds = perf_counter() - start
        counters = self.counters
        with counters.lock:
            counters.hits += len(values)
            counters.misses += len(keys) - len(values)
            counters.read_seconds += seconds
            counters.read_latency.add(seconds)
        return values

    def _at_once(self, read: Callable[[K], T], asked: K, permit: Permit, otherwise: T) -> T:
        """What ``read(asked)`` returns; ``otherwise`` where it fails."""
        breaker = self._reads
        try:
            answer = read(asked)
        except Exception as error:  # noqa: BLE001 - as in `read`
            self.failed(error, "read")
            self._fell(breaker, permit, error)
            return otherwise
        except BaseException as error:
            self._undecided(breaker, permit, error)
            raise
        if breaker is not None and breaker.ailing:
            if answer is None and otherwise is not None:  # the whole road tells: perhaps nobody was asked yet
                breaker.undecided(permit)
            else:
                self._stood(breaker, permit)
        return answer

    async def write(
        self,
        port: Port,
        entries: Mapping[str, Entry[Any]],
        *,
        promotion: bool | None,
        debts: Sequence[Debt] = (),
        ticket: Any = None,
    ) -> tuple[int, Collection[str], Exception | None]:
        """Store ``entries``; how many the tier took, which came too late, and the reason if those are not
        all. ``debts`` are noted with them; a ``ticket`` is for `SupportsJournal.fill`. ``promotion`` is
        ``None`` for a renewal, which counts neither as that nor as a set."""
        counters = self.counters
        breaker = self._writes
        permit = self._permit(breaker)
        if permit is None:
            return 0, (), self._skipped(len(entries))
        verb = port.mset
        if ticket is not None:
            verb = partial(port.fill, ticket=ticket)
        elif debts:
            verb = partial(port.mset, debts=debts)
        start = perf_counter()
        taken, rejected = len(entries), 0
        late: Collection[str] = ()
        failure: Exception | None = None
        try:
            refused = await self._asked(port, verb, entries)
            if ticket is not None:
                late = refused
                taken -= len(late)
        except EntryRejected as refusal:
            failure = refusal
            rejected = len(refusal.keys)
            taken -= rejected
            self._stood(breaker, permit)  # it knows very well what it does
            # What did not fit must not leave an older value behind.
            failure = await self.delete(port, refusal.keys, counted=False) or refusal
        except Exception as error:  # noqa: BLE001 - a cache must not take its application down
            self.failed(error, "write")
            if isinstance(error, TierTimeout | TimeoutError):
                self.arrears.expect(self.name, entries)
            self._fell(breaker, permit, error, value=True)
            failure = error
            taken = 0
        except BaseException as error:
            self._undecided(breaker, permit, error)
            raise
        else:
            if breaker is not None and breaker.ailing:
                self._stood(breaker, permit)
        seconds = perf_counter() - start
        with counters.lock:
            counters.promotions += taken if promotion else 0
            counters.sets += taken if promotion is False else 0
            counters.rejected += rejected
            counters.write_seconds += seconds
            counters.write_latency.add(seconds)
        return taken, late, failure

    def missed(self, seconds: float) -> None:
        """Count a key that the tier was seen not to hold."""
        counters = self.counters
        with counters.lock:
            counters.misses += 1
            counters.read_seconds += seconds
            counters.read_latency.add(seconds)

    def promoted_one(self, seconds: float) -> None:
        """Count an entry that the tier took at once: a promotion."""
        counters = self.counters
        with counters.lock:
            counters.promotions += 1
            counters.write_seconds += seconds
            counters.write_latency.add(seconds)

    async def delete(
        self, port: Port, keys: Sequence[str], *, counted: bool = True, **options: Any
    ) -> Exception | None:
        """Drop ``keys``; the reason if the tier did not confirm it. ``options`` are those of
        `SupportsJournal.mdelete`."""
        counters = self.counters
        breaker = self._writes
        permit = self._permit(breaker)
        if permit is None:
            return self._skipped(len(keys) if counted else 0)
        verb = partial(port.mdelete, **options) if options else port.mdelete
        start = perf_counter()
        failure: Exception | None = None
        try:
            await self._asked(port, verb, keys)
        except Exception as error:  # noqa: BLE001 - the chain tells its caller, after it asked every tier
            self.failed(error, "delete" if counted else "drop old entries")  # the latter nobody asked for
            self._fell(breaker, permit, error)
            failure = error
        except BaseException as error:
            self._undecided(breaker, permit, error)
            raise
        else:
            if breaker is not None and breaker.ailing:
                self._stood(breaker, permit)
        seconds = perf_counter() - start
        with counters.lock:
            if failure is None and counted:
                counters.deletes += len(keys)
            counters.write_seconds += seconds
            counters.write_latency.add(seconds)
        return failure

    async def command(
        self, verb: Callable[..., Awaitable[T]], *args: Any, reads: bool = False, **options: Any
    ) -> T:
        """``await verb(*args, **options)`` past the breaker, for what is neither of the three above. Raises
        what the tier raises, uncounted, and `TierUnavailable` where the tier is left alone."""
        breaker = self._reads if reads else self._writes
        permit = self._permit(breaker)
        if permit is None:
            raise self._skipped(1)
        try:
            result = await verb(*args, **options)
        except Exception as error:
            self._fell(breaker, permit, error)
            raise
        except BaseException as error:
            self._undecided(breaker, permit, error)
            raise
        if breaker is not None and breaker.ailing:
            self._stood(breaker, permit)
        return result

    def _asked(self, port: Port, verb: Callable[[Any], Awaitable[Any]], argument: Any) -> Awaitable[Any]:
        """What ``verb(argument)`` is to be awaited for, with the tries that the tier's policy allows."""
        if not self._careful:
            verb = partial(_with_a_copy, verb)
        if self.policy.retries:
            return tried(self.policy, self._clock, self.lane, port, verb, argument)
        return verb(argument)

    def open_circuits(self) -> int:
        """How many of its breakers are open, or let no more than a probe pass."""
        return sum(breaker.permit is None for breaker in {self._reads, self._writes} if breaker is not None)

    # -- the breaker ---------------------------------------------------------------------------------

    def _permit(self, breaker: Breaker | None) -> Permit | None:
        """What a call begins with; ``None``: the tier is left alone."""
        if self.lane.stuck:
            return None  # what it writes late would overtake what we write now
        if breaker is None:
            return 0
        permit = breaker.permit
        return breaker.probe() if permit is None else permit

    def _skipped(self, keys: int) -> TierUnavailable:
        """Count ``keys`` that the tier was not asked about; the error that says why."""
        if keys:
            with self.counters.lock:
                self.counters.skipped += keys
        error = TierUnavailable(
            f"{self.name}: circuit open, it failed too often and is left alone for now{self._last}",
            tier=self.name,
        )
        error.skipped = True
        return error

    def _stood(self, breaker: Breaker | None, permit: Permit) -> None:
        """The tier did what it was asked."""
        seconds = None if breaker is None else breaker.succeeded(permit)
        if seconds is None:
            return
        verbs = self._verbs(breaker)
        event = BreakerClosed(self.name, verbs, seconds)
        logger().info(
            "tier %r is well again: circuit closed (%s) after %.1f s",
            self.name,
            verbs,
            seconds,
            extra={"tiercache": event.as_dict()},
        )
        self._events.emit(event)

    def _fell(
        self, breaker: Breaker | None, permit: Permit, error: Exception, *, value: bool = False
    ) -> None:
        """The tier failed; or, with ``value``, perhaps one of the values did."""
        if breaker is None:
            return
        # One that is full still reads and deletes.
        if value and isinstance(error, CodecError | TypeError | TierFull):
            breaker.undecided(permit)
            return
        self._last = f" (the last failure: {describe(error)})"
        pause = breaker.failed(permit)
        if pause is None:
            return
        verbs = self._verbs(breaker)
        event = BreakerOpened(self.name, verbs, pause)
        now = self._clock.monotonic()
        with self._log_lock:
            told = now < self._next_opening
            if not told:
                self._next_opening = now + LOG_INTERVAL
        if not told:
            logger().warning(
                "tier %r is left alone for %.1f s: circuit open (%s) after %s failures in a row",
                self.name,
                pause,
                verbs,
                self.policy.breaker_failures,
                extra={"tiercache": event.as_dict()},
            )
        self._events.emit(event)

    @staticmethod
    def _undecided(breaker: Breaker | None, permit: Permit, error: BaseException) -> None:
        thrown(error)
        if breaker is not None:
            breaker.undecided(permit)

    def _verbs(self, breaker: Breaker | None) -> Verbs:
        if self._reads is self._writes:
            return "all"
        return "reads" if breaker is self._reads else "writes"


def _with_a_copy(verb: Callable[[Any], Awaitable[Any]], argument: Any) -> Awaitable[Any]:
    """Somebody else's tier may sort or empty what it is given, which is looked at again after the call, and
    given to it again in a further try."""
    return verb(dict(argument) if isinstance(argument, dict) else list(argument))
