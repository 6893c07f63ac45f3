"""Calls of models that no loader of the cache makes, for its ledger and budget, where it has these: those of
queries that are not cached. (`_misses` has those that LangChain makes after a miss of an `LLMCache`.)"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from time import perf_counter
from typing import Any

from tiercache._running.bridge import BLOCKING, NATIVE, drive
from tiercache.chain import TieredCache
from tiercache.spending.prices import ModelPrice
from tiercache.tokens import TokenUsage

__all__ = ["apaying", "books_of", "model_in", "model_of", "note_price", "paying", "per_thousand"]

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


@contextmanager
def paying(view: TieredCache[Any], usage: Callable[[], TokenUsage]) -> Iterator[None]:
    """A call of a model for one text, which has its ``usage`` when it ended well. Raises `BudgetExceeded`."""
    books, core = books_of(view), view._core  # noqa: SLF001 - as above
    if books is None:
        yield
        return
    call, start = drive(books.begin(BLOCKING, core, 1)), perf_counter()
    try:
        yield
    except Exception:
        drive(call.failed(BLOCKING, core, perf_counter() - start))
        raise
    except BaseException:
        call.broken_off(core, perf_counter() - start)
        raise
    drive(call.ended(BLOCKING, core, (), tuple, perf_counter() - start, usage=usage()))


@asynccontextmanager
async def apaying(view: TieredCache[Any], usage: Callable[[], TokenUsage]) -> AsyncIterator[None]:
    """The same, awaited."""
    books, core = books_of(view), view._core  # noqa: SLF001 - as above
    if books is None:
        yield
        return
    call, start = await books.begin(NATIVE, core, 1), perf_counter()
    try:
        yield
    except Exception:
        await call.failed(NATIVE, core, perf_counter() - start)
        raise
    except BaseException:
        call.broken_off(core, perf_counter() - start)
        raise
    await call.ended(NATIVE, core, (), tuple, perf_counter() - start, usage=usage())
