"""One tier by itself, asked for what it has: an archive leaves nothing out because a tier failed."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from tiercache._chain.member import Member
from tiercache._log import describe
from tiercache._running.bridge import drive
from tiercache.errors import TierCacheError, TierError

__all__ = ["answer"]

T = TypeVar("T")


def answer(member: Member, call: Coroutine[Any, Any, T]) -> T:
    """What ``call``, which asks ``member``, comes to. Raises `TierError`, whatever a tier of somebody else
    raised: else that would look like an error of the archive's file."""
    try:
        return drive(call)
    except TierCacheError:
        raise
    except Exception as error:
        name = member.guard.name
        raise TierError(f"tier {name!r} cannot tell what it has ({describe(error)})", tier=name) from error
