"""Chains from configurations: the same as those made in code, on real tiers."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from apis import both_apis
from described import described, options_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercache import CacheClosed, ConfigError, DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache
from tiercache.codecs import JSONCodec, VectorCodec

TOML = """
namespace = "myapp"
ttl = "30d"

[[tiers]]
type = "memory"
max_bytes = "256MiB"
ttl = "5m"

[[tiers]]
type = "disk"
path = "{folder}/myapp"
max_bytes = "10GiB"

[[tiers]]
type = "redis"            # or "sql", or any name a plug-in registers
url = "${{REDIS_URL:-redis://127.0.0.1:6379/0}}"
deadline = "250ms"
"""
YAML = """
namespace: myapp
ttl: 30d
tiers:
  - type: memory
    max_bytes: 256MiB
    ttl: 5m
  - type: disk
    path: {folder}/myapp
    max_bytes: 10GiB
  - type: redis
    url: ${{REDIS_URL:-redis://127.0.0.1:6379/0}}
    deadline: 250ms
"""
JSON = """
{{
  "namespace": "myapp",
  "ttl": "30d",
  "tiers": [
    {{"type": "memory", "max_bytes": "256MiB", "ttl": "5m"}},
    {{"type": "disk", "path": "{folder}/myapp", "max_bytes": "10GiB"}},
    {{"type": "redis", "url": "${{REDIS_URL:-redis://127.0.0.1:6379/0}}", "deadline": "250ms"}}
  ]
}}
"""
FORMATS = {"toml": TOML, "yaml": YAML, "json": JSON}
MAKERS = {"memory": MemoryTier, "disk": DiskTier, "redis": RedisTier, "sql": SQLTier}


@contextmanager
def built(source):
    cache = TieredCache.from_config(source)
    try:
        yield cache
    finally:
        cache.close()


@pytest.mark.parametrize("written", FORMATS)
def test_the_example_is_the_chain_that_it_says(written, tmp_path, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    path = tmp_path / f"tiercache.{written}"
    path.write_text(FORMATS[written].format(folder=tmp_path))
    in_code = TieredCache(
        [
            MemoryTier(max_bytes="256MiB", ttl=300),
            DiskTier(tmp_path / "myapp", max_bytes="10GiB"),
            RedisTier("redis://127.0.0.1:6379/0", deadline=0.25),
        ],
        namespace="myapp",
        ttl=timedelta(days=30),
    )
    with in_code, built(path) as cache:
        assert described(cache) == described(in_code)


def test_two_chains_that_differ_are_told_apart(tmp_path):
    # Else the test above, and those below, could say nothing.
    first = {"tiers": [{"type": "disk", "path": str(tmp_path / "a")}]}
    with built(first) as cache:
        for change in (
            {"deadline": 3},
            {"max_entries": 9},
            {"ttl": 5},
            {"durability": "power"},
            {"name": "d"},
        ):
            with built({"tiers": [first["tiers"][0] | change]}) as other:
                assert described(other) != described(cache), change
    server = {"type": "sql", "url": f"sqlite:///{tmp_path}/a.db"}
    with built({"tiers": [server]}) as cache:
        place = {"url": f"sqlite:///{tmp_path}/b.db"}
        for change in (place, {"deadline": 3}, {"max_entries": 9}, {"table": "b"}, {"max_bytes": 99}):
            with built({"tiers": [server | change]}) as other:
                assert described(other) != described(cache), change


@both_apis
def test_the_example_works_on_real_tiers(valkey, tmp_path, monkeypatch, call):
    valkey.flush()
    monkeypatch.setenv("REDIS_URL", valkey.url)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "etc" / "tiercache.toml"
    path.parent.mkdir()
    path.write_text(TOML.format(folder="~/.cache"))
    with built(path) as cache:
        assert call(cache, "mset", {"a": b"1", "b": b"2"}).accepted == ("memory", "disk", "redis")
        assert call(cache, "mget", ["b", "a", "c"]) == [b"2", b"1", None]
    assert (tmp_path / ".cache" / "myapp").is_dir()
    with valkey.client() as client:
        assert len(client.keys("tiercache:*")) == 2
        assert all(client.pttl(key) > 29 * 86_400_000 for key in client.keys("tiercache:*"))
    with built({"namespace": "myapp", "tiers": [{"type": "redis", "url": valkey.url}]}) as below:
        assert call(below, "get", "a") == b"1"


def test_relative_paths_begin_at_the_folder_of_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "conf?dir"  # a "?" ends the path of a URL, but not that of a file
    elsewhere = tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = folder / "cache.yaml"
    path.write_text(
        f"""
        tiers:
        - {{type: disk, path: data/disk}}
        - {{type: disk, directory: ../beside}}
        - {{type: disk, path: "{tmp_path}/absolute"}}
        - {{type: sql, url: "sqlite:///data/cache.db"}}
        - {{type: sql, url: "sqlite+pysqlite:///{tmp_path}/absolute.db"}}
        - {{type: sql, url: "sqlite://"}}
        - {{type: sql, url: "sqlite:///:memory:"}}
        - type: chain
          tiers: [{{type: disk, path: nested}}]
        """
    )
    for source in (path, os.path.relpath(path)):
        with built(source) as cache:
            cache.set("a", b"1")
        assert not list(elsewhere.iterdir())
        assert {item.name for item in folder.iterdir()} == {"cache.yaml", "data", "nested"}
        assert (folder / "data" / "cache.db").is_file()
        assert (folder / "data" / "disk" / "cache.db").is_file()
        assert {item.name for item in tmp_path.iterdir()} >= {"beside", "absolute", "absolute.db"}


def test_relative_paths_of_a_mapping_begin_where_the_program_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiers = [{"type": "disk", "path": Path("here")}, {"type": "sql", "url": "sqlite:///here.db"}]
    with built({"tiers": tiers}) as cache:
        cache.set("a", b"1")
    assert (tmp_path / "here" / "cache.db").is_file()
    assert (tmp_path / "here.db").is_file()


def test_a_chain_can_be_a_tier(tmp_path):
    path = tmp_path / "cache.toml"
    path.write_text(
        """
        codec = "json"
        promote = "inline"
        [[tiers]]
        type = "memory"
        [[tiers]]
        type = "chain"
        namespace = "inner"
        ttl = "1h"
        codec = "vector-f4"
        [[tiers.tiers]]
        type = "memory"
        policy = "lfu"
        [[tiers.tiers]]
        type = "disk"
        path = "lowest"
        """
    )
    inner = TieredCache(
        [MemoryTier(policy="lfu"), DiskTier(tmp_path / "lowest")],
        namespace="inner",
        ttl=3600,
        codec=VectorCodec(),
    )
    in_code = TieredCache([MemoryTier(), inner], codec=JSONCodec(), promote="inline")
    with in_code, built(path) as cache:
        assert described(cache) == described(in_code)
        (_, nested), (_, nested_in_code) = (one._stack.guards for one in (cache, in_code))
        assert [options_of(guard.tier) for guard in nested.tier._core.stack.guards] == [
            options_of(guard.tier) for guard in nested_in_code.tier._core.stack.guards
        ]
        cache.set("a", [1.0, 2.0])
        assert cache.get("a") == [1.0, 2.0]


def test_texts_mean_what_a_format_or_a_variable_cannot_say(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTRIES", "12")
    monkeypatch.setenv("READ_ONLY", "false")
    with built(
        {
            "ttl": "none",
            "codec": "none",
            "tiers": [
                {"type": "memory", "max_entries": "none", "max_bytes": "${BYTES:-4096}", "ttl": "none"},
                {
                    "type": "disk",
                    "path": "${NO_PLACE:-" + str(tmp_path / "here") + "}",
                    "max_entries": "${ENTRIES}",
                    "read_only": "${READ_ONLY}",
                },
            ],
        }
    ) as cache:
        in_code = [
            MemoryTier(max_entries=None, max_bytes=4096, ttl=None),
            DiskTier(tmp_path / "here", max_entries=12),
        ]
        with TieredCache(in_code) as other:
            assert described(cache) == described(other)


def test_what_was_passed_in_is_not_changed(tmp_path):
    config = {"tiers": [{"type": "disk", "path": str(tmp_path / "a")}, {"type": "memory"}]}
    before = json.dumps(config)
    with built(config):
        assert json.dumps(config) == before


def test_a_subclass_is_what_it_builds():
    class Mine(TieredCache):
        pass

    with Mine.from_config({"tiers": [{"type": "memory"}]}) as cache:
        assert type(cache) is Mine


def test_files_are_closed_when_a_later_tier_fails(tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("not ours")
    tiers = [
        {"type": "disk", "path": str(tmp_path / "first")},
        {"type": "sql", "url": f"sqlite:///{tmp_path}/a.db"},
        {"type": "disk", "path": str(tmp_path / "foreign")},
    ]
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        for maker in (DiskTier, SQLTier):
            patch.setattr(maker, "__init__", _recorded(maker.__init__, seen))
        with pytest.raises(ConfigError, match=r"tiers\[2\]: .* was not made by tiercache"):
            TieredCache.from_config({"tiers": tiers})
    assert [type(tier).__name__ for tier in seen] == ["DiskTier", "SQLTier"]
    for tier in seen:
        with pytest.raises(CacheClosed):
            tier.mget(["k"])


def _recorded(initialize, seen):
    def recording(self, *args, **options):
        initialize(self, *args, **options)
        seen.append(self)

    return recording


# -- whatever is valid is built --------------------------------------------------------------------

durations = (
    st.integers(1, 10**9)
    | st.floats(0.001, 1e9)
    | st.builds("{}{}".format, st.integers(1, 999), st.sampled_from(["ms", "s", "m", "h", "d", "w", ""]))
)
waits = (
    st.integers(1, 2_073_600)
    | st.floats(0.001, 2_073_600)
    | st.builds("{}{}".format, st.integers(1, 24), st.sampled_from(["ms", "s", "m", "h", "d", ""]))
)
sizes = st.integers(1, 10**15) | st.builds(
    "{} {}".format, st.integers(1, 999), st.sampled_from(["KiB", "MB", "GiB", "b"])
)
counts = st.integers(1, 10**12)
# What a format may make of other characters is its own affair; "${" begins a variable.
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20).filter(
    lambda text: "${" not in text
)


def table(type_, required, **optional):
    named = optional | {"name": st.none() | texts, "ttl": st.none() | durations}
    return st.fixed_dictionaries({"type": st.just(type_), **required}, optional=named)


leaves = st.one_of(
    table(
        "memory",
        {},
        max_entries=st.none() | counts,
        max_bytes=st.none() | sizes,
        policy=st.sampled_from(["lru", "lfu", "fifo", "random", "s3-fifo"]),
    ),
    table(
        "disk",
        {"path": st.sampled_from(["a", "b/c", "d e", "ü"])},
        max_entries=st.none() | counts,
        max_bytes=sizes,
        durability=st.sampled_from(["process", "power"]),
        deadline=waits,
        on_unusable=st.sampled_from(["error", "temporary"]),
    ),
    table(
        "redis",
        {"url": st.sampled_from(["redis://h", "rediss://u:p@h:1/2", "unix:///s", "redis+cluster://a:1,b:2"])},
        prefix=texts,
        deadline=waits,
    ),
    table(
        "sql",
        {"url": st.sampled_from(["sqlite:///x.db", "sqlite://", "postgresql://u:p@h/db", "mysql://h/db"])},
        table=st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True),
        create=st.booleans(),
        max_bytes=st.none() | sizes,
        max_entries=st.none() | counts,
        deadline=waits,
    ),
)
chain_options = {
    "namespace": texts,
    "ttl": st.none() | durations,
    "codec": st.sampled_from(["bytes", "json", "text", "vector-f2", "vector-f4", "vector-f8"]) | st.none(),
    "promote": st.sampled_from(["background", "inline"]),
}


def chains(members):
    return st.fixed_dictionaries({"tiers": st.lists(members, min_size=1, max_size=3)}, optional=chain_options)


def apart(config, path="t"):
    """``config`` with a place of its own for each tier."""
    option = {"disk": "path", "redis": "prefix", "sql": "table"}.get(config.get("type"))
    made = config | {option: config.get(option, "") + path} if option else dict(config)
    if "tiers" in config:
        made["tiers"] = [apart(tier, f"{path}_{index}") for index, tier in enumerate(config["tiers"])]
    return made


configs = chains(leaves | chains(leaves).map(lambda chain: chain | {"type": "chain"})).map(apart)


@settings(max_examples=30)
@given(configs)
def test_whatever_is_valid_is_built_the_same_from_all_that_holds_it(config):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_json, in_yaml = folder / "c.json", folder / "c.yaml"
        in_json.write_text(json.dumps(config))
        in_yaml.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        before = os.getcwd()  # noqa: PTH109 - a path to go back to
        os.chdir(folder)
        try:
            with built(config) as first, built(in_json) as second, built(in_yaml) as third:
                expected = _from(folder, _by_hand(config))
                for cache in (first, second, third):
                    assert _comparable(cache, folder) == expected
        finally:
            os.chdir(before)


def _comparable(cache, folder):
    """Its tiers; the paths of files as seen from ``folder``."""
    tiers = [options_of(guard.tier) for guard in cache._stack.guards if not hasattr(guard.tier, "_core")]
    return _from(folder, tiers)


def _from(folder, options):
    return repr(options).replace(f"{folder}{os.sep}", "")


def _by_hand(config):
    """What the constructors make of the same options."""
    found = []
    for options in config["tiers"]:
        if options["type"] == "chain":
            continue
        arguments = dict(options)
        tier = MAKERS[arguments.pop("type")](**arguments)
        found.append(options_of(tier))
        with suppress(Exception):
            tier.close()
    return found
