"""Further tries of a tier's call that failed for a reason that may pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from tiercache._running.bridge import drive
from tiercache._running.lanes import Lane
from tiercache._running.ports import Port
from tiercache.errors import CacheClosed, CodecError, EntryRejected, TierTimeout
from tiercache.policies import Failure
from tiercache.protocols import Clock

__all__ = ["tried"]

#: What another try would raise again, or has no time for.
_FINAL = (
    EntryRejected, TierTimeout, TimeoutError, CacheClosed, CodecError,
    TypeError, ValueError, LookupError, AttributeError, NotImplementedError,
)  # fmt: skip
_FIRST_WAIT = 0.01  # seconds before a second try; doubled for each one after it


async def tried(
    policy: Failure,
    clock: Clock,
    lane: Lane,
    port: Port,
    verb: Callable[[Any], Awaitable[Any]],
    argument: Any,
) -> Any:
    """``await verb(argument)``, and again where that failed for a reason that may pass, as often as
    ``policy`` says. A further try begins in the first half of the deadline only, and gets what is left of it:
    then it runs in ``lane``, where it can be left behind, since the tier would give it a whole one."""
    deadline = policy.deadline
    start = clock.monotonic()
    left: float | None = None
    for number in range(policy.retries + 1):
        try:
            if left is None:
                return await verb(argument)
            if port.runtime.blocking:
                return lane.call(lambda: drive(_awaited(verb, argument)), left)
            return await lane.atask(partial(verb, argument), left, settle=True)
        except _FINAL:
            raise
        except Exception:
            wait = _FIRST_WAIT * 2**number
            if number == policy.retries:
                raise
            if deadline is not None and clock.monotonic() - start + wait > deadline / 2:
                raise
        await port.runtime.sleep(wait)
        if deadline is not None:
            left = deadline - (clock.monotonic() - start)
    raise AssertionError("unreachable: the last try returns or raises")


async def _awaited(verb: Callable[[Any], Awaitable[Any]], argument: Any) -> Any:
    return await verb(argument)
