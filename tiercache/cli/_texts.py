"""The text to embed: read from somewhere, and cut into chunks that a model can take in one go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tiercache.errors import ConfigError

__all__ = ["Chunk", "chunked", "python_documentation", "text_files"]

CHARACTERS = 500  # a chunk, at most: about 100 tokens
SUFFIXES = (".txt", ".md", ".rst")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, and the document's name."""

    topic: str
    text: str


def python_documentation() -> dict[str, str]:
    """What ``help("topic")`` shows in this very Python, by topic."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ConfigError("this Python comes without its documentation; give --text DIR") from error
    return dict(topics)


def text_files(folder: Path) -> dict[str, str]:
    """The text files under ``folder`` by their path in it, in alphabetical order, without hidden ones.

    Raises `ConfigError` if there is none, or one cannot be read.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    names = {_name(path.relative_to(folder)): path for path in found if path.is_file()}
    try:
        documents = {
            name: path.read_text(encoding="utf-8", errors="replace")
            for name, path in names.items()
            if not any(part.startswith(".") for part in Path(name).parts)
        }
    except OSError as error:
        raise ConfigError(f"--text: {error.filename} cannot be read ({error.strerror})") from error
    if not any(map(str.strip, documents.values())):
        raise ConfigError(f"--text: no text in {folder}; it needs files ending in {', '.join(SUFFIXES)}")
    return documents


def chunked(documents: Mapping[str, str], limit: int | None = None) -> list[Chunk]:
    """The first ``limit`` chunks of ``documents``. A text that occurs twice is one chunk: it would be one
    entry in the cache."""
    unique: dict[str, Chunk] = {}
    for topic, text in documents.items():
        for piece in _pieces(text):
            unique.setdefault(piece, Chunk(topic, piece))
    return list(islice(unique.values(), limit))


def _name(path: Path) -> str:
    return os.fsencode(path).decode(errors="replace")  # it is shown, whatever bytes it is made of


def _pieces(text: str) -> Iterator[str]:
    """Whole lines, as many as fit."""
    piece = ""
    for line in _lines(text):
        if piece and len(piece) + len(line) > CHARACTERS:
            yield from _stripped(piece)
            piece = ""
        piece += line
    yield from _stripped(piece)


def _lines(text: str) -> Iterable[str]:
    for line in text.splitlines(keepends=True):
        yield from (line[start : start + CHARACTERS] for start in range(0, len(line), CHARACTERS))


def _stripped(piece: str) -> Iterator[str]:
    if piece := piece.strip():
        yield piece
