"""Where archives go to: pipes that take a part at a time, and files that are replaced whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from rights import obeying_rights

from tiercache import ArchiveError, ConfigError, DiskTier, TieredCache, TierError
from tiercache.archive import export_archive, import_archive

VALUES = {f"key-{number}": os.urandom(50_000) for number in range(20)}  # more than a pipe has room for


@pytest.fixture
def source(tmp_path):
    with TieredCache([DiskTier(tmp_path / "source")], namespace="app") as cache:
        cache.mset(VALUES)
        yield cache


@pytest.fixture
def target(tmp_path):
    with TieredCache([DiskTier(tmp_path / "target")], namespace="app") as cache:
        yield cache


@pytest.mark.parametrize("buffering", [0, -1], ids=["raw", "buffered"])
@pytest.mark.parametrize("blocking", [False, True], ids=["without-blocking", "blocking"])
def test_a_pipe_carries_the_whole_archive(source, target, blocking, buffering):
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, blocking)
    with ExitStack() as stack:
        reads, writes = (
            stack.enter_context(os.fdopen(end, mode, buffering=buffering))
            for end, mode in zip(ends, ("rb", "wb"), strict=True)
        )

        def export():
            with writes:
                return export_archive(source, writes)

        pool = stack.enter_context(ThreadPoolExecutor(1))
        exported = pool.submit(export)
        assert import_archive(reads, target).stored == len(VALUES)
        assert exported.result().entries == len(VALUES)
    assert target.mget(VALUES) == list(VALUES.values())


def test_a_writer_that_does_not_say_what_it_took_took_all(source, target, tmp_path):
    class Silent:
        def write(self, data):
            file.write(data)

        def flush(self):
            file.flush()

    with (tmp_path / "a.tca").open("wb") as file:
        export_archive(source, Silent())
    assert import_archive(tmp_path / "a.tca", target).stored == len(VALUES)


def test_a_named_pipe_and_a_descriptor_take_an_archive(source, target, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as pool:
        exported = pool.submit(export_archive, source, fifo)
        assert import_archive(fifo, target).stored == exported.result().entries == len(VALUES)
    reads, writes = os.pipe()  # as a shell gives them: >(gzip) is /dev/fd/63
    with ThreadPoolExecutor(1) as pool, os.fdopen(reads, "rb") as stream:
        exported = pool.submit(export_archive, source, f"/dev/fd/{writes}", replace=True)
        exported.add_done_callback(lambda _: os.close(writes))
        assert import_archive(stream, target).already_there == exported.result().entries
    with pytest.raises(ConfigError, match="is no file: what was written there cannot be resumed"):
        export_archive(source, fifo, resume=True)


# -- files that are replaced -----------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TierError("ill"), OSError("full")])
def test_what_ends_early_leaves_the_old_file_whole(source, tmp_path, error):
    path = tmp_path / "a.tca"
    path.write_bytes(b"the old archive")

    def end(entries):
        if entries:
            raise error

    with pytest.raises(type(error)):
        export_archive(source, path, replace=True, progress=end)
    assert path.read_bytes() == b"the old archive"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tca", "source"]


def test_a_file_that_is_replaced_keeps_its_rights_and_its_links(source, target, tmp_path):
    path, link, other = (tmp_path / name for name in ("a.tca", "link.tca", "old.tca"))
    path.write_bytes(b"the old archive")
    path.chmod(0o640)
    link.symlink_to("a.tca")
    other.hardlink_to(path)
    export_archive(source, link, replace=True)
    assert link.is_symlink()
    assert other.read_bytes() == b"the old archive"  # a copy of it that somebody keeps
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert import_archive(path, target).stored == len(VALUES)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        *("a.tca", "link.tca", "old.tca", "source", "target")
    ]


def test_a_file_that_may_not_be_read_is_replaced(source, target, tmp_path):
    path = tmp_path / "a.tca"
    path.write_bytes(b"the old archive")
    path.chmod(0o200)
    obeying_rights(lambda: export_archive(source, path, replace=True))
    path.chmod(0o600)
    assert import_archive(path, target).stored == len(VALUES)


def test_a_folder_that_takes_no_new_file_is_named(source, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "a.tca"
    path.write_bytes(b"the old archive")
    folder.chmod(0o555)
    with pytest.raises(PermissionError) as raised:
        obeying_rights(lambda: export_archive(source, path, replace=True))
    assert raised.value.filename == str(folder)
    assert path.read_bytes() == b"the old archive"


# -- two exports to one file -----------------------------------------------------------------------


@pytest.mark.parametrize("second", [{}, {"resume": True}, {"replace": True}], ids="-".join)
@pytest.mark.parametrize("first", [{}, {"resume": True}, {"replace": True}], ids="-".join)
def test_a_file_is_written_by_one_export_at_a_time(source, target, tmp_path, first, second):
    path, forked = tmp_path / "a.tca", []
    if first:
        export_archive(source, path)
        os.truncate(path, 700_000)

    def meanwhile(_):  # at its beginning, where it has written nothing yet, and then with some of it there
        there = second == {} and path.stat().st_size > 0
        with pytest.raises(ConfigError if there else ArchiveError) as refused:
            export_archive(source, path, **second)
        assert ("there already" if there else "another export writes this file") in str(refused.value)
        forked.append(os.dup(next(one for one in range(3, 1000) if is_of(one, path))))

    assert export_archive(source, path, progress=meanwhile, **first).entries == len(VALUES)
    assert import_archive(path, target).stored == len(VALUES)
    assert export_archive(source, path, resume=True).entries == len(VALUES)  # it is free, whoever has it too
    assert len(forked) > 1
    for one in forked:
        os.close(one)


def is_of(descriptor, path):
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def test_a_file_that_another_export_has_just_ended_is_left_as_it_is(source, tmp_path, monkeypatch):
    path, whole = tmp_path / "a.tca", tmp_path / "whole.tca"
    export_archive(source, whole)
    expected, lock = whole.read_bytes(), fcntl.flock

    def flock(handle, kind):
        if whole.exists() and is_of(handle, path):
            whole.replace(path)
        lock(handle, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ConfigError, match="there already"):
        export_archive(source, path)
    assert path.read_bytes() == expected


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_system_without_locks_takes_an_archive(source, target, tmp_path, monkeypatch, replace):
    path, lock = tmp_path / "a.tca", fcntl.flock
    if replace:
        path.write_bytes(b"the old archive")

    def flock(handle, kind):
        if is_of(handle, path):
            raise OSError(errno.ENOLCK, "No locks available")
        lock(handle, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    export_archive(source, path, replace=replace)
    assert import_archive(path, target).stored == len(VALUES)
