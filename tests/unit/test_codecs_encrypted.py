"""The encrypting codec: what was encrypted comes back, what was changed is a miss, no key is ever shown."""

from __future__ import annotations

import hmac
import json
import pickle
import secrets
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from absent import said_without
from apis import both_apis
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from selections import together

from tiercache import DiskTier, EncodedTier, Entry, MemoryTier, TieredCache
from tiercache.codecs import Codec, EncryptedCodec, JSONCodec, TextCodec, VectorCodec, ZstdCodec
from tiercache.envelope import open_envelopes, seal
from tiercache.errors import CodecError, ConfigError, ForeignPayload
from tiercache.protocols import SupportsCopy
from tiercache.testing import DictStore

OLD, NEW, OTHER = bytes(range(32)), bytes(range(32, 64)), b"\xa5" * 32
GOLDEN = Path(__file__).parent.parent / "golden"
SAMPLES = sorted(GOLDEN.glob("encrypted-v*.bin"))
#: Where the fields of a payload begin: version, id, nonce, ciphertext.
ID, NONCE, TEXT = 1, 9, 21
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary(max_size=200))
def test_bytes_come_back(value):
    codec = EncryptedCodec(key=NEW)
    data = codec.encode(value)
    assert codec.decode(data) == value
    assert len(data) == TEXT + len(value) + 16


@given(json_values)
def test_values_of_another_codec_come_back(value):
    codec = EncryptedCodec(ZstdCodec(JSONCodec()), key=NEW)
    assert codec.decode(codec.encode(value)) == value


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_vectors_come_back(value):
    codec = EncryptedCodec(VectorCodec(), key=NEW)
    assert codec.decode(codec.encode(value)) == value


def test_what_it_is():
    codec = EncryptedCodec(JSONCodec(), key=OLD)
    assert isinstance(codec, Codec)
    assert codec.name == "encrypted-json"
    assert codec.inner == JSONCodec()
    assert EncryptedCodec(key=OLD).name == "encrypted-bytes"
    assert EncryptedCodec(ZstdCodec(TextCodec()), key=OLD).name == "encrypted-zstd-text"
    with pytest.raises(AttributeError):
        codec.name = "another"
    # Chains keep one view for equal codecs: those of other keys are no equals.
    assert codec == EncryptedCodec(JSONCodec(), key=[OLD])
    assert hash(codec) == hash(EncryptedCodec(JSONCodec(), key=OLD.hex()))
    assert codec != EncryptedCodec(JSONCodec(), key=NEW)
    assert codec != EncryptedCodec(JSONCodec(), key=[NEW, OLD]) != EncryptedCodec(JSONCodec(), key=[OLD, NEW])
    assert codec != EncryptedCodec(TextCodec(), key=OLD)
    assert codec != ZstdCodec(JSONCodec())


def test_copies_are_those_of_the_inner_codec():
    codec = EncryptedCodec(JSONCodec(), key=OLD)
    assert isinstance(codec, SupportsCopy)
    value = {"a": [1]}
    copied = codec.copy(value)
    copied["a"].append(2)
    assert value == {"a": [1]}
    assert not isinstance(EncryptedCodec(TextCodec(), key=OLD), SupportsCopy)


def test_no_nonce_comes_twice():
    codec = EncryptedCodec(key=OLD)
    nonces = {codec.encode(b"the same")[NONCE:TEXT] for _ in range(500)}
    assert len(nonces) == 500


def test_threads_share_one():
    codec = EncryptedCodec(JSONCodec(), key=OLD)
    with ThreadPoolExecutor(4) as pool:
        values = [[number] * 50 for number in range(400)]
        assert list(pool.map(lambda value: codec.decode(codec.encode(value)), values)) == values


def test_what_the_inner_codec_refuses_is_refused():
    with pytest.raises(CodecError, match="takes bytes, not str"):
        EncryptedCodec(key=OLD).encode("text")
    with pytest.raises(CodecError, match="tuple"):
        EncryptedCodec(JSONCodec(), key=OLD).encode((1,))


# -- the format ------------------------------------------------------------------------------------


def _sample(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_can_be_read(sample):
    """Payloads of every released version stay readable. If this fails, the format has changed: give it a new
    version and keep reading the old one."""
    told = _sample(sample)
    inner = {"json": JSONCodec(), "bytes": None, "zstd-text": ZstdCodec(TextCodec())}[told["inner"]]
    codec = EncryptedCodec(inner, key=told["key"])
    value = bytes.fromhex(told["hex"]) if "hex" in told else told["value"]
    assert codec.decode(sample.read_bytes()) == value


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_is_what_the_description_of_the_format_says(sample):
    """Read with nothing of ours, by the table in the module."""
    told, data = _sample(sample), sample.read_bytes()
    key = bytes.fromhex(told["key"])
    assert data[0] == 1
    assert data[ID:NONCE] == hmac.digest(key, b"tiercache encryption: id", "sha256")[:8]
    bound = b"tiercache encrypted" + data[:NONCE] + f"encrypted-{told['inner']}".encode()
    plain = AESGCM(key).decrypt(data[NONCE:TEXT], data[TEXT:], bound)
    assert plain == bytes.fromhex(told["plain"])


def test_samples_are_there():
    assert [path.stem for path in SAMPLES] == ["encrypted-v1-bytes", "encrypted-v1-json", "encrypted-v1-text"]
    assert {len(_sample(path)["key"]) for path in SAMPLES} == {32, 48, 64}


def test_every_flipped_bit_is_refused():
    codec = EncryptedCodec(TextCodec(), key=[NEW, OLD])
    data = codec.encode("a value")
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            with pytest.raises(CodecError) as caught:
                codec.decode(bytes(damaged))
            # Another version or key may be another process's to judge.
            assert (type(caught.value) is ForeignPayload) == (at < NONCE), at


def test_every_truncation_is_refused():
    codec = EncryptedCodec(key=NEW)
    data = codec.encode(b"a value")
    for length in range(len(data)):
        with pytest.raises(CodecError) as caught:
            codec.decode(data[:length])
        assert type(caught.value) is CodecError
    with pytest.raises(CodecError):
        codec.decode(data + b"\0")


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(data):
    codec = EncryptedCodec(key=NEW)
    with pytest.raises(CodecError):
        codec.decode(data)
    with pytest.raises(CodecError, match=r"too short|changed since"):
        codec.decode(codec.encode(b"")[:NONCE] + data)


def test_a_value_of_one_codec_is_none_of_another():
    """Both JSON and text are UTF-8: only the name in the associated data tells them apart."""
    data = EncryptedCodec(TextCodec(), key=NEW).encode('{"admin": true}')
    with pytest.raises(CodecError, match="of another codec") as caught:
        EncryptedCodec(JSONCodec(), key=NEW).decode(data)
    assert type(caught.value) is CodecError


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 24, 32])
def test_keys_of_each_size_as_bytes_and_as_hex(size):
    key = secrets.token_bytes(size)
    data = EncryptedCodec(key=key).encode(b"v")
    assert EncryptedCodec(key=key.hex()).decode(data) == b"v"
    assert EncryptedCodec(key=[key.hex().upper()]).decode(data) == b"v"


@together(
    ("key", "message"),
    [
        (b"short", "key: 5 bytes are no key; give 32"),
        (b"", "key: 0 bytes"),
        (b"x" * 64, "key: 64 bytes"),
        ("ab" * 20, "key: 20 bytes"),
        ("", "key: 0 bytes"),
        ("correct horse battery staple 123", "key: text that is not hex"),
        ("q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=", "key: text that is not hex"),
        ("ab " * 16, "key: text that is not hex"),
        ("\N{ARABIC-INDIC DIGIT ZERO}" * 64, "key: text that is not hex"),
        ("ab" * 32 + "\n", "key: text that is not hex"),
        ("a" * 63, "key: text that is not hex"),
        ([], "key: there is none in it"),
        ([NEW, b"short"], r"key\[1\]: 5 bytes"),
        ([NEW, None], r"key\[1\]: NoneType is not allowed"),
        (None, "key: NoneType is not allowed"),
        (1, "key: int is not allowed"),
        (bytearray(32), "key: bytearray is not allowed"),
        ({NEW: 1}, "key: dict is not allowed"),
        ({NEW}, "key: set is not allowed"),
    ],
)
def test_what_is_no_key(key, message):
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        EncryptedCodec(key=key)
    shown = "".join(traceback.format_exception(caught.value)).split("Error: ")[-1]
    for secret in ("correct", "q83v", "abab", "short"):
        assert secret not in shown


def test_what_is_no_codec():
    with pytest.raises(ConfigError, match=r"inner: .* is no codec"):
        EncryptedCodec(JSONCodec, key=NEW)
    with pytest.raises(ConfigError, match="inner: a str is no codec"):
        EncryptedCodec("json", key=NEW)


def test_keys_are_never_shown():
    codec = EncryptedCodec(JSONCodec(), key=[NEW, OLD])
    shown = [repr(codec), str(codec)]
    wrong = codec.encode([1])[:-1] + b"\0"
    for data in (b"", wrong, b"\2" + wrong[1:], wrong[:1] + bytes(8) + wrong[9:]):
        with pytest.raises(CodecError) as caught:
            codec.decode(data)
        shown.append("".join(traceback.format_exception(caught.value)))
        assert caught.value.__cause__ is None
    assert shown[0] == "EncryptedCodec(JSONCodec(), key=<2 keys>)"
    # Nor does the object hold what a debugger's dump of its attributes would print.
    shown.append(repr(vars(codec)))
    for text in shown:
        for key in (NEW, OLD):
            assert key.hex() not in text
            assert repr(key)[2:-1] not in text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_refuses_to_be_pickled(protocol):
    with pytest.raises(TypeError, match="its keys would be"):
        pickle.dumps(EncryptedCodec(key=NEW), protocol)


# -- in a chain ------------------------------------------------------------------------------------


def chain(folder: Path, *keys: bytes) -> TieredCache[Any]:
    """One deployment: a chain over the disk tier in ``folder``, with these keys."""
    return TieredCache([DiskTier(folder)], codec=EncryptedCodec(JSONCodec(), key=keys))


@both_apis
def test_keys_are_rotated_while_two_deployments_share_a_disk(call, tmp_path):
    """[old], [old, new], [new, old], [new]: no step makes a value unreadable for the step before it."""
    with chain(tmp_path, OLD) as before, chain(tmp_path, OLD, NEW) as first:
        assert call(before, "set", "a", [1]).ok
        assert call(first, "set", "b", [2]).ok
        assert call(before, "mget", ["a", "b"]) == call(first, "mget", ["a", "b"]) == [[1], [2]]
    with chain(tmp_path, OLD, NEW) as first, chain(tmp_path, NEW, OLD) as second:
        assert call(second, "set", "c", [3]).ok
        assert (
            call(first, "mget", ["a", "b", "c"]) == call(second, "mget", ["a", "b", "c"]) == [[1], [2], [3]]
        )
    with chain(tmp_path, NEW, OLD) as second, chain(tmp_path, NEW) as last:
        assert call(last, "mget", ["a", "b", "c"]) == [None, None, [3]]
        assert call(second, "mget", ["a", "b", "c"]) == [[1], [2], [3]]


@both_apis
def test_what_an_unknown_key_encrypted_is_a_miss_and_left_alone(call, tmp_path):
    with chain(tmp_path, OLD) as theirs, chain(tmp_path, NEW) as ours:
        assert call(theirs, "set", "a", [1]).ok
        assert call(ours, "get", "a") is None
        tier = ours.stats().tiers[0]
        assert (tier.hits, tier.misses, tier.corrupt, tier.errors) == (0, 1, 0, 0)
        assert call(theirs, "get", "a") == [1]


def _shared(codec: Codec[Any]) -> tuple[DictStore, TieredCache[Any]]:
    store = DictStore()
    return store, TieredCache([EncodedTier(store)], codec=codec)


def test_a_payload_changed_under_a_valid_envelope_is_a_miss_and_deleted():
    """The checksum of an envelope can be made by anybody; the tag cannot."""
    store, cache = _shared(EncryptedCodec(TextCodec(), key=NEW))
    cache.set("key", "value")
    sealed = store.mget(["key"])["key"]
    entry = open_envelopes([("key", sealed)], 0.0).entries["key"]
    assert entry.codec == "encrypted-text"
    for at in range(len(entry.value)):
        damaged = bytearray(entry.value)
        damaged[at] ^= 1
        store.mset({"key": (seal("key", Entry(bytes(damaged), codec=entry.codec)), None)})
        before = cache.stats().tiers[0].corrupt
        assert cache.get("key") is None, at
        foreign = at < NONCE
        assert cache.stats().tiers[0].corrupt - before == (0 if foreign else 1)
        assert ("key" in store.mget(["key"])) == foreign


def test_every_flipped_byte_of_what_a_tier_holds_is_a_miss():
    store, cache = _shared(EncryptedCodec(JSONCodec(), key=NEW))
    cache.set("key", {"a": 1})
    sealed = store.mget(["key"])["key"]
    for at in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[at] ^= 0x10
        store.mset({"key": (bytes(damaged), None)})
        assert cache.get("key") is None, at
    store.mset({"key": (sealed, None)})
    assert cache.get("key") == {"a": 1}


def test_a_payload_under_another_key_is_told_by_the_envelope_alone():
    """Why ``secret=`` belongs to it where others can write: a codec knows no keys."""
    for secret, believed in ((None, "for a"), ("a secret of the envelopes", None)):
        store = DictStore()
        cache = TieredCache([EncodedTier(store, secret=secret)], codec=EncryptedCodec(TextCodec(), key=NEW))
        cache.set("a", "for a")
        payload = store.mget(["a"])["a"][-(TEXT + len("for a") + 16) :]
        store.mset({"b": (seal("b", Entry(payload, codec="encrypted-text")), None)})
        assert cache.get("b") == believed


def test_the_disk_holds_no_plain_text_and_memory_the_value_itself(tmp_path):
    word = "a word that is easy to find " * 4
    with TieredCache(
        [MemoryTier(), DiskTier(tmp_path)], codec=EncryptedCodec(TextCodec(), key=NEW), promote="inline"
    ) as cache:
        cache.set("key", word)
        assert cache.get("key") is word
        files = [file.read_bytes() for file in tmp_path.iterdir() if file.is_file()]
        assert any(b"encrypted-text" in content for content in files)
        assert not any(b"easy to find" in content for content in files)
    with TieredCache([DiskTier(tmp_path)], codec=TextCodec()) as other:
        assert other.get("key") is None


def test_without_the_package_it_says_what_to_type():
    said = said_without(
        "cryptography",
        code="EncryptedCodec(key=bytes(32))",
        given="from tiercache.codecs import EncryptedCodec",
    )
    assert said == (
        "EncryptedCodec needs the package 'cryptography', which is not installed: "
        'pip install "tiercache-framework[crypto]"\n'
    )
