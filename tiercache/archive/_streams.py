"""Where archives go to and come from: every byte through any stream, no half file in a whole one's place, and
one export at a time in a file.

A raw stream, and one that does not block, takes or gives a part of what it is asked; the rest is waited for.
"""

from __future__ import annotations

import fcntl
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import BinaryIO

from tiercache.errors import ArchiveError, ConfigError

__all__ = ["flush", "opened", "read", "write"]

Target = str | os.PathLike[str] | BinaryIO


def write(stream: BinaryIO, data: bytes) -> None:
    """All of ``data`` to ``stream``."""
    left: bytes | memoryview = data
    put: Callable[[bytes | memoryview], int | None] = stream.write
    while left:
        try:
            taken = put(left)
        except BlockingIOError as full:  # a buffered stream, which tells how much found room
            taken = getattr(full, "characters_written", 0)
            _wait(stream, EVENT_WRITE)
        else:
            if taken is None:
                if not isinstance(stream, io.RawIOBase):
                    return  # somebody's own writer, which does not say; None is for raw streams alone
                taken = 0
                _wait(stream, EVENT_WRITE)
        left = memoryview(left)[taken:]


def flush(stream: BinaryIO) -> None:
    """Have ``stream`` hand on what it took."""
    while True:
        try:
            stream.flush()
        except BlockingIOError:
            _wait(stream, EVENT_WRITE)
        else:
            return


def read(stream: BinaryIO, size: int) -> bytes:
    """At most ``size`` bytes of ``stream``; none at its end alone."""
    while True:
        data: bytes | None = stream.read(size)
        if data is not None:
            return data
        _wait(stream, EVENT_READ)  # it does not block, and there is nothing yet


def _wait(stream: BinaryIO, event: int) -> None:
    with DefaultSelector() as selector:
        selector.register(stream, event)
        selector.select()


@contextmanager
def opened(target: Target, *, resume: bool, replace: bool) -> Iterator[tuple[BinaryIO, bool]]:
    """The stream to write to, and whether there is something in it to go on with. A file that is replaced
    stays until the ``with`` ends, and for good if that raises."""
    if not isinstance(target, str | os.PathLike):
        if resume:
            raise ConfigError("a stream cannot be resumed; give a path")
        yield target, False
        flush(target)
        return
    path = Path(target)
    if path.exists() and not path.is_file():  # a pipe, such as a shell's >(gzip), or a device
        if resume:
            raise ConfigError(f"{path} is no file: what was written there cannot be resumed")
        with path.open("wb") as pipe:
            yield pipe, False
        return
    _check_new(path, resume=resume, replace=replace)
    beside = replace and not resume and _has_content(path)
    if beside and not os.access(path, os.R_OK):  # somebody else's, which nobody but its owner could lock
        with _beside(path.resolve()) as stream:
            yield stream, False
        return
    with _alone(path, reads=beside) as descriptor:
        # Looked at again: another export may have ended just before this one had the file.
        _check_new(path, resume=resume, replace=replace)
        if beside or (replace and not resume and _has_content(path)):
            with _beside(path.resolve()) as stream:  # a link stays one
                yield stream, False
        else:
            with os.fdopen(descriptor, "r+b", closefd=False) as stream:
                yield stream, _has_content(path)


def _check_new(path: Path, *, resume: bool, replace: bool) -> None:
    if _has_content(path) and not resume and not replace:
        raise ConfigError(f"{path}: it is there already: resume what was interrupted, or replace it")


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@contextmanager
def _alone(path: Path, *, reads: bool) -> Iterator[int]:
    """A descriptor of the file at ``path``, new if there is none, which no other export has meanwhile. With
    ``reads`` it is there, and for reading alone. Raises `ArchiveError` if another export has it."""
    flags = os.O_RDONLY if reads else os.O_RDWR | os.O_CREAT
    while True:
        descriptor = os.open(path, flags, 0o600)  # values may be secrets
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArchiveError(f"{path}: another export writes this file just now") from None
            except OSError:
                pass  # a file system of a network that has no locks
            if _is_at(path, descriptor):
                yield descriptor
                return
            # It was replaced or removed after it was opened: once more, with what is there by now.
        finally:
            # Closing it is not enough: a process that was forked meanwhile has it too, and so the lock.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    """A new file, which takes the place of the one at ``path`` at the end."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".tiercache-", dir=path.parent)
    except OSError as error:
        error.filename = str(path.parent)  # what may not be written; nobody knows the name of the new file
        raise
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))
            yield stream
            stream.flush()
            os.fsync(descriptor)  # else a power cut could leave the new name with nothing in it
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
