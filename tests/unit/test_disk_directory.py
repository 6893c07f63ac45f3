"""The directory of a disk tier: made private, recognised, or refused with cause and cure."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
import pythons
from absent import said_without
from rights import obeying_rights

from tiercache.entry import Entry
from tiercache.errors import ConfigError, TierUnavailable
from tiercache.tiers.disk import DiskTier
from tiercache.tiers.disk._directory import _unusable
from tiercache.tiers.disk._engine import diskcache

AS_NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_makes_folder_and_parents_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        tier = DiskTier(tmp_path / "a" / "b")
        tier.mset({"k": Entry(b"v")})
    finally:
        os.umask(before)
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700
    files = {path.name: mode(path) for path in (tmp_path / "a" / "b").iterdir()}
    assert files.keys() >= {"cache.db", "cache.db-wal", "cache.db-shm", "tiercache.json"}
    assert set(files.values()) == {0o600}
    tier.close()


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    DiskTier("~/x/y").close()
    assert (tmp_path / "x" / "y" / "tiercache.json").exists()


def test_our_own_folder_is_tightened(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path / "c")
    tier.mset({"k": Entry(b"v")})
    tier.close()
    (tmp_path / "c").chmod(0o755)
    (tmp_path / "c" / "cache.db").chmod(0o644)
    tier = DiskTier(tmp_path / "c")
    assert mode(tmp_path / "c") == 0o700
    assert mode(tmp_path / "c" / "cache.db") == 0o600
    assert tier.mget(["k"])["k"].value == b"v"
    tier.close()


def test_no_right_that_was_taken_away_is_given_back(tmp_path: Path) -> None:
    DiskTier(tmp_path).close()
    (tmp_path / "tiercache.json").chmod(0o444)
    tmp_path.chmod(0o555)
    with suppress(ConfigError):  # which root is not told: it may write all the same
        DiskTier(tmp_path).close()
    assert (mode(tmp_path), mode(tmp_path / "tiercache.json")) == (0o500, 0o400)


def test_file_instead_of_directory(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(ConfigError, match="is a file, not a directory"):
        DiskTier(tmp_path / "f")
    with pytest.raises(ConfigError, match="a file, not a directory"):
        DiskTier(tmp_path / "f" / "below")


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_symbolic_link(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(ConfigError, match="symbolic link"):
        DiskTier(tmp_path / "link")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("name", ["cache.db", "cache.db-wal", "tiercache.json"])
def test_a_link_under_the_name_of_one_of_our_files(tmp_path: Path, name: str) -> None:
    DiskTier(tmp_path / "cache").close()
    victim = tmp_path / "victim"
    victim.write_text("{}")
    victim.chmod(0o644)
    (tmp_path / "cache" / name).unlink(missing_ok=True)
    (tmp_path / "cache" / name).symlink_to(victim)
    with pytest.raises(ConfigError, match=f"{name} is no plain file"):
        DiskTier(tmp_path / "cache")
    assert stat.S_IMODE(victim.stat().st_mode) == 0o644


def test_foreign_directory_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match=r"not made by tiercache \(it holds 'photo.jpg'\)"):
        DiskTier(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    assert mode(tmp_path) == 0o755


def test_somebody_elses_diskcache_is_foreign(tmp_path: Path) -> None:
    with diskcache.Cache(str(tmp_path / "d")) as theirs:
        theirs["k"] = {"any": "object"}
    with pytest.raises(ConfigError, match="not made by tiercache"):
        DiskTier(tmp_path / "d")


def test_unknown_layout(tmp_path: Path) -> None:
    (tmp_path / "tiercache.json").write_bytes(b'{"format": 2}')
    with pytest.raises(ConfigError, match=r"layout 2, .* upgrade tiercache-framework"):
        DiskTier(tmp_path)


@pytest.mark.parametrize("marker", [b"", b"[]", b"\xff", b"{}", b'{"format": null}', b'{"format": "1"}'])
def test_damaged_marker(tmp_path: Path, marker: bytes) -> None:
    (tmp_path / "tiercache.json").write_bytes(marker)
    with pytest.raises(ConfigError, match=r"tiercache\.json, .* is damaged; delete the directory to start"):
        DiskTier(tmp_path)
    assert (tmp_path / "tiercache.json").read_bytes() == marker


def test_marker_names_the_layout(tmp_path: Path) -> None:
    DiskTier(tmp_path).close()
    assert json.loads((tmp_path / "tiercache.json").read_bytes()) == {"made_by": "tiercache", "format": 1}


def refused(path: Path, **options: object) -> str:
    """What is said of a directory that this user cannot have."""

    def refusal() -> str:
        with pytest.raises(ConfigError) as caught:
            DiskTier(path, **options)  # type: ignore[arg-type]  # pytest.raises takes anything
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - a process pool hands errors on so
        assert str(again) == str(caught.value)
        return str(again)

    return obeying_rights(refusal)


def test_what_to_do_depends_on_what_is_wrong(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    DiskTier(closed).close()
    kept = tmp_path / "kept"
    DiskTier(kept / "cache").close()
    for folder in (closed, kept):
        folder.chmod(0o500)
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    temporary = '; or set on_unusable="temporary"'
    assert refused(kept / "new") == (
        f"DiskTier: the directory {kept / 'new'} cannot be used (Permission denied): give this user the "
        f"right to write there, or choose another{temporary}"
    )
    assert refused(tmp_path / "a" / "x").endswith(
        "links on the way to it lead in a circle; mend them, or choose another" + temporary
    )
    assert "(File name too long): choose one with a shorter name" in refused(tmp_path / ("x" * 300))
    assert "no directory can be made there; choose another" in refused(Path("/proc/none"))
    (kept / "cache" / "tiercache.json").chmod(0)
    assert "the right to read there" in refused(kept / "cache", read_only=True)


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EROFS, "mount its file system for writing, or choose one on another"),
        (errno.ENOSPC, "make room on that disk, or choose a directory on another"),
        (errno.EDQUOT, "make room in this user's quota"),
        (errno.EIO, "cannot be used (Input/output error): choose another; or set on_unusable"),
    ],
)
def test_what_to_do_where_a_disk_is_wrong(tmp_path: Path, number: int, cure: str) -> None:
    told = str(_unusable(tmp_path, OSError(number, os.strerror(number)), read_only=False))
    assert cure in told
    assert "read_only" not in told  # there is nothing to read
    DiskTier(tmp_path).close()
    told = str(_unusable(tmp_path, OSError(number, os.strerror(number)), read_only=False))
    assert told.endswith('; or set read_only, to use what it holds, or on_unusable="temporary"')


def test_a_database_that_this_user_may_not_open(tmp_path: Path) -> None:
    with closing(DiskTier(tmp_path)) as tier:
        tier.mset({"k": Entry(b"v")})
    (tmp_path / "cache.db").chmod(0)
    for options, what in (({}, "read and write"), ({"read_only": True}, "read")):
        with (
            closing(DiskTier(tmp_path, **options)) as tier,
            pytest.raises(TierUnavailable, match=rf"may not {what} \S*cache.db: give it the right"),
        ):
            obeying_rights(partial(tier.mget, ["k"]))


def test_a_directory_that_may_not_be_written_is_not_said_to_be_set_so(tmp_path: Path) -> None:
    with closing(DiskTier(tmp_path)) as tier:
        tmp_path.chmod(0o500)
        with pytest.raises(TierUnavailable, match="cannot be written by this user, and is only read until"):
            obeying_rights(partial(tier.mset, {"k": Entry(b"v")}))


def test_a_bound_that_the_whole_disk_is_too_small_for_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    total = shutil.disk_usage(tmp_path).total
    DiskTier(tmp_path / "a", max_bytes=total).close()
    DiskTier(tmp_path / "b").close()  # the default is no promise that there is so much
    with closing(DiskTier(tmp_path / "b", max_bytes=total + 1, read_only=True)) as reader:
        assert reader.shortage() == ""
    assert caplog.records == []
    with closing(DiskTier(tmp_path / "c", max_bytes=total + 1)) as tier:
        (record,) = caplog.records
        assert record.name == "tiercache.disk"
        assert record.getMessage() == tier.shortage()
        assert record.getMessage().startswith(f"the whole disk of {tmp_path / 'c'} has ")


def test_no_temporary_directory_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    monkeypatch.setattr(tempfile, "tempdir", str(closed))
    told = refused(closed / "cache", on_unusable="temporary")
    assert "no temporary one can be made (Permission denied): let TMPDIR name a directory" in told
    assert "on_unusable" not in told


@pytest.mark.parametrize("path", ["", "a\0b", 3, None, b"x", "~no-such-user-here/x"])
def test_no_path(path: object) -> None:
    with pytest.raises(ConfigError, match=r"DiskTier\.path"):
        DiskTier(path)  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_bytes": "huge"}, r"DiskTier\.max_bytes"),
        ({"max_bytes": 0}, r"DiskTier\.max_bytes"),
        ({"max_entries": 0}, r"DiskTier\.max_entries"),
        ({"max_entries": True}, r"DiskTier\.max_entries"),
        ({"ttl": -1}, r"DiskTier\.ttl"),
        ({"ttl": float("nan")}, r"DiskTier\.ttl"),
        ({"deadline": 0}, r"DiskTier\.deadline"),
        ({"durability": "eternal"}, r'give "process" or "power"'),
        ({"on_unusable": "shrug"}, r'give "error" or "temporary"'),
    ],
)
def test_wrong_arguments_touch_nothing(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DiskTier(tmp_path / "d", **options)  # type: ignore[arg-type]  # that is the test
    assert not (tmp_path / "d").exists()


def test_read_only_needs_a_cache_to_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        DiskTier(tmp_path / "d", read_only=True)
    assert not (tmp_path / "d").exists()
    (tmp_path / "d").mkdir()
    with pytest.raises(ConfigError, match="holds no cache to read"):
        DiskTier(tmp_path / "d", read_only=True)


def test_read_only_reads_and_refuses_writes(tmp_path: Path) -> None:
    writer = DiskTier(tmp_path / "d")
    writer.mset({"k": Entry(b"v"), "l": Entry(b"w")})
    reader = DiskTier(tmp_path / "d", read_only=True)
    assert {key: entry.value for key, entry in reader.mget(["k", "l", "m"]).items()} == {"k": b"v", "l": b"w"}
    assert sorted(reader.scan("")[0]) == ["k", "l"]
    for write in (
        lambda: reader.mset({"k": Entry(b"x")}),
        lambda: reader.mdelete(["k"]),
        lambda: reader.clear(""),
    ):
        with pytest.raises(TierUnavailable, match="because the tier is set read_only"):
            write()
    assert writer.mget(["k"])["k"].value == b"v"
    reader.close()
    writer.close()


def as_nobody(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as a user without rights, after imports for which it may lack them."""
    prologue = f"""
import encodings.idna, os, shutil, sqlite3, sys, tempfile, warnings
from tiercache.entry import Entry
from tiercache.errors import ConfigError
from tiercache.tiers.disk import DiskTier
os.setgroups([]); os.setgid({AS_NOBODY}); os.setuid({AS_NOBODY})
"""
    command = [sys.executable, "-c", prologue + code, *arguments]
    return pythons.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A folder that other users can reach: pytest's own are private, from the user's folder down."""
    for folder in (tmp_path, *tmp_path.parents[:3]):  # one more where tests run on several processors
        if folder.stat().st_uid == os.getuid() and "pytest-" in str(folder):
            folder.chmod(0o755)
    for folder in tmp_path.parents:
        if not folder.stat().st_mode & stat.S_IXOTH:  # not ours to open
            pytest.skip(f"other users cannot reach what lies in {folder}; let TMPDIR name an open folder")
    return tmp_path


@needs_root
def test_directory_of_another_user(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.chown(tmp_path / "d", AS_NOBODY, AS_NOBODY)
    with pytest.raises(ConfigError, match="belongs to another user"):
        DiskTier(tmp_path / "d")
    assert list((tmp_path / "d").iterdir()) == []


@needs_root
def test_directory_that_cannot_be_written(open_path: Path) -> None:
    code = """
try:
    DiskTier(sys.argv[1])
except ConfigError as error:
    print(error)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    tier = DiskTier(sys.argv[1], on_unusable="temporary")
    (warning,) = caught
    print(warning.category.__name__, str(tier.directory) in str(warning.message), warning.filename)
tier.mset({"k": Entry(b"v")})
print(tier.mget(["k"])["k"].value, oct(tier.directory.stat().st_mode & 0o777))
tier.close()
print(tier.directory.exists())
"""
    done = as_nobody(code, str(open_path / "d"))
    assert done.returncode == 0, done.stderr
    refusal, warned, stored, left = done.stdout.splitlines()
    assert "Permission denied" in refusal
    assert 'on_unusable="temporary"' in refusal
    assert warned == "RuntimeWarning True <string>"
    assert stored == "b'v' 0o700"
    assert left == "False"


@needs_root
def test_read_only_in_a_directory_that_cannot_be_written(open_path: Path) -> None:
    tier = DiskTier(open_path / "d")
    tier.mset({"k": Entry(b"v")})
    tier.close()
    for path in (open_path / "d", *(open_path / "d").iterdir()):
        os.chown(path, AS_NOBODY, AS_NOBODY)
        path.chmod(0o500 if path.is_dir() else 0o400)
    code = """
print(DiskTier(sys.argv[1], read_only=True).mget(["k"])["k"].value)
try:
    DiskTier(sys.argv[1])
except ConfigError as error:
    print("refused")
"""
    done = as_nobody(code, str(open_path / "d"))
    assert done.returncode == 0, done.stderr
    # A folder of ours is put in order, which gives its owner the right to write again.
    assert done.stdout.splitlines()[0] == "b'v'"


@needs_root
def test_read_only_in_a_directory_that_cannot_be_read(open_path: Path) -> None:
    DiskTier(open_path / "d").close()
    (open_path / "d").chmod(0o000)
    os.chown(open_path / "d", AS_NOBODY, AS_NOBODY)
    code = """
try:
    DiskTier(sys.argv[1], read_only=True)
except ConfigError as error:
    print(error)
"""
    done = as_nobody(code, str(open_path / "d"))
    assert done.returncode == 0, done.stderr
    assert "the right to read there" in done.stdout
    assert "pass read_only" not in done.stdout  # it was


def test_temporary_directory_is_not_for_foreign_ones(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="not made by tiercache"):
        DiskTier(tmp_path, on_unusable="temporary")


def test_without_diskcache_the_error_says_what_to_install() -> None:
    said = said_without("diskcache", "diskcache_community", code="from tiercache.tiers.disk import DiskTier")
    assert "DiskTier needs the package 'diskcache'" in said
    assert 'pip install "tiercache-framework[disk]"' in said
