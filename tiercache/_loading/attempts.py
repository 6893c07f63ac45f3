"""One attempt at loading: a single call of the loader, which the ledger counts, where one is kept.

What the call cost is noted where it lasts before anybody gets what it brought. The budget is asked before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tiercache._chain.core import Core
from tiercache._loading.loaded import Loaded
from tiercache._loading.loaders import Load
from tiercache._running.bridge import LeftRunning, Resumed, Runtime

if TYPE_CHECKING:
    from tiercache._books.keeping import Bookkeeping

__all__ = ["attempt"]


async def attempt(core: Core, runtime: Runtime, load: Load, asked: list[str], begun: float) -> dict[str, Any]:
    """What ``load`` gives for ``asked``. Raises what it raises, and `BudgetExceeded`. ``begun``: when the
    call began that ``runtime`` resumes, if it does (`perf_counter`)."""
    books = core.stack.books
    if books is None:
        return await load.load_many(runtime, asked)
    return await _counted(books, core, runtime, load, asked, begun)


async def _counted(
    books: Bookkeeping, core: Core, runtime: Runtime, load: Load, asked: list[str], begun: float
) -> dict[str, Any]:
    resumed = runtime.left if isinstance(runtime, Resumed) else None
    call = await books.begin(runtime, core, len(asked)) if resumed is None else resumed.call
    start = perf_counter() if resumed is None else begun
    try:
        with call.reporting():
            given = await load.load_many(runtime, asked)
    except LeftRunning as left:  # who resumes it counts it
        left.call = call
        raise
    except Exception:
        await call.failed(runtime, core, perf_counter() - start)
        raise
    except BaseException:  # cancelled, interrupted or thrown away: nothing is to be awaited
        call.broken_off(core, perf_counter() - start)
        raise
    seconds = perf_counter() - start
    values = [value.value if isinstance(value, Loaded) else value for value in given.values()]
    await call.ended(runtime, core, values, _texts_of(load, asked), seconds)
    return given


def _texts_of(load: Load, asked: list[str]) -> Callable[[], Iterable[str]]:
    """The texts that the loader was asked about, to estimate by: its keys, unless it knows better."""

    def texts() -> Iterable[str]:
        loader = getattr(load.load_many, "__wrapped__", None)
        owner = getattr(loader, "__self__", None)
        told = getattr(owner, "texts_asked", None)
        if callable(told):
            return told(asked)  # type: ignore[no-any-return]  # of whatever class
        from tiercache.memoize import cached_arguments  # it needs inspect

        arguments = None if loader is None else cached_arguments(loader)
        if arguments is None:
            return asked
        from tiercache._books.counting import texts_in

        return texts_in(arguments)

    return texts
