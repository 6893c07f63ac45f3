"""Tiers of others whose attributes have the names of ours and mean something else: nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from shell import run

from tiercache import TieredCache, registry
from tiercache.archive import export_archive
from tiercache.testing import DictTier

pytestmark = pytest.mark.usefixtures("registries")


class Lists(DictTier):
    def lengths(self, keys):
        return list(keys)


class Floats(DictTier):
    def lengths(self, keys):
        return dict.fromkeys(keys, 1.5)


class Raises(DictTier):
    def lengths(self, keys):
        raise OSError("no lengths today")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", [Lists, Floats, Raises])
def test_an_export_takes_all_whatever_a_tier_says_of_lengths(tmp_path, kind, nested):
    tier = kind("odd")
    with TieredCache([TieredCache([tier])] if nested else [tier]) as cache:
        cache.mset({f"k{number}": b"v" for number in range(5)})
        report = export_archive(cache, tmp_path / "a.tca")
    assert (report.entries, report.unread) == (5, 0)


class Named(DictTier):
    """Its attributes are texts, and its methods want arguments."""

    directory = "a folder"
    max_bytes = "1GB"
    max_entries = 5
    nonblocking = False

    def __init__(self):
        super().__init__("named")

    def shortage(self, of):
        return of


def test_commands_take_attributes_of_others_for_nothing(tmp_path):
    registry.register_tier("odd", Named)
    (tmp_path / "tiercache.toml").write_text('[[tiers]]\ntype = "odd"\n')
    where = "-c", tmp_path / "tiercache.toml"
    for arguments in (["check"], ["check", "--connect"], ["bench", "--seconds", "0.001", "--size", "9"]):
        done = run(*where, *arguments)
        assert done.code == 0, done.err
    assert "a tier of the class Named" in run(*where, "check").out


class Placed(DictTier):
    made: list[object] = []  # noqa: RUF012 - the test's record

    def __init__(self, path: str | Path = ""):
        super().__init__("placed")
        Placed.made.append(path)


@pytest.mark.parametrize("place", [":memory:", "s3://bucket/x"])
def test_what_is_no_path_is_left_as_it_is(place):
    registry.register_tier("placed", Placed)
    with TieredCache.from_config({"tiers": [{"type": "placed", "path": place}]}) as cache:
        assert Placed.made[-1] == place
        assert cache.config()["tiers"][0]["path"] == place


def test_a_folder_may_be_where_the_file_is(tmp_path):
    path = tmp_path / "tiercache.toml"
    path.write_text('"$folder" = "."\n[[tiers]]\ntype = "disk"\npath = "cache"\n')
    with TieredCache.from_config(path) as cache:
        cache.set("a", b"1")
    assert (tmp_path / "cache" / "cache.db").exists()
