"""`tiercache init` on a terminal: a wrong answer is told at once, and the question is asked again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click
import pytest
from shell import in_a_terminal

from tiercache.cli.init import _check_said

FLAGS = ("namespace", "ttl", "codec", "memory", "disk", "disk_size", "shared")


def test_what_is_no_answer_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["app", "soon", "2h", "jsn", "json", "5x", "none", "none", "gopher://x", "none", "sqlite:///x.db"]
    code, shown = in_a_terminal("init", typed=("\n".join(lines) + "\n").encode())
    assert code == 0, shown
    for told in ('tiercache: found "soon"', 'did you mean "json"?', 'found "5x"', "a URL that begins with"):
        assert shown.count(told) == 1, told
    assert shown.count("How long an entry lives") == 2
    assert shown.count("share (") == 3, "without any tier there is no cache"
    content = tomllib.loads((tmp_path / "tiercache.toml").read_text())
    assert (content["namespace"], content["ttl"], content["codec"]) == ("app", "2h", "json")
    assert [tier["type"] for tier in content["tiers"]] == ["sql"]


def test_a_wrong_flag_is_told_before_anything_is_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, shown = in_a_terminal("init", "--ttl", "soon")
    assert code == 2
    assert '--ttl: found "soon"' in shown
    assert "Namespace" not in shown


def check(**said):
    _check_said({**dict.fromkeys(FLAGS), **said}, Path("tiercache.toml"))


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"memory": "none"},
        {"memory": "none", "disk": "none"},
        {"disk": "none", "shared": "none"},
        {"disk_size": "1GiB"},
        {"memory": "none", "disk": "none", "shared": "sqlite:///x.db"},
        {"memory": "none", "disk": "new", "disk_size": "1GiB", "shared": "none"},
    ],
)
def test_what_is_in_order_so_far(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(**said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"ttl": "soon"}, "--ttl: found"),
        ({"codec": "jsn"}, "--codec: "),
        ({"memory": "5x"}, "--memory: "),
        ({"disk_size": "lots"}, "--disk-size: "),
        ({"memory": "none", "disk": "none", "shared": "none"}, "--memory, --disk, --shared: "),
    ],
)
def test_what_is_not(said, says):
    with pytest.raises(click.UsageError) as told:
        check(**said)
    assert told.value.message.startswith(says)


def test_characters_that_cannot_be_shown():
    with pytest.raises(click.UsageError, match=r"--disk-size: .* cannot be shown"):
        check(disk_size="1\x7f")
