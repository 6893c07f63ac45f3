"""What no single module promises: nothing that is read is run, no key becomes a path, and no log, error or
statistic tells a key, a value or a password. The threats are listed in docs/explanation/security.md."""

from __future__ import annotations

import ast
import json
import logging
import sqlite3
import traceback
from contextlib import suppress
from pathlib import Path

import pytest
from apis import both_apis
from chains import KINDS, chain_of
from selections import together

import tiercache
from tiercache import DiskTier, Entry, MemoryTier, RedisTier, SQLTier, TieredCache, WriteError
from tiercache.testing import FakeClock
from tiercache.tiers.disk._engine import diskcache

PACKAGE = Path(tiercache.__file__).parent
#: Modules that run, or may be made to run, what they read.
DANGEROUS = {
    "pickle", "_pickle", "cPickle", "copyreg", "marshal", "shelve", "dill", "cloudpickle", "joblib",
    "jsonpickle", "code", "runpy",
}  # fmt: skip
RUNNING = {"eval", "exec", "compile", "__import__"}
KEY, VALUE, PASSWORD = "the-key-of-somebody", b"the-value-of-somebody", "sesame-0pen"
TOLD_TO_NOBODY = (KEY, VALUE.decode(), PASSWORD)
#: Keys that would lead somewhere else if they were ever made a path, a pattern or a statement.
HOSTILE = [
    "../escaped", "../../../../tmp/escaped", "/escaped", "a/b/c", "..", ".", "~/escaped", "a\0b", "a\nb",
    "C:\\escaped", "$(touch escaped)", "'; DROP TABLE tiercache; --", "%s %(a)s :a ? {0}", "*", "[a-z]",
    "cache.db", "tiercache.json", "",
]  # fmt: skip


# -- nothing that is read is run -------------------------------------------------------------------


@together("path", sorted(PACKAGE.rglob("*.py")))
def test_nothing_of_ours_can_run_what_it_reads(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in RUNNING, f"{path}:{node.lineno}"
        elif isinstance(node, ast.Attribute):
            # yaml.load, numpy.load and torch.load build objects; json.load does not, and is not used either.
            assert node.attr not in {"unsafe_load", "full_load", "UnsafeLoader", "FullLoader", "allow_pickle"}
        assert not {name.split(".")[0] for name in names} & DANGEROUS, f"{path}:{node.lineno}"


class Forbidden:
    """Stands where a module stood, and lets nobody use it."""

    def __getattr__(self, name):
        raise AssertionError(f"pickle.{name} was reached")


def test_the_life_of_a_disk_tier_never_reaches_pickle(tmp_path, monkeypatch):
    """CVE-2025-69872 is in these calls of diskcache. Opening, all calls, planted rows, opening again."""
    monkeypatch.setattr(diskcache.core, "pickle", Forbidden())
    for _ in range(2):
        with TieredCache([DiskTier(tmp_path)]) as cache:
            cache.mset({"a": b"1", "b": b"2" * 100_000, KEY: VALUE})
            assert cache.mget(["a", "b", "c"]) == [b"1", b"2" * 100_000, None]
            with sqlite3.connect(tmp_path / "cache.db", isolation_level=None) as planted:
                planted.execute("UPDATE Cache SET mode = 4, value = ? WHERE tag = ?", (b"\x80\x04.", b"a"))
            planted.close()
            assert cache.mget(["a", "b"]) == [None, b"2" * 100_000]
            assert cache.stats().tiers[0].corrupt == 1
            assert KEY in list(cache.keys())
            cache.purge(older_than=0.001)
            cache.delete("b")
            cache.clear()
            cache.set(KEY, VALUE)


def test_diskcache_is_what_would_have_run_it(tmp_path, monkeypatch):
    """The test above looks at the right place: diskcache alone does reach pickle there."""
    monkeypatch.setattr(diskcache.core, "pickle", Forbidden())
    with diskcache.Cache(tmp_path) as cache, pytest.raises(AssertionError, match="pickle"):
        cache["key"] = object()


# -- what somebody who can write to a backend may try ----------------------------------------------


def rows(tier: DiskTier, statement: str, *arguments: object) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(Path(tier.directory) / "cache.db", isolation_level=None)
    try:
        return connection.execute(statement, arguments).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("secret", [None, "a secret of the tests"])
def test_rows_that_were_swapped_are_misses(tmp_path, secret):
    tier = DiskTier(tmp_path, secret=secret)
    with TieredCache([tier]) as cache:
        cache.mset({"mine": b"1", "yours": b"2", "other": b"3"})
        values = dict(rows(tier, "SELECT tag, value FROM Cache"))
        for key, other in ((b"mine", b"yours"), (b"yours", b"mine")):
            rows(tier, "UPDATE Cache SET value = ? WHERE tag = ?", values[other], key)
        assert cache.mget(["mine", "yours", "other"]) == [None, None, b"3"]
        assert cache.stats().tiers[0].corrupt == 2
        assert rows(tier, "SELECT count(*) FROM Cache") == [(1,)]


@pytest.mark.parametrize("kind", ["SQLite", "Valkey"])
def test_values_that_were_copied_to_another_key_of_a_server_are_misses(kind, request, tmp_path):
    with chain_of(kind, request, tmp_path) as cache:
        cache.mset({"mine": b"1", "yours": b"2"})
    if kind == "Valkey":
        with request.getfixturevalue("valkey").client() as server:
            (mine,) = server.keys("*mine")
            server.copy(mine, mine.replace(b"mine", b"yours"), replace=True)
    else:
        with sqlite3.connect(tmp_path / "cache.db") as database:
            changed = database.execute(
                "UPDATE tiercache SET (head, value) = (SELECT head, value FROM tiercache WHERE cache_key = ?)"
                " WHERE cache_key = ?",
                (b"mine", b"yours"),
            )
            assert changed.rowcount == 1
        database.close()
    again = (
        TieredCache([RedisTier(request.getfixturevalue("valkey").url, deadline=20)])
        if kind == "Valkey"
        else TieredCache([SQLTier(f"sqlite:///{tmp_path}/cache.db", deadline=20)])
    )
    with again:
        assert again.get("yours") is None
        assert again.stats().tiers[0].corrupt == 1


@pytest.mark.parametrize("secret", [None, "a secret of the tests"])
def test_a_row_that_is_put_back_after_its_time_is_a_miss(tmp_path, secret):
    """Whatever the row says of its expiry: the envelope's own time counts."""
    clock = FakeClock()
    tier = DiskTier(tmp_path, secret=secret, clock=clock)
    tier.mset({"key": Entry(b"value", expires_at=clock.time() + 60)})
    ((kept,),) = rows(tier, "SELECT value FROM Cache")
    clock.advance(60)
    tier.mset({"key": Entry(b"new", expires_at=clock.time() + 60)})
    rows(tier, "UPDATE Cache SET value = ?, expire_time = NULL", kept)
    before = tier.counters()
    assert tier.mget(["key"]) == {}
    assert tier.counters()["expirations"] - before["expirations"] == 1
    assert tier.counters()["corrupt"] == before["corrupt"] == 0
    tier.close()


# -- no key becomes a path or a statement ----------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_only_ever_a_key(kind, request, tmp_path):
    outside = tmp_path / "outside"
    folder = outside / "inside"
    folder.mkdir(parents=True)
    with chain_of(kind, request, folder) as cache:
        values = {key: str(number).encode() for number, key in enumerate(HOSTILE)}
        for namespace in ("", *HOSTILE[:3]):
            view = cache.view(namespace) if namespace else cache
            view.mset(values)
            assert view.mget(list(values)) == list(values.values())
            assert sorted(view.keys()) >= sorted(HOSTILE)
        made = {str(path.relative_to(outside)) for path in outside.rglob("*")}
        cache.mdelete(HOSTILE)
        assert cache.view(HOSTILE[0]).get(HOSTILE[1]) == values[HOSTILE[1]]
    expected = {
        "memory": set(),
        "Valkey": set(),
        "SQLite": {"cache.db", "cache.db-wal", "cache.db-shm"},
        "disk": {"disk", *(f"disk/{name}" for name in OURS)},
    }[kind]
    assert made - {"inside"} <= {f"inside/{name}" for name in expected}
    assert not list(tmp_path.rglob("*escaped*"))
    assert not Path("/tmp/escaped").exists()  # noqa: S108 - where one of the keys points
    assert not Path("/escaped").exists()


#: All that a disk tier's folder may hold.
OURS = {
    "cache.db", "cache.db-wal", "cache.db-shm", "cache.db.lock", "cache.db.ballast", "tiercache.json",
}  # fmt: skip


# -- nothing is told -------------------------------------------------------------------------------


def everything_told(cache: TieredCache, call, caplog) -> str:
    """All that logs, errors, their tracebacks, `repr` and statistics say while every call fails, or not."""
    told = [repr(cache)]
    for verb, arguments in {
        "get": (KEY,),
        "mget": ([KEY, KEY + "2"],),
        "set": (KEY, VALUE),
        "delete": (KEY,),
        "get_or_load": (KEY, lambda key: VALUE),
        "mget_or_load": ([KEY + "3"], lambda keys: [VALUE]),
        "keys": (),
        "clear": (),
    }.items():
        try:
            result = call(cache, verb, *arguments)
            if verb in ("set", "delete", "clear"):
                told.append(repr(result))
        except tiercache.TierCacheError as error:
            told += traceback.format_exception(type(error), error, None)  # with what caused it
            told += [str(one.__cause__) for one in (error, error.__cause__) if one is not None]
    stats = cache.stats()
    told += [str(stats), repr(stats), json.dumps(stats.as_dict(), default=repr), caplog.text]
    return "\n".join(told)


@both_apis
def test_a_server_that_cannot_be_reached_tells_no_password_key_or_value(call, caplog, tmp_path):
    caplog.set_level(logging.DEBUG, "tiercache")
    tiers = [
        RedisTier(f"redis://user:{PASSWORD}@127.0.0.1:1/0", deadline=5),
        SQLTier(f"postgresql+psycopg://user:{PASSWORD}@127.0.0.1:1/db", deadline=5),
    ]
    with TieredCache(tiers) as cache:
        told = everything_told(cache, call, caplog)
        told += "".join(repr(tier) + str(tier) + repr(tier.store) for tier in tiers)
    assert "failed to" in told
    assert "WriteError" in told
    for secret in TOLD_TO_NOBODY:
        assert secret not in told


@both_apis
def test_a_healthy_chain_tells_no_key_or_value(call, caplog, tmp_path):
    caplog.set_level(logging.DEBUG, "tiercache")
    with TieredCache(
        [MemoryTier(), DiskTier(tmp_path / "disk"), SQLTier(f"sqlite:///{tmp_path}/cache.db", deadline=20)]
    ) as cache:
        told = everything_told(cache, call, caplog)
    for secret in TOLD_TO_NOBODY:
        assert secret not in told


@both_apis
def test_a_database_that_refuses_tells_no_key_or_value(call, caplog, tmp_path):
    """Drivers and SQLAlchemy put a statement's parameters, keys and values, into what they raise."""
    caplog.set_level(logging.DEBUG, "tiercache")
    with TieredCache([SQLTier(f"sqlite:///{tmp_path}/cache.db", deadline=20)]) as cache:
        cache.set("first", b"")
        with sqlite3.connect(tmp_path / "cache.db") as database:
            for event in ("INSERT", "UPDATE", "DELETE"):
                database.execute(
                    f"CREATE TRIGGER refuse_{event} BEFORE {event} ON tiercache BEGIN "
                    "SELECT RAISE(ABORT, 'refused'); END"
                )
        database.close()
        told = everything_told(cache, call, caplog)
        with pytest.raises(WriteError):
            cache.set(KEY, VALUE)
    assert "failed to write" in told
    for secret in TOLD_TO_NOBODY:
        assert secret not in told


def test_a_damaged_disk_tells_no_key_or_value(caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    with TieredCache([DiskTier(tmp_path)]) as cache:
        cache.set(KEY, VALUE)
    (tmp_path / "cache.db").write_bytes((KEY + VALUE.decode()).encode() * 1000)
    for log in tmp_path.glob("cache.db-*"):
        log.unlink()
    with TieredCache([DiskTier(tmp_path)]) as cache, suppress(WriteError):
        assert cache.get(KEY) is None
        cache.set(KEY, VALUE)
    assert "damaged" in caplog.text
    for secret in TOLD_TO_NOBODY:
        assert secret not in caplog.text
