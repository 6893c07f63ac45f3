"""`get`, `set`, `delete`, `keys`, `inspect`, `clear` and `purge`, on caches of any codec."""

from __future__ import annotations

import json
import re
import tempfile
import warnings
from base64 import b64decode
from contextlib import closing
from time import time

import pytest
from shell import run

from tiercache import DiskTier, Entry, MemoryTier, SQLTier, TieredCache
from tiercache.cli._payloads import payloads
from tiercache.codecs import EncryptedCodec, JSONCodec, TextCodec, VectorCodec, ZstdCodec
from tiercache.keys import Namespace
from tiercache.testing import FakeClock

CHAIN = """
namespace = "app"
ttl = "1h"
codec = "{}"

[[tiers]]
type = "memory"

[[tiers]]
type = "disk"
directory = "disk"
deadline = "20s"

[[tiers]]
type = "sql"
deadline = "20s"
url = "sqlite:///{}/shared.sqlite"
"""


@pytest.fixture
def make(tmp_path):
    """Writes the configuration of a chain with that codec, and gives its path."""

    def write(codec="bytes", more=""):
        path = tmp_path / f"{codec}.toml"
        path.write_text(CHAIN.format(codec, tmp_path) + more)
        return path

    return write


def app(folder, codec=None, **options):
    """The chain as the application has it."""
    tiers = [MemoryTier(), DiskTier(folder / "disk"), SQLTier(f"sqlite:///{folder}/shared.sqlite")]
    return TieredCache(tiers, namespace="app", ttl="1h", codec=codec, **options)


ANY_BYTES = bytes(range(256)) + b"\r\n\0"


def test_bytes_go_in_and_out_as_they_are(make, tmp_path):
    config = make()
    done = run("-c", config, "set", "key", stdin=ANY_BYTES)
    assert (done.code, done.raw, done.err) == (0, b"", "")
    done = run("-c", config, "get", "key")
    assert (done.code, done.raw, done.err) == (0, ANY_BYTES, "")
    with app(tmp_path) as cache:
        assert cache.get("key") == ANY_BYTES


def test_an_empty_value_is_none_that_is_missing(make):
    config = make()
    assert run("-c", config, "set", "key", "").code == 0
    assert run("-c", config, "get", "key").code == 0
    done = run("-c", config, "get", "other")
    assert (done.code, done.raw, done.err) == (1, b"", "")


def test_a_value_that_begins_like_a_flag_and_one_that_is_no_utf8(make):
    config = make()
    assert run("-c", config, "set", "--", "-key", "-v\udcff").code == 0
    assert run("-c", config, "get", "--", "-key").raw == b"-v\xff"


@pytest.mark.parametrize(
    ("name", "codec", "value", "payload", "other"),
    [
        ("json", JSONCodec(), {"x": [1, None]}, b'{"x":[1,null]}', b'{"x": [1,'),
        ("text", TextCodec(), "wörter", "wörter".encode(), b"\xff"),
        ("zstd-json", ZstdCodec(JSONCodec()), ["a"] * 9, b"[" + b'"a",' * 8 + b'"a"]', b"["),
        ("vector-f4", VectorCodec("float32"), [1.0, 2.0], None, b"\0" * 7),
    ],
)  # fmt: skip
def test_values_of_any_codec_are_what_the_codec_makes(make, tmp_path, name, codec, value, payload, other):
    config = make(name)
    with app(tmp_path, codec) as cache:
        cache.set("key", value)
    done = run("-c", config, "get", "key")
    assert done.code == 0
    assert payload is None or done.raw == payload

    # And back: what was written by the command is the application's.
    assert run("-c", config, "set", "copy", stdin=done.raw).code == 0
    with app(tmp_path, codec) as cache:
        assert list(cache.get("copy")) == list(value)

    refused = run("-c", config, "set", "copy", stdin=other)
    assert refused.code == 1
    assert "cannot read these bytes" in refused.err
    assert refused.err.count("\n") == 1
    assert run("-c", config, "get", "copy").raw == done.raw  # it is as it was


def test_a_value_of_a_codec_of_ones_own_is_what_the_tiers_hold(make, tmp_path):
    """As `@cached(codec=...)` stores them, beside those of the cache's codec."""
    config = make("json")
    with app(tmp_path, TextCodec()) as cache:
        cache.set("key", "no JSON")
    done = run("-c", config, "get", "key")
    assert (done.code, done.raw) == (0, b"no JSON")
    assert done.err == (
        "tiercache: it is of the codec 'text', and a miss for this cache, whose codec is 'json'\n"
    )
    with TieredCache.from_config(config) as cache:
        assert cache.get("key") is None
    assert run("-c", config, "set", "key", "1").code == 0
    done = run("-c", config, "get", "key")
    assert (done.code, done.raw, done.err) == (0, b"1", "")


def test_encrypted_values_are_opened_by_codecs_around_payloads():
    key = "00" * 32
    codec = EncryptedCodec(ZstdCodec(JSONCodec()), key=key)
    with TieredCache([MemoryTier()], codec=codec) as cache:
        plain = payloads(cache)
        assert plain.codec.name == codec.name
        assert plain.codec.decode(codec.encode([1, 2])) == b"[1,2]"
        assert codec.decode(plain.codec.encode(b"[1, 2]")) == [1, 2]


def test_a_life_of_its_own(make, tmp_path):
    config = make()
    for key, flags in {"own": ["--ttl", "5m"], "default": [], "for ever": ["--ttl", "none"]}.items():
        assert run("-c", config, "set", key, "v", *flags).code == 0
    left = {
        key: [one["left"] for one in json.loads(run("-c", config, "inspect", key, "--json").out)["tiers"][1:]]
        for key in ("own", "default", "for ever")
    }
    assert all(290 < seconds <= 300 for seconds in left["own"])
    assert all(3590 < seconds <= 3600 for seconds in left["default"])
    assert left["for ever"] == [None, None]


def test_delete_drops_from_every_tier_and_does_not_mind_what_is_absent(make, tmp_path):
    config = make()
    for key in ("a", "b", "c"):
        run("-c", config, "set", key, "v")
    done = run("-c", config, "delete", "a", "b", "never there")
    assert (done.code, done.out, done.err) == (0, "", "")
    with app(tmp_path) as cache:
        assert cache.mget(["a", "b", "c"]) == [None, None, b"v"]
    assert run("-c", config, "delete", "a").code == 0


def test_a_tier_that_did_not_take_it_is_named_and_exit_code_1(make, tmp_path):
    config = make()
    run("-c", config, "set", "key", "v")
    (tmp_path / "shared.sqlite").write_bytes(b"not a database at all" * 100)
    for command, told in (
        (["set", "key", "w"], "not stored in sql; repeat it when that is well"),
        (
            ["delete", "key"],
            "not deleted in sql yet; disk has noted it, and it is done once sql is well again",
        ),
        (
            ["clear", "--yes"],
            "not cleared in sql yet; disk has noted it, and it is done once sql is well again",
        ),
    ):
        done = run("-c", config, *command)
        assert done.code == 1, command
        assert told in done.err
        assert "Traceback" not in done.err
    done = run("-c", config, "keys")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("tiercache: ")
    done = run("-c", config, "inspect", "key")
    assert done.code == 1
    assert "it failed: " in done.out


def test_a_delete_that_nobody_could_note_is_to_be_repeated(tmp_path):
    config = tmp_path / "one.toml"
    (tmp_path / "one.sqlite").write_bytes(b"not a database at all" * 100)
    config.write_text(f'[[tiers]]\ntype = "sql"\nurl = "sqlite:///{tmp_path}/one.sqlite"\n')
    done = run("-c", config, "delete", "key")
    assert done.code == 1
    assert "not deleted in sql; repeat it when that is well" in done.err
    assert "noted" not in done.err


def test_a_reason_is_told_once(tmp_path):
    config = tmp_path / "read.toml"
    table = '[[tiers]]\ntype = "disk"\ndirectory = "cache"\n'
    config.write_text(table)
    assert run("-c", config, "set", "key", "v").code == 0
    config.write_text(table + "read_only = true\n")
    for command in (["set", "key", "w"], ["delete", "key"]):
        done = run("-c", config, *command)
        assert done.code == 1
        assert done.err.count("because the tier is set read_only") == 1, done.err
        assert len(done.err.splitlines()) == 2


def test_what_is_written_into_a_temporary_directory_is_told_to_be_lost(tmp_path, monkeypatch):
    config = tmp_path / "unusable.toml"
    tiers = '[[tiers]]\ntype = "disk"\ndirectory = "/proc/none"\non_unusable = "temporary"\n'
    config.write_text(tiers)
    warnings.simplefilter("always")  # as in a process of its own; pytest puts back what it was
    for command in (["set", "key", "v"], ["delete", "key"], ["clear", "--yes"], ["purge", "--expired"]):
        done = run("-c", config, *command)
        assert done.code == 1, command
        assert "Using the temporary directory" in done.err
        assert done.err.endswith(
            "tiercache: nothing of it stays in disk, whose temporary directory goes away with this\n"
        )
    assert run("-c", config, "keys").code == 0
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    done = run("-c", config, "set", "key", "v")
    assert (done.code, done.out) == (1, "")
    assert "no temporary one can be made (No such file or directory): let TMPDIR name" in done.err
    assert "Errno" not in done.err


def test_a_value_that_is_too_large_for_a_tier(tmp_path):
    config = tmp_path / "small.toml"
    config.write_text("""
        [[tiers]]
        type = "disk"
        directory = "small"
        max_bytes = "64KiB"
        [[tiers]]
        type = "disk"
        directory = "large"
    """)
    done = run("-c", config, "set", "key", stdin=b"x" * 100_000)
    assert (done.code, done.out) == (1, "")
    assert done.err == "tiercache: not stored in disk: it is larger than all of its room\n"
    assert run("-c", config, "get", "key").raw == b"x" * 100_000


def test_keys(make):
    config = make()
    assert run("-c", config, "keys").out == ""
    assert json.loads(run("-c", config, "keys", "--json").out) == []
    keys = {"user:1", "user:2", "page/ü", "two\nlines", "\ud800", ""}
    with TieredCache.from_config(config) as cache:
        cache.mset(dict.fromkeys(keys, b"v"))
    done = run("-c", config, "keys")
    assert done.code == 0
    assert set(done.out.splitlines()) == {"user:1", "user:2", "page/ü", "two\\nlines", "\\ud800", ""}
    assert set(json.loads(run("-c", config, "keys", "--json").out)) == keys
    assert set(run("-c", config, "keys", "--prefix", "user:").out.split()) == {"user:1", "user:2"}
    for limit, listed in (("4", 4), ("99999999999999999999", 6)):
        assert len(json.loads(run("-c", config, "keys", "--limit", limit, "--json").out)) == listed


def test_namespaces_inside_the_cache(make, tmp_path):
    config = make("json", '[views.vectors]\nnamespace = "v1"\ncodec = "text"\nttl = "5m"\n')
    with app(tmp_path) as cache:
        cache.view("v1", codec=TextCodec()).set("key", "of the view")
        cache.view("plain").view("deeper").set("key", b"of a namespace")
    assert run("-c", config, "keys").out == ""
    assert run("-c", config, "get", "key").code == 1
    assert run("-c", config, "get", "-n", "vectors", "key").out == "of the view"
    assert run("-c", config, "get", "-n", "plain", "-n", "deeper", "key").out == "of a namespace"
    assert run("-c", config, "keys", "--namespace", "plain", "--namespace", "deeper").out == "key\n"
    assert run("-c", config, "set", "-n", "vectors", "new", "text").code == 0
    seen = json.loads(run("-c", config, "inspect", "-n", "vectors", "new", "--json").out)["tiers"]
    assert [one["codec"] for one in seen[1:]] == ["text", "text"]
    assert all(one["left"] <= 300 for one in seen[1:])
    assert run("-c", config, "clear", "-n", "vectors", "--yes").code == 0
    assert run("-c", config, "keys", "-n", "vectors").out == ""
    assert run("-c", config, "get", "-n", "plain", "-n", "deeper", "key").code == 0


def test_named_views_lend_their_codecs(make, tmp_path, monkeypatch):
    """One that no name leads to: without the view its values are what the tiers hold."""
    monkeypatch.setenv("KEY", "0f" * 32)
    table = '{type = "text", compress = "zstd", encrypt = {key = "${KEY}"}}'
    config = make("json", f'[views.letters]\nnamespace = "v1"\ncodec = {table}\n')
    assert run("-c", config, "set", "-n", "letters", "key", "dear reader").code == 0
    assert run("-c", config, "get", "-n", "letters", "key").out == "dear reader"
    for arguments in (["get", "-n", "v1", "key"], ["inspect", "-n", "letters", "--value", "--json", "key"]):
        done = run("-c", config, *arguments)
        assert done.code == 0
        assert b"dear reader" not in done.raw
        assert b"0f0f" not in done.raw
    seen = json.loads(done.out)["tiers"][1:]
    assert {one["codec"] for one in seen} == {EncryptedCodec(ZstdCodec(TextCodec()), key=b"k" * 32).name}
    with TieredCache.from_config(config) as cache:
        assert cache.views["letters"].get("key") == "dear reader"


def test_inspect_tells_what_each_tier_knows(make, tmp_path):
    config = make("json")
    run("-c", config, "set", "key", stdin=b'"a value"')
    with closing(DiskTier(tmp_path / "disk")) as disk:
        disk.mdelete([Namespace(("app",)).fold("key")])
    done = run("-c", config, "inspect", "key")
    assert done.code == 0
    assert done.err == ""
    assert "a value" not in done.out
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["tier", "holds", "it", "size", "age", "left", "codec"]
    assert lines[1][0] == "memory"
    assert lines[2] == ["disk", "no"]
    assert lines[3][:4] == ["sql", "yes", "9", "B"]
    assert lines[3][-1] == "json"

    shown = run("-c", config, "inspect", "key", "--value", "--json")
    memory, disk, sql = json.loads(shown.out)["tiers"]
    assert (memory["holds"], disk["holds"], sql["holds"]) == (None, False, True)
    assert "memory is each process's own" in memory["unseen"]
    assert sql["size"] == 9
    assert 0 <= sql["age"] < 60
    assert b64decode(sql["value"]) == b'"a value"'
    assert """sql: b'"a value"'""" in run("-c", config, "inspect", "key", "--value").out
    assert run("-c", config, "get", "key").out == '"a value"'  # which promotes it, and inspect did not

    nothing = run("-c", config, "inspect", "other")
    assert nothing.code == 1
    assert nothing.err == ""


def test_a_codecs_name_steers_no_terminal(make, tmp_path):
    class Odd:
        name = "odd\x1b[31m[red]\n"

        def encode(self, value):
            return value.encode()

        def decode(self, data):
            return data.decode()

    config = make()
    with app(tmp_path, codec=Odd()) as cache:
        cache.set("key", "value")
    done = run("-c", config, "inspect", "key")
    assert (done.code, done.raw.count(b"\x1b")) == (0, 0)
    assert r"odd\x1b[31m[red]\n" in done.out
    assert len(done.out.splitlines()) == 4


def test_inspect_tells_what_missed_a_delete(make, tmp_path):
    config = make()
    run("-c", config, "set", "key", "v")
    with TieredCache([MemoryTier(), DiskTier(tmp_path / "disk")], namespace="app") as without_sql:
        without_sql.delete("key")
    done = run("-c", config, "inspect", "key")
    assert done.code == 1
    assert done.out.splitlines()[3].split()[:3] == ["sql", "deleted", "since"]
    assert json.loads(run("-c", config, "inspect", "key", "--json").out)["tiers"][2]["deleted"] is True
    assert run("-c", config, "get", "key").code == 1


def test_inspect_tells_what_is_stale(make, tmp_path):
    config = make()
    with closing(SQLTier(f"sqlite:///{tmp_path}/shared.sqlite")) as tier:
        now = time()
        tier.mset({Namespace(("app",)).fold("key"): Entry(b"v", now + 600, now - 600, now - 1)})
    assert run("-c", config, "inspect", "key").out.splitlines()[3].split()[:5] == [
        "sql",
        "stale",
        "1",
        "B",
        "10m",
    ]
    assert run("-c", config, "get", "key").code == 1  # for get it is a miss, as for the application
    assert run("-c", config, "keys").out == "key\n"


def test_what_is_left_is_left_until_it_is_stale(make, tmp_path):
    config = make()
    with app(tmp_path, stale_for="10m") as cache:
        cache.set("key", b"value", ttl="2h")
    for line in run("-c", config, "inspect", "key").out.splitlines()[2:]:
        assert re.search(r" (2h|1h 59m)  bytes$", line), line
    seen = json.loads(run("-c", config, "inspect", "key", "--json").out)["tiers"][2]
    assert round(seen["left"] - seen["fresh_for"]) == 600


def test_the_tiers_of_a_chain_inside(tmp_path):
    config = tmp_path / "nested.toml"
    config.write_text("""
        codec = "json"
        [[tiers]]
        type = "disk"
        directory = "fast"
        [[tiers]]
        type = "chain"
        namespace = "inner"
        [[tiers.tiers]]
        type = "memory"
        [[tiers.tiers]]
        type = "disk"
        directory = "slow"
    """)
    assert run("-c", config, "set", "key", "[1]").code == 0
    assert run("-c", config, "get", "key").out == "[1]"
    seen = json.loads(run("-c", config, "inspect", "key", "--json").out)["tiers"]
    assert [(one["tier"], one["holds"]) for one in seen] == [
        ("disk", True), ("chain/memory", None), ("chain/disk", True)
    ]  # fmt: skip


def test_clear_and_purge(make, tmp_path):
    config = make()
    with app(tmp_path) as cache:
        cache.mset({"a": b"1", "b": b"2"})
        cache.view("inside").set("c", b"3")
        with TieredCache([SQLTier(f"sqlite:///{tmp_path}/shared.sqlite")], namespace="other") as other:
            other.set("d", b"4")
            assert run("-c", config, "purge", "--older-than", "1h").out == "0 entries dropped\n"
            assert run("-c", config, "purge", "--expired").out == "0 entries dropped\n"
            assert json.loads(run("-c", config, "purge", "--older-than", "1ms", "--json").out) == {
                "dropped": 2
            }
            assert run("-c", config, "keys").out == ""
            cache.set("a", b"1")
            done = run("-c", config, "clear", "--yes")
            assert (done.code, done.out, done.err) == (0, "", "")
            assert run("-c", config, "keys").out == ""
            assert run("-c", config, "get", "-n", "inside", "c").out == "3"
            assert other.get("d") == b"4"


def test_purge_by_end_and_by_use(make, tmp_path):
    config, past = make(), FakeClock(time() - 1000)
    tiers = [
        DiskTier(tmp_path / "disk", clock=past),
        SQLTier(f"sqlite:///{tmp_path}/shared.sqlite", clock=past),
    ]
    with TieredCache(tiers, namespace="app", clock=past) as cache:
        cache.mset({"idle": b"v", "used": b"v"}, ttl="1h")
        cache.set("ended", b"v", ttl=500)
    assert run("-c", config, "get", "used").raw == b"v"
    assert run("-c", config, "purge", "--idle", "1h", "--json").out == '{\n  "dropped": 0\n}\n'
    assert run("-c", config, "purge", "--expired").out == "1 entry dropped\n"
    done = run("-c", config, "purge", "--idle", "10m")
    assert (done.code, done.out) == (0, "1 entry dropped\n")
    assert "sql cannot tell when an entry was last used" in done.err
    held = {
        key: [
            one["holds"] for one in json.loads(run("-c", config, "inspect", key, "--json").out)["tiers"][1:]
        ]
        for key in ("idle", "used", "ended")
    }
    assert held == {"idle": [False, True], "used": [True, True], "ended": [False, False]}


def test_no_secret_is_shown(make, tmp_path, monkeypatch):
    """Those of the configuration, and values, of which only `get` and `inspect --value` tell."""
    monkeypatch.setenv("KEY", "ab" * 32)
    config = tmp_path / "secrets.toml"
    config.write_text(
        'codec = {type = "text", encrypt = {key = "${KEY}"}}\n'
        '[[tiers]]\ntype = "disk"\ndirectory = "d"\nsecret = "swordfish-of-many-bytes"\n'
        '[[tiers]]\ntype = "redis"\nurl = "redis://user:swordfish@127.0.0.1:1/0?password=swordfish"\n'
    )
    shown = ""
    lines = b'{"key": "k", "value": "swordfish"}\n{"key": "bad", "value": ["swordfish"]}\n'
    for arguments in (
        ["set", "key", "swordfish"],
        ["warm", "-"],
        ["keys"],
        ["inspect", "key"],
        ["inspect", "key", "--value", "--json"],
        ["delete", "key"],
        ["purge", "--older-than", "1d"],
        ["clear", "--yes"],
        ["check", "--connect"],
        ["stats"],
    ):
        done = run("-c", config, "--debug", *arguments, stdin=lines)
        assert done.out + done.err, arguments
        shown += done.out + done.err
    assert "redis" in shown
    for secret in ("swordfish", "abab"):
        assert secret not in shown
