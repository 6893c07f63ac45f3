"""What clients write into headers: read as the RFCs say, and never an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.integrations.fastapi._headers import Wishes, directives, names, none_match, wishes

#: What a tag may hold: all that is no space, no quote and no control; commas too.
TAGS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF).filter(
        lambda c: c not in '"\x7f' and not 0x7F <= ord(c) < 0x80
    )
).map(lambda text: f'"{text}"')
SEPARATORS = st.sampled_from([",", ", ", " , ", ",,", ", ,\t"])


@given(st.lists(st.tuples(st.booleans(), TAGS), max_size=5), TAGS, st.data())
def test_a_list_of_tags_has_those_that_are_in_it(listed, tag, data):
    """Weak or strong, and whatever is in them: a comma as well."""
    text = ""
    for weak, one in listed:
        text += (data.draw(SEPARATORS) if text else "") + ("W/" if weak else "") + one
    wanted = any(one == tag for _, one in listed)
    assert none_match([text], tag) is wanted
    assert none_match([text], f"W/{tag}") is wanted
    for _, one in listed:
        assert none_match([text], one)
    assert none_match([f"{'W/' if weak else ''}{one}" for weak, one in listed], tag) is wanted


@given(st.text(st.characters(max_codepoint=0xFF)), TAGS)
def test_nothing_that_a_client_sends_is_an_error(text, tag):
    none_match([text], tag)
    wishes([text], [text])
    directives([text])
    names([text])


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("*", True),
        (" * ", True),
        ('"*"', False),
        ("", False),
        ("a", False),  # without quotes it is none
        ('"a"', True),
        ('w/"a"', False),
        ('W/"a"', True),
        ('"A"', False),
        ('"b", "a"', True),
        (', "b",, W/"a" ,', True),
        ('"b" "a"', False),  # what is behind a fault does not count
        ('"a", b', True),
        ('"x,"a",y"', False),
        ("*, *", False),
    ],
)
def test_if_none_match(text, matches):
    assert none_match([text], '"a"') is matches


def test_a_long_list_takes_no_longer_than_its_length():
    assert not none_match([" ,\t" * 50_000 + '"b', "W/" * 50_000], '"a"')
    assert directives(['a="' + "\\" * 50_000, "=," * 50_000])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Wishes()),
        ("no-cache", Wishes(max_age=0)),
        ("NO-CACHE", Wishes(max_age=0)),
        ("foo, no-cache=x", Wishes(max_age=0)),
        ("max-age=0", Wishes(max_age=0)),
        ("max-age=30, no-store", Wishes(no_store=True, max_age=30)),
        ('max-age="30"', Wishes(max_age=30)),
        ("max-age", Wishes(max_age=0)),
        ("max-age=-1", Wishes(max_age=0)),
        ("max-age=x", Wishes(max_age=0)),
        ("max-age=٣", Wishes(max_age=0)),
        ("max-age=99999999999999999999", Wishes(max_age=0)),
        ("max-age=9999999999", Wishes(max_age=2**31)),
        ("max-age=5, max-age=9", Wishes(max_age=5)),
        ('x="no-store, no-cache"', Wishes()),  # a quoted argument is no directive
        ("only-if-cached, max-stale=9, min-fresh=9", Wishes()),
    ],
)
def test_what_a_client_asks_for(text, wanted):
    assert wishes([text] if text else []) == wanted


def test_pragma_counts_where_there_is_nothing_newer():
    assert wishes([], ["no-cache"]) == Wishes(max_age=0)
    assert wishes(["max-stale"], ["no-cache"]) == Wishes()


def test_several_lines_are_one_list():
    assert wishes(["max-age=3", "no-store"]) == Wishes(no_store=True, max_age=3)
    assert names(["Accept, Origin", "", "a,"]) == {"accept", "origin", "a"}
