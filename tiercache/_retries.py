"""Further tries of a tier's call that failed for a reason that may pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tiercache._bridge import Port
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
    policy: Failure, clock: Clock, port: Port, verb: Callable[[Any], Awaitable[Any]], argument: Any
) -> Any:
    """``await verb(argument)``, and again where that failed for a reason that may pass, as often as
    ``policy`` says. A further try begins in the first half of the deadline only, since it may take as long as
    the first."""
    limit = float("inf") if policy.deadline is None else policy.deadline / 2
    start = clock.monotonic()
    for number in range(policy.retries):
        try:
            return await verb(argument)
        except _FINAL:
            raise
        except Exception:
            wait = _FIRST_WAIT * 2**number
            if clock.monotonic() - start + wait > limit:
                raise
        await port.runtime.sleep(wait)
    return await verb(argument)
