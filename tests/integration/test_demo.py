"""`tiercache demo` as its users run it: the real model, real processes, a real server, a real Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest
import pythons
from servers.valkey import free_port
from shell import COLOUR, in_a_terminal

from tiercache import DiskTier, SQLTier, TieredCache
from tiercache.cli._model import LocalEmbeddings
from tiercache.cli._passes import BATCH, CODEC, key_of
from tiercache.cli._texts import chunked, python_documentation

DEMO = [sys.executable, "-m", "tiercache.cli", "demo"]
#: The same in a process that cannot connect to anything, nor ask for the address of it.
OFFLINE = """
import sys
from tiercache.cli import main

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise AssertionError(f"{event} {arguments}")

sys.addaudithook(refuse)
sys.exit(main())
"""


def run(*arguments, command=DEMO, **variables):
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    return pythons.run(
        [*command, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )


def run_json(*arguments, code=0, **options):
    done = run("--json", *arguments, **options)
    assert done.returncode == code, done.stderr
    if code == 0:
        assert done.stderr == ""
    return json.loads(done.stdout)


def by_name(report):
    return {one["name"]: one for one in report["passes"]}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The report of one run, made without a network, and the folder that its temporary ones were in."""
    folder = tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-c", OFFLINE, "demo"]
    return run_json("--limit", BATCH + 1, command=command, TMPDIR=folder), folder


def test_each_pass_finds_everything_in_its_tier(demo):
    report, _ = demo
    n = report["chunks"]
    assert n == BATCH + 1
    assert [one["name"] for one in report["passes"]] == ["cold", "warm", "new process", "other machine"]
    assert {
        one["name"]: (one["hits"], one["promotions"], one["model_calls"]) for one in report["passes"]
    } == {
        "cold": ({"memory": 0, "disk": 0, "sql": 0}, {"memory": 0, "disk": 0, "sql": 0}, n),
        "warm": ({"memory": n, "disk": 0, "sql": 0}, {"memory": 0, "disk": 0, "sql": 0}, 0),
        "new process": ({"memory": 0, "disk": n, "sql": 0}, {"memory": n, "disk": 0, "sql": 0}, 0),
        "other machine": ({"memory": 0, "disk": 0, "sql": n}, {"memory": n, "disk": n, "sql": 0}, 0),
    }


def test_speed_ups_follow_from_the_seconds(demo):
    report, _ = demo
    cold = report["passes"][0]
    assert report["speed_up_is"] == "measured"
    for one in report["passes"]:
        assert one["seconds"] > 0
        assert one["speed_up"] == pytest.approx(cold["seconds"] / one["seconds"])
    assert report["saved"]["model_calls"] == 3 * (BATCH + 1)
    assert report["saved"]["model_seconds"] > 0


def test_the_vectors_are_the_models_own(demo):
    report, _ = demo
    assert report["bit_identical"] is True
    assert report["comparison"] == {"with_model": BATCH + 1, "wrong_topics": [], "wrong_passes": []}
    assert len({one["digest"] for one in report["passes"]}) == 1


def test_two_questions_are_answered(demo):
    report, _ = demo
    assert len(report["answers"]) == 2
    texts = {chunk.text: chunk.topic for chunk in chunked(python_documentation(), BATCH + 1)}
    for answer in report["answers"]:
        assert texts[answer["text"]] == answer["topic"]
        assert 0 < answer["score"] <= 1


def test_nothing_is_left_behind(demo):
    report, folder = demo
    assert report["directory"] is None
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def on_a_terminal(tmp_path_factory):
    """What a run with ``--dir`` shows on a terminal, and the folder that it left."""
    folder = tmp_path_factory.mktemp("parent") / "kept"
    code, shown = in_a_terminal("demo", "--limit", 4, "--dir", folder, NO_COLOR="")
    assert code == 0, shown
    return shown, folder


@pytest.fixture(scope="module")
def kept(on_a_terminal):
    """A folder that a run with ``--dir`` left."""
    _, folder = on_a_terminal
    return folder


@pytest.fixture
def copy_of_kept(kept, tmp_path):
    return Path(shutil.copytree(kept, tmp_path / "kept"))


@pytest.mark.long
def test_a_second_run_begins_where_the_first_one_ended(copy_of_kept):
    report = run_json("--limit", 6, "--dir", copy_of_kept)
    first = by_name(report)["cold"]
    assert (first["hits"], first["model_calls"]) == ({"memory": 0, "disk": 4, "sql": 0}, 2)
    assert report["speed_up_is"] == "estimated"
    assert report["bit_identical"] is True


@pytest.mark.long
def test_a_vector_that_is_not_the_models_is_exit_code_1(copy_of_kept):
    """One on the disk is told from the model's, and one in SQL from what the first pass gave."""
    texts = [chunk.text for chunk in chunked(python_documentation(), 4)]
    tiers = [DiskTier(copy_of_kept / "disk"), SQLTier(f"sqlite:///{copy_of_kept}/shared.sqlite")]
    for tier, text in zip(tiers, texts[1:3], strict=True):
        with TieredCache([tier], namespace="tiercache-demo/kept", codec=CODEC) as cache:
            vector = cache.get(key_of(text, LocalEmbeddings()))
            vector[7] += 1e-6
            cache.set(key_of(text, LocalEmbeddings()), vector)
    done = run("--limit", 4, "--dir", copy_of_kept)
    assert done.returncode == 1
    assert "disagree over 1 of 4 vectors" in done.stderr
    assert "the pass 'other machine' gave other vectors" in done.stderr
    assert "'new process'" not in done.stderr  # it reads the same disk
    assert done.stderr.count("\n") == 2
    assert "Bit-identical" not in done.stdout


@pytest.mark.long
def test_ones_own_text_and_questions_in_a_pipe(tmp_path):
    """Plain text, also where the letters of the text cannot be written; brackets and colons mean nothing."""
    (tmp_path / "fruit.md").write_text("Bananas are yellow and grow in bunches on tall plants.")
    (tmp_path / "sea.txt").write_text("The “lighthouse” — [built] to warn ships of the reef :ship:.")
    done = run("--text", tmp_path, "--question", "What keeps boats safe?", "--question", "What can I eat?",
               PYTHONIOENCODING="ascii")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "2 chunks from 2 documents" in done.stdout
    rows = done.stdout.replace("|", " ")
    assert re.search(r" warm +2 +0 +0 +0 +0 ", rows)
    assert re.search(r" other machine +0 +0 +2 +4 +0 ", rows)
    answers = re.search(r"boats safe\?\n +(\S+) .*\n +(.*\S) *\n.*eat\?\n +(\S+) .*\n", done.stdout)
    assert answers, done.stdout
    assert answers.groups() == (
        "sea.txt", "The ?lighthouse? ? [built] to warn ships of the reef :ship:.", "fruit.md"
    )  # fmt: skip


@pytest.mark.long
def test_redis_as_the_lowest_tier(valkey):
    valkey.flush()
    passes = by_name(run_json("--limit", 4, "--redis", valkey.url))
    assert passes["cold"]["model_calls"] == 4
    assert passes["other machine"]["hits"] == {"memory": 0, "disk": 0, "redis": 4}
    assert passes["other machine"]["promotions"] == {"memory": 4, "disk": 4, "redis": 0}
    with valkey.client() as client:
        assert client.dbsize() == 0  # what is temporary is taken out of the server again


def test_a_server_that_does_not_answer_is_told_at_once(tmp_path):
    done = run("--redis", f"redis://user:secret@127.0.0.1:{free_port()}/0", "--limit", 4, TMPDIR=tmp_path)
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def wait_until_stored(folder, process):
    """Until the SQL tier has a second batch, so that every tier has the first."""
    end = monotonic() + 60
    while monotonic() < end and process.poll() is None:
        for database in folder.glob("tiercache-demo-*/shared.sqlite"):
            with suppress(sqlite3.OperationalError), closing(sqlite3.connect(database)) as connection:
                if connection.execute("SELECT count(*) FROM tiercache").fetchone()[0] > BATCH:
                    return
        sleep(0.01)
    pytest.fail(f"nothing was stored; exit code {process.poll()}")


@pytest.mark.long
def test_ctrl_c_leaves_a_usable_cache(tmp_path):
    process = pythons.Popen(
        DEMO,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_stored(tmp_path, process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    line = re.fullmatch(
        r"tiercache: interrupted; (\d+) new vectors are kept[^:]*: (.+ -m tiercache demo .*--dir .+)\n", said
    )
    assert line, said
    stored = int(line[1])
    assert stored >= BATCH

    # What the line says to type works, and goes on from there. The batch that was being written when the
    # signal came may have reached some tiers, uncounted.
    command = shlex.split(line[2])
    report = run_json("--limit", stored + 1, command=command)
    assert report["speed_up_is"] == "estimated"
    assert report["bit_identical"] is True
    first = by_name(report)["cold"]
    assert first["hits"]["disk"] >= BATCH
    assert first["model_calls"] in (0, 1)
    assert sum(first["hits"].values()) + first["model_calls"] == stored + 1


@pytest.mark.long
def test_a_terminal_gets_progress_bars_and_colours(on_a_terminal):
    shown, folder = on_a_terminal
    assert COLOUR.search(shown)
    assert len(re.findall("4/4", shown)) >= 4  # a bar for each pass
    assert "other machine" in shown
    assert "speed-up" in shown
    assert f"is kept in {folder}" in shown


@pytest.mark.long
def test_no_color_is_respected_and_what_a_server_got_is_kept(valkey, tmp_path):
    code, shown = in_a_terminal("demo", "--limit", 4, "--redis", valkey.url, "--dir", tmp_path, NO_COLOR="1")
    assert code == 0
    assert "4/4" in shown
    assert not COLOUR.search(shown)
    with valkey.client() as client:
        assert client.dbsize() == 4
