"""`tiercache stats` on real processes: running, ended and killed; in a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import pythons
from shell import COMMAND, in_a_terminal, run

from tiercache import TieredCache

#: A process of an application: does what its stdin says, and shares what it counted soon after. The key is of
#: this process alone: what another writes meanwhile is not kept in memory, whose hits would be chance.
APPLICATION = """
import os, sys
from tiercache import TieredCache, _sharing

_sharing.SECONDS = 0.05
cache = TieredCache.from_config(sys.argv[1])
written = cache._stack.sharing.file.write

def write(record, *, seconds):
    written(record, seconds=seconds)
    print(record.stats["tiers"][0]["hits"], flush=True)

cache._stack.sharing.file.write = write
key = str(os.getpid())
cache.get_or_load(key, lambda _: b"value")
for line in sys.stdin:
    for _ in range(int(line)):
        cache.get(key)
cache.close()
"""
PLAIN = 'namespace = "app"\n[[tiers]]\ntype = "memory"\n[[tiers]]\ntype = "disk"\ndirectory = "cache"\n'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiercache.toml"
    path.write_text(PLAIN)
    return path


class Application:
    """A process that uses the cache."""

    def __init__(self, config):
        self.process = pythons.Popen(
            [sys.executable, "-c", APPLICATION, str(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @property
    def pid(self):
        return self.process.pid

    def hit(self, times):
        """Have it look up what it has in memory ``times`` times, and wait until that is written."""
        print(times, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if int(line) == times:
                return
        pytest.fail("it ended without having written")

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@contextmanager
def applications(config, count):
    started = [Application(config) for _ in range(count)]
    try:
        yield started
    finally:
        for one in started:
            one.process.kill()
            one.process.stdin.close()
            one.process.stdout.close()
            one.process.wait(60)


def told(*arguments):
    done = run("stats", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def test_two_running_processes_and_what_is_left_of_them(config):
    with applications(config, 2) as (one, two):
        one.hit(30)
        two.hit(12)
        report = told("-c", config)
        assert report["files"] == [str(config.parent / "cache" / "stats.db")]
        found = {process["pid"]: process for process in report["processes"]}
        assert {pid: process["state"] for pid, process in found.items()} == {
            one.pid: "running",
            two.pid: "running",
        }
        assert {process["cache"] for process in found.values()} == {"app"}
        assert found[one.pid]["stats"]["hits"] == 30
        assert found[two.pid]["stats"]["hits"] == 12
        for name in ("hits", "misses", "loads", "coalesced"):
            assert report["sum"][name] == sum(process["stats"][name] for process in found.values())
        memory, disk = report["sum"]["tiers"]
        assert (memory["name"], disk["name"]) == ("memory", "disk")
        assert memory["hits"] == 42
        assert memory["entries"] == 2
        assert report["saved"]["calls"] == report["sum"]["hits"]

        one.process.send_signal(signal.SIGKILL)
        one.process.wait(60)
        two.end()
        report = told(config)
        after = {process["pid"]: process for process in report["processes"]}
        assert {process["state"] for process in after.values()} == {"ended"}
        assert after[one.pid]["stats"] == found[one.pid]["stats"], "its last snapshot"
        assert report["sum"]["tiers"][0]["hits"] == 42
        assert report["sum"]["tiers"][0]["entries"] is None

    shown = run("stats", "-c", config).out
    lines = [line.split() for line in shown.splitlines()]
    assert lines[0] == ["process", "hits", "misses", "ratio", "loads", "sets", "evicted", "errors", "owed"]
    assert lines[1][:3] == ["all,", "0", "running"]
    assert [line[0] for line in lines[2:4]] == ["memory", "disk"]
    assert lines[2][1] == "42"
    for pid in (one.pid, two.pid):
        assert re.search(rf"^{pid} app, ended, \w+ ago ", shown, re.MULTILINE)
    assert re.search(r"^Calls saved: 42, about ", shown, re.MULTILINE)
    assert "\x1b" not in shown


def test_a_killed_process_that_nobody_waited_for_has_ended_too(config):
    with applications(config, 1) as (one,):
        one.hit(1)
        one.process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        assert [process["state"] for process in told("-c", config)["processes"]] == ["ended"]


def use(config, name=None):
    with TieredCache.from_config(config, name=name) as cache:
        cache.set("key", b"value")
        cache.get("key")


def test_the_file_can_be_the_configuration_the_statistics_or_the_directory(config, monkeypatch):
    use(config)
    folder = config.parent / "cache"
    monkeypatch.chdir(config.parent)
    reports = [
        told(*arguments) for arguments in ((), (config,), (folder / "stats.db",), (folder,), ("cache",))
    ]
    assert len({json.dumps(report) for report in reports}) == 1
    assert reports[0]["sum"]["hits"] == 1


def test_commands_are_not_counted(config):
    use(config)
    before = told("-c", config)
    assert run("-c", config, "get", "key").out == "value"
    assert run("-c", config, "set", "key", "other").code == 0
    assert told("-c", config) == before


def test_all_caches_of_a_file_or_one(config):
    config.write_text(
        '[caches.one]\nstats_file = "one.db"\ntiers = [{type = "memory"}]\n'
        '[caches.two]\nstats_file = "two.db"\ntiers = [{type = "memory"}]\n'
    )
    for name in ("one", "two", "two"):
        use(config, name)
    assert told("-c", config)["sum"]["hits"] == 3
    report = told("-c", config, "--cache", "two")
    assert (report["sum"]["hits"], len(report["processes"])) == (2, 2)


def test_the_caches_of_one_process_are_told_apart_by_their_names(config):
    one = '[caches.{}]\nnamespace = "app"\nstats_file = "shared.db"\ntiers = [{{type = "memory"}}]\n'
    config.write_text(one.format("users") + one.format("pages"))
    for name in ("users", "pages"):
        use(config, name)
    assert {process["cache"] for process in told("-c", config)["processes"]} == {"users", "pages"}
    shown = run("stats", "-c", config).out
    for name in ("users", "pages"):
        assert re.search(rf"^\d+ {name}, ended", shown, re.MULTILINE)


def test_one_of_several_caches_that_share_a_directory(config):
    one = '[caches.{}]\nnamespace = "{}"\ntiers = [{{type = "disk", path = "shared"}}]\n'
    config.write_text(one.format("sessions", "s") + one.format("answers", "a") + one.format("idle", "i"))
    for name in ("sessions", "answers", "answers"):
        use(config, name)
    file = config.parent / "shared" / "stats.db"
    for place in (("-c", config), (file,), (file.parent,)):
        assert told(*place)["sum"]["hits"] == 3
        report = told(*place, "--cache", "answers")
        assert [process["cache"] for process in report["processes"]] == ["answers"] * 2
        assert report["sum"]["hits"] == 2
    done = run("stats", "-c", config, "--cache", "idle")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"tiercache: no process has shared its statistics of idle in {file} yet\n"


def test_what_is_no_file_of_statistics_is_told(config, tmp_path):
    for name in ("nowhere", "nowhere.db", "nowhere.toml"):
        done = run("stats", tmp_path / name)
        assert (done.code, done.out) == (1, "")
        assert done.err == f"tiercache: {tmp_path / name}: there is no such file or directory\n"
    with TieredCache.from_url(f"sqlite:///{tmp_path}/k.db") as cache:
        cache.set("key", b"value")
    done = run("stats", tmp_path / "k.db")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("k.db: it is a database of something else, and not of statistics\n")


def test_what_is_missing_is_told_with_exit_code_1(config, tmp_path):
    done = run("stats", "-c", config)
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(r"tiercache: no process has shared .*stats.db yet\n", done.err)
    done = run("stats", "-c", config, "--json")
    assert (done.code, json.loads(done.out)["processes"]) == (1, [])
    done = run("stats", tmp_path / "nowhere.toml")
    assert (done.code, done.out) == (1, "")
    assert "nowhere.toml" in done.err
    config.write_text('stats_file = "none"\n' + PLAIN)
    done = run("stats", "-c", config)
    assert (done.code, done.out) == (1, "")
    assert "shares no statistics" in done.err


def test_a_damaged_file_is_told_in_one_line(config):
    use(config)
    file = config.parent / "cache" / "stats.db"
    file.write_bytes(file.read_bytes()[:100] + b"\xff" * 5000)
    done = run("stats", "-c", config)
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(r"tiercache: .*stats.db: .*\n", done.err)
    use(config)
    assert told("-c", config)["sum"]["hits"] == 1


def test_secrets_are_not_shown(config):
    config.write_text(PLAIN + 'secret = "sesame-sesame-sesame"\n')
    use(config)
    for arguments in ((), ("--json",)):
        done = run("stats", "-c", config, *arguments)
        assert done.code == 0
        assert "sesame" not in done.out + done.err
    assert b"sesame" not in (config.parent / "cache" / "stats.db").read_bytes()


def test_on_a_terminal_there_are_colours(config):
    use(config)
    code, shown = in_a_terminal("stats", "-c", config)
    assert code == 0
    assert "app, ended" in shown
    assert "Calls saved: 1" in shown
    assert "\x1b[1m" in shown


@pytest.mark.parametrize("as_json", [False, True])
def test_watching_in_a_pipe_goes_on_until_ctrl_c(config, as_json):
    use(config)
    process = pythons.Popen(
        [*COMMAND, "stats", "-c", str(config), "--watch", *(["--json"] if as_json else [])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        for _ in range(1 if as_json else 2):
            if as_json:
                assert json.loads(process.stdout.readline())["sum"]["hits"] == 1
                continue
            lines = iter(process.stdout.readline, "\n")
            assert [line for line in lines if line.startswith("Calls saved")] == ["Calls saved: 1\n"]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "tiercache: interrupted\n")


def test_watching_on_a_terminal_redraws_and_ends_cleanly(config):
    use(config)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    process = pythons.Popen(
        [*COMMAND, "stats", "-c", str(config), "--watch"],
        env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while b"Calls saved: 1" not in shown:
            shown += os.read(ours, 65536)
        use(config)
        while b"Calls saved: 2" not in shown:  # drawn again, over the first
            shown += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        while b"tiercache: interrupted" not in shown:
            shown += os.read(ours, 65536)
    finally:
        if b"interrupted" not in shown:
            process.kill()
        os.close(ours)
        code = process.wait(60)
    assert code == 130
    assert shown.index(b"\x1b[?25l") < shown.rindex(b"\x1b[?25h"), "the cursor is there again"
    assert b"Traceback" not in shown
