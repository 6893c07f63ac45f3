"""What `SQLTier` says about its arguments, and that making one waits for nothing."""

from __future__ import annotations

import sqlite3
import stat
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import pythons
from absent import said_without
from sqlalchemy import create_engine, make_url

from tiercache._paths import only_looking
from tiercache.entry import Entry
from tiercache.errors import ConfigError, TierUnavailable
from tiercache.protocols import AsyncTier, Tier
from tiercache.tiers.sql import SQLTier
from tiercache.tiers.sql._dialects import MySQL, PostgreSQL
from tiercache.tiers.sql._progress import Progress


@pytest.mark.parametrize(
    "table", ['a"b', "a'b", "a`b", "a b", "", "1a", "a.b.c", ".a", "a;--", "ä", "x" * 51, "a\n", None, 3]
)
def test_a_table_name_outside_the_allow_list(table: object) -> None:
    with pytest.raises(ConfigError, match="table: ") as caught:
        SQLTier("sqlite://", table=table)  # type: ignore[arg-type] # that is the point
    assert repr(table) in str(caught.value)


def test_a_schema_is_for_servers() -> None:
    with pytest.raises(ConfigError, match="schema"):
        SQLTier("sqlite://", table="main.cache")
    SQLTier("postgresql://h/db", table="app.cache").close()


@pytest.mark.parametrize(
    "url",
    ["oracle://u:hunter2@h/db", "postgresql+psycopg2://u:hunter2@h/db", "mysql+mysqldb://u:hunter2@h/db"],
)
def test_a_database_or_driver_that_is_not_supported(url: str) -> None:
    with pytest.raises(ConfigError, match=url.partition(":")[0].replace("+", r"\+")) as caught:
        SQLTier(url)
    message = str(caught.value)
    assert "hunter2" not in message
    assert all(known in message for known in ("sqlite://", "postgresql+psycopg://", "mysql+pymysql://"))


@pytest.mark.parametrize("url", ["", "hunter2", "user:hunter2@host", "postgresql://u:hunter2@h:port/db"])
def test_a_text_that_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match=r"url: .* no database URL") as caught:
        SQLTier(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite://u:hunter2@h/x", "a SQLite URL names no host and no user; it is sqlite:///path"),
        (
            "postgresql://u:a@hunter2/db?x@h",
            r"'postgresql://u:\*\*\*@h' cannot be used: a password's @ is written",
        ),
        ("postgresql://h/my@db", r".* a password's @ is written %40, and so is a database's$"),
        ("mysql://u/hunter2?x@h/db", "'mysql://.*' cannot be used: a password's @ is written %40"),
        ("sqlite:///x?timeout=soon", "'.*' cannot be used: could not convert string to float: 'soon'"),
        ("postgresql://u:hunter2@h/db?port=y", r"'.*//u:\*\*\*@h/db\?port=.*' cannot be used: "),
        ("postgresql:///db?host=a,b&port=1", "'.*' cannot be used: "),
    ],
)
def test_a_url_that_its_driver_cannot_use(
    url: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"^url: {shown}") as caught:
        SQLTier(url)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert caught.value.__cause__ is None


def test_an_object_that_is_no_url() -> None:
    with pytest.raises(ConfigError, match="int is no URL"):
        SQLTier(3)  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_bytes", 0), ("max_bytes", "3 pounds"), ("max_entries", 0), ("max_entries", -1),
        ("max_entries", 1.5), ("max_entries", True), ("ttl", -1), ("ttl", float("nan")), ("deadline", 0),
        ("deadline", None), ("deadline", "soon"),
    ],
)  # fmt: skip
def test_an_option_out_of_range(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name}: "):
        SQLTier("sqlite://", **{name: value})  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [
        ("psycopg", "postgresql://h/db", "postgres"),
        ("pymysql", "mysql://h/db", "mysql"),
        ("sqlalchemy", "sqlite://", "sql"),
        ("xxhash", "sqlite://", "sql"),
    ],
)
def test_a_package_that_is_not_installed(module: str, url: str, extra: str) -> None:
    said = said_without(module, code=f"from tiercache.tiers.sql import SQLTier\nSQLTier({url!r})")
    assert f"SQLTier needs the package '{module}'" in said
    assert f'pip install "tiercache-framework[{extra}]"' in said


@pytest.mark.parametrize("module", ["greenlet", "asyncmy"])
def test_without_native_asyncio_the_tier_is_blocking_alone(module: str) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None
from tiercache.tiers.sql import SQLTier
print(hasattr(SQLTier("mysql://h/db"), "amget"))
"""
    done = pythons.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    ("url", "awaitable"),
    [
        ("sqlite://", False), ("sqlite+aiosqlite://", False), ("postgresql://u:p%40@h/my%40db", True),
        ("postgres://h/db", True), ("postgresql+psycopg://h/db", True), ("mysql://h/db", True),
        ("mysql+asyncmy://h/db", True), ("mariadb+pymysql://h/db", True), (make_url("mariadb://h/db"), True),
    ],
)  # fmt: skip
def test_what_is_offered(url: str, awaitable: bool) -> None:
    tier = SQLTier(url)
    assert isinstance(tier, Tier)
    assert isinstance(tier, AsyncTier) is awaitable
    assert tier.name == "sql"
    tier.close()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_passwords_are_masked(scheme: str) -> None:
    tier = SQLTier(f"{scheme}://user:hunter2@h/db?sslpassword=hunter3", name="shared")
    assert "hunter" not in repr(tier)
    assert "***" in repr(tier)
    assert tier.name == "shared"
    refusal = OSError("no answer to hunter2 nor hunter3\nwith secrets below")
    said = str(tier.store._failure(refusal, Progress(1.0, batches=False)))
    assert "no answer to *** nor ***" in said
    assert "secrets" not in said
    tier.close()


def test_a_short_password_is_masked_where_it_stands_by_itself() -> None:
    tier = SQLTier("postgresql://user:p@h/db")
    said = str(tier.store._failure(OSError("port 1 refused user with p"), Progress(1.0, batches=False)))
    assert said.endswith("port 1 refused user with ***")
    tier.close()
    tier = SQLTier("postgresql://user:hunter2@h/db?sslpassword=hunter22")
    said = str(tier.store._failure(OSError("xhunter22x hunter2x"), Progress(1.0, batches=False)))
    assert said.endswith("x***x ***x")
    tier.close()


def test_an_engine_of_another_driver() -> None:
    # The dialect counts, and no connection is made: any DBAPI module will do in place of its own.
    engine = create_engine("postgresql+pg8000://h/db", module=sqlite3)
    with pytest.raises(ConfigError, match=r"pg8000.*postgresql\+psycopg"):
        SQLTier(engine)


def test_a_sqlite_file_is_made_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tier = SQLTier("sqlite:///~/deep/er/cache.db")
    tier.mget(["k"])
    tier.close()
    for path, mode in (("deep", 0o700), ("deep/er", 0o700), ("deep/er/cache.db", 0o600)):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == mode


def test_a_sqlite_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "cache.db", tmp_path):
        with pytest.raises(ConfigError, match=r"SQLite file cannot be made .*; give this user") as caught:
            SQLTier(f"sqlite:///{path}")
        assert "Errno" not in str(caught.value)


def test_without_create_no_file_is_made(tmp_path: Path) -> None:
    SQLTier(f"sqlite:///{tmp_path}/cache.db", create=False).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_sqlite_file_comes_with_its_cure(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(damage)
    tier = SQLTier(f"sqlite:///{path}")
    with pytest.raises(TierUnavailable, match="delete it while no process uses it") as caught:
        tier.mget(["k"])
    assert str(path) in str(caught.value)
    tier.close()
    for file in tmp_path.iterdir():
        file.unlink()
    tier = SQLTier(f"sqlite:///{path}")
    tier.mset({"k": Entry(b"v")})
    assert tier.mget(["k"])["k"].value == b"v"
    tier.close()


def test_an_error_without_damage_comes_without_that_cure(tmp_path: Path) -> None:
    tier = SQLTier(f"sqlite:///{tmp_path}/cache.db", create=False)
    with pytest.raises(TierUnavailable) as caught:
        tier.mget(["k"])
    assert "delete" not in str(caught.value)
    tier.close()


@pytest.mark.parametrize(
    ("dialect", "said", "told"),
    [
        (PostgreSQL, 'connection to server at "h" failed: fe_sendauth: no password supplied', "has none"),
        (PostgreSQL, 'FATAL:  password authentication failed for user "app"', "refused the user or password"),
        (MySQL, "(1045, \"Access denied for user 'app'@'h' (using password: NO)\")", "has none"),
        (MySQL, "(1045, \"Access denied for user 'app'@'h' (using password: YES)\")", "refused the user or"),
    ],
)
def test_a_password_that_is_missing_or_wrong_is_told_of_the_url(dialect, said: str, told: str) -> None:
    assert told in dialect("tiercache").cure(OSError(said))
    assert dialect("tiercache").cure(OSError("the server is shutting down")) == ""


@pytest.mark.parametrize("end", ["", "del tier; import gc; gc.collect()"])
def test_a_tier_that_is_not_closed_leaves_nothing_open(tmp_path: Path, end: str) -> None:
    """Since Python 3.13 a database left open is a ResourceWarning."""
    code = f"""
import sys
from tiercache._paths import only_looking
from tiercache import Entry, SQLTier
tier = SQLTier(f"sqlite:///{{sys.argv[1]}}/cache.db")
tier.mset({{"k": Entry(b"v")}})
{end}
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    done = pythons.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    # The last connection to a database takes its log with it, if it is closed.
    assert [file.name for file in tmp_path.iterdir()] == ["cache.db"]


@pytest.mark.parametrize("looks", [False, True])
def test_a_file_that_is_only_looked_for_is_not_made_and_refused_as_it_would_be(
    tmp_path: Path, looks: bool
) -> None:
    (tmp_path / "file").touch()
    with only_looking() if looks else nullcontext():
        SQLTier(f"sqlite:///{tmp_path}/new/folder/a.db").close()
        for path in ("file/a.db", "file/folder/a.db", "."):
            with pytest.raises(ConfigError, match=r"^url: the SQLite file cannot be made \("):
                SQLTier(f"sqlite:///{tmp_path}/{path}")
    assert (tmp_path / "new").exists() != looks
