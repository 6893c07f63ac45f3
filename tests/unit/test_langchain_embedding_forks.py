"""A child that is forked while threads of the parent embed: it embeds, counts and traces as they did."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack

import pytest
from langchain_models import RecordingModel, document, query

from tiercache import MemoryTier, TieredCache
from tiercache.integrations.langchain import CachedEmbeddings

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # which is the point
]


def exit_code(check) -> int:
    """That of a forked child: 0 if ``check`` returns a true value; one that hangs is ended by its alarm."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            signal.alarm(20)
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("which", ["usage of documents", "usage of queries", "lists", "tracer", "trace"])
def test_a_child_whose_parent_held_a_lock(which):
    with ExitStack() as stack:
        cache = stack.enter_context(TieredCache([MemoryTier()]))
        embeddings = CachedEmbeddings(RecordingModel(), cache, namespace="model")
        trace = stack.enter_context(embeddings.trace())
        embeddings.embed_documents(["a"])
        lock = {
            "usage of documents": embeddings._documents.usage,
            "usage of queries": embeddings._queries.usage,
            "lists": embeddings._lists,
            "tracer": embeddings._tracer,
            "trace": trace,
        }[which]._lock
        held, done = threading.Event(), threading.Event()

        def hold():
            with lock:
                held.set()
                done.wait(30)

        def check():
            with embeddings.trace() as inner:
                found = embeddings.embed_documents(["a", "b"]), embeddings.embed_query("q")
            return (
                found == ([document("a"), document("b")], query("q"))
                and len(inner.records) == 3
                and len(trace.records) == 4
                and embeddings.stats().total.texts == 4
                and embeddings._lists.bytes == 3 * 8 * 32
            )

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(30)
        try:
            assert exit_code(check) == 0
            assert thread.is_alive()  # it holds the lock until it is told
        finally:
            done.set()
            thread.join()


def test_a_child_forked_between_a_list_and_its_count():
    with TieredCache([MemoryTier()]) as cache:
        embeddings = CachedEmbeddings(RecordingModel(), cache, namespace="model", max_list_bytes=8 * 32 * 2)
        embeddings.embed_documents(["a", "b"])
        lists = embeddings._lists
        lists._kept.popleft()  # as another thread did, which has yet to subtract its bytes
        assert exit_code(lambda: lists.bytes == 8 * 32 and embeddings.embed_documents(["c", "d", "e"])) == 0
