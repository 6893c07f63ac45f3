"""The books of a chain: what its calls cost is noted in the tier that keeps the ledger, before their callers
get what they brought.

What was posted is there exactly once. A command that failed may have arrived all the same; so it is repeated
as it was, with its number, by the `Pen` that wrote it, and whoever keeps the ledger knows which it has. While
that is ill, amounts wait here, and are added once it is well; they are lost only with the process.

Hits are counted where they always were, and posted behind the callers: see `Books.settle`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

from tiercache._books.memory import MemoryLedger, folded, merged
from tiercache._books.pending import Pending, Row
from tiercache._guard.guard import Guard
from tiercache._log import logger
from tiercache._running.bridge import BLOCKING, NATIVE, Runtime, drive
from tiercache._running.ports import Port
from tiercache.accounts import FAILED, MOST_ROWS, TOTAL, Account, Amounts, Deposit
from tiercache.errors import ConfigError, TierUnavailable
from tiercache.forks import reset_after_fork
from tiercache.ledger import Ledger, Pricing, Statement, needs_earlier, statement
from tiercache.protocols import Clock

__all__ = ["Books", "Place", "place_of"]

#: Names are kept as they are up to this many characters.
_LONGEST = 200
_LONGEST_PART = 80
#: And the names of views inside one another: where these are cut, one is no longer seen to be inside another.
_LONGEST_PATH = 2000
#: So many rows that wait are added up, account by account: while the tier is ill each call brings more.
_MOST_WAITING = 500
#: How often what is posted is read where this process confirms something meanwhile: is that in it or not?
_READINGS = 3


class Place:
    """Where the ledger is kept: a tier, with its guard, or memory."""

    def __init__(self, guard: Guard | None) -> None:
        self._guard = guard
        store: Any = MemoryLedger() if guard is None else guard.tier
        lane = None if guard is None else guard.lane
        self._store = store
        self._blocking = BLOCKING.port(store, lane)
        # Memory never waits, and need not be sent to a thread.
        self._native = self._blocking if guard is None else NATIVE.port(store, lane)

    @property
    def name(self) -> str:
        """That of the tier; ``""``: memory."""
        return "" if self._guard is None else self._guard.name

    async def ask(self, runtime: Runtime, verb: str, *arguments: Any, reads: bool = False) -> Any:
        """What the method ``verb`` of `SupportsLedger` returns. Raises what the tier raises."""
        port: Port = self._blocking if runtime.blocking else self._native
        method = getattr(port, verb)
        if self._guard is None:
            return await method(*arguments)
        return await self._guard.command(method, *arguments, reads=reads)

    def failed(self, error: Exception, action: str) -> None:
        """Count a call that raised, and say so in the log."""
        if self._guard is not None:
            self._guard.failed(error, action)


def place_of(guards: Sequence[Guard], ledger: Ledger) -> Place:
    """Where a chain of ``guards`` keeps its ledger. Raises `ConfigError` for a name that none of them has, or
    one that cannot."""
    able = [guard for guard in guards if getattr(guard.tier, "ledgers", False) is True]
    if ledger.tier is None:
        return Place(able[-1] if able else None)
    chosen = next((guard for guard in able if guard.name == ledger.tier), None)
    if chosen is None:
        names = ", ".join(guard.name for guard in able) or "none of this chain's"
        raise ConfigError(f"ledger: tier={ledger.tier!r} keeps no ledger; those that can are: {names}")
    return Place(chosen)


class Pen:
    """A writer of deposits, one after the other. ``sent``: the last, until it is confirmed, of these
    ``rows``."""

    __slots__ = ("number", "rows", "sent", "writer")

    def __init__(self) -> None:
        self.writer = uuid4().hex
        self.number = 0
        self.sent: Deposit | None = None
        self.rows: list[Row] = []


class Books:
    """The ledger of a root chain and its views, as one process keeps it. Thread-safe; a forked child goes on
    with what happens in it, and its parent posts the rest."""

    def __init__(
        self,
        place: Place,
        root: tuple[str, ...],
        clock: Clock,
        ledger: Ledger,
        prices: Pricing | None,
        *,
        wake: Callable[[Books], None] | None = None,
    ) -> None:
        self.place = place
        self.clock = clock
        self.ledger = ledger
        self.prices = prices
        #: The namespace of the root, whose `TOTAL` is what the cache has spent.
        self.root = name_of(root)
        self._wake = wake
        #: Whether somebody looks at them every few seconds; read without a lock.
        self.awake = wake is None
        #: Whatever is not yet known to be posted.
        self.pending = Pending()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Nothing of what the parent has to post."""
        # No lock guards these: a load that the garbage collector throws away notes itself, in a thread that
        # may hold any lock. To append and to take is one step each.
        self._pens: deque[Pen] = deque()
        #: What is yet to be posted, and surely was not.
        self._waiting: deque[Row] = deque()
        self.pending.clear()
        self._room = _MOST_WAITING
        self._pruned = ""
        self.awake = self._wake is None

    def rebase(self) -> None:
        """Leave out the hits until now, which the parent posts. In a child, before any other code."""
        for _ in self._served():
            pass

    def _served(self) -> Iterable[tuple[tuple[str, ...], str, str, int]]:
        """The hits since this was last asked: namespace, model, tier, and how many texts."""
        return ()

    # -- what is noted -----------------------------------------------------------------------------

    def today(self) -> str:
        """The day, in UTC."""
        return datetime.fromtimestamp(self.clock.time(), UTC).date().isoformat()

    def note(self, account: Account, amounts: Amounts) -> None:
        """Have ``amounts`` posted with what comes next, or within a few seconds. Takes no time."""
        self._waiting.extend(self._noted(account, amounts))

    async def record(
        self, runtime: Runtime, account: Account, amounts: Amounts, noted: Callable[[], None]
    ) -> None:
        """Post ``amounts`` now, with all that waits. ``noted`` is called once they are among the sums of this
        process. Raises nothing of what the tier raises."""
        if not self.awake:
            self.wake()
        rows = self._noted(account, amounts)
        noted()
        await self._post(runtime, rows)

    async def settle(self, runtime: Runtime) -> None:
        """Post the hits since the last time, and whatever waits, or until that fails."""
        day = self.today()
        own: list[Row] = [
            (Account(day, name_of(path), text_of(model), text_of(tier)), {"served": texts})
            for path, model, tier, texts in self._served()
        ]
        self.pending.add(own)
        if own or self._waiting:
            await self._post(runtime, own)
        for _ in range(len(self._pens)):  # each may have something to repeat, and nobody comes after the last
            before = self.pending.confirmations
            if not any(pen.sent for pen in self._pens.copy()):
                break
            await self._post(runtime, [])
            if self.pending.confirmations is before:
                break

    def publish(self, seconds: float, *, last: bool = False) -> None:  # noqa: ARG002 - the tier has a deadline of its own
        """`settle`, every few seconds behind the callers; see `tiercache._sharing`."""
        try:
            drive(self.settle(BLOCKING))
        except Exception as error:  # noqa: BLE001 - the ledger never breaks a call
            logger().debug("the ledger was not settled: %s", type(error).__name__)

    def end_within(self, seconds: float) -> None:
        """The same at the interpreter's exit."""
        self.publish(seconds)

    def wake(self) -> None:
        """Have them looked at from now on. Idempotent."""
        self.awake = True
        if self._wake is not None:
            self._wake(self)

    def _noted(self, account: Account, amounts: Amounts) -> list[Row]:
        """The rows to post, with what is counted once more, among those that are `pending`."""
        rows: list[Row] = [(account, amounts)]
        if amounts.get("failed"):
            wasted = {name: amounts.get(name, 0) for name in ("micros", "money")}
            rows.append((account._replace(tier=FAILED), wasted))
        if money := amounts.get("money", 0):
            rows.append((Account(account.day, self.root, "", TOTAL), {"money": money}))
        self.pending.add(rows)
        return rows

    async def _post(self, runtime: Runtime, own: list[Row]) -> None:
        pen = self._pen()
        first = False  # whether what was sent last was sent for the first time
        try:
            if pen.sent is not None:
                await self._send(runtime, pen, pen.sent)
            own += self._taken()
            if own:
                keep_from = self._keep_from()
                pen.number += 1
                day = max(account.day for account, _ in own)
                deposit = Deposit(
                    pen.writer, pen.number, day, list(merged(own).items()), keep_from, self.ledger.keep_days
                )
                first, pen.sent, pen.rows, own = True, deposit, own, []
                await self._send(runtime, pen, deposit)
                if keep_from:
                    self._pruned = day
        except Exception as error:  # noqa: BLE001 - what was loaded is worth more than the word that it was
            self.place.failed(error, "keep the ledger")
            if first and pen.sent is not None and isinstance(error, TierUnavailable) and error.skipped:
                own, pen.sent = pen.rows, None  # it was not even asked
        finally:
            self._waiting.extend(own)
            if len(self._waiting) > self._room:
                self._fold()
            # Those with something to repeat are taken first.
            if pen.sent is None:
                self._pens.appendleft(pen)
            else:
                self._pens.append(pen)

    def _fold(self) -> None:
        """Add up what waits: a row for each account, of which there may be as many as a day may have."""
        taken = self._taken()
        rows = list(folded(merged(taken), MOST_ROWS).items())
        self.pending.add(rows)
        self.pending.drop(taken)
        self._waiting.extend(rows)
        self._room = max(_MOST_WAITING, 2 * len(rows))  # or many accounts would be added up each time

    def _pen(self) -> Pen:
        try:
            return self._pens.pop()
        except IndexError:
            return Pen()

    def _taken(self) -> list[Row]:
        """All that waits; it waits no longer."""
        taken: list[Row] = []
        while True:
            try:
                taken.append(self._waiting.popleft())
            except IndexError:
                return taken

    async def _send(self, runtime: Runtime, pen: Pen, deposit: Deposit) -> None:
        await self.place.ask(runtime, "post", deposit)
        rows, pen.sent, pen.rows = pen.rows, None, []
        self.pending.confirm(rows)

    def _keep_from(self) -> str:
        """The first day to keep, once a day."""
        day = self.today()
        if self._pruned == day:
            return ""
        return (date.fromisoformat(day) - timedelta(days=self.ledger.keep_days)).isoformat()

    # -- what is read ------------------------------------------------------------------------------

    async def read(self, runtime: Runtime, since: str, path: tuple[str, ...] | None = None) -> Statement:
        """What the ledger says since that day of the namespace at ``path`` (unless given, the root's) and
        those inside. Raises a `TierError` where it cannot be read."""
        await self.settle(runtime)
        name = self.root if path is None else name_of(path)
        first = (date.fromisoformat(self.today()) - timedelta(days=self.ledger.keep_days)).isoformat()
        rows = await self._read(runtime, max(since, first), name)
        if since > first and needs_earlier(rows, since):
            rows = await self._read(runtime, first, name)
        currency = "" if self.prices is None else self.prices.currency
        return statement(rows.items(), since, currency)

    async def _read(self, runtime: Runtime, since: str, name: str) -> dict[Account, dict[str, int]]:
        """The rows since that day of the namespace ``name`` and those inside, and what is not posted yet."""
        for _ in range(_READINGS):
            before = self.pending.confirmations
            rows = list(await self.place.ask(runtime, "posted", since, reads=True))
            rows += self.unposted()
            if self.pending.confirmations is before:
                break
        inside = f"{name}/"
        return {
            account: amounts
            for account, amounts in merged(rows).items()
            if account.namespace == name or account.namespace.startswith(inside)
        }

    def unposted(self) -> list[Row]:
        """What waits, and what was sent and not confirmed."""
        return self.pending.rows()


def name_of(path: tuple[str, ...]) -> str:
    """A namespace in one line of text, of which no two have the same; the names of views behind slashes."""
    parts = (text_of(part.replace("%", "%25").replace("/", "%2F"), _LONGEST_PART) for part in path)
    return text_of("/".join(parts), _LONGEST_PATH)


def text_of(name: str, longest: int = _LONGEST) -> str:
    """``name`` as every store takes it: the end of a long one is a digest."""
    plain = name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    if len(plain) <= longest:
        return plain
    from hashlib import blake2b  # few need it

    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{plain[: longest - len(digest) - 1]}~{digest}"
