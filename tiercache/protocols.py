"""What tiers, byte stores, codecs and clocks must be able to do: structural protocols, no base classes.

A tier needs four methods (`Tier`, or their async twins: `AsyncTier`). Each ability beyond them is a
protocol of its own; the chain looks for it with ``isinstance`` and does without where it is missing.
Tiers treat keys and entries as opaque: the chain folds the namespace into the key.

Every method may be called from several threads (or tasks of several event loops) at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence, Sized
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from tiercache.accounts import SupportsLedger
from tiercache.debts import Debt, Glance, SupportsJournal
from tiercache.entry import Entry

__all__ = [
    "CAPABILITIES",
    "SYSTEM_CLOCK",
    "AsyncByteStore",
    "AsyncTier",
    "Blob",
    "ByteStore",
    "Clock",
    "Codec",
    "Debt",
    "Glance",
    "Namespaced",
    "Purge",
    "Size",
    "SupportsBytes",
    "SupportsClear",
    "SupportsCopy",
    "SupportsCounters",
    "SupportsJournal",
    "SupportsKeyCounts",
    "SupportsLease",
    "SupportsLedger",
    "SupportsLengths",
    "SupportsLocation",
    "SupportsNamespaces",
    "SupportsPeek",
    "SupportsPurge",
    "SupportsScan",
    "SupportsSize",
    "SystemClock",
    "Tier",
]

T = TypeVar("T")


# -- tiers -----------------------------------------------------------------------------------------


@runtime_checkable
class Tier(Protocol):
    """Storage for entries, called by blocking code (and from a worker thread by async code).

    One with the attribute ``nonblocking = True`` is memory of this process: it never waits, so that event
    loops call it as it is, and has nothing that outlasts the process, so that the journal leaves it out, and
    no command looks into it or takes for stored what is there alone. A tier that keeps its entries, or has
    them elsewhere, must not say so, however quick it is.
    """

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        """The entries held under ``keys``: hits only, in any order. ``keys`` holds no duplicates."""
        ...

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        """Store ``entries``, replacing older ones. Raises `EntryRejected` for those that never fit."""
        ...

    def mdelete(self, keys: Sequence[str]) -> None:
        """Drop ``keys``; absent ones are no error."""
        ...

    def close(self) -> None:
        """Give back files and connections. Idempotent."""
        ...


@runtime_checkable
class AsyncTier(Protocol):
    """The same for native async code. A tier may have these methods instead of `Tier`'s, or as well."""

    async def amget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]: ...

    async def amset(self, entries: Mapping[str, Entry[Any]]) -> None: ...

    async def amdelete(self, keys: Sequence[str]) -> None: ...

    async def aclose(self) -> None: ...


# -- byte stores -----------------------------------------------------------------------------------

#: Bytes to keep, and the Unix seconds after which the store may forget them (``None``: never).
Blob: TypeAlias = "tuple[bytes, float | None]"


@runtime_checkable
class ByteStore(Protocol):
    """The smallest backend: bytes under string keys. `EncodedTier` makes a `Tier` of one."""

    def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The bytes held under ``keys``: hits only, in any order."""
        ...

    def mset(self, blobs: Mapping[str, Blob]) -> None:
        """Store ``blobs``, replacing older ones. Raises `EntryRejected` for those that never fit."""
        ...

    def mdelete(self, keys: Sequence[str]) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class AsyncByteStore(Protocol):
    """The same for native async code."""

    async def amget(self, keys: Sequence[str]) -> dict[str, bytes]: ...

    async def amset(self, blobs: Mapping[str, Blob]) -> None: ...

    async def amdelete(self, keys: Sequence[str]) -> None: ...

    async def aclose(self) -> None: ...


# -- capabilities ----------------------------------------------------------------------------------


@runtime_checkable
class SupportsPeek(Protocol):
    """Can be read without its entries counting as used: for copies and looks."""

    def peek(self, keys: Sequence[str]) -> dict[str, Entry[Any]]: ...


@runtime_checkable
class SupportsLengths(Protocol):
    """Can tell how much it holds under keys without reading it: for copies, which take some at a time."""

    def lengths(self, keys: Sequence[str]) -> dict[str, int]:
        """About how many bytes each of ``keys`` (no duplicates) holds. A key that is left out holds nothing;
        one that is named may hold nothing either: it has expired, perhaps, or is damaged."""
        ...


@runtime_checkable
class SupportsScan(Protocol):
    """Can list its live keys, page by page (so that async callers never hold an open cursor)."""

    def scan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        """One page of about ``limit`` keys that begin with ``prefix`` and not with ``skip`` ("" skips
        nothing), and the cursor of the next page; the cursor after the last page is ``None``.

        A key that is there during the whole listing is listed at least once. Expired ones are not.
        """
        ...


@runtime_checkable
class SupportsClear(Protocol):
    """Can drop a range of keys without listing it."""

    def clear(self, prefix: str, *, skip: str = "") -> None:
        """Drop every key that begins with ``prefix`` and not with ``skip`` ("" skips nothing)."""
        ...


@dataclass(frozen=True, slots=True)
class Purge:
    """What a purge drops. Durations are seconds; ``None`` leaves that reason out."""

    expired: bool = True
    older_than: float | None = None
    idle: float | None = None


@runtime_checkable
class SupportsPurge(Protocol):
    """Can drop entries by age."""

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        """Drop what ``what`` names among the keys of the range; how many entries that were."""
        ...


@runtime_checkable
class ChecksPurge(Protocol):
    """Can purge, though not for every reason."""

    def check_purge(self, what: Purge) -> None:
        """Raise `ConfigError` if it cannot tell what ``what`` names. No I/O."""
        ...


@dataclass(frozen=True, slots=True)
class Size:
    """How much a tier holds; ``bytes`` is ``None`` where values have no known encoded length."""

    entries: int
    bytes: int | None


@runtime_checkable
class SupportsSize(Protocol):
    """Knows its own size without any I/O."""

    def size(self) -> Size: ...


@runtime_checkable
class SupportsCounters(Protocol):
    """Counts what only the tier itself can see, and tells it without any I/O."""

    def counters(self) -> Mapping[str, int]:
        """Totals since it was made, by their names in `TierStats`: any of ``evictions``,
        ``expirations``, ``corrupt``, ``foreign``."""
        ...


@dataclass(frozen=True, slots=True)
class About:
    """What a backend says of itself, for people: what it is, how many seconds its clock is ahead of this
    machine's, how many bytes it has room for; ``None`` where it has no clock or bound, or does not say."""

    version: str
    skew: float | None = None
    room: int | None = None


@runtime_checkable
class SupportsAbout(Protocol):
    """Can be asked about its backend; `tiercache check --connect` shows it."""

    def about(self) -> About:
        """What is behind the tier. Raises what its reads raise."""
        ...


@runtime_checkable
class SupportsLease(Protocol):
    """Can keep leases: locks on keys that run out by themselves, seen by all who share the tier.

    They lie apart from the entries: no listing names one, and `clear`, `purge` and `mdelete` leave them
    alone. A store that is native async has ``aacquire`` and ``arelease`` instead or as well.
    """

    def acquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """Take a lease on each of ``keys`` for at most ``seconds``, unless another token has a live one;
        those that were taken. Never waits for a holder, and each key is decided atomically.

        One that ``token`` has already is taken anew: so it is renewed. Repeating the call is harmless.
        """
        ...

    def release(self, keys: Sequence[str], token: str) -> None:
        """Give up the leases of ``token`` on ``keys``. Those of others, or of nobody, stay as they are."""
        ...


@runtime_checkable
class SupportsBytes(Protocol):
    """Wants `Entry.value` as bytes: the chain encodes before it writes and decodes after it reads."""

    stores_bytes: bool


#: The verbs beyond the four that a tier may have (each with an async twin, or without).
CAPABILITIES = ("peek", "lengths", "scan", "clear", "purge", "acquire", "release")


@runtime_checkable
class Namespaced(Protocol):
    """One namespace of a memory tier, as one chain sees it: a tier of user keys with a fast road."""

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]: ...

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None: ...

    def mdelete(self, keys: Sequence[str]) -> None: ...

    def hit(self, key: str) -> Any:
        """The live value under ``key``, counted as a hit, or ``MISS``, counted nowhere. Takes no lock."""
        ...

    def get_or(self, miss: Callable[[str, Any], Any]) -> Callable[..., Any]:
        """A function ``get(key, default=None)`` that answers like `hit`, and with ``miss(key, default)``
        where that is a miss: one call less for each hit."""
        ...

    def aget_or(self, miss: Callable[[str, Any], Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same for async code: what ``miss(key, default)`` returns is awaited."""
        ...

    def hits(self, keys: Sequence[str]) -> list[Any] | None:
        """The live values of all ``keys``, counted; ``None``, and nothing counted, if one is missing (or
        comes twice, or there are none)."""
        ...

    def fresh_until(self, key: str) -> float | None:
        """When the value under ``key`` stops being fresh (Unix seconds); ``None``: never, or there is none.
        Takes no lock, and is a hint."""
        ...

    def hit_count(self) -> int:
        """How many keys the methods above have answered."""
        ...

    def hit_samples(self) -> Sequence[float]:
        """Seconds that some of the last of them took, a key."""
        ...

    def detach(self) -> None:
        """Answer `hit` and `hits` with misses from now on: the cache was closed."""
        ...


@runtime_checkable
class SupportsReadOne(Protocol):
    """Reads a single key for a blocking caller, within its own deadline, quicker than by `mget`."""

    def read_one(self, key: str) -> Entry[Any] | None:
        """What `mget` would give for ``key``, and nothing that a chain would have to look through: whole, and
        the values are bytes. ``None`` is a miss."""
        ...


@runtime_checkable
class SupportsReadValues(Protocol):
    """Reads keys for a blocking caller who wants their values and no entries around them."""

    def read_values(self, keys: Sequence[str], time: Callable[[], float]) -> dict[str, bytes] | None:
        """The values of those that `mget` would give for ``keys``, if each is fresh, also when ``time`` says
        what time it is (Unix seconds), and no codec made it; ``None``, and nothing counted or noted, if one
        is not, or is damaged: then `mget` is to be asked."""
        ...


@runtime_checkable
class SupportsPut(Protocol):
    """A `Namespaced` that takes a new value without an `Entry` around it, where ``puts`` is true."""

    clock: Clock
    puts: bool
    dropped: Sized  # what `put` dropped, until `free`

    def maker(self, life: float | None, keep: float) -> Callable[[str, Any, int, float, float], Any]:
        """A function that makes what `put` takes, for values that live for ``life`` seconds (``None``: until
        they are evicted) and are kept as stale for ``keep`` more.

        It takes the key; the value, which is nobody else's; its encoded length; and the monotonic and the
        wall-clock time, which were read of ``clock`` in this order. It gives ``None`` where `mset` may have
        to do something else."""
        ...

    def holds(self, key: str) -> bool:
        """Whether there is something under ``key``, of whatever codec and past its time or not. Takes no
        lock."""
        ...

    def ready(self, key: str, value: Any, entry: Entry[Any], now: float, wall: float) -> Any:
        """The same for ``entry``, which came with its times. ``value`` is its value, or a copy of it."""
        ...

    def put(self, one: Any) -> bool:
        """Store it, as `mset` does; false, and nothing was done, if the tier is closed. Calls no code of
        others: what was dropped is kept for `free`."""
        ...

    def free(self) -> None:
        """Free what was `dropped`; call it without a lock."""
        ...


@runtime_checkable
class SupportsKeyCounts(Protocol):
    """A `Namespaced` that tells which keys its fast road answered, where they are counted."""

    def count_keys(self, add: Callable[[Sequence[str], int], None]) -> None:
        """From now on call ``add`` with keys that `hit` and its like have answered, some time after they did,
        and for how many hits each of them stands. ``add`` takes any lock for granted, and raises nothing."""
        ...

    def settle_counts(self) -> None:
        """Tell of all of them until now."""
        ...


@runtime_checkable
class SupportsLocation(Protocol):
    """Tells which tier objects of a process hold the same entries: those with an equal ``location``
    (hashable), such as two objects over one directory. Chains over them share their epochs. An object that
    equals nothing but itself, a client for instance, may stand for the place that only it leads to.

    A tuple of texts that is the same in every process, ``("myserver", "host:port", "table")``, is also what
    the tier is called in a journal. Without one it goes by its name there: then chains that share a disk
    tier must not give one name to tiers over two different servers."""

    @property
    def location(self) -> Hashable: ...


@runtime_checkable
class SupportsNamespaces(Protocol):
    """Keeps namespaces apart by itself, so that a hit folds no key."""

    def open_namespace(self, path: tuple[str, ...], *, codec: Codec[Any] | None, lowest: bool) -> Namespaced:
        """The namespace at ``path``; ``lowest`` says that no tier lies below (it sets the ttl cap)."""
        ...


# -- codecs and clocks -----------------------------------------------------------------------------


@runtime_checkable
class Codec(Protocol[T]):
    """Turns a value into bytes and back. ``decode(encode(v)) == v`` for every value it accepts."""

    @property
    def name(self) -> str:
        """Stored beside the bytes: a chain with another codec leaves them alone."""
        ...

    def encode(self, value: T) -> bytes:
        """The bytes of ``value``. Raises `CodecError` for a value it does not take."""
        ...

    def decode(self, data: bytes) -> T:
        """The value in ``data``. Raises `CodecError` when there is none."""
        ...


@runtime_checkable
class SupportsCopy(Protocol[T]):
    """A codec of mutable values: the memory tier hands out copies and keeps one of its own."""

    def copy(self, value: T) -> T: ...


class Clock(Protocol):
    """Where time comes from; a fake one makes tests exact."""

    def time(self) -> float:
        """Unix seconds. May step."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow, comparable within this process."""
        ...


class SystemClock:
    """The machine's clocks; static, so that a call costs no Python frame of ours."""

    time = staticmethod(time)
    monotonic = staticmethod(monotonic)


SYSTEM_CLOCK: Clock = SystemClock()
