"""What a chain has of its ledger: counting calls and hits, and asking the budget. `Books` notes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from time import perf_counter
from typing import Any, Protocol
from weakref import ref

from tiercache._books.books import Books, Place, name_of, text_of
from tiercache._books.counting import amounts_of, sound, usage_of
from tiercache._books.spending import Spending
from tiercache._running.bridge import Runtime
from tiercache.accounts import LOADER, MICRO, MISSED, Account
from tiercache.budget import Budget
from tiercache.events import Emitter
from tiercache.ledger import Ledger, Pricing
from tiercache.protocols import Clock
from tiercache.tokens import TokenUsage, reported

__all__ = ["Bookkeeping", "Call"]


class Tab(Protocol):
    """What the tiers have answered in a view; see `tiercache._chain.stack.Tab`."""

    path: tuple[str, ...]
    model: str
    roads: Any
    hits: list[int]
    taken: list[int]


class Viewed(Protocol):
    """A view: the core's."""

    path: tuple[str, ...]
    model: str


class Price(Protocol):
    """The price of a model: `tiercache.spending.ModelPrice`."""

    def cost(self, usage: TokenUsage) -> Decimal: ...


class Tabs(Protocol):
    """The stack of a chain, as far as it is needed here."""

    clock: Clock
    events: Emitter
    guards: Any

    def tabs(self) -> Iterable[Tab]: ...


class Bookkeeping(Books):
    """The ledger of ``stack``, whose hits it takes up. Thread-safe."""

    def __init__(
        self,
        stack: Tabs,
        place: Place,
        root: tuple[str, ...],
        ledger: Ledger,
        prices: Pricing | None,
        budget: Budget | None,
        *,
        wake: Callable[[Books], None],
        leave: Callable[[Books], None],
    ) -> None:
        # Weakly: it holds these.
        self._stack = ref(stack)
        self._names = [guard.name for guard in stack.guards]
        self._leave = leave
        self._outside = False
        super().__init__(place, root, stack.clock, ledger, prices, wake=wake)
        #: Those of models that the table has none of.
        self.own_prices: dict[str, Price] = {}
        self.spending = None if budget is None else Spending(budget, self, stack.events)

    def after_fork(self) -> None:
        super().after_fork()
        self._hits: dict[tuple[tuple[str, ...], str, str], int] = {}
        self._counting = threading.RLock()  # re-entrant: a destructor may use this cache meanwhile

    def leave(self) -> None:
        """Nobody is to look at them any more: the tiers are closed."""
        self._leave(self)

    def look_from_outside(self) -> None:
        """Hits are no longer counted: who asks is not the application."""
        self._outside = True

    # -- hits --------------------------------------------------------------------------------------

    def _count(self, path: tuple[str, ...], model: str, tier: str, texts: int) -> None:
        name = path, model, tier
        with self._counting:
            self._hits[name] = self._hits.get(name, 0) + texts

    def retired(self, tab: Tab) -> None:
        """Take up what was answered since the last time. The last one is when a view is forgotten."""
        for depth, road in enumerate(tab.roads):
            with self._counting:
                count = tab.hits[depth] + (0 if road is None else road.hit_count())
                new, tab.taken[depth] = count - tab.taken[depth], count
            if new > 0:
                self._count(tab.path, tab.model, self._names[depth], new)
        with self._counting:
            count = tab.hits[-1]
            new, tab.taken[-1] = count - tab.taken[-1], count
        if new > 0:
            self._count(tab.path, "", MISSED, new)

    def _served(self) -> Iterator[tuple[tuple[str, ...], str, str, int]]:
        stack = self._stack()
        for tab in () if stack is None else stack.tabs():
            self.retired(tab)
        with self._counting:
            hits, self._hits = self._hits, {}
        if self._outside:
            return
        for (path, model, tier), texts in hits.items():
            yield path, model, tier, texts

    # -- calls -------------------------------------------------------------------------------------

    async def check(self, runtime: Runtime) -> None:
        """Raise `BudgetExceeded` unless a call might begin now: for who has something else to wait for, and
        takes what others could have."""
        if self.spending is not None:
            await self.spending.check(runtime)

    async def begin(self, runtime: Runtime, view: Viewed, texts: int) -> Call:
        """A call for ``texts`` of ``view`` may begin. Raises `BudgetExceeded`."""
        under_way = None if self.spending is None else await self.spending.begin(runtime, texts)
        return Call(self, view.model, under_way, texts)

    def made(self, view: Viewed, texts: int, model: str) -> Call:
        """One that somebody made by himself, of ``model`` if that is known."""
        return Call(self, model or view.model, None, texts)

    def cost(self, model: str, usage: TokenUsage) -> Decimal | None:
        """What ``usage`` costs; ``None`` where nobody gave a price."""
        cost = None if self.prices is None else self.prices.cost(model, usage)
        if cost is None and model in self.own_prices:
            return self.own_prices[model].cost(usage)
        return cost


class Call:
    """A call of a loader that is under way."""

    __slots__ = ("_begun", "_books", "_model", "_reports", "_texts", "_under_way")

    def __init__(self, books: Bookkeeping, model: str, under_way: object, texts: int) -> None:
        self._books = books
        self._model = model
        self._under_way = under_way
        self._texts = texts
        self._reports: list[TokenUsage] = []
        self._begun = perf_counter()

    @property
    def seconds(self) -> float:
        """How long it has taken by now."""
        return perf_counter() - self._begun

    def reporting(self) -> AbstractContextManager[None]:
        """What is reported inside is this call's."""
        return reported(self._reports)

    def drop(self) -> None:
        """Somebody else counts it."""
        if self._books.spending is not None:
            self._books.spending.end(self._under_way)

    async def failed(self, runtime: Runtime, view: Viewed, seconds: float) -> None:
        """It raised. What it reported before that was paid for."""
        await self._record(runtime, view, self._of_failed(seconds), 0)

    def broken_off(self, view: Viewed, seconds: float) -> None:
        """The same, and nothing can be awaited."""
        self.drop()
        self._books.note(self._account(view), self._of_failed(seconds))

    async def ended(
        self,
        runtime: Runtime,
        view: Viewed,
        values: Sequence[Any],
        asked: Callable[[], Iterable[str]],
        seconds: float,
        *,
        usage: TokenUsage | None = None,
        texts: int | None = None,
    ) -> None:
        """It brought ``values`` for the texts that were ``asked``. ``usage``: what it took,
        for who knows; ``texts``: for how many it brought something, unless for all."""
        texts = self._texts if texts is None else texts
        books = self._books
        if usage is None:
            usage = usage_of(books.ledger, self._reports, values, asked)
        else:
            usage = next(iter(sound([usage])), TokenUsage(estimated=True))
        amounts = amounts_of(usage, texts, seconds, books.cost(self._model, usage))
        await self._record(runtime, view, amounts, texts)

    async def _record(self, runtime: Runtime, view: Viewed, amounts: Mapping[str, int], texts: int) -> None:
        account = self._account(view)
        try:
            await self._books.record(runtime, account, amounts, self.drop)
        finally:
            self.drop()
        if self._books.spending is None:
            return
        if amounts.get("unpriced"):
            self._books.spending.unpriced(self._model)
        if amounts["calls"] > amounts.get("failed", 0):
            await self._books.spending.paid(runtime, account.day, texts, amounts["money"])

    def _account(self, view: Viewed) -> Account:
        return Account(self._books.today(), name_of(view.path), text_of(self._model), LOADER)

    def _of_failed(self, seconds: float) -> dict[str, int]:
        reports = sound(self._reports)
        if reports:
            usage = sum(reports[1:], reports[0])
            told = amounts_of(usage, 0, seconds, self._books.cost(self._model, usage))
            return {**told, "failed": 1}
        return {"calls": 1, "failed": 1, "micros": round(seconds * MICRO)}
