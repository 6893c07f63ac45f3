"""`TieredByteStore`: LangChain's own suites over chains of every make, and keys that no peer takes."""

from __future__ import annotations

import asyncio
import inspect
import sys

import pytest
import pythons
from langchain_core.stores import BaseStore
from langchain_tests.integration_tests import BaseStoreAsyncTests, BaseStoreSyncTests

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache
from tiercache.integrations.langchain import TieredByteStore

SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
KEYS = (
    "",
    f"openai_ada002:{SHA256}",
    "models/gemini:x",
    "../outside",
    "line\nbreak\r\n",
    "a\0b",
    "\ud800 alone \udfff",
    "*[glob]?",
    "prefix/",
    "x" * 10_000,
    "x" * 9_999 + "y",
)


class _Chains:
    """What the suites ask for: an empty store, and three values."""

    @pytest.fixture
    def three_values(self):
        return b"foo", b"", bytes(range(256))

    @pytest.fixture
    def lower(self, tmp_path):
        return []

    @pytest.fixture
    def cache(self, lower):
        return TieredCache([MemoryTier(), *lower], namespace="suite")


class _Blocking(_Chains, BaseStoreSyncTests[bytes]):
    @pytest.fixture
    def kv_store(self, cache):
        with TieredByteStore(cache) as store:
            yield store


class _Native(_Chains, BaseStoreAsyncTests[bytes]):
    @pytest.fixture
    async def kv_store(self, cache):
        async with TieredByteStore(cache) as store:
            yield store


class _OverDisk:
    @pytest.fixture
    def lower(self, tmp_path):
        return [DiskTier(tmp_path / "disk")]


class _OverSQL:
    @pytest.fixture
    def lower(self, tmp_path):
        return [DiskTier(tmp_path / "disk"), SQLTier(f"sqlite:///{tmp_path}/cache.db", deadline=20)]


class _OverValkey:
    @pytest.fixture
    def lower(self, tmp_path, valkey):
        valkey.flush()
        return [DiskTier(tmp_path / "disk"), RedisTier(valkey.url, deadline=20)]


class TestMemory(_Blocking): ...


class TestMemoryAwaited(_Native): ...


class TestOverDisk(_OverDisk, _Blocking): ...


class TestOverDiskAwaited(_OverDisk, _Native): ...


class TestOverSQL(_OverSQL, _Blocking): ...


class TestOverSQLAwaited(_OverSQL, _Native): ...


class TestOverValkey(_OverValkey, _Blocking): ...


class TestOverValkeyAwaited(_OverValkey, _Native): ...


@pytest.mark.parametrize("kind", ["memory", "disk", "sql", "valkey"])
def test_any_text_is_a_key(kind, tmp_path, request):
    def lower():
        if kind == "disk":
            return [DiskTier(tmp_path / "disk")]
        if kind == "sql":
            return [SQLTier(f"sqlite:///{tmp_path}/cache.db", deadline=20)]
        if kind == "valkey":
            return [RedisTier(request.getfixturevalue("valkey").url, prefix=f"{tmp_path.name}:", deadline=20)]
        return []

    values = {key: f"{n}".encode() for n, key in enumerate(KEYS)}
    with TieredByteStore(TieredCache([MemoryTier(), *lower()])) as store:
        store.mset(list(values.items()))
        assert store.mget(KEYS) == list(values.values())
        assert sorted(store.yield_keys()) == sorted(KEYS)
        for prefix in ("", "x", "x" * 9_999, "*", "prefix", "models/gem", "line\n", "\ud800", "A"):
            assert sorted(store.yield_keys(prefix=prefix)) == sorted(k for k in KEYS if k.startswith(prefix))
        store.mdelete(KEYS[:-1])
        assert list(store.yield_keys()) == [KEYS[-1]]
    if tiers := lower():
        with TieredByteStore(TieredCache(tiers)) as again:
            assert again.mget(KEYS) == [None] * (len(KEYS) - 1) + [values[KEYS[-1]]]


def test_the_order_of_keys_is_that_of_the_lowest_tier(tmp_path):
    keys = ["c", "a", "b"]
    with TieredByteStore(TieredCache([MemoryTier()])) as memory:
        memory.mset([(key, b"v") for key in keys])
        memory.mset([("a", b"again")])
        assert list(memory.yield_keys()) == keys
    with TieredByteStore.local(tmp_path / "disk") as local:
        local.mset([(key, b"v") for key in keys])
        assert list(local.yield_keys()) == sorted(keys)


def test_one_store_serves_blocking_and_async_callers_at_once(tmp_path):
    async def main(store):
        await store.amset([("a", b"1"), ("b", b"2")])
        assert await asyncio.to_thread(store.mget, ["a", "b"]) == [b"1", b"2"]
        store.mset([("c", b"3")])
        assert await store.amget(["c", "absent", "a"]) == [b"3", None, b"1"]
        await store.amdelete(["a"])
        assert [key async for key in store.ayield_keys(prefix="b")] == ["b"]
        assert store.mget(["a"]) == [None]

    with TieredByteStore.local(tmp_path / "cache") as store:
        asyncio.run(main(store))
        assert store.mget(["b"]) == [b"2"]  # one event loop has ended; the store has not


def test_the_async_methods_are_its_own():
    # Those that it would inherit put the blocking ones on a thread of LangChain's.
    for verb in ("amget", "amset", "amdelete", "ayield_keys"):
        assert getattr(TieredByteStore, verb) is not getattr(BaseStore, verb)
    assert inspect.isgeneratorfunction(TieredByteStore.yield_keys)
    assert inspect.isasyncgenfunction(TieredByteStore.ayield_keys)


def test_async_calls_use_no_thread_of_langchains(valkey, monkeypatch):
    def no_executor(*_):
        raise AssertionError("run_in_executor was called")

    valkey.flush()

    async def main():
        async with TieredByteStore(TieredCache([MemoryTier(), RedisTier(valkey.url, deadline=20)])) as store:
            await store.amset([("a", b"1")])
            assert await store.amget(["a", "b"]) == [b"1", None]
            assert [key async for key in store.ayield_keys()] == ["a"]
            await store.amdelete(["a"])
            assert await store.amget(["a"]) == [None]

    monkeypatch.setattr("langchain_core.stores.run_in_executor", no_executor)
    asyncio.run(main())


def test_another_process_finds_what_was_stored(tmp_path):
    with TieredByteStore.local(tmp_path / "cache", namespace="app") as store:
        store.mset([("models/gemini:x", b"here")])
    code = """
import sys
from tiercache.integrations.langchain import TieredByteStore
with TieredByteStore.local(sys.argv[1], namespace="app") as store:
    assert store.mget(["models/gemini:x"]) == [b"here"]
    store.mset([("from there", b"there")])
"""
    pythons.run([sys.executable, "-c", code, str(tmp_path / "cache")], check=True, timeout=60)
    with TieredByteStore.local(tmp_path / "cache", namespace="app") as store:
        assert store.mget(["from there"]) == [b"there"]
    with TieredByteStore.local(tmp_path / "cache") as other:
        assert list(other.yield_keys()) == []
