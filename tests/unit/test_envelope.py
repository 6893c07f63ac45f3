"""The envelope: whole or refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercache.entry import Entry
from tiercache.envelope import MAGIC, VERSION, CorruptEnvelope, ForeignEnvelope, open_envelope, seal

ENTRY = Entry(b"payload", expires_at=2e9, created_at=1e9, fresh_until=1.5e9, codec="json", size=7)
times = st.none() | st.floats(-1e12, 1e12)
entries = st.builds(
    Entry,
    st.binary(max_size=40),
    expires_at=times,
    created_at=times,
    fresh_until=times,
    codec=st.text(max_size=20),
)


@settings(deadline=None)
@given(st.text(max_size=20), entries)
def test_what_is_sealed_can_be_opened(key, entry):
    found = open_envelope(key, seal(key, entry))
    assert (found.value, found.codec, found.size) == (entry.value, entry.codec, len(entry.value))
    assert (found.expires_at, found.created_at, found.fresh_until) == (
        entry.expires_at,
        entry.created_at,
        entry.fresh_until,
    )


def test_every_flipped_bit_is_noticed():
    data = seal("key", ENTRY)
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            # Byte 3 is the version: another one may be a newer library's, which is no damage.
            expected = ForeignEnvelope if at == len(MAGIC) else CorruptEnvelope
            with pytest.raises(expected):
                open_envelope("key", bytes(damaged))


def test_every_truncation_is_noticed():
    data = seal("key", ENTRY)
    for length in range(len(data)):
        with pytest.raises(CorruptEnvelope):
            open_envelope("key", data[:length])
    with pytest.raises(CorruptEnvelope):
        open_envelope("key", data + b"\0")


@pytest.mark.parametrize("other", ["", "Key", "key ", "key\0", "\ud800", "another key"])
def test_an_envelope_belongs_to_its_key(other):
    with pytest.raises(CorruptEnvelope, match="another key"):
        open_envelope(other, seal("key", ENTRY))


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_an_envelope_or_refused(data):
    with pytest.raises((CorruptEnvelope, ForeignEnvelope)):
        open_envelope("key", data)
    # With a true beginning as well: the length fields are read from bytes that nobody vouches for.
    with pytest.raises(CorruptEnvelope):
        open_envelope("key", MAGIC + bytes([VERSION]) + data)


def test_a_codecs_name_that_is_too_long_cannot_be_stored():
    longest = Entry(b"", codec="c" * 255)
    assert open_envelope("key", seal("key", longest)).codec == longest.codec
    with pytest.raises(Exception, match="255"):
        seal("key", Entry(b"", codec="c" * 256))
