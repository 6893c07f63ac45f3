"""Leases: of all processes that share a tier, one loads a key, and the others wait for what it stores.

Contract of `Sharing.load`: each key is looked for again once its lease is had, so that a value which somebody
stored meanwhile is taken instead of loaded. Leases are taken without waiting, and given up before the call
waits for those of others: so two that want the same keys in different orders do not wait for each other. Nor
do loaders that ask for each other's keys, for more than `LEASE_SECONDS`: a call that is part of a loader
whose leases are held has no more patience than that, and then loads by itself. A blocking call on the thread
of an event loop has none, for what it would wait for may be a task of that loop.

A lease ends by itself after `LEASE_SECONDS`: so long a process that was killed delays the others. One whose
load takes longer is renewed meanwhile, for at most `_LONGEST_HOLD`, by one thread a tier: one that hangs
costs no other its leases. Where the tier cannot give leases (it is ill, or refuses), calls load without.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from time import monotonic
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from tiercache._chain.member import Member
from tiercache._guard.guard import Guard
from tiercache._running.bridge import BLOCKING, Runtime, drive
from tiercache._running.event_loops import running_loop
from tiercache._running.owners import leavings, thrown
from tiercache.forks import reset_after_fork

__all__ = ["Sharing", "leasing", "leasing_nothing"]

T = TypeVar("T")
Step = Callable[[list[str]], Awaitable[dict[str, T]]]

#: How long a lease lasts that nobody renews.
LEASE_SECONDS = 15.0
#: How long leases are renewed. A loader that hangs holds up other processes no longer than this.
_LONGEST_HOLD: Final = 600.0
#: Seconds between two looks at whether a lease is free: at first, and at most.
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.25
#: Seconds that a tier which failed to give leases is not asked for any.
_QUIET: Final = 5.0
#: Seconds without a lease after which the renewing thread ends.
_IDLE: Final = 10.0

#: Whether the current thread or task is part of a loader whose leases are held.
_holding: ContextVar[bool] = ContextVar("tiercache_leases", default=False)


def leasing_nothing() -> None:
    """Forget in this context that its loader holds leases: what begins in it is nobody's loader."""
    _holding.set(False)


def leasing(members: Sequence[Member]) -> Member | None:
    """The tier that keeps the leases of a chain: the lowest that can, for most processes share that one."""
    for member in reversed(members):
        port = member.port(BLOCKING)
        if port.acquire is not None and port.release is not None:
            return member
    return None


class Sharing:
    """The leases of one view, in the tier of ``member``. Thread-safe."""

    def __init__(self, member: Member) -> None:
        self.member = member
        guard = member.guard
        self._keeper = _keepers.get(guard) or _keepers.setdefault(guard, _Keeper())
        self._quiet_until = float("-inf")

    async def load(self, runtime: Runtime, keys: Sequence[str], look: Step[T], load: Step[T]) -> dict[str, T]:
        """What there is for ``keys``, of which each is asked of ``load`` by one process at a time.

        ``look(keys)`` reads the tiers; ``load(keys)`` calls the loader and stores what it gives. What
        ``load`` raises is raised here, and the leases are given up.
        """
        patience = LEASE_SECONDS if _holding.get() else float("inf")
        until = monotonic() + (0.0 if runtime.blocking and running_loop() is not None else patience)
        values: dict[str, T] = {}
        left = list(keys)
        pause = _FIRST_PAUSE
        while left:
            lease = Lease(self, left)
            thrown_away = False
            try:
                taken = await self._take(runtime, lease)
                if taken is None or not (taken or monotonic() < until):
                    return values | await load(left)
                if taken:
                    found = await look(taken)
                    values |= found
                    missing = [key for key in taken if key not in found]
                    if missing:
                        with _marked():
                            values |= await load(missing)
                    mine = set(taken)
                    left = [key for key in left if key not in mine]
                    pause = _FIRST_PAUSE
            except GeneratorExit as error:  # its event loop is no more, and nothing can be awaited
                thrown_away = True
                thrown(error)
                self._keeper.release(lease)
                raise
            finally:
                if not thrown_away:
                    await self._end(runtime, lease)
            if left and monotonic() < until:
                await runtime.sleep(pause * (0.5 + _chance() / 2))
                pause = min(pause * 1.5, _LONGEST_PAUSE)
                found = await look(left)
                values |= found
                left = [key for key in left if key not in found]
        return values

    async def _take(self, runtime: Runtime, lease: Lease) -> list[str] | None:
        """Take what is free; ``None`` if the tier gives no leases just now."""
        if monotonic() < self._quiet_until:
            return None
        member = self.member
        acquire = member.port(runtime).acquire
        assert acquire is not None  # noqa: S101 - `leasing` chose the tier
        # Noted before they are asked for: who is interrupted gives up what he may have got.
        names = lease.names = list(member.fold_all(lease.keys))
        try:
            answer = set(await member.guard.command(acquire, [*names], lease.token, lease.seconds))
        except Exception as error:  # noqa: BLE001 - an ill tier is no reason not to load
            member.guard.failed(error, "give leases")
            self._quiet_until = monotonic() + _QUIET
            lease.names = []
            return None
        lease.names = [name for name in names if name in answer]
        if lease.names:
            self._keeper.add(lease)
        return [key for key, name in zip(lease.keys, names, strict=True) if name in answer]

    async def _end(self, runtime: Runtime, lease: Lease) -> None:
        try:
            self._keeper.remove(lease)
            if lease.names:
                await self.give_up(runtime, lease)
        except BaseException as error:  # cancelled, interrupted or thrown away
            thrown(error)
            self._keeper.release(lease)
            raise

    async def give_up(self, runtime: Runtime, lease: Lease) -> None:
        """Release what is held. If that fails it runs out by itself."""
        member = self.member
        release = member.port(runtime).release
        assert release is not None  # noqa: S101 - as above
        try:
            await member.guard.command(release, [*lease.names], lease.token)
        except Exception as error:  # noqa: BLE001 - what was loaded is worth more than the word that it was
            member.guard.failed(error, "release leases")

    def renew(self, lease: Lease) -> None:
        """Make ``lease`` last longer; what somebody else has taken by now is lost, and not held any more."""
        member = self.member
        acquire = member.port(BLOCKING).acquire
        assert acquire is not None  # noqa: S101 - as above
        try:
            answer = drive(member.guard.command(acquire, [*lease.names], lease.token, lease.seconds))
        except Exception as error:  # noqa: BLE001 - the next renewal may succeed
            member.guard.failed(error, "renew leases")
        else:
            held = set(answer)
            lease.names = [name for name in lease.names if name in held]


class Lease:
    """The leases of one call on ``keys``, under a token of their own. ``names``: those held, or perhaps held,
    as the tier knows them."""

    def __init__(self, sharing: Sharing, keys: list[str]) -> None:
        self.sharing = sharing
        self.keys = keys
        self.names: list[str] = []
        self.token = _token()
        self.seconds = LEASE_SECONDS
        self.began = monotonic()


class _Keeper:
    """Renews the leases of one tier behind their holders, and releases those of holders who could not.
    One thread, while there are leases."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """The parent's leases are the parent's."""
        self._changed = threading.Condition()
        self._due: dict[Lease, float] = {}
        self._release: list[Lease] = []
        self._thread: threading.Thread | None = None

    def add(self, lease: Lease) -> None:
        """Renew ``lease`` until it is removed."""
        with self._changed:
            self._due[lease] = monotonic() + lease.seconds / 3
            self._work()

    def remove(self, lease: Lease) -> None:
        """Renew ``lease`` no more. One that is being renewed just now is released after that, again."""
        with self._changed:
            self._due.pop(lease, None)

    def release(self, lease: Lease) -> None:
        """Release ``lease`` behind the caller."""
        if leavings.take(self.release, lease):
            return
        with self._changed:
            self._due.pop(lease, None)
            self._release.append(lease)
            self._work()

    def _work(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="tiercache-leases", daemon=True)
            with suppress(RuntimeError):  # no thread can be had: leases run out, as if we had been killed
                thread.start()
                self._thread = thread
        self._changed.notify()

    def _run(self) -> None:
        while True:
            leavings.settle()  # or what was thrown away might be renewed as long as nobody calls
            with self._changed:
                lease, over = self._next()
                if lease is None:
                    self._thread = None
                    return
            if not over:
                lease.sharing.renew(lease)
            with self._changed:
                kept = lease in self._due
                if kept:
                    self._due[lease] = monotonic() + lease.seconds / 3
            if not kept:
                drive(lease.sharing.give_up(BLOCKING, lease))

    def _next(self) -> tuple[Lease | None, bool]:
        """The next lease, once it is time, and whether it is over; ``None`` after a while without any."""
        idle = monotonic() + _IDLE
        while True:
            if self._release:
                return self._release.pop(), True
            now = monotonic()
            for lease in [lease for lease in self._due if now - lease.began > _LONGEST_HOLD]:
                del self._due[lease]
            if self._due:
                lease = min(self._due, key=self._due.__getitem__)
                if self._due[lease] <= now:
                    return lease, False
                self._changed.wait(self._due[lease] - now)
                idle = monotonic() + _IDLE
            elif now >= idle:
                return None, True
            else:
                self._changed.wait(idle - now)


#: That of each tier, as one root chain has it.
_keepers: WeakKeyDictionary[Guard, _Keeper] = WeakKeyDictionary()


@contextmanager
def _marked() -> Iterator[None]:
    mark = _holding.set(True)
    try:
        yield
    finally:
        with suppress(ValueError):  # an abandoned coroutine is closed in whatever context there is
            _holding.reset(mark)


def _token() -> str:
    from secrets import token_hex  # here, because few need it

    return token_hex(16)


def _chance() -> float:
    from random import random  # as above

    return random()  # noqa: S311 - nothing here is secret
