"""What the ledgers of caches say of today: `LedgerReader` reads one in a thread of its own, for the tier that
keeps it may be slow, or stand still, and no scrape is to wait for that. `samples` makes metrics of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias
from weakref import ref

from tiercache._chain.stack import Stack
from tiercache._log import logger
from tiercache._running.bridge import BLOCKING, drive
from tiercache._running.futures import in_thread
from tiercache.accounts import LOADER
from tiercache.forks import reset_after_fork
from tiercache.ledger import LedgerRow, Statement
from tiercache.observability._metrics import BUDGET, KINDS, PAID, SAVED, TOKENS, Entered

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["LedgerReader", "Said", "Sample", "samples"]

#: Of one metric: its labels, and the value.
Sample: TypeAlias = tuple[dict[str, str], float]
Labels: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Said:
    """What the ledger of the cache of that name says of today; ``budget``: what may be spent, if there is a
    limit."""

    cache: str
    statement: Statement
    budget: Decimal | None


def samples(
    ledgers: Iterable[Said], label: Callable[[str], str], *, namespaces: bool = False
) -> Iterator[tuple[Entered, list[Sample]]]:
    """Each metric of ledgers, with what there is of it; also those of which there is nothing. ``label`` makes
    text fit for a label."""
    paid: dict[Labels, LedgerRow] = {}
    saved: dict[Labels, LedgerRow] = {}
    currencies: dict[str, str] = {}
    budgets: list[Sample] = []
    for said in ledgers:
        currency = currencies[said.cache] = label(said.statement.currency)
        if said.budget is not None:
            budgets.append(({"cache": said.cache, "currency": currency}, float(said.budget)))
        for row in said.statement.rows:
            known = {"cache": said.cache, "model": label(row.model)}
            if namespaces:
                known["namespace"] = label(row.namespace)
            rows = paid
            if row.tier != LOADER:
                known["tier"], rows = label(row.tier), saved
            at = tuple(known.items())
            # Summed: those beyond what a day has room for, and what two labels have in common.
            rows[at] = rows[at] + row if at in rows else row
    for entered, rows in [(one, paid) for one in PAID] + [(one, saved) for one in SAVED]:
        found: list[Sample] = []
        for at, row in rows.items():
            known = dict(at)
            if entered.is_money:
                known["currency"] = currencies[known["cache"]]
            found.append((known, float(getattr(row, entered.field))))
        yield entered, found
    yield (
        KINDS,
        [
            ({**dict(at), "kind": kind}, float(getattr(row, kind)))
            for at, row in paid.items()
            for kind in TOKENS
        ],
    )
    yield BUDGET, budgets


class LedgerReader:
    """Of the root of ``stack``, which it holds weakly. Thread-safe."""

    def __init__(self, stack: Stack) -> None:
        self._stack = ref(stack)
        #: What was said last, of which day.
        self._latest: tuple[str, Statement] | None = None
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """The thread that reads is the parent's."""
        self._lock = threading.Lock()
        self._reading: Future[None] | None = None

    def begin(self) -> None:
        """Read it, unless somebody does."""
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading = in_thread(self._read)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may have it too: it is in a tier, and not in memory."""
        stack = self._stack()
        return stack is not None and stack.books is not None and stack.books.place.name != ""

    @property
    def budget(self) -> Decimal | None:
        """What may be spent in a day."""
        stack = self._stack()
        spending = None if stack is None or stack.books is None else stack.books.spending
        return None if spending is None else Decimal(spending.budget.per_day)

    def latest(self, seconds: float) -> Statement | None:
        """What it says, read for at most so long; ``None`` where nothing is known of today, and once the
        cache is closed."""
        from concurrent.futures import wait

        reading = self._reading
        if reading is not None:
            wait([reading], seconds)
        stack, latest = self._stack(), self._latest
        if stack is None or stack.closed or stack.books is None or latest is None:
            return None
        day, statement = latest
        return statement if day == stack.books.today() else None

    def _read(self) -> None:
        stack = self._stack()
        if stack is None or stack.closed or stack.books is None:
            return
        day = stack.books.today()
        try:
            self._latest = day, drive(stack.books.read(BLOCKING, day))
        except Exception as error:  # noqa: BLE001 - the tier is ill, which is told elsewhere
            logger().debug("a ledger cannot be exported just now: %s", type(error).__name__)
