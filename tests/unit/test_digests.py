"""Popular keys as processes share them: bounded, by digest, and right within their errors however they are
merged."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache import _digests
from tiercache._counted import plain
from tiercache._digests import digests, merged, sound
from tiercache.popular import KeyCounter, digest
from tiercache.shared_stats import MOST_ENDED, Record, StatsFile, summed
from tiercache.stats import CacheStats, TierStats

PATHS = [("shop",), ("shop", "pages"), ("shop", "a/b"), ("shop", "a", "b")]
ASKED = st.lists(st.tuples(st.sampled_from(PATHS), st.integers(0, 12)), max_size=60)


def name(path):
    return json.dumps(path)


def counted(asked, size):
    """What one process leaves that was asked for these."""
    counters = {path: KeyCounter(size) for path in PATHS}
    for path, number in asked:
        counters[path].add([f"key {number}"])
        if len(counters[path]) > size + 1:
            counters[path].top(1)
            counters[path]._give_up()
    return digests(counters.items())


def holds(found, exact):
    """Whether nothing in ``found`` is too low, or too high by more than it says."""
    for (path, number), times in exact.items():
        part = found["namespaces"].get(name(path))
        if part is None:
            assert times <= found["beyond"]
            continue
        rows = {row[0]: row[1:] for row in part["keys"]}
        count, error = rows.get(digest(f"key {number}"), (part["beyond"], part["beyond"]))
        assert count - error <= times <= count


@given(st.lists(ASKED, min_size=1, max_size=5), st.integers(1, 6))
def test_merged_counts_are_never_too_low_and_too_high_by_their_error_at_most(processes, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_digests, "MOST_KEYS", 3)
        patch.setattr(_digests, "MOST_NAMESPACES", 2)
        parts = [counted(asked, size) for asked in processes]
        for part, asked in zip(parts, processes, strict=True):
            holds(part, Counter(asked))
        exact = Counter(one for asked in processes for one in asked)
        for found in (merged(parts), merged([merged(parts[:2]), merged(parts[2:])])):
            holds(found, exact)
            assert len(found["namespaces"]) <= 2
            for part in found["namespaces"].values():
                counts = [row[1] for row in part["keys"]]
                assert counts == sorted(counts, reverse=True)
                assert len(counts) <= 3
                assert part["beyond"] <= min(counts)
            assert sound(json.loads(json.dumps(found))) == found


def test_what_others_may_have_counted_is_in_the_count_and_in_its_error():
    common, rare = "0" * 16, "1" * 16
    one = {"beyond": 0, "namespaces": {'["a"]': {"beyond": 2, "keys": [[common, 5, 1]]}}}
    two = {"beyond": 9, "namespaces": {'["a"]': {"beyond": 1, "keys": [[common, 7, 0], [rare, 3, 0]]}}}
    assert merged([one, two]) == {
        "beyond": 9,
        "namespaces": {'["a"]': {"beyond": 3, "keys": [[common, 12, 1], [rare, 5, 2]]}},
    }


def test_what_is_left_is_bounded_and_the_busiest():
    counters = [((str(number),), KeyCounter(1000)) for number in range(30)]
    for number, (_, counter) in enumerate(counters):
        for key in range(500):
            counter.add([f"key {key}"], number + 1)
        counter.add(["often"], 50)
    found = digests(counters)
    assert list(found["namespaces"]) == [f'["{number}"]' for number in range(29, 19, -1)]
    for number, part in zip(range(29, 19, -1), found["namespaces"].values(), strict=True):
        assert part["keys"][0] == [digest("often"), 50, 0]
        assert len(part["keys"]) == 100
        assert part["beyond"] == number + 1
    assert found["beyond"] == 50
    assert "key" not in json.dumps(found).replace('"keys"', "")
    assert len(json.dumps(found)) < 40_000


def test_who_counts_nothing_leaves_nothing():
    assert digests([]) == merged([]) == merged([{}, {}]) == sound(None) == {}
    assert digests([(("a",), KeyCounter(3))]) == {"beyond": 0, "namespaces": {}}


@pytest.mark.parametrize(
    "wrong",
    [
        3, "x", [1], {"beyond": 0}, {"namespaces": {}}, {"beyond": -1, "namespaces": {}},
        *(
            {"beyond": 0, "namespaces": namespaces}
            for namespaces in (
                [], {"shop": {"beyond": 0, "keys": []}}, {"[1]": {"beyond": 0, "keys": []}}, {"[]": []},
                *(
                    {'["a"]': {"beyond": 0, "keys": [row]}}
                    for row in (3, ["x", 1, 0], ["0" * 16, 1], ["0" * 16, -1, 0], ["0" * 16, 1, 2**63],
                                ["0" * 16, 1.5, 0], ["<script>alert(1)", 1, 0])
                ),
            )
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_its_row_left_out(tmp_path, wrong):
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError)):
        sound(wrong)
    file = StatsFile(tmp_path / "stats.db")
    file.write(row("damaged", wrong), seconds=5)
    file.write(row("good", {}), seconds=5)
    assert [one.token for one in file.read()] == ["good"]


def row(token, popular, updated=1.0):
    stats = plain(CacheStats((TierStats("disk"),), hits=1)) | {"popular": popular}
    return Record(token, 1, "", "", "app", updated, updated, updated, stats)


def test_ended_processes_are_folded_with_their_counts(tmp_path):
    file = StatsFile(tmp_path / "stats.db")
    own = counted([(("shop",), 1)] * 3 + [(("shop",), 2)], 100)
    for number in range(MOST_ENDED + 20):
        file.write(row(str(number), own, updated=1.0 + number), seconds=5)
    records = file.read()
    assert len(records) <= MOST_ENDED + 1
    part = summed(records)["popular"]["namespaces"][name(("shop",))]
    assert part == {
        "beyond": 0,
        "keys": [[digest("key 1"), 3 * (MOST_ENDED + 20), 0], [digest("key 2"), MOST_ENDED + 20, 0]],
    }
