"""Every error that tiercache raises, in one tree.

::

    TierCacheError
    ├── ConfigError (ValueError)         a wrong argument, option or file
    │   └── MissingPackage (ImportError) an optional package is not installed
    ├── ArchiveError                     an archive that is damaged, cut short, in use, or none
    ├── BudgetExceeded                   a loader was not called: the day's budget is spent
    ├── CacheClosed                      a call on a cache or tier after ``close()``
    ├── CodecError                       a value that its codec cannot encode, or bytes it cannot decode
    │   └── ForeignPayload               … bytes that it cannot judge: of an unknown key or format version
    ├── LoadError                        a loader that broke its contract
    ├── WriteError                       no tier took a write, or neither a tier nor the journal a delete
    └── TierError                        one tier failed
        ├── TierTimeout                  … ran out of its deadline
        ├── TierUnavailable              … cannot be reached
        │   └── TierFull                 … has no room for more; it still reads and deletes
        └── EntryRejected                … refused entries that do not fit; it kept the others

Reads never raise a `TierError`: a tier that is ill is a miss at that tier, counted in its statistics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "ArchiveError",
    "BudgetExceeded",
    "CacheClosed",
    "CodecError",
    "ConfigError",
    "EntryRejected",
    "ForeignPayload",
    "LoadError",
    "MissingPackage",
    "TierCacheError",
    "TierError",
    "TierFull",
    "TierTimeout",
    "TierUnavailable",
    "WriteError",
]

DISTRIBUTION = "tiercache-framework"


class TierCacheError(Exception):
    """The root of the tree: ``except TierCacheError`` catches all that is ours.

    Cause: one of the errors below it; nothing raises the root itself.

    Cure: that of the error that was raised. Where a program can do without its cache, catch this one.
    """


class ConfigError(TierCacheError, ValueError):
    """An argument or option is wrong; the message says which, what was found and what is allowed.

    Cause: a value of the wrong kind or out of its range, an option that there is not, or a file that
    cannot be read or says what is not allowed.

    Cure: what the message names. ``tiercache check`` tells all that is wrong with a file at once.
    """


class MissingPackage(ConfigError, ImportError):
    """An optional package is needed and not installed; the message holds the ``pip install`` line.

    Cause: the extra that has the package was not installed with tiercache.

    Cure: the line in the message.
    """

    def __init__(self, package: str, extra: str, needed_by: str) -> None:
        super().__init__(
            f"{needed_by} needs the package {package!r}, which is not installed: "
            f'pip install "{DISTRIBUTION}[{extra}]"'
        )
        self.package = package
        self.extra = extra
        self.needed_by = needed_by

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra, self.needed_by)


class ArchiveError(TierCacheError):
    """An archive is damaged, cut short, or none at all; another export has it; or an entry does not fit in.

    ``offset`` is how many of its bytes, ``entries`` how many of its entries are whole before that place;
    ``truncated`` tells that it merely ends too early, and ``report`` what an import did before it.

    Cause: a copy or an export that broke off (``truncated``), a damaged medium, a file of something else,
    a second export to the same file at once, or an entry of more than 4 GiB.

    Cure: fetch the file anew, or run the export again with ``resume``. The entries before the damage are
    imported already, and stay.
    """

    report: Any = None

    def __init__(self, message: str, *, offset: int = 0, entries: int = 0, truncated: bool = False) -> None:
        super().__init__(message)
        self.offset = offset
        self.entries = entries
        self.truncated = truncated


class BudgetExceeded(TierCacheError):
    """A loader was not called, since the budget of ``day`` (a date in UTC) is spent: ``spent`` of ``limit``,
    in ``currency``; or what this process's calls ``under_way`` will probably cost is all that is left. Hits
    go on being served; the next day loads again.

    Cause: what calls cost today, with those under way, has reached the ``limit`` of a `Budget` that blocks.

    Cure: serve without what was to be loaded, wait for the next day, or raise the limit. The ledger tells
    what the money was spent on.
    """

    def __init__(self, spent: Any, limit: Any, day: str, currency: str = "", under_way: Any = 0) -> None:
        self.spent = spent
        self.limit = limit
        self.day = day
        self.currency = currency
        self.under_way = under_way
        sums = f"{_plain(spent)} of {_plain(limit)}{f' {currency}' if currency else ''}"
        again = "values that are cached are still served, and loaders are called again"
        super().__init__(
            f"the budget of {day} is spent: {sums}; {again} from midnight UTC"
            if spent >= limit
            else f"the budget of {day} leaves room for no other call: {sums} are spent, and calls under way "
            f"will cost about {_plain(under_way)}; {again} if these cost less, or from midnight UTC"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.spent, self.limit, self.day, self.currency, self.under_way)


class CacheClosed(TierCacheError):
    """The cache (or tier) was closed; make a new one.

    Cause: ``close`` was called, or a ``with`` block left, while somebody still had the object.

    Cure: close it where nobody uses it any more, at the end of the process or of the application's
    lifespan.
    """


class CodecError(TierCacheError):
    """A codec could not encode a value or decode bytes.

    Cause: a value of a type that the codec does not take; or bytes that somebody else wrote, or that were
    damaged.

    Cure: the codec that fits the values, in a namespace of its own. At reading there is nothing to do: a
    chain counts such bytes as ``corrupt`` and takes them for a miss.
    """


class ForeignPayload(CodecError):
    """Bytes that a codec cannot judge: of a key or a format version that it does not know, and another
    process may. A chain takes them for a miss and leaves them where they are; any other `CodecError` at
    decoding means damage, which it counts and deletes.

    Cause: another process has a newer version of the library, or a key that is not among those given
    here.

    Cure: give all processes the keys that are in use (the newest first), and update them to one version.
    """


class LoadError(TierCacheError):
    """A loader returned something that does not fit its keys, or asked for its own key.

    Cause: fewer or more values than keys came back, or neither a sequence nor a mapping; or a loader asks
    the cache for the key that it is loading, and would wait for itself.

    Cure: return one value for each key in their order, or a mapping; have the inner call ask for another
    key.
    """


class WriteError(TierCacheError):
    """A write that no tier accepted, or a delete that a tier did not confirm and no journal could note.

    Cause: all tiers are ill or full, or none of them takes values of that size; at a delete, a tier is
    ill, and the disk tier, which keeps the journal, could not note that either. (Without a disk tier the
    process itself notes it, and nothing is raised.)

    Cure: see to the tiers (the error's cause and the log tell what each said), and delete again: this
    process does not serve the value from that tier, but others may, and the next one.
    """


class TierError(TierCacheError):
    """One tier failed. `tier` is its name, where it is known.

    Cause: what the tier's server, driver or disk said, which is the error's cause.

    Cure: that of the tier. It reaches callers from what lists or purges, and as the cause of a
    `WriteError`; reads go on without the tier.
    """

    def __init__(self, message: str, *, tier: str | None = None) -> None:
        super().__init__(message)
        self.tier = tier

    def __reduce__(self) -> tuple[Any, ...]:
        return _raised_again, (type(self), self.args, self.__dict__)


class TierTimeout(TierError):
    """A tier ran out of its deadline.

    Cause: a slow or hanging server or disk, a connection that was cut silently, or a ``deadline`` that is
    too short for as many keys as were asked for.

    Cure: look at the server first; then give the tier a longer ``deadline``, or ask for fewer keys at
    once.
    """


class TierUnavailable(TierError):
    """A tier cannot be reached, or cannot be written.

    Cause: the server is down or refuses the connection or the login, the disk is read-only or away; or it
    failed so often that its circuit is open, and it was not even asked (``skipped``).

    Cure: see to the server. The tier is probed and taken back by itself; nothing has to be restarted.
    """

    #: Whether it was not even asked, because it had failed too often: its circuit was open.
    skipped = False


class TierFull(TierUnavailable):
    """A tier's disk or server has no room for what it was to store. What it holds can be read and deleted.

    Cause: the disk, the quota or the server's memory is used up by others than this tier, whose own bound
    is larger than what is left.

    Cure: make room, or lower ``max_bytes``, so that the tier evicts before there is none.
    """


class EntryRejected(TierError):
    """A tier's `mset` stored what fits and refused `keys`, which exceed its whole budget.

    Cause: one value is larger than the tier's ``max_bytes``, or than its server takes in one piece.

    Cure: raise the bound, keep smaller values, or let them live in the tiers that took them: nothing is
    lost.
    """

    def __init__(self, keys: Iterable[str], reason: str, *, tier: str | None = None) -> None:
        self.keys = tuple(keys)
        super().__init__(f"{len(self.keys)} entries rejected: {reason}", tier=tier)


def _plain(amount: Any) -> str:
    """To the hundredth, and a small amount to the millionth."""
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:,.6f}".rstrip("0").rstrip(".")


def _raised_again(kind: type[TierError], args: tuple[Any, ...], attributes: dict[str, Any]) -> TierError:
    """An error out of a pickle: a process pool hands on what its workers raise."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error
