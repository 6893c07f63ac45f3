"""Where archives go to and come from: every byte through any stream, and no half file in a whole one's place.

A raw stream, and one that does not block, takes or gives a part of what it is asked; the rest is waited for.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import BinaryIO

from tiercache.errors import ConfigError

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
    old = path.exists() and path.stat().st_size > 0
    if old and not resume and not replace:
        raise ConfigError(f"{path}: it is there already: resume what was interrupted, or replace it")
    if old and not resume:
        with _beside(path.resolve()) as stream:  # a link stays one
            yield stream, False
        return
    flags = os.O_RDWR | os.O_CREAT | (0 if resume else os.O_TRUNC)
    with os.fdopen(os.open(path, flags, 0o600), "r+b") as stream:  # values may be secrets
        yield stream, old and resume


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
