"""What is wrong with a configuration, and what its author is told: where, what was found, what is allowed."""

from __future__ import annotations

import json

import pytest

from tiercache import ConfigError, TieredCache

MEMORY = {"type": "memory"}
LASTING = (
    'more than zero seconds: a number, or text such as "250ms", "5m" or "30d" (units: ms, s, m, min, h, d, w)'
)
WEIGHT = (
    'at least one byte: a whole number, or text such as "64KiB", "256MiB" or "10GB" '
    "(units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)"
)
TYPES = '"memory", "disk", "redis", "sql", "chain"'
REDIS = (
    "a URL that begins with redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, "
    "redis+cluster://, rediss+cluster://"
)
SQL = (
    "a database URL that begins with sqlite://, postgresql://, mysql://, mariadb:// "
    "(with a driver, for instance, postgresql+psycopg://)"
)
CHAIN_KEYS = (
    "tiers, namespace, ttl, codec, promote, stale_for, stale_if_error, refresh_ahead, jitter, "
    "load_deadline, lock, stats_file"
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
PATH = 'a path, in which "~" and "~user" are home directories'
CODECS = (
    '"bytes", "json", "text", "vector-f2", "vector-f4", "vector-f8", "zstd-bytes", "zstd-json", "zstd-text", '
    "a table with a type and its options, compress and encrypt"
)
NOT_A_VARIABLE = (
    'holds a "${" that begins no variable; write ${NAME} or ${NAME:-default} '
    '(a default holds no "}" and no other variable), or $${ for the characters themselves'
)


def memory(**options):
    return {"tiers": [{"type": "memory", **options}]}


def disk(**options):
    return {"tiers": [MEMORY, {"type": "disk", "path": "nowhere", **options}]}


def redis(**options):
    return {"tiers": [{"type": "redis", "url": "redis://h", **options}]}


def sql(**options):
    return {"tiers": [{"type": "sql", "url": "postgresql://h/db", **options}]}


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
        f"tiers: found a list; allowed: {TABLES}",
    ),
    (
        {"tiers": MEMORY},
        f"tiers: found a table; allowed: {TABLES}",
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
    (redis(breaker_pause=0), f"tiers[0].breaker_pause: found 0; allowed: {LASTING}"),
    (redis(retries=-1), "tiers[0].retries: found -1; allowed: a whole number, zero or more"),
    # -- which tier
    (
        {"tiers": ["memory"]},
        f'tiers[0]: found "memory"; allowed: a table with a type ({TYPES}) and its options',
    ),
    ({"tiers": [MEMORY, {}]}, f"tiers[1].type: is missing; allowed: {TYPES}"),
    ({"tiers": [{"type": 3}]}, f"tiers[0].type: found 3; allowed: {TYPES}"),
    (
        {"tiers": [{"type": "redsi"}]},
        f'tiers[0].type: found "redsi"; allowed: {TYPES}; did you mean "redis"?',
    ),
    (
        {"tiers": [{"type": "${NO_TYPE}"}]},
        "tiers[0].type: the variable NO_TYPE is not set; set it, or write a default: ${NO_TYPE:-…}",
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
        'tiers[0].policy: found "LRU"; allowed: "lru", "lfu", "fifo", "random"; did you mean "lru"?',
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
    (disk(deadline="250 parsecs"), f'tiers[1].deadline: found "250 parsecs"; allowed: {LASTING}'),
    (disk(durability="full"), 'tiers[1].durability: found "full"; allowed: "process", "power"'),
    (disk(read_only="yes"), 'tiers[1].read_only: found "yes"; allowed: true or false'),
    (disk(on_unusable=1), 'tiers[1].on_unusable: found 1; allowed: "error", "temporary"'),
    # -- redis
    ({"tiers": [{"type": "redis"}]}, f"tiers[0].url: is missing; give {REDIS}"),
    (redis(url="localhost:6379"), f'tiers[0].url: found "localhost:6379"; allowed: {REDIS}'),
    (
        redis(url="http://app:hunter2@h/?token=hunter2"),
        f'tiers[0].url: found "http://***@h/?token=***"; allowed: {REDIS}',
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
            'breaker_failures, breaker_pause, retries, name, secret; did you mean "retries"?'
        ),
    ),
    (
        redis(url="redis://h?timeout=3"),
        (
            "tiers[0]: RedisTier: the URL 'redis://h?timeout=3' cannot be used: "
            "its option 'timeout' is not taken; in its place there is deadline="
        ),
    ),
    # -- SQL
    (sql(url="oracle://u:hunter2@h/db"), f'tiers[0].url: found "oracle://***@h/db"; allowed: {SQL}'),
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
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def told(config):
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config(config)
    error = caught.value
    assert "hunter2" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None, "an error behind this one may show what this one hides"
    return str(error)


@pytest.mark.parametrize(("config", "problem"), BAD)
def test_what_is_wrong_is_told(config, problem, tmp_path):
    assert told(config) == f"the configuration: {problem}"
    assert not list(tmp_path.iterdir()), "nothing is made for a configuration that is wrong"


def test_all_problems_are_told_at_once(tmp_path):
    config = {
        "ttl": "soon",
        "tiers": [
            {"type": "disk", "path": "made", "max_byte": 1, "deadline": "${NO_DEADLINE}"},
            {"type": "disk", "path": "not made"},
            {"type": "reddis"},
            {"type": "chain", "tiers": [{"type": "memory", "policy": "mru"}], "promote": "never"},
            {"type": "redis", "url": "redis://h:port"},
            {"type": "sql", "url": "sqlite:///not-made.db"},
            {"type": "sql", "url": "mysql://h/db", "table": "a-b"},
        ],
    }
    lines = told(config).splitlines()
    assert lines[0] == "the configuration: 8 problems"
    assert [line.split(": ")[0] for line in lines[1:]] == [
        "  ttl",
        "  tiers[0].max_byte",
        "  tiers[0].deadline",
        "  tiers[2].type",
        "  tiers[3].promote",
        "  tiers[3].tiers[0].policy",
        "  tiers[4]",
        "  tiers[6].table",
    ]
    assert not list(tmp_path.iterdir())


def test_what_only_making_the_tiers_tells_is_told_at_once_too(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("somebody else's")
    lines = told(
        {
            "tiers": [
                {"type": "disk", "path": "first"},
                {"type": "redis", "url": "redis://h:port"},
                {"type": "disk", "path": "second"},
            ]
        }
    ).splitlines()
    assert [line.split(": ")[0] for line in lines[1:]] == ["  tiers[0]", "  tiers[1]", "  tiers[2]"]
    assert "is not empty and was not made by tiercache" in lines[1]
    assert "is not empty and was not made by tiercache" in lines[3]


def test_a_chain_that_holds_itself_has_an_end():
    config = {"type": "chain", "tiers": [MEMORY]}
    config["tiers"].append(config)
    text = told({"tiers": [config]})
    assert text.endswith(": more than 8 chains inside each other are not allowed")


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@h:port/0",
        "redis://user:hunter2@h/?socket_timeout=1",
        "redis://:a/hunter2@h:1",
        "redis://:hunter2#b@h:1",
        "redis://h/0?password=hunter2&socket_timeout=1",
        "http://user:a@hunter2@h",
        ":hunter2@h",
        "oracle://u:hunter2@h",
    ],
)
@pytest.mark.parametrize("written", ["plain", "variable"])
@pytest.mark.parametrize("type_", ["redis", "sql"])
def test_a_password_is_never_shown(url, written, type_, monkeypatch):
    monkeypatch.setenv("CACHE_URL", url)
    url = "${CACHE_URL}" if written == "variable" else url
    text = told({"tiers": [{"type": type_, "url": url}, {"type": "memory", "policy": url}]})
    assert "tiers[1].policy: found" in text


def test_what_a_variable_holds_is_not_shown(monkeypatch):
    monkeypatch.setenv("LIFE", "hunter2")
    config = {"tiers": [MEMORY], "ttl": "${LIFE}"}
    assert told(config).startswith('the configuration: ttl: found "${LIFE}"; allowed: ')


def test_what_is_no_configuration_is_told():
    for source in (5, b"tiercache.toml", ["tiers"], "", "a\0b.toml"):
        with pytest.raises(
            ConfigError, match=r"is no configuration; give the path of a \.toml, \.yaml, \.yml, \.json"
        ):
            TieredCache.from_config(source)
