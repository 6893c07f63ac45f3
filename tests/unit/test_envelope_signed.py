"""The signed envelope: believed when a known secret made it, for its key and as it is; else a miss."""

from __future__ import annotations

import asyncio
import itertools
import logging
import struct
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from envelopes import CORRUPT, ENTRY, entries
from hypothesis import given
from hypothesis import strategies as st
from selections import together

from tiercache import DiskTier, RedisTier, SQLTier, TieredCache
from tiercache.entry import Entry
from tiercache.envelope import (
    MAGIC,
    SIGNED_VERSION,
    VERSION,
    Opened,
    Secrets,
    _checksum,
    open_envelopes,
    seal,
    written_at,
)
from tiercache.errors import ConfigError
from tiercache.testing import AsyncDictStore, DictStore, FakeClock
from tiercache.tiers.encoded import EncodedTier

OLD, NEW, OTHER = "the old secret, for now", b"the new secret, from now on", "somebody else's secret"
NOTHING = Opened({}, [], 0)
LEFT_ALONE = Opened({}, [], 0, 1)


def secrets(*given: str | bytes) -> Secrets:
    made = Secrets.of(given, "secret")
    assert made is not None
    return made


def opened(key: str, data: object, by: Secrets | None) -> Opened:
    return open_envelopes([(key, data)], -2e12, by)


@given(st.text(max_size=20), entries)
def test_what_is_signed_can_be_opened(key, entry):
    found = opened(key, seal(key, entry, secrets(OLD)), secrets(OLD)).entries[key]
    assert (found.value, found.codec, found.size) == (entry.value, entry.codec, len(entry.value))
    assert (found.expires_at, found.created_at, found.fresh_until) == (
        entry.expires_at, entry.created_at, entry.fresh_until,
    )  # fmt: skip


def test_every_flipped_bit_is_a_miss():
    data = seal("key", ENTRY, secrets(OLD))
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            # Another version, or another secret's id, may be somebody's who is set up in another way.
            expected = LEFT_ALONE if 3 <= at < 12 else CORRUPT
            assert opened("key", bytes(damaged), secrets(OLD)) == expected, at


def test_every_truncation_is_a_miss():
    data = seal("key", ENTRY, secrets(OLD))
    for length in range(len(data)):
        assert opened("key", data[:length], secrets(OLD)) == CORRUPT, length
    assert opened("key", data + b"\0", secrets(OLD)) == CORRUPT


@given(st.binary(max_size=120))
def test_any_bytes_are_refused(data):
    assert opened("key", data, secrets(OLD)) in (CORRUPT, LEFT_ALONE)
    beginning = seal("key", ENTRY, secrets(OLD))[:12]
    assert opened("key", beginning + data, secrets(OLD)) == CORRUPT


@pytest.mark.parametrize("found", [0, "text", [1] * 100, bytearray(100)])
def test_what_is_no_bytes_is_refused(found):
    assert opened("key", found, secrets(OLD)) == CORRUPT
    assert opened("key", None, secrets(OLD)) == NOTHING


@pytest.mark.parametrize("other", ["", "Key", "key ", "key\0", "\ud800", "another key"])
def test_an_entry_copied_to_another_key_is_a_miss(other):
    assert opened(other, seal("key", ENTRY, secrets(OLD)), secrets(OLD)) == Opened({}, [other], 0)


def test_no_byte_can_move_between_key_and_payload():
    data = seal("key", ENTRY, secrets(OLD))
    lead, header, payload = data[:44], data[44:89], data[89:]
    assert header.endswith(b"json")
    assert payload == b"payload"
    # A key that ends as the header begins, in place of the header's own beginning, and the like.
    for cut in range(1, len(header)):
        key = "key" + header[:cut].decode("latin-1")
        assert opened(key, lead + header[cut:] + payload, secrets(OLD)) == Opened({}, [key], 0)


def test_what_was_forged_with_the_public_checksum_is_a_miss_and_left_alone():
    """Whoever writes without a secret may be a process that was not told yet: no reason to delete it."""
    assert opened("key", seal("key", ENTRY), secrets(OLD)) == LEFT_ALONE
    # The same, dressed up as signed: a known id (ids are public), and a checksum for a signature.
    signed = seal("key", ENTRY, secrets(OLD))
    for signature in (_checksum("key", signed[44:89], b"forged!") * 2, bytes(32), signed[12:44]):
        assert opened("key", signed[:12] + signature + signed[44:89] + b"forged!", secrets(OLD)) == CORRUPT


def test_what_another_secret_signed_is_a_miss_and_left_alone():
    assert opened("key", seal("key", ENTRY, secrets(OTHER)), secrets(OLD)) == LEFT_ALONE
    # Under a known id it is a forgery.
    forged = seal("key", ENTRY, secrets(OLD))[:12] + seal("key", ENTRY, secrets(OTHER))[12:]
    assert opened("key", forged, secrets(OLD)) == CORRUPT


def test_without_a_secret_a_signed_one_is_a_miss_and_left_alone():
    assert opened("key", seal("key", ENTRY, secrets(OLD)), None) == LEFT_ALONE


def test_a_secret_takes_the_place_of_another():
    """Each step in any order of processes: whoever writes is read by all."""
    steps = [secrets(OLD), secrets(OLD, NEW), secrets(NEW, OLD), secrets(NEW)]
    for mine, next_ in itertools.pairwise(steps):
        for writer, reader in ((mine, next_), (next_, mine), (mine, mine), (next_, next_)):
            assert opened("key", seal("key", ENTRY, writer), reader).entries == {"key": ENTRY}
    assert opened("key", seal("key", ENTRY, steps[0]), steps[3]) == LEFT_ALONE


def test_text_and_bytes_are_the_same_secret():
    assert opened(
        "key", seal("key", ENTRY, secrets("größer als 16 Bytes")), secrets("größer als 16 Bytes".encode())
    )
    assert seal("key", ENTRY, Secrets.of(OLD, "s")) == seal("key", ENTRY, secrets(OLD.encode()))


def test_what_expired_is_counted_and_the_rest_of_a_batch_judged_alone():
    mine = secrets(OLD)
    blobs = {
        "whole": seal("whole", ENTRY, mine),
        "late": seal("late", Entry(b"late", expires_at=5.0), mine),
        "early": seal("early", Entry(b"early", expires_at=5.5), mine),
        "moved": seal("whole", ENTRY, mine),
        "unsigned": seal("unsigned", ENTRY),
        "newer": MAGIC + bytes([SIGNED_VERSION + 1]) + b"anything",
        "short": b"tc",
    }
    found = open_envelopes(blobs.items(), 5.0, mine)
    assert {key: entry.value for key, entry in found.entries.items()} == {
        "whole": b"payload",
        "early": b"early",
    }
    assert (found.corrupt, found.expired, found.foreign) == (["moved", "short"], 1, 2)


def test_stores_can_tell_when_it_was_written():
    assert written_at(seal("key", ENTRY, secrets(OLD))) == 1e9
    assert written_at(seal("key", Entry(b""), secrets(OLD))) is None
    assert written_at(seal("key", ENTRY, secrets(OLD))[:80]) is None
    assert written_at(seal("key", ENTRY)) == 1e9


# -- as an option of tiers -------------------------------------------------------------------------


def test_a_forged_entry_is_a_miss_counted_and_deleted():
    store = DictStore()
    tier = EncodedTier(store, secret=OLD)
    tier.mset({key: Entry(b"true") for key in "abcd"})
    store.blobs["a"] = store.blobs["a"][:-4] + b"lie!"
    store.blobs["b"] = store.blobs["c"]
    store.blobs["d"] = seal("d", Entry(b"lie!"))
    assert {key: entry.value for key, entry in tier.mget(list("abcd")).items()} == {"c": b"true"}
    assert tier.counters()["corrupt"] == 2
    assert store.blobs.keys() == {"c", "d"}


def test_the_async_twins_sign_too():
    store = AsyncDictStore()
    tier = EncodedTier(store, secret=[NEW, OLD])

    async def scenario():
        await tier.amset({"k": Entry(b"v")})
        assert (await tier.amget(["k"]))["k"].value == b"v"

    asyncio.run(scenario())
    assert store.inner.blobs["k"][:4] == MAGIC + bytes([SIGNED_VERSION])


def made_by(kind: str, folder: Path, **options: object) -> EncodedTier:
    makers: dict[str, Callable[..., EncodedTier]] = {
        "disk": lambda **given: DiskTier(folder / "d", **given),
        "sql": lambda **given: SQLTier(f"sqlite:///{folder}/s.db", **given),
        "redis": lambda **given: RedisTier("redis://127.0.0.1:1/0", **given),
        "encoded": lambda **given: EncodedTier(DictStore(), **given),
    }
    return makers[kind](**options)


@pytest.mark.parametrize("kind", ["disk", "sql"])
def test_tiers_of_one_place_with_other_secrets_do_not_believe_each_other(tmp_path, kind):
    mine, theirs = (made_by(kind, tmp_path, secret=secret) for secret in (OLD, OTHER))
    plain = made_by(kind, tmp_path)
    mine.mset({"k": Entry(b"mine", created_at=1e9)})
    for tier in (theirs, plain):
        assert tier.mget(["k"]) == {}
        assert tier.counters()["corrupt"] == 0
    assert mine.mget(["k"])["k"].value == b"mine"
    plain.mset({"k": Entry(b"forged")})
    assert mine.mget(["k"]) == {}
    mine.mset({"k": Entry(b"mine")})
    assert mine.mget(["k"])["k"].value == b"mine"
    for tier in (mine, theirs, plain):
        tier.close()


@together("kind", ["disk", "sql", "redis", "encoded"])
@together(
    ("secret", "message"),
    [
        ("hunter2", "secret: shorter than 16 bytes"),
        (b"fifteen bytes..", "secret: shorter"),
        ("", "secret: shorter"),
        ([OLD, "hunter2"], r"secret\[1\]: shorter"),
        ([], "there is none"),
        (12345678901234567890, "int is not allowed"),
        ([OLD, None], r"secret\[1\]: NoneType"),
        (bytearray(OLD.encode()), "bytearray is not allowed"),
        ([[OLD]], r"secret\[0\]: list"),
    ],
)
def test_what_is_no_secret_is_refused_and_told_to_nobody(tmp_path, kind, secret, message):
    with pytest.raises(ConfigError, match=message) as caught:
        made_by(kind, tmp_path, secret=secret)
    told = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in told.replace("made_by(kind, tmp_path, secret=secret)", "")
    assert OLD not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["disk", "sql", "encoded"])
def test_a_secret_is_never_shown(tmp_path, caplog, kind):
    caplog.set_level(logging.DEBUG)
    tier = made_by(kind, tmp_path, secret=[OLD, NEW])
    with TieredCache([tier]) as cache:
        cache.set("k", b"v")
        shown = [
            repr(tier),
            str(vars(tier)),
            repr(cache),
            str(cache.stats()),
            repr(cache.stats()),
            caplog.text,
        ]
    assert "<2 secrets>" in shown[1]
    for text in shown:
        for secret in (OLD, NEW.decode(), OLD.encode().hex()):
            assert secret not in text


def test_a_configuration_gives_secrets_and_never_shows_them(tmp_path, monkeypatch):
    monkeypatch.setenv("CACHE_SECRET", OLD)
    for option, sealed_by in (("${CACHE_SECRET}", OLD), (["${CACHE_SECRET}", OTHER], OLD), ([OTHER], OTHER)):
        with TieredCache.from_config(
            {"tiers": [{"type": "disk", "path": str(tmp_path), "secret": option}]}
        ) as cache:
            cache.set("k", b"v")
        tier = DiskTier(tmp_path, secret=sealed_by)
        assert tier.mget(["k"])["k"].value == b"v"
        tier.close()
    for wrong in ("hunter2", ["hunter2"], [], 5, {"a": "hunter2"}):
        with pytest.raises(ConfigError, match="16 bytes and more") as caught:
            TieredCache.from_config({"tiers": [{"type": "disk", "path": str(tmp_path), "secret": wrong}]})
        assert "hunter2" not in str(caught.value)


def test_an_entry_from_before_its_time_ended_is_not_believed_after(tmp_path):
    clock = FakeClock()
    store = DictStore()
    tier = EncodedTier(store, secret=OLD, clock=clock)
    tier.mset({"k": Entry(b"v", expires_at=clock.time() + 10)})
    replayed = store.blobs["k"]
    clock.advance(10)
    store.blobs["k"] = replayed
    assert tier.mget(["k"]) == {}
    # Nor with another time written into it.
    store.blobs["k"] = replayed[:52] + struct.pack("<d", clock.time() + 99) + replayed[60:]
    assert tier.mget(["k"]) == {}
    assert tier.counters() == {"corrupt": 1, "foreign": 0, "expirations": 1}


def test_nothing_changes_for_those_without_a_secret():
    assert seal("key", ENTRY)[:4] == MAGIC + bytes([VERSION])
    assert Secrets.of(None, "secret") is None
