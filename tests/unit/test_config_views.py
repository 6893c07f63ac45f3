"""Views that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from apis import both_apis

from tiercache import CacheClosed, ConfigError, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec, TextCodec, VectorCodec

CONFIG = {
    "namespace": "app",
    "ttl": "1h",
    "tiers": [{"type": "memory"}],
    "views": {
        "embeddings": {"namespace": "e", "codec": "vector-f4", "ttl": "30d"},
        "pages": {"codec": "text"},
        "raw": {"ttl": "none"},
    },
}


@pytest.fixture
def cache():
    with TieredCache.from_config(CONFIG) as cache:
        yield cache


def test_they_are_the_views_that_are_described(cache):
    views = cache.views
    assert isinstance(views, Mapping)
    assert list(views) == ["embeddings", "pages", "raw"]
    assert len(views) == 3
    described = {name: (view._core.path, view.codec, view._ttl) for name, view in views.items()}
    assert described == {
        "embeddings": (("app", "e"), VectorCodec(), 30 * 86_400),
        "pages": (("app", "pages"), TextCodec(), 3600),
        "raw": (("app", "raw"), None, None),
    }
    with pytest.raises(KeyError, match="other"):
        views["other"]
    assert "other" not in views
    assert repr(views) == "<views 'embeddings', 'pages', 'raw' of <TieredCache 'app' over memory>>"
    with pytest.raises(TypeError):
        views["raw"] = cache


@both_apis
def test_a_view_by_nothing_but_its_name_is_the_one_of_the_configuration(cache, call):
    call(cache.views["embeddings"], "set", "k", [1.0, 2.0])
    assert call(cache.view("embeddings"), "get", "k") == [1.0, 2.0]
    assert call(cache.view("e", codec=VectorCodec()), "get", "k") == [1.0, 2.0]


def test_a_view_with_anything_else_is_a_plain_one(cache):
    assert cache.view("embeddings", codec=JSONCodec())._core.path == ("app", "embeddings")
    assert cache.view("embeddings", ttl=5).codec is None
    assert cache.view("raw").view("embeddings")._core.path == ("app", "raw", "embeddings")
    assert not cache.view("raw").views


def test_each_is_closed_by_itself(cache):
    with cache.views["pages"] as pages:
        pages.set("k", "text")
    with pytest.raises(CacheClosed):
        pages.get("k")
    assert cache.views["pages"].get("k") == "text"
    views = cache.views
    cache.close()
    with pytest.raises(CacheClosed):
        views["pages"]


def test_a_cache_made_in_code_has_none():
    with TieredCache([MemoryTier()]) as cache:
        assert dict(cache.views) == {}


def test_all_that_is_wrong_with_them_is_told():
    views = {
        "a": {"codec": "jsn", "name_space": "x"},
        "b c": {"ttl": 0, "namespace": 5},
        "d": "json",
    }
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config({"tiers": [{"type": "memory"}], "views": views})
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines[1:]] == [
        "  views.a.name_space",
        "  views.a.codec",
        '  views."b c".namespace',
        '  views."b c".ttl',
        "  views.d",
    ]
    assert lines[1].endswith('is not known; allowed: namespace, codec, ttl, model; did you mean "namespace"?')
    assert lines[5].endswith('found "json"; allowed: a table with namespace, codec, ttl, model')


@pytest.mark.parametrize("views", [5, [], "a"])
def test_what_are_no_views_is_told(views):
    with pytest.raises(ConfigError, match=r"views: found .*; allowed: a table of tables, one for each view"):
        TieredCache.from_config({"tiers": [{"type": "memory"}], "views": views})


def test_only_the_outermost_chain_has_them():
    inner = {"type": "chain", "tiers": [{"type": "memory"}], "views": {}}
    with pytest.raises(ConfigError, match=r"tiers\[0\]\.views: is not known"):
        TieredCache.from_config({"tiers": [inner]})


@pytest.mark.parametrize(
    ("name", "shown"),
    [("2024", "2024"), ("on", "true"), ("null", "null"), ("2024-01-01", "2024-01-01")],
)
def test_a_name_that_yaml_reads_as_something_else_is_told(tmp_path, name, shown):
    file = tmp_path / "a.yaml"
    file.write_text(f"tiers: [{{type: memory}}]\nviews:\n  v: {{}}\n  {name}: {{codec: json}}\n")
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config(file)
    assert str(caught.value) == (
        f"{file}: views: a name is read as {shown}, which is no text; put it in quotes"
    )
