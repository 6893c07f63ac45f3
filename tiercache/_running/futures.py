"""Futures that threads and tasks wait for, and calls in a thread of their own, which end with one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["in_thread", "new_future"]

T = TypeVar("T")


def new_future() -> Future[Any]:
    """A future that no waiter can cancel: cancelling a wrapped *pending* one would cancel it for all."""
    from concurrent.futures import Future

    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def in_thread(function: Callable[[], T]) -> Future[T]:
    """Call ``function`` in a thread of its own. For loaders: however many of them wait for each other,
    there is always a thread for the next."""
    future: Future[T] = new_future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)

    threading.Thread(target=run, name="tiercache-loader", daemon=True).start()
    return future
