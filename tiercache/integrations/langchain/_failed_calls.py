"""`FailedCalls`: tells the ledger of calls of chat models that failed, of which LangChain tells no cache, and
who waits for a place of those that ended."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from tiercache._running.owners import leavings, thrown
from tiercache.integrations.langchain._misses import Misses

__all__ = ["FailedCalls"]


class FailedCalls(BaseCallbackHandler):
    """See `LLMCache.callback_handler`. LangChain says which run failed; what that had looked up in vain is
    among the ``misses``."""

    #: In the caller's own thread and context, where the look-ups that follow find what is noted here. It is
    #: no wait for an event loop: nothing below does any I/O.
    run_inline = True

    def __init__(self, misses: Misses) -> None:
        self._misses = misses

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        batch_size: int = 1,
        **kwargs: Any,
    ) -> None:
        """A look-up follows, or no cache is asked."""
        del serialized, messages, kwargs
        self._misses.started(run_id, batch_size)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """It ended well, or was answered by the cache."""
        del response, kwargs
        self._misses.ended(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """It failed, or was not even made; or it is a stream that is closed, which the garbage collector may
        do in the middle of anything."""
        del kwargs
        thrown(error)
        if not leavings.take(self._misses.failed, run_id):
            self._misses.failed(run_id)
