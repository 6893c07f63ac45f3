"""The queue by expiry against a plain list: exact, never late, and bounded in what it holds."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tiercache.tiers.memory._expiry import ExpiryQueue


class Slot:
    waits_for = sooner = later = None
    expiry = math.inf


LIVES = st.one_of(
    st.floats(0.001, 3),
    st.floats(1, 1e4),
    st.floats(1, 1e9),
    st.just(math.inf),
)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("schedule"), st.integers(0, 9), LIVES),
        st.tuples(st.just("forget"), st.integers(0, 9), st.none()),
        st.tuples(st.just("wait"), st.none(), st.floats(0, 1e4)),
        st.tuples(st.just("wait"), st.none(), st.floats(0, 2)),
    ),
    max_size=80,
)


@settings(max_examples=150)
@given(actions=ACTIONS, steps=st.sampled_from([1, 7, 1000]))
def test_slots_come_out_when_their_time_is_over_and_not_before(actions, steps):
    now = 1234.5
    queue = ExpiryQueue()
    slots = [Slot() for _ in range(10)]
    queued = set()
    for action, number, seconds in actions:
        if action == "schedule":
            slots[number].expiry = now + seconds
            queue.schedule(slots[number], now)
            (queued.discard if seconds == math.inf else queued.add)(number)
        elif action == "forget":
            queue.forget(slots[number])
            queued.discard(number)
        else:
            now += seconds
            expired = []
            while queue.next <= now:
                expired += queue.pop_expired(now, steps)
            over = {number for number in queued if slots[number].expiry <= now}
            assert sorted(map(slots.index, expired)) == sorted(over)
            queued -= over
        assert len(queue) == len(queued)
        assert queue.next <= min((slots[number].expiry for number in queued), default=math.inf)


def test_stale_places_do_not_pile_up():
    queue = ExpiryQueue()
    slots = [Slot() for _ in range(10)]
    for round_ in range(20_000):
        slot = slots[round_ % 10]
        slot.expiry = 1e6 - round_ * 3.0  # ever earlier: each time a new place, and a stale one
        queue.schedule(slot, 0.0)
        assert queue.held <= 2 * len(queue) + 1024
    for round_ in range(20_000):
        slot = slots[round_ % 10]
        queue.forget(slot)
        slot.expiry = 0.9 - round_ / 1e5
        queue.schedule(slot, 0.0)
        assert queue.held <= 2 * len(queue) + 1024
    assert {id(slot) for slot in queue.pop_expired(1e9, 10**6)} == set(map(id, slots))
    assert (len(queue), queue.held, queue.next) == (0, 0, math.inf)


def test_a_step_is_small_however_many_expire_together():
    queue = ExpiryQueue()
    slots = [Slot() for _ in range(1000)]
    for slot in slots:
        slot.expiry = 500.0
        queue.schedule(slot, 0.0)
    assert len(queue.pop_expired(500.0, 10)) == 10
    assert queue.next <= 500.0
    assert len(queue.pop_expired(500.0, 10_000)) == 990


def test_who_read_the_clock_long_ago_is_not_put_where_nobody_looks_any_more():
    queue = ExpiryQueue()
    slots = [Slot(), Slot()]
    for slot in slots:
        slot.expiry = 500.0
    queue.schedule(slots[0], 0.0)
    assert queue.pop_expired(600.0, 10) == [slots[0]]  # and the span with it
    assert queue.pop_expired(600.0, 10) == []
    queue.schedule(slots[1], 0.0)
    assert queue.next <= 500.0
    assert queue.pop_expired(600.0, 10) == [slots[1]]
