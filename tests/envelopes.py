"""Entries to be sealed, and what opening finds of an envelope that is not believed."""

from __future__ import annotations

from math import inf

from hypothesis import strategies as st

from tiercache.entry import Entry, Sliding
from tiercache.envelope import Opened

__all__ = ["CORRUPT", "ENTRY", "entries"]

ENTRY = Entry(b"payload", expires_at=2e9, created_at=1e9, fresh_until=1.5e9, codec="json", size=7)
#: What is found under "key".
CORRUPT = Opened({}, ["key"], 0)

_times = st.none() | st.floats(-1e12, 1e12)
entries = st.builds(
    Entry,
    st.binary(max_size=40),
    expires_at=_times,
    created_at=_times,
    fresh_until=_times,
    codec=st.text(max_size=20),
    sliding=st.none() | st.builds(Sliding, st.floats(1e-3, 1e9), st.just(inf) | st.floats(1e-3, 1e9)),
)
