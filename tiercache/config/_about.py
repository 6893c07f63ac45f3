"""What each option is for, in a sentence or two, and a value that it may have: for schemas and pages.

A test holds the names against the models' fields, and another builds a cache with each of the examples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tiercache.config._codecs import EncryptedOptions, NamedVectorOptions, VectorOptions, ZstdOptions
from tiercache.config._models import (
    ChainOptions,
    DiskOptions,
    MemoryOptions,
    Options,
    RedisOptions,
    RootOptions,
    SQLOptions,
    ViewOptions,
)

__all__ = ["About", "about"]


class About(NamedTuple):
    """What an option is for, and a value that it may have."""

    text: str
    example: Any


#: Of options that mean the same wherever they are, unless a model says otherwise below.
_COMMON = {
    "ttl": About("The longest that an entry is held here, whatever its own life.", "7d"),
    "deadline": About("The longest that a call may take; what takes longer is a miss.", "250ms"),
    "breaker_failures": About("After so many failures in a row the tier is left alone for a while.", 5),
    "breaker_pause": About(
        "How long it is left alone at first; twice as long after each probe that fails.", "2s"
    ),
    "breaker_longest": About(
        "How long it is left alone at most, or for the first pause if that is longer.", "10s"
    ),
    "retries": About("How often a call is made again that failed, though not for time.", 1),
    "name": About(
        "What statistics, errors and the log call the tier. Unless given, its type, numbered where there are "
        "several.",
        "mine",
    ),
    "secret": About(
        "Signs the entries, where others can write to this tier. All that share it need the same; of a list "
        "the first signs, and each one is good.",
        "${CACHE_SECRET:-sixteen bytes and more}",
    ),
}
_AS = About("What a vector is read back as.", "array")
_OWN: dict[type[Options], dict[str, About]] = {
    MemoryOptions: {
        "max_entries": About("How many entries there may be, those of all namespaces together.", 50_000),
        "max_bytes": About("How many bytes their values may have together, as they are encoded.", "256MiB"),
        "ttl": About(
            "The longest that an entry is held here, whatever its own life. Unless given, 300 s above "
            "another tier, and no limit in the lowest.",
            "1m",
        ),
        "policy": About(
            "Which entry goes when room is needed: the one used longest ago, the one used least, the one "
            "written longest ago, any, or one that was not used again soon after it was written.",
            "s3-fifo",
        ),
    },
    DiskOptions: {
        "path": About(
            "Where it is; made if it is missing, and for this cache alone. A relative one begins at the "
            "folder of the file.",
            "cache",
        ),
        "max_bytes": About("How large the database may become.", "2GiB"),
        "max_entries": About("How many entries there may be.", 1_000_000),
        "durability": About(
            'What stored entries survive: "process", the end of the process; "power", a power cut too, which '
            "makes writes slower.",
            "power",
        ),
        "read_only": About("Use a directory that cannot be written, or shall not be.", True),
        "on_unusable": About(
            "What becomes of a directory that cannot be made or written: an error, or a private temporary "
            "one in its place.",
            "temporary",
        ),
    },
    RedisOptions: {
        "url": About("The server, Sentinels or cluster.", "redis://127.0.0.1:6379/0"),
        "prefix": About("Begins every key of this tier on the server.", "app:"),
    },
    SQLOptions: {
        "url": About(
            "The database. A relative path to one of SQLite begins at the folder of the file.",
            "sqlite:///cache.db",
        ),
        "table": About(
            "The table: letters, digits and underscores, on a server after a schema and a dot where wanted.",
            "app_cache",
        ),
        "create": About("Whether the table is made at its first use.", False),
        "max_bytes": About("How many bytes the keys and values of the whole table may have.", "2GiB"),
        "max_entries": About("How many entries the whole table may have.", 1_000_000),
    },
    ChainOptions: {
        "tiers": About("The tiers, the fastest first.", [{"type": "memory"}]),
        "namespace": About("Keeps the keys of this cache apart from others on the same tiers.", "app"),
        "ttl": About("How long an entry lives that is stored without a life of its own.", "30d"),
        "codec": About("What values are, and how they become bytes.", "json"),
        "promote": About(
            "When a hit is copied into the tiers above it: behind the caller, or before the look-up "
            "returns. Memory has it at once.",
            "inline",
        ),
        "stale_for": About(
            "How long after its time a value is still served, at once, while one refresh makes it anew.",
            "10m",
        ),
        "stale_if_error": About("How long after its time a value is served when the loader fails.", "1d"),
        "refresh_ahead": About(
            "Refresh values before their time, the more likely the nearer it is and the longer a load takes; "
            "more is earlier.",
            1.0,
        ),
        "jitter": About("Shorten each life at random by up to this much.", "10%"),
        "sliding": About(
            "An entry ends so long after its last use, and at the end of its `ttl` at the latest; a use "
            "renews it in every tier that holds it.",
            "1h",
        ),
        "load_deadline": About(
            "When a loader takes longer, the caller gets the old value that `stale_if_error` allows, if "
            "there is one.",
            "2s",
        ),
        "lock": About(
            "Which callers one load of a key serves: those of this process, or of all processes that share "
            "the lowest tier which keeps leases (disk, Redis, SQL).",
            "shared",
        ),
        "rate": About(
            "How many calls of loaders there may be in a stretch of time, and of how many tokens; who would "
            "exceed it waits.",
            "500/min, 90000 tokens/min",
        ),
        "rate_shared": About(
            "A Redis (Sentinels, a cluster), through which all processes keep to the rate together.",
            "redis://127.0.0.1:6379/0",
        ),
        "concurrency": About("How many loads there may be at once.", 8),
        "retry": About(
            "How often a loader is called again that failed for a reason that passes (a rate limit, a "
            "time-out), after 2, 4, 8 s and so on, or when the provider says.",
            3,
        ),
        "batch_window": About(
            "Loads of few keys that come within so much time become one call of the loader, if that takes "
            "many keys.",
            "5ms",
        ),
        "max_batch": About("How many keys such a call has at most.", 100),
        "min_bytes": About("Values that are smaller, as they are encoded, are kept in memory alone.", "1KiB"),
        "min_cost": About(
            "Values that were loaded in less time are kept in memory alone; with `min_bytes` too, those "
            "that are small as well.",
            "50ms",
        ),
        "stats_file": About(
            "Where the counters of all processes are shared, for `tiercache stats`. Unless given, beside "
            "the disk tier's database, where there is one.",
            "stats.db",
        ),
        "ledger": About(
            "Whether it is noted what the calls of loaders cost and what hits save, in the lowest tier that "
            "can (disk, Redis, SQL).",
            True,
        ),
        "prices": About(
            "A file with prices of models; with one a ledger is kept. A relative one begins at the folder of "
            "the file.",
            "prices.toml",
        ),
        "budget": About(
            "How much may be spent in a day, or a table: `per_day`, `warn_at` (shares of it) and `action` "
            '("block" or "warn"). With one a ledger is kept.',
            {"per_day": 100.0, "warn_at": [0.75, 0.9], "action": "block"},
        ),
        "model": About("Whose answers are loaded, by its name in the prices.", "a-model"),
        "popular": About(
            "Keys are counted, for `cache.popular()`, with so many counters for each namespace.", 1000
        ),
    },
    RootOptions: {
        "views": About(
            "Views by name: each is a namespace, with its own type of value, over the same tiers.",
            {"pages": {"codec": "text", "ttl": "1h"}},
        ),
    },
    ViewOptions: {
        "namespace": About("Its namespace, inside the cache's. Unless given, its name.", "p"),
        "codec": About("What its values are; the cache's codec is not inherited.", "text"),
        "ttl": About("As the cache's `ttl`, which it is unless given.", "1h"),
        "model": About("As the cache's `model`, which it is unless given.", "another-model"),
    },
    VectorOptions: {
        "dtype": About("The floats that a vector is rounded to.", "float16"),
        "as_": _AS,
    },
    NamedVectorOptions: {"as_": _AS},
    ZstdOptions: {
        "level": About("From fast (1) to small (22).", 9),
        "max_bytes": About(
            "The most that a value may have before it is compressed; all that share a tier need the same.",
            "16MiB",
        ),
    },
    EncryptedOptions: {
        "key": About(
            "The first one encrypts, each one decrypts: put a new one first.",
            "${CACHE_KEY:-000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f}",
        ),
    },
}


def about(model: type[Options], name: str) -> About:
    """What there is to say of the field called ``name``."""
    for one in model.__mro__:
        found = _OWN.get(one, {}).get(name)
        if found is not None:
            return found
    return _COMMON[name]
