"""Looks below a cache's own methods: what each tier holds under a key, of whatever codec. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tiercache._chain.core import Core
from tiercache._chain.journal import Fences
from tiercache._chain.nested import ChainTier
from tiercache._log import describe
from tiercache._running.bridge import BLOCKING, drive
from tiercache.chain import TieredCache
from tiercache.entry import Entry

__all__ = ["Held", "held"]


@dataclass(frozen=True, slots=True)
class Held:
    """What one tier says of a key: an ``entry`` or none, or why it could not be asked, in ``unseen`` (with
    ``failed`` if it should have been). ``deleted``: it missed the delete of that entry, or an overwrite, and
    the chain never serves it."""

    tier: str
    entry: Entry[Any] | None = None
    unseen: str = ""
    failed: bool = False
    deleted: bool = False


def held(cache: TieredCache[Any], key: str) -> list[Held]:
    """What the tiers hold under ``key``, from the top down; the tiers of a chain inside each by itself. What
    is past its time is nothing."""
    return list(_held(cache._core, key, ""))  # noqa: SLF001 - it is the point of this module


def _held(core: Core, key: str, within: str) -> Iterator[Held]:
    journal, fences = core.stack.journal, Fences()
    for member in core.members:
        guard = member.guard
        name = within + guard.name
        [folded] = member.fold_all([key])
        if isinstance(guard.tier, ChainTier):
            yield from _held(guard.tier._core, folded, f"{name}/")  # noqa: SLF001 - as above
            continue
        if member.nonblocking:
            yield Held(name, unseen="memory is each process's own")
            continue
        try:
            found = drive(guard.command(member.port(BLOCKING).mget, [folded], reads=True))
        except Exception as error:  # noqa: BLE001 - whatever a tier raises: the others can be asked still
            yield Held(name, unseen=f"it failed: {describe(error)}", failed=True)
            continue
        entry = found.get(folded)
        if entry is None or (entry.expires_at is not None and entry.expires_at <= core.stack.clock.time()):
            yield Held(name)
            continue
        keepers = journal.looks.get(member.depth, ())
        drive(journal.look(BLOCKING, core.members, keepers, [key], fences))
        late = fences.deleted.get(folded) if keepers else None
        owed = guard.arrears.unsettled([folded]) or guard.arrears.too_old(
            {folded: entry}, guard.arrears.ranges([folded])
        )
        deleted = bool(owed) or (late is not None and (entry.created_at or 0.0) < late)
        yield Held(name, entry, deleted=deleted)
