"""A LangChain ``ByteStore`` as one of ours: names that any store takes, and batches that none chokes on.

A key's name in the store is a digest of it, because stores have rules for keys (an alphabet, the length of
a file's name, case). The key itself stands before the bytes,
little-endian::

    offset  size  field
         0     3  magic "tc\\x9d"
         3     1  format version
         4     8  expires_at, Unix seconds; inf: never
        12     4  bytes of the key
        16     …  key, UTF-8 (with lone surrogates); then the blob

Rejected: a reversible alphabet, which fits no long key into a file's name, and would spare a listing nothing:
whether an entry is past its time is told by its bytes alone.

Every verb is one coroutine over `_Calls`, which never suspends where those block (see
`tiercache._running.bridge`).
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from math import inf
from typing import Any, Final, Protocol, TypeAlias

from langchain_core.stores import BaseStore

from tiercache._running.bridge import drive
from tiercache.envelope import written_at
from tiercache.errors import CacheClosed, ConfigError
from tiercache.forks import reset_after_fork
from tiercache.protocols import AsyncByteStore, Blob, ByteStore, Clock, Purge

__all__ = ["blobs_in"]

_MAGIC: Final = b"tc\x9d"
_VERSION: Final = 1
_LEAD = struct.Struct("<3sBdI")
_NAME = re.compile(r"tc-[0-9a-f]{64}")
_ASYNC_VERBS: Final = ("amget", "amset", "amdelete", "ayield_keys")
#: Keys in one call: an SQL store binds each of them, and no database binds any number.
_BATCH: Final = 500
#: Values in one call of a listing, which reads them for what stands before them.
_PAGE: Final = 100

_Cursor: TypeAlias = "tuple[list[str], int]"


def blobs_in(store: BaseStore[str, bytes], *, name: str, clock: Clock) -> ByteStore | AsyncByteStore:
    """``store`` as a byte store that can do what it can: blocking calls, native async ones, or both."""
    blocking, native = _ways(store)
    kind = _Both if blocking and native else _Native if native else _Blocking
    return kind(store, name=name, clock=clock)


def _ways(store: BaseStore[str, bytes]) -> tuple[bool, bool]:
    """Whether ``store`` answers blocking calls, and whether it has async ones of its own: those that it
    inherits put the blocking ones on a thread, and the chain has better threads for that."""
    mode = getattr(store, "async_mode", None)
    if isinstance(mode, bool):  # an SQLStore has all methods, and half of them raise
        return not mode, mode
    return True, all(getattr(type(store), verb) is not getattr(BaseStore, verb) for verb in _ASYNC_VERBS)


# -- what is stored --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    key: str
    expires_at: float
    blob: bytes


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _name(key: bytes) -> str:
    return f"tc-{blake2b(key, digest_size=32).hexdigest()}"


def _wrap(key: bytes, blob: bytes, expires_at: float | None) -> bytes:
    lead = _LEAD.pack(_MAGIC, _VERSION, inf if expires_at is None else expires_at, len(key))
    return b"".join((lead, key, blob))


def _bytes(value: object) -> bytes:
    """What a store gave for bytes, as such; what is none at all is as damaged as an empty value."""
    if type(value) is bytes:
        return value
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""


def _unwrap(key: bytes, data: bytes) -> bytes | None:
    """The blob in ``data`` if ``key`` stands before it; ``None`` for another version's, to be left alone;
    ``b""`` for what is damaged, which no envelope is."""
    start = _LEAD.size + len(key)
    if len(data) < _LEAD.size or data[:3] != _MAGIC:
        return b""
    if data[3] != _VERSION:
        return None
    return data[start:] if data[_LEAD.size : start] == key else b""


def _row(name: str, data: bytes) -> _Row | None:
    """What lies under ``name``; ``None`` if it is not ours or not whole."""
    if len(data) < _LEAD.size:
        return None
    magic, version, expires_at, size = _LEAD.unpack_from(data)
    key = data[_LEAD.size : _LEAD.size + size]
    if (magic, version) != (_MAGIC, _VERSION) or _name(key) != name:
        return None
    return _Row(name, key.decode("utf-8", "surrogatepass"), expires_at, data[_LEAD.size + size :])


# -- how a store is called -------------------------------------------------------------------------


class _Calls(Protocol):
    """A LangChain store's methods as coroutines, which may never suspend."""

    async def mget(self, names: list[str]) -> Sequence[Any]: ...

    async def mset(self, pairs: list[tuple[str, bytes]]) -> None: ...

    async def mdelete(self, names: list[str]) -> None: ...

    async def names(self) -> list[str]:
        """All names of ours: what a store makes of a prefix is anything from a pattern to a folder."""
        ...


class _OneWriter:
    """Lets any number of readers in, or one writer: LangChain asks nothing of a store about threads, and
    a file store's readers see half of what is being written."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writers = 0  # at work or waiting: no reader goes before them
        self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._writers)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._changed:
            self._writers += 1
            try:
                self._changed.wait_for(lambda: not self._readers and not self._writing)
            except BaseException:  # interrupted while it waited
                self._writers -= 1
                self._changed.notify_all()
                raise
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writers -= 1
                self._writing = False
                self._changed.notify_all()


class _BlockingCalls:
    def __init__(self, store: BaseStore[str, bytes]) -> None:
        self._store = store
        self._turn = _OneWriter()

    async def mget(self, names: list[str]) -> Sequence[Any]:
        with self._turn.reading():
            return self._store.mget(names)

    async def mset(self, pairs: list[tuple[str, bytes]]) -> None:
        with self._turn.writing():
            self._store.mset(pairs)

    async def mdelete(self, names: list[str]) -> None:
        with self._turn.writing():
            self._store.mdelete(names)

    async def names(self) -> list[str]:
        with self._turn.reading():
            return [name for name in self._store.yield_keys() if _NAME.fullmatch(name)]


class _NativeCalls:
    def __init__(self, store: BaseStore[str, bytes]) -> None:
        self._store = store

    async def mget(self, names: list[str]) -> Sequence[Any]:
        return await self._store.amget(names)

    async def mset(self, pairs: list[tuple[str, bytes]]) -> None:
        await self._store.amset(pairs)

    async def mdelete(self, names: list[str]) -> None:
        await self._store.amdelete(names)

    async def names(self) -> list[str]:
        return [name async for name in self._store.ayield_keys() if _NAME.fullmatch(name)]


# -- the byte stores -------------------------------------------------------------------------------


class _Shelf:
    """The verbs, for any `_Calls`. The store is its owner's: closing ends the use of it, and no more."""

    def __init__(self, store: BaseStore[str, bytes], *, name: str, clock: Clock) -> None:
        self.name = name
        self.location = store  # see `SupportsLocation`
        self._store = store
        self._clock = clock
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self._store).__name__} of LangChain>"

    def _check_open(self) -> None:
        if self._closed:
            raise CacheClosed(f"the tier {self.name!r} is closed")

    async def _read(self, calls: _Calls, keys: Sequence[str]) -> dict[str, bytes]:
        self._check_open()
        found: dict[str, bytes] = {}
        for batch in _batches(keys, _BATCH):
            encoded = [_encoded(key) for key in batch]
            values = await calls.mget([_name(key) for key in encoded])
            for key, name, value in zip(batch, encoded, values, strict=True):
                blob = None if value is None else _unwrap(name, _bytes(value))
                if blob is not None:
                    found[key] = blob
        return found

    async def _write(self, calls: _Calls, blobs: Mapping[str, Blob]) -> None:
        self._check_open()
        for batch in _batches(list(blobs), _BATCH):
            pairs = []
            for key in batch:
                blob, expires_at = blobs[key]
                encoded = _encoded(key)
                pairs.append((_name(encoded), _wrap(encoded, blob, expires_at)))
            await calls.mset(pairs)

    async def _drop(self, calls: _Calls, keys: Sequence[str]) -> None:
        self._check_open()
        for batch in _batches(keys, _BATCH):
            await calls.mdelete([_name(_encoded(key)) for key in batch])

    async def _page(
        self, calls: _Calls, prefix: str, skip: str, cursor: _Cursor | None, limit: int
    ) -> tuple[list[str], _Cursor | None]:
        self._check_open()
        names, start = (await calls.names(), 0) if cursor is None else cursor
        stop = start + limit
        now = self._clock.time()
        page = [
            row.key
            for batch in _batches(names[start:stop], _PAGE)
            for row in await self._rows(calls, batch, prefix, skip)
            if row.expires_at > now
        ]
        return page, ((names, stop) if stop < len(names) else None)

    async def _clear(self, calls: _Calls, prefix: str, skip: str) -> None:
        self._check_open()
        for batch in _batches(await calls.names(), _PAGE):
            doomed = await self._rows(calls, batch, prefix, skip)
            if doomed:
                await calls.mdelete([row.name for row in doomed])

    def check_purge(self, what: Purge) -> None:
        """See `ChecksPurge`."""
        if what.idle is not None:
            raise ConfigError(
                "purge: nobody knows when an entry of a LangChain store was last read; purge by older_than="
            )

    async def _purge(self, calls: _Calls, prefix: str, skip: str, what: Purge) -> int:
        self._check_open()
        self.check_purge(what)
        now = self._clock.time()
        dropped = 0
        for batch in _batches(await calls.names(), _PAGE):
            rows = await self._rows(calls, batch, prefix, skip)
            doomed = [row.name for row in rows if _is_doomed(row, what, now)]
            if doomed:
                await calls.mdelete(doomed)
                dropped += len(doomed)
        return dropped

    @staticmethod
    async def _rows(calls: _Calls, names: Sequence[str], prefix: str, skip: str) -> list[_Row]:
        values = await calls.mget(list(names))
        rows = [
            _row(name, _bytes(value)) for name, value in zip(names, values, strict=True) if value is not None
        ]
        return [
            row
            for row in rows
            if row is not None and row.key.startswith(prefix) and not (skip and row.key.startswith(skip))
        ]


def _batches(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _is_doomed(row: _Row, what: Purge, now: float) -> bool:
    """Whether ``what`` names the row."""
    if row.expires_at <= now:
        return what.expired
    written = written_at(row.blob)
    return what.older_than is not None and written is not None and now - written > what.older_than


class _Blocking(_Shelf):
    """A `ByteStore` with everything that is optional."""

    def __init__(self, store: BaseStore[str, bytes], *, name: str, clock: Clock) -> None:
        super().__init__(store, name=name, clock=clock)
        self._blocking = _BlockingCalls(store)

    def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        return drive(self._read(self._blocking, keys))

    def mset(self, blobs: Mapping[str, Blob]) -> None:
        drive(self._write(self._blocking, blobs))

    def mdelete(self, keys: Sequence[str]) -> None:
        drive(self._drop(self._blocking, keys))

    def scan(
        self, prefix: str, *, skip: str = "", cursor: _Cursor | None = None, limit: int = 1000
    ) -> tuple[list[str], _Cursor | None]:
        return drive(self._page(self._blocking, prefix, skip, cursor, limit))

    def clear(self, prefix: str, *, skip: str = "") -> None:
        drive(self._clear(self._blocking, prefix, skip))

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        return drive(self._purge(self._blocking, prefix, skip, what))

    def close(self) -> None:
        self._closed = True


class _Native(_Shelf):
    """An `AsyncByteStore` with everything that is optional."""

    def __init__(self, store: BaseStore[str, bytes], *, name: str, clock: Clock) -> None:
        super().__init__(store, name=name, clock=clock)
        self._native = _NativeCalls(store)

    async def amget(self, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._read(self._native, keys)

    async def amset(self, blobs: Mapping[str, Blob]) -> None:
        await self._write(self._native, blobs)

    async def amdelete(self, keys: Sequence[str]) -> None:
        await self._drop(self._native, keys)

    async def ascan(
        self, prefix: str, *, skip: str = "", cursor: _Cursor | None = None, limit: int = 1000
    ) -> tuple[list[str], _Cursor | None]:
        return await self._page(self._native, prefix, skip, cursor, limit)

    async def aclear(self, prefix: str, *, skip: str = "") -> None:
        await self._clear(self._native, prefix, skip)

    async def apurge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        return await self._purge(self._native, prefix, skip, what)

    async def aclose(self) -> None:
        self._closed = True


class _Both(_Blocking, _Native):
    """Both: each kind of call goes to the store's own methods of that kind."""
