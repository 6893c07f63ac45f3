"""Bad input, through the public names: the right kind of error, with a message that names the cause."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from apis import both_apis
from selections import together

import tiercache
from tiercache import (
    CacheClosed,
    ConfigError,
    DiskTier,
    EncodedTier,
    MemoryTier,
    RedisTier,
    SQLTier,
    TieredCache,
)
from tiercache.codecs import JSONCodec
from tiercache.testing import DictStore, DictTier, SpyTier

SINGLE = {"get": (), "set": (b"1",), "delete": (), "get_or_load": (lambda key: b"1",)}
MANY = {"mget": (), "mdelete": (), "mget_or_load": (lambda keys: {},)}
NO_KEYS = [None, 7, b"bytes", ("a",), ["a"], {}, 1.5]
TIMED = {
    "set": ("a", b"1"),
    "mset": ({"a": b"1"},),
    "get_or_load": ("a", lambda key: b"1"),
    "mget_or_load": (["a"], lambda keys: [b"1"]),
}
BAD_TTLS = [
    0,
    -1,
    -0.5,
    0.0,
    float("nan"),
    float("inf"),
    "0s",
    "-5m",
    "soon",
    "",
    "5 parsecs",
    timedelta(0),
    True,
]
BAD_TTLS += [timedelta(seconds=-1), b"5m", object(), [5]]


@pytest.fixture(params=["hit", "miss"])
def cache(request):
    """With the key "a" in memory, or without: the fast road refuses what the slow one refuses."""
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        if request.param == "hit":
            cache.set("a", b"1")
        yield cache


@both_apis
def test_none_is_no_value(call, cache):
    for verb, args in {"set": ("k", None), "mset": ({"k": None},)}.items():
        with pytest.raises(TypeError, match=r"None is not a value.*'k'"):
            call(cache, verb, *args)
    with pytest.raises(TypeError, match="None"):
        call(cache.view("v", codec=JSONCodec()), "set", "k", None)


@both_apis
@together("key", NO_KEYS)
def test_a_key_is_text_for_every_method(call, cache, key):
    name = type(key).__name__
    for verb, args in SINGLE.items():
        with pytest.raises(TypeError, match=f"key must be a str, not {name}"):
            call(cache, verb, key, *args)
    for verb, args in MANY.items():
        for keys in ([key], ["a", key]):
            with pytest.raises(TypeError, match=f"key must be a str, not {name}"):
                call(cache, verb, keys, *args)
    with pytest.raises(TypeError, match=f"key must be a str, not {name}"):
        call(cache, "mset", [("a", b"1"), (key, b"2")])
    assert cache.get("a") in (None, b"1")


@both_apis
@together("prefix", [None, b"a", 7])
def test_a_prefix_is_text(call, cache, prefix):
    with pytest.raises(TypeError, match="must be a str"):
        call(cache, "keys", prefix)


@both_apis
@together("keys", ["ab", b"ab", ""])
def test_one_text_is_no_sequence_of_keys(call, cache, keys):
    for verb, args in MANY.items():
        with pytest.raises(TypeError, match=f"not one {type(keys).__name__}"):
            call(cache, verb, keys, *args)


@both_apis
@together("items", ["ab", ["ab"], [("a",)], [("a", b"", b"")], 7, None, ["x"], [1]])
def test_items_are_pairs(call, cache, items):
    with pytest.raises(TypeError, match="items must be"):
        call(cache, "mset", items)


@both_apis
@together("value", ["text", 7, bytearray(b"1"), memoryview(b"1"), [b"1"], True])
def test_without_a_codec_values_are_bytes(call, value):
    tier = SpyTier()
    with TieredCache([MemoryTier(), tier]) as cache:
        for verb, args in {
            "set": ("a", value),
            "mset": ({"good": b"1", "a": value},),
        }.items():
            with pytest.raises(TypeError, match=f"a {type(value).__name__} was given to a cache of bytes"):
                call(cache, verb, *args)
        for verb, args in {
            "get_or_load": ("a", lambda key: value),
            "mget_or_load": (["a"], lambda keys: [value]),
        }.items():
            assert call(cache, verb, *args) in (value, [value])  # it was paid for
        assert tier.count("mset") == 0


@both_apis
@together("ttl", BAD_TTLS)
def test_a_life_that_is_none_is_refused_everywhere(call, cache, ttl):
    for verb, args in TIMED.items():
        with pytest.raises(ValueError, match="ttl"):
            call(cache, verb, *args, ttl=ttl)


@together("ttl", BAD_TTLS)
def test_a_life_that_is_none_is_refused_where_caches_are_made(cache, ttl):
    for make in (
        lambda: TieredCache([DictTier()], ttl=ttl),
        lambda: cache.view("v", ttl=ttl),
        lambda: cache.cached(ttl=ttl),
        lambda: MemoryTier(ttl=ttl),
    ):
        with pytest.raises(ConfigError, match="ttl"):
            make()
    assert issubclass(ConfigError, ValueError)


@both_apis
@together("option", ["older_than", "idle"])
@together("age", [0, -1, float("nan"), "long"])
def test_an_age_that_is_none_is_refused(call, cache, option, age):
    with pytest.raises(ValueError, match=option):
        call(cache, "purge", **{option: age})


@both_apis
@together("size", [0, -1, 1.5, True, "3"])
def test_a_batch_has_a_size(call, cache, size):
    with pytest.raises(ValueError, match="batch_size"):
        call(cache, "mget_or_load", ["a"], lambda keys: {}, batch_size=size)


@together("size", [0, -5, "0", "many", "", "10 parsecs", "-1MiB", 1.5, True, float("nan")])
def test_a_size_is_a_size(size, tmp_path):
    for make in (
        lambda: MemoryTier(max_bytes=size),
        lambda: DiskTier(tmp_path / "cache", max_bytes=size),
        lambda: SQLTier("sqlite://", max_bytes=size),
    ):
        with pytest.raises(ConfigError, match="max_bytes"):
            make()


@together("count", [0, -1, 1.5, "10", True])
def test_a_number_of_entries_is_a_number(count, tmp_path):
    for make in (
        lambda: MemoryTier(max_entries=count),
        lambda: DiskTier(tmp_path / "cache", max_entries=count),
        lambda: SQLTier("sqlite://", max_entries=count),
    ):
        with pytest.raises(ConfigError, match="max_entries"):
            make()


@together("deadline", [0, -1, float("nan"), "soon"])
def test_a_deadline_is_a_duration(deadline, tmp_path):
    for make in (
        lambda: DiskTier(tmp_path / "cache", deadline=deadline),
        lambda: SQLTier("sqlite://", deadline=deadline),
        lambda: RedisTier("redis://localhost", deadline=deadline),
    ):
        with pytest.raises(ConfigError, match="deadline"):
            make()


def test_an_unknown_policy_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"mru.*lru"):
        MemoryTier(policy="mru")


def test_an_unknown_way_to_promote_is_refused():
    with pytest.raises(ConfigError, match=r"promote.*'later'.*background.*inline"):
        TieredCache([DictTier()], promote="later")


@together("tiers", [[object()], [DictTier], ["redis://localhost"], [None]])
def test_what_is_no_tier_is_refused(tiers):
    with pytest.raises((ConfigError, TypeError), match="tier"):
        TieredCache(tiers)


def test_a_cache_needs_a_tier():
    with pytest.raises(ConfigError, match="at least one tier"):
        TieredCache([])


@together("codec", [JSONCodec, "json", 7])
def test_what_is_no_codec_is_refused(cache, codec):
    for make in (
        lambda: TieredCache([DictTier()], codec=codec),
        lambda: cache.view("v", codec=codec),
        lambda: cache.cached(codec=codec),
    ):
        with pytest.raises(TypeError, match="codec"):
            make()


def test_what_else_is_told_with_its_cure():
    cache = TieredCache([MemoryTier()])
    with pytest.raises(TypeError, match="a prefix must be a str, not int: 5"):
        cache.keys(5)
    cache.close()
    with pytest.raises(CacheClosed, match="the cache is closed: make a new one"):
        cache.get("a")


def test_a_directory_that_is_a_file(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below"):
        with pytest.raises(ConfigError, match=r"file.*(not a directory|choose)"):
            DiskTier(path)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system that nobody can write to")  # noqa: PTH112 - no path of ours
def test_a_directory_that_cannot_be_written():
    # Nobody, root included, can make a folder in /proc.
    with pytest.raises(ConfigError, match=r"/proc/tiercache.*cannot be used"):
        DiskTier("/proc/tiercache")


def test_an_unusable_directory_can_be_stood_in_for():
    with pytest.warns(RuntimeWarning, match="temporary"):
        tier = DiskTier("/proc/tiercache", on_unusable="temporary")
    with TieredCache([tier]) as cache:
        cache.set("a", b"1")
        assert cache.get("a") == b"1"


def test_a_file_on_the_way_to_a_directory_can_be_stood_in_for_too(tmp_path):
    # As with HOME=/dev/null, which services without a home are given. A file in its place is somebody's data.
    file = tmp_path / "file"
    file.touch()
    with pytest.warns(RuntimeWarning, match="a part of .* is a file.*temporary"):
        tier = DiskTier(file / "below", on_unusable="temporary")
    with TieredCache([tier]) as cache:
        assert cache.set("a", b"1").accepted == ("disk",)
    with pytest.raises(ConfigError, match=r'choose another; or set on_unusable="temporary"'):
        DiskTier(file / "below")
    with pytest.raises(ConfigError, match="not a directory"):
        DiskTier(file, on_unusable="temporary")
    with pytest.raises(ConfigError, match="not a directory"):
        DiskTier(file / "below", read_only=True, on_unusable="temporary")


@together("url", ["gopher://x", "redis:/x", "localhost:6379", "", "postgres"])
def test_a_url_of_an_unknown_scheme(url):
    for make, known in ((RedisTier, "redis"), (SQLTier, "sqlite")):
        with pytest.raises(ConfigError) as raised:
            make(url)
        assert known in str(raised.value)


@pytest.mark.parametrize("make", [RedisTier, SQLTier])
def test_a_password_is_in_no_message(make):
    with pytest.raises(ConfigError) as raised:
        make("gopher://user:sesame@host/0")
    assert "sesame" not in str(raised.value)


@together("table", ['a"b', "a'b", "a b", "a;b", "1a", "", "a-b", None, "a.b.c", "é"])
def test_a_table_name_is_a_plain_name(table):
    with pytest.raises(ConfigError, match="table"):
        SQLTier("sqlite://", table=table)


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
import tiercache
cache = tiercache.TieredCache([tiercache.MemoryTier()])
cache.set("a", b"works")
try:
    {code}
except tiercache.MissingPackage as error:
    assert isinstance(error, tiercache.ConfigError)
    assert isinstance(error, ImportError)
    print(error)
"""


@pytest.mark.parametrize(
    ("names", "code", "extra"),
    [
        (["diskcache"], "tiercache.DiskTier({path!r})", "disk"),
        (["redis"], "tiercache.RedisTier('redis://localhost')", "redis"),
        (["numpy"], "from tiercache.codecs import VectorCodec; VectorCodec(as_='array')", "vectors"),
        (["xxhash"], "tiercache.EncodedTier", ""),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_package_that_is_not_installed_is_named_with_its_cure(names, code, extra, tmp_path):
    program = BLOCKED.format(names=names, code=code.format(path=str(tmp_path / "cache")))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert f"{names[0]}" in done.stdout.lower()
    assert 'pip install "tiercache-framework[' in done.stdout
    assert extra in done.stdout


def test_every_error_class_is_a_public_name():
    from tiercache import errors

    assert set(errors.__all__) <= set(tiercache.__all__)
    for name in tiercache.__all__:
        assert getattr(tiercache, name) is not None
    assert set(dir(tiercache)) >= set(tiercache.__all__)
    with pytest.raises(AttributeError, match="Nothing"):
        tiercache.Nothing  # noqa: B018 - looked up, to see it refused


def test_tiers_are_a_list():
    for wrong in (DictTier(), None, "memory", {DictTier()}):
        with pytest.raises(ConfigError, match="a list of tiers, the fastest first"):
            TieredCache(wrong)


def test_a_tier_stands_in_a_chain_once():
    tier = DictTier()
    with pytest.raises(ConfigError, match="twice"):
        TieredCache([tier, tier])


def test_memory_below_a_slower_tier_is_told(caplog):
    TieredCache([MemoryTier(), EncodedTier(DictStore()), DictTier()]).close()
    assert not caplog.records
    TieredCache([EncodedTier(DictStore()), MemoryTier()]).close()
    (record,) = caplog.records
    assert "MemoryTier stands below EncodedTier" in record.getMessage()


@both_apis
def test_a_life_that_looks_like_a_time_of_day_is_told_once(call, caplog):
    now = 1_800_000_000
    with TieredCache([DictTier()], ttl="5000d") as cache:
        assert not caplog.records
        call(cache, "set", "a", b"1", ttl=now)
        call(cache, "get_or_load", "b", lambda key: b"1", ttl=now * 1000)
        assert cache.view("v").mget(["a"]) == [None]
    with TieredCache([DictTier()], ttl=now * 1000):
        pass
    assert ["ttl" in record.getMessage() for record in caplog.records] == [True, True]
