"""Which file is read when none is given, and which cache of several."""

from __future__ import annotations

import os

import pytest

from tiercache import ConfigError, TieredCache
from tiercache.config import cache_names, find, read

MEMORY = {"tiers": [{"type": "memory"}]}
ONE = 'namespace = "{}"\n[[tiers]]\ntype = "memory"\n'
IN_PROJECT = (
    '[project]\nname = "x"\n[tool.tiercache]\nnamespace = "{}"\n[[tool.tiercache.tiers]]\ntype = "memory"\n'
)
TWO = """
[caches.answers]
namespace = "a"
[[caches.answers.tiers]]
type = "memory"

[caches.vectors]
namespace = "v"
codec = "vector-f4"
[[caches.vectors.tiers]]
type = "memory"
max_entries = "many"
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("TIERCACHE_CONFIG", raising=False)
    return folder


def namespace(source=None, **options):
    with TieredCache.from_config(source, **options) as cache:
        return "/".join(cache._core.path)


def told(source=None, **options):
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config(source, **options)
    return str(caught.value)


def test_the_nearest_folder_upward_that_has_one(here):
    above = here.parent.parent
    (above / "tiercache.toml").write_text(ONE.format("above"))
    assert namespace() == "above"
    (here.parent / "pyproject.toml").write_text(IN_PROJECT.format("project"))
    assert namespace() == "project"
    (here / "pyproject.toml").write_text('[tool.other]\ntiercache = "no table of ours"\n')
    assert namespace() == "project"
    (here.parent / "tiercache.toml").write_text(ONE.format("file"))
    assert namespace() == "file"


def test_the_variable_comes_first(here, monkeypatch):
    (here / "tiercache.toml").write_text(ONE.format("near"))
    other = here / "other.yaml"
    other.write_text("namespace: other\ntiers: [{type: memory}]\n")
    monkeypatch.setenv("TIERCACHE_CONFIG", "other.yaml")
    assert namespace() == "other"
    assert namespace("tiercache.toml") == "near"
    monkeypatch.setenv("TIERCACHE_CONFIG", "")
    assert namespace() == "near"
    monkeypatch.setenv("TIERCACHE_CONFIG", "gone.toml")
    assert told() == "gone.toml: there is no such file; the variable TIERCACHE_CONFIG names it"


def test_none_at_all_is_told(here):
    text = told()
    assert text.startswith("there is no configuration: TIERCACHE_CONFIG is not set, and neither ")
    assert "`tiercache init` writes one" in text
    assert str(here) in text
    with pytest.raises(ConfigError, match="there is no configuration"):
        find()


def test_a_broken_project_file_is_told_if_it_is_ours(here):
    (here.parent / "tiercache.toml").write_text(ONE.format("above"))
    (here / "pyproject.toml").write_text("[project\n")
    assert namespace() == "above"
    (here / "pyproject.toml").write_text("[tool.tiercache\n")
    assert told().startswith(f"{here / 'pyproject.toml'}: is no valid TOML: line 1, ")
    (here / "pyproject.toml").write_text("[tool.tiercache]\ntiers = [\n")
    assert told().startswith(f"{here / 'pyproject.toml'}: is no valid TOML: line 3, ")


def test_a_project_file_can_be_named(here):
    path = here / "pyproject.toml"
    path.write_text(IN_PROJECT.format("project"))
    assert namespace(path) == "project"
    path.write_text(IN_PROJECT.format("project") + 'ttl = "soon"\n')
    assert told(path).startswith(f"{path} [tool.tiercache]: tiers[0].ttl: found ")
    path.write_text('[project]\nname = "x"\n')
    assert told(path) == f"{path}: has no table [tool.tiercache]"


def test_paths_begin_at_the_folder_of_the_file_that_is_found(here):
    above = here.parent
    (above / "tiercache.toml").write_text('[[tiers]]\ntype = "disk"\npath = "data"\n')
    TieredCache.from_config().close()
    assert (above / "data").is_dir()
    assert not list(here.iterdir())


def test_one_of_several_by_its_name(here):
    (here / "tiercache.toml").write_text(TWO)
    assert namespace(name="answers") == "a"
    assert told(name="vectors").startswith(
        f'{here / "tiercache.toml"}: caches.vectors.tiers[0].max_entries: found "many"; '
    )
    assert (
        told()
        == f'{here / "tiercache.toml"}: has several caches; say which by its name: "answers", "vectors"'
    )
    assert told(name="answer") == (
        f'{here / "tiercache.toml"}: has no cache "answer"; there are: "answers", "vectors"; '
        'did you mean "answers"?'
    )
    assert cache_names(read(None).content) == ("answers", "vectors")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ses", "sessions"), ("SESS", "sessions"), ("answers-o", "answers-old"), ("sesions", "sessions"),
     ("an", None), ("s", None), ("", None)],
)  # fmt: skip
def test_the_beginning_of_one_name_alone_means_that_one(name, meant):
    caches = {one: {"tiers": [{"type": "memory"}]} for one in ("answers", "answers-old", "sessions")}
    hint = f'; did you mean "{meant}"?' if meant else ""
    assert told({"caches": caches}, name=name).endswith(f'"sessions"{hint}')


def test_one_alone_needs_no_name():
    alone = {"caches": {"a": {"namespace": "n", "tiers": [{"type": "memory"}]}}}
    assert namespace(alone) == namespace(alone, name="a") == "n"
    assert cache_names(alone["caches"]["a"]) == ()


@pytest.mark.parametrize(
    ("config", "name", "problem"),
    [
        ({"tiers": [{"type": "memory"}]}, "a", 'has one cache, with no name, and none that is called "a"'),
        ({"caches": []}, None, "caches: found an empty list; allowed: a table with one table a cache"),
        ({"caches": {}}, None, "caches: found a table; allowed: a table with one table a cache"),
        ({"caches": {"a": 5}}, None, "caches.a: found 5; allowed: a table with a list of tiers"),
        ({"caches": {"a b": {}}}, None, 'caches."a b": found a table; allowed: a table with a list of tiers'),
        ({"caches": {5: {}}}, None, "caches: has a key that is no text"),
        (
            {"ttl": 5, "caches": {"a": {"tiers": [{"type": "memory"}]}}},
            None,
            'ttl: cannot stand beside "caches"; put it into each [caches.NAME]',
        ),
        (
            {"caches": {"ttl": "5m", **MEMORY}},
            None,
            "caches: holds a cache without a name; write [caches.NAME], and [[caches.NAME.tiers]]",
        ),
    ],
)
def test_what_is_wrong_with_several_is_told(config, name, problem):
    assert told(config, name=name) == f"the configuration: {problem}"


SLIP = 'cache: is not known; did you mean "caches"?'
UNNAMED = "cache: holds a cache without a name; write [caches.NAME], and [[caches.NAME.tiers]]"


@pytest.mark.parametrize(
    ("caches", "name", "problems"),
    [
        ({"a": MEMORY}, None, [SLIP]),
        ({"a": MEMORY, "b": MEMORY}, "b", [SLIP]),
        ({"a": {"tiers": []}}, None, [SLIP, "cache.a.tiers: found an empty list; allowed: "]),
        ({"a": MEMORY, "b": MEMORY}, None, [SLIP, "has several caches; say which by its name: "]),
        ({"a": MEMORY}, "b", [SLIP, 'has no cache "b"; there are: "a"']),
        ({"a": MEMORY, "tiers": MEMORY}, "tiers", [SLIP]),
        ({"ttl": "5m", **MEMORY}, None, [SLIP, UNNAMED]),
        ({"ttl": 0, **MEMORY}, "a", [SLIP, UNNAMED, "cache.ttl: found 0; allowed: "]),
    ],
)
def test_a_slip_of_several_is_told_and_the_rest_as_well(caches, name, problems):
    config = {"ttl": "5m", "cache": caches}
    lines = told(config, name=name).splitlines()
    assert lines[0] == f"the configuration: {len(problems) + 1} problems"
    problems[1:1] = ['ttl: cannot stand beside "caches"; put it into each [caches.NAME]']
    for line, problem in zip(lines[1:], problems, strict=True):
        assert line.startswith(f"  {problem}")


@pytest.mark.parametrize(
    "other",
    [{"cache_dir": "/x"}, {"cache_ttl": 5}, {"cache_size": "1 GiB"}, {"cache": "5m"}, {"cache": {}},
     {"cache": {"ttl": "5m", "a": {}}}, {"cache_ttl": 5, "tier": [{"type": "memory"}]}],
)  # fmt: skip
def test_what_resembles_caches_and_holds_none_is_an_unknown_option(other):
    config = {"namespace": "n", "ttl": "5m", **other}
    lines = told(config).splitlines()[1:]
    assert [line.partition(":")[0] for line in lines] == [f"  {key}" for key in (*other, "tiers")]
    assert not any('did you mean "caches"' in line for line in lines)
    assert lines[-1].startswith("  tiers: is missing; ")
    assert cache_names(config) == ()


def test_several_are_allowed_where_there_are_no_tiers():
    for more, is_one_cache in (({}, False), (MEMORY, True)):
        unknown = told({"zzz": 5, **more}).splitlines()[not is_one_cache].rpartition(": ")[2]
        assert ("caches" in unknown.split(", ")) is not is_one_cache
    assert "caches" not in told({"caches": {"a": {"zzz": 5}}}).rpartition("allowed: ")[2].split(", ")


def test_a_name_is_text():
    assert told({"caches": {}}, name=5) == "from_config: name=5 is no name; give text"


def test_where_the_schema_is_is_the_editors_affair(here):
    path = here / "a.json"
    path.write_text('{"$schema": "tiercache.schema.json", "tiers": [{"type": "memory"}]}')
    assert namespace(os.fspath(path)) == ""
