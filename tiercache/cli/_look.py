"""Looks below a cache's own methods: what each tier holds under a key, of whatever codec. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tiercache._bridge import BLOCKING, drive
from tiercache._log import describe
from tiercache._member import Member
from tiercache._nested import ChainTier
from tiercache.chain import TieredCache
from tiercache.entry import Entry

__all__ = ["Held", "held"]


@dataclass(frozen=True, slots=True)
class Held:
    """What one tier says of a key: an ``entry`` or none; or why it could not be asked, in ``unseen``."""

    tier: str
    entry: Entry[Any] | None = None
    unseen: str = ""
    failed: bool = False


def held(cache: TieredCache[Any], key: str) -> list[Held]:
    """What the tiers hold under ``key``, from the top down; the tiers of a chain inside each by itself. What
    is past its time is nothing."""
    core = cache._core  # noqa: SLF001 - it is the point of this module
    return list(_held(core.members, key, "", core.stack.clock.time()))


def _held(members: Sequence[Member], key: str, within: str, now: float) -> Iterator[Held]:
    for member in members:
        guard = member.guard
        name = within + guard.name
        [folded] = member.fold_all([key])
        if isinstance(guard.tier, ChainTier):
            inner = guard.tier._core.members  # noqa: SLF001 - as above
            yield from _held(inner, folded, f"{name}/", now)
        elif member.nonblocking:
            yield Held(name, unseen="memory is each process's own")
        else:
            try:
                found = drive(guard.command(member.port(BLOCKING).mget, [folded], reads=True))
            except Exception as error:  # noqa: BLE001 - whatever a tier raises: the others can be asked still
                yield Held(name, unseen=f"it failed: {describe(error)}", failed=True)
                continue
            entry = found.get(folded)
            over = entry is not None and entry.expires_at is not None and entry.expires_at <= now
            yield Held(name, None if over else entry)
