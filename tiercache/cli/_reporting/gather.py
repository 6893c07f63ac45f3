"""Gathers what a report says: from the tiers, the shared statistics and the ledger. Changes nothing.

What cannot be read is one of the problems, and the rest is gathered all the same. What a backend says of its
failure is told to ``tell`` alone: it may name hosts and paths, and reports are passed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tiercache._chain.member import Member
from tiercache._chain.nested import ChainTier
from tiercache._guard.guarded import GuardedTier
from tiercache._ledgered import first_day
from tiercache._log import describe
from tiercache._running.bridge import BLOCKING, drive
from tiercache.chain import TieredCache
from tiercache.cli._lasting import fleeting, listed
from tiercache.cli._output import printable
from tiercache.cli._reporting.popular import popular_keys
from tiercache.cli._reporting.record import Books, Day, Popular, Report, Spent, Statistics, TierPart
from tiercache.cli.stats import savings
from tiercache.errors import ConfigError, TierError, TierTimeout
from tiercache.ledger import LedgerRow, Statement
from tiercache.shared_stats import EARLIER, Record, Unreadable, summed

__all__ = ["Tell", "gather"]

#: Keys asked for at a time.
_PAGE = 1000

Tell = Callable[[str], None]

_NO_STATISTICS = (
    "The cache shares no statistics, so there are no hit ratios and latencies of its tiers: give it a disk "
    "tier that it may write to, or stats_file."
)
_NO_LEDGER = (
    "The cache keeps no ledger, so nothing is known of single days, money and hours: set ledger = true, or "
    "name a file of prices, in its configuration."
)
_OWN_LEDGER = (
    "No tier of this configuration can keep a ledger, so each process keeps one in its memory, and what it "
    "spends and saves is not known here."
)
_NO_POPULAR = "The cache counts no keys, so none are known to be popular: set popular in its configuration."
_NO_PRICES = "No prices are given, so nothing is known of money: set prices in the configuration."


@dataclass(slots=True)
class _Remarks:
    tell: Tell
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def failed(self, what: str, error: Exception) -> None:
        """``what`` is for the report; why, for who called."""
        self.problems.append(what)
        reason = str(error) if isinstance(error, TierError | Unreadable) else describe(error)
        self.tell(f"{what}: {reason}")


def gather(
    cache: TieredCache[Any], *, since: str | None, most: int, popular: int | None = None, tell: Tell
) -> Report:
    """What there is to say of ``cache`` ``since`` a day, or how long ago, of which at most so many entries of
    each tier are counted, and so many ``popular`` keys are named, if any were asked for. Raises `ConfigError`
    for what is no day, or one to come."""
    now = datetime.now(UTC)
    today = now.date()
    first = first_day(since, now.timestamp())
    if first > today.isoformat():
        raise ConfigError(f"since: {first} is yet to come; today is {today} (UTC)")
    remarks = _Remarks(tell)
    statistics = _statistics(cache, remarks)
    tiers = tuple(_tiers(cache, statistics, most, remarks))
    books = _books(cache, first, today, remarks)
    return Report(
        cache="/".join(printable(part) for part in cache._core.path),  # noqa: SLF001 - see `_members`
        made_at=now.timestamp(),
        since=first,
        tiers=tiers,
        statistics=statistics,
        books=books,
        budget=None if books is None else _budget(cache, books, today),
        popular=None if popular is None else _popular(cache, statistics, popular, most, tiers, remarks),
        problems=tuple(remarks.problems),
        hints=tuple(remarks.hints),
    )


# -- tiers -----------------------------------------------------------------------------------------


def _tiers(
    cache: TieredCache[Any], statistics: Statistics | None, most: int, remarks: _Remarks
) -> Iterable[TierPart]:
    told = {} if statistics is None else {tier["name"]: tier for tier in statistics.total["tiers"]}
    own = fleeting(cache)
    able = {member.guard.name for member in listed(cache)}
    for member in cache._core.members:  # noqa: SLF001 - it is of no use to those who write applications
        name = member.guard.name
        counted = told.get(name)
        tier = TierPart(printable(name), _kind(member.guard.tier), "unlisted", counted=counted)
        if name in own:
            entries, size = (None, None) if counted is None else (counted["entries"], counted["bytes"])
            yield replace(tier, state="memory", entries=entries, bytes=size)
        elif name not in able or not most:
            yield tier
        else:
            yield _counted(member, tier, most, remarks)


def _counted(member: Member, tier: TierPart, most: int, remarks: _Remarks) -> TierPart:
    entries, size, cursor = 0, 0, None
    weighs = True
    try:
        while True:
            keys, cursor = drive(member.page(BLOCKING, "", "", cursor, min(most, _PAGE)))
            lengths = drive(member.lengths(BLOCKING, keys)) if weighs and keys else {}
            entries += len(keys)
            if lengths is None:
                weighs = False
            else:
                size += sum(lengths.values())
            if cursor is None or entries >= most:
                break
    except Exception as error:  # noqa: BLE001 - whatever a tier raises: the others can be asked still
        why = "did not answer in time" if isinstance(error, TierTimeout) else "could not be asked"
        remarks.failed(f"The tier {tier.name} {why}", error)
        return replace(tier, state="down", why=why)
    return replace(
        tier, state="listed", entries=entries, bytes=size if weighs else None, whole=cursor is None
    )


def _kind(tier: Any) -> str:
    """What ``tier`` is, without where it is."""
    inner = tier.tier if isinstance(tier, GuardedTier) else tier
    if isinstance(inner, ChainTier):
        return "chain"
    if not type(inner).__module__.startswith("tiercache."):
        return "other"
    return re.sub(r"tier$", "", type(inner).__name__.lower())


# -- statistics ------------------------------------------------------------------------------------


def _statistics(cache: TieredCache[Any], remarks: _Remarks) -> Statistics | None:
    sharing = cache._stack.sharing  # noqa: SLF001 - as above
    if sharing is None:
        remarks.hints.append(_NO_STATISTICS)
        return None
    try:
        found = sharing.file.read()
    except Unreadable as error:
        remarks.failed("The shared statistics could not be read", error)
        return None
    records = _of(found, sharing.cache)
    if not records:
        remarks.hints.append("No process of this machine has shared its statistics yet.")
        return None
    total = summed(records)
    return Statistics(
        processes=sum(record.token != EARLIER for record in records),
        running=sum(record.state == "running" for record in records),
        started=min(record.started for record in records),
        updated=max(record.updated for record in records),
        total=total,
        saved=savings(total),
    )


def _of(found: Iterable[Record], cache: str) -> list[Record]:
    """Those of ``cache``. What is left of the processes of long ago is not told apart by caches: it is this
    one's where no other is there."""
    records = list(found)
    ours = [record for record in records if record.cache == cache and record.token != EARLIER]
    earlier = [record for record in records if record.token == EARLIER]
    return records if ours and len(ours) + len(earlier) == len(records) else ours


def _popular(
    cache: TieredCache[Any],
    statistics: Statistics | None,
    count: int,
    most: int,
    tiers: Iterable[TierPart],
    remarks: _Remarks,
) -> tuple[Popular, ...]:
    if cache._stack.counts_no_keys:  # noqa: SLF001 - as above
        remarks.hints.append(_NO_POPULAR)
    if statistics is None:
        return ()
    down = [tier.name for tier in tiers if tier.state == "down"]
    return popular_keys(cache, statistics, count, most=most, down=down, failed=remarks.failed)


# -- the ledger ------------------------------------------------------------------------------------


def _books(cache: TieredCache[Any], first: str, today: date, remarks: _Remarks) -> Books | None:
    if cache._stack.books is None:  # noqa: SLF001 - as above
        remarks.hints.append(_NO_LEDGER)
        return None
    if not cache._stack.books.place.name:  # noqa: SLF001 - as above
        remarks.hints.append(_OWN_LEDGER)  # that of this one is empty, and a budget of which nothing is spent
        return None
    try:
        said = cache.ledger(first or None)
    except TierError as error:
        remarks.failed("The ledger could not be read", error)
        return None
    if not said.rows and not said.missed:
        since = f" since {first}" if first else ""
        remarks.hints.append(f"The ledger has counted nothing{since} yet.")
    elif not said.currency:
        remarks.hints.append(_NO_PRICES)
    return Books(
        currency=printable(said.currency),
        days=tuple(_days(said, today)),
        tiers=_named(said, "tier"),
        models=_named(said, "model"),
        namespaces=_named(said, "namespace"),
        total=said.total,
    )


def _days(said: Statement, today: date) -> Iterable[Day]:
    """From the first that has rows, also those that have none."""
    sums = {row.day: row for row in said.by("day")}
    served: dict[str, dict[str, int]] = {}
    for row in said.by("day", "tier"):
        if row.served:
            served.setdefault(row.day, {})[printable(row.tier)] = row.served
    known = sums.keys() | said.missed.keys()
    day = date.fromisoformat(min(known)) if known else today
    names = {(day + timedelta(days=one)).isoformat() for one in range((today - day).days + 1)}
    for name in sorted(names | known):  # one may be ahead at midnight, or by years, which are not filled up
        yield Day(name, sums.get(name) or LedgerRow(day=name), served.get(name, {}), said.missed.get(name, 0))


def _named(said: Statement, name: str) -> tuple[LedgerRow, ...]:
    """The sums by ``name``, the busiest first."""
    rows: list[LedgerRow] = [replace(row, **_shown(row, name)) for row in said.by(name)]
    return tuple(sorted(rows, key=lambda row: row.served + row.texts, reverse=True))


def _shown(row: LedgerRow, name: str) -> Mapping[str, Any]:
    return {name: printable(getattr(row, name))}


def _budget(cache: TieredCache[Any], books: Books, today: date) -> Spent | None:
    spending = cache._stack.books.spending  # type: ignore[union-attr]  # noqa: SLF001 - there are `Books`
    if spending is None:
        return None
    budget, day = spending.budget, today.isoformat()
    spent = sum((one.row.money_spent for one in books.days if one.day == day), Decimal(0))
    return Spent(day, Decimal(budget.per_day), spent, budget.action, tuple(budget.warn_at), books.currency)
