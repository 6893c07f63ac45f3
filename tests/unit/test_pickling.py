"""A cache from a configuration is built again where it is unpickled; anything else says that it cannot be."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import pickletools
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import pythons

from tiercache import CacheClosed, DiskTier, MemoryTier, SQLTier, TieredCache, guarded, register_tier
from tiercache.codecs import JSONCodec
from tiercache.codecs.encrypted import EncryptedCodec
from tiercache.integrations.langchain import TieredByteStore
from tiercache.integrations.llama_index import TieredKVStore
from tiercache.testing import DictTier


def config(**options):
    return {"tiers": [{"type": "memory"}, {"type": "disk", "path": "cache"}], **options}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def build(here):
    made = []

    def build(source=None):
        made.append(TieredCache.from_config(config() if source is None else source))
        return made[-1]

    yield build
    for cache in made:
        cache.close()


def unpickled(data: bytes):
    return pickle.loads(data)  # noqa: S301 - made here


def elsewhere(data: bytes, code: str, **environment: str) -> str:
    """What ``code`` prints, which has the unpickled ``cache``, in a new process elsewhere."""
    prologue = "import sys, pickle\ncache = pickle.load(sys.stdin.buffer)\n"
    done = pythons.run(
        [sys.executable, "-W", "error", "-c", prologue + code],
        input=data,
        capture_output=True,
        cwd="/",
        env={name: value for name, value in os.environ.items() if name.startswith(("LANG", "LC_", "PYTHON"))}
        | {"PATH": "/usr/bin", **environment},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_the_same_chain_where_it_is_still_open(build):
    cache = build()
    assert unpickled(pickle.dumps(cache)) is cache
    view = cache.view("a", codec=JSONCodec(), ttl=60)
    other = unpickled(pickle.dumps(view))
    view.set("k", {"a": 1})
    assert other.get("k") == {"a": 1}
    assert other.stats().tiers[0].hits == 1  # the same memory


def test_a_mapping_is_built_again_in_another_process_with_the_folder_of_its_paths(build, here):
    cache = build(config(namespace="app", ttl=timedelta(hours=1)))
    cache.set("k", b"value")
    data = pickle.dumps(cache)
    assert elsewhere(data, "print(cache.get('k'), cache)") == "b'value' <TieredCache 'app' over memory, disk>"
    assert [path.name for path in here.iterdir()] == ["cache"]


def test_a_file_is_read_again_in_another_process(build, here):
    text = 'ttl = "1h"\n[[tiers]]\ntype = "memory"\n[[tiers]]\ntype = "disk"\npath = "cache"\n'
    Path("cache.toml").write_text(text)
    cache = build("cache.toml")
    cache.view("a").set("k", b"value")
    assert elsewhere(pickle.dumps(cache), "print(cache.view('a').get('k'))") == "b'value'"
    Path("cache.toml").write_text(f'namespace = "new"\n{text}')
    assert "'new'" in elsewhere(pickle.dumps(cache), "print(cache)")


@pytest.mark.parametrize("depth", [1, 3])
def test_a_view_has_its_namespace_codec_ttl_and_options_again(build, depth):
    cache = build(config(stale_for=7, jitter="5%"))
    view = cache
    for number in range(depth):
        view = view.view(f"v{number}", codec=JSONCodec(), ttl=60)
    view.set("k", [1])
    code = "print(cache.get('k'), cache, cache._ttl, cache._staleness == cache._root._staleness)"
    path = "/" + "/".join(f"v{number}" for number in range(depth))
    assert elsewhere(pickle.dumps(view), code) == f"[1] <TieredCache {path!r} over memory, disk> 60.0 True"


def test_a_view_with_another_codec_alone(build):
    view = build().with_codec(JSONCodec())
    view.set("k", [1])
    assert elsewhere(pickle.dumps(view), "print(cache.get('k'))") == "[1]"


def test_what_a_variable_holds_is_not_in_the_pickle(build, monkeypatch):
    variable = "CACHE_SECRET"
    monkeypatch.setenv(variable, "a secret of sixteen bytes and more")
    tiers = [{"type": "memory"}, {"type": "disk", "path": "cache", "secret": "${CACHE_SECRET}"}]
    cache = build({"tiers": tiers})
    cache.set("k", b"value")
    data = pickle.dumps(cache)
    assert b"sixteen" not in data
    assert b"${CACHE_SECRET}" in data
    show = "print(cache.get('k'))"
    assert elsewhere(data, show, **{variable: "a secret of sixteen bytes and more"}) == "b'value'"
    assert elsewhere(data, show, **{variable: "quite another one of that size"}) == "None"


def test_unpickling_calls_our_function_alone_with_plain_data(build):
    data = pickle.dumps(build().view("a"), protocol=0)
    named = [argument for code, argument, _ in pickletools.genops(data) if code.name == "GLOBAL"]
    assert named == ["tiercache._chain.pickling restore", "tiercache.chain TieredCache"]
    calls = [code.name for code, _, _ in pickletools.genops(data) if code.name in ("REDUCE", "BUILD", "INST")]
    assert calls == ["REDUCE"]


def test_one_chain_for_all_that_a_process_unpickles_of_a_configuration(build):
    cache = build()
    same = build()  # another chain of the same configuration
    both = pickle.dumps([cache, same.view("a"), cache.view("a")])
    code = """
first, second, third = cache
second.set("k", b"value")
assert third.stats().tiers[0].hits == 0 and third.get("k") == b"value"
assert first.stats().tiers[0].hits == 1
again = pickle.loads(pickle.dumps(first))
assert again is first
first.close()
"""
    elsewhere(both, code)


def test_a_chain_that_was_closed_is_built_again(build):
    cache = build()
    cache.set("k", b"value")
    data = pickle.dumps(cache)
    cache.close()
    again = unpickled(data)
    try:
        assert again is not cache
        assert again.get("k") == b"value"
        assert unpickled(data) is again
    finally:
        again.close()
    with pytest.raises(CacheClosed):
        pickle.dumps(cache)


def pickled(options):
    """What a process is sent that has not built this one."""
    with TieredCache.from_config(options) as cache:
        return pickle.dumps(cache)


def test_of_ever_more_configurations_the_last_ones_are_kept(here):
    """And those that somebody holds, which are the same ones whenever they come again."""
    sent = [pickled({"namespace": f"n{number}", "tiers": [{"type": "memory"}]}) for number in range(40)]
    held = unpickled(sent[0])
    made = [weakref.ref(unpickled(data)) for data in sent]
    gc.collect()
    alive = [number for number, one in enumerate(made) if one() is not None]
    assert alive == [0, *range(24, 40)]
    assert unpickled(sent[0]) is held
    assert unpickled(sent[30]) is made[30]()
    assert unpickled(sent[1])._core.path == ("n1",)
    for cache in map(unpickled, (sent[1], *sent[25:])):
        cache.close()
    held.close()


@pytest.mark.usefixtures("registries")
def test_a_slow_build_stops_no_other_and_is_waited_for_by_its_own(here):
    building, go_on = threading.Event(), threading.Event()
    made = []

    class Slow(DictTier):
        def __init__(self):
            super().__init__("slow")
            made.append(self)
            if len(made) > 1:  # the first is the sender's
                building.set()
                assert go_on.wait(60)

    register_tier("slow", Slow)
    slow, other = pickled({"tiers": [{"type": "slow"}]}), pickled({"tiers": [{"type": "memory"}]})
    with ThreadPoolExecutor(2) as pool:
        try:
            both = [pool.submit(unpickled, slow) for _ in range(2)]
            assert building.wait(60)
            unpickled(other).close()
            assert not any(one.done() for one in both)
        finally:
            go_on.set()
        first, second = (one.result(60) for one in both)
    assert first is second
    assert len(made) == 2
    first.close()


def test_a_forgotten_chain_is_built_again_and_a_view_keeps_its_chain(build, here):
    view = TieredCache.from_config(config()).view("a")
    view.set("k", b"value")
    assert unpickled(pickle.dumps(view)).stats().tiers[0].sets == 1  # the very same
    unpickled(pickle.dumps(view))._root.close()


def test_a_chain_made_in_code_says_what_to_do(tmp_path):
    with TieredCache([MemoryTier(), DiskTier(tmp_path)]) as cache:
        for one in (cache, cache.view("a"), TieredByteStore(cache)):
            with pytest.raises(TypeError, match=r"made in code.*in the worker.*from_config"):
                pickle.dumps(one)


def test_what_is_no_plain_data_in_a_mapping_is_named(build):
    class Text(str):
        __slots__ = ()

    data = pickle.dumps(build(config(namespace=Text("app"))))  # text is text
    assert b"Text" not in data
    cache = build({"tiers": [{"type": "memory", "max_bytes": 10**6}], "codec": "json"})
    assert unpickled(pickle.dumps(cache)).codec is cache.codec


def test_a_plug_ins_object_in_a_mapping_is_named(monkeypatch, build):
    from tiercache import registry

    monkeypatch.setitem(registry._TIERS, "sized", lambda sizeof: MemoryTier(sizeof=sizeof))
    cache = TieredCache.from_config({"tiers": [{"type": "sized", "sizeof": len}]})
    with cache, pytest.raises(TypeError, match=r"tiers\[0\]\.sizeof is a builtin_function"):
        pickle.dumps(cache)


def test_a_codec_with_keys_is_not_pickled_and_one_of_the_configuration_need_not_be(build):
    cache = build()
    with pytest.raises(TypeError, match="its keys would be"):
        pickle.dumps(cache.view("a", codec=EncryptedCodec(key="ab" * 32)))


@pytest.mark.parametrize("kind", ["memory", "disk", "sql", "guarded", "chain"])
def test_a_tier_says_that_it_cannot_be_pickled(kind, tmp_path, build):
    tier = {
        "memory": MemoryTier,
        "disk": lambda: DiskTier(tmp_path / "d"),
        "sql": lambda: SQLTier("sqlite:///:memory:"),
        "guarded": lambda: guarded(MemoryTier(), deadline=1),
        "chain": lambda: build().as_tier(),
    }[kind]()
    for way in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match=rf"{type(tier).__name__} cannot be pickled.*from_config"):
            way(tier)
    tier.close()


def test_a_chain_with_a_chain_in_it_is_built_again(build):
    inner = {"type": "chain", "tiers": [{"type": "disk", "path": "inner"}]}
    cache = build({"tiers": [{"type": "memory"}, inner]})
    cache.set("k", b"value")
    assert elsewhere(pickle.dumps(cache), "print(cache.get('k'))") == "b'value'"


def test_a_store_of_langchains_goes_with_its_cache(build):
    store = TieredByteStore(build().view("bytes"))
    store.mset([("k", b"value")])
    data = pickle.dumps(store)
    assert unpickled(data).mget(["k"]) == [b"value"]
    code = "assert type(cache).__name__ == 'TieredByteStore'\nprint(cache.mget(['k']))"
    assert elsewhere(data, code, HOME="/nonexistent") == "[b'value']"


def test_a_store_of_llamaindexs_goes_with_its_cache_and_counts_anew(build):
    store = TieredKVStore(build())
    store.put("k", {"x": object()})
    store.put("k", {"x": 1})
    there = unpickled(pickle.dumps(store))
    assert there.get("k") == {"x": 1}
    assert (store.losses().unstorable, there.losses().unstorable) == (1, 0)
    there.put("k", {"x": object()})
    assert there.losses().unstorable == 1
    with TieredCache([MemoryTier()]) as made_in_code, pytest.raises(TypeError, match="from_config"):
        pickle.dumps(TieredKVStore(made_in_code))


def test_copies_are_the_cache_itself(build):
    for cache in (build(), TieredCache([MemoryTier()])):
        view = cache.view("a")
        assert copy.copy(cache) is copy.deepcopy(cache) is cache
        assert copy.deepcopy({"cache": [view]})["cache"][0] is view
        cache.close()


def test_json_keeps_every_text_and_number(build):
    namespace = "a\ud800 \0 ü 漢"
    cache = build(config(namespace=namespace, ttl=0.1 + 0.2))
    assert json.loads(json.dumps(namespace)) == namespace
    cache.set("k", b"value")
    code = (
        f"assert cache._ttl == 0.1 + 0.2 and cache._core.path == ({namespace!r},)\nprint(cache.keys() and 1)"
    )
    assert elsewhere(pickle.dumps(cache), code) == "1"
