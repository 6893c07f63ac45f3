"""Text files that commands write: all of one or nothing."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tiercache.cli._context import Failed

__all__ = ["write_whole"]


def write_whole(path: Path, text: str, *, private: bool = False) -> None:
    """All of it or nothing: beside the file, and then in its place. Only this user may read one that is
    ``private``. Raises `Failed`, and what was there is still there."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        with open(beside, "x", encoding="utf-8", opener=_private if private else None) as file:
            file.write(text)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):  # there may not even be a folder
            beside.unlink(missing_ok=True)
        raise Failed(f"{path} cannot be written: {_why(path, error)}") from error


def _why(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {path.parent}; make it first"
    if isinstance(error, IsADirectoryError):
        return "it is a directory"
    if isinstance(error, NotADirectoryError):
        return f"{path.parent} is no folder"
    if isinstance(error, PermissionError):
        return f"this user may not write in {path.parent}"
    return error.strerror or type(error).__name__


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
