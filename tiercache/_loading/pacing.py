"""Calling a loader as its `Pace` says: what waits before each call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeAlias

from tiercache._loading.closing import Closing
from tiercache._loading.gate import inside
from tiercache._loading.pace import Pace
from tiercache._running.bridge import BLOCKING, LeftRunning, Resumed, Runtime
from tiercache._running.owners import Owner, thrown
from tiercache.protocols import Clock

__all__ = ["Attempt", "Check", "Texts", "paced"]

#: One call of the loader, and nothing else.
Attempt: TypeAlias = Callable[[Runtime, list[str]], Awaitable[dict[str, Any]]]
#: Raises `BudgetExceeded` unless a call might begin.
Check: TypeAlias = Callable[[Runtime], Awaitable[None]]
#: What the loader sends: for who counts tokens.
Texts: TypeAlias = Callable[[], Sequence[str]]


async def paced(
    runtime: Runtime,
    clock: Clock,
    pace: Pace,
    attempt: Attempt,
    keys: list[str],
    texts: Texts,
    check: Check | None,
    closing: Closing,
) -> dict[str, Any]:
    """What ``attempt`` makes of ``keys``, when it is its turn. Who waits for that when the cache is closed
    gets a `CacheClosed`."""
    resumed = isinstance(runtime, Resumed)
    pause = partial(closing.pause, runtime)

    async def turn() -> dict[str, Any]:
        nonlocal resumed
        if resumed:  # it had its turn, and was called
            resumed = False
            return await attempt(runtime, keys)
        owner = Owner()
        # A plain loader whose caller has gone is tried again in the thread where it is waited for.
        where = BLOCKING if isinstance(runtime, Resumed) else runtime
        return await owner.own(_in_turn(owner, where, clock, pace, attempt, keys, texts, check, closing))

    if pace.retry is None:
        return await turn()
    made: dict[str, Any] = await pace.retry.run(pause, clock, turn)
    return made


async def _in_turn(
    owner: Owner,
    runtime: Runtime,
    clock: Clock,
    pace: Pace,
    attempt: Attempt,
    keys: list[str],
    texts: Texts,
    check: Check | None,
    closing: Closing,
) -> dict[str, Any]:
    rate, gate = pace.rate, pace.gate
    # First the place, then the rate: waiting for a place in between, calls would gather that have their share
    # of the rate already, and go all at once.
    place = None if gate is None else await gate.enter(runtime, owner, closing)
    runs_on = False
    try:
        if rate is not None:
            if check is not None:  # the attempt asks again, after the wait; what is refused now takes nothing
                await check(runtime)
            tokens = rate.tokens(texts()) if rate.counts_tokens else 0
            await rate.take(runtime, clock, tokens, closing)
        with nullcontext() if place is None else inside(place):
            return await attempt(runtime, keys)
    except LeftRunning as left:
        if gate is not None and place is not None:
            runs_on, place.owner, place.loop = True, None, None
            kept = place
            left.future.add_done_callback(lambda _ended: gate.leave(kept))
        raise
    except GeneratorExit as gone:
        thrown(gone)
        raise
    finally:
        if gate is not None and place is not None and not runs_on:
            gate.leave(place)
