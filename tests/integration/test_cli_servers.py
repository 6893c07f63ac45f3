"""The commands on a disk and each kind of server: Valkey, PostgreSQL and SQLite; in shells and terminals."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
import pythons
from servers.valkey import free_port, running
from shell import COLOUR, COMMAND, SCRIPT, in_a_terminal, run, spawn

PASSWORD = "open-sesame"  # noqa: S105 - it is looked for in all that is shown
CHAIN = """
namespace = "app"
codec = "json"
[[tiers]]
type = "memory"
[[tiers]]
type = "disk"
directory = "cache"
deadline = "20s"
secret = "{password}-and-more-of-it"
[[tiers]]
type = "{kind}"
url = "{url}"
deadline = "20s"
"""


@pytest.fixture(scope="module")
def guarded_server():
    """A server that asks for a password."""
    with running("--requirepass", PASSWORD) as server:
        yield server.url.replace("//", f"//:{PASSWORD}@")


@pytest.fixture(params=["redis", "postgresql", "sqlite"])
def config(request, tmp_path):
    """The configuration of a chain down to each kind of server; the password is in it, and in a variable."""
    if request.param == "redis":
        url = request.getfixturevalue("guarded_server")
    elif request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    else:
        url = f"sqlite:///{tmp_path}/shared.db"
    kind = "redis" if request.param == "redis" else "sql"
    path = tmp_path / "tiercache.toml"
    path.write_text(CHAIN.format(kind=kind, url=url, password=PASSWORD))
    return path


def test_a_session_in_a_shell(config):
    shown = []

    def shell(*arguments, code=0, start=run, **options):
        done = start("-c", config, *arguments, **options)
        shown.append(done.out + done.err)
        assert done.code == code, done
        return done.out

    shell("check", "--connect")
    shell("clear", "--yes")
    shell("set", "user:1", stdin=b'{"name": "Ada"}', start=partial(spawn, command=SCRIPT))
    shell("set", "user:2", "[2]", "--ttl", "5m")
    assert shell("get", "user:1", start=spawn) == '{"name": "Ada"}'
    assert set(shell("keys", "--prefix", "user:").split()) == {"user:1", "user:2"}
    seen = json.loads(shell("inspect", "user:2", "--value", "--json"))["tiers"]
    assert [one["holds"] for one in seen] == [None, True, True]
    assert all(0 < one["left"] <= 300 for one in seen[1:])
    shell("delete", "user:1", "nobody")
    assert shell("get", "user:1", code=1) == ""
    assert json.loads(shell("purge", "--older-than", "1ms", "--json")) == {"dropped": 1}
    assert shell("keys") == ""
    assert PASSWORD not in "".join(shown)


def test_a_report_counts_what_each_kind_of_server_holds(config, tmp_path):
    config.write_text(config.read_text().replace('"app"', '"reported"'))
    for number in range(3):
        assert run("-c", config, "set", f"key {number}", f"[{number}]").code == 0
    page = tmp_path / "page.html"
    done = run("report", config, "--json")
    data = json.loads(done.out)
    assert (done.code, data["problems"]) == (0, [])
    assert [tier["entries"] for tier in data["tiers"]] == [None, 3, 3]
    assert all(3 * len("[0]") < tier["bytes"] < 3000 for tier in data["tiers"][1:])
    assert run("report", config, "--html", page).code == 0
    for shown in (done.out, run("report", config).out, page.read_text()):
        assert PASSWORD not in shown
        assert "://" not in shown


def test_pipes(guarded_server, tmp_path):
    """`printf ... | tiercache set` and `tiercache keys | head -1`, as a shell connects them."""
    path = tmp_path / "tiercache.toml"
    path.write_text(CHAIN.format(kind="redis", url=guarded_server, password=PASSWORD))
    for number in range(3):
        run("-c", path, "set", f"key:{number}", "1")
    command = " ".join(COMMAND) + f" -c {path}"
    line = f"printf '[1,2]' | {command} set piped && {command} get piped | cat && {command} keys | head -1"
    done = pythons.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\[1,2\](key:\d|piped)\n", done.stdout)


@pytest.mark.parametrize(
    "arguments", [["keys"], ["inspect", "key"], ["purge", "--older-than", "1d"], ["check", "--connect"]]
)
def test_a_server_that_is_gone_is_told_in_a_line_or_two(tmp_path, arguments):
    path = tmp_path / "tiercache.toml"
    url = f"redis://user:{PASSWORD}@127.0.0.1:{free_port()}/0"
    path.write_text(CHAIN.format(kind="redis", url=url, password=PASSWORD))
    done = run("-c", path, *arguments)
    assert done.code == 1
    assert 0 <= done.err.count("\n") <= 2
    assert "127.0.0.1" in done.out + done.err
    assert PASSWORD not in done.out + done.err
    debugged = run("-c", path, "--debug", *arguments)
    assert PASSWORD not in debugged.out + debugged.err
    if arguments == ["keys"]:
        assert done.err.startswith("tiercache: redis: it cannot list its keys: ")
        assert done.err.endswith("/0: Connection refused.\n")


def test_values_are_served_and_stored_as_far_as_tiers_are_well(tmp_path):
    path = tmp_path / "tiercache.toml"
    url = f"redis://user:{PASSWORD}@127.0.0.1:{free_port()}/0"
    path.write_text(CHAIN.format(kind="redis", url=url, password=PASSWORD))
    done = run("-c", path, "set", "key", "[1]")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("tiercache: not stored in redis; repeat it when that is well\n")
    assert run("-c", path, "get", "key").out == "[1]"
    done = run("-c", path, "delete", "key")
    assert (done.code, done.out) == (1, "")
    assert run("-c", path, "get", "key").code == 1
    assert PASSWORD not in done.err


def test_a_terminal_gets_a_table_in_colours_and_a_question(tmp_path):
    path = tmp_path / "tiercache.toml"
    path.write_text(CHAIN.format(kind="sql", url=f"sqlite:///{tmp_path}/x.db", password=PASSWORD))
    run("-c", path, "set", "[bold]key", "1")
    code, shown = in_a_terminal("-c", path, "inspect", "[bold]key", NO_COLOR="")
    assert code == 0
    assert COLOUR.search(shown)
    assert "json" in shown
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"key": "a", "value": 1}\n{"key": "b", "value": 2}\n')
    code, shown = in_a_terminal("-c", path, "warm", lines, NO_COLOR="1")
    assert (code, COLOUR.search(shown)) == (0, None)
    assert re.search(r"warming .*2/\?", shown)
    assert "2 entries stored" in shown
    code, shown = in_a_terminal("-c", path, "bench", "--seconds", "0.001", "--batch", "2", "--size", "9")
    assert code == 0
    assert COLOUR.search(shown)
    assert re.search(r"measuring .*16/16", shown)
    assert run("-c", path, "delete", "a", "b").code == 0
    code, shown = in_a_terminal("-c", path, "clear", typed=b"n\n", NO_COLOR="1")
    assert code == 1
    assert "Drop all entries of the cache?" in shown
    assert run("-c", path, "keys").out == "[bold]key\n"
