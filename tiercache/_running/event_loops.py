"""Event loops of callers: which one runs here, whether it is over, and what that means for what fails on it.

Nothing here imports asyncio: a program that never did has no loop, and should not pay for it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["is_cancellation", "is_over", "on_its_loop", "running_loop"]


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this very thread, if one does."""
    events = sys.modules.get("asyncio.events")  # a program that never imported it runs no loop
    if events is None:
        return None
    try:
        return events.get_running_loop()  # type: ignore[no-any-return]  # a module by its name is untyped
    except RuntimeError:
        return None


def is_over(loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether ``loop`` will never run again. One that stands still may: taking over would pay twice."""
    return loop is not None and loop.is_closed()


def is_cancellation(error: BaseException) -> bool:
    """Whether a task was cancelled with ``error``. Imports nothing: an interrupt may be what is being
    handled, and the next one would leave the import half done."""
    exceptions = sys.modules.get("asyncio.exceptions")
    return isinstance(error, getattr(exceptions, "CancelledError", ()))


async def on_its_loop(function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    """The result of somebody's async function. If it is thrown away with its event loop, what it raises for
    want of that as it cleans up is no failure."""
    loop = running_loop()
    try:
        return await function(*args, **options)
    except Exception as error:
        if is_over(loop):
            raise GeneratorExit from error
        raise
