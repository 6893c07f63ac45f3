"""The budget of a chain: may a loader be called, and who is told when much of it is spent.

Before each call the sum of the day is read where the ledger is kept, so that all processes see the same; to
it comes what this one has spent that is not in it (see `tiercache._books.pending`), and what its calls under
way will probably cost. A call begins while that is less than the limit, and counts from that moment on. So
what is spent beyond the limit is at most what the calls under way cost then: one for each thread or task of
each other process, and of this process as much as they cost more than calls before.

Where the sum cannot be read the last one counts, with what this process has spent since. Where it has
shrunk, the tier has lost its data, and a budget must not begin anew with each loss: so it is taken for no
less than what was read on that day, or than this process has spent on it.
"""

from __future__ import annotations

import threading
from decimal import Decimal
from uuid import uuid4
from weakref import ref

from tiercache._books.books import Books
from tiercache._books.pending import Watch
from tiercache._log import logger
from tiercache._running.bridge import Runtime
from tiercache.accounts import EXACT, PICO
from tiercache.budget import Budget
from tiercache.errors import BudgetExceeded
from tiercache.events import BudgetReached, Emitter
from tiercache.forks import reset_after_fork
from tiercache.ledger import money

__all__ = ["Spending"]

#: So many shares of days are known to be told: of more days than clocks go back.
_MOST_TOLD = 100
#: And so many models.
_MOST_MODELS = 100


class Spending:
    """Thread-safe; a forked child has nothing under way."""

    def __init__(self, budget: Budget, books: Books, events: Emitter) -> None:
        self.budget = budget
        self._ref = ref(books)
        self._events = events
        #: The sum that was read last, and what watches since then, which has its day.
        self._known: tuple[int, Watch] = (0, books.pending.watch(""))
        #: What this process has spent on its day.
        self._own = books.pending.watch("")
        #: What a text costs, as a mean over the calls of this process; the first ones cost nobody knows what.
        self._paid = self._texts = 0
        self._token = uuid4().hex
        self._told: set[tuple[str, float]] = set()
        self._unpriced: set[str] = set()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """No call of the parent's ends here."""
        self._under_way: dict[object, int] = {}
        self._lock = threading.RLock()  # re-entrant: a destructor may load something meanwhile

    async def begin(self, runtime: Runtime, texts: int) -> object:
        """A call for ``texts`` may begin; what `end` takes. Raises `BudgetExceeded`."""
        call = object()
        try:
            await self._ask(runtime, call, texts)
        except BaseException:
            self.end(call)
            raise
        return call

    async def check(self, runtime: Runtime) -> None:
        """Raise `BudgetExceeded` unless a call may begin."""
        await self._ask(runtime, None, 0)

    async def _ask(self, runtime: Runtime, call: object, texts: int) -> None:
        day = self._books.today()
        await self._read(runtime, day)
        with self._lock:  # or calls that ask at the same moment would not see each other
            spent = self._spent(day)
            under_way = sum(self._under_way.copy().values())
            exceeded = spent + under_way >= self.budget.limit and self.budget.action == "block"
            if call is not None and not exceeded:
                self._under_way[call] = texts * self._paid // self._texts if self._texts else 0
        await self.tell(runtime, day, spent)
        if exceeded:
            limit = Decimal(self.budget.per_day)
            raise BudgetExceeded(_amount(spent), limit, day, self._currency, _amount(under_way))

    def end(self, call: object) -> None:
        """It has ended, in whatever way."""
        self._under_way.pop(call, None)

    async def paid(self, runtime: Runtime, day: str, texts: int, cost: int) -> None:
        """A call for ``texts`` cost so much on that day, and was recorded."""
        with self._lock:
            self._paid += cost
            self._texts += texts
            spent = self._spent(day)
        await self.tell(runtime, day, spent)

    def unpriced(self, model: str) -> None:
        """Tell, once a model, that a call cost nobody knows what: a budget of such calls never ends, and who
        set it believes that it does. (No error, for the value is paid for, and prices of others may do.)"""
        if model in self._unpriced or len(self._unpriced) >= _MOST_MODELS:
            return
        self._unpriced.add(model)
        logger().warning(
            "a call counts nothing in the budget, as it is of %s: give prices= a price of it, under the name "
            "that model= has",
            f"a model {model!r} without a price" if model else "no model that has a name",
        )

    async def tell(self, runtime: Runtime, day: str, spent: int) -> None:
        """Tell of each share of the budget that is spent by now, unless some process has, that day."""
        for share in (*self.budget.warn_at, 1.0):
            if spent < share * self.budget.limit or not self._is_mine(day, share):
                continue
            try:
                first = await self._is_first(runtime, day, share)
            except BaseException:  # cancelled or interrupted: the next call is to tell
                self._told.discard((day, share))
                raise
            if first:
                self._say(day, share, spent)

    def _is_mine(self, day: str, share: float) -> bool:
        """Whether nobody else of this process tells, or has told, of ``share``."""
        with self._lock:
            if (day, share) in self._told:
                return False
            if len(self._told) > _MOST_TOLD:  # not sooner: a clock may be set back over midnight
                self._told = {one for one in self._told if one[0] == day}
            self._told.add((day, share))
            return True

    async def _is_first(self, runtime: Runtime, day: str, share: float) -> bool:
        name = f"{self._books.root}\n{self.budget.per_day}\n{share}"
        try:
            return bool(await self._books.place.ask(runtime, "claim", day, name, self._token))
        except Exception as error:  # noqa: BLE001 - better told twice than never
            self._books.place.failed(error, "tell of the budget")
            return True

    def _say(self, day: str, share: float, spent: int) -> None:
        limit = Decimal(self.budget.per_day)
        over = share >= 1.0
        blocks = over and self.budget.action == "block"
        event = BudgetReached(self._books.place.name, share, _amount(spent), limit, day, self._currency)
        logger().warning(
            "%g %% of the budget of %s is spent: %s of %s %s%s",
            share * 100,
            day,
            money(_amount(spent)),
            money(limit),
            self._currency,
            "; loaders are not called until midnight UTC" if blocks else "",
            extra={"tiercache": event.as_dict()},
        )
        self._events.emit(event)

    async def _read(self, runtime: Runtime, day: str) -> None:
        """Read what was spent on ``day``; where that fails, the last reading counts on."""
        books = self._books
        if self._own.day != day:
            with self._lock:
                before, self._own = self._own, books.pending.watch(day)
            books.pending.leave(before)
        watch = books.pending.watch(day)
        try:
            spent = int(await books.place.ask(runtime, "spent", day, books.root, reads=True))
        except Exception as error:  # noqa: BLE001 - the ledger never breaks a call
            books.pending.leave(watch)
            books.place.failed(error, "tell what was spent")
            return
        except BaseException:
            books.pending.leave(watch)
            raise
        with self._lock:
            read, old = self._known
            self._known = max(spent, read if old.day == day else 0), watch
        books.pending.leave(old)

    def _spent(self, day: str) -> int:
        """What was spent on ``day``, as far as can be told: never less. The lock is held."""
        # What is on its way first: it may be confirmed before the next step, and then counts twice.
        pending = self._books.pending.money(day)
        read, watch = self._known
        known = (read if watch.day == day else 0) + watch.money(day)
        return max(known, self._own.money(day)) + pending

    @property
    def _books(self) -> Books:
        books = self._ref()
        assert books is not None  # noqa: S101 - they hold this
        return books

    @property
    def _currency(self) -> str:
        return "" if self._books.prices is None else self._books.prices.currency


def _amount(pico: int) -> Decimal:
    return EXACT.divide(pico, PICO)
