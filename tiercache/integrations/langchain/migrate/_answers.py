"""An ``SQLiteCache``'s file as a source, and `LLMCache` as the target of its answers.

Of an answer's JSON nothing is made but four classes of LangChain's that are data alone, and the plain values
in them: whatever names another class is skipped.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, GenerationChunk

from tiercache.chain import TieredCache, WriteResult
from tiercache.errors import CodecError, ConfigError
from tiercache.integrations.langchain._generations import to_record
from tiercache.integrations.langchain._llm_key import CallKey
from tiercache.integrations.langchain.llm_cache import LLMCache
from tiercache.integrations.langchain.migrate._run import Page, Unfit
from tiercache.integrations.langchain.migrate._sql import open_read_only

__all__ = ["Answers", "Call", "SQLiteCacheFile"]

_TABLE = "full_llm_cache"
_GENERATIONS: Final[Mapping[str, type[Generation]]] = {
    kind.__name__: kind for kind in (Generation, GenerationChunk, ChatGeneration)
}
_ESCAPED = "__lc_escaped__"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model: a row of its first generation, and what the model was asked."""

    row: int
    prompt: str
    llm: str


class SQLiteCacheFile:
    """The answers in the file at ``path``. Raises `ConfigError` if it is no ``SQLiteCache``'s."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = os.fspath(path)
        self.name = f"SQLiteCache {path}"
        self._connection = open_read_only(path)
        self._connection.text_factory = bytes  # text that is none is for us to skip, not for SQLite to raise
        try:
            self._connection.execute(f"SELECT prompt, llm, idx, response FROM {_TABLE} LIMIT 1")  # noqa: S608 - a constant
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ConfigError(f"{path} is no file of an SQLiteCache: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def total(self) -> int:
        ((count,),) = self._rows(f"SELECT COUNT(*) FROM {_TABLE} WHERE idx = 0")  # noqa: S608 - a constant
        return int(count)

    def pages(self, size: int) -> Iterator[Page[Call]]:
        # By row, because that is an order whatever the texts are; each answer has a generation 0.
        last = -(2**63)
        query = f"SELECT rowid, prompt, llm FROM {_TABLE} WHERE idx = 0 AND rowid > ? ORDER BY rowid LIMIT ?"  # noqa: S608 - a constant
        while rows := self._rows(query, last, size):
            calls, unfit = [], []
            for row, prompt, llm in rows:
                try:
                    calls.append(Call(row, prompt.decode(), llm.decode()))
                except (AttributeError, UnicodeDecodeError):
                    unfit.append((f"row {row}", "no text"))
            yield Page(calls, unfit)
            last = rows[-1][0]

    def read(self, keys: Sequence[Call]) -> dict[Call, list[bytes] | Unfit]:
        query = f"SELECT response FROM {_TABLE} WHERE prompt = ? AND llm = ? ORDER BY idx"  # noqa: S608 - a constant
        found = ((call, self._rows(query, call.prompt, call.llm)) for call in keys)
        return {call: [response for (response,) in rows] for call, rows in found if rows}

    def label(self, key: Call) -> str:
        return f"row {key.row}: {key.prompt:.100}"

    def _rows(self, query: str, *values: object) -> list[Any]:
        return self._connection.execute(query, values).fetchall()  # all: an open cursor keeps writers waiting


class Answers:
    """The answers of `LLMCache`. Neither a look-up nor an update of it is called: nobody asked, and nobody
    paid."""

    def __init__(self, target: LLMCache) -> None:
        if not isinstance(target, LLMCache):
            raise ConfigError(f"a {type(target).__name__} takes no answers of models; give an LLMCache")
        self.cache: TieredCache[Any] = target.cache
        self._parts: dict[str, Any] = {}

    def place(self, key: Call) -> str:
        call = CallKey(key.prompt, key.llm)
        if call.unkeyable:
            raise Unfit("no key can be made of it")
        self._parts[call.key] = call.parts
        return call.key

    def held(self, places: Sequence[str]) -> set[str]:
        found = self.cache.mget(places)
        return {place for place, record in zip(places, found, strict=True) if record is not None}

    def learn(self, read: Callable[[], Sequence[list[bytes]]]) -> None:
        """There is nothing to learn."""

    def values(self, raws: Mapping[str, list[bytes]]) -> dict[str, Any]:
        parts, self._parts = self._parts, {}
        values: dict[str, Any] = {}
        for place, responses in raws.items():
            try:
                generations = [_generation(response) for response in responses]
                values[place] = {"parts": parts[place].as_json(), "generations": to_record(generations)}
            except Unfit as unfit:
                values[place] = unfit
            except CodecError as error:
                values[place] = Unfit(str(error))
        return values

    def store(self, values: Mapping[str, Any]) -> WriteResult:
        return self.cache.mset(values)


# -- LangChain's JSON ------------------------------------------------------------------------------


def _generation(response: bytes) -> Generation:
    """What ``dumps`` wrote of a generation. Raises `Unfit`."""
    try:
        data = json.loads(response)
    except (TypeError, ValueError, RecursionError):
        raise Unfit("corrupt JSON") from None
    name, fields = _constructor(data)
    kind = _GENERATIONS.get(name)
    if kind is None:
        raise Unfit(f"a {name} is no generation that is kept")
    options: dict[str, Any] = {"generation_info": _plain(fields.get("generation_info"))}
    if kind is ChatGeneration:
        message, inner = _constructor(fields.get("message"))
        if message != "AIMessage":
            raise Unfit(f"a message of class {message} is not kept")
        options["message"] = _make(AIMessage, {key: _plain(value) for key, value in inner.items()})
    else:
        options["text"] = fields.get("text")
    made: Generation = _make(kind, options)
    return made


def _constructor(data: Any) -> tuple[str, dict[str, Any]]:
    """The class that ``data`` names, and its fields."""
    if not isinstance(data, dict) or data.get("lc") != 1 or data.get("type") != "constructor":
        raise Unfit("not the JSON of a generation")
    path, fields = data.get("id"), data.get("kwargs")
    if not isinstance(path, list) or not isinstance(fields, dict) or path[:2] != ["langchain", "schema"]:
        raise Unfit("a class that is not LangChain's own")
    return str(path[-1]), fields


def _plain(value: Any) -> Any:
    """``value`` without LangChain's escapes. Raises `Unfit` where it holds an object."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and _ESCAPED in value:
        return value[_ESCAPED]  # somebody's own dict, as it is
    if "lc" in value:
        raise Unfit("an object within the answer")
    return {key: _plain(item) for key, item in value.items()}


def _make(kind: type[Any], fields: dict[str, Any]) -> Any:
    try:
        return kind(**fields)
    except (TypeError, ValueError):
        raise Unfit(f"no {kind.__name__}") from None
