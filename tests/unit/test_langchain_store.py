"""`TieredByteStore` over tiers that are ill, and what it refuses; importing it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest
from langchain_core.stores import BaseStore
from names import plain_repr
from places import unwritable

from tiercache import CacheClosed, ConfigError, MemoryTier, TieredCache, TierError, WriteError
from tiercache.codecs import JSONCodec
from tiercache.integrations.langchain import TieredByteStore
from tiercache.testing import DictTier


def _blocking(store, verb, *args):
    return getattr(store, verb)(*args)


def _native(store, verb, *args):
    return asyncio.run(getattr(store, f"a{verb}")(*args))


both = pytest.mark.parametrize("call", [_blocking, _native])


class Broken(DictTier):
    """Every call of it raises."""

    def mget(self, keys):
        raise OSError("the disk is gone")

    mset = mdelete = mget

    def scan(self, prefix, **_):
        raise OSError("the disk is gone")


@both
def test_a_store_whose_tiers_are_all_ill_is_no_error(call, caplog):
    with TieredByteStore(TieredCache([Broken("ill")])) as store, caplog.at_level(logging.WARNING):
        call(store, "mset", [("a", b"1")])
        assert call(store, "mget", ["a", "b"]) == [None, None]
        (tier,) = store.stats().tiers
        assert (tier.errors >= 2, tier.sets) == (True, 0)  # it missed again what it is owed, too
    assert sum("failed to" in record.message for record in caplog.records) == 1  # once a minute


@both
def test_what_one_tier_takes_is_there(call):
    with TieredByteStore(TieredCache([MemoryTier(), Broken("ill")])) as store:
        call(store, "mset", [("a", b"1")])
        assert call(store, "mget", ["a"]) == [b"1"]


@both
def test_a_delete_that_was_not_confirmed_raises(call, tmp_path):
    with TieredByteStore(TieredCache([MemoryTier(), unwritable(tmp_path)])) as store:
        with pytest.raises(WriteError, match="disk"):
            call(store, "mdelete", ["a"])
        call(store, "mdelete", [])


def test_a_listing_of_an_ill_tier_raises():
    with (
        TieredByteStore(TieredCache([MemoryTier(), Broken("ill")])) as store,
        pytest.raises(TierError, match="ill cannot list"),
    ):
        list(store.yield_keys())


@both
@pytest.mark.parametrize(
    "pairs",
    [[("a", "text")], [("a", None)], [(1, b"v")], [("a",)], ["ab"], 7],
    ids=plain_repr,
)
def test_wrong_values_are_errors_and_not_the_tiers_fault(call, pairs):
    with TieredByteStore(TieredCache([MemoryTier()])) as store:
        with pytest.raises(TypeError):
            call(store, "mset", pairs)
        assert list(store.yield_keys()) == []


@both
def test_wrong_keys_are_errors(call):
    with TieredByteStore(TieredCache([MemoryTier()])) as store:
        for verb in ("mget", "mdelete"):
            with pytest.raises(TypeError):
                call(store, verb, [b"bytes"])
            with pytest.raises(TypeError):
                call(store, verb, "a")


@both
def test_batches(call):
    with TieredByteStore(TieredCache([MemoryTier()])) as store:
        assert call(store, "mget", []) == []
        call(store, "mset", [])
        call(store, "mdelete", [])
        call(store, "mset", [("a", b"1"), ("b", b"2"), ("a", b"3")])
        assert call(store, "mget", ["b", "a", "x", "a"]) == [b"2", b"3", None, b"3"]
        call(store, "mset", {"c": b"4"}.items())  # any iterable of pairs
        call(store, "mdelete", ["a", "absent", "a"])
        assert call(store, "mget", ("a", "c")) == [None, b"4"]


def test_it_is_true_when_empty():
    # CacheBackedEmbeddings asks for the truth of a store before it looks for a query in it.
    with TieredByteStore(TieredCache([MemoryTier()])) as store:
        assert store
        assert not hasattr(store, "__len__")
        assert isinstance(store, BaseStore)


def test_a_listing_is_lazy():
    tier = DictTier()
    pages = []
    scan = tier.scan

    def noting(prefix, *, skip="", cursor=None, limit=1000):
        pages.append(cursor)
        return scan(prefix, skip=skip, cursor=cursor, limit=100)

    tier.scan = noting
    with TieredByteStore(TieredCache([tier])) as store:
        store.mset([(f"{n:03}", b"v") for n in range(250)])
        keys = store.yield_keys()
        assert pages == []
        assert next(keys) == "000"
        assert len(pages) == 1
        assert len(list(keys)) == 249
        assert len(pages) > 2

        async def first():
            keys = store.ayield_keys(prefix="1")
            found = await anext(keys)
            await keys.aclose()
            return found

        pages.clear()
        assert asyncio.run(first()) == "100"
        assert len(pages) == 1


def test_a_cache_with_a_codec_is_refused_and_told_what_to_do():
    with TieredCache([MemoryTier()], codec=JSONCodec()) as cache:
        with pytest.raises(ConfigError, match=r'codec .*json.*cache\.view\("bytes"\)'):
            TieredByteStore(cache)
        TieredByteStore(cache.view("bytes")).mset([("a", b"1")])


@pytest.mark.parametrize("wrong", [None, MemoryTier(), {}, TieredCache], ids=plain_repr)
def test_what_is_no_cache_is_refused(wrong):
    with pytest.raises(ConfigError, match="no TieredCache"):
        TieredByteStore(wrong)


def test_closing():
    store = TieredByteStore(TieredCache([MemoryTier()]))
    with store as entered:
        assert entered is store
    store.close()
    with pytest.raises(CacheClosed):
        store.mget(["a"])
    with pytest.raises(CacheClosed):
        store.mset([("a", b"1")])

    async def main():
        async with TieredByteStore(TieredCache([MemoryTier()])) as other:
            await other.amset([("a", b"1")])
        with pytest.raises(CacheClosed):
            await other.amget(["a"])
        await other.aclose()

    asyncio.run(main())


def test_stores_of_views_share_tiers_and_not_keys():
    with TieredCache([MemoryTier()]) as cache:
        one, two = TieredByteStore(cache.view("a")), TieredByteStore(cache.view("a/b"))
        one.mset([("b/k", b"1")])
        two.mset([("k", b"2")])
        assert list(one.yield_keys()) == ["b/k"]
        assert list(two.yield_keys()) == ["k"]
        one.close()  # the view alone
        assert two.mget(["k"]) == [b"2"]
        assert two.cache.get("k") == b"2"


def test_local(tmp_path):
    path = tmp_path / "cache"
    with TieredByteStore.local(
        path, namespace="app", ttl="30d", max_bytes="1MiB", memory_bytes=1000
    ) as store:
        store.mset([("a", b"x" * 2000)])  # too large for the memory, not for the disk
        assert store.mget(["a"]) == [b"x" * 2000]
        assert [tier.name for tier in store.stats().tiers] == ["memory", "disk"]
        assert store.stats().tiers[0].rejected >= 1
        assert "memory, disk" in repr(store)
    with pytest.raises(ConfigError, match="max_bytes"):
        TieredByteStore.local(path, max_bytes="much")
    with pytest.raises(ConfigError, match="ttl"):
        TieredByteStore.local(path, ttl=-1)


def test_from_config(tmp_path):
    source = {
        "namespace": "app",
        "tiers": [{"type": "memory"}, {"type": "disk", "path": str(tmp_path / "d")}],
    }
    with TieredByteStore.from_config(source) as store:
        store.mset([("a", b"1")])
    with TieredByteStore.local(tmp_path / "d", namespace="app") as store:
        assert store.mget(["a"]) == [b"1"]


# -- importing -------------------------------------------------------------------------------------


def _run(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_without_langchain_core_the_pip_line_is_told():
    code = """
import sys
sys.modules["langchain_core"] = None
from tiercache import MissingPackage
for statement in (
    "import tiercache.integrations.langchain",
    "from tiercache.integrations.langchain import TieredByteStore",
    "from tiercache.integrations.langchain.stores import TieredByteStore",
):
    try:
        exec(statement)
    except MissingPackage as error:
        print(error.extra, 'pip install "tiercache-framework[langchain]"' in str(error))
"""
    assert _run(code) == ["langchain", "True"] * 3


def test_a_store_needs_the_core_of_langchain_and_no_backend():
    code = "from tiercache.integrations.langchain import TieredByteStore\nimport sys\nprint(*sys.modules)"
    loaded = {name.split(".")[0] for name in _run(code)}
    assert "langchain_core" in loaded
    assert not loaded & {
        "langchain_classic",
        "langchain_community",
        "redis",
        "sqlalchemy",
        "diskcache",
        "numpy",
    }


def test_the_package_alone_imports_nothing_of_langchain():
    assert not [
        name
        for name in _run("import tiercache.integrations.langchain, sys\nprint(*sys.modules)")
        if name.split(".")[0] in {"langchain_core", "pydantic"}
    ]


def test_every_public_name_is_there():
    import tiercache.integrations.langchain as package

    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    assert dir(package) == sorted(package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018 - the look-up is the point
