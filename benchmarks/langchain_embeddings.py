"""What a cache of embeddings costs beside the model: `CachedEmbeddings` over memory and disk, and LangChain's
``CacheBackedEmbeddings`` over a ``LocalFileStore``, in the same run.

Run it as ``python benchmarks/langchain_embeddings.py [--rounds N] [--json]``. Each state is made for real: a
round's folders are new, "from disk" is a new process, the model's time is taken apart. The figures are
medians over the rounds, in which the two take turns. Needs the package with the extra ``demo``.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore
from langchain_core.embeddings import Embeddings

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.integrations.langchain import CachedEmbeddings

TEXTS, DIMENSIONS, CHARACTERS = 2000, 1536, 1000
THREADS, DUPLICATES = 50, 0.4

#: Each figure's unit, and what it is to be.
TARGETS = {
    "cold": ("s", ">= 16 x"),
    "warm from disk": ("s", ">= 8 x"),
    "warm from memory": ("s", ">= 40 x"),
    "embed_array, warm": ("s", ">= 150 x"),
    "bytes on disk": ("MB", ""),  # no figure was named for it
    "files": ("", "<= 5"),
    "calls for 50 equal queries": ("", "1"),
    "texts embedded of a batch": ("", f"{TEXTS * (1 - DUPLICATES):,.0f}"),
}


class Model(Embeddings):
    """Answers at once what was computed before, as a client's parser does: lists of floats, each of which
    float32 holds exactly."""

    def __init__(self, vectors: dict[str, list[float]], delay: float = 0.0) -> None:
        self.vectors = vectors
        self.delay = delay
        self.calls = self.texts = 0
        self.seconds = 0.0
        self._lock = threading.Lock()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        start = perf_counter()
        sleep(self.delay)
        answer = [self.vectors[text] for text in texts]
        with self._lock:
            self.calls += 1
            self.texts += len(texts)
            self.seconds += perf_counter() - start
        return answer

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class NoModel(Embeddings):
    """A warm cache asks nothing."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise AssertionError(f"{len(texts)} texts were not cached")

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def make_texts() -> list[str]:
    filler = "the quick brown fox jumps over the lazy dog and runs away from it "
    return [f"{number} {filler * 20}"[:CHARACTERS] for number in range(TEXTS)]


def ours(model: Embeddings, folder: Path) -> tuple[CachedEmbeddings, TieredCache[bytes]]:
    cache = TieredCache([MemoryTier(), DiskTier(folder / "ours")])
    return CachedEmbeddings(model, cache, namespace="model"), cache


def theirs(model: Embeddings, folder: Path) -> CacheBackedEmbeddings:
    store = LocalFileStore(folder / "theirs")
    return CacheBackedEmbeddings.from_bytes_store(
        model, store, namespace="model", query_embedding_cache=True, key_encoder="sha256"
    )


def timed(function: Callable[[], Any]) -> float:
    """Seconds until ``function`` returns; what earlier steps left behind is cleared away before."""
    gc.collect()
    start = perf_counter()
    result = function()
    seconds = perf_counter() - start
    del result  # not within the time, for giving back millions of floats is the caller's
    return seconds


def in_new_process(which: str, folder: Path) -> float:
    """Seconds that reading all vectors takes a process that has just begun."""
    command = [sys.executable, __file__, "--reader", which, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this file
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)


def reader(which: str, folder: Path) -> float:
    texts = make_texts()
    if which == "theirs":
        embeddings = theirs(NoModel(), folder)
        return timed(lambda: embeddings.embed_documents(texts))
    cached, cache = ours(NoModel(), folder)
    with cache:
        return timed(lambda: cached.embed_documents(texts))


def on_disk(folder: Path) -> tuple[int, float]:
    """Files, and their megabytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files) / 1e6


def one_round(model: Model, texts: list[str], folder: Path) -> dict[str, tuple[float, float]]:
    """Each figure: theirs, ours."""
    expected = [model.vectors[text] for text in texts]

    peer = theirs(model, folder)
    model.seconds = 0.0
    peer_cold = timed(lambda: peer.embed_documents(texts)) - model.seconds
    peer_warm = timed(lambda: peer.embed_documents(texts))
    peer_disk = in_new_process("theirs", folder)

    cached, cache = ours(model, folder)
    with cache:
        model.seconds = 0.0
        cold = timed(lambda: cached.embed_documents(texts)) - model.seconds
        warm = timed(lambda: cached.embed_documents(texts))
        array = timed(lambda: cached.embed_array(texts))
        assert cached.embed_documents(texts) == expected == peer.embed_documents(texts)
    disk = in_new_process("ours", folder)
    peer_files, peer_bytes = on_disk(folder / "theirs")
    files, size = on_disk(folder / "ours")
    return {
        "cold": (peer_cold, cold),
        "warm from disk": (peer_disk, disk),
        "warm from memory": (peer_warm, warm),
        "embed_array, warm": (peer_warm, array),
        "bytes on disk": (peer_bytes, size),
        "files": (peer_files, files),
    }


def sharing(
    vectors: dict[str, list[float]], texts: list[str], folder: Path
) -> dict[str, tuple[float, float]]:
    """What the model is asked by many at once, and by a batch with duplicates."""
    batch = texts[: int(TEXTS * (1 - DUPLICATES))]
    batch += batch[: TEXTS - len(batch)]
    counts: list[tuple[float, float]] = []
    for which in ("theirs", "ours"):
        model = Model(vectors, delay=0.05)
        cache: TieredCache[bytes] | None = None
        embeddings: Embeddings
        if which == "theirs":
            embeddings = theirs(model, folder)
        else:
            embeddings, cache = ours(model, folder)
        gate = threading.Barrier(THREADS)

        def ask(_number: int, gate: threading.Barrier = gate, asked: Embeddings = embeddings) -> None:
            gate.wait()
            asked.embed_query(texts[-1])  # which is not in the batch

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(ask, range(THREADS)))
        calls = model.calls
        model.texts = 0
        embeddings.embed_documents(batch)
        counts.append((calls, model.texts))
        if cache is not None:
            cache.close()
    (peer_calls, peer_texts), (calls, embedded) = counts
    return {
        "calls for 50 equal queries": (peer_calls, calls),
        "texts embedded of a batch": (peer_texts, embedded),
    }


def measure(rounds: int) -> dict[str, tuple[float, float, float]]:
    """Each figure: theirs, ours, and the median of the rounds' ratios."""
    texts = make_texts()
    matrix = np.random.default_rng(1).standard_normal((TEXTS, DIMENSIONS)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    model = Model(dict(zip(texts, matrix.tolist(), strict=True)))
    seen: list[dict[str, tuple[float, float]]] = []
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory(prefix="tiercache-bench-") as folder:
            figures = one_round(model, texts, Path(folder))
        if number:  # the first one also loads modules and makes connections
            seen.append(figures)
    with tempfile.TemporaryDirectory(prefix="tiercache-bench-") as folder:
        once = sharing(model.vectors, texts, Path(folder))
    table = {}
    for name in TARGETS:
        pairs = [once[name]] if name in once else [figures[name] for figures in seen]
        peer, own = (median(side) for side in zip(*pairs, strict=True))
        table[name] = (peer, own, median(theirs / ours for theirs, ours in pairs))
    return table


def show(table: dict[str, tuple[float, float, float]], rounds: int) -> None:
    print(
        f"{TEXTS:,} texts of {CHARACTERS:,} characters, {DIMENSIONS:,} float32 numbers each; model time apart"
    )
    print(f"medians of {rounds} rounds; ratio: times as much for CacheBackedEmbeddings + LocalFileStore\n")
    print(f"{'':28}{'LangChain':>12}{'tiercache':>12}{'ratio':>9}{'target':>10}")
    for name, (peer, own, ratio) in table.items():
        unit, target = TARGETS[name]
        digits = 4 if unit == "s" else 1 if unit == "MB" else 0
        label = f"{name}, {unit}" if unit else name
        print(f"{label:28}{peer:12,.{digits}f}{own:12,.{digits}f}{ratio:9.1f}{target:>10}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--reader", nargs=2, metavar=("WHICH", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.reader:
        print(reader(options.reader[0], Path(options.reader[1])))
        return
    table = measure(options.rounds)
    if options.json:
        print(
            json.dumps(
                {
                    n: dict(zip(("langchain", "tiercache", "ratio"), row, strict=True))
                    for n, row in table.items()
                }
            )
        )
    else:
        show(table, options.rounds)


if __name__ == "__main__":
    main()
