"""Epochs by themselves: tickets, what is noted for them, and its bound. Interleavings are in `test_races`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from math import inf

import pytest

from tiercache._consistency import epochs as _epochs
from tiercache._consistency.epochs import Epochs
from tiercache._consistency.operations import Operation
from tiercache._running.bridge import BLOCKING, drive
from tiercache._running.owners import Owner, owned

LIMIT = 20.0


def write(epochs: Epochs, *keys: str) -> None:
    epochs.end_write(drive(epochs.begin_write(keys, BLOCKING)))


def clear(epochs: Epochs) -> None:
    epochs.end_clear(drive(epochs.begin_clear(BLOCKING)))


def fill(epochs: Epochs, ticket: int, *keys: str, stored: bool = False) -> list[str]:
    """The keys that a fill with ``ticket`` may write."""
    operation = epochs.begin_fill(ticket, keys, BLOCKING)
    epochs.end_fill(operation, stored=stored)
    return list(operation.keys)


def test_a_ticket_is_good_until_its_key_is_written() -> None:
    epochs = Epochs()
    ticket = epochs.open_ticket()
    assert fill(epochs, ticket, "a", "b") == ["a", "b"]
    write(epochs, "a")
    assert fill(epochs, ticket, "a", "b") == ["b"]
    assert fill(epochs, epochs.open_ticket(), "a") == ["a"]
    clear(epochs)
    assert fill(epochs, ticket, "b") == []


def test_nothing_is_noted_when_no_ticket_is_open() -> None:
    epochs = Epochs()
    first, second = epochs.open_ticket(), epochs.open_ticket()
    write(epochs, "a")
    fill(epochs, first, "b", stored=True)
    assert epochs._written
    assert epochs._stored
    epochs.close_ticket(first)
    shared = epochs.share_ticket(second)
    epochs.close_ticket(second)
    assert epochs._written
    epochs.close_ticket(shared)
    assert not epochs._written
    assert not epochs._stored
    write(epochs, "a")
    assert not epochs._written


def test_changed_tells_writes_and_loads_since() -> None:
    epochs = Epochs()
    ticket = epochs.open_ticket()
    write(epochs, "a")
    fill(epochs, ticket, "b", stored=True)
    fill(epochs, ticket, "c")  # a promotion changes nothing
    assert epochs.changed(ticket, "abcd") == ["a", "b"]
    clear(epochs)
    assert epochs.changed(ticket, "abcd") == ["a", "b", "c", "d"]


def test_too_many_notes_make_old_tickets_worthless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_epochs, "_NOTED_KEYS", 10)
    epochs = Epochs()
    old = epochs.open_ticket()
    for number in range(11):
        write(epochs, f"k{number}")
    assert len(epochs._written) <= 10
    assert fill(epochs, old, "never written", "k0") == []
    assert fill(epochs, epochs.open_ticket(), "never written", "k0") == ["never written", "k0"]


def test_notes_that_no_open_ticket_needs_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_epochs, "_NOTED_KEYS", 10)
    epochs = Epochs()
    oldest = epochs.open_ticket()
    write(epochs, *(f"k{number}" for number in range(8)))
    ticket = epochs.open_ticket()
    epochs.close_ticket(oldest)
    write(epochs, "a", "b", "c")
    assert set(epochs._written) == {"a", "b", "c"}
    assert fill(epochs, ticket, "a", "k0") == ["k0"]


def test_a_write_waits_for_fills_and_writes_of_its_keys_alone() -> None:
    epochs = Epochs()
    ticket = epochs.open_ticket()
    going = epochs.begin_fill(ticket, ["a"], BLOCKING)
    write(epochs, "b")  # of no concern
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(write, epochs, "a", "b")
        while going.done is None:  # until it waits
            pass
        assert not waiting.done()
        assert fill(epochs, epochs.open_ticket(), "b") == ["b"]  # a write that waits holds nothing yet
        epochs.end_fill(going)
        waiting.result(LIMIT)


def test_nothing_begins_during_a_clear_and_it_waits_for_what_goes_on() -> None:
    epochs = Epochs()
    going = drive(epochs.begin_write(["a"], BLOCKING))
    with ThreadPoolExecutor(3) as threads:
        clearing = threads.submit(drive, epochs.begin_clear(BLOCKING))
        while going.done is None:  # until it waits
            pass
        assert fill(epochs, epochs.open_ticket(), "z") == []
        late = threads.submit(write, epochs, "b")
        epochs.end_write(going)
        operation = clearing.result(LIMIT)
        assert isinstance(operation, Operation)
        assert not late.done()
        epochs.end_clear(operation)
        late.result(LIMIT)


def test_batches_that_overlap_in_both_orders_end() -> None:
    epochs = Epochs()
    start = threading.Barrier(4)

    def work(keys: list[str]) -> None:
        start.wait(LIMIT)
        for _ in range(200):
            write(epochs, *keys)

    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(work, keys) for keys in (["a", "b"], ["b", "a"], ["b", "c"], ["c", "a"])]
        for job in jobs:
            job.result(LIMIT)
    assert not epochs._writing


def test_a_forked_child_begins_anew() -> None:
    epochs = Epochs()
    ticket = epochs.open_ticket()
    drive(epochs.begin_write(["a"], BLOCKING))  # by a thread that the child does not have
    assert epochs._lock.acquire()
    epochs.after_fork()
    write(epochs, "a")
    epochs.close_ticket(ticket)  # of before the fork
    assert not epochs._tickets


def purge(epochs: Epochs, until: float) -> Operation:
    return drive(epochs.begin_purge(until, BLOCKING))


def test_a_purge_is_noted_for_tickets_of_before_its_end() -> None:
    epochs = Epochs()
    before = epochs.open_ticket()
    first = purge(epochs, 10.0)
    during = epochs.open_ticket()
    assert epochs.purged_until(before) == epochs.purged_until(during) == 10.0
    epochs.end_purge(first)
    after = epochs.open_ticket()
    assert epochs.purged_until(before) == epochs.purged_until(during) == 10.0
    assert epochs.purged_until(after) == -inf
    epochs.end_purge(purge(epochs, 5.0))  # of another age
    assert epochs.purged_until(before) == 10.0
    assert epochs.purged_until(after) == 5.0
    for until in range(20, 30):
        epochs.end_purge(purge(epochs, until))
    assert len(epochs._purges.noted) == 1  # each of them was told by the last
    assert epochs.purged_until(before) == epochs.purged_until(after) == 29
    for ticket in before, during, after:
        epochs.close_ticket(ticket)
    assert not epochs._purges.noted
    epochs.end_purge(purge(epochs, 30.0))
    assert not epochs._purges.noted


def test_a_purge_that_was_left_is_over() -> None:
    epochs = Epochs()
    ticket = epochs.open_ticket()

    class Someone:
        @owned
        async def purge(self, owner: Owner) -> Operation:
            return await epochs.begin_purge(10.0, BLOCKING, owner)

    left = drive(Someone().purge())
    later = epochs.open_ticket()
    assert left.is_over
    assert epochs.purged_until(ticket) == epochs.purged_until(later) == 10.0
    assert epochs.purged_until(epochs.open_ticket()) == -inf
    epochs.end_purge(left)
    assert epochs.purged_until(epochs.open_ticket()) == -inf


def test_nothing_is_filled_at_once_while_a_purge_is_noted() -> None:
    epochs = Epochs()
    ticket = epochs.open_ticket()
    assert epochs.fill_at_once(ticket, "k", bool, 1, stored=False)
    epochs.end_purge(purge(epochs, 10.0))
    assert not epochs.fill_at_once(ticket, "k", bool, 1, stored=False)
    epochs.close_ticket(ticket)
    assert epochs.fill_at_once(epochs.open_ticket(), "k", bool, 1, stored=False)
