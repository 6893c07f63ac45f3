"""`EncodedTier`: makes a tier of any byte store, by adding the envelope, once for all backends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tiercache._log import logger
from tiercache.accounts import LEDGER_VERBS
from tiercache.entry import Entry
from tiercache.envelope import Opened, Secrets, open_envelope, open_envelopes, open_values, seal_all
from tiercache.errors import ConfigError
from tiercache.forks import not_pickled, reset_after_fork
from tiercache.policies import Failure
from tiercache.protocols import (
    CAPABILITIES,
    SYSTEM_CLOCK,
    AsyncByteStore,
    Blob,
    ByteStore,
    Clock,
)
from tiercache.units import Duration, optional_duration

__all__ = ["EncodedTier"]


class EncodedTier:
    """A tier over ``store``: entries go in and out as verified envelopes.

    Values must be bytes; a chain with a codec encodes them first. A damaged envelope is a miss, is
    counted as corrupt and deleted; one of an unknown format version is a miss, counted as foreign, and
    stays: the first is told in the log. An expired one is a miss and counted. `mset` raises `TypeError` for
    a value that is not bytes.

    ``secret`` (bytes or text of 16 bytes and more, or several) signs the envelopes, for a backend to which
    others can write: what none of them signed is a miss. A forged or altered entry is taken for a damaged
    one; one that an unknown secret signed, or nobody, is foreign and left alone. The first secret signs, all
    of them verify: to change it, put the new one after the old one everywhere, then before it, then alone.

    The tier can do what its store can: blocking calls, native async or both, scan, clear, purge, size.
    Thread-safe if the store is. ``ttl`` (seconds, text such as ``"30d"``, or ``None``) is the longest that
    this tier holds an entry. ``breaker_failures``, ``breaker_pause``, ``breaker_longest`` and ``retries`` say
    what a chain does when calls fail (`Failure`). For a store that may hang, add a deadline with `guarded`.
    """

    stores_bytes = True

    def __init__(
        self,
        store: ByteStore | AsyncByteStore,
        *,
        name: str | None = None,
        ttl: Duration | None = None,
        clock: Clock = SYSTEM_CLOCK,
        secret: bytes | str | Sequence[bytes | str] | Secrets | None = None,
        breaker_failures: int | None = 3,
        breaker_pause: Duration = 1.0,
        breaker_longest: Duration = 30.0,
        retries: int = 0,
    ) -> None:
        if not isinstance(store, ByteStore | AsyncByteStore):
            raise ConfigError(
                f"{type(self).__name__}: {type(store).__name__} is no byte store, which has mget, mset, "
                f"mdelete and close, or amget, amset, amdelete and aclose"
            )
        self._secrets = Secrets.of(secret, f"{type(self).__name__}.secret")
        self.name = name or getattr(store, "name", None) or type(store).__name__.lower()
        #: In seconds.
        self.ttl = optional_duration(ttl, name=f"{type(self).__name__}.ttl")
        self.store: Any = store
        itself: Any = store
        #: See `SupportsLocation`.
        self.location: Hashable = getattr(store, "location", itself)
        #: What a chain does when calls fail.
        self.failure = Failure.of(
            type(self).__name__,
            deadline=None,
            breaker_failures=breaker_failures,
            breaker_pause=breaker_pause,
            breaker_longest=breaker_longest,
            retries=retries,
        )
        self._clock = clock
        self._lock = threading.Lock()
        self._corrupt = 0
        self._expirations = 0
        self._foreign = 0
        reset_after_fork(self)
        # Instance attributes, because what a tier can do is what its store can do: a method here for
        # a verb that the store lacks would be a stub.
        verbs = [verb for verb in CAPABILITIES if verb != "peek"]  # which gives entries, and stores have none
        for verb in (*verbs, *(f"a{verb}" for verb in verbs), "size", "check_purge", "about"):
            if hasattr(store, verb):
                setattr(self, verb, getattr(store, verb))
        if getattr(store, "ledgers", False) is True:
            #: See `SupportsLedger`.
            self.ledgers = True
            for verb in (*LEDGER_VERBS, *(f"a{verb}" for verb in LEDGER_VERBS)):
                if hasattr(store, verb):
                    setattr(self, verb, getattr(store, verb))
        if isinstance(store, ByteStore):
            self.mget, self.mset = self._mget, self._mset
            self.mdelete, self.close = store.mdelete, store.close
        if isinstance(store, AsyncByteStore):
            self.amget, self.amset = self._amget, self._amset
            self.amdelete, self.aclose = store.amdelete, store.aclose

    def after_fork(self) -> None:
        """A new lock: another thread of the parent may have held this one."""
        self._lock = threading.Lock()

    __reduce__ = not_pickled

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"

    def _mget(self, keys: Sequence[str]) -> dict[str, Entry[bytes]]:
        blobs = self.store.mget(keys)
        if not blobs:
            return {}
        if len(blobs) == 1 and self._secrets is None:  # most look-ups of one key end here
            ((key, data),) = blobs.items()
            entry = open_envelope(key, data, self._clock.time()) if type(data) is bytes else None
            if entry is not None:
                return {key: entry}
        drained = _drain(blobs)
        del blobs  # or nothing would be let go of
        found, corrupt = self._open(drained)
        if corrupt:
            with suppress(Exception):  # a read never fails because the repair did
                self.store.mdelete(corrupt)
        return found

    def _read_one(self, key: str) -> Entry[bytes] | None:
        """`SupportsReadOne.read_one`, for a tier whose answers need no second look to have by that name."""
        return self._mget((key,)).get(key)

    def _values_of(self, blobs: dict[str, bytes], time: Callable[[], float]) -> dict[str, bytes] | None:
        """What `SupportsReadValues.read_values` gives, of what was found in the store."""
        drained = _drain(blobs)
        del blobs
        opened, until = open_values(drained, self._clock.time())
        # By now; to open them may have taken its time.
        if opened.corrupt or not until > max(self._clock.time(), time()):
            return None
        self._count(opened)
        values: dict[str, Any] = opened.entries
        return values

    def _mset(self, entries: Mapping[str, Entry[bytes]]) -> None:
        self.store.mset(self._seal(entries))

    async def _amget(self, keys: Sequence[str]) -> dict[str, Entry[bytes]]:
        found, corrupt = self._open(_drain(await self.store.amget(keys)))
        if corrupt:
            with suppress(Exception):
                await self.store.amdelete(corrupt)
        return found

    async def _amset(self, entries: Mapping[str, Entry[bytes]]) -> None:
        await self.store.amset(self._seal(entries))

    def counters(self) -> Mapping[str, int]:
        """``corrupt``, ``foreign`` and ``expirations``, and what the store counts itself."""
        counted = dict(self.store.counters()) if hasattr(self.store, "counters") else {}
        counted["corrupt"] = counted.get("corrupt", 0) + self._corrupt
        counted["foreign"] = self._foreign
        counted["expirations"] = counted.get("expirations", 0) + self._expirations
        return counted

    def _open(self, blobs: Iterable[tuple[str, bytes]]) -> tuple[dict[str, Entry[bytes]], list[str]]:
        opened = open_envelopes(blobs, self._clock.time(), self._secrets)
        self._count(opened)
        return opened.entries, opened.corrupt

    def _count(self, opened: Opened) -> None:
        _, corrupt, expired, foreign = opened
        if corrupt or expired or foreign:
            with self._lock:
                self._corrupt += len(corrupt)
                self._expirations += expired
                first = foreign and not self._foreign
                self._foreign += foreign
            if first:
                self._tell_foreign()

    def _tell_foreign(self) -> None:
        """Once: whoever gave a wrong secret pays for everything again, and nothing fails."""
        signed = (
            "signed with a secret, and this tier has none"
            if self._secrets is None
            else ("not signed with a secret= of this tier")
        )
        logger().warning(
            "tier %r holds entries that are %s, or of a format version that is unknown here: they are misses "
            "and left alone; stats() counts them as foreign",
            self.name,
            signed,
        )

    def _seal(self, entries: Mapping[str, Entry[bytes]]) -> dict[str, Blob]:
        self._check_bytes(entries)
        return seal_all(entries, self._secrets)

    def _check_bytes(self, entries: Mapping[str, Entry[bytes]]) -> None:
        for entry in entries.values():
            if not isinstance(entry.value, bytes):
                raise TypeError(
                    f"{self.name} stores bytes, not {type(entry.value).__name__}; give the cache a codec"
                )


def _drain(blobs: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The items of ``blobs``, each let go of once its payload is copied out, so that the next payload takes
    its memory: holding a batch twice costs more in page faults than all the checks together.

    Drivers like to give other views of bytes; what is none at all is an envelope as damaged as an empty one.
    """
    items = list(blobs.items())
    del blobs
    while items:
        key, data = items.pop()
        if type(data) is not bytes:
            data = bytes(data) if isinstance(data, bytearray | memoryview) else b""
        yield key, data
