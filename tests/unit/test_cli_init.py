"""`tiercache init`: what it writes, from flags and from answers, and when it does not."""

from __future__ import annotations

import stat
import tomllib
from functools import partial

import pytest
from rights import obeying_rights
from selections import together
from shell import in_a_terminal, run

from tiercache import TieredCache


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TIERCACHE_CONFIG", raising=False)
    return folder


def test_what_is_proposed_is_in_order_and_works(here, tmp_path):
    done = run("init")
    assert (done.code, done.err) == (0, "")
    assert done.out == "tiercache.toml is written; `tiercache check --connect` tries it\n"
    content = tomllib.loads((here / "tiercache.toml").read_text())
    assert content["namespace"] == "shop"
    assert [tier["type"] for tier in content["tiers"]] == ["memory", "disk"]
    assert not (tmp_path / ".cache").exists()  # nothing is made but the file
    assert run("check", "--connect").code == 0  # which finds it
    assert run("set", "key", "value").code == 0
    assert run("get", "key").out == "value"
    assert (tmp_path / ".cache" / "shop").is_dir()


def test_flags(here):
    flags = [
        *("--namespace", 'quoted "name" \\ ü'), *("--ttl", "none"), *("--codec", "json"),
        *("--memory", "none"),
        *("--disk", "cache"), *("--disk-size", "1GiB"), *("--shared", "sqlite:///${WHERE:-here}/x.db"),
    ]  # fmt: skip
    assert run("init", "deep.toml", *flags).code == 0
    with TieredCache.from_config("deep.toml") as cache:
        content = cache.config()
    assert content["namespace"] == 'quoted "name" \\ ü'
    assert content["ttl"] == "none"
    assert content["codec"] == "json"
    disk, sql = content["tiers"]
    assert (disk["type"], disk["max_bytes"]) == ("disk", "1GiB")
    assert sql["type"] == "sql"
    assert "${WHERE:-here}" in (here / "deep.toml").read_text()  # as it was given
    assert len((here / "deep.toml").read_text().split("\n#")) > 10  # with comments


@pytest.mark.parametrize("codec", ["bytes", "json", "text", "vector-f4", "zstd-json"])
@pytest.mark.parametrize(
    "tiers", [["--memory", "none"], ["--disk", "none"], ["--shared", "redis://127.0.0.1/0"]]
)
def test_whatever_is_chosen_is_in_order(here, codec, tiers):
    assert run("init", "-c", "x.toml", "--codec", codec, *tiers).code == 0
    assert run("check", "x.toml").code == 0


@together(
    ("flags", "code", "says"),
    [
        (["x.yaml"], 2, "'x.yaml' is not the name of a TOML file"),
        (["--ttl", "soon"], 2, 'tiercache init: --ttl: found "soon"'),
        (["--codec", "jsom"], 2, "tiercache init: --codec: "),
        (["--codec", "jsom"], 2, 'did you mean "json"?'),
        (["--memory", "5zb"], 2, 'tiercache init: --memory: found "5zb"'),
        (["--disk-size", "lots"], 2, 'tiercache init: --disk-size: found "lots"'),
        (["--memory", "none", "--disk-size", "lots"], 2, "tiercache init: --disk-size: "),
        (["--ttl", "soon", "--memory", "5zb"], 2, "tiercache init: 2 problems\n  --ttl: "),
        (["--shared", "localhost:6379"], 2, "tiercache init: --shared: "),
        (["--shared", "/var/x"], 2, '--shared: found "/var/x"; allowed: a URL that begins with redis://'),
        (["--shared", "/var/x"], 2, "mariadb://, postgres://\n"),
        (["--shared", "disk:/var/x"], 2, "mariadb://, postgres://\n"),
        (["--shared", "redis:/h"], 2, 'postgres://; did you mean "redis://…"?'),
        (["--shared", "null://"], 2, '--shared: a null tier holds nothing; "none" does without'),
        (["--shared", "memory://"], 2, "--shared: no machines share what is in memory; --memory is"),
        (["--shared", "gopher://u:sesame@host"], 2, "a URL that begins with"),
        (["--shared", "${NOWHERE_AT_ALL}"], 2, "--shared: the variable NOWHERE_AT_ALL is not set"),
        (["--namespace", "a\x7fb"], 2, r"--namespace: a\x7fb has characters that cannot be shown"),
        (["--disk", "\udcff"], 2, r"--disk: \udcff has characters that cannot be shown"),
        (["--memory", "none", "--disk", "none"], 2, '--memory, --disk, --shared: all of them are "none"'),
        (
            ["nowhere/x.toml"],
            1,
            "nowhere/x.toml cannot be written: there is no folder nowhere; make it first",
        ),
    ],
)
def test_what_is_wrong_is_told_and_nothing_written(here, flags, code, says):
    done = run("init", *flags)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert "sesame" not in done.err
    assert "tiers[" not in done.err, "nobody has seen that file"
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--shared", "redis://user:sesame"], "'redis://user:***' cannot be used: a port is no number"),
        (["--shared", "redis://127.0.0.1?nonsense=1"], "its option 'nonsense' is unknown"),
        (["--shared", "postgresql://user:sesame"], "the text is no database URL"),
        (["--shared", "sqlite://user:sesame@host/x"], "a SQLite URL names no host and no user"),
        (["--shared", "postgresql://host/x?port=y"], "cannot be used: "),
        (["--disk", "taken"], "was not made by tiercache"),
        (["--shared", "sqlite:///taken/letter/x.db"], "the SQLite file cannot be made"),
    ],
)
def test_what_a_tier_refuses_is_told_before_anything_is_written(here, flags, says):
    """Or the first thing that `check` said of the file would be that it is wrong."""
    (here / "taken").mkdir()
    (here / "taken" / "letter").write_text("somebody's")
    done = run("init", *flags)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"tiercache init: {flags[0]}: ")
    assert says in done.err
    assert "sesame" not in done.err
    assert sorted(path.name for path in here.rglob("*")) == ["letter", "taken"]


def test_what_is_proposed_and_refused_is_no_fault_of_the_command_line(here, tmp_path):
    (tmp_path / ".cache" / "shop").mkdir(parents=True)
    (tmp_path / ".cache" / "shop" / "letter").write_text("somebody's")
    done = run("init")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("tiercache: nothing is written: --disk: ")
    assert "was not made by tiercache" in done.err


def test_nothing_is_made_to_see_whether_it_is_in_order(here):
    assert run("init", "--disk", "a/b", "--shared", "sqlite:///c/d.db").code == 0
    assert [path.name for path in here.rglob("*")] == ["tiercache.toml"]


def test_where_nothing_can_be_written_the_reason_is_told(here):
    (here / "closed").mkdir(mode=0o500)
    (here / "x.toml").mkdir()
    (here / "file").write_text("")
    for path, told in (
        ("closed/x.toml", "this user may not write in closed"),
        ("x.toml", "it is a directory"),
        ("file/x.toml", "file is no folder"),
    ):
        done = obeying_rights(partial(run, "init", "--force", path))
        assert (done.code, done.out) == (1, "")
        assert done.err == f"tiercache: {path} cannot be written: {told}\n"


def test_a_file_that_is_there_is_kept(here):
    (here / "tiercache.toml").write_text("precious")
    done = run("init")
    assert done.code == 1
    assert "--force" in done.err
    assert (here / "tiercache.toml").read_text() == "precious"
    assert run("init", "--force").code == 0
    assert "precious" not in (here / "tiercache.toml").read_text()
    assert [one.name for one in here.iterdir()] == ["tiercache.toml"]


def test_a_password_is_for_its_owner_alone(here):
    done = run("init", "--shared", "redis://user:sesame@127.0.0.1/0")
    assert done.code == 0
    assert "holds a password" in done.err
    assert "sesame" not in done.out + done.err
    assert stat.S_IMODE((here / "tiercache.toml").stat().st_mode) == 0o600
    done = run("init", "--force", "--shared", "redis://user:${NO_SUCH_SECRET:-}@127.0.0.1/0")
    assert done.err == ""


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1/0?password=sesame",
        "rediss://127.0.0.1/0?ssl_cert_reqs=none&password=sesame",
        "redis+sentinel://127.0.0.1/main?sentinel_password=sesame",
        "redis://127.0.0.1/0?%70assword=sesame",
        "redis://127.0.0.1/0?password=${NO_SUCH_SECRET:-sesame}",
        "redis://user:${NO_SUCH_SECRET:-sesame}@127.0.0.1/0",
        "postgresql://127.0.0.1/db?SSLPassword=sesame",
        "postgresql://127.0.0.1/db?passfile=sesame",
        "mysql://user:12345678@127.0.0.1/db",
    ],
)
def test_a_password_among_the_options_of_a_url_is_one_too(here, url):
    done = run("init", "--shared", url)
    assert (done.code, "holds a password" in done.err) == (0, True), done
    assert "sesame" not in done.out + done.err
    assert stat.S_IMODE((here / "tiercache.toml").stat().st_mode) == 0o600


def test_the_name_of_a_variable_is_no_password(here, monkeypatch):
    monkeypatch.setenv("SHARED_SECRET", "sesame-of-sixteen-bytes")
    done = run("init", "--shared", "redis://127.0.0.1/0?password=${SHARED_SECRET}&protocol=3")
    assert (done.code, done.err) == (0, "")


def test_on_a_terminal_it_asks_for_what_no_flag_says(here):
    answers = b"\n2h\njson\nnone\ncache\n\nnone\n"
    code, shown = in_a_terminal("init", "--namespace", "asked", typed=answers.removeprefix(b"\n"))
    assert code == 0, shown
    assert "How long an entry lives" in shown
    assert "Namespace" not in shown
    content = tomllib.loads((here / "tiercache.toml").read_text())
    assert (content["namespace"], content["ttl"], content["codec"]) == ("asked", "2h", "json")
    [disk] = content["tiers"]
    assert (disk["directory"], disk["max_bytes"]) == ("cache", "10GiB")
