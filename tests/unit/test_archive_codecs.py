"""An import of entries that no read finds, since their codec is another: it is told, and they are kept."""

from __future__ import annotations

import json
from itertools import product

import pytest
from archives import Failing, archive, handmade, load
from selections import usually
from shell import run

from tiercache import DiskTier, Entry, MemoryTier, TieredCache, WriteError
from tiercache.archive._format import Item
from tiercache.codecs import BytesCodec, JSONCodec, TextCodec, ZstdCodec


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


@pytest.mark.parametrize(
    "codecs",
    [
        (None, ZstdCodec()),
        (ZstdCodec(), None),
        (ZstdCodec(), BytesCodec()),
        (ZstdCodec(), None, BytesCodec()),
    ],
    ids=["inner", "outer", "both", "outer-and-innermost"],
)
def test_what_a_chain_inside_makes_with_its_own_codec_is_read_there(tmp_path, codecs):
    def chain(name):
        tiers = [DiskTier(tmp_path / name)]
        for codec in codecs[:0:-1]:
            tiers = [MemoryTier(), TieredCache(tiers, codec=codec)]
        return TieredCache(tiers, namespace="app", codec=codecs[0])

    with chain("source") as source, chain("target") as target:
        source.set("key", b"value")
        assert load(archive(source)[0], target).unmatched == {}
        assert target.get("key") == b"value"
        if set(codecs[1:]) == {None}:  # then it has no codec but the one around it
            assert load(handmade(*made_by("bytes", "other")), target).unmatched == {
                "of the codec 'bytes', and the cache has 'zstd-bytes'": 1
            }
            assert target.get("other") is None


SHAPES = {
    "inner": lambda inner, disk: [inner],
    "disk over inner": lambda inner, disk: [disk, inner],
    "inner over disk": lambda inner, disk: [inner, disk],
    "inner in another": lambda inner, disk: [TieredCache([inner]), disk],
    "inner in one of bytes": lambda inner, disk: [TieredCache([inner], codec=BytesCodec())],
    "inner in one of JSON": lambda inner, disk: [TieredCache([disk, inner], codec=JSONCodec())],
}
CODECS = [None, BytesCodec(), ZstdCodec(), JSONCodec(), ZstdCodec(JSONCodec())]


@pytest.mark.parametrize(
    "shape", usually({"disk over inner", "inner in another", "inner in one of JSON"}, SHAPES)
)
def test_an_import_tells_what_a_new_cache_does_not_read(shape):
    def chain(kept, outer, inner):
        disk, lowest = kept
        return TieredCache(SHAPES[shape](TieredCache([lowest], codec=inner), disk), codec=outer)

    for codec in CODECS[0], *CODECS[2:]:
        source = TieredCache([Failing()], codec=codec)
        source.set("key", b"1" if codec in (None, ZstdCodec()) else "1")
        data, _ = archive(source)
        for outer, inner in product(CODECS, CODECS):
            kept = Failing(), Failing()
            try:
                report = load(data, chain(kept, outer, inner))
            except WriteError:  # it says itself that the lowest cannot take it
                continue
            value = chain(kept, outer, inner).get("key")
            assert (value is None) == bool(report.unmatched), (outer, inner, codec, report)


def test_an_entry_of_the_right_codec_that_only_a_chain_with_another_takes_is_told():
    target = TieredCache([TieredCache([Failing()], codec=ZstdCodec(JSONCodec()))], codec=JSONCodec())
    assert load(handmade(*made_by("json", "a", "b")), target).unmatched == {
        "of the codec 'json', and the cache has 'json', but keeps it in a chain with another codec alone": 2
    }


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_shell_is_told_of_another_codec_unless_it_is_meant(tmp_path, flags):
    config, data = tmp_path / "tiercache.toml", handmade(*made_by("json", "a", "b"))
    config.write_text('codec = "text"\n[[tiers]]\ntype = "disk"\ndirectory = "disk"\n')
    (done, meant) = (
        run("-c", config, "import", *flags, *more, stdin=data) for more in ((), ("--any-codec",))
    )
    assert (done.code, meant.code) == (1, 0)
    reason = "of the codec 'json', and the cache has 'text'"
    told = f"tiercache: 2 entries {reason}: no read finds that there (--any-codec, if that is meant)\n"
    assert done.err.endswith(told)
    assert reason not in meant.err
    if flags:
        assert [json.loads(one.out)["unmatched"] for one in (done, meant)] == [{reason: 2}] * 2
