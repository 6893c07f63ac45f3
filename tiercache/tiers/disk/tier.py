"""`DiskTier`: entries in a local directory, shared by the processes of one machine."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tiercache._paths import LOOKS
from tiercache.entry import Entry
from tiercache.envelope import Secrets, open_envelope, open_values
from tiercache.errors import ConfigError
from tiercache.policies import Failure
from tiercache.protocols import SYSTEM_CLOCK, Clock, Debt
from tiercache.tiers.disk._directory import STATS, UnusableDirectory, prepare
from tiercache.tiers.disk._room import Limits
from tiercache.tiers.disk._space import exceeds_disk, shortage
from tiercache.tiers.disk._store import DiskStore
from tiercache.tiers.encoded import EncodedTier
from tiercache.units import Duration, Size, duration, optional_duration, size

__all__ = ["DiskTier"]

_MAX_BYTES = "10GiB"
_SYNCHRONOUS = {"process": 1, "power": 2}


class DiskTier(EncodedTier):
    """Entries in the directory ``path``, for all threads and processes of this user on this machine.

    ``path``
        made if it is missing, private (0700), and ours alone: one with other files in it, a symbolic
        link or somebody else's is refused. ``~`` is expanded. Not on a network file system.
    ``max_bytes``
        bytes, or text such as ``"10GiB"``: bounds the database file (below 1 MiB: the values, and the
        file is up to 200 KiB larger). The write-ahead log beside it takes up to a few MiB, and the
        size of a batch, on top; so does the ballast, 0.75 to 6 MiB (at most an eighth of the disk), and so do
        the last two databases that were damaged, if there were any. What is past its time makes way first,
        then what was used longest ago.
        A bound that the whole disk is too small for is told in the log (``tiercache.disk``).
    ``max_entries``
        how many entries there may be; ``None``: as many as fit.
    ``ttl``
        the longest that this tier holds an entry (seconds, or text such as ``"30d"``).
    ``durability``
        ``"process"``: what was accepted survives ``kill -9``; ``"power"``: a power cut too (slower).
    ``deadline``
        seconds for a call as a whole; then `TierTimeout`. Writers wait for each other, reads do not wait
        for them. `clear` and `purge` have it for each step of up to 1,000 entries.
    ``breaker_failures``, ``breaker_pause``, ``breaker_longest``, ``retries``
        what a chain does when calls fail: see `Failure`.
    ``read_only``
        use a directory that cannot be written, or shall not be: writes raise `TierUnavailable`.
    ``on_unusable``
        ``"temporary"``: where the directory cannot be made or written, or is another user's, warn and
        use a private temporary one, removed at `close`; ``"error"``: raise.

    ``secret``
        signs the entries, where others can write to the directory: see `EncodedTier`.

    On a full disk reads and deletes go on, in the room of a ballast kept for that; sets raise `TierFull`
    until there is room again. A directory that turns read-only while it is in use is read on, and writes
    raise `TierUnavailable`; one that is removed is made anew.

    A database that is damaged is set aside in the directory as ``cache.db.damaged-…``, with a warning on the
    logger ``tiercache.disk``, and a new one is made; with ``read_only`` it is `TierUnavailable`.
    Construction looks at the directory only: a database that is locked is an error of the calls
    (`TierTimeout`), which a chain takes for misses. Raises `ConfigError` for
    wrong arguments and refused directories. Thread-safe; a forked child may go on using it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: Size = _MAX_BYTES,
        max_entries: int | None = None,
        ttl: Duration | None = None,
        durability: Literal["process", "power"] = "process",
        deadline: Duration = 2.0,
        breaker_failures: int | None = 3,
        breaker_pause: Duration = 1.0,
        breaker_longest: Duration = 30.0,
        retries: int = 0,
        read_only: bool = False,
        on_unusable: Literal["error", "temporary"] = "error",
        name: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        secret: bytes | str | Sequence[bytes | str] | None = None,
    ) -> None:
        if max_entries is not None and (
            not isinstance(max_entries, int) or isinstance(max_entries, bool) or max_entries < 1
        ):
            raise ConfigError(
                f"DiskTier.max_entries: {max_entries!r} is not allowed; give 1 or more, or None"
            )
        if durability not in _SYNCHRONOUS:
            raise ConfigError(f'DiskTier.durability: {durability!r} is unknown; give "process" or "power"')
        if on_unusable not in ("error", "temporary"):
            raise ConfigError(
                f'DiskTier.on_unusable: {on_unusable!r} is unknown; give "error" or "temporary"'
            )
        explicit = max_bytes != _MAX_BYTES
        secrets = Secrets.of(secret, "DiskTier.secret")
        limits = Limits(size(max_bytes, name="DiskTier.max_bytes"), max_entries)
        seconds = duration(deadline, name="DiskTier.deadline")
        failure = Failure.of(
            "DiskTier",
            deadline=seconds,
            breaker_failures=breaker_failures,
            breaker_pause=breaker_pause,
            breaker_longest=breaker_longest,
            retries=retries,
            writes_apart=True,  # a foreign writer's lock stops writes and not reads
        )
        longest = optional_duration(ttl, name="DiskTier.ttl")
        on_close: Callable[[], object] | None = None
        #: Whether a temporary directory stands in for the one that was asked for.
        self.temporary = False
        try:
            self.directory = prepare(path, read_only=read_only)
        except UnusableDirectory as error:
            if on_unusable != "temporary":
                raise
            self.directory = _temporary(error)
            self.temporary = True
            on_close = weakref.finalize(self, _remove, self.directory, os.getpid())
            read_only = False
        #: In bytes.
        self.max_bytes = limits.max_bytes
        if explicit and not (read_only or LOOKS.get()):  # the default is no promise that there is so much
            too_large = exceeds_disk(self.directory, limits.max_bytes)
            if too_large:
                logging.getLogger("tiercache.disk").warning("%s", too_large)
        super().__init__(
            DiskStore(
                self.directory,
                name=name or "disk",
                limits=limits,
                deadline=seconds,
                synchronous=_SYNCHRONOUS[durability],
                read_only=read_only,
                clock=clock,
                on_close=on_close,
            ),
            name=name,
            ttl=longest,
            clock=clock,
            secret=secrets,
        )
        self.failure = failure
        #: Where a chain shares its statistics unless it is told otherwise; see `Stack.share`.
        self.stats_file = None if read_only or on_close is not None else self.directory / STATS
        self.location = ("disk", os.path.realpath(self.directory))
        #: Its entries are whole, and those asked for alone: a chain need not look at each again. (A subclass
        #: may have `mget` do something of its own.)
        self.verifies = type(self) is DiskTier
        if self.verifies and secrets is None:
            #: See `SupportsReadOne` and `SupportsReadValues`.
            self.read_one, self.read_values = self._read_one, self._read_values
        #: See `SupportsJournal`. Where nothing may be written, nothing can be noted either.
        self.journals = self.store.journals
        self.glance, self.record = self.store.glance, self.store.record
        self.settle, self.due, self.owed = self.store.settle, self.store.due, self.store.owed
        self.owes_nothing = self.store.owes_nothing

    def shortage(self) -> str:
        """What is wrong with the room on the disk, for people; ``""`` where there is enough, or nothing to be
        written."""
        return shortage(self.directory, self.max_bytes) if self.journals else ""

    def __repr__(self) -> str:
        return f"DiskTier({str(self.directory)!r})"

    def _mset(self, entries: Mapping[str, Entry[bytes]], *, debts: Sequence[Debt] = ()) -> None:
        self.store.mset(self._seal(entries), debts=debts)

    def fill(self, entries: Mapping[str, Entry[bytes]], ticket: int) -> list[str]:
        """See `SupportsJournal.fill`."""
        refused: list[str] = self.store.fill(self._seal(entries), ticket)
        return refused

    def _mget(self, keys: Sequence[str]) -> dict[str, Entry[bytes]]:
        if len(keys) == 1 and self._secrets is None:
            (key,) = keys
            entry = self._read_one(key)
            return {} if entry is None else {key: entry}
        # Entries are opened one by one as they leave the database, not a batch later: see DiskStore.read.
        hits: dict[str, Entry[bytes]] = self.store.read(keys, self._open)
        return hits

    def _read_one(self, key: str) -> Entry[bytes] | None:
        # What is expired, damaged or somebody else's is read again, to be counted and repaired as in a batch.
        found: Entry[bytes] | None = self.store.one(key, open_envelope, self._open)
        return found

    def _read_values(self, keys: Sequence[str], time: Callable[[], float]) -> dict[str, bytes] | None:
        plain = True

        def take(blobs: Iterable[tuple[str, bytes]]) -> tuple[dict[str, Any], list[str]]:
            nonlocal plain
            opened, until = open_values(blobs, self._clock.time())
            # By now; to drop what is damaged may take until later.
            plain = not opened.corrupt and until > max(self._clock.time(), time())
            if not plain:
                return {}, []
            self._count(opened)
            return opened.entries, []

        values: dict[str, bytes] = self.store.read(keys, take)
        return values if plain else None

    def peek(self, keys: Sequence[str]) -> dict[str, Entry[bytes]]:
        """See `SupportsPeek`."""
        hits: dict[str, Entry[bytes]] = self.store.read(keys, self._open, uses=False)
        return hits


def _temporary(reason: UnusableDirectory) -> Path:
    try:
        path = prepare(tempfile.mkdtemp(prefix="tiercache-"), read_only=False)
    except (OSError, UnusableDirectory) as error:
        why = error.plight if isinstance(error, UnusableDirectory) else error.strerror
        raise ConfigError(
            f"{reason.plight}; and no temporary one can be made ({why}): let TMPDIR name a directory that "
            f"this user can write"
        ) from error
    warnings.warn(
        f"{reason.plight}. Using the temporary directory {path}, which is empty and goes away at the end.",
        RuntimeWarning,
        stacklevel=3,
    )
    return path


def _remove(path: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child's end is not the end of its parent's directory
        shutil.rmtree(path, ignore_errors=True)
