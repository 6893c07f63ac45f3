"""Configurations that are wrong, each with all that its author is told."""

from __future__ import annotations

import json

MEMORY = {"type": "memory"}
WAITING = (
    'more than zero seconds, 24 days at most: a number, or text such as "250ms" or "5m" '
    "(units: ms, s, m, min, h, d, w)"
)
LASTING = (
    'more than zero seconds: a number, or text such as "250ms", "5m" or "30d" (units: ms, s, m, min, h, d, w)'
)
WEIGHT = (
    'at least one byte: a whole number, or text such as "64KiB", "256MiB" or "10GB" '
    "(units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)"
)
TYPES = '"memory", "disk", "redis", "sql", "null", "chain"'
REDIS = (
    "a URL that begins with redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, "
    "redis+cluster://, rediss+cluster://"
)
SQL = (
    "a database URL that begins with sqlite://, postgresql://, mysql://, mariadb:// "
    "(with a driver, for instance, postgresql+psycopg://)"
)
CHAIN_KEYS = (
    "tiers, namespace, ttl, codec, promote, stale_for, stale_if_error, refresh_ahead, jitter, sliding, "
    "load_deadline, lock, rate, rate_shared, concurrency, retry, batch_window, max_batch, "
    "min_bytes, min_cost, stats_file, ledger, prices, budget, model, popular"
)
ROOT_KEYS = f"{CHAIN_KEYS}, views"
DRIVERS = (
    "sqlite://, sqlite+aiosqlite://, sqlite+pysqlite://, postgresql://, postgresql+psycopg://, "
    "postgresql+psycopg_async://, mysql://, mysql+asyncmy://, mysql+pymysql://, mariadb://, "
    "mariadb+asyncmy://, mariadb+pymysql://"
)
TABLES = "a list of tables, one for each tier, the fastest first (in TOML: [[tiers]])"
TABLE_NAMES = (
    "use letters, digits and underscores (at most 50, no digit first), after a schema and a dot where wanted"
)
BUDGET = 'an amount above zero and below a million, or a table with per_day, warn_at and action, or "none"'
PATH = 'a path, in which "~" and "~user" are home directories'
CODECS = (
    '"bytes", "json", "text", "vector-f2", "vector-f4", "vector-f8", "zstd-bytes", "zstd-json", "zstd-text", '
    "a table with a type and its options, compress and encrypt"
)
CODEC_TYPES = '"bytes", "json", "text", "vector-f2", "vector-f4", "vector-f8", "vector"'
KEYS = "text of 64 hex digits (32 or 48 will do), or a list of such texts, the current one first"
SECRETS = 'text of 16 bytes and more, or a list of such texts, or "none"'
VIEWS = "a table of tables, one for each view (in TOML: [views.NAME])"
NOT_A_VARIABLE = (
    'holds a "${" that begins no variable; write ${NAME} or ${NAME:-default} '
    '(a default holds no "}" and no other variable), or $${ for the characters themselves'
)

#: What people call a type, and the type.
CALLED = {
    "valkey": "redis",
    "postgres": "sql",
    "postgresql": "sql",
    "mysql": "sql",
    "sqlite": "sql",
    "lru": "memory",
    "file": "disk",
    "filesystem": "disk",
}


#: What a tier of each type is not without.
NEEDED = {
    "memory": {},
    "disk": {"path": "nowhere"},
    "redis": {"url": "redis://h"},
    "sql": {"url": "postgresql://h/db"},
}


def memory(**options):
    return {"tiers": [{"type": "memory", **options}]}


def disk(**options):
    return {"tiers": [MEMORY, {"type": "disk", "path": "nowhere", **options}]}


def redis(**options):
    return {"tiers": [{"type": "redis", "url": "redis://h", **options}]}


def sql(**options):
    return {"tiers": [{"type": "sql", "url": "postgresql://h/db", **options}]}


def codec(made):
    return {"tiers": [MEMORY], "codec": made}


#: A configuration with one thing wrong in it, and all that its author is told.
BAD = [
    # -- the whole
    ({}, "is empty; it needs at least a list of tiers, each with a type"),
    (
        {"namespace": "app"},
        f"tiers: is missing; give {TABLES}",
    ),
    (
        {"tiers": []},
        f'tiers: found an empty list; allowed: {TABLES}; give at least one, such as one of type = "memory"',
    ),
    (
        {"tiers": MEMORY},
        f"tiers: found a table; allowed: {TABLES}; write [[tiers]], not [tiers], above the options of each",
    ),
    (
        {"tiers": [MEMORY], "name_space": "a"},
        f'name_space: is not known; allowed: {ROOT_KEYS}; did you mean "namespace"?',
    ),
    ({"tiers": [MEMORY], "zzz": 1}, f"zzz: is not known; allowed: {ROOT_KEYS}"),
    ({"tiers": [MEMORY], "a b\n": 1}, f'"a b\\n": is not known; allowed: {ROOT_KEYS}'),
    ({"tiers": [MEMORY], 7: 1}, f'"7": is not known; allowed: {ROOT_KEYS}'),
    ({"tiers": [MEMORY], "namespace": 5}, "namespace: found 5; allowed: text"),
    ({"tiers": [MEMORY], "ttl": 0}, f'ttl: found 0; allowed: {LASTING}, or "none"'),
    ({"tiers": [MEMORY], "ttl": True}, f'ttl: found true; allowed: {LASTING}, or "none"'),
    ({"tiers": [MEMORY], "ttl": float("nan")}, f'ttl: found nan; allowed: {LASTING}, or "none"'),
    ({"tiers": [MEMORY], "ttl": -(10**500)}, f'ttl: found a huge number; allowed: {LASTING}, or "none"'),
    ({"tiers": [MEMORY], "ttl": [5]}, f'ttl: found a list; allowed: {LASTING}, or "none"'),
    ({"tiers": [MEMORY], "budget": 0}, f"budget: found 0; allowed: {BUDGET}"),
    ({"tiers": [MEMORY], "budget": "5 a day"}, f'budget: found "5 a day"; allowed: {BUDGET}'),
    ({"tiers": [MEMORY], "budget": [5]}, f"budget: found a list; allowed: {BUDGET}"),
    (
        {"tiers": [MEMORY], "budget": {"per_day": 0}},
        "budget: per_day=0 is not allowed; give a number above zero and below a million",
    ),
    (
        {"tiers": [MEMORY], "budget": {"limit": 5}},
        "budget: 'limit' is unknown; a budget has per_day, warn_at, action",
    ),
    ({"tiers": [MEMORY], "budget": {}}, "budget: per_day is missing; a budget has per_day, warn_at, action"),
    (
        {"tiers": [MEMORY], "budget": {"per_day": 1, "action": "stop"}},
        "budget: action='stop' is unknown; it is 'block' or 'warn'",
    ),
    (
        {"tiers": [MEMORY], "codec": "jsn"},
        f'codec: found "jsn"; allowed: {CODECS}, or "none"; did you mean "json"?',
    ),
    (
        {"tiers": [MEMORY], "codec": json},
        f'codec: found a value of type module; allowed: {CODECS}, or "none"',
    ),
    (
        {"tiers": [MEMORY], "promote": "Inline"},
        'promote: found "Inline"; allowed: "background", "inline"; did you mean "inline"?',
    ),
    ({"tiers": [MEMORY], "promote": None}, 'promote: found null; allowed: "background", "inline"'),
    # -- failures
    (
        redis(breaker_failures=0),
        'tiers[0].breaker_failures: found 0; allowed: a whole number above zero, or "none"',
    ),
    (redis(breaker_pause=0), f"tiers[0].breaker_pause: found 0; allowed: {WAITING}"),
    (redis(breaker_pause=2_073_601), f"tiers[0].breaker_pause: found 2073601; allowed: {WAITING}"),
    (redis(retries=-1), "tiers[0].retries: found -1; allowed: a whole number, zero or more"),
    # -- which tier
    (
        {"tiers": ["memory"]},
        f'tiers[0]: found "memory"; allowed: a table with a type ({TYPES}) and its options',
    ),
    ({"tiers": [MEMORY, {}]}, f"tiers[1].type: is missing; allowed: {TYPES}"),
    ({"tiers": [{"type": 3}]}, f"tiers[0].type: found 3; allowed: {TYPES}"),
    (
        {"tiers": [{"type": "redsi", "url": "redis://h"}]},
        f'tiers[0].type: found "redsi"; allowed: {TYPES}; did you mean "redis"?',
    ),
    *(
        ({"tiers": [{key: "memory"}]}, f'tiers[0].{key}: is not known; did you mean "type"?')
        for key in ("typ", "Type", "tpye")
    ),
    *(
        (
            {"tiers": [{"type": name, **NEEDED[ours]}]},
            f'tiers[0].type: found "{name}"; allowed: {TYPES}; did you mean "{ours}"?',
        )
        for name, ours in CALLED.items()
    ),
    (
        {"tiers": [{"type": "${NO_TYPE}"}]},
        "tiers[0].type: the variable NO_TYPE is not set; set it, or write a default: ${NO_TYPE:-…}",
    ),
    (
        {"tiers": [{"type": "mypkg.tiers:MyTier"}]},
        (
            f'tiers[0].type: found "mypkg.tiers:MyTier"; allowed: {TYPES}; '
            "register_tier gives a name to a class"
        ),
    ),
    (
        {"tiers": [{"type": "user:hunter2"}]},
        (f'tiers[0].type: found "user:***"; allowed: {TYPES}; register_tier gives a name to a class'),
    ),
    # -- memory
    (
        memory(max_bytes="256 MegaBytes"),
        f'tiers[0].max_bytes: found "256 MegaBytes"; allowed: {WEIGHT}, or "none"',
    ),
    (memory(max_bytes=0), f'tiers[0].max_bytes: found 0; allowed: {WEIGHT}, or "none"'),
    (memory(max_bytes=1.5), f'tiers[0].max_bytes: found 1.5; allowed: {WEIGHT}, or "none"'),
    (
        memory(max_entries="many"),
        'tiers[0].max_entries: found "many"; allowed: a whole number above zero, or "none"',
    ),
    (
        memory(max_entries=True),
        'tiers[0].max_entries: found true; allowed: a whole number above zero, or "none"',
    ),
    (
        memory(policy="LRU"),
        (
            'tiers[0].policy: found "LRU"; allowed: "lru", "lfu", "fifo", "random", "s3-fifo"; '
            'did you mean "lru"?'
        ),
    ),
    (
        memory(sizeof="len"),
        "tiers[0].sizeof: is not known; allowed: max_entries, max_bytes, ttl, policy, name",
    ),
    (memory(name=""), 'tiers[0].name: found ""; allowed: text that is not empty'),
    # -- disk
    ({"tiers": [{"type": "disk"}]}, f"tiers[0].path: is missing; give {PATH}"),
    (disk(path=""), f'tiers[1].path: found ""; allowed: {PATH}'),
    (
        disk(path="~nobody-has-this-name/a"),
        f'tiers[1].path: found "~nobody-has-this-name/a"; allowed: {PATH}',
    ),
    (
        {"tiers": [{"type": "memory", "\ud800": 1}]},
        r'tiers[0]."\ud800": is not known; allowed: max_entries, max_bytes, ttl, policy, name',
    ),
    (disk(path="a\0b"), rf'tiers[1].path: found "a\x00b"; allowed: {PATH}'),
    (
        disk(directory="elsewhere"),
        'tiers[1].directory: is the same option as "path", which is given too; give one of them',
    ),
    (
        {"tiers": [{"type": "disk", "directory": 3}]},
        f"tiers[0].directory: found 3; allowed: {PATH}",
    ),
    (disk(max_bytes="none"), f'tiers[1].max_bytes: found "none"; allowed: {WEIGHT}'),
    (disk(deadline="250 parsecs"), f'tiers[1].deadline: found "250 parsecs"; allowed: {WAITING}'),
    (disk(deadline=1e300), f"tiers[1].deadline: found 1e+300; allowed: {WAITING}"),
    (disk(durability="full"), 'tiers[1].durability: found "full"; allowed: "process", "power"'),
    (disk(read_only="yes"), 'tiers[1].read_only: found "yes"; allowed: true or false'),
    (disk(on_unusable=1), 'tiers[1].on_unusable: found 1; allowed: "error", "temporary"'),
    # -- redis
    ({"tiers": [{"type": "redis"}]}, f"tiers[0].url: is missing; give {REDIS}"),
    (redis(url="localhost:6379"), f'tiers[0].url: found "localhost:6379"; allowed: {REDIS}'),
    (redis(url="hunter2"), f'tiers[0].url: found "***"; allowed: {REDIS}'),
    (redis(url="localhost"), f'tiers[0].url: found "localhost"; allowed: {REDIS}'),
    (
        redis(url="/run/redis.sock"),
        f'tiers[0].url: found "/run/redis.sock"; allowed: {REDIS}; did you mean "unix://…"?',
    ),
    (
        redis(url="rediss:/localhost"),
        f'tiers[0].url: found "rediss:/localhost"; allowed: {REDIS}; did you mean "rediss://…"?',
    ),
    (
        redis(url="redis:hunter2"),
        f'tiers[0].url: found "redis:***"; allowed: {REDIS}; did you mean "redis://…"?',
    ),
    (redis(url="~/redis.sock"), f'tiers[0].url: found "~/redis.sock"; allowed: {REDIS}'),
    (redis(url="./redis.sock"), f'tiers[0].url: found "./redis.sock"; allowed: {REDIS}'),
    (redis(url=98765432), f"tiers[0].url: found a number; allowed: {REDIS}"),
    (
        redis(url="http://app:hunter2@h/?token=hunter2"),
        f'tiers[0].url: found "http://app:***@h/?token=***"; allowed: {REDIS}',
    ),
    (redis(prefix=""), 'tiers[0].prefix: found ""; allowed: text that is not empty'),
    (
        redis(deadline="${NO_DEADLINE}"),
        (
            "tiers[0].deadline: the variable NO_DEADLINE is not set; set it, or write "
            "a default: ${NO_DEADLINE:-…}"
        ),
    ),
    (redis(url="redis://${1HOST}/"), f"tiers[0].url: {NOT_A_VARIABLE}"),
    (redis(url="redis://${HOST"), f"tiers[0].url: {NOT_A_VARIABLE}"),
    (redis(url="redis://${HOST:-${OTHER}}"), f"tiers[0].url: {NOT_A_VARIABLE}"),
    (
        redis(max_entries=5),
        (
            "tiers[0].max_entries: is not known; allowed: url, prefix, ttl, deadline, "
            'breaker_failures, breaker_pause, breaker_longest, retries, name, secret; did you mean "retries"?'
        ),
    ),
    (
        redis(url="redis://h?timeout=3"),
        (
            "tiers[0].url: the URL 'redis://h?timeout=3' cannot be used: "
            "its option 'timeout' is not taken; in its place there is the tier's deadline"
        ),
    ),
    # -- SQL
    (sql(url="hunter2"), f'tiers[0].url: found "***"; allowed: {SQL}'),
    (
        sql(url="./hunter2 notes.db"),
        f'tiers[0].url: found "***"; allowed: {SQL}; did you mean "sqlite:///…"?',
    ),
    (
        sql(url="sqlite:/a.db"),
        f'tiers[0].url: found "sqlite:/a.db"; allowed: {SQL}; did you mean "sqlite:///…"?',
    ),
    (sql(url="oracle://u:hunter2@h/db"), f'tiers[0].url: found "oracle://u:***@h/db"; allowed: {SQL}'),
    (
        sql(table="my-table"),
        f"tiers[0].table: 'my-table' is not allowed; {TABLE_NAMES}",
    ),
    (sql(create=0), "tiers[0].create: found 0; allowed: true or false"),
    (
        sql(url="postgresql+odbc://u:hunter2@h/db"),
        f"tiers[0].url: 'postgresql+odbc' is not supported; it may begin with {DRIVERS}",
    ),
    # -- a chain
    (
        {"tiers": [MEMORY, {"type": "chain", "tiers": [MEMORY, {"type": "memory", "ttl": "soon"}]}]},
        f'tiers[1].tiers[1].ttl: found "soon"; allowed: {LASTING}, or "none"',
    ),
    (
        {"tiers": [{"type": "chain", "tiers": [MEMORY], "deadline": 1}]},
        f'tiers[0].deadline: is not known; allowed: {CHAIN_KEYS}; did you mean "load_deadline"?',
    ),
    # -- codecs
    (
        codec({}),
        f"codec.type: is missing; allowed: {CODEC_TYPES}",
    ),
    (codec({"typ": "json"}), 'codec.typ: is not known; did you mean "type"?'),
    (
        codec({"type": "mypkg.codecs:MyCodec"}),
        (
            f'codec.type: found "mypkg.codecs:MyCodec"; allowed: {CODEC_TYPES}; '
            "register_codec gives a name to a class"
        ),
    ),
    (
        codec({"type": "zstd-json"}),
        f'codec.type: found "zstd-json"; allowed: {CODEC_TYPES}; did you mean "json"?',
    ),
    (
        codec({"type": "json", "dtype": "float32"}),
        "codec.dtype: is not known; allowed: compress, encrypt",
    ),
    (
        codec({"type": "vector", "as": "list"}),
        'codec.as: is not known; allowed: dtype, as_, compress, encrypt; did you mean "as_"?',
    ),
    (
        codec({"type": "vector", "dtype": "float46"}),
        'codec.dtype: found "float46"; allowed: "float32", "float64", "float16"; did you mean "float64"?',
    ),
    (
        codec({"type": "json", "compress": "gzip"}),
        'codec.compress: found "gzip"; allowed: "zstd", a table with level, max_bytes, or "none"',
    ),
    (
        codec({"type": "json", "compress": {"level": 23}}),
        "codec.compress.level: found 23; allowed: a whole number from 1 to 22",
    ),
    (
        codec({"type": "json", "encrypt": {}}),
        f"codec.encrypt.key: is missing; give {KEYS}",
    ),
    (
        codec({"type": "json", "encrypt": "hunter2"}),
        'codec.encrypt: found a value that is not shown; allowed: a table with key, or "none"',
    ),
    (
        codec({"type": "json", "encrypt": {"key": "hunter2"}}),
        f"codec.encrypt.key: found a value that is not shown; allowed: {KEYS}",
    ),
    # -- secrets
    (
        redis(secret="hunter2"),  # noqa: S106 - made up
        f"tiers[0].secret: found a value that is not shown; allowed: {SECRETS}",
    ),
    (
        disk(secret=["0123456789abcdef", "hunter2"]),
        f"tiers[1].secret: found a value that is not shown; allowed: {SECRETS}",
    ),
    (
        sql(secret="${NO_SECRET}"),  # noqa: S106 - a reference
        "tiers[0].secret: the variable NO_SECRET is not set; set it, or write a default: ${NO_SECRET:-…}",
    ),
    # -- values past their time
    (
        {"tiers": [MEMORY], "stale_for": -1},
        'stale_for: found -1; allowed: zero (off) or more seconds: a number, or text such as "5m"',
    ),
    (
        {"tiers": [MEMORY], "stale_if_error": 0},
        (
            "stale_if_error: found 0; allowed: true (a day), false, or more than zero seconds: a number, "
            'or text such as "5m"'
        ),
    ),
    (
        {"tiers": [MEMORY], "jitter": "110%"},
        (
            'jitter: found "110%"; allowed: zero (off) or more seconds: a number, or text such as "30s"; '
            'or a share of the ttl such as "10%"'
        ),
    ),
    (
        {"tiers": [MEMORY], "refresh_ahead": "often"},
        'refresh_ahead: found "often"; allowed: a number, zero (off) or more; 1.0 is usual',
    ),
    (
        {"tiers": [MEMORY], "lock": "share"},
        'lock: found "share"; allowed: "process", "shared"; did you mean "shared"?',
    ),
    # -- views
    ({"tiers": [MEMORY], "views": []}, f"views: found an empty list; allowed: {VIEWS}"),
    (
        {"tiers": [MEMORY], "views": {"v": "json"}},
        'views.v: found "json"; allowed: a table with namespace, codec, ttl, model',
    ),
    (
        {"tiers": [MEMORY], "views": {"a b": {"ttl": 0}}},
        f'views."a b".ttl: found 0; allowed: {LASTING}, or "none"',
    ),
    (
        {"tiers": [MEMORY], "views": {"v": {"tll": 5}}},
        'views.v.tll: is not known; allowed: namespace, codec, ttl, model; did you mean "ttl"?',
    ),
    (
        {"tiers": [{"type": "chain", "tiers": [MEMORY], "views": {}}]},
        f'tiers[0].views: is not known; allowed: {CHAIN_KEYS}; did you mean "tiers"?',
    ),
]
