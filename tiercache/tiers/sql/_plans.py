"""What each operation of the SQL tier does, as generators that yield statements and receive results.

A plan yields a `Step` and is sent the rows it returned (a list of tuples), or the number of rows it changed;
`COMMIT` ends a transaction, and what follows is work of its own with time of its own. Plans wait for
nothing, so that blocking and asyncio code share them: only who runs the steps differs. A plan may be begun
anew after a failure, since each of its commands is idempotent.

Bounds are kept by estimate between measurements: everything this process writes counts as new, and when
that would exceed a bound (or a minute has passed, for the sake of other processes) the table is measured.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias, TypeVar

from tiercache.envelope import written_at
from tiercache.errors import TierUnavailable
from tiercache.protocols import Blob, Clock, Purge
from tiercache.tiers.sql._dialects import (
    BYTES,
    FORMAT,
    HEAD,
    ROWS,
    Dialect,
    Row,
    Step,
)
from tiercache.tiers.sql._ids import encode_key, row_id, row_ids

__all__ = ["COMMIT", "Plan", "Plans"]

T = TypeVar("T")
Plan: TypeAlias = Generator[Step, Any, T]

COMMIT: Final = Step("COMMIT")
#: Above every key: UTF-8 has no such byte.
_END: Final = b"\xff"
_BYTES: Final = {bytes}
_NOTHING: Final = (_END, _END)
#: Expired rows are looked for after so many seconds or so many writes, whichever comes first.
_PRUNE_SECONDS: Final = 10.0
_PRUNE_WRITES: Final = 256
_MEASURE_SECONDS: Final = 60.0


class Plans:
    """The plans for one table, with the counters and estimates that belong to it. Thread-safe."""

    def __init__(
        self,
        dialect: Dialect,
        clock: Clock,
        *,
        create: bool,
        max_bytes: int | None,
        max_entries: int | None,
    ) -> None:
        self.dialect = dialect
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.evictions = 0
        self.expirations = 0
        self._create = create
        self._clock = clock
        self._lock = threading.Lock()
        self._writes = 0
        self._pruned_at = clock.monotonic()
        # Not measured yet: the first write does, since the table may hold more than the bounds allow.
        self._entries = self._bytes = 0
        self._measured_at: float | None = None

    def after_fork(self) -> None:
        """The lock may have been held by a thread that the child does not have."""
        self._lock = threading.Lock()

    # -- the table -------------------------------------------------------------------------------

    def prepare(self) -> Plan[None]:
        """Make the table where it is missing, and check that it is one that we understand."""
        table, meta = (yield self.dialect.exists())[0]
        if table and not meta:
            raise TierUnavailable(
                f"the table {self.dialect.name!r} was not made by tiercache (there is no "
                f"{self.dialect.name}_meta beside it); give another table="
            )
        if not (table and meta):
            if not self._create:
                raise TierUnavailable(f"there is no table {self.dialect.name!r}, and create=False")
            yield from self._write(self.dialect.create())
        found = yield self.dialect.format()
        version = str(found[0][0]) if found else "unknown"
        if version != str(FORMAT):
            raise TierUnavailable(
                f"the table {self.dialect.name!r} has format {version}; this version of tiercache knows "
                f"format {FORMAT}: a newer version made it, so upgrade, or give another table="
            )

    def about(self) -> Plan[tuple[str, float | None]]:
        """What the database is, and how many seconds its clock is ahead of ours, if it has one."""
        before = self._clock.time()
        [(version, seconds)] = yield Step(self.dialect.about)
        here = (before + self._clock.time()) / 2
        return str(version), None if seconds is None else float(seconds) - here

    # -- the four verbs --------------------------------------------------------------------------

    def mget(self, keys: Sequence[str]) -> Plan[dict[str, bytes]]:
        """The blobs under ``keys``, expired ones too: who asks knows what to count."""
        names = row_ids(keys)
        found: dict[str, bytes] = {}
        for step in self.dialect.select(list(names)):
            for row, value in (yield step):
                found[names[row]] = value
        if not set(map(type, found.values())) <= _BYTES:
            # SQLite lets anybody put text here; as no bytes it goes the way of damaged ones.
            return {key: value if isinstance(value, bytes) else b"" for key, value in found.items()}
        return found

    def lengths(self, keys: Sequence[str]) -> Plan[dict[str, int]]:
        """How many bytes each of ``keys`` that is held takes, with its name."""
        names = row_ids(keys)
        found: dict[str, int] = {}
        for step in self.dialect.select(list(names), "size"):
            for row, size in (yield step):
                found[names[row]] = int(size)
        return found

    def fitting(self, blobs: Mapping[str, Blob]) -> tuple[list[Row], list[str]]:
        """The rows of ``blobs`` in the order of their ids, and the keys of those that never fit."""
        now = self._clock.time()
        rows: list[Row] = []
        rejected: list[str] = []
        most = self.max_bytes
        for key, (value, expires_at) in blobs.items():
            name = encode_key(key)
            size = len(name) + len(value)
            if most is not None and size > most:
                rejected.append(key)
            else:
                written = written_at(value) or now
                rows.append(Row(row_id(name), name[:HEAD], name, value, expires_at, written, size))
        rows.sort(key=itemgetter(0))  # by id; whole rows take twice as long to compare
        return rows, rejected

    def mset(self, rows: Sequence[Row]) -> Plan[None]:
        """Store ``rows`` (from `fitting`)."""
        if self.dialect.begin:
            yield from self._write(self.dialect.upsert(part) for part in _portions(rows))
        else:
            for part in _portions(rows):
                yield from self._write([self.dialect.upsert(part)])
        with self._lock:
            self._writes += len(rows)
            self._entries += len(rows)
            self._bytes += sum(row.size for row in rows)

    def mdelete(self, keys: Sequence[str]) -> Plan[None]:
        """Drop ``keys``."""
        yield from self._write(self.dialect.delete(sorted(row_ids(keys))))

    # -- listing and dropping ranges -------------------------------------------------------------

    def scan(
        self, prefix: str, skip: str, cursor: tuple[bytes, bytes] | None, limit: int
    ) -> Plan[tuple[list[str], tuple[bytes, bytes] | None]]:
        """One page of live keys, and where the next begins."""
        rows = yield self.dialect.scan(_bounds(prefix, skip), self._clock.time(), cursor, limit)
        keys = [name.decode("utf-8", "surrogatepass") for _head, _id, name in rows]
        return keys, (rows[-1][0], rows[-1][1]) if len(rows) >= limit else None

    def clear(self, prefix: str, skip: str) -> Plan[None]:
        """Drop a range, batch by batch, so that no transaction is long."""
        yield from self._drop(self.dialect.in_range, _bounds(prefix, skip))

    def purge(self, prefix: str, skip: str, what: Purge) -> Plan[int]:
        """Drop by age; by ``what.idle`` it cannot be."""
        dialect, now, dropped = self.dialect, self._clock.time(), 0
        bounds = _bounds(prefix, skip)
        if what.expired:
            dropped = yield from self._drop(f"{dialect.in_range} AND {dialect.expired}", (*bounds, now))
            with self._lock:
                self.expirations += dropped
        if what.older_than is not None:
            dropped += yield from self._drop(
                f"{dialect.in_range} AND {dialect.written_before}", (*bounds, now - what.older_than)
            )
        return dropped

    def _drop(self, condition: str, parameters: Sequence[Any]) -> Plan[int]:
        step = self.dialect.delete_some(condition, parameters, wait=True)
        total = 0
        while True:
            count = yield from self._write([step])
            total += count
            if count < ROWS:
                return total

    # -- housekeeping ----------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether a writer should run `housekeep` now."""
        now = self._clock.monotonic()
        with self._lock:
            return self._prune_due(now) or self._measure_due(now)

    def housekeep(self) -> Plan[None]:
        """Drop expired rows, in a batch a thousand writes, and the oldest ones where a bound is exceeded."""
        now = self._clock.monotonic()
        with self._lock:
            prune, batches = self._prune_due(now), self._writes // ROWS + 1
            if prune:
                self._writes, self._pruned_at = 0, now
        if prune:
            step = self.dialect.delete_some(self.dialect.expired, (self._clock.time(),), wait=False)
            for _ in range(batches):
                count = yield from self._write([step])
                with self._lock:
                    self.expirations += count
                if count < ROWS:
                    break
        with self._lock:
            measure = self._measure_due(now)
        if measure:
            yield from self._keep_bounds(now)

    def _prune_due(self, now: float) -> bool:
        return self._writes >= _PRUNE_WRITES or now - self._pruned_at >= _PRUNE_SECONDS

    def _measure_due(self, now: float) -> bool:
        if self.max_bytes is None and self.max_entries is None:
            return False
        return (
            self._measured_at is None
            or now - self._measured_at >= _MEASURE_SECONDS
            or self._exceeded(self._entries, self._bytes)
        )

    def _exceeded(self, entries: int, size: int, spare: int = 0) -> bool:
        return any(
            bound is not None and amount > bound - (bound // spare if spare else 0)
            for amount, bound in ((entries, self.max_entries), (size, self.max_bytes))
        )

    def _keep_bounds(self, now: float) -> Plan[None]:
        entries, size = map(int, (yield self.dialect.totals())[0])
        if self._exceeded(entries, size):
            # A twentieth below the bound, or else a full table would be measured at every write.
            while self._exceeded(entries, size, spare=20):
                victims: list[bytes] = []
                for row, weight in (yield self.dialect.oldest()):
                    if not self._exceeded(entries, size, spare=20):
                        break
                    victims.append(row)
                    entries, size = entries - 1, size - weight
                if not victims:
                    break
                count = yield from self._write(self.dialect.delete(sorted(victims)))
                with self._lock:
                    self.evictions += count
        with self._lock:
            self._entries, self._bytes, self._measured_at = entries, size, now

    def _write(self, steps: Iterator[Step] | Sequence[Step]) -> Plan[int]:
        """Run ``steps`` as one transaction (where the database has them); how many rows they changed."""
        changed = 0
        if self.dialect.begin:
            yield Step(self.dialect.begin)
        for step in steps:
            changed += yield step
        yield COMMIT
        return changed


def _bounds(prefix: str, skip: str) -> tuple[bytes, ...]:
    """The parameters of `Dialect.in_range`: of heads, of keys, and of the keys to leave out."""
    low, high = _prefix_range(encode_key(prefix))
    head_low, head_high = _prefix_range(low[:HEAD])
    return head_low, head_high, low, high, *(_prefix_range(encode_key(skip)) if skip else _NOTHING)


def _prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """The half-open range of byte strings that begin with ``prefix``."""
    return prefix, prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else _END


def _portions(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Parts of at most `ROWS` rows, and of `BYTES` bytes where a single row has no more."""
    start = weight = 0
    for index, row in enumerate(rows):
        if index > start and (index - start >= ROWS or weight + row.size > BYTES):
            yield rows[start:index]
            start, weight = index, 0
        weight += row.size
    if start < len(rows):
        yield rows[start:]
