"""Paths as users write them, and whether what they name is to be made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from tiercache.errors import ConfigError

__all__ = ["LOOKS", "absolute", "only_looking"]

#: Whether they are only looked at just now.
LOOKS: Final = ContextVar("only_looking", default=False)


def absolute(path: object, option: str, otherwise: str = "") -> Path:
    """``path`` from the root on, with ``~`` filled in. Symbolic links are left in it: they must stay visible,
    to be refused. Raises `ConfigError`, which names ``option``, and says what it takes ``otherwise``."""
    try:
        text = os.fspath(path)  # type: ignore[call-overload]  # what it does not take is told below
    except TypeError:
        text = ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(f"{option}: {path!r} is no path; give a str or a pathlib.Path{otherwise}")
    try:
        return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - Path.absolute keeps ".."
    except RuntimeError as error:
        raise ConfigError(f"{option}: {text!r} names a home directory that is unknown") from error


@contextmanager
def only_looking() -> Iterator[None]:
    """While this lasts, tiers check their directories, and neither make nor claim any: for who asks whether
    a configuration is in order. Rejected: a parameter of the tier, which every program would see."""
    token = LOOKS.set(True)
    try:
        yield
    finally:
        LOOKS.reset(token)
