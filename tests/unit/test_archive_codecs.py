"""An import of entries that no read finds, since their codec is another: it is told, and they are kept."""

from __future__ import annotations

import json

import pytest
from archives import archive, handmade, load
from shell import run

from tiercache import DiskTier, Entry, TieredCache
from tiercache.archive._format import Item
from tiercache.codecs import JSONCodec, TextCodec, ZstdCodec


def made_by(codec, *keys, path=()):
    return [Item(path, key, Entry(b"1", codec=codec, size=1)) for key in keys]


def test_entries_of_another_codec_than_their_namespace_has_are_counted(make_chain):
    target = make_chain("target", codec=JSONCodec())
    views = {
        "texts": target.view("texts", codec=TextCodec()),
        "raw": target.view("texts").view("raw"),
        "json": target.view("texts").view("raw", codec=JSONCodec()),  # two views of it
    }
    data = handmade(
        *made_by("json", "fits"),
        *made_by("text", "a", "b"),
        *made_by("text", "fits", path=("texts",)),
        *made_by("json", "c", path=("texts",)),
        *made_by("bytes", "fits", path=("texts", "raw")),
        *made_by("json", "fits too", path=("texts", "raw")),
        *made_by("zstd-json", "d", "e", "f", path=("texts", "raw")),
        *made_by("any", "whose codec only the program knows", path=("another",)),
    )
    told = {
        "of the codec 'zstd-json', and the namespace 'texts/raw' in it has 'bytes' and 'json'": 3,
        "of the codec 'text', and the cache has 'json'": 2,
        "of the codec 'json', and the namespace 'texts' in it has 'text'": 1,
    }
    for stored in (11, 0):  # those that are there already are no better
        report = load(data, target, views=views)
        assert (report.stored, report.already_there, report.skipped) == (stored, 11 - stored, {})
        assert list(report.unmatched.items()) == list(told.items())
    assert target.mget(["fits", "a"]) == [1, None]
    assert target.with_codec(TextCodec()).get("a") == "1"
    assert load(handmade(*made_by("json", "c")), target.view("texts")).unmatched == {
        "of the codec 'json', and the cache has 'bytes'": 1
    }


def test_bytes_that_a_chain_inside_compresses_are_bytes(tmp_path):
    def chain(name):
        inner = TieredCache([DiskTier(tmp_path / name)], codec=ZstdCodec())
        return TieredCache([inner], namespace="app")

    with chain("source") as source, chain("target") as target:
        source.set("key", b"value")
        assert load(archive(source)[0], target).unmatched == {}
        assert target.get("key") == b"value"


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_shell_is_told_of_another_codec_unless_it_is_meant(tmp_path, flags):
    config, data = tmp_path / "tiercache.toml", handmade(*made_by("json", "a", "b"))
    config.write_text('codec = "text"\n[[tiers]]\ntype = "disk"\ndirectory = "disk"\n')
    (done, meant) = (
        run("-c", config, "import", *flags, *more, stdin=data) for more in ((), ("--any-codec",))
    )
    assert (done.code, meant.code) == (1, 0)
    reason = "of the codec 'json', and the cache has 'text'"
    told = f"tiercache: 2 entries are {reason}: no read finds them there (--any-codec, if that is meant)\n"
    assert done.err.endswith(told)
    assert reason not in meant.err
    if flags:
        assert [json.loads(one.out)["unmatched"] for one in (done, meant)] == [{reason: 2}] * 2
