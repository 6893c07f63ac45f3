"""The metrics: what each number of `tiercache.stats` is called elsewhere, and its unit. A number that is not
here is exported nowhere; a test holds that all are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = [
    "BUDGET",
    "CHAIN",
    "KINDS",
    "LATENCIES",
    "MONEY",
    "PAID",
    "QUANTILES",
    "SAVED",
    "TIER",
    "TOKENS",
    "Entered",
    "Latencies",
    "Metric",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """The field of that name in `CacheStats` or `TierStats`: what it counts or, with ``is_state``, how much
    there is of it now. ``unit`` is in UCUM's notation, as OpenTelemetry has it; ``dotted`` is the name there,
    where that is not the field's."""

    field: str
    unit: str
    about: str
    is_state: bool = False
    dotted: str = ""

    def for_prometheus(self, scope: str) -> str:
        """The name there, without the ``_total`` of a counter."""
        return f"{scope}_{self.field}"

    def for_opentelemetry(self, scope: str) -> str:
        """The name there."""
        return f"{scope}.{self.dotted or self.field}"


@dataclass(frozen=True, slots=True)
class Latencies:
    """The quantiles of that field in `TierStats`, in seconds."""

    field: str
    about: str
    dotted: str


CHAIN: Final = (
    Metric("hits", "{hit}", "Keys looked up that some tier had."),
    Metric("misses", "{miss}", "Keys looked up that no tier had."),
    Metric("loads", "{key}", "Keys that loaders were called for."),
    Metric("load_errors", "{key}", "Keys whose loader raised."),
    Metric("load_seconds", "s", "Time spent in loaders.", dotted="load.time"),
    Metric("stale_served", "{value}", "Values served past their time."),
    Metric("suppressed_writes", "{value}", "Values not stored: their key was written meanwhile."),
    Metric("coalesced", "{call}", "Calls that waited for another caller's load and took its value."),
    Metric("promotions_dropped", "{entry}", "Entries not promoted because too much was waiting."),
    Metric("refreshes_dropped", "{key}", "Keys not refreshed because too much was waiting."),
    Metric("unstorable", "{value}", "Loaded values that no tier could keep."),
    Metric("not_admitted", "{value}", "Values kept in memory alone, being small or cheap."),
)

TIER: Final = (
    Metric("hits", "{hit}", "Keys that the tier had, fresh."),
    Metric("misses", "{miss}", "Keys that the tier had no fresh value of, or could not be asked for."),
    Metric("promotions", "{entry}", "Entries copied into the tier from a hit below it."),
    Metric("sets", "{key}", "Keys stored by writes and loads."),
    Metric("deletes", "{key}", "Keys dropped by deletes."),
    Metric("evictions", "{entry}", "Entries pushed out for want of room."),
    Metric("expirations", "{entry}", "Entries found or swept past their time."),
    Metric("errors", "{call}", "Calls that raised something other than a time-out."),
    Metric("timeouts", "{call}", "Calls that ran out of the tier's deadline."),
    Metric(
        "corrupt", "{entry}", "Entries that failed the envelope's checks, or that their codec could not read."
    ),
    Metric("foreign", "{entry}", "Entries of another codec, secret, key or format version."),
    Metric("rejected", "{entry}", "Entries too large for the tier."),
    Metric(
        "skipped",
        "{key}",
        "Keys that the tier was not asked for: its circuit was open, or it is owed a delete. Look-ups are "
        "misses too.",
    ),
    Metric("journalled", "{key}", "Keys of which the tier missed a delete or an overwrite."),
    Metric("settled", "{key}", "Those of them that it was told of since."),
    Metric("owed", "{key}", "Those that are left.", is_state=True),
    Metric("open_circuits", "{circuit}", "Circuit breakers that keep calls from the tier.", is_state=True),
    Metric("entries", "{entry}", "Entries in the tier.", is_state=True),
    Metric("bytes", "By", "Bytes of the values in the tier.", is_state=True, dotted="size"),
    Metric("read_seconds", "s", "Time spent in the tier's look-ups.", dotted="read.time"),
    Metric(
        "write_seconds", "s", "Time spent in the tier's writes, promotions and deletes.", dotted="write.time"
    ),
)

LATENCIES: Final = (
    Latencies(
        "read_latency",
        "Quantiles of the tier's look-ups since the cache was made, within 20 %.",
        "read.latency",
    ),
    Latencies(
        "write_latency",
        "Quantiles of the tier's writes, promotions and deletes since the cache was made, within 20 %.",
        "write.latency",
    ),
)


@dataclass(frozen=True, slots=True)
class Entered:
    """The field of that name in `tiercache.ledger.LedgerRow`, today, and its name behind
    ``tiercache_ledger``; ``unit`` and ``dotted`` are as those of a `Metric`. They are states and no counters:
    each day begins at zero, and an estimate may go down. They are no sums either: each process that shares a
    ledger says the same of it."""

    field: str
    name: str
    unit: str
    about: str
    dotted: str = ""

    @property
    def is_money(self) -> bool:
        """Whether it is in a currency, which is a label."""
        return self.unit == MONEY

    def for_prometheus(self) -> str:
        """The name there."""
        return f"tiercache_ledger_{self.name}"

    def for_opentelemetry(self) -> str:
        """The name there."""
        return f"tiercache.ledger.{self.dotted or self.name}"


#: UCUM knows no currencies. An annotation, and not ``1``: exporters call that a ratio.
MONEY: Final = "{currency}"

#: Of calls of loaders.
PAID: Final = (
    Entered("calls", "calls", "{call}", "Calls of loaders today (UTC), each attempt of a retry among them."),
    Entered("failed", "failed_calls", "{call}", "Those of them that gave nothing."),
    Entered("unpriced", "unpriced_calls", "{call}", "Those of them whose model has no price."),
    Entered("texts", "texts", "{text}", "Keys that calls gave a value for today."),
    Entered("estimated", "estimated_tokens", "{token}", "Tokens of today that nobody counted."),
    Entered(
        "money_spent", "spent_money", MONEY, "Money spent on calls today, in the currency.", "spent.money"
    ),
    Entered("seconds_spent", "spent_seconds", "s", "Time spent in calls today.", "spent.time"),
)
#: Of what a tier had.
SAVED: Final = (
    Entered("served", "served_texts", "{text}", "Keys that the tier had today."),
    Entered("calls_saved", "saved_calls", "{call}", "Calls that this saved, as estimated.", "saved.calls"),
    Entered("money_saved", "saved_money", MONEY, "Money that this saved, as estimated.", "saved.money"),
    Entered(
        "seconds_saved", "saved_seconds", "s", "Time in calls that this saved, as estimated.", "saved.time"
    ),
)
#: The fields that are tokens: each is a ``kind`` of one metric.
TOKENS: Final = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
KINDS: Final = Entered("tokens", "tokens", "{token}", "Tokens of calls today, by kind.")
#: Of a cache that has one, which is no field of a row.
BUDGET: Final = Entered("", "budget_money", MONEY, "Money that may be spent today.", "budget.money")

#: The fields of `tiercache.stats.Latency`, and what they are.
QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
