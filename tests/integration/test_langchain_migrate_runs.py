"""Migrations that end early, go on, meet tiers that are ill or too small; what they show and report."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest
import pythons
from langchain_classic.storage import LocalFileStore
from langchain_sources import Model, bytes_of, fill, texts

from tiercache import DiskTier, MemoryTier, TieredCache, WriteError
from tiercache.integrations.langchain import TieredByteStore
from tiercache.integrations.langchain.embeddings import CachedEmbeddings
from tiercache.integrations.langchain.migrate import MigrationReport, Skipped, from_local_files
from tiercache.testing import DictTier

COUNT = 60


@pytest.fixture
def old(tmp_path):
    fill(LocalFileStore(tmp_path / "old"), COUNT)
    return tmp_path / "old"


# -- ended early -----------------------------------------------------------------------------------

MIGRATE = """
import sys
from tiercache import DiskTier, TieredCache
from tiercache.integrations.langchain.embeddings import CachedEmbeddings
from tiercache.integrations.langchain.migrate import from_local_files

class Stopping(CachedEmbeddings):
    batches = 0
    def adopt(self, items, **options):
        result = super().adopt(items, **options)
        self.batches += 1
        if self.batches == 3:
            print("three", flush=True)
            sys.stdin.readline()
        return result

class NoModel:
    def embed_documents(self, texts):
        raise AssertionError("what is moved is not embedded again")

    embed_query = embed_documents

cache = TieredCache([DiskTier(sys.argv[2])])
target = Stopping(NoModel(), cache, namespace="ada", key_encoder="sha256")
from_local_files(sys.argv[1], target, prefix="ada-", batch_size=10, progress=False)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_migration_goes_on_where_it_ended(how, old, tmp_path):
    before = bytes_of(old)
    process = pythons.Popen(
        [sys.executable, "-c", MIGRATE, str(old), str(tmp_path / "new")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "three\n"
        process.send_signal(how)
        process.wait(60)
    assert process.returncode != 0

    model = Model()
    with TieredCache([MemoryTier(), DiskTier(tmp_path / "new")]) as cache:
        cached = CachedEmbeddings(model, cache, namespace="ada", key_encoder="sha256")
        report = from_local_files(old, cached, prefix="ada-", batch_size=10, progress=False)
        assert (report.copied, report.already_there, report.skipped) == (COUNT - 30, 30, ())
        assert cached.embed_documents(texts(COUNT)) == Model().embed_documents(texts(COUNT))
    assert model.calls == 0
    assert bytes_of(old) == before


def test_no_more_than_a_batch_is_in_memory(old):
    sizes = []

    with TieredCache([MemoryTier()]) as cache:
        mset, mget = cache.mset, cache.mget
        cache.mset = lambda items: sizes.append(len(items)) or mset(items)
        cache.mget = lambda keys: sizes.append(len(keys)) or mget(keys)
        from_local_files(old, TieredByteStore(cache), batch_size=7, progress=False)
    assert max(sizes) == 7
    assert sum(sizes) == 2 * COUNT


# -- tiers -----------------------------------------------------------------------------------------


class Ill(DictTier):
    """Takes two writes and no more."""

    def __init__(self):
        super().__init__("ill")
        self.writes = 0

    def mset(self, entries):
        self.writes += 1
        if self.writes > 2:
            raise OSError("no room")
        super().mset(entries)

    def close(self):
        """It is used again."""


def test_what_memory_alone_took_is_not_copied(old):
    ill = Ill()
    with TieredByteStore(TieredCache([MemoryTier(), ill])) as store:
        with pytest.raises(WriteError, match=r"the tier 'ill' takes no writes.*run it again"):
            from_local_files(old, store, batch_size=10, progress=False)
        assert len(ill.entries) == 20
    with TieredByteStore(TieredCache([MemoryTier(), ill])) as store:
        ill.writes = -100
        report = from_local_files(old, store, batch_size=10, progress=False)
        assert (report.copied, report.already_there) == (COUNT - 20, 20)


@pytest.mark.parametrize("upper", [[], [MemoryTier]], ids=["alone", "under memory"])
def test_what_is_larger_than_the_lowest_tier_is_skipped(upper, tmp_path):
    files = LocalFileStore(tmp_path / "old")
    files.mset([(f"small/{n}", b"v") for n in range(10)] + [("large/1", bytes(200_000))])
    disk = DiskTier(tmp_path / "new", max_bytes="100KiB")
    with TieredByteStore(TieredCache([*(tier() for tier in upper), disk])) as store:
        report = from_local_files(tmp_path / "old", store, progress=False)
        assert report.copied == 10
        assert report.skipped == (Skipped("larger than the whole tier 'disk'", 1, ("large/1",)),)
        assert store.mget(["small/3"]) == [b"v"]


def test_what_pushed_others_out_is_told(old):
    with TieredByteStore(TieredCache([MemoryTier(max_entries=10)])) as store:
        report = from_local_files(old, store, batch_size=10, progress=False)
        assert (report.copied, report.evicted) == (COUNT, COUNT - 10)
        assert "too small" in str(report)


# -- what it shows ---------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def store():
    with TieredByteStore(TieredCache([MemoryTier()])) as store:
        yield store


def test_lines_where_there_is_no_terminal(old, store, capsys):
    from_local_files(old, store, batch_size=10)
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0] == f"LocalFileStore {old}: 10 of 60 keys"
    assert lines[-1] == f"LocalFileStore {old}: 60 of 60 keys"
    assert len(lines) == 6


def test_a_line_where_there_is_nothing_to_do(tmp_path, store, capsys):
    (tmp_path / "empty").mkdir()
    report = from_local_files(tmp_path / "empty", store)
    assert report.copied == 0
    assert capsys.readouterr().err.endswith(": 0 of 0 keys\n")


def test_a_bar_on_a_terminal(old, store, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    from_local_files(old, store, batch_size=10)
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", sys.stderr.getvalue())
    assert f"LocalFileStore {old}" in shown
    assert "60/60" in shown


def test_nothing_where_it_is_not_wanted(old, store, capsys, monkeypatch):
    from_local_files(old, store, progress=False)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    from_local_files(old, store, progress=False)
    assert sys.stderr.getvalue() == ""


# -- the report ------------------------------------------------------------------------------------


def test_the_report_as_text_and_data(tmp_path, store):
    files = LocalFileStore(tmp_path / "old")
    files.mset([(f"b/{n}", b"v") for n in range(1200)] + [("a/1", b"v"), ("a/2", b"v")])
    store.mset([("a/1", b"v")])
    report = from_local_files(tmp_path / "old", store, prefix="a/", progress=False)
    (skipped,) = report.skipped
    assert (skipped.reason, skipped.count, len(skipped.keys)) == ("another prefix", 1200, 100)
    assert report.skipped_count == 1200
    with pytest.raises(FrozenInstanceError):
        report.copied = 7
    data = json.loads(json.dumps(report.as_dict()))
    assert data["copied"] == data["already_there"] == 1
    assert data["skipped"][0]["reason"] == "another prefix"
    assert data["seconds"] > 0


def test_the_table_of_a_report():
    skipped = Skipped("corrupt JSON", 1200, ("k\n1", "k2", "k3", "k4")), Skipped("no vector", 1, ("v",))
    assert str(MigrationReport("SQLStore x", 12_345, 6, skipped, 7, 1.25)).splitlines() == [
        "SQLStore x, 1.2 s",
        "----------------------",
        "copied          12,345",
        "already there        6",
        "skipped          1,201",
        "  corrupt JSON   1,200  'k\\n1', 'k2', 'k3', …",
        "  no vector          1  'v'",
        "evicted              7  the target is too small for all of them",
    ]
