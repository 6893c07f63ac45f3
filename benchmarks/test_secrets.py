"""What a signature and what encryption cost, apart from all else, which is measured without them."""

from __future__ import annotations

import os
from pathlib import Path
from time import time
from typing import Any

from benchmarks.contest import Contest
from benchmarks.settled import settled
from tiercache import DiskTier, Entry, TieredCache
from tiercache.codecs import EncryptedCodec
from tiercache.envelope import Secrets, open_envelopes, seal

SECRET = os.urandom(32)
LENGTH = 6144


def test_envelopes(hold: Any, keys: list[str]) -> None:
    """Sealed and opened again, in memory."""
    now = time()
    entry = Entry(os.urandom(LENGTH), now + 3600, now, size=LENGTH)
    secrets = Secrets([SECRET])
    contest = Contest(
        "envelope-signed", f"An envelope of {LENGTH:,} bytes sealed and opened again", size=len(keys)
    )

    def sealed(with_: Secrets | None) -> None:
        opened = open_envelopes([(key, seal(key, entry, with_)) for key in keys], now, with_)
        assert len(opened.entries) == len(keys)

    contest.add("tiercache", lambda: sealed(None))
    contest.add("tiercache, signed", lambda: sealed(secrets))
    hold(contest)


def test_encryption(hold: Any) -> None:
    value = os.urandom(LENGTH)
    codec = EncryptedCodec(key=os.urandom(32))
    contest = Contest(
        "codec-encrypted", f"A value of {LENGTH:,} bytes encrypted and decrypted", thing="value"
    )
    contest.add("tiercache", lambda: codec.decode(codec.encode(value)))
    hold(contest)


def test_mget_from_disk(hold: Any, tmp_path: Path, keys: list[str]) -> None:
    contest = Contest("disk-mget-signed", f"`mget` of 1,000 values of {LENGTH:,} bytes from disk", size=1000)
    batch = {key: os.urandom(LENGTH) for key in keys}
    tiers = [
        DiskTier(tmp_path / "plain"),
        DiskTier(tmp_path / "signed", secret=SECRET),
        DiskTier(tmp_path / "both", secret=SECRET),
    ]
    with (
        TieredCache([tiers[0]], ttl="1h") as plain,
        TieredCache([tiers[1]], ttl="1h") as signed,
        TieredCache([tiers[2]], ttl="1h", codec=EncryptedCodec(key=SECRET)) as both,
    ):
        for name, cache in {
            "tiercache": plain,
            "tiercache, signed": signed,
            "tiercache, signed and encrypted": both,
        }.items():
            cache.mset(batch)
            settled(cache, *tiers)()
            contest.add(name, lambda cache=cache: cache.mget(keys))
        hold(contest)
