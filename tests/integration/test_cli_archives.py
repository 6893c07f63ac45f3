"""`tiercache export` and `import` as a shell runs them: pipes, servers, a real Ctrl-C, bounded memory."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import pythons
from archives import Failing
from shell import COLOUR, COMMAND, in_a_terminal, run

from tiercache import DiskTier, MemoryTier, TieredCache, TierUnavailable, register_tier
from tiercache.archive import export_archive, import_archive
from tiercache.codecs import EncryptedCodec, JSONCodec, TextCodec
from tiercache.testing import DictTier

#: Prints the most memory of its own that it had, in MiB, behind what it writes to stderr: looked at all the
#: time. What SQLite maps of a file is not its own, and goes when others want it.
MEASURED = """
import atexit, sys, threading
from tiercache.cli import main

most, done = 0, threading.Event()

def look():
    global most
    status = open("/proc/self/status").read()
    most = max(most, int(status.split("RssAnon:")[1].split()[0]) // 1024)

def keep_looking():
    while not done.wait(0.01):
        look()

def tell():
    done.set()
    look()
    print("most", most, file=sys.stderr)

atexit.register(tell)
threading.Thread(target=keep_looking, daemon=True).start()
sys.exit(main())
"""
#: The command, which interrupts itself, as Ctrl-C does, after so many entries.
INTERRUPTED = """
import os, signal, sys
import tiercache.archive._{module} as module
from tiercache.cli import main

left, wrapped = {entries}, module.{name}

def counting(*arguments):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGINT)
    return wrapped(*arguments)

module.{name} = counting
sys.exit(main())
"""


def config(folder, name, *tables, namespace="app", more=""):
    """Writes the configuration ``name`` of memory over these tiers, and gives its path."""
    path = folder / f"{name}.toml"
    tiers = ['type = "memory"', *(table.replace("NAME", name) for table in tables)]
    path.write_text(
        "\n".join([f'namespace = "{namespace}"', more, *(f"[[tiers]]\n{tier}" for tier in tiers)])
    )
    return path


DISK = 'type = "disk"\ndirectory = "NAME"\nmax_bytes = "10GiB"'


def fill(path, count, size=100):
    """Entries for the cache of ``path``; what they are."""
    values = {f"key-{number:06}": number.to_bytes(4, "big") * (size // 4) for number in range(count)}
    items = list(values.items())
    with TieredCache.from_config(path) as cache:
        for start in range(0, count, 2000):
            cache.mset(items[start : start + 2000], ttl="30d")
    return values


def held(path):
    with TieredCache.from_config(path) as cache:
        keys = list(cache.keys())
        return dict(zip(keys, cache.mget(keys), strict=True))


def times(path):
    """What the lowest tier knows of each entry."""
    with TieredCache.from_config(path) as cache:
        core = cache.as_tier()._core
        tier = core.stack.guards[-1].tier
        keys = list(cache.keys())
        found = tier.mget(core.members[-1].fold_all(keys))
        return sorted((name, e.created_at, e.expires_at, e.codec) for name, e in found.items())


def start(*arguments, code=None, **options):
    command = [*COMMAND] if code is None else [sys.executable, "-c", code]
    return pythons.Popen([*command, *map(str, arguments)], stderr=subprocess.PIPE, **options)


def _piped(source, target):
    """``export | import``: the memory of both, in MiB, and what they said."""
    out = start("-c", source, "export", code=MEASURED, stdout=subprocess.PIPE)
    into = start("-c", target, "import", code=MEASURED, stdin=out.stdout)
    out.stdout.close()
    said = [process.communicate(timeout=300)[1].decode() for process in (into, out)]
    assert (into.returncode, out.returncode) == (0, 0), said
    return [int(text.rsplit("most ", 1)[1]) for text in said], said


def _bounded(tmp_path, count, size=6_144, mebibytes=28):
    small, large = (config(tmp_path, name, DISK) for name in ("small", "large"))
    fill(small, 500, size)
    before, _ = _piped(small, config(tmp_path, "small-copy", DISK))
    values = fill(large, count, size)
    copy = config(tmp_path, "copy", DISK)
    after, said = _piped(large, copy)
    assert f"{count:,} entries imported" in said[0]
    assert count * size > 2 * mebibytes * 2**20  # which any of the two would have if it kept them all
    for few, many in zip(before, after, strict=True):
        assert many < few + mebibytes, (before, after)
    assert held(copy) == values
    assert times(copy) == times(large)


def test_a_pipe_takes_ten_thousand_entries_in_bounded_memory(tmp_path):
    _bounded(tmp_path, 10_000)


@pytest.mark.long
def test_a_pipe_takes_a_hundred_thousand_entries_in_bounded_memory(tmp_path):
    _bounded(tmp_path, 100_000, mebibytes=28 + 64)  # what SQLite keeps of a file beyond what it maps


@pytest.mark.parametrize("entries", [pytest.param(1, marks=pytest.mark.long), 2_300])
def test_ctrl_c_ends_an_export_which_goes_on_to_the_exact_content(tmp_path, entries):
    """`test_an_export_goes_on_from_wherever_it_was_cut` cuts it before its first page in the usual run."""
    source, target = config(tmp_path, "source", DISK), config(tmp_path, "target", DISK)
    values = fill(source, 4_000)
    archive = tmp_path / "a.tca"
    code = INTERRUPTED.format(module="export", name="Item", entries=entries)
    process = start("export", archive, "-c", source, code=code)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    kept = 0 if entries == 1 else 2_000
    assert f"tiercache: {kept:,} entries written; --resume goes on from there" in said
    assert said.endswith("tiercache: interrupted\n")
    assert "Traceback" not in said
    part = archive.stat().st_size
    assert run("export", archive, "-c", source).code == 1  # not over it without a word
    done = run("export", archive, "--resume", "--json", "-c", source)
    report = json.loads(done.out)
    assert (done.code, report["entries"]) == (0, 4_000)
    assert report["resumed"] == kept
    assert archive.stat().st_size > part
    assert run("import", archive, "-c", target).code == 0
    assert held(target) == values
    assert times(target) == times(source)


@pytest.mark.parametrize("entries", [1, 2_300])
def test_ctrl_c_ends_an_import_which_goes_on_to_the_exact_content(tmp_path, entries):
    source, target = config(tmp_path, "source", DISK), config(tmp_path, "target", DISK)
    values = fill(source, 4_000)
    archive = tmp_path / "a.tca"
    assert run("export", archive, "-c", source).code == 0
    code = INTERRUPTED.format(module="format", name="_item", entries=entries)
    process = start("import", archive, "-c", target, code=code)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert "entries read; started again it goes on from there" in said
    assert "Traceback" not in said
    assert len(held(target)) == (0 if entries == 1 else 2_000)
    done = run("import", archive, "--json", "-c", target)
    report = json.loads(done.out)
    assert (done.code, report["read"], report["stored"] + report["already_there"]) == (0, 4_000, 4_000)
    assert report["already_there"] == (0 if entries == 1 else 2_000)
    assert held(target) == values
    assert times(target) == times(source)


def test_an_importer_that_loses_its_exporter_says_what_came_before(tmp_path):
    source, target = config(tmp_path, "source", DISK), config(tmp_path, "target", DISK)
    fill(source, 1_500)
    code = INTERRUPTED.format(module="export", name="Item", entries=1_200)
    out = start("-c", source, "export", code=code, stdout=subprocess.PIPE)
    into = start("-c", target, "import", stdin=out.stdout)
    out.stdout.close()
    said = into.communicate(timeout=60)[1].decode()
    out.communicate(timeout=60)
    assert (out.returncode, into.returncode) == (130, 1)
    assert "it ends there, and is not whole" in said
    assert len(said.splitlines()) == 1
    stored = len(held(target))
    assert 500 <= stored < 1_200
    assert f"imported before that: {stored:,} entries, and 0 already there" in said
    assert _piped(source, target)[1][0].startswith(f"tiercache: {1500 - stored:,} entries imported")


@pytest.mark.parametrize("kind", ["redis", "sql"])
def test_servers_and_disks_take_each_others_archives(request, tmp_path, kind):
    if kind == "redis":
        url = request.getfixturevalue("valkey").url
        page = f'type = "redis"\nurl = "{url}"\ndeadline = 20'
    else:
        url = request.getfixturevalue("postgres_url")
        page = f'type = "sql"\nurl = "{url}"\ntable = "archived"\ndeadline = 20'
    source = config(tmp_path, "server", page, namespace="from", more='codec = "json"')
    values = {f"k/{number}\n": {"n": number} for number in range(1_700)}
    with TieredCache.from_config(source) as cache:
        cache.clear()
        cache.mset(values, ttl="1h")
        cache.view("inner", codec=JSONCodec()).set("x", "inner")
    archive = tmp_path / "a.tca"
    assert run("export", archive, "-c", source).code == 0
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    done = run("export", archive, "--resume", "--json", "-c", source)
    report = json.loads(done.out)
    assert report["entries"] == 1_701
    assert 0 < report["resumed"] < 1_701
    disk = config(tmp_path, "disk", DISK, more='codec = "json"')
    assert run("import", archive, "-c", disk).code == 0
    assert held(disk) == values
    back = config(tmp_path, "back", page, namespace="back", more='codec = "json"')
    with TieredCache.from_config(disk) as cache:
        export_archive(cache, tmp_path / "b.tca")
    with TieredCache.from_config(back) as cache:
        cache.clear()
        report = import_archive(tmp_path / "b.tca", cache)
        assert (report.stored, report.skipped) == (1_701, {})
        assert cache.view("inner", codec=JSONCodec()).get("x") == "inner"
    assert held(back) == values
    assert [t[1:] for t in times(back)] == [t[1:] for t in times(source)]


def test_no_secret_is_in_any_output_or_archive(tmp_path, monkeypatch):
    secrets = {"URL": "swordfish-1", "SIGN": "swordfish-2-of-many-bytes"}
    disk = DISK + '\nsecret = "${SIGN}"'
    down = 'type = "redis"\nurl = "redis://user:${URL}@127.0.0.1:1/0"'
    path, ill = config(tmp_path, "signed", disk), config(tmp_path, "ill", disk, down)
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    shown = b""
    archive = tmp_path / "a.tca"
    for arguments in (
        ["-c", path, "set", "key", "value"],
        ["-c", path, "export", archive, "--json"],
        ["-c", path, "import", archive, "--json"],
        ["-c", ill, "export", tmp_path / "b.tca"],
        ["-c", ill, "import", archive, "--replace"],
        ["-c", ill, "--debug", "export", tmp_path / "b.tca", "--force"],
        ["-c", ill, "bench", "--seconds", "0.001", "--json"],
    ):
        done = run(*arguments)
        assert done.code == ("ill" in str(arguments[1])), done.err
        shown += done.raw + done.err.encode()
    shown += archive.read_bytes()
    assert b"127.0.0.1:1" in shown or b"redis" in shown
    for secret in secrets.values():
        assert secret.encode() not in shown


def test_a_terminal_shows_progress_and_is_given_no_archive(tmp_path):
    path = config(tmp_path, "source", DISK)
    fill(path, 700)
    code, shown = in_a_terminal("-c", path, "export", tmp_path / "a.tca")
    assert code == 0
    assert "exporting" in shown
    assert COLOUR.search(shown)
    assert "700 entries exported" in shown
    code, shown = in_a_terminal("-c", path, "export")
    assert code == 2
    assert "no text for a terminal" in shown
    code, shown = in_a_terminal("-c", path, "import", tmp_path / "a.tca", NO_COLOR="1")
    assert code == 0
    assert re.search(r"importing .* ([\d.]+)/\1 KiB", shown), "all of the file"
    assert not COLOUR.search(shown)
    assert "700 already there" in shown


# -- in this process -------------------------------------------------------------------------------


def test_stdin_and_stdout_carry_an_archive(tmp_path):
    source, target = config(tmp_path, "source", DISK), config(tmp_path, "target", DISK)
    values = fill(source, 30)
    out = run("export", "-c", source)
    assert (out.code, out.err.startswith("tiercache: 30 entries exported")) == (0, True)
    assert run("import", "-c", target, stdin=out.raw).code == 0
    assert held(target) == values
    inner = run("export", "-c", source, "--tier", "disk", "-n", "nobody")
    assert (inner.code, inner.raw[:11]) == (0, b"\x89tiercache\r")
    assert run("import", "-c", target, "-n", "inside", stdin=out.raw).code == 0
    with TieredCache.from_config(target) as cache:
        assert dict.fromkeys(cache.view("inside").keys()) == dict.fromkeys(values)


def test_an_export_that_fails_says_what_is_left(tmp_path):
    down = 'type = "redis"\nurl = "redis://127.0.0.1:1/0"'
    source, ill = config(tmp_path, "source", DISK), config(tmp_path, "ill", DISK, down)
    archive = tmp_path / "a.tca"
    assert run("export", archive, "-c", source).code == 0
    old = archive.read_bytes()
    others = "--tier NAME copies another one alone"
    done = run("export", archive, "--force", "-c", ill)
    assert (done.code, archive.read_bytes()) == (1, old)
    assert done.err.endswith(f"tiercache: 0 entries written; {archive} is as it was; {others}\n")
    done = run("export", tmp_path / "b.tca", "--force", "-c", ill)
    assert done.err.endswith(f"tiercache: 0 entries written; --resume goes on from there; {others}\n")
    assert others not in run("export", tmp_path / "b.tca", "--tier", "redis", "--force", "-c", ill).err
    assert run("export", tmp_path / "b.tca", "--tier", "disk", "--force", "-c", ill).code == 0


@pytest.mark.usefixtures("registries")
def test_a_tier_that_fails_is_named_and_so_is_the_way_around_it(tmp_path):
    """Also one of somebody else, whose errors might pass for those of a file."""
    tier, archive = Failing(), tmp_path / "a.tca"
    register_tier("failing", lambda: tier)
    above = tmp_path / "above.toml"
    above.write_text('[[tiers]]\ntype = "failing"\n[[tiers]]\ntype = "disk"\ndirectory = "disk"\n')
    assert run("set", "key", "value", "-c", above).code == 0
    assert run("export", archive, "-c", above).code == 0
    assert run("delete", "key", "-c", above).code == 0
    tier.ill |= {"mget", "scan"}
    named = "tiercache: tier 'failing' cannot tell what it has (OSError)\ntiercache: 0 entries "
    done = run("export", tmp_path / "b.tca", "-c", above)
    ways = "--resume goes on from there; --tier NAME copies another one alone"
    assert (done.code, done.err) == (1, f"{named}written; {ways}\n")
    assert run("export", tmp_path / "c.tca", "--tier", "disk", "-c", above).code == 0
    done = run("import", archive, "-c", above)
    ways = "started again it goes on from there; --replace asks no tier whether what it has is newer"
    assert (done.code, done.err) == (1, f"{named}read; {ways}\n")
    assert run("import", archive, "--replace", "-c", above).code == 0


def test_a_shell_compresses_an_archive_on_its_way(tmp_path):
    source, target = config(tmp_path, "source", DISK), config(tmp_path, "target", DISK)
    values = fill(source, 30)
    command, archive = " ".join(COMMAND), tmp_path / "a.gz"
    line = f"{command} -c {source} export >(gzip > {archive}) && wait $!"
    done = pythons.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert run("import", "-c", target, stdin=gzip.decompress(archive.read_bytes())).code == 0
    assert held(target) == values


def test_an_import_that_leaves_something_out_says_so(tmp_path, monkeypatch):
    source, archive = config(tmp_path, "source", DISK), tmp_path / "a.tca"
    fill(source, 30)
    assert run("export", archive, "-c", source).code == 0
    small = config(tmp_path, "small", f"{DISK}\nmax_entries = 10")
    done = run("import", archive, "-c", small)
    assert done.code == 1
    assert "20 entries evicted meanwhile: the lowest tier is too small for all\n" in done.err
    ill = config(tmp_path, "ill", DISK, f'type = "sql"\nurl = "sqlite:///{tmp_path}/ill.db"')
    with monkeypatch.context() as patch:
        patch.setattr(DiskTier, "_mset", _refuse)
        done = run("import", archive, "--json", "-c", ill)
    report = json.loads(done.out)
    assert (done.code, report["stored"], report["failed"]) == (1, 30, ["disk"])
    assert done.err.endswith("tiercache: not all of them in disk, which is given them when they are read\n")
    assert len(held(ill)) == 30


def _refuse(*_arguments, **_options):
    raise TierUnavailable("down")


class Unlisted(DictTier):
    """One that cannot list its keys."""

    scan = None


@pytest.mark.usefixtures("registries")
def test_where_no_tier_lists_its_keys_nothing_is_wrong_with_the_flags(tmp_path):
    register_tier("unlisted", Unlisted)
    path = tmp_path / "unlisted.toml"
    path.write_text('[[tiers]]\ntype = "unlisted"')
    for arguments in (["export", tmp_path / "a.tca"], ["keys"]):
        done = run(*arguments, "-c", path)
        assert (done.code, done.raw) == (1, b"")
        assert "can list its keys" in done.err
    assert run("export", tmp_path / "a.tca", "--tier", "dict", "-c", path).code == 2


@pytest.mark.usefixtures("registries")
def test_named_views_of_a_configuration_lend_their_codecs(tmp_path, monkeypatch):
    """Some tiers want objects, and no name leads to a codec with a key."""
    register_tier("objects", DictTier)
    monkeypatch.setenv("KEY", "0f" * 32)
    codec = EncryptedCodec(TextCodec(), key="0f" * 32)
    path = tmp_path / "objects.toml"
    path.write_text(
        'namespace = "app"\ncodec = "json"\n[views.texts]\nnamespace = "t"\n'
        'codec = {type = "text", encrypt = {key = "${KEY}"}}\n[[tiers]]\ntype = "objects"'
    )
    with TieredCache([MemoryTier(), DiskTier(tmp_path / "d")], namespace="app", codec=JSONCodec()) as cache:
        cache.set("a", 1)
        cache.view("t", codec=codec).set("b", "text")
        cache.view("u", codec=codec).set("c", "text")  # in a namespace that no view of it names
        cache.view("v", codec=EncryptedCodec(TextCodec(), key="f0" * 32)).set("d", "text")
        export_archive(cache, tmp_path / "a.tca")
    done = run("import", tmp_path / "a.tca", "-c", path, "--json")
    report = json.loads(done.out)
    assert (done.code, report["stored"]) == (1, 3)
    assert report["skipped"] == {f"its codec {codec.name!r} cannot read it": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["export", "--resume"], 2, "are for an archive in a FILE"),
        (["export", "x.tca", "--resume", "--force"], 2, "not both"),
        (["export", "x.tca", "--tier", "tape"], 2, "tier: 'tape' is unknown"),
        (["export", "no/such/folder/x.tca"], 1, "tiercache: no/such/folder/x.tca: No such file"),
        (["export", "."], 1, "tiercache: . is a directory; name a FILE in it"),
        (["import", "nowhere.tca"], 1, "No such file"),
        (["import", "text"], 1, "no archive of tiercache"),
        (["import", "--later"], 2, "No such option"),
        (["export", "text"], 1, "is there already; --resume goes on with it, --force replaces it"),
        (["export", "text", "--resume"], 1, "no archive of tiercache"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_or_two(tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("some text")
    done = run(*arguments, "-c", config(tmp_path, "source", DISK))
    assert done.code == code
    assert message in done.err
    assert len(done.err.splitlines()) <= 2
    assert done.raw == b""
    assert Path("text").read_text() == "some text"
