"""The SQL tier's plans without a database: what they yield, and what they make of the answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.entry import Entry
from tiercache.envelope import seal
from tiercache.testing import FakeClock
from tiercache.tiers.sql._dialects import BYTES, HEAD, ROWS, MySQL, PostgreSQL, Row, SQLite
from tiercache.tiers.sql._ids import encode_key
from tiercache.tiers.sql._plans import COMMIT, Plans, _bounds, _portions

any_text = st.text(st.characters(exclude_categories=()), max_size=6)


@given(prefix=any_text, skip=any_text, key=any_text)
def test_bounds_are_those_of_string_prefixes(prefix: str, skip: str, key: str) -> None:
    for text in (key, prefix + key, skip + key, prefix + skip):
        name = encode_key(text)
        head_low, head_high, low, high, skip_low, skip_high = _bounds(prefix, skip)
        inside = head_low <= name[:HEAD] < head_high and low <= name < high
        left_out = skip_low <= name < skip_high
        assert (inside and not left_out) == (
            text.startswith(prefix) and not (skip != "" and text.startswith(skip))
        )


@given(long=st.text("aé😀\ud800", min_size=HEAD - 3, max_size=HEAD + 3), key=any_text)
def test_bounds_of_a_prefix_beyond_the_index(long: str, key: str) -> None:
    head_low, head_high, low, high, *_ = _bounds(long, "")
    name = encode_key(long + key)
    assert head_low <= name[:HEAD] < head_high
    assert low <= name < high


@given(sizes=st.lists(st.sampled_from([0, 1, BYTES // 2, BYTES, 2 * BYTES]), max_size=12))
def test_portions_hold_every_row_once_and_stay_small(sizes: list[int]) -> None:
    rows = [Row(b"%d" % n, b"", b"", b"", None, 0.0, size) for n, size in enumerate(sizes)]
    parts = list(_portions(rows))
    assert [row for part in parts for row in part] == rows
    assert all(len(part) == 1 or sum(row.size for row in part) <= BYTES for part in parts)
    assert all(parts)


def test_portions_have_at_most_so_many_rows() -> None:
    rows = [Row(b"", b"", b"", b"", None, 0.0, 1)] * (2 * ROWS + 1)
    assert [len(part) for part in _portions(rows)] == [ROWS, ROWS, 1]


@pytest.mark.parametrize("dialect", [SQLite, PostgreSQL, MySQL])
def test_batches_are_written_in_the_order_of_ids(dialect: type[SQLite]) -> None:
    """Two batches that lock rows in one order cannot wait for each other."""
    plans = Plans(dialect("t"), FakeClock(), create=True, max_bytes=None, max_entries=None)
    rows, rejected = plans.fitting({f"k{n}": (b"v", None) for n in range(100)})
    assert rejected == []
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    forwards = _run(plans.mdelete([f"k{n}" for n in range(100)]))
    backwards = _run(plans.mdelete([f"k{n}" for n in reversed(range(100))]))
    assert forwards == backwards
    assert forwards[-1] is COMMIT


def test_a_row_has_the_time_that_its_envelope_has() -> None:
    clock = FakeClock()
    plans = Plans(SQLite("t"), clock, create=True, max_bytes=None, max_entries=None)
    known, unknown = (seal("k", Entry(b"v", created_at=created)) for created in (123.5, None))
    for blob, written in ((known, 123.5), (unknown, clock.time()), (b"no envelope", clock.time())):
        (row,), _ = plans.fitting({"k": (blob, None)})
        assert row.written_at == written


@pytest.mark.parametrize(("size", "places"), [(1, 1), (2, 16), (16, 16), (17, 128), (512, 512)])
def test_sqlite_statements_come_in_few_lengths(size: int, places: int) -> None:
    (step,) = SQLite("t").select([b"x"] * size)
    assert step.sql.count("?") == len(step.parameters) == places


def _run(plan):
    steps = []
    try:
        while True:
            steps.append(plan.send(None if not steps else 0))
    except StopIteration:
        return steps


def test_one_key_is_asked_for_by_itself() -> None:
    """PostgreSQL keeps the plan of such a statement, and makes that for a list anew each time."""
    (one,), (two,) = PostgreSQL("t").select([b"x"]), PostgreSQL("t").select([b"x", b"y"])
    assert (one.sql.endswith("WHERE id = %b"), one.parameters) == (True, [b"x"])
    assert (two.sql.endswith("WHERE id = ANY(%b)"), two.parameters) == (True, ([b"x", b"y"],))


def test_sqlite_is_asked_in_the_order_in_which_batches_are_written() -> None:
    (step,) = SQLite("t").select([b"c", b"a", b"b"])
    assert list(step.parameters[:3]) == [b"a", b"b", b"c"]
