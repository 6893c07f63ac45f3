"""The envelope: whole or refused."""

from __future__ import annotations

import copy
import dataclasses
import struct
from math import inf, nan

import pytest
from envelopes import CORRUPT, ENTRY, entries
from hypothesis import given
from hypothesis import strategies as st

from tiercache.entry import Entry, Sliding
from tiercache.envelope import (
    MAGIC,
    SIGNED_VERSION,
    VERSION,
    Opened,
    _checksum,
    open_envelopes,
    open_values,
    seal,
)

NOTHING = Opened({}, [], 0)
FOREIGN = Opened({}, [], 0, 1)


def opened(key: str, data: bytes) -> Opened:
    return open_envelopes([(key, data)], now=-2e12)


@given(st.text(max_size=20), entries)
def test_what_is_sealed_can_be_opened(key, entry):
    found = opened(key, seal(key, entry)).entries[key]
    assert (found.value, found.codec, found.size) == (entry.value, entry.codec, len(entry.value))
    assert found.sliding == entry.sliding
    assert (found.expires_at, found.created_at, found.fresh_until) == (
        entry.expires_at,
        entry.created_at,
        entry.fresh_until,
    )


@pytest.mark.parametrize(
    ("idle", "life"), [(inf, 0.0), (inf, 5.0), (nan, 5.0), (-1.0, 5.0), (0.0, 5.0), (5.0, 0.0), (5.0, nan)]
)
def test_what_does_not_say_how_it_slides_does_not(idle, life):
    """The two fields were none and zero before there was sliding expiry."""
    entry = dataclasses.replace(ENTRY, sliding=Sliding(idle, life))
    assert opened("key", seal("key", entry)).entries["key"] == dataclasses.replace(ENTRY, sliding=None)


def test_values_without_entries_are_not_given_of_what_slides():
    plain = dataclasses.replace(ENTRY, codec="bytes")
    for entry, good in ((plain, 1.5e9), (dataclasses.replace(plain, sliding=Sliding(5.0, inf)), -inf)):
        assert open_values([("key", seal("key", entry))], 0.0)[1] == good


def test_every_flipped_bit_is_noticed():
    data = seal("key", ENTRY)
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            # Byte 3 is the version: another one may be a newer library's, which is no damage.
            assert opened("key", bytes(damaged)) == (FOREIGN if at == len(MAGIC) else CORRUPT)


def test_every_truncation_is_noticed():
    data = seal("key", ENTRY)
    for length in range(len(data)):
        assert opened("key", data[:length]) == CORRUPT
    assert opened("key", data + b"\0") == CORRUPT


def test_a_codecs_name_that_is_no_text_is_refused_whatever_the_checksum_says():
    header = struct.pack("<ddddQB", nan, inf, inf, inf, 0, 1) + b"\xff"
    forged = MAGIC + bytes([VERSION]) + _checksum("key", header, b"payload") + header + b"payload"
    assert opened("key", forged) == CORRUPT


@pytest.mark.parametrize("found", [0, "text", 1.5, [1] * 100, bytearray(100)])
def test_what_is_no_bytes_is_refused(found):
    assert opened("key", found) == CORRUPT


def test_nothing_is_a_miss():
    assert opened("key", None) == NOTHING


@pytest.mark.parametrize("other", ["", "Key", "key ", "key\0", "\ud800", "another key"])
def test_an_envelope_belongs_to_its_key(other):
    assert opened(other, seal("key", ENTRY)) == Opened({}, [other], 0)


@given(st.binary(max_size=120))
def test_any_bytes_are_an_envelope_or_refused(data):
    assert opened("key", data) in (CORRUPT, FOREIGN)
    # With a true beginning as well: the length fields are read from bytes that nobody vouches for.
    assert opened("key", MAGIC + bytes([VERSION]) + data) == CORRUPT


def test_a_codecs_name_that_is_too_long_cannot_be_stored():
    longest = Entry(b"", codec="c" * 255)
    assert opened("key", seal("key", longest)).entries["key"].codec == longest.codec
    with pytest.raises(Exception, match="255"):
        seal("key", Entry(b"", codec="c" * 256))


def test_each_of_a_batch_is_judged_alone():
    late = Entry(b"late", expires_at=5.0)
    blobs = {
        "whole": seal("whole", ENTRY),
        "surrogate \ud800": seal("surrogate \ud800", ENTRY),
        "short": b"tc",
        "late": seal("late", late),
        "newer": MAGIC + bytes([SIGNED_VERSION + 1]) + b"anything",
        "mixed up": seal("whole", ENTRY),
        "other codec": seal("other codec", Entry(b"{}", codec="other")),
        "early": seal("early", Entry(b"early", expires_at=5.5)),
    }
    found = open_envelopes(blobs.items(), now=5.0)
    assert {key: (entry.value, entry.codec) for key, entry in found.entries.items()} == {
        "whole": (b"payload", "json"),
        "surrogate \ud800": (b"payload", "json"),
        "other codec": (b"{}", "other"),
        "early": (b"early", "bytes"),
    }
    assert (found.corrupt, found.expired, found.foreign) == (["short", "mixed up"], 1, 1)


def test_what_is_opened_is_as_frozen_as_any_entry():
    found = opened("key", seal("key", ENTRY)).entries["key"]
    assert type(found) is Entry
    assert found == ENTRY
    assert hash(found) == hash(ENTRY)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.value = b"other"
    assert dataclasses.replace(found, value=b"other").value == b"other"
    assert copy.deepcopy(found) == ENTRY
