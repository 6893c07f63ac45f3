"""Which tiers of a cache outlast this process, and what those can do that a command asks of them.

The application keeps its memory for hours, and may list it; a command's memory is empty, and ends with it.
What a chain does in memory alone, such as bearing in mind that a tier could not be cleared, a command has not
done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiercache._chain.core import Core
from tiercache._chain.member import Member
from tiercache._chain.nested import ChainTier
from tiercache._running.bridge import BLOCKING
from tiercache.chain import TieredCache

__all__ = ["fleeting", "lasts", "listed", "lister", "unclearable", "unlisted"]


def lasts(cache: TieredCache[Any]) -> bool:
    """Whether any tier keeps what is written to it longer than this process lives."""
    return any(map(_lasts, _core(cache).members))


def fleeting(cache: TieredCache[Any]) -> list[str]:
    """The tiers of which this process has its own, which ends with it."""
    return [member.guard.name for member in _core(cache).members if not _lasts(member)]


def unclearable(cache: TieredCache[Any]) -> list[str]:
    """The tiers that cannot be made to drop a namespace: a chain can but look past what they hold."""
    return [
        member.guard.name
        for member in _core(cache).members
        if _lasts(member) and not member.can_clear(BLOCKING)
    ]


def listed(cache: TieredCache[Any]) -> list[Member]:
    """The tiers that list their keys, among those that outlast this process, from the top down."""
    return [member for member in _core(cache).members if _lists(member)]


def lister(cache: TieredCache[Any]) -> Member | None:
    """The lowest tier that lists its keys, among those that outlast this process."""
    return next(reversed(listed(cache)), None)


def unlisted(cache: TieredCache[Any]) -> list[str]:
    """The tiers below the `lister`, from the top down, whose keys it may not have."""
    depth = -1 if (member := lister(cache)) is None else member.depth
    return [other.guard.name for other in _core(cache).members[depth + 1 :] if _lasts(other)]


def _core(cache: TieredCache[Any]) -> Core:
    return cache._core  # noqa: SLF001 - it is of no use to those who write applications


def _inside(member: Member) -> Sequence[Member]:
    """The tiers of a chain inside; of any other tier nothing."""
    tier = member.guard.tier
    return tier._core.members if isinstance(tier, ChainTier) else ()  # noqa: SLF001 - as above


def _lasts(member: Member) -> bool:
    inside = _inside(member)
    return any(map(_lasts, inside)) if inside else not member.nonblocking


def _lists(member: Member) -> bool:
    """Whether it lists what lasts. A chain lists the lowest of its tiers that can, be that its memory."""
    able = [inner for inner in _inside(member) if inner.can_scan(BLOCKING)]
    return _lists(able[-1]) if able else _lasts(member) and member.can_scan(BLOCKING)
