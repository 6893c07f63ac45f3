"""That a table of cases which is one test tries them all, and tells which failed."""

from __future__ import annotations

import pytest
from selections import together

tried = []


@together("number", [1, 2, 3])
@together(("letter", "odd"), [("a", True), ("b", False)])
def each(number, letter, odd, *, tmp_path):
    tried.append((number, letter, tmp_path))
    if letter == "b" and number != 2:
        pytest.fail(f"{number} and {odd}")


def test_all_are_tried_and_those_that_fail_are_told(tmp_path):
    with pytest.raises(BaseExceptionGroup, match=r"2 of 3 cases") as caught:
        each(tmp_path=tmp_path)
    assert tried == [(number, letter, tmp_path) for number in (1, 2, 3) for letter in "ab"]
    first, last = caught.value.exceptions
    assert (first.__notes__, last.__notes__) == (["the case: {'number': 1}"], ["the case: {'number': 3}"])
    assert [str(error.exceptions[0]) for error in (first, last)] == ["1 and False", "3 and False"]
    assert first.exceptions[0].__notes__ == ["the case: {'letter': 'b', 'odd': False}"]


def test_a_table_without_cases_is_refused():
    with pytest.raises(AssertionError, match="would test nothing"):
        together("nobody", [])
