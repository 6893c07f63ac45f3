"""A secret in whatever place of a URL, given to whatever takes one: it is in nothing that people read."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import traceback
import warnings
from contextlib import closing

import pytest
from registries import registering
from selections import usually
from shell import run
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from urls_with_secrets import PLACES

from tiercache import ConfigError, MemoryTier, RedisTier, SQLTier, TieredCache, guarded, register_tier
from tiercache.integrations.langchain import TieredByteStore
from tiercache.integrations.langchain.migrate import from_redis, from_sql
from tiercache.integrations.langchain.migrate._redis import RedisKeys

#: One that parsers take for a port and refuse, one that looks like one, one with marks that nobody quoted.
SECRETS = ("hunter2", "98765432", "Hun[t]er/2?x#y z")
#: What nothing else that is said has in common with these.
TELLING = ("hunter2", "98765432", "hun[t", "[t]er", "er/2?", "?x#y", "#y z")
URLS = [place.format(SECRETS[(at + at // 24) % 3]) for at, place in enumerate(PLACES)]


#: A third of the places in the usual run.
in_steps = pytest.mark.parametrize("step", usually({3}, [1, 3]))


def tells_nothing(said: object) -> None:
    text = str(said).lower()
    found = [piece for piece in TELLING if piece in text or repr(piece)[1:-1] in text]
    assert not found, f"{found} in {said!r}"


def told(error: BaseException) -> str:
    """All that a traceback shows of it and of those behind it, but the lines of code."""
    shown = traceback.TracebackException.from_exception(error)
    lines, todo = [repr(error)], [shown]
    for one in todo:
        lines += one.format_exception_only()
        hidden = one.__suppress_context__
        todo += [more for more in (one.__cause__, None if hidden else one.__context__) if more is not None]
    return "".join(lines)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch, caplog):
    """In a folder of its own. What is logged, and warned of, tells nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.filterwarnings("always", "Query string argument", SAWarning)
        yield
    tells_nothing(caplog.text)
    for warning in warned:
        tells_nothing(warning.message)


@pytest.fixture
def cache():
    with TieredCache([MemoryTier()]) as cache:
        yield cache


def refused(url, *calls):
    """Have each of ``calls`` take ``url``. The errors of those that do not tell nothing; the others."""
    taken = []
    for call in calls:
        try:
            call(url)
            taken.append(call)
        except (ConfigError, ImportError, TypeError, SQLAlchemyError) as error:
            tells_nothing(told(error))
    return taken


@pytest.mark.parametrize(("kind", "make"), [("redis", RedisTier), ("sql", SQLTier)])
def test_tiers_and_checks(kind, make, tmp_path):
    def describe(url):
        with closing(make(url)) as tier:
            tells_nothing(f"{tier!r} {tier} {tier.name}")

    taken = [url for url in URLS if refused(url, describe)]
    assert 0 < len(taken) < len(URLS)
    for urls, code in ((URLS, 1), (taken, 0)):
        apart = "prefix" if kind == "redis" else "table"
        config = {"tiers": [{"type": kind, "url": url, apart: f"t{at}"} for at, url in enumerate(urls)]}
        path = tmp_path / f"{code}.json"
        path.write_text(json.dumps(config))
        for flags in ([], ["--json"], ["--debug"]):
            done = run("check", path, *flags)
            assert done.code == code, done
            tells_nothing(done.out + done.err)
    with TieredCache.from_config(config) as cache:
        tells_nothing(f"{cache!r} {cache.stats()} {cache.stats().as_dict()}")


@in_steps
def test_configurations_and_urls(step, monkeypatch):
    def by_an_override(url):
        monkeypatch.setenv("TIERCACHE__TIERS__0__URL", url)
        with_tiers({"type": "redis", "url": "redis://127.0.0.1:1"})
        monkeypatch.delenv("TIERCACHE__TIERS__0__URL")

    def by_a_variable(url):
        monkeypatch.setenv("CACHE_URL", url)
        with_tiers({"type": "sql", "url": "${CACHE_URL}"})

    def with_tiers(*tiers):
        TieredCache.from_config({"tiers": tiers}).close()

    def in_the_wrong_place(url):
        with_tiers({"type": "memory", "policy": url}, {"type": url})

    def all_at_once(url):
        with_tiers({"type": "redis", "url": url, "a": 1}, {"type": "sql", "url": url, "table": "a b"})

    for url in URLS[::step]:
        refused(url, lambda url: TieredCache.from_url(url).close(), by_an_override, by_a_variable)
        monkeypatch.delenv("TIERCACHE__TIERS__0__URL", raising=False)
        assert not refused(url, in_the_wrong_place, all_at_once)


@in_steps
def test_plug_ins(step):
    """They say what they like, of any piece of what they were given."""

    def vault(**options):
        (given,) = options.values()
        pieces = re.split("[@/?]", given) if "dsn" in options or "url" in options else given
        raise KIND[len(str(given)) % 2](f"{given!r} {given} {pieces} {str(given).upper()}")

    with registering():
        register_tier("vault", vault)
        for url in URLS[::step]:
            for options in ({"url": url}, {"dsn": url}, {"servers": [url]}):
                with pytest.raises(ConfigError) as caught:
                    TieredCache.from_config({"tiers": [{"type": "vault", **options}]})
                tells_nothing(told(caught.value))
        for secret in (*SECRETS, 98765432, {"a": [98765432]}):
            for name in ("password", "db_passwd", "pwd", "token", "secret", "apiKey", "key", "credentials"):
                with pytest.raises(ConfigError) as caught:
                    TieredCache.from_config({"tiers": [{"type": "vault", name: secret}]})
                tells_nothing(told(caught.value))


KIND = (ValueError, RuntimeError)


@in_steps
def test_migrations(step, cache, tmp_path):
    store = TieredByteStore(cache)
    failed = 0
    for url in URLS[::step]:

        def redis_keys(url):
            with RedisKeys(url, None) as keys:  # which is not asked: redis-py would try for seconds
                tells_nothing(keys.name)

        if not refused(url, redis_keys):
            refused(url, lambda url: from_redis(url, store))
            failed += 1
        assert not refused(url, lambda url: from_sql(url, store, namespace="n", progress=False))
    assert 0 < failed < len(URLS[::step])


def test_a_migration_that_is_done(tmp_path):
    with closing(sqlite3.connect(tmp_path / "s.db")) as database:
        database.execute("CREATE TABLE langchain_key_value_stores (namespace TEXT, key TEXT, value BLOB)")
        database.execute("INSERT INTO langchain_key_value_stores VALUES ('n', 'k', x'00')")
        database.commit()
    (tmp_path / "tiercache.toml").write_text('[[tiers]]\ntype = "disk"\ndirectory = "d"\n')
    for url in (one for one in URLS if one.startswith("sqlite:///s.db?")):
        for flags in ([], ["--json"]):
            done = run("migrate", "langchain-sql", "--store-namespace", "n", url, *flags)
            assert done.code == 0, done
            assert "s.db?" in done.out
            tells_nothing(done.out + done.err)


@pytest.mark.parametrize("part", range(4))
def test_commands(part, tmp_path, monkeypatch):
    (tmp_path / "tiercache.toml").write_text('[[tiers]]\ntype = "memory"\n')
    for url in URLS[part::16]:
        commands = [["init", "new.toml", "--force", "--shared", url]]
        commands += [["get", "key", "-c", url], ["check", url]] if "://" in url else []
        commands += [["migrate", "langchain-sql", "--store-namespace", "n", url]]
        if refused(url, lambda url: RedisKeys(url, None).__exit__()) == []:
            commands += [["migrate", "langchain-redis", url]]
        if refused(url, lambda url: RedisTier(url).close()) == []:
            commands += [["demo", "--limit", "1", "--redis", url]]
        for command in commands:
            done = run(*command, *(["--debug"] if part % 2 else []))
            tells_nothing(done.out + done.err)


def test_a_url_in_the_place_of_a_tier():
    for url in URLS:
        refused(url, lambda url: TieredCache([url]), lambda url: TieredCache([[url]]), guarded)
        refused(url, lambda url: TieredCache.from_config([url]))
