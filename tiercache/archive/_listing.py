"""Which keys an export takes, page by page, and how a page's place is written down.

A tier that knows folded keys lists a whole tree of namespaces at once, also those that nobody named. Memory
keeps namespaces apart, and is listed view by view.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from tiercache._chain.core import Core
from tiercache._chain.member import Member
from tiercache._chain.nested import ChainTier
from tiercache._running.bridge import BLOCKING
from tiercache.archive._asking import answer
from tiercache.archive._pieces import Pieces
from tiercache.chain import TieredCache
from tiercache.errors import ArchiveError, ConfigError
from tiercache.keys import KeyRange, Namespace, placed

__all__ = ["Listing", "core_of", "listing_members", "packed", "unpacked"]

#: Keys under the path of their namespace.
Keys = dict[tuple[str, ...], list[str]]
Source = Callable[[Any], "tuple[Keys, Any]"]

#: A page of folded keys, after the prefix, what is left out, and a cursor.
Scan = Callable[[str, str, Any], "tuple[list[str], Any]"]

_PAGE: Final = 500  # keys
_LONGEST_CURSOR: Final = 1 << 16  # characters


def core_of(cache: TieredCache[Any]) -> Core:
    """What ``cache`` stands on: entries with their times are no business of the methods that users call."""
    return cache._core  # noqa: SLF001 - as above


def listing_members(core: Core, tier: str | None) -> list[Member]:
    """The tier of that name; ``None``: all that can list their keys, from the lowest up. Raises
    `ConfigError`."""
    names = [member.guard.name for member in core.members]
    if tier is None:
        members = [member for member in reversed(core.members) if member.can_scan(BLOCKING)]
        if not members:
            raise ConfigError(f"none of the tiers can list its keys: {', '.join(names)}")
        if members[0] is not core.members[-1]:
            raise ConfigError(
                f"tier {names[-1]!r} cannot list its keys, and what it alone holds would be left out; say "
                f"which tier to copy instead"
            )
        return members
    if tier not in names:
        raise ConfigError(f"tier: {tier!r} is unknown; this cache has {', '.join(map(repr, names))}")
    member = core.members[names.index(tier)]
    if not member.can_scan(BLOCKING):
        raise ConfigError(f"tier: {tier!r} cannot list its keys; choose another")
    return [member]


class Listing:
    """All keys of ``members``, one after another, in the namespace of ``cores[0]`` and in those nested in it;
    where namespaces cannot be listed together, in those of ``cores``. Of a chain inside each tier is listed,
    but for what lower ones of it held when the export ``began``."""

    def __init__(self, cores: Sequence[Core], members: Sequence[Member], began: float) -> None:
        self._members = members
        pieces = Pieces()
        self._paths = {core.path for core in cores}
        ranges = Namespace(cores[0].path).tree()
        self._sources: list[tuple[int, Source]] = []
        for member in members:
            sources: list[Source]
            if member.fast is not None:
                sources = [partial(_own_page, core, core.members[member.depth]) for core in cores]
            else:
                root, scans = cores[0].path, _scans(member, began, pieces)
                sources = [partial(_raw_page, scan, span, root) for scan in scans for span in ranges]
            self._sources += [(member.depth, source) for source in sources]

    def depths(self, path: tuple[str, ...]) -> list[int]:
        """Where the tiers are whose keys in the namespace at ``path`` are listed, from the lowest up."""
        return [member.depth for member in self._members if member.fast is None or path in self._paths]

    def pages(self, start: Any) -> Iterator[tuple[Any, int, Keys]]:
        """Each page and the depth of its tier, after the cursor that leads to it; ``start``: the cursor to
        begin with, or ``None``."""
        number, inner = (0, None) if start is None else start
        while number < len(self._sources):
            place = (number, inner)
            depth, source = self._sources[number]
            keys, inner = source(inner)
            if inner is None:
                number += 1
            yield place, depth, keys


def _scans(member: Member, began: float, pieces: Pieces) -> list[Scan]:
    """What lists all folded keys of ``member``: one function, or of a chain inside one a tier."""
    tier = member.guard.tier
    if not isinstance(tier, ChainTier):
        return [partial(_scan, member)]
    core = tier._core  # noqa: SLF001 - a tier tells its chain of the lowest that lists alone
    listed = [inner for inner in reversed(core.members) if inner.can_scan(BLOCKING)]
    return [
        partial(_inner_scan, core, inner, listed[:number], began, pieces)
        for number, inner in enumerate(listed)
    ]


def _scan(member: Member, prefix: str, skip: str, cursor: Any) -> tuple[list[str], Any]:
    scan = member.port(BLOCKING).scan
    assert scan is not None  # noqa: S101 - see listing_members
    command = member.guard.command(scan, prefix, skip=skip, cursor=cursor, limit=_PAGE, reads=True)
    found: tuple[list[str], Any] = answer(member, command)
    return found


def _inner_scan(
    core: Core,
    member: Member,
    below: Sequence[Member],
    began: float,
    pieces: Pieces,
    prefix: str,
    skip: str,
    cursor: Any,
) -> tuple[list[str], Any]:
    keys, following = answer(member, member.page(BLOCKING, prefix, skip, cursor, _PAGE))
    keys = list(dict.fromkeys(keys))
    for lower in below:
        taken: set[str] = set()
        for piece in pieces.of([lower], keys):
            held = answer(lower, core.stored(BLOCKING, lower, piece, raw=True))
            taken.update(key for key, entry in held.items() if not (entry.created_at or 0.0) > began)
        keys = [key for key in keys if key not in taken]
    return keys, following


def _raw_page(scan: Scan, span: KeyRange, root: tuple[str, ...], cursor: Any) -> tuple[Keys, Any]:
    folded, following = scan(*span, cursor)
    keys: Keys = {}
    for name in dict.fromkeys(folded):  # a server may name one twice
        place = placed(name)
        if place is not None and place[0][: len(root)] == root:
            keys.setdefault(place[0], []).append(place[1])
    return keys, following


def _own_page(core: Core, member: Member, cursor: Any) -> tuple[Keys, Any]:
    keys, following = answer(member, member.page(BLOCKING, "", "", cursor, _PAGE))
    return {core.path: list(dict.fromkeys(keys))}, following


# -- cursors ---------------------------------------------------------------------------------------


def packed(cursor: Any) -> Any:
    """``cursor`` for JSON; ``None`` for one that no other process could use, or that is too long."""
    try:
        data = _packed(cursor)
    except TypeError:
        return None
    return data if len(repr(data)) <= _LONGEST_CURSOR else None


def _packed(cursor: Any) -> Any:
    if cursor is None or isinstance(cursor, int | str):
        return cursor
    if isinstance(cursor, bytes):
        return {"bytes": b64encode(cursor).decode()}
    if isinstance(cursor, tuple) and len(cursor) <= 4:
        return {"tuple": [_packed(part) for part in cursor]}
    raise TypeError(type(cursor).__name__)


def unpacked(data: Any) -> Any:
    """The cursor that `packed` wrote. Raises `ArchiveError`."""
    try:
        if isinstance(data, dict):
            ((kind, inner),) = data.items()
            if kind == "bytes":
                return b64decode(inner, validate=True)
            if kind == "tuple":
                return tuple(unpacked(part) for part in inner)
        elif data is None or isinstance(data, int | str):
            return data
    except (TypeError, ValueError):
        pass
    raise ArchiveError("the archive says in no way that can be read where its export was interrupted")
