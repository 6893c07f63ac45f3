"""Exports of tiers that hold what they cannot open: told, and no good archive is lost for them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from shell import run

from tiercache import ConfigError, DiskTier, MemoryTier, SQLTier, TieredCache, TierError
from tiercache.archive import export_archive
from tiercache.testing import DictTier

OLD, NEW = "the old secret of all", "the new secret of all"


@pytest.fixture(params=["disk", "sql"])
def cache_with(request: pytest.FixtureRequest, tmp_path: Path):
    """Makes a cache over the same tier each time, with a secret."""

    def make(secret: str) -> TieredCache[bytes]:
        if request.param == "disk":
            return TieredCache([DiskTier(tmp_path / "cache", secret=secret)])
        return TieredCache([SQLTier(f"sqlite:///{tmp_path / 'cache.sqlite'}", secret=secret)])

    with make(OLD) as cache:
        cache.mset({"a": b"1", "b": b"2"})
    return make


def test_entries_of_another_secret_are_counted_and_a_good_archive_stays(cache_with, tmp_path):
    archive = tmp_path / "a.tca"
    with cache_with(OLD) as cache:
        export_archive(cache, archive)
    good = archive.read_bytes()
    with cache_with(NEW) as cache:
        cache.set("c", b"3")
        with pytest.raises(TierError, match="2 entries cannot be opened: damaged, or of another secret"):
            export_archive(cache, archive, replace=True)
        assert archive.read_bytes() == good
        report = export_archive(cache, tmp_path / "b.tca")
    assert (report.entries, report.unreadable) == (1, 2)


def test_what_another_tier_could_open_is_in_it(tmp_path):
    disk = DiskTier(tmp_path / "cache")
    with TieredCache([disk, SQLTier("sqlite://")]) as cache:
        cache.mset({"a": b"1", "b": b"2"})
        disk.store._write(lambda c: c.execute("UPDATE Cache SET value = zeroblob(20) WHERE tag LIKE '%a'"))
        export_archive(cache, tmp_path / "a.tca")
        report = export_archive(cache, tmp_path / "a.tca", replace=True)
    assert (report.entries, report.unreadable) == (2, 0)


class Unlisted(DictTier):
    scan = None


def test_a_tier_that_cannot_list_what_it_alone_may_hold_has_to_be_named(tmp_path):
    with TieredCache([MemoryTier(), DictTier("upper"), Unlisted("lowest")]) as cache:
        cache.set("a", b"1")
        with pytest.raises(ConfigError, match=r"tier 'lowest' cannot list its keys.*say which tier to copy"):
            export_archive(cache, tmp_path / "a.tca")
        assert not (tmp_path / "a.tca").exists()
        assert export_archive(cache, tmp_path / "a.tca", tier="upper").entries == 1


def test_the_command_fails_and_names_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", OLD)
    config = tmp_path / "tiercache.toml"
    config.write_text('[[tiers]]\ntype = "disk"\npath = "cache"\nsecret = "${SECRET}"\n')
    assert run("-c", config, "set", "a", "1").code == 0
    assert run("-c", config, "export", tmp_path / "a.tca").code == 0
    good = (tmp_path / "a.tca").read_bytes()
    monkeypatch.setenv("SECRET", NEW)
    forced = run("-c", config, "export", tmp_path / "a.tca", "--force")
    assert forced.code == 1
    assert "1 entry cannot be opened: damaged, or of another secret or a newer version" in forced.err
    assert f"{tmp_path / 'a.tca'} is as it was" in forced.err
    assert (tmp_path / "a.tca").read_bytes() == good
    done = run("-c", config, "export", tmp_path / "b.tca")
    assert done.code == 1
    assert "0 entries exported" in done.err
    assert "1 entry cannot be opened, and not be copied" in done.err


def test_a_damaged_entry_is_told_once_and_the_others_are_copied(tmp_path):
    with TieredCache([SQLTier(f"sqlite:///{tmp_path / 'cache.sqlite'}")]) as cache:
        cache.mset({"a": b"1" * 100, "b": b"2" * 100})
        with closing(sqlite3.connect(tmp_path / "cache.sqlite", isolation_level=None)) as connection:
            connection.execute(
                "UPDATE tiercache SET value = CAST(replace(value, x'3131', x'3130') AS BLOB)"
                " WHERE instr(value, x'3131')"
            )
        report = export_archive(cache, tmp_path / "a.tca")
        assert (report.entries, report.unreadable) == (1, 1)
        assert export_archive(cache, tmp_path / "a.tca", replace=True).entries == 1  # it is dropped by now
