"""Recorded histories of a store, and a check that each read returned what some write could have left.

Every operation has the time when it began and the time when it ended; what it did, it did at some moment in
between. Values are written once, so that a read tells which write it saw. `violations` finds reads of what
nobody wrote or had begun to write, of what was overwritten or deleted for certain before the read began, and
of what an earlier read shows to have been overwritten by then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate

__all__ = ["Operation", "violations"]

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Operation:
    """``kind`` is "read" or "write"; the value ``None`` is none: a miss, or a delete. A write of which nobody
    knows whether it was done ends at `FOREVER`."""

    kind: str
    key: str
    value: str | None
    start: float
    end: float


def violations(history: Iterable[Operation]) -> list[Operation]:
    """The reads in ``history`` that no order of the writes explains. Before the first there was nothing."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    return [read for operations in by_key.values() for read in _violations_of_key(operations)]


def _violations_of_key(operations: list[Operation]) -> list[Operation]:
    reads = [operation for operation in operations if operation.kind == "read"]
    writes = {write.value: write for write in operations if write.kind == "write" and write.value is not None}
    deletes = [write for write in operations if write.kind == "write" and write.value is None]
    deletes.append(Operation("write", "", None, -1.0, -1.0))
    bad = [read for read in reads if read.value is not None and read.value not in writes]
    for read in reads:  # who saw it knows that it was done by then
        if read.value in writes and read.end < writes[read.value].end:
            writes[read.value] = replace(writes[read.value], end=read.end)
    everything = sorted([*writes.values(), *deletes], key=lambda write: write.start)
    starts = [write.start for write in everything]
    # The earliest end among the writes that began at that place in the order or later.
    ends = [*accumulate((write.end for write in reversed(everything)), min, initial=FOREVER)][::-1]
    deletes.sort(key=lambda write: write.start)
    delete_starts = [write.start for write in deletes]
    latest_delete = [*accumulate((write.end for write in deletes), max)]
    for read in reads:
        if read.value is None:
            before = bisect_left(delete_starts, read.end)
            done = latest_delete[before - 1]
        elif read.value in writes:
            if writes[read.value].start > read.end:
                bad.append(read)
                continue
            done = writes[read.value].end
        else:
            continue
        if ends[bisect_right(starts, done)] < read.start:  # another one began after it, and ended before
            bad.append(read)
    return bad
