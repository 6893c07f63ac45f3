"""Namespaces: no two pairs of namespace and key meet, and ranges hold exactly what they should."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiercache.errors import ConfigError
from tiercache.keys import MARKER, Namespace

# Text that looks like what folding makes: lengths, colons, slashes, generations and pieces of the marker.
_pieces = st.sampled_from(
    [MARKER, *MARKER, "/", ":", "0", "1", "2", "12", "g", "g1", "a", "b", "\ud800", "é", "\0"]
)
names = st.lists(_pieces, max_size=5).map("".join) | st.text(max_size=4)
paths = st.lists(names, min_size=1, max_size=3).map(tuple)
namespaces = st.builds(Namespace, paths, st.integers(0, 12))


def _same_namespace(one, other):
    return one.path == other.path and one.generation == other.generation


def _in(ranges, key):
    return [key.startswith(prefix) and not (skip and key.startswith(skip)) for prefix, skip in ranges]


@given(namespaces, names, namespaces, names)
@example(Namespace(("",)), f"{MARKER}1:a/k", Namespace(("a",)), "k")
@example(Namespace(("",)), f"{MARKER}/k", Namespace(("",)), "k")
@example(Namespace(("a",)), "b/c", Namespace(("a/b",)), "c")
@example(Namespace(("a",)), "1:b/c", Namespace(("a", "b")), "c")
@example(Namespace(("",)), f"{MARKER}/", Namespace(("", "")), "")
@example(Namespace(("", "")), "k", Namespace(("",)), f"{MARKER}0:0:/k")
@example(Namespace(("a",), 1), "k", Namespace(("a",)), "g1/k")
@example(Namespace(("",), 1), "k", Namespace(("",)), f"{MARKER}g1/k")
def test_folding_is_injective(one, key, other, other_key):
    if _same_namespace(one, other) and key == other_key:
        assert one.fold(key) == other.fold(other_key)
    else:
        assert one.fold(key) != other.fold(other_key)


@given(namespaces, names)
def test_unfold_undoes_fold(namespace, key):
    assert namespace.unfold(namespace.fold(key)) == key


@given(names)
def test_the_default_namespace_leaves_keys_as_they_are(key):
    folded = Namespace(("",)).fold(key)
    assert folded == (f"{MARKER}/{key}" if key.startswith(MARKER) else key)


@given(namespaces, names, names)
@example(Namespace(("",)), MARKER, MARKER[:2])
@example(Namespace(("",)), MARKER[:2], MARKER)
@example(Namespace(("",)), f"{MARKER}x", f"{MARKER}x")
@example(Namespace(("",)), "", "")
def test_a_key_lies_in_exactly_one_range_of_its_prefix(namespace, key, prefix):
    held = _in(namespace.ranges(prefix), namespace.fold(key))
    assert sum(held) == key.startswith(prefix)


@given(namespaces, namespaces, names, names)
@example(Namespace(("",)), Namespace(("a",)), "k", "")
@example(Namespace(("",)), Namespace(("a",)), "k", MARKER[:1])
@example(Namespace(("",)), Namespace(("a",)), "k", MARKER)
@example(Namespace(("a",)), Namespace(("a", "b")), "k", "")
def test_no_range_holds_another_namespaces_keys(namespace, other, key, prefix):
    if not _same_namespace(namespace, other):
        assert not any(_in(namespace.ranges(prefix), other.fold(key)))


def test_a_view_lies_inside_its_parent():
    parent = Namespace(("app",))
    assert parent.child("users").path == ("app", "users")
    assert Namespace(("",)).child("app").path == ("", "app")
    assert Namespace(("",)).child("app").fold("k") != parent.fold("k")


def test_a_generation_puts_earlier_keys_out_of_reach():
    first = Namespace(("app",))
    second = first.next_generation(1)
    assert second.path == first.path
    assert second.fold("k") != first.fold("k")
    assert not any(_in(second.ranges(), first.fold("k")))


def test_a_namespace_is_text():
    with pytest.raises(ConfigError, match=r"namespace: 7 is not a str"):
        Namespace(("a", 7))


def test_repr_names_the_path():
    assert repr(Namespace(("app", "users"))) == "Namespace(('app', 'users'))"


@given(namespaces.filter(lambda namespace: namespace.fold("") != ""), names, names, names)
def test_a_skipped_range_is_left_out(namespace, key, prefix, more):
    skip = prefix + more
    held = _in(namespace.ranges(prefix, skip), namespace.fold(key))
    assert sum(held) == (key.startswith(prefix) and not (skip and key.startswith(skip)))


@given(names, names)
@example("k", "")
@example(f"{MARKER}1:a/k", "")
@example(f"{MARKER}k", MARKER)
def test_the_default_namespace_can_leave_out_what_looks_nested(key, prefix):
    """What an outer chain's default namespace asks of a chain inside it."""
    default = Namespace(("",))
    held = _in(default.ranges(prefix, MARKER), default.fold(key))
    assert sum(held) == (key.startswith(prefix) and not key.startswith(MARKER))
