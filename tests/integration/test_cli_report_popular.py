"""`tiercache report --popular`: keys that real processes have counted, named to who asks and to nobody
else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pythons
from servers.valkey import free_port
from shell import run

from tiercache import TieredCache
from tiercache.popular import digest

CONFIG = """
namespace = "shop"
popular = 1000
[[tiers]]
type = "memory"
[[tiers]]
type = "disk"
path = "hidden-folder"
"""
#: Reads the keys that it is told, as often as it is told; then it ends as it is told.
APPLICATION = """
import os, signal, sys
from tiercache import TieredCache

cache = TieredCache.from_config(sys.argv[1])
for number, (namespace, key, times) in enumerate(map(str.split, sys.argv[3:])):
    view = cache if namespace == "-" else cache.view(namespace)
    globals()[f"kept {number}"] = view
    for _ in range(int(times)):
        view.get_or_load(key, lambda key: key.encode())
cache.flush()
cache._stack.sharing.publish(5.0)
if sys.argv[2] == "close":
    cache.close()
elif sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
else:
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiercache.toml"
    path.write_text(CONFIG)
    return path


def application(config, how, *asked):
    return pythons.Popen(
        [sys.executable, "-c", APPLICATION, str(config), how, *asked],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(config, how, *asked):
    process = application(config, how, *asked)
    process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if how == "kill" else 0)


def told(*arguments, code=0):
    done = run("report", *arguments, "--json")
    assert done.code == code, done.err
    return json.loads(done.out)


def row(namespace, key, count, *, named=True):
    shown = key if named else None
    return {"namespace": namespace, "digest": digest(key), "count": count, "error": 0, "key": shown}


@pytest.fixture
def used(config):
    """A cache that processes have used which closed it, or were killed."""
    ended(config, "close", "- private-key 7", "pages front-page 40")
    ended(config, "kill", "- private-key 5", "- other-key 3", "a/b front-page 2")
    return config


def test_counts_of_processes_that_closed_were_killed_or_run_are_summed_and_named(used):
    running = application(used, "wait", "- private-key 10", "pages imprint 1")
    assert running.stdout.readline() == "ready\n"
    found = told(used, "--popular")["popular"]
    running.communicate(timeout=60)
    assert found == [
        row("shop/pages", "front-page", 40),
        row("shop", "private-key", 22),
        row("shop", "other-key", 3),
        row("shop/a/b", "front-page", 2),
        row("shop/pages", "imprint", 1),
    ]
    assert told(used, "--popular")["popular"] == found
    assert told(used, "--popular", "2")["popular"] == found[:2]


def test_keys_and_digests_are_told_to_nobody_who_did_not_ask(used):
    names = ("private-key", "front-page", "other-key")
    private = [*names, *map(digest, names)]
    assert told(used)["popular"] is None
    run("report", used, "--html", "page.html")
    shown = [
        *(run(*command).out for command in (("report", used), ("report", used, "--json"))),
        *(run(*command).out for command in (("stats", used), ("stats", used, "--json"))),
        Path("page.html").read_text(),
    ]
    for text in shown:
        assert "shop" in text
        assert not [one for one in private if one in text]
    kept = b"".join(path.read_bytes() for path in Path("hidden-folder").glob("stats.db*"))
    assert not [one for one in names if one.encode() in kept]
    assert digest("private-key").encode() in kept


def test_text_and_page_name_the_same_keys(used):
    text = run("report", used, "--popular", "3").out
    assert run("report", used, "--popular", "3", "--html", "page.html").code == 0
    page = Path("page.html").read_text()
    for piece in ("front-page", "private-key", "other-key", digest("private-key"), "shop/pages", "40", "12"):
        assert piece in text, piece
        assert piece in page, piece
    assert "a/b" not in text + page
    assert "Given most often" in page


def test_what_no_listing_names_is_told_by_its_digest(used):
    with TieredCache.from_config(used) as cache:
        cache.delete("private-key")
    by_digest = {one["digest"]: one["key"] for one in told(used, "--popular")["popular"]}
    assert by_digest[digest("private-key")] is None
    assert by_digest[digest("other-key")] == "other-key"
    assert {one["key"] for one in told(used, "--popular", "--count", "0")["popular"]} == {None}
    assert digest("private-key") in run("report", used, "--popular").out
    run("report", used, "--popular", "--html", "page.html")
    assert digest("private-key") in Path("page.html").read_text()


def test_nasty_keys_harm_neither_terminal_nor_page(config):
    nasty = ['</td><script>alert("1")</script>', "\x1b[31mred", "l" * 5000, "\ud800"]
    with TieredCache.from_config(config) as cache:
        for number, key in enumerate(nasty):
            for _ in range(10 - number):
                cache.get_or_load(key, lambda _key: b"1")
    assert [one["key"] for one in told(config, "--popular")["popular"]] == nasty
    text = run("report", config, "--popular").out
    assert "\\x1b[31mred" in text
    assert "\x1b" not in text
    assert "\\ud800" in text
    assert max(map(len, text.splitlines())) < 400
    run("report", config, "--popular", "--html", "page.html")
    page = Path("page.html").read_text()
    assert "<script" not in page
    assert "l" * 200 not in page


def test_as_many_entries_are_listed_as_was_asked(config):
    with TieredCache.from_config(config) as cache:
        cache.mset({f"key {number:02}": b"1" for number in range(50)})
        for number in range(50):
            cache.get(f"key {number:02}")
    named = [one for one in told(config, "--popular", "50", "--count", "10")["popular"] if one["key"]]
    assert len(named) == 10
    assert len([one for one in told(config, "--popular", "50")["popular"] if one["key"]]) == 50


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_tells_its_own_counts(config):
    cache = TieredCache.from_config(config)
    for _ in range(6):
        cache.get_or_load("private-key", lambda _key: b"1")
    assert cache.popular(1)[0].count == 6
    pid = os.fork()
    if not pid:
        try:
            for _ in range(2):
                cache.get("private-key")
            cache.close()
        except BaseException:  # noqa: BLE001 - a child must not go on with the tests
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert cache.popular(1)[0].count == 6
    cache.close()
    assert told(config, "--popular")["popular"] == [row("shop", "private-key", 8)]


def test_a_cache_that_counts_no_keys_is_told_how_to(config):
    config.write_text(CONFIG.replace("popular = 1000", ""))
    with TieredCache.from_config(config) as cache:
        cache.get_or_load("key", lambda _key: b"1")
    data = told(config, "--popular")
    assert data["popular"] == []
    assert any("set popular" in hint for hint in data["hints"])
    assert not any("set popular" in hint for hint in told(config)["hints"])
    assert "No popular keys are known" in run("report", config, "--popular").out
    run("report", config, "--popular", "--html", "page.html")
    assert "None are known" in Path("page.html").read_text()


def test_a_tier_that_is_down_costs_no_names_that_another_has(used):
    used.write_text(
        CONFIG + f'[[tiers]]\ntype = "redis"\nurl = "redis://user:hunter2@127.0.0.1:{free_port()}/0"\n'
    )
    data = told(used, "--popular", code=1)
    assert data["popular"][:2] == [row("shop/pages", "front-page", 40), row("shop", "private-key", 12)]
    assert len(data["problems"]) == 1
    only_named = told(used, "--popular", "--count", "0")
    assert [one["key"] for one in only_named["popular"]] == [None] * 4


def test_statistics_that_cannot_be_written_break_no_read(used):
    with TieredCache.from_config(used) as cache:
        Path("hidden-folder/stats.db").unlink()
        Path("hidden-folder/stats.db").mkdir()
        assert cache.get("private-key") == b"private-key"
        cache._stack.sharing.publish(5.0)
        assert cache.get("private-key") == b"private-key"
        assert cache.popular(1)[0].count == 2


@pytest.mark.parametrize("wrong", ["0", "1.5", "many"])
def test_a_wrong_number_is_told(used, wrong):
    done = run("report", used, "--popular", wrong)
    assert (done.code, done.out, "--popular" in done.err) == (2, "", True), done.err
