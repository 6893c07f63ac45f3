"""Codecs with options."""

from __future__ import annotations

import json
import pickle

import pytest

from tiercache import ConfigError, DiskTier, MemoryTier, TieredCache
from tiercache.codecs import BytesCodec, EncryptedCodec, JSONCodec, TextCodec, VectorCodec, ZstdCodec

OLD, NEW = "0f" * 32, "A1" * 32
KEY_HIDDEN = "codec.encrypt.key: found a value that is not shown; allowed: text of 64 hex digits"


def config(codec, **options):
    return {"tiers": [{"type": "memory"}], "codec": codec, **options}


@pytest.mark.parametrize(
    ("table", "made"),
    [
        ("zstd-json", ZstdCodec(JSONCodec())),
        ({"type": "json"}, JSONCodec()),
        ({"type": "text", "compress": "zstd"}, ZstdCodec(TextCodec())),
        ({"type": "text", "compress": {}}, ZstdCodec(TextCodec())),
        ({"type": "text", "compress": "none", "encrypt": None}, TextCodec()),
        (
            {"type": "bytes", "compress": {"level": "9", "max_bytes": "1MiB"}},
            ZstdCodec(BytesCodec(), level=9, max_bytes="1MiB"),
        ),
        ({"type": "json", "encrypt": {"key": NEW}}, EncryptedCodec(JSONCodec(), key=NEW)),
        ({"type": "json", "encrypt": {"key": [NEW, OLD]}}, EncryptedCodec(JSONCodec(), key=[NEW, OLD])),
        (
            {"type": "json", "compress": "zstd", "encrypt": {"key": "${KEY}"}},
            EncryptedCodec(ZstdCodec(JSONCodec()), key=NEW),
        ),
        ({"type": "vector"}, VectorCodec()),
        ({"type": "vector", "dtype": "float16", "as_": "array"}, VectorCodec("float16", as_="array")),
        ({"type": "vector-f8", "as_": "array"}, VectorCodec("float64", as_="array")),
        (JSONCodec(), JSONCodec()),
    ],
)
def test_a_table_is_the_codec_that_it_says(table, made, monkeypatch):
    monkeypatch.setenv("KEY", NEW)
    with TieredCache.from_config(config(table, views={"a": {"codec": table}})) as cache:
        assert cache.codec == made
        assert cache.views["a"].codec == made


@pytest.mark.parametrize(
    ("table", "problems"),
    [
        ({}, ["codec.type: is missing; allowed: "]),
        ({"type": "zstd-json"}, ['codec.type: found "zstd-json"; allowed: ']),
        ({"type": "jsn"}, ['codec.type: found "jsn"; allowed: ']),
        ({"type": "${NO_TYPE}"}, ["codec.type: the variable NO_TYPE is not set"]),
        ({"type": "json", "dtype": "float32"}, ["codec.dtype: is not known; allowed: compress, encrypt"]),
        (
            {"type": "vector-f4", "dtype": "float32"},
            ["codec.dtype: is not known; allowed: as_, compress, encrypt"],
        ),
        (
            {"type": "vector", "dtype": "f4", "as": "list"},
            [
                'codec.as: is not known; allowed: dtype, as_, compress, encrypt; did you mean "as_"?',
                'codec.dtype: found "f4"; ',
            ],
        ),
        (
            {"type": "json", "compress": "gzip"},
            ['codec.compress: found "gzip"; allowed: "zstd", a table with level, max_bytes, or "none"'],
        ),
        (
            {"type": "json", "compress": {"level": 0, "max_bytes": "much"}, "encrypt": {}},
            [
                "codec.compress.level: found 0; allowed: a whole number from 1 to 22",
                'codec.compress.max_bytes: found "much"; allowed: at least one byte',
                "codec.encrypt.key: is missing; give text of 64 hex digits (32 or 48 will do), or a list of",
            ],
        ),
        (
            {"type": "json", "encrypt": "hunter2"},
            ['codec.encrypt: found a value that is not shown; allowed: a table with key, or "none"'],
        ),
        (
            {"type": "json", "compress": "${NO_COMPRESS}", "encrypt": "${NO_ENCRYPT}"},
            [
                "codec.compress: the variable NO_COMPRESS is not set; set it, or write a default: ",
                "codec.encrypt: the variable NO_ENCRYPT is not set; set it, or write a default: ",
            ],
        ),
        ({"type": "json", "encrypt": {"key": "hunter2"}}, [KEY_HIDDEN]),
        ({"type": "json", "encrypt": {"key": [NEW, "hunter2"]}}, [KEY_HIDDEN]),
        ({"type": "json", "encrypt": {"key": []}}, [KEY_HIDDEN]),
    ],
)
def test_what_is_wrong_with_one_is_told(table, problems):
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config(config(table))
    told = [line.strip() for line in str(caught.value).removeprefix("the configuration: ").splitlines()]
    told = told[1:] if len(problems) > 1 else told
    assert len(told) == len(problems)
    for line, problem in zip(told, problems, strict=True):
        assert line.startswith(problem), line
    assert "hunter2" not in str(caught.value)


def test_keys_are_changed_without_losing_values(tmp_path):
    def at(*keys):
        tiers = [{"type": "disk", "path": str(tmp_path / "d")}]
        return TieredCache.from_config(
            {"tiers": tiers, "codec": {"type": "json", "encrypt": {"key": list(keys)}}}
        )

    with at(OLD) as cache:
        cache.set("k", ["value"])
    with at(NEW, OLD) as cache:
        assert cache.get("k") == ["value"]
    with at(NEW) as cache:
        assert cache.get("k") is None
    with TieredCache([DiskTier(tmp_path / "d")], codec=EncryptedCodec(JSONCodec(), key=OLD)) as cache:
        assert cache.get("k") == ["value"]


@pytest.mark.parametrize("kind", [list, tuple])
def test_code_gives_secrets_and_keys_as_the_constructors_take_them(tmp_path, kind):
    path, key = str(tmp_path / "d"), bytes.fromhex(NEW)
    for secret in (b"0123456789abcdef", kind([b"0123456789abcdef", "fedcba9876543210"])):
        with TieredCache([DiskTier(path, secret=secret)]) as cache:
            cache.set("k", b"value")
        with TieredCache.from_config({"tiers": [{"type": "disk", "path": path, "secret": secret}]}) as cache:
            assert cache.get("k") == b"value"
    table = {"type": "json", "encrypt": {"key": kind([key, OLD])}}
    with TieredCache.from_config(config(table)) as cache:
        assert cache.codec == EncryptedCodec(JSONCodec(), key=kind([key, OLD]))
    for wrong in (b"0123456789abcde", kind(["0123456789abcdef", b"short"]), kind()):
        with pytest.raises(ConfigError, match=r"secret: found a value that is not shown; allowed: "):
            TieredCache.from_config({"tiers": [{"type": "disk", "path": path, "secret": wrong}]})


def test_keys_are_neither_told_nor_pickled(tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", NEW)
    table = {"type": "json", "encrypt": {"key": "${KEY}"}}
    with TieredCache.from_config(config(table, views={"a": {"codec": table}})) as cache:
        assert cache.config()["codec"] == table
        data = pickle.dumps([cache, cache.views["a"]])
        for text in (json.dumps(cache.config()), data.decode("latin-1"), repr(cache), repr(cache.views)):
            assert NEW not in text
        again, view = pickle.loads(data)  # noqa: S301 - made here
        assert again is cache
        assert view.codec is cache.views["a"].codec


def test_a_codec_that_code_gave_is_no_plain_data():
    with TieredCache.from_config(config(JSONCodec())) as cache:
        with pytest.raises(ConfigError, match="is no plain data: codec is a JSONCodec"):
            cache.config()
        with pytest.raises(TypeError, match="codec is a JSONCodec"):
            pickle.dumps(cache)


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_a_key_in_the_wrong_place_is_not_shown(cut):
    key = OLD[cut:]
    wrong = [
        lambda: TieredCache.from_config(config(key)),
        lambda: TieredCache.from_config(config({"type": key})),
        lambda: TieredCache.from_config(config({"type": "json", "compress": key})),
        lambda: TieredCache.from_config(config("json", views={"v": {"codec": key}})),
        lambda: TieredCache.from_config(config("json", ttl=key)),
        lambda: TieredCache([MemoryTier()], codec=key),
        lambda: TieredCache([MemoryTier()]).view("v", codec=key.encode()),
        lambda: EncryptedCodec(key, key=NEW),
    ]
    for make in wrong:
        with pytest.raises((ConfigError, TypeError)) as caught:
            make()
        assert key[:8] not in str(caught.value)
