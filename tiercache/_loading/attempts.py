"""One attempt at loading: a single call of the loader, which the ledger counts, where one is kept.

What the call cost is noted where it lasts before anybody gets what it brought. The budget is asked before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiercache._chain.core import Core
from tiercache._loading.loaded import Loaded
from tiercache._loading.loaders import LoadMany
from tiercache._loading.pacing import Texts
from tiercache._running.bridge import LeftRunning, Resumed, Runtime
from tiercache._running.futures import new_future
from tiercache.entry import MISS

if TYPE_CHECKING:
    from tiercache._books.keeping import Bookkeeping

__all__ = ["attempt"]


async def attempt(
    core: Core, runtime: Runtime, load_many: LoadMany, asked: list[str], texts: Texts
) -> dict[str, Any]:
    """What ``load_many`` gives for ``asked``. Raises what it raises, and `BudgetExceeded`. ``texts``: what it
    sends, to estimate its tokens by."""
    books = core.stack.books
    if books is None:
        return await load_many(runtime, asked)
    return await _counted(books, core, runtime, load_many, asked, texts)


async def _counted(
    books: Bookkeeping, core: Core, runtime: Runtime, load_many: LoadMany, asked: list[str], texts: Texts
) -> dict[str, Any]:
    resumed = runtime.left if isinstance(runtime, Resumed) else None
    if resumed is not None and resumed.given is not None:
        return resumed.given  # type: ignore[no-any-return]  # as it was left, below
    call = await books.begin(runtime, core, len(asked)) if resumed is None else resumed.call
    try:
        with call.reporting():
            given = await load_many(runtime, asked)
    except LeftRunning as left:  # who resumes it counts it
        left.call = call
        raise
    except Exception:
        await call.failed(runtime, core, call.seconds)
        raise
    except BaseException:  # cancelled, interrupted or thrown away: nothing is to be awaited
        call.broken_off(core, call.seconds)
        raise
    values = [value.value if isinstance(value, Loaded) else value for value in given.values()]
    # An exception in the place of a value is the outcome of one key in a batch.
    count = len(values) - sum(value is MISS or isinstance(value, Exception) for value in values)
    try:
        await call.ended(runtime, core, values, texts, call.seconds, texts=count)
    except BaseException as error:
        from asyncio import CancelledError

        if not isinstance(error, CancelledError):
            raise
        # It was paid for, and the ledger will have it: so are those to whom it is worth something.
        paid = LeftRunning(new_future(), error)
        paid.given = given
        paid.future.set_result(None)
        raise paid from None
    return given
