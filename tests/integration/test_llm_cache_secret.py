"""Whoever can write to a disk, and does not know its secret, can put no words into a model's mouth."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.outputs import Generation

from tiercache import DiskTier, TieredCache
from tiercache.envelope import Secrets, open_envelopes, seal
from tiercache.integrations.langchain import CachedEmbeddings, LLMCache

SECRET = "the secret of this disk"  # noqa: S105 - of a disk that a test makes
ANOTHER = "the secret of another"


class Words(Embeddings):
    """Its vectors are all ``number``."""

    def __init__(self, number: float) -> None:
        self.number = number

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[self.number, 0.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [self.number, 1.0]


def answered(cache: TieredCache[Any], number: int, question: str) -> Any:
    """What is answered to ``question``; a model would say ``number``."""
    llm_cache = LLMCache(cache)
    found = llm_cache.lookup(question, "[]")
    if found is None:
        llm_cache.update(question, "[]", found := [Generation(text=f"answer {number}")])
    return found


def embedded(cache: TieredCache[Any], number: int, question: str) -> Any:
    return CachedEmbeddings(Words(number), cache, namespace="m").embed_documents([question])


KINDS = pytest.mark.parametrize("ask", [answered, embedded])


def asked(ask: Callable[..., Any], folder: Path, secret: Any, number: int, question: str = "hi") -> Any:
    with TieredCache([DiskTier(folder, secret=secret)]) as cache:
        return ask(cache, number, question)


def row(folder: Path) -> tuple[Any, bytes]:
    """The only entry."""
    with closing(sqlite3.connect(folder / "cache.db")) as connection:
        ((key, value),) = connection.execute("SELECT key, value FROM Cache").fetchall()
    return key, value


def put(folder: Path, key: Any, value: bytes) -> None:
    """Write over the entry under ``key``, past the tier."""
    with closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        assert connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (value, key)).rowcount == 1


def resealed(key: Any, value: bytes, secret: str | None) -> bytes:
    """The entry of an unsigned envelope, sealed again."""
    name = key.decode() if isinstance(key, bytes) else key
    opened = open_envelopes([(name, value)], 0.0)
    return seal(name, opened.entries[name], Secrets.of(secret, "secret"))


@KINDS
@pytest.mark.parametrize("how", ["copied", "copied, signed", "sealed", "sealed, signed"])
def test_forged_bytes_are_a_miss(tmp_path, ask, how):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    first = asked(ask, ours, SECRET, 1)
    forger = ANOTHER if how == "copied, signed" else None
    asked(ask, theirs, forger, 666)
    key, value = row(theirs)
    assert key == row(ours)[0]
    if how.startswith("sealed"):
        value = resealed(key, value, ANOTHER if "signed" in how else None)
    put(ours, key, value)
    second = asked(ask, ours, SECRET, 2)
    assert second == asked(ask, tmp_path / "fresh", None, 2)
    assert second != first
    assert asked(ask, ours, SECRET, 3) == second  # the new answer took the place of the forged one


@KINDS
def test_an_answer_signed_for_another_question_is_a_miss(tmp_path, ask):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    asked(ask, ours, SECRET, 1)
    asked(ask, theirs, SECRET, 666, "another question")
    put(ours, row(ours)[0], row(theirs)[1])
    assert asked(ask, ours, SECRET, 2) == asked(ask, tmp_path / "fresh", None, 2)


@KINDS
@pytest.mark.parametrize("secret", [None, SECRET])
def test_without_a_secret_of_ones_own_the_same_bytes_are_believed(tmp_path, ask, secret):
    """So it is the secret that the tests above show, and not a forgery that is not well made."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    asked(ask, ours, secret, 1)
    evil = asked(ask, theirs, secret, 666)
    key, value = row(theirs)
    put(ours, key, value if secret else resealed(key, value, None))
    assert asked(ask, ours, secret, 2) == evil
