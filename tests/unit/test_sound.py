"""Entries of somebody else's tier whose times and sizes are none: misses, counted, and never an error."""

from __future__ import annotations

from collections import UserDict
from fractions import Fraction
from typing import Any

import pytest
from apis import both_apis
from selections import together

from tiercache import Entry, MemoryTier, TieredCache, TierError
from tiercache._guard.sound import sound
from tiercache.entry import Sliding
from tiercache.protocols import Debt
from tiercache.testing import DictTier, FakeClock

NAN = float("nan")
BAD_TIMES = ["2030-01-01", "", b"1", object(), [], {}, NAN, True, False, 1j, Fraction(1, 2)]
BAD_SIZES = ["7", "", object(), NAN, 7.0, True, []]
BAD_SLIDING = [
    "1h", 3600, (40, 100), [], Sliding(NAN, 1), Sliding(1, NAN), Sliding(-1, 1), Sliding(1, 0),
    Sliding(float("inf"), 1), Sliding("1", 1),
]  # fmt: skip
FIELDS = [
    *(("expires_at", value) for value in BAD_TIMES),
    *(("created_at", value) for value in BAD_TIMES),
    *(("fresh_until", value) for value in BAD_TIMES),
    *(("size", value) for value in BAD_SIZES),
    *(("sliding", value) for value in BAD_SLIDING),
]
each_bad_field = together(("field", "bad"), FIELDS)


class Number(float):
    """A number of somebody's own, as numpy has them."""


class Rows(DictTier):
    """Hands out what it was given, whatever that is."""

    def __init__(self, **rows: Any) -> None:
        super().__init__("rows")
        self.rows = rows

    def mget(self, keys: Any) -> Any:
        return {key: self.rows[key] for key in keys if key in self.rows}

    def mdelete(self, keys: Any) -> None:
        for key in keys:
            self.rows.pop(key, None)


@both_apis
@each_bad_field
@together("owing", [False, True])
def test_such_an_entry_is_a_corrupt_miss_and_the_others_are_served(call, field, bad, owing):
    tier = Rows(bad=Entry(b"bad", **{field: bad}), good=Entry(b"good"))
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock), tier, DictTier("lowest")], clock=clock) as cache:
        if owing:  # then the ages of entries are compared with what the tier was told
            tier_arrears = cache._stack.guards[1].arrears
            tier_arrears.add(
                [Debt("rows", "bad", 5.0, settled=True), Debt("rows", "", 5.0, "", settled=True)]
            )
            tier.rows["good"] = Entry(b"good", created_at=6.0)
        assert call(cache, "mget", ["bad", "good"]) == [None, b"good"]
        low = cache.stats().tiers[1]
        assert (low.hits, low.misses, low.corrupt, low.errors) == (1, 1, 1, 0)
        assert "bad" not in tier.rows


@both_apis
@each_bad_field
def test_a_load_takes_its_place(call, field, bad):
    tier = Rows(k=Entry(b"bad", **{field: bad}))
    with TieredCache([MemoryTier(), tier], stale_for="1h", refresh_ahead=1.0, ttl="1h") as cache:
        assert call(cache, "get_or_load", "k", lambda _: b"loaded") == b"loaded"


@pytest.mark.parametrize("time", [None, 20, 20.5, Number(20)])
@pytest.mark.parametrize("field", ["expires_at", "created_at", "fresh_until"])
def test_any_kind_of_number_is_a_time(field, time):
    entry: Entry[bytes] = Entry(b"v", **{field: time})
    assert sound({"k": entry}, ["k"], 10.0, tier="t") == ({"k": entry}, 0, [])


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({}, ([], 0, [])),
        ({"k": None}, ([], 0, [])),
        ({"k": Entry(b"v", 10.0)}, ([], 1, [])),
        ({"k": Entry(b"v", 10.1)}, (["k"], 0, [])),
        ({"k": Entry(None)}, ([], 0, ["k"])),
        ({"k": b"v"}, ([], 0, ["k"])),
        ({"k": object.__new__(Entry)}, ([], 0, ["k"])),
        (UserDict(k=Entry(b"v"), other=Entry(b"not asked for")), (["k"], 0, [])),
    ],
)
def test_what_is_alive_what_is_expired_and_what_is_garbage(answer, found):
    entries, expired, garbage = sound(answer, ["k", "absent"], 10.0, tier="t")
    assert (list(entries), expired, garbage) == found


@pytest.mark.parametrize("answer", [None, [], [("k", Entry(b"v"))], "k", 0])
def test_what_is_no_dict_is_no_answer(answer):
    with pytest.raises(TierError, match="mget returned"):
        sound(answer, ["k"], 10.0, tier="t")
