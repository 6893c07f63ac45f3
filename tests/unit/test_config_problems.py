"""What is wrong with a configuration, and what its author is told: where, what was found, what is allowed."""

from __future__ import annotations

import json

import pytest
from bad_configurations import MEMORY
from selections import together

from tiercache import ConfigError, TieredCache


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def told(config):
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config(config)
    error = caught.value
    assert "hunter2" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None, "an error behind this one may show what this one hides"
    return str(error)


def test_all_problems_are_told_at_once(tmp_path):
    config = {
        "ttl": "soon",
        "tiers": [
            {"type": "disk", "path": "made", "max_byte": 1, "deadline": "${NO_DEADLINE}"},
            {"type": "disk", "path": "not made"},
            {"type": "reddis", "url": "redis://h"},
            {"type": "chain", "tiers": [{"type": "memory", "policy": "mru"}], "promote": "never"},
            {"type": "redis", "url": "redis://h:port"},
            {"type": "sql", "url": "sqlite:///not-made.db"},
            {"type": "sql", "url": "mysql://h/db", "table": "a-b"},
        ],
    }
    lines = told(config).splitlines()
    assert lines[0] == "the configuration: 8 problems"
    assert [line.split(": ")[0] for line in lines[1:]] == [
        "  ttl",
        "  tiers[0].max_byte",
        "  tiers[0].deadline",
        "  tiers[2].type",
        "  tiers[3].promote",
        "  tiers[3].tiers[0].policy",
        "  tiers[4].url",
        "  tiers[6].table",
    ]
    assert not list(tmp_path.iterdir())


def test_beside_a_type_that_is_misspelt_the_rest_is_told_too(tmp_path):
    config = {
        "tiers": [
            {"typ": "memory", "max_bytez": 5},
            {"Type": "dsk", "path": "not made"},
            {"type": "memry", "ttl": "x"},
            {"typ": "file", "tpye": "memory"},
            {"typ": "chain", "tiers": [{"type": "no"}]},
            {"typ": 5, "type_": "memory", "path": 5},
            {"typ": "${NO_TYPE}"},
        ],
        "codec": {"typ": "vectr", "dtype": "f4", "compress": "gzip"},
    }
    found = [line.split("; allowed: ")[0] for line in told(config).splitlines()]
    assert found == [
        "the configuration: 21 problems",
        '  tiers[0].typ: is not known; did you mean "type"?',
        "  tiers[0].max_bytez: is not known",
        '  tiers[1].Type: is not known; did you mean "type"?',
        '  tiers[1].Type: found "dsk"',
        '  tiers[2].type: found "memry"',
        '  tiers[2].ttl: found "x"',
        '  tiers[3].typ: is not known; did you mean "type"?',
        '  tiers[3].tpye: is not known; did you mean "type"?',
        '  tiers[3].typ: found "file"',
        '  tiers[3].path: is missing; give a path, in which "~" and "~user" are home directories',
        '  tiers[4].typ: is not known; did you mean "type"?',
        '  tiers[4].tiers[0].type: found "no"',
        '  tiers[5].typ: is not known; did you mean "type"?',
        '  tiers[5].type_: is not known; did you mean "type"?',
        "  tiers[5].typ: found 5",
        '  tiers[6].typ: is not known; did you mean "type"?',
        "  tiers[6].typ: the variable NO_TYPE is not set; set it, or write a default: ${NO_TYPE:-…}",
        '  codec.typ: is not known; did you mean "type"?',
        '  codec.typ: found "vectr"',
        '  codec.dtype: found "f4"',
        '  codec.compress: found "gzip"',
    ]
    assert not list(tmp_path.iterdir()), "nothing is made of a type that was only meant"


def test_what_only_making_the_tiers_tells_is_told_at_once_too(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("somebody else's")
    lines = told(
        {
            "tiers": [
                {"type": "disk", "path": "first"},
                {"type": "redis", "url": "redis://h:port"},
                {"type": "disk", "path": "second"},
            ]
        }
    ).splitlines()
    assert [line.split(": ")[0] for line in lines[1:]] == ["  tiers[0]", "  tiers[1].url", "  tiers[2]"]
    assert "is not empty and was not made by tiercache" in lines[1]
    assert "is not empty and was not made by tiercache" in lines[3]


@pytest.mark.parametrize("wrong", [{"ttl": "x"}, {"no_option": 1}, {}], ids=["value", "name", "nothing"])
def test_what_the_tiers_and_the_chain_refuse_is_told_beside_the_rest(tmp_path, wrong):
    """Also of tiers that are files, of which nothing is made then; and of options beside a wrong one."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("somebody else's")
    inner = {"type": "chain", "lock": "shared", "tiers": [MEMORY], **wrong}
    made = [
        {"type": "disk", "path": "taken"},
        {"type": "sql", "url": "sqlite:///a/b.db", "table": "a b"},
        {"type": "sql", "url": "postgresql://h/db", "table": "c d", **wrong},
    ]
    if wrong:  # or they would be made, and closed
        made += [{"type": "disk", "path": "new"}, {"type": "sql", "url": "sqlite:///new/b.db"}]
    stats = str(tmp_path / "taken" / "notes.txt" / "stats.db")
    config = {"tiers": [inner, *made], "codec": {"type": "no"}, "stats_file": stats, **wrong}
    lines = told(config).splitlines()
    places = ["codec.type", "tiers[0].lock", "tiers[1]", "tiers[2].table", "tiers[3].table", "stats_file"]
    for name in wrong:
        places += [f"{name}", f"tiers[0].{name}", f"tiers[3].{name}"]
    assert sorted(line.split(": ")[0] for line in lines[1:]) == sorted(f"  {place}" for place in places)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_all_that_a_chain_refuses_is_told(tmp_path):
    (tmp_path / "file").touch()
    lines = told({"tiers": [MEMORY], "lock": "shared", "stats_file": "file/stats.db"}).splitlines()
    assert [line.split(": ")[0] for line in lines[1:]] == ["  lock", "  stats_file"]
    lines = told({"lock": "shared", "stats_file": "file/stats.db", "codec": {"type": "no"}}).splitlines()
    assert [line.split(": ")[0] for line in lines[1:]] == ["  tiers", "  codec.type", "  stats_file"]


def test_a_lock_that_a_wrong_tier_may_keep_is_no_problem():
    tiers = [MEMORY, {"type": "disk", "path": "d", "max_bytes": "x"}]
    assert told({"tiers": tiers, "lock": "shared"}).startswith("the configuration: tiers[1].max_bytes: ")


@pytest.mark.parametrize("url", ["sqlite://u:hunter2@h/x", "postgresql://h/db?port=y"])
def test_a_url_that_sqlalchemy_cannot_use_is_told_at_its_place(url, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"ttl": "x", "tiers": [MEMORY, {"type": "sql", "url": url}]}))
    lines = told(file).splitlines()
    assert lines[0] == f"{file}: 2 problems"
    assert lines[1].startswith("  ttl: ")
    assert lines[2].startswith("  tiers[1]")


def test_two_disk_tiers_of_one_directory_are_refused(tmp_path):
    made, same = {"type": "disk", "path": "made"}, {"type": "disk", "path": tmp_path / "x/../made"}
    inside = {"type": "chain", "tiers": [made, same]}
    lines = told({"tiers": [MEMORY, inside, inside | {"namespace": "a"}, made]})
    assert [line.removesuffix("; give each a place of its own") for line in lines.splitlines()] == [
        "the configuration: 3 problems",
        "  tiers[1].tiers[1]: holds the same entries as tiers[1].tiers[0]",
        "  tiers[2].tiers[1]: holds the same entries as tiers[2].tiers[0]",
        "  tiers[3]: holds the same entries as tiers[1].tiers[0]",
    ]


@pytest.mark.parametrize(
    "apart",
    [
        [{"type": "redis", "url": f"redis+sentinel://{host}:1/s"} for host in ("h1", "h2")],
        [{"type": "redis", "url": f"redis+sentinel://h:1/s/{number}"} for number in (0, 1)],
        [{"type": "redis", "url": f"unix:///s?db={number}"} for number in (0, 1)],
        [{"type": "sql", "url": f"postgresql://h/d?options=-csearch_path%3D{name}"} for name in "ab"],
        [{"type": "sql", "url": f"postgresql://{name}@h"} for name in "ab"],
        [{"type": "sql", "url": f"postgresql://h/?{name}"} for name in ("dbname=a", "dbname=b", "service=c")],
        [{"type": "sql", "url": "sqlite://"}] * 2,
        [
            {"type": "chain", "namespace": name, "tiers": [{"type": "disk", "path": "d"}]}
            for name in ("", "a", "b")
        ],
        [
            {"type": "disk", "path": "d"},
            {"type": "chain", "namespace": "a", "tiers": [{"type": "disk", "path": "d"}]},
        ],
    ],
)
def test_tiers_whose_places_may_be_apart_are_taken(apart):
    TieredCache.from_config({"tiers": [MEMORY, *apart]}).close()


def test_a_chain_that_holds_itself_has_an_end():
    config = {"type": "chain", "tiers": [MEMORY]}
    config["tiers"].append(config)
    text = told({"tiers": [config]})
    assert text.endswith(": more than 8 chains inside each other are not allowed")


@together(
    "url",
    [
        "redis://:hunter2@h:port/0",
        "redis://user:hunter2@h/?socket_timeout=1",
        "redis://:a/hunter2@h:1",
        "redis://:hunter2#b@h:1",
        "redis://h/0?password=hunter2&socket_timeout=1",
        "http://user:a@hunter2@h",
        ":hunter2@h",
        "oracle://u:hunter2@h",
    ],
)
@together("written", ["plain", "variable"])
@together("type_", ["redis", "sql"])
def test_a_password_is_never_shown(url, written, type_, monkeypatch):
    monkeypatch.setenv("CACHE_URL", url)
    url = "${CACHE_URL}" if written == "variable" else url
    text = told({"tiers": [{"type": type_, "url": url}, {"type": "memory", "policy": url}]})
    assert "tiers[1].policy: found" in text


def test_what_a_variable_holds_is_not_shown(monkeypatch):
    monkeypatch.setenv("LIFE", "hunter2")
    config = {"tiers": [MEMORY], "ttl": "${LIFE}"}
    assert told(config).startswith('the configuration: ttl: found "${LIFE}"; allowed: ')


def test_what_is_no_configuration_is_told():
    for source in (5, b"tiercache.toml", ["tiers"], "", "a\0b.toml"):
        with pytest.raises(
            ConfigError, match=r"is no configuration; give the path of a \.toml, \.yaml, \.yml, \.json"
        ):
            TieredCache.from_config(source)
