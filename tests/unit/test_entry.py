"""The entry and the sentinels."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from tiercache.entry import MISS, UNSET, Entry


def test_an_entry_cannot_be_changed():
    entry = Entry(b"v", 5.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.expires_at = 6.0
    assert not hasattr(entry, "__dict__")


def test_an_entry_needs_only_a_value():
    assert Entry(b"v") == Entry(b"v", None, None, None, "bytes", None)
    assert dataclasses.replace(Entry(b"v"), expires_at=1.0) == Entry(b"v", 1.0)


def test_sentinels_are_themselves_and_nothing_else():
    assert MISS is not UNSET
    assert (repr(MISS), repr(UNSET)) == ("MISS", "UNSET")
    assert copy.deepcopy(MISS) is MISS
    assert copy.copy(UNSET) is UNSET
