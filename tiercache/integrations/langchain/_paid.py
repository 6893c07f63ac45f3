"""Calls of models whose results are not kept: at the pace of the cache, in its ledger and within its budget,
where it has these. They are those for queries that are not cached. (`_misses` has those that LangChain makes
after a miss of an `LLMCache`.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from tiercache._chain.core import Core
from tiercache._loading.attempts import attempt
from tiercache._loading.loaders import LoadMany, single
from tiercache._loading.pacing import paced
from tiercache._running.bridge import LeftRunning, Resumed, Runtime, Unfinished, drive
from tiercache._running.futures import in_thread
from tiercache.chain import TieredCache
from tiercache.spending.prices import ModelPrice

__all__ = ["books_of", "model_in", "model_of", "note_price", "per_thousand", "unkept"]

#: Models whose prices are kept.
_MOST = 1000
#: Where models keep their names, and where LangChain has those of a call.
_NAMES = ("model_name", "model", "model_id", "deployment_name")


def books_of(cache: TieredCache[Any]) -> Any:
    """What keeps the ledger of ``cache``; ``None`` where none is kept."""
    return cache._stack.books  # noqa: SLF001 - of our own class


def model_of(model: Any, otherwise: str) -> str:
    """What ``model`` says that it is called."""
    names = (getattr(model, name, None) for name in _NAMES)
    return next((name for name in names if isinstance(name, str) and name), otherwise)


def model_in(parameters: Mapping[str, str]) -> str:
    """The same out of the parameters of a call, as a key has them: quoted. "" if they do not tell."""
    return next((parameters[name].strip("'\"") for name in _NAMES if name in parameters), "")


def per_thousand(*prices: float | None) -> ModelPrice:
    """Prices of 1,000 tokens: in, out, and of the provider's own cache."""
    given = [None if price is None else Decimal(str(price)) * 1000 for price in prices]
    names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
    amounts: dict[str, Any] = dict(zip(names, given, strict=False))
    return ModelPrice(**amounts)


def note_price(cache: TieredCache[Any], model: str, price: ModelPrice | None) -> None:
    """The ``price`` of ``model``, where the ledger was given none."""
    books = books_of(cache)
    if books is not None and price is not None and len(books.own_prices) < _MOST:
        books.own_prices[model] = price


async def unkept(
    runtime: Runtime, view: TieredCache[Any], loader: Callable[[str], Any], texts: Sequence[str]
) -> Any:
    """What ``loader`` gives, which sends ``texts`` to a model. It is called as ``view`` calls its own: at the
    same pace, if the budget allows it, and in the ledger. Raises what it raises, `BudgetExceeded`, and
    `CacheClosed`."""
    view._check_open()  # noqa: SLF001 - as above
    core, stack, pace = view._core, view._stack, view._manner.pace  # noqa: SLF001 - as above
    load_many = single(loader)

    async def attempted(runtime: Runtime, keys: list[str]) -> dict[str, Any]:
        return await attempt(core, runtime, load_many, keys, lambda: texts)

    check = None if stack.books is None else stack.books.check
    try:
        given = await paced(runtime, stack.clock, pace, attempted, [""], lambda: texts, check, stack.closing)
    except LeftRunning as left:
        if left.call is not None:
            _go_on(core, left, attempted)
        raise left.cancelled from None
    return given.get("")


def _go_on(core: Core, left: LeftRunning, attempted: LoadMany) -> None:
    """The caller was cancelled while a plain model ran: its call is paid for all the same."""

    async def go_on() -> None:
        with suppress(Exception, Unfinished):  # the model's own; noted, and there is nobody to tell
            await attempted(Resumed(left), [""])

    try:
        in_thread(lambda: drive(go_on()))
    except RuntimeError:  # no more threads: nobody will hear how it ends
        left.call.broken_off(core, left.call.seconds)
