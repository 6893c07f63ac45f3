"""A `LocalFileStore`'s folder as a source: a file a key, found without following links."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

from tiercache.errors import ConfigError
from tiercache.integrations.langchain.migrate._run import Page, Unfit

__all__ = ["Files"]

#: The keys that a LocalFileStore takes.
_KEY = re.compile(r"[a-zA-Z0-9_.\-/]+")


class Files:
    """The files below ``folder``. Raises `ConfigError` if that is none."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._root = Path(folder).expanduser()
        self.name = f"LocalFileStore {self._root}"
        if not self._root.is_dir():
            raise ConfigError(f"{self._root} is no directory; give the root_path of the LocalFileStore")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open."""

    def total(self) -> int:
        return sum(1 for _ in self._walk(self._root, ""))

    def pages(self, size: int) -> Iterator[Page[str]]:
        found = self._walk(self._root, "")
        while some := list(islice(found, size)):
            keys = [key for key, reason in some if reason is None]
            yield Page(keys, [(key, reason) for key, reason in some if reason is not None])

    def read(self, keys: Sequence[str]) -> dict[str, bytes | Unfit]:
        values: dict[str, bytes | Unfit] = {}
        for key in keys:
            try:
                values[key] = (self._root / key).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                values[key] = Unfit(f"the file cannot be read ({type(error).__name__})")
        return values

    def label(self, key: str) -> str:
        return key

    def _walk(self, folder: Path, before: str) -> Iterator[tuple[str, str | None]]:
        """Names below ``folder``, each with the reason if it is no key. One folder at a time is open."""
        inner: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    key = f"{before}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        inner.append(entry.name)
                    elif entry.is_symlink():
                        yield key, "a symbolic link"
                    elif not entry.is_file():
                        yield key, "no regular file"
                    elif not _KEY.fullmatch(key):
                        yield key, "no key of a LocalFileStore"
                    else:
                        yield key, None
        except OSError as error:
            yield before or ".", f"the folder cannot be read ({type(error).__name__})"
        for name in inner:
            yield from self._walk(folder / name, f"{before}{name}/")
