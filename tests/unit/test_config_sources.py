"""Files that are read, and those that cannot be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from selections import together

from tiercache import ConfigError, MissingPackage, TieredCache
from tiercache.config._sources import read

ONE_TIER = {
    ".toml": '[[tiers]]\ntype = "memory"\n',
    ".yaml": "tiers:\n- type: memory\n",
    ".yml": "tiers: [{type: memory}]\n",
    ".json": '{"tiers": [{"type": "memory"}]}\n',
}


#: More digits than Python reads, and what is said of them.
LONG = "9" * 5000
DIGITS = "a number of too many digits"


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def told(path):
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: "), "an error names the file"
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", [*ONE_TIER, ".TOML"])
@pytest.mark.parametrize("as_given", [str, Path])
def test_each_format_is_read(write, suffix, as_given):
    path = write(f"cache{suffix}", ONE_TIER[suffix.lower()])
    with TieredCache.from_config(as_given(path)) as cache:
        cache.set("a", b"1")
        assert cache.get("a") == b"1"
        assert [tier.name for tier in cache.stats().tiers] == ["memory"]


@pytest.mark.parametrize("name", ["nofile", "nofile.txt", "nofile.toml", "no-folder/nofile"])
def test_a_file_that_is_not_there_is_told_as_that(tmp_path, name):
    with pytest.raises(ConfigError, match=rf"{re.escape(name)}: there is no such file$"):
        TieredCache.from_config(tmp_path / name)


@pytest.mark.parametrize("suffix", ONE_TIER)
def test_marks_and_line_ends_of_other_systems_are_no_matter(write, suffix):
    text = ONE_TIER[suffix].replace("\n", "\r\n")
    TieredCache.from_config(write(f"cache{suffix}", b"\xef\xbb\xbf" + text.encode())).close()


def test_home_is_known(write, monkeypatch, tmp_path):
    write("cache.toml", ONE_TIER[".toml"])
    monkeypatch.setenv("HOME", str(tmp_path))
    TieredCache.from_config("~/cache.toml").close()
    with pytest.raises(ConfigError, match="names a home directory that is unknown"):
        TieredCache.from_config("~nobody-has-this-name/cache.toml")


@together(
    ("name", "content", "problem"),
    [
        ("a.toml", "ttl = 1\nnamespace = = 2\n", "is no valid TOML: line 2, column 13: Invalid value"),
        ("a.toml", "ttl = 1\nttl = 2\n", "is no valid TOML: line 2, column 8: Cannot overwrite a value"),
        (
            "a.toml",
            '[tiers]\ntype = "memory"\n[tiers]\ntype = "sql"\n',
            (
                "is no valid TOML: line 3, column 7: Cannot declare ('tiers',) twice; "
                "write [[tiers]], not [tiers], above the options of each"
            ),
        ),
        ("a.toml", "tiers = [\n  1,", "is no valid TOML: line 2, column 5: "),
        ("a.toml", "tiers = [\n", "is no valid TOML: line 2, column 1: Invalid value"),
        ("a.toml", 'a = """\n', "is no valid TOML: line 2, column 1: "),
        (
            "a.toml",
            "x = '\u2028'\n[tiers]\nb = 1\n[tiers]\n",
            "is no valid TOML: line 4, column 7: Cannot declare ('tiers',) twice; write [[tiers]], not",
        ),
        (
            "a.toml",
            f"a = 0.{LONG} # {LONG}\nb = ['{LONG}', 1_{LONG}]",
            f"is no valid TOML: line 2, column 5010: {DIGITS}",
        ),
        ("a.json", f'{{"a": "\\"{LONG}",\n"b": -{LONG}}}', f"is no valid JSON: line 2, column 7: {DIGITS}"),
        (
            "a.json",
            '{"ttl": 1,\n "tiers" []}',
            "is no valid JSON: line 2, column 10: Expecting ':' delimiter",
        ),
        ("a.json", '{"ttl": 1, "ttl": 2}', "has the key 'ttl' twice in one object"),
        ("a.json", '{"ttl": NaN}', "holds NaN, which is no JSON"),
        ("a.json", "[" * 100_000, "is nested too deeply"),
        (
            "a.yaml",
            "ttl: 1\ntiers: [\n",
            "is no valid YAML: line 3, column 1: expected the node content, but found",
        ),
        (
            "a.yaml",
            "ttl: 1\n\tttl: 2\n",
            "is no valid YAML: line 2, column 1: found character that cannot start",
        ),
        ("a.yml", "ttl: 1\nttl: 2\n", "is no valid YAML: line 2, column 1: the key is there twice"),
        (
            "a.yml",
            "tiers:\n- type: a\n  type: b\n",
            "is no valid YAML: line 3, column 3: the key is there twice",
        ),
        ("a.yml", "ttl: 1\n---\nttl: 2\n", "is no valid YAML: line 2, column 1: but found another document"),
        ("a.yml", "ttl: 5m\nname\x07: b\n", r"is no valid YAML: line 2, column 5: the character '\x07' is"),
        (
            "a.yml",
            "ttl: !!python/name:os.system\n",
            "is no valid YAML: line 1, column 6: could not determine a",
        ),
        ("a.yml", "{ttl: 1, {a: b}: 2}", "is no valid YAML: line 1, column 10: found unhashable key"),
        ("a.yaml", "ttl: 2024-13-99\n", "is no valid YAML: it holds a value that is not of its kind"),
        ("a.yaml", "ttl: !!bool hunter2\n", "is no valid YAML: it holds a value that is not of its kind"),
        ("a.yaml", "ttl: !!int hunter2\n", "is no valid YAML: it holds a value that is not of its kind"),
        ("a.yaml", f"ttl: {LONG}\n", "is no valid YAML: it holds a value that is not of its kind"),
        ("a.yaml", "ttl: !!int\n", "is no valid YAML: it holds a value that is not of its kind"),
        (
            "a.yaml",
            "ttl: !!timestamp hunter2\n",
            "is no valid YAML: it holds a value that is not of its kind",
        ),
        (
            "a.yaml",
            "ttl: 1:30\n",
            "is no valid YAML: line 1, column 6: a number in base 60; put text in quotes",
        ),
        ("a.yaml", "a: [1:30.5]\n", "is no valid YAML: line 1, column 5: a number in base 60; put text in"),
        (
            "a.yaml",
            "ttl: 010\n",
            "is no valid YAML: line 1, column 6: a number in base 8; put text in quotes",
        ),
        ("a.yaml", "ttl: !!int hunter:2\n", "is no valid YAML: line 1, column 6: a number in base 60"),
        ("a.yaml", "ttl: 0\n", "2 problems"),
        ("a.yaml", "ttl: '1:30'\n", "2 problems"),
        ("a.yaml", "[" * 500, "is nested too deeply"),
        ("a.toml", "", "is empty; it needs at least a list of tiers, each with a type"),
        ("a.yaml", " \n\n", "is empty; it needs at least a list of tiers, each with a type"),
        ("a.json", "", "is empty; it needs at least a list of tiers, each with a type"),
        ("a.toml", "# nothing yet\n", "is empty; it needs at least a list of tiers, each with a type"),
        ("a.yml", "# nothing yet\n", "is empty; it needs at least a list of tiers, each with a type"),
        ("a.json", "{}", "is empty; it needs at least a list of tiers, each with a type"),
        ("a.json", "null", "is empty; it needs at least a list of tiers, each with a type"),
        ("a.yaml", "- type: memory\n", "holds a list, not a table of options"),
        ("a.json", '"memory"', "holds a str, not a table of options"),
        ("a.toml", b'namespace = "\xff"', "is not UTF-8 text (byte 13)"),
        (
            "a.ini",
            "[tiers]",
            "has the suffix '.ini', which names no format; allowed: .toml, .yaml, .yml, .json",
        ),
        ("toml", "", "has no suffix, which names no format; allowed: .toml, .yaml, .yml, .json"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(write, name, content, problem):
    assert told(write(name, content)).startswith(problem)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "tiers:\n- type: redis\n  password: *hunter2\n"),
        ("a.yaml", "tiers:\n- password: @hunter2\n"),
        ("a.yaml", "tiers:\n- password: !hunter2\n"),
        ("a.yaml", "tiers:\n- password: %hunter2\n"),
        ("a.yaml", "tiers:\n- password: |hunter2\n"),
        ("a.yaml", "password: 'a' hunter2\n"),
        ("a.toml", "password = hunter2\n"),
        ("a.toml", 'password = "a" hunter2\n'),
        ("a.json", '{"password": hunter2}'),
        ("a.json", '{"password": "hunter2}'),
        ("a.toml", b'password = "hunter2 \xff"'),
    ],
)
def test_the_text_of_a_file_is_not_shown(write, name, content):
    path = write(name, content)
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config(path)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_files_that_cannot_be_opened_are_named(tmp_path, write):
    assert told(tmp_path / "absent.toml") == "there is no such file"
    (tmp_path / "folder.toml").mkdir()
    assert told(tmp_path / "folder.toml") == (
        f"is a directory; name the file in it, such as {tmp_path / 'folder.toml' / 'tiercache.toml'}"
    )
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert told(loop).startswith("cannot be read (Too many levels of symbolic links")


def test_problems_inside_a_file_name_it_too(write):
    text = ONE_TIER[".toml"] + 'policy = "mru"\n'
    assert told(write("a.toml", text)).startswith('tiers[0].policy: found "mru"; allowed: ')


def test_yaml_that_refers_to_itself_is_read(write):
    path = write("a.yml", "tiers:\n- &a\n  type: chain\n  tiers: [{type: memory}, *a]\n")
    assert told(path).endswith("more than 8 chains inside each other are not allowed")


def test_the_folder_is_the_files_own(write, monkeypatch, tmp_path):
    write("a.json", ONE_TIER[".json"])
    monkeypatch.chdir(tmp_path.parent)
    assert read(Path(tmp_path.name) / "a.json").folder == tmp_path
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link.json").symlink_to(tmp_path / "a.json")
    assert read(os.fspath(elsewhere / "link.json")).folder == elsewhere, "where the file is named, not kept"
    assert read({"tiers": []}).folder is None


# -- missing packages ------------------------------------------------------------------------------


def without(package, config):
    """What ``from_config`` says in an interpreter where ``package`` is not installed."""
    script = f"""
import sys
sys.modules[{package!r}] = None
from tiercache import TieredCache, errors
try:
    TieredCache.from_config({config!r})
except errors.ConfigError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_a_missing_package_of_a_format_is_named_with_its_cure(write):
    path = write("a.yaml", ONE_TIER[".yaml"])
    assert without("yaml", str(path)) == (
        f"MissingPackage the configuration {path} needs the package 'PyYAML', which is not installed: "
        'pip install "tiercache-framework[config]"\n'
    )
    assert without("yaml", {"tiers": [{"type": "memory"}]}) == ""
    assert without("yaml", str(write("a.toml", ONE_TIER[".toml"]))) == ""


def test_without_pydantic_there_are_no_configurations_but_caches():
    assert without("pydantic", {"tiers": [{"type": "memory"}]}) == (
        "MissingPackage TieredCache.from_config needs the package 'pydantic', which is not installed: "
        'pip install "tiercache-framework[config]"\n'
    )
    assert issubclass(MissingPackage, ConfigError)


def test_a_missing_package_of_a_tier_is_one_of_the_problems():
    config = {"tiers": [{"type": "redis", "url": "redis://h"}, {"type": "memory", "ttl": 0}]}
    lines = without("redis", config).splitlines()
    assert lines[0] == "ConfigError the configuration: 2 problems"
    assert lines[1] == (
        "  tiers[0]: RedisTier needs the package 'redis', which is not installed: "
        'pip install "tiercache-framework[redis]"'
    )
    assert lines[2].startswith("  tiers[1].ttl: found 0")


def test_a_missing_driver_is_one_of_the_problems():
    config = {"tiers": [{"type": "sql", "url": "postgresql://h/db"}, {"type": "memory", "ttl": 0}]}
    lines = without("psycopg", config).splitlines()
    assert lines[1].startswith("  tiers[1].ttl: found 0")
    assert lines[2].startswith("  tiers[0]: ")
    assert lines[2].endswith('pip install "tiercache-framework[postgres]"')


@pytest.mark.parametrize(
    "source", ["redis://u:hunter2@h", b"redis://u:hunter2@h", ["sqlite:///a?password=hunter2"]]
)
def test_a_url_in_the_place_of_a_file_is_told_without_its_password(source):
    with pytest.raises(
        ConfigError, match=r"is a URL, and not the path of a file|is no configuration"
    ) as caught:
        TieredCache.from_config(source)
    assert "hunter2" not in str(caught.value)
