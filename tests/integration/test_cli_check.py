"""`tiercache check`: on configurations in order and not, and with real servers, well and ill."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from shutil import disk_usage

import pytest
from servers.valkey import free_port, running
from shell import COLOUR, in_a_terminal, run

from tiercache import register_tier
from tiercache.protocols import About
from tiercache.testing import DictTier

THREE = """
[[tiers]]
type = "memory"
[[tiers]]
type = "disk"
directory = "cache"
deadline = "20s"
max_bytes = "1MiB"
[[tiers]]
type = "{}"
url = "{}"
deadline = "20s"
"""


@pytest.fixture
def write(tmp_path):
    """Writes a configuration, and gives its path."""

    def write(text):
        path = tmp_path / "tiercache.toml"
        path.write_text(text)
        return path

    return write


def found(path, *, code=0):
    done = run("check", path, "--connect", "--json")
    assert done.code == code, done
    data = json.loads(done.out)
    assert data["in_order"] is (code == 0)
    return data, {tier["tier"]: tier for tier in data["tiers"]}


def test_two_configurations_are_one_too_many(write):
    path = write(THREE.format("redis", "redis://127.0.0.1:1"))
    for words in (("check", path, "-c", "other.toml"), ("-c", "other.toml", "check", path)):
        done = run(*words)
        assert (done.code, done.out) == (2, "")
        assert f"name one configuration: FILE is '{path}', and --config 'other.toml'" in done.err


def test_a_configuration_in_order(write):
    path = write(
        'stats_file = "folder/stats.db"\n' + THREE.format("redis", "redis://user:sesame@127.0.0.1:1")
    )
    done = run("check", path)  # nothing is connected to
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == [
        *("tier", "memory", "disk", "redis", f"{path}:")
    ]
    assert done.out.endswith("tiercache.toml: in order\n")
    assert "sesame" not in done.out
    assert run("check", "-c", path).out == done.out
    assert run("-c", path, "check").out == done.out
    assert json.loads(run("check", path, "--json").out)["problems"] == []
    assert run("stats", path).code == 1
    assert [one.name for one in path.parent.iterdir()] == [path.name]  # nothing was made


@pytest.mark.usefixtures("registries")
def test_what_each_tier_is_and_how_long_it_may_take(write, tmp_path):
    register_tier("odd", Odd)
    text = """
        [[tiers]]
        type = "memory"
        max_bytes = "1MiB"
        [[tiers]]
        type = "disk"
        directory = "cache"
        max_bytes = "64KiB"
        [[tiers]]
        type = "odd"
        fault = "none"
        deadline = "1m"
        [[tiers]]
        type = "redis"
        url = "redis://user:sesame@127.0.0.1:1"
        [[tiers]]
        type = "sql"
        url = "postgresql://user:sesame@127.0.0.1:1/db"
    """
    path = write(text)
    tiers = json.loads(run("check", path, "--json").out)["tiers"]
    assert [(tier["tier"], tier["deadline_seconds"], tier["what"]) for tier in tiers] == [
        ("memory", None, "memory of each process, 100,000 entries and 1.0 MiB"),
        ("disk", 2.0, f"{tmp_path}/cache, 64.0 KiB"),
        ("odd", 60.0, "a tier of the class Odd"),
        ("redis", 0.5, "redis://user:***@127.0.0.1:1, prefix 'tiercache:'"),
        ("sql", 2.0, "postgresql://user:***@127.0.0.1:1/db, table 'tiercache'"),
    ]
    assert run("check", path).out.splitlines()[4].split()[:3] == ["redis", "0.5", "s"]


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("flags", [[], ["--json"], ["--connect"], ["--connect", "--json"]])
def test_what_a_tier_of_somebody_else_says_of_itself_is_not_shown(write, flags):
    @dataclass(eq=False)
    class Vault(DictTier):
        url: str
        password: int

        def __post_init__(self):
            super().__init__("vault")

    register_tier("vault", Vault)
    path = write('[[tiers]]\ntype = "vault"\nurl = "vault://user:sesame"\npassword = 12345678\n')
    done = run("check", path, *flags)
    assert (done.code, done.err) == (0, "")
    assert "sesame" not in done.out
    assert "12345678" not in done.out
    assert ("a tier of the class Vault" in done.out) is (flags != ["--connect"])


def test_no_database_of_sqlite_is_made(write):
    path = write('[[tiers]]\ntype = "sql"\nurl = "sqlite:///deep/er/s.db"\n')
    for arguments in (["check", path], ["stats", path]):
        run(*arguments)
        assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("flags", [[], ["--connect"]])
def test_a_disk_that_is_too_small_is_told_once(write, flags):
    """What is to fit in is more than the whole disk has, or than it has left."""
    total = disk_usage(write("something is on it").parent).total
    table = '[[tiers]]\ntype = "disk"\ndirectory = "cache"\nmax_bytes = {}\n'
    for most, told in (
        (total + (1 << 30), "disk: the whole disk of "),
        (total, " left, and max_bytes lets the cache take "),
    ):
        done = run("check", write(table.format(most)), *flags)
        assert done.code == 0
        assert told in done.err
        assert done.err.count("\n") == 1


def test_what_is_wrong_beside_all_caches_is_told_once(write):
    path = write('ttl = 5\n[[caches.a.tiers]]\ntype = "memory"\n[[caches.b.tiers]]\ntype = "memory"\n')
    done = run("check", path)
    assert done.code == 1
    assert (
        done.err == f'tiercache: {path}: ttl: cannot stand beside "caches"; put it into each [caches.NAME]\n'
    )


def test_a_directory_is_looked_at_before_it_is_made(write):
    path = write(THREE.format("redis", "redis://127.0.0.1:1").replace('"cache"', '"file/cache"'))
    folder = path.parent / "file"
    folder.write_text("")
    assert "is a file, not a directory" in run("check", path).err
    folder.unlink()
    folder.mkdir()
    assert run("check", path).code == 0
    assert list(folder.iterdir()) == []
    (folder / "cache").mkdir(mode=0o755)
    assert run("check", path).code == 0  # an empty one is not claimed yet
    assert list((folder / "cache").iterdir()) == []
    (folder / "cache" / "letter").write_text("")
    assert "was not made by tiercache" in run("check", path).err


def test_all_that_is_wrong_is_told_a_line_each(write):
    path = write(
        'tttl = 1\n[[tiers]]\ntype = "disc"\npath = "d"\n[[tiers]]\ntype = "redis"\nurl = "http://u:sesame@h"\n'
    )
    done = run("check", path)
    assert (done.code, done.out) == (1, "")
    lines = done.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"tiercache: {path}: ") for line in lines)
    assert lines[0].endswith('did you mean "ttl"?')
    assert 'tiers[0].type: found "disc"' in lines[1]
    assert "tiers[1].url: " in lines[2]
    assert "sesame" not in done.err
    data = json.loads(run("check", path, "--json").out)
    assert [f"tiercache: {problem}" for problem in data["problems"]] == lines


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("nowhere.toml", None, "no such file"), ("bad.toml", "x", "no valid TOML"), ("a.ini", "x", "no format")],
)  # fmt: skip
def test_a_file_that_is_none(tmp_path, name, text, says):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    done = run("check", path)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"tiercache: {path}: ")
    assert says in done.err
    assert done.err.count("\n") == 1
    assert says in json.loads(run("check", path, "--json").out)["problems"][0]


def test_each_of_several_caches(write):
    path = write(
        '[[caches.good.tiers]]\ntype = "memory"\n[[caches.bad.tiers]]\ntype = "memory"\nttl = "soon"\n'
        '[[caches.worse.tiers]]\ntype = "memory"\nmax_entries = 0\n'
    )
    done = run("check", path)
    assert done.code == 1
    assert "good: memory" in done.out
    assert len(done.err.splitlines()) == 2
    assert "caches.bad.tiers[0].ttl" in done.err
    assert "caches.worse.tiers[0].max_entries" in done.err
    assert run("check", path, "--cache", "good").code == 0
    write(path.read_text().replace("[[caches.", "[[cache."))
    slip, bad, worse = run("check", path).err.splitlines()
    assert slip == f'tiercache: {path}: cache: is not known; did you mean "caches"?'
    assert "cache.bad.tiers[0].ttl" in bad
    assert "cache.worse.tiers[0].max_entries" in worse


def test_tiers_that_are_well(write, valkey, postgres_url, tmp_path):
    text = THREE.format("redis", valkey.url)
    text += f'[[tiers]]\ntype = "sql"\nurl = "sqlite:///{tmp_path}/x.db"\n'
    text += f'[[tiers]]\ntype = "sql"\nname = "postgres"\nurl = "{postgres_url}"\ntable = "tiercache_check"\n'
    data, tiers = found(write(text))
    assert data["problems"] == []
    assert list(tiers) == ["memory", "disk", "redis", "sql", "postgres"]
    assert "version" not in tiers.pop("memory")
    for tier in tiers.values():
        assert tier["rights"] == ["read", "list", "write", "delete"]
        assert tier["notes"] == []
        assert min(tier[f"{what}_seconds"] for what in ("connect", "read", "write")) > 0
    assert [tiers[name]["version"].split()[0] for name in tiers] == [
        "SQLite",
        "Valkey",
        "SQLite",
        "PostgreSQL",
    ]
    assert [tiers[name]["room_bytes"] is None for name in tiers] == [False, True, False, True]
    assert [tiers[name]["clock_skew_seconds"] is None for name in tiers] == [True, False, True, False]
    with valkey.client() as client:
        assert client.dbsize() == 0  # what was written is gone again
    done = run("check", tmp_path / "tiercache.toml", "--connect")
    assert done.code == 0
    assert done.err == ""
    rows = [line.split()[:2] for line in done.out.splitlines()[1:]]
    assert rows[:5] == [
        ["memory", "in"], ["disk", "fine"], ["redis", "fine"], ["sql", "fine"], ["postgres", "fine"]
    ]  # fmt: skip
    assert done.out.endswith("in order, and every tier answers\n")


def test_a_server_that_does_not_answer(write):
    path = write(THREE.format("redis", f"redis://user:sesame@127.0.0.1:{free_port()}/0"))
    data, tiers = found(path, code=1)
    [problem] = data["problems"]
    assert re.fullmatch(r"redis: it cannot read: redis://user:\*\*\*@\S+/0: Connection refused\.", problem)
    assert tiers["redis"]["rights"] == []
    assert tiers["disk"]["rights"]  # the others are tried all the same
    done = run("check", path, "--connect")
    assert done.code == 1
    assert re.search(r"^redis +wrong ", done.out, re.MULTILINE)
    assert "in order" not in done.out
    assert done.err == f"tiercache: {problem}\n"
    assert "sesame" not in done.out + done.err


def test_a_user_without_rights(write):
    with running() as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "least", "on", ">sesame", "~*", "-@all", "+get", "+mget")
        path = write(THREE.format("redis", server.url.replace("//", "//least:sesame@")))
        data, tiers = found(path, code=1)
        assert tiers["redis"]["rights"] == ["read"]
        assert re.fullmatch(r"redis: it cannot write: .*lacks the right \+set", data["problems"][0])
        [listing] = tiers["redis"]["notes"]
        assert "lacks the right +scan" in listing

        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "least", "+set", "+unlink")
        data, tiers = found(path)  # a cache does without listing
        assert tiers["redis"]["rights"] == ["read", "write", "delete"]
        done = run("check", path, "--connect")
        assert done.code == 0
        assert "`keys`, `clear` and `export` need that" in done.err


def test_a_directory_that_is_read_only_and_one_that_is_damaged(write, tmp_path):
    path = write('[[tiers]]\ntype = "disk"\ndirectory = "cache"\nread_only = true\n')
    run("check", write('[[tiers]]\ntype = "disk"\ndirectory = "cache"\n'), "--connect")  # makes it
    write(path.read_text() + "read_only = true\n")
    _, tiers = found(path)
    assert tiers["disk"]["notes"] == ["it is set read_only: nothing is written to it"]
    assert tiers["disk"]["rights"] == ["read", "list"]

    (tmp_path / "cache.db").write_bytes(b"nothing of SQLite" * 100)
    data, _ = found(write(f'[[tiers]]\ntype = "sql"\nurl = "sqlite:///{tmp_path}/cache.db"\n'), code=1)
    assert data["problems"][0].startswith("sql: it cannot read: ")


def test_the_tiers_of_a_chain_inside(write, tmp_path):
    path = write("""
        [[tiers]]
        type = "memory"
        [[tiers]]
        type = "chain"
        [[tiers.tiers]]
        type = "disk"
        directory = "inner"
    """)
    _, tiers = found(path)
    assert list(tiers) == ["memory", "chain/disk"]
    assert tiers["chain/disk"]["rights"] == ["read", "list", "write", "delete"]


class Odd(DictTier):
    """A tier that is wrong in a way of its own, as somebody's may be."""

    nonblocking = False

    def __init__(self, fault: str) -> None:
        super().__init__("odd")
        self.fault = fault

    def about(self):
        if self.fault == "dumb":
            raise OSError("no answer")
        return About("Odd 1", skew=-90.0 if self.fault == "late" else 0.0, room=1 << 20)

    def mset(self, entries):
        if self.fault == "liar":
            entries = {key: replace(entry, value=b"something else") for key, entry in entries.items()}
        if self.fault != "forgetful":
            super().mset(entries)

    def mdelete(self, keys):
        if self.fault != "hoarder":
            super().mdelete(keys)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("late", "its clock is 90.0 s behind this machine's"),
        ("dumb", "it does not tell what it is: OSError"),
        ("liar", "what was written to it is not there, or is another value"),
        ("forgetful", "what was written to it is not there, or is another value"),
        ("hoarder", "what was deleted from it is still there"),
    ],
)
@pytest.mark.usefixtures("registries")
def test_what_may_be_wrong_with_a_tier_of_ones_own(write, fault, says):
    register_tier("odd", Odd)
    data, tiers = found(write(f'[[tiers]]\ntype = "odd"\nfault = "{fault}"\ndeadline = "20s"\n'), code=1)
    [problem] = data["problems"]
    assert says in problem
    if fault == "late":
        assert tiers["odd"]["notes"] == ["it has little room left: 1.0 MiB"]


def test_on_a_terminal_there_are_no_colours_where_they_are_not_wanted(write):
    path = write(THREE.format("redis", f"redis://127.0.0.1:{free_port()}/0"))
    code, shown = in_a_terminal("check", path, "--connect", NO_COLOR="1")
    assert code == 1
    assert "wrong" in shown
    assert not COLOUR.search(shown)  # as it has for `inspect`, in another test
