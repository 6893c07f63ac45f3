"""Caches from URLs: the same as from the mapping that says the same."""

from __future__ import annotations

import pytest
from described import described
from selections import together

from tiercache import ConfigError, TieredCache, registry
from tiercache.codecs import JSONCodec
from tiercache.config._problems import Problems
from tiercache.config._urls import tables
from tiercache.testing import DictTier

pytestmark = pytest.mark.usefixtures("registries")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def told(*urls, **options):
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_url(*urls, **options)
    assert "hunter2" not in str(caught.value)
    return str(caught.value).removeprefix("from_url: ")


@pytest.mark.parametrize(
    ("url", "table"),
    [
        ("memory://", {"type": "memory"}),
        (
            "memory://?max_bytes=256MiB&max_entries=none&policy=lfu&ttl=5m",
            {"type": "memory", "max_bytes": "256MiB", "max_entries": None, "policy": "lfu", "ttl": 300},
        ),
        ("memory://?name=a%26b+c", {"type": "memory", "name": "a&b+c"}),
        ("disk://here/a%20b?max_bytes=1GiB", {"type": "disk", "path": "here/a b", "max_bytes": "1GiB"}),
        (
            "disk://~/a?durability=power&retries=2",
            {"type": "disk", "path": "~/a", "durability": "power", "retries": 2},
        ),
        (
            "disk://here?secret=0123456789abcdef&secret=fedcba9876543210",
            {"type": "disk", "path": "here", "secret": ["0123456789abcdef", "fedcba9876543210"]},
        ),
        (
            "redis://u:pa%26ss@h:7/3?deadline=250ms&protocol=3&prefix=app%3A",
            {
                "type": "redis",
                "url": "redis://u:pa%26ss@h:7/3?protocol=3",
                "deadline": 0.25,
                "prefix": "app:",
            },
        ),
        ("rediss+cluster://h", {"type": "redis", "url": "rediss+cluster://h"}),
        ("unix:///run/r.sock?db=2", {"type": "redis", "url": "unix:///run/r.sock?db=2"}),
        (
            "postgresql+psycopg://u:p@h/db?table=t&sslmode=require&create=false",
            {
                "type": "sql",
                "url": "postgresql+psycopg://u:p@h/db?sslmode=require",
                "table": "t",
                "create": False,
            },
        ),
        ("sqlite:///a.db?max_entries=5", {"type": "sql", "url": "sqlite:///a.db", "max_entries": 5}),
        (
            "mysql+pymysql://h/db?charset=utf8mb4",
            {"type": "sql", "url": "mysql+pymysql://h/db?charset=utf8mb4"},
        ),
    ],
)
def test_a_url_is_the_table_that_says_the_same(url, table):
    with TieredCache.from_url(url) as cache, TieredCache.from_config({"tiers": [table]}) as other:
        assert described(cache) == described(other)


def test_an_absolute_path(tmp_path):
    with TieredCache.from_url(f"disk://{tmp_path}/deep/er") as cache:
        cache.set("k", b"value")
    assert (tmp_path / "deep" / "er" / "cache.db").is_file()


def test_several_with_the_options_of_a_chain(monkeypatch):
    monkeypatch.setenv("PLACE", "somewhere")
    options = {"namespace": "app", "ttl": "1h", "views": {"v": {"codec": "text"}}, "promote": "inline"}
    with TieredCache.from_url("memory://", "disk://${PLACE}", codec="json", **options) as cache:
        with TieredCache.from_config(cache.config()) as again:
            assert described(again) == described(cache)
            cache.set("k", [1])
            assert again.get("k") == [1]
        assert cache.config()["tiers"][1]["path"].endswith("/${PLACE}")
        assert cache.views["v"].codec.name == "text"
    with TieredCache.from_url("memory://", codec=JSONCodec()) as cache:
        assert cache.codec == JSONCodec()


def test_variables_set_options_of_these_too(monkeypatch):
    monkeypatch.setenv("TIERCACHE__TIERS__0__POLICY", "mru")
    assert told("memory://").startswith('tiers[0].policy (set by TIERCACHE__TIERS__0__POLICY): found "mru"')


def test_a_registered_name_is_a_scheme():
    class Remote(DictTier):
        def __init__(self, url, *, size=1):
            super().__init__("remote")
            self.made_with = (url, size)

    class Local(DictTier):
        def __init__(self, *, size=1):
            super().__init__("local")
            self.made_with = size

    registry.register_tier("remote", Remote)
    registry.register_tier("local", Local)
    registry.register_tier("nowhere", "tiercache.testing:NoSuch")
    with TieredCache.from_url("remote://h/x?size=2&deadline=1s&other=3", "local://?size=4") as cache:
        remote, local = (guard.tier for guard in cache._stack.guards)
        assert remote.failure.deadline == 1
        assert remote.tier.made_with == ("remote://h/x?other=3", "2")
        assert local.made_with == "4"
    assert told("local://h").startswith(
        'tiers[0]: found "local://h"; allowed: nothing between "local://" and'
    )
    assert told("local://?sise=1").startswith("tiers[0].sise: is not known; allowed: size, deadline")
    assert told("nowhere://").startswith("tiers[0]: the tier type 'nowhere' is registered as")


@pytest.mark.parametrize(
    ("urls", "problem"),
    [
        ((), "tiers: found an empty list; allowed: a list of tables"),
        (("redsi://u:hunter2@h",), 'tiers[0]: found "redsi://u:***@h"; allowed: a URL that begins with '),
        (
            ("memory://", "localhost:6379"),
            'tiers[1]: found "localhost:6379"; allowed: a URL that begins with ',
        ),
        (("chain://",), 'tiers[0]: found "chain://"; allowed: a URL that begins with '),
        (("sql://h",), 'tiers[0]: found "sql://h"; allowed: a URL that begins with '),
        (("lru://",), 'tiers[0]: found "lru://"; allowed: a URL that begins with '),
        ((5,), "tiers[0]: found a number; allowed: a URL"),
        (("hunter2",), 'tiers[0]: found "***"; allowed: a URL'),
        (("memory://here",), 'tiers[0]: found "memory://here"; allowed: nothing between "memory://" and'),
        (("memory://?max_byte=1",), "tiers[0].max_byte: is not known; allowed: max_entries, max_bytes, "),
        (("memory://?max_bytes=much",), 'tiers[0].max_bytes: found "much"; allowed: at least one byte'),
        (("memory://?ttl=5&ttl=6",), "tiers[0].ttl: is given twice; give it once"),
        (("memory://?type=disk",), "tiers[0].type: is no option of a URL, which says it itself"),
        (("disk://",), 'tiers[0].path: found ""; allowed: a path'),
        (("disk://a?path=b",), "tiers[0].path: is no option of a URL, which says it itself"),
        (("redis://:hunter2@h?dead_line=5",), "tiers[0].url: the URL 'redis://:***@h?dead_line=5'"),
        (("redis://h?secret=hunter2",), "tiers[0].secret: found a value that is not shown; allowed: "),
    ],
)
def test_what_is_wrong_is_told(urls, problem):
    assert told(*urls).startswith(problem)


@pytest.mark.parametrize(
    ("scheme", "ours"),
    [("valkey", "redis"), ("valkeys", "rediss"), ("lru", "memory"), ("file", "disk"), ("filesystem", "disk")],
)
def test_what_people_call_a_tier_is_understood(scheme, ours):
    assert told(f"{scheme}://h").endswith(f'; did you mean "{ours}"?')


@pytest.mark.parametrize(
    ("url", "table"),
    [
        ("${SERVER}", {"type": "redis", "url": "${SERVER}"}),
        ("${SERVER}?ttl=5m", {"type": "redis", "url": "${SERVER}", "ttl": "5m"}),
        ("${SERVER}?db=2&ttl=5m", {"type": "redis", "url": "${SERVER}?db=2", "ttl": "5m"}),
        ("${ASKS}?db=2", {"type": "redis", "url": "${ASKS}&db=2"}),
        ("${KIND}://h/1?ttl=5m", {"type": "redis", "url": "${KIND}://h/1", "ttl": "5m"}),
        ("${NONE:-redis://h}/1", {"type": "redis", "url": "${NONE:-redis://h}/1"}),
        ("${DATABASE}?table=t", {"type": "sql", "url": "${DATABASE}", "table": "t"}),
        (
            "${FOLDER}?max_entries=5",
            {"type": "disk", "path": "a/$${b} c", "ttl": "5m", "max_entries": "5"},
        ),
        ("${MEMORY}", {"type": "memory"}),
    ],
)
def test_a_variable_holds_a_url_or_its_beginning(monkeypatch, url, table):
    for name, value in {
        "SERVER": "redis://u:hunter2@h",
        "ASKS": "redis://h?protocol=3",
        "KIND": "rediss",
        "DATABASE": "sqlite:///a.db",
        "FOLDER": "disk://a/${b}%20c?ttl=5m",
        "MEMORY": "memory://",
    }.items():
        monkeypatch.setenv(name, value)
    problems = Problems("from_url")
    assert tables([url], problems) == [table]
    assert not problems.any
    with TieredCache.from_url(url) as cache, TieredCache.from_config({"tiers": [table]}) as same:
        assert described(cache) == described(same)
        assert "hunter2" not in str(cache.config())


@together(
    ("url", "shown", "hint"),
    [
        ("/var/cache/app", "/var/cache/app", "disk:///var/cache/app"),
        ("./cache", "./cache", "disk://./cache"),
        ("~/cache", "~/cache", "disk://~/cache"),
        ("C:\\cache", "C:\\cache", "disk://C:\\cache"),
        ("disk:/var/x", "disk:/var/x", "disk:///var/x"),
        ("/var/hunter2 notes", "***", "disk://…"),
        (f"/var/{'0f' * 32}", "***", "disk://…"),
        (f"/var{'/long' * 20}", f"/var{'/long' * 15}/…", "disk://…"),
        ("disk:hunter2", "disk:***", "disk://…"),
        ("/hunter2", "***", "disk://…"),
        ("~hunter2", "***", "disk://…"),
        ("redis:/localhost", "redis:/localhost", "redis://…"),
        ("sqlite:/a.db", "sqlite:/a.db", "sqlite:///…"),
        ("sqlite", "sqlite", "sqlite:///…"),
        ("memory", "memory", "memory://…"),
        ("valkey", "valkey", "redis://…"),
        ("hunter2", "***", None),
        ("${PLACE}", "${PLACE}", "disk://…"),
        ("${SECRET}", "${SECRET}", "redis://…"),
    ],
)
def test_what_is_no_url_is_shown_where_it_can_be_no_secret_and_what_was_meant(monkeypatch, url, shown, hint):
    monkeypatch.setenv("PLACE", "/var/hunter2")
    monkeypatch.setenv("SECRET", "redis:hunter2")
    text = told(url)
    assert text.startswith(f'tiers[0]: found "{shown}"; allowed: ')
    assert text.partition("; did you mean ")[2] == (f'"{hint}"?' if hint else "")


def test_a_variable_that_holds_no_url_is_told(monkeypatch):
    monkeypatch.setenv("WORD", "hunter2")
    assert told("${WORD}").startswith('tiers[0]: found "${WORD}"; allowed: a URL that begins with memory://')
    assert told("${NO_SUCH_URL}").startswith("tiers[0]: the variable NO_SUCH_URL is not set; ")


def test_what_is_wrong_with_the_chain_is_told():
    assert told("memory://", name_space="x").startswith("name_space: is not known; allowed: tiers, namespace")
    assert told("memory://", tiers=[]).startswith("tiers: is what the URLs say")
    assert told("memory://", "memory://?ttl=0", ttl="soon").splitlines()[0] == "2 problems"
