"""Claims about caches of embeddings and of models' answers, under LangChain."""

from __future__ import annotations

import random
import tempfile
import threading
import time
import warnings
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.comparison.trying import Claim, DoesNotApply

__all__ = ["ANSWERS", "EMBEDDINGS", "answer"]

DIMENSIONS = 1536


class Model:
    """Embeds: what it was asked is on record. A query has another vector than the same text as a document."""

    def __init__(self, seconds: float = 0, short: bool = False) -> None:
        self.seconds, self.short = seconds, short
        self.texts: list[str] = []
        self.calls = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        self.texts += texts
        time.sleep(self.seconds)
        vectors = [[float(len(text))] * DIMENSIONS for text in texts]
        return vectors[:-1] if self.short else vectors

    def embed_query(self, text: str) -> list[float]:
        self.calls += 1
        time.sleep(self.seconds)
        return [-float(len(text))] * DIMENSIONS

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        return self.embed_query(text)


#: What is to be closed before the files are looked at.
_open: list[Any] = []


def _close() -> None:
    while _open:
        _open.pop().close()


def _ours(model: Any, folder: Path) -> Any:
    from tiercache import DiskTier, TieredCache
    from tiercache.integrations.langchain import CachedEmbeddings

    cache = TieredCache([DiskTier(folder / "cache")])
    _open.append(cache)
    return CachedEmbeddings(model, cache, namespace="model")


def _theirs(model: Any, folder: Path, store: Any = None) -> Any:
    from langchain_classic.embeddings import CacheBackedEmbeddings
    from langchain_classic.storage import LocalFileStore

    store = store or LocalFileStore(folder / "cache")
    return CacheBackedEmbeddings.from_bytes_store(
        model, store, namespace="model", query_embedding_cache=True, key_encoder="sha256"
    )


MAKERS: dict[str, Callable[[Any, Path], Any]] = {
    "CachedEmbeddings": _ours,
    "CacheBackedEmbeddings": _theirs,
}


def _at_once(callers: int, call: Callable[[], Any]) -> None:
    gate = threading.Barrier(callers)

    def one(_number: int) -> None:
        gate.wait()
        call()

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(one, range(callers)))


def equal_queries(name: str, folder: Path) -> str:
    model = Model(seconds=0.3)
    cached = MAKERS[name](model, folder)
    _at_once(8, lambda: cached.embed_query("which?"))
    return str(model.calls)


def duplicates(name: str, folder: Path) -> str:
    model = Model()
    MAKERS[name](model, folder).embed_documents(["a", "bb", "a", "ccc", "a", "bb", "a", "a", "a", "a"])
    return str(len(model.texts))


def query_apart(name: str, folder: Path) -> str:
    cached = MAKERS[name](Model(), folder)
    cached.embed_documents(["text"])
    return "the query's own" if cached.embed_query("text")[0] == -4 else "the document's"


def too_few(name: str, folder: Path) -> str:
    try:
        found = MAKERS[name](Model(short=True), folder).embed_documents(["a", "bb", "ccc"])
    except Exception as error:  # noqa: BLE001 - what is raised is told
        return f"raises `{type(error).__name__}`"
    return f"{found.count(None)} `None` among them" if None in found else f"{len(found)} vectors"


def size(name: str, folder: Path) -> str:
    """Of vectors as providers give them: numbers that float32 holds exactly."""
    numbers = random.Random(1)

    class Odd(Model):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [array("f", [numbers.gauss(0, 0.03) for _ in range(DIMENSIONS)]).tolist() for _ in texts]

    cached = MAKERS[name](Odd(), folder)
    cached.embed_documents([f"a text {number}" for number in range(1000)])
    _close()
    files = [file for file in folder.rglob("*") if file.is_file() and "ballast" not in file.name]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.0f} MB"


def store_full(name: str, folder: Path) -> str:
    """The store takes no writes; are the vectors that were paid for handed out?"""

    from langchain_core.stores import InMemoryByteStore

    class Full(InMemoryByteStore):
        def mset(self, _pairs: Any) -> None:
            raise OSError(28, "No space left on device")

    model = Model()
    if name == "CachedEmbeddings":
        from tiercache import TieredCache
        from tiercache.integrations.langchain import CachedEmbeddings, StoreTier

        cached: Any = CachedEmbeddings(model, TieredCache([StoreTier(Full())]), namespace="model")
    else:
        cached = _theirs(model, folder, Full())
    try:
        found = cached.embed_documents(["a", "bb"])
    except Exception as error:  # noqa: BLE001 - what is raised is told
        return f"raises `{type(error).__name__}`"
    return "the vectors" if len(found) == 2 else "no"


def corrupt(name: str, folder: Path) -> str:
    import sqlite3
    from contextlib import closing, suppress

    model = Model()
    right = MAKERS[name](model, folder).embed_documents(["a"])
    _close()
    for file in folder.rglob("*"):
        if not file.is_file() or "ballast" in file.name:
            continue
        if file.suffix == ".db":
            # There is another one, of what is owed.
            with closing(sqlite3.connect(file)) as connection, suppress(sqlite3.OperationalError):
                connection.execute("UPDATE Cache SET value = substr(value, 1, length(value) / 2)")
                connection.commit()
        elif name != "CachedEmbeddings":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    before = model.calls
    try:
        found = MAKERS[name](model, folder).embed_documents(["a"])
    except Exception as error:  # noqa: BLE001 - what is raised is told
        return f"raises `{type(error).__name__}`"
    if found != right:
        return "a wrong vector"
    return "embedded again" if model.calls > before else "not changed by this"


EMBEDDINGS = (
    ("equal-queries", "8 threads embed the same new query: calls of the model", equal_queries),
    ("duplicates", "a batch of 10 texts, 3 of them different: texts embedded", duplicates),
    ("query-apart", "a query whose text is cached as a document gets the vector of", query_apart),
    ("too-few", "the model gives 2 vectors for 3 texts", too_few),
    ("store-full", "the store takes no writes: the caller gets", store_full),
    ("corrupt", "what is stored was cut in half", corrupt),
    ("size", "1,000 vectors of 1,536 floats on disk", size),
)


def _chat(seconds: float = 0) -> Any:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    calls: list[int] = []

    class Chat(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "tried"

        def _generate(self, messages: Any, *_: Any, **__: Any) -> Any:
            calls.append(1)
            time.sleep(seconds)
            usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
            said = AIMessage(f"answer {len(messages)}", usage_metadata=usage)
            return ChatResult(generations=[ChatGeneration(message=said)])

    return Chat, calls


def _cache(name: str, folder: Path, life: float | None = None) -> Any:
    if name == "LLMCache":
        from tiercache import DiskTier, TieredCache
        from tiercache.integrations.langchain import LLMCache

        _open.append(TieredCache([DiskTier(folder / "cache")], ttl=life))
        return LLMCache(_open[-1])
    if life is not None:
        raise DoesNotApply
    if name == "InMemoryCache":
        from langchain_core.caches import InMemoryCache

        return InMemoryCache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.cache import SQLiteCache

    return SQLiteCache(str(folder / "answers.db"))


def equal_prompts(name: str, folder: Path) -> str:
    chat, calls = _chat(seconds=0.3)
    model = chat(cache=_cache(name, folder))
    model.invoke("warm")
    calls.clear()
    raised: list[str] = []

    def ask() -> None:
        try:
            model.invoke("which?")
        except Exception as error:  # noqa: BLE001 - what is raised is told
            raised.append(type(error).__name__)

    _at_once(8, ask)
    return f"{len(calls)}, and {len(raised)} get `{raised[0]}`" if raised else str(len(calls))


def conversation(name: str, folder: Path) -> str:
    """The same two turns twice, the first answer in the history of the second."""
    chat, calls = _chat()
    model = chat(cache=_cache(name, folder))
    for _ in range(2):
        first = model.invoke([("human", "hello")])
        model.invoke([("human", "hello"), first, ("human", "and then?")])
    return f"{len(calls)} calls for 2 turns" if len(calls) > 2 else "both turns"


def mutated(name: str, folder: Path) -> str:
    chat, calls = _chat()
    model = chat(cache=_cache(name, folder))
    model.invoke("hello")
    model.invoke("hello").content = "changed"
    assert len(calls) == 1
    return "changed" if model.invoke("hello").content == "changed" else "unchanged"


def life(name: str, folder: Path) -> str:
    try:
        cache = _cache(name, folder, life=0.5)
    except DoesNotApply:
        return "no"
    chat, calls = _chat()
    model = chat(cache=cache)
    model.invoke("hello")
    time.sleep(0.7)
    model.invoke("hello")
    return "yes" if len(calls) == 2 else "no"


ANSWERS = (
    ("equal-prompts", "8 threads ask the same new question: calls of the model", equal_prompts),
    ("conversation", "a conversation of two turns is had again: from the cache come", conversation),
    ("mutated", "a caller changes an answer that it was given: the cache's own is", mutated),
    ("answers-expire", "answers can expire", life),
)
_CHECKS = {name: check for name, _, check in (*EMBEDDINGS, *ANSWERS)}


def answer(claim: Claim, name: str) -> str:
    """What came of it."""
    with tempfile.TemporaryDirectory(prefix="comparison-", ignore_cleanup_errors=True) as folder:
        try:
            return _CHECKS[claim.name](name, Path(folder))
        finally:
            _close()
