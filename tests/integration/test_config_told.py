"""What a cache tells of its configuration builds an equal one."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import pythons
from described import described

from tiercache import CacheClosed, ConfigError, MemoryTier, TieredCache, register_codec, register_tier
from tiercache.testing import DictTier

FILE = """
[caches.main]
namespace = "${SPACE:-app}"
ttl = "30d"
codec = "json"
[[caches.main.tiers]]
type = "${KIND:-memory}"
max_bytes = "1MiB"
[[caches.main.tiers]]
type = "chain"
[[caches.main.tiers.tiers]]
type = "disk"
path = "${FOLDER}/disk"
[[caches.main.tiers.tiers]]
type = "disk"
directory = "~/home"
[[caches.main.tiers]]
type = "disk"
path = "plain"
secret = "${SECRET}"
[[caches.main.tiers]]
type = "sql"
url = "sqlite:///data.db"
[[caches.main.tiers]]
type = "sql"
url = "${DATABASE}"
[[caches.main.tiers]]
type = "sql"
url = "sqlite://"
[[caches.main.tiers]]
type = "redis"
url = "redis://:${PASSWORD}@127.0.0.1:1/0"
[caches.main.views.pages]
codec = "text"
ttl = "5m"

[caches.other]
[[caches.other.tiers]]
type = "memory"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "an $ {odd} ${folder}"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "FOLDER": "relative",
        "SECRET": "hunter2 hunter2 hunter2",
        "DATABASE": "sqlite:///by-variable.db",
        "PASSWORD": "hunter2",
    }.items():
        monkeypatch.setenv(name, value)
    return folder


def same(first, second):
    views = [
        {name: (view._core.path, view.codec, view._ttl) for name, view in one.views.items()}
        for one in (first, second)
    ]
    return described(first) == described(second) and views[0] == views[1]


def test_it_builds_an_equal_cache_from_anywhere(folder, tmp_path, monkeypatch):
    file = folder / "tiercache.toml"
    file.write_text(FILE)
    with TieredCache.from_config(file, name="main") as cache:
        config = cache.config()
        text = json.dumps(config)
        assert config == json.loads(text), "plain data alone"
        assert "hunter2" not in text
        assert config["namespace"] == "${SPACE:-app}"
        assert config["tiers"][0]["type"] == "${KIND:-memory}"
        assert config["tiers"][2]["secret"] == "${SECRET}"  # noqa: S105 - a reference to it
        assert config["tiers"][1]["tiers"][0]["path"].endswith("/an $ {odd} $${folder}/${FOLDER}/disk")
        assert config["tiers"][1]["tiers"][1]["directory"] == "~/home"
        assert config["tiers"][4]["url"] == "${DATABASE}"
        assert config["$folder"].endswith("/an $ {odd} $${folder}")
        monkeypatch.chdir("/")
        with TieredCache.from_config(config) as again:
            assert same(cache, again)
            assert again.config() == config
            cache.view("pages").set("k", "text")
            again._stack.guards[0].tier.clear()
            assert again.view("pages").get("k") == "text"
            again_inner, cache_inner = (
                one._stack.guards[1].tier._core.stack.guards for one in (again, cache)
            )
            assert [guard.tier.location for guard in again_inner] == [
                guard.tier.location for guard in cache_inner
            ]
        assert not list((tmp_path / "elsewhere").iterdir())


def test_what_is_told_can_be_changed_and_changes_nothing(folder):
    with TieredCache.from_config({"tiers": [{"type": "memory"}]}) as cache:
        cache.config()["tiers"].append("x")
        assert cache.config() == {"tiers": [{"type": "memory"}]}


def test_plain_data_is_made_of_what_code_gives(folder):
    config = {"ttl": timedelta(minutes=5), "tiers": ({"type": "disk", "path": Path("here")},)}
    with TieredCache.from_config(config) as cache:
        assert cache.config() == {
            "ttl": 300.0,
            "tiers": [{"type": "disk", "path": str(Path.cwd() / "here")}],
        }


@pytest.mark.parametrize("several", [False, True])
def test_what_a_variable_set_is_a_reference_to_it(folder, monkeypatch, several):
    prefix = "TIERCACHE__CACHES__MAIN__" if several else "TIERCACHE__"
    monkeypatch.setenv(f"{prefix}TIERS__0__PATH", "hunter2")
    monkeypatch.setenv(f"{prefix}TIERS__1__TYPE", "memory")
    plain = {"tiers": [{"type": "disk", "directory": "x"}]}
    file = folder / "a.json"
    file.write_text(json.dumps({"caches": {"main": plain, "other": plain}} if several else plain))
    with TieredCache.from_config(file, name="main" if several else None) as cache:
        config = cache.config()
        assert "hunter2" not in json.dumps(config)
        with TieredCache.from_config(config) as again:
            assert same(cache, again)
            assert again.config() == config
    assert {path.name for path in folder.iterdir()} == {"a.json", "hunter2"}


def test_one_that_has_none_says_so(folder):
    with TieredCache([MemoryTier()]) as cache, pytest.raises(ConfigError, match=r"made in code.*from_config"):
        cache.config()
    cache = TieredCache.from_config({"tiers": [{"type": "memory"}], "views": {"a": {}}})
    for view in (cache.view("a"), cache.view("b").view("c")):
        with pytest.raises(ConfigError, match="this is a view; ask the cache that it was made from"):
            view.config()
    cache.close()
    with pytest.raises(CacheClosed):
        cache.config()


def located(cache):
    """Where the tier of a cache of one tier keeps its entries."""
    return cache._stack.guards[0].tier.location


@pytest.mark.parametrize("set_by", ["a variable", "an override"])
def test_a_database_that_a_variable_names_begins_where_it_did(folder, tmp_path, monkeypatch, set_by):
    """In the process that has the variable, and in one that has another: nothing of what it holds is told."""
    url = "sqlite:///file.db" if set_by == "an override" else "${DATABASE}"
    variable = "TIERCACHE__TIERS__0__URL" if set_by == "an override" else "DATABASE"
    monkeypatch.setenv(variable, "sqlite:///hunter2.db")
    config = {"tiers": [{"type": "sql", "url": url}]}
    file = folder / "a.json"
    file.write_text(json.dumps(config))
    for source, place in ((file, folder), (config, Path.cwd())):
        with TieredCache.from_config(source) as cache:
            told = cache.config()
            assert "hunter2" not in json.dumps(told)
            assert b"hunter2" not in pickle.dumps(cache)
            where = located(cache)
            assert str(place / "hunter2.db") in str(where)
        with monkeypatch.context() as moved:
            moved.chdir(tmp_path)
            with TieredCache.from_config(told) as again:
                assert located(again) == where
                assert again.config() == told
            moved.setenv(variable, f"sqlite:///{tmp_path}/absolute.db")
            with TieredCache.from_config(told) as again:
                assert str(tmp_path / "absolute.db") in str(located(again))


@pytest.mark.parametrize("how", ["text", "a variable", "an override", "a chain inside"])
def test_sharing_no_statistics_stays_none(folder, monkeypatch, how):
    monkeypatch.setenv("FILE", "none")
    config = {"stats_file": "${FILE}" if how == "a variable" else "none", "tiers": [{"type": "memory"}]}
    if how == "an override":
        monkeypatch.setenv("TIERCACHE__STATS_FILE", "none")
        config["stats_file"] = "stats.db"
    if how == "a chain inside":
        config["tiers"] = [{"type": "chain", **config}]
    with TieredCache.from_config(config) as cache, TieredCache.from_config(cache.config()) as again:
        assert cache._stack.sharing is again._stack.sharing is None
        inner = again.config()["tiers"][0] if how == "a chain inside" else again.config()
        assert inner["stats_file"] in ("none", "${FILE}", "${TIERCACHE__STATS_FILE}")
        assert cache.config() == again.config()


@pytest.mark.parametrize("source", ["file", "mapping"])
def test_relative_paths_begin_at_the_folder_that_is_named(folder, tmp_path, monkeypatch, source):
    monkeypatch.setenv("FILE", "stats.db")
    tier = {"type": "disk", "path": "d"}
    config = {"$folder": "sub", "stats_file": "${FILE}", "tiers": [tier]}
    file = folder / "a.json"
    file.write_text(json.dumps(config))
    sub = (folder if source == "file" else Path.cwd()) / "sub"
    sub.mkdir()
    with TieredCache.from_config(file if source == "file" else config) as cache:
        told = cache.config()
        assert told["$folder"] == str(sub).replace("${", "$${")
        assert told["stats_file"] == "${FILE}"
        monkeypatch.chdir("/")
        with TieredCache.from_config(told) as again:
            assert same(cache, again)
            assert again._stack.sharing.file.path == cache._stack.sharing.file.path == sub / "stats.db"


def one_path(directory: Path, suffix=""):
    return directory, suffix


def text_or_path(directory: str | os.PathLike[str], *, suffix: str = ""):
    return directory, suffix


def maybe(suffix="", directory: "Path | None" = None):  # noqa: UP037 - as a module without the import has it
    return directory, suffix


def several(directory: list[Path], suffix=""):
    return directory[0], suffix


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("make", [one_path, text_or_path, maybe, several])
@pytest.mark.parametrize("source", ["file", "mapping"])
def test_a_path_of_a_plug_in_begins_there_too(folder, tmp_path, monkeypatch, make, source):
    """Of a tier and of a codec; and what a cache tells of it means the same in any working directory."""

    class Kept(DictTier):
        def __init__(self, *arguments, **options):
            self.directory, self.suffix = make(*arguments, **options)
            super().__init__("kept")

    class Dictionary:
        name = "dictionary"
        encode = decode = staticmethod(bytes)

        def __init__(self, *arguments, **options):
            self.directory, self.suffix = make(*arguments, **options)

    Kept.__signature__ = Dictionary.__signature__ = inspect.signature(make)
    register_tier("kept", Kept)
    register_codec("dictionary", Dictionary)

    def options(place):
        return {"directory": [place] if make is several else place, "suffix": "plain"}

    inner = {"type": "chain", "tiers": [{"type": "kept", **options("~/home")}]}
    config = {
        "tiers": [{"type": "kept", **options("${FOLDER}/data")}, inner],
        "codec": {"type": "dictionary", **options("words")},
        "views": {"v": {"codec": {"type": "dictionary", **options("/words")}}},
    }
    file = folder / "a.json"
    file.write_text(json.dumps(config))
    place = folder if source == "file" else Path.cwd()

    def found(cache):
        guards = cache._stack.guards
        made = [guards[0].tier, guards[1].tier._core.stack.guards[0].tier]
        made += [cache.codec, cache.views["v"].codec]
        assert {one.suffix for one in made} == {"plain"}
        assert all(isinstance(one.directory, Path) for one in made)
        return [Path.cwd() / one.directory for one in made]

    expected = [place / "relative" / "data", tmp_path / "home" / "home", place / "words", Path("/words")]
    with TieredCache.from_config(file if source == "file" else config) as cache:
        assert found(cache) == expected
        monkeypatch.chdir("/")
        with TieredCache.from_config(cache.config()) as again:
            assert found(again) == expected
            assert again.config() == cache.config()


@pytest.mark.usefixtures("registries")
def test_a_path_of_a_plug_in_may_be_none(folder):
    class Kept(DictTier):
        def __init__(self, directory: Path | None):
            super().__init__("kept")
            self.directory = directory

    register_tier("kept", Kept)
    for none in ("none", None):
        with TieredCache.from_config({"tiers": [{"type": "kept", "directory": none}]}) as cache:
            assert cache._stack.guards[0].tier.directory is None
            assert cache.config()["tiers"][0]["directory"] == none
    with pytest.raises(ConfigError, match=r'tiers\[0\].directory: found "~nobody-has-this-name/x"'):
        TieredCache.from_config({"tiers": [{"type": "kept", "directory": "~nobody-has-this-name/x"}]})


@pytest.mark.parametrize("wrong", [5, "", None, "~nobody-has-this-name/x", "${NO_SUCH_VARIABLE}"])
def test_a_folder_that_is_none_is_told(folder, wrong):
    with pytest.raises(ConfigError, match=r"^the configuration: \$folder: "):
        TieredCache.from_config({"$folder": wrong, "tiers": [{"type": "memory"}]})


def test_what_no_url_can_hold_is_told(tmp_path, monkeypatch):
    odd = tmp_path / "odd?"
    odd.mkdir()
    monkeypatch.chdir(odd)
    with TieredCache.from_config({"tiers": [{"type": "sql", "url": "sqlite:///a.db"}]}) as cache:
        with pytest.raises(ConfigError, match=r"is no plain data: the path of a database begins at .*odd\?"):
            cache.config()
        with pytest.raises(TypeError, match="the path of a database begins at"):
            pickle.dumps(cache)


def test_one_cache_of_several_is_built_again_where_it_is_unpickled(folder):
    """With its views, and from a file or a mapping alike; each as it is there."""
    config = {"tiers": [{"type": "memory"}, {"type": "disk", "path": "d"}], "views": {"v": {"codec": "text"}}}
    file = folder / "several.json"
    several = {"caches": {"one": config, "two": {"tiers": [{"type": "memory"}]}}}
    file.write_text(json.dumps(several))
    for source in (file, several):
        with TieredCache.from_config(source, name="one") as cache:
            cache.views["v"].set("k", "value")
            data = pickle.dumps([cache, cache.views["v"]])
            code = (
                "import sys, pickle\ncache, view = pickle.load(sys.stdin.buffer)\n"
                "assert view._root is cache\nprint(cache.views['v'].get('k'), view.get('k'), view.codec)"
            )
            done = pythons.run(
                [sys.executable, "-W", "error", "-c", code],
                input=data,
                capture_output=True,
                cwd="/",
                env={"PATH": os.environ["PATH"]},
                timeout=60,
                check=False,
            )
            assert done.stdout == b"value value TextCodec()\n", done.stderr
