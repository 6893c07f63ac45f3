"""Each option of the schema does something: by its example, in a mapping, in a variable and in a URL."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from urllib.parse import quote

import pytest
from described import described
from overrides import without_overrides
from schema_pages import SCHEMA, options

from tiercache import ConfigError, DiskTier, TieredCache
from tiercache.config._models import MODELS

#: The least that a tier of each type is given; no value in it is an example.
LEAST = {
    "memory": {},
    "disk": {"path": "other"},
    "redis": {"url": "redis://h:1"},
    "sql": {"url": "sqlite://"},
    "null": {},
}
OF_TIERS = [(kind, name) for kind in MODELS for name in options(kind) if name != "on_unusable"]
OF_LAYERS = [(layer, name) for layer in ("compress", "encrypt") for name in options(layer)]
OF_VECTORS = [
    (kind, name)
    for kind in ("vector", "vector-f2", "vector-f4", "vector-f8")
    for name in options(f"codec-table/{kind}")
]
#: What the options of an inner chain do for the outer one: the others are for callers of its own.
OF_INNER_CHAINS = ("tiers", "namespace", "codec", "promote", "stats_file")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    without_overrides(monkeypatch)
    monkeypatch.chdir(tmp_path)
    shutil.copy(files("tiercache.spending").joinpath("example_prices.toml"), "prices.toml")


def example(path, name):
    [value] = options(path)[name]["examples"]
    return value


def parts(cache):
    """What a cache was made with."""
    views = {
        name: (view._core.path, view.codec, view._ttl, view._core.model) for name, view in cache.views.items()
    }
    return (
        described(cache),
        cache._staleness,
        repr(cache._manner.pace),
        cache._manner.admission,
        cache._manner.pace.shared,
        views,
        shared(cache._stack),
        kept(cache._stack),
        cache._core.model,
        getattr(cache._core.popular, "size", None),
    )


def kept(stack):
    """What ledger is kept."""
    books = stack.books
    return books and (books.prices is None, books.spending and books.spending.budget)


def shared(stack):
    """Where the counters are shared."""
    return stack.sharing and stack.sharing.file.path


def made(config):
    with TieredCache.from_config(config) as cache:
        return parts(cache)


def text_of(value):
    """``value`` as a variable or a URL says it."""
    return value if isinstance(value, str) else json.dumps(value)


def test_of_a_directory_that_cannot_be_used():
    plain = {"type": "disk", "path": "/proc/none"}  # nobody makes folders there
    with pytest.raises(ConfigError, match=r"tiers\[0\]: the directory /proc/none cannot be used"):
        made({"tiers": [plain]})
    with pytest.warns(RuntimeWarning, match="Using the temporary directory"):
        made({"tiers": [{**plain, "on_unusable": example("disk", "on_unusable")}]})


@pytest.mark.parametrize(("kind", "name"), OF_TIERS)
def test_of_tiers(kind, name, monkeypatch):
    plain, value = {"type": kind, **LEAST[kind]}, example(kind, name)
    if name == "read_only":  # there must be something to read
        with TieredCache([DiskTier(plain["path"])]) as cache:
            cache.set("k", b"value")
    by_mapping = made({"tiers": [{**plain, name: value}]})
    assert by_mapping != made({"tiers": [plain]}), "it does nothing"
    if name not in plain:
        address = {"disk": "disk://other"}.get(kind) or plain.get("url", f"{kind}://")
        with TieredCache.from_url(f"{address}?{name}={quote(text_of(value), safe='')}") as cache:
            assert parts(cache) == by_mapping
    monkeypatch.setenv(f"TIERCACHE__TIERS__0__{name}", text_of(value))
    assert made({"tiers": [plain]}) == by_mapping


@pytest.mark.parametrize("name", options("cache"))
def test_of_caches(name, monkeypatch):
    plain, value = {"tiers": [{"type": "disk", "path": "d"}]}, example("cache", name)
    by_mapping = made({**plain, name: value})
    assert by_mapping != made(plain), "it does nothing"
    if not isinstance(value, dict | list):
        monkeypatch.setenv(f"TIERCACHE__{name}", text_of(value))
        assert made(plain) == by_mapping


@pytest.mark.parametrize("name", options("chain"))
def test_of_inner_chains(name):
    def inner(**given):
        chain = {"type": "chain", "tiers": [{"type": "disk", "path": "d"}], **given}
        with TieredCache.from_config({"tiers": [{"type": "memory"}, chain]}) as cache:
            assert cache.config()["tiers"][1].keys() == chain.keys()
            core = cache._stack.guards[1].tier._core
            names = [guard.name for guard in core.stack.guards]
            return core.path, core.codec, core.stack.promote_inline, names, shared(core.stack)

    assert (inner(**{name: example("chain", name)}) != inner()) == (name in OF_INNER_CHAINS)


@pytest.mark.parametrize("name", options("view"))
def test_of_views(name):
    def view(**given):
        return made({"tiers": [{"type": "memory"}], "views": {"v": given}})

    assert view(**{name: example("view", name)}) != view()


@pytest.mark.parametrize(("kind", "name"), OF_VECTORS)
def test_of_vectors(kind, name):
    def codec(**given):
        with TieredCache.from_config(
            {"tiers": [{"type": "memory"}], "codec": {"type": kind, **given}}
        ) as cache:
            return cache.codec

    assert codec(**{name: example(f"codec-table/{kind}", name)}) != codec()


@pytest.mark.parametrize(("layer", "name"), OF_LAYERS)
def test_of_what_is_around_a_codec(layer, name):
    def codec(**given):
        table = {"type": "json", layer: {**({"key": "0f" * 32} if layer == "encrypt" else {}), **given}}
        with TieredCache.from_config({"tiers": [{"type": "memory"}], "codec": table}) as cache:
            return cache.codec

    assert codec(**{name: example(layer, name)}) != codec()


def test_none_is_left_out():
    walked = {*MODELS, "cache", "chain", "view", "compress", "encrypt"}
    tables = {
        name
        for name in SCHEMA["$defs"]
        if name not in ("tier", "codec-table", "budget") and has_options(name)
    }
    assert tables == {*walked, "only-cache"}
    assert options("only-cache").keys() - {"$folder"} == options("cache").keys()
    rules = SCHEMA["$defs"]["codec-table"]["allOf"]
    kinds = {kind for rule in rules for kind in rule["if"]["properties"]["type"]["enum"]}
    assert {kind for kind in kinds if options(f"codec-table/{kind}")} == {kind for kind, _ in OF_VECTORS}


def has_options(name):
    found = SCHEMA["$defs"][name]
    return any(
        "additionalProperties" in one and "properties" in one for one in (found, *found.get("anyOf", ()))
    )
