"""Archives of caches: from any tier into any chain, interrupted anywhere, the newer entry kept."""

from __future__ import annotations

import io
import os
import stat
from functools import partial

import pytest
from archives import NOW, Failing, archive, contents, drop_from, handmade, load, one, tier_of

from tiercache import (
    ArchiveError,
    ConfigError,
    DiskTier,
    Entry,
    MemoryTier,
    TieredCache,
    TierError,
    TierUnavailable,
    WriteError,
    guarded,
)
from tiercache.archive import export_archive
from tiercache.archive._format import Item, Reader, Writer
from tiercache.codecs import EncryptedCodec, JSONCodec, TextCodec, ZstdCodec
from tiercache.keys import Namespace

ODD_KEYS = ["", "a/b", "line\nbreak", "x" * 10_000, "lone \ud800", "nul\0nul", "\x1ftc:/looks folded", "é"]


# -- from any tier to any chain --------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["", "app", "1:odd/\ud800"])
@pytest.mark.parametrize("tier", [None, "memory", "disk", "sql"])
def test_entries_go_from_any_tier_to_any_chain(make_chain, tier, namespace):
    source = make_chain("source", namespace=namespace)
    source.mset({key: key.encode("utf-8", "surrogatepass") for key in ODD_KEYS})
    data, report = archive(source, tier=tier)
    assert (report.entries, report.unread, report.tier) == (len(ODD_KEYS), 0, tier or "sql, disk, memory")
    for number, tiers in enumerate([("memory",), ("disk",), ("memory", "sql"), ("memory", "disk", "sql")]):
        target = make_chain(f"target{number}", namespace="other", tiers=tiers)
        report = load(data, target)
        assert (report.read, report.stored, report.skipped) == (len(ODD_KEYS), len(ODD_KEYS), {})
        assert sorted(target.keys()) == sorted(ODD_KEYS)
        assert target.mget(ODD_KEYS) == source.mget(ODD_KEYS)


def test_times_codec_and_bytes_stay_as_they_were(make_chain, clock):
    source = make_chain("source", ttl="1h", stale_for="10m", codec=ZstdCodec(JSONCodec()))
    source.set("key", {"text": "a" * 500})
    clock.advance(60)
    source.set("for ever", [1], ttl=None)
    data, _ = archive(source)
    raw = contents(data)
    kept = raw[(), "key"]
    assert (kept.created_at, kept.codec) == (NOW, "zstd-json")
    assert (kept.fresh_until, kept.expires_at) == (NOW + 3600, NOW + 4200)
    assert len(kept.value) < 200  # compressed, as it lies in the tier
    assert raw[(), "for ever"].expires_at is None
    clock.advance(1000)
    target = make_chain("target", codec=ZstdCodec(JSONCodec()))
    load(data, target)
    assert contents(archive(target)[0]) == raw
    assert target.mget(["key", "for ever"]) == [{"text": "a" * 500}, [1]]


def test_what_is_encrypted_needs_no_key_on_the_way(make_chain):
    codec = EncryptedCodec(JSONCodec(), key=b"k" * 32)
    source = make_chain("source", codec=codec)
    source.set("key", "a secret value")
    data, _ = archive(make_chain("source", tiers=("disk",)))  # as somebody without the key has it
    assert b"a secret value" not in data
    load(data, make_chain("target", tiers=("memory", "disk")))
    assert make_chain("target", codec=codec).get("key") == "a secret value"


def test_nested_namespaces_come_along_whoever_knows_them(make_chain):
    source = make_chain("source")
    source.set("key", b"own")
    source.view("texts", codec=TextCodec()).set("key", "text")
    source.view("a").view("").set("key", b"deep")
    elsewhere = make_chain("source", namespace="app2")
    elsewhere.set("key", b"of others")
    data, report = archive(source)
    assert report.entries == 3
    assert set(contents(data)) == {((), "key"), (("texts",), "key"), (("a", ""), "key")}
    target = make_chain("target", namespace="")
    load(data, target)
    assert target.get("key") == b"own"
    assert target.view("texts", codec=TextCodec()).get("key") == "text"
    assert target.view("a").view("").get("key") == b"deep"
    inner, _ = archive(source.view("texts"))  # an archive of a view is like any other
    assert set(contents(inner)) == {((), "key")}
    again, report = archive(target)  # the default namespace has others inside it, too
    assert set(contents(again)) == set(contents(data))


def test_memory_is_copied_view_by_view(make_chain):
    source = make_chain("source", tiers=("memory",), codec=JSONCodec())
    texts = source.view("texts", codec=TextCodec())
    source.set("key", {"a": 1})
    texts.set("key", "text")
    data, _ = archive(source, views={"texts": texts})
    assert {place: entry.codec for place, entry in contents(data).items()} == {
        ((), "key"): "json",
        (("texts",), "key"): "text",
    }
    target = make_chain("target", tiers=("memory",), codec=JSONCodec())
    report = load(data, target)
    assert report.stored == 2
    assert target.get("key") == {"a": 1}
    assert target.view("texts", codec=TextCodec()).get("key") == "text"


class AnyCodec:
    """One that no configuration can name."""

    name = "any"

    def encode(self, value):
        return repr(value).encode()

    def decode(self, data):
        if data == b"damaged":
            raise ValueError("no value")
        return int(data)


def test_a_tier_of_objects_gets_them_decoded_or_the_report_says_why_not(make_chain):
    items = [
        one("n", b"42"),
        one("bad", b"damaged"),
        one("text", b"text", path=("texts",)),
    ]
    codecs = {"n": "any", "bad": "any", "text": "text"}
    data = handmade(*(Item(i.path, i.key, Entry(i.entry.value, codec=codecs[i.key])) for i in items))
    target = make_chain("target", tiers=("memory",), codec=AnyCodec())
    report = load(data, target)
    assert target.get("n") == 42
    assert target.view("texts", codec=TextCodec()).get("text") == "text"  # named by the registry
    assert (report.stored, report.skipped) == (2, {"its codec 'any' cannot read it": 1})
    stranger = make_chain("stranger", tiers=("memory",))
    report = load(data, stranger)
    assert (report.stored, report.skipped) == (1, {"the codec 'any' is not known here": 2})


def test_a_chain_inside_a_chain_is_a_tier_like_any_other(make_chain):
    inner = make_chain("inner", namespace="", tiers=("disk",))
    source = TieredCache([MemoryTier(), inner], namespace="app", codec=JSONCodec())
    source.mset({"a": [1], "b": [2]})
    data, report = archive(source)
    assert report.entries == 2
    target_inner = make_chain("target", namespace="", tiers=("memory", "disk"))
    target = TieredCache([MemoryTier(), target_inner], namespace="app", codec=JSONCodec())
    assert load(data, target).stored == 2
    assert target.mget(["a", "b"]) == [[1], [2]]


def test_each_tier_of_a_chain_inside_is_copied_as_it_is(make_chain):
    """No codec is needed on the way, nothing is promoted, and nothing counted."""
    inner = make_chain("inner", namespace="within", tiers=("disk", "sql"))
    source = TieredCache([MemoryTier(), inner], namespace="app", codec=JSONCodec())
    source.mset({"upper": [1], "lower": [2], "both": [3]})
    source.view("nested", codec=TextCodec()).set("upper", "four")
    drop_from(inner, 0, Namespace(("app",)).fold("lower"))
    drop_from(inner, 1, Namespace(("app",)).fold("upper"), Namespace(("app", "nested")).fold("upper"))
    before = inner.stats()
    data, report = archive(source, tier="chain")
    assert (report.entries, report.unread) == (4, 0)
    found = {(*path, key): (entry.value, entry.codec) for (path, key), entry in contents(data).items()}
    assert found == {
        ("upper",): (b"[1]", "json"),
        ("lower",): (b"[2]", "json"),
        ("both",): (b"[3]", "json"),
        ("nested", "upper"): (b"four", "text"),
    }
    after = inner.stats()
    assert (after.hits, after.misses, after.tiers[0].promotions) == (before.hits, before.misses, 0)
    assert load(data, source).already_there == 4


def test_what_upper_tiers_alone_hold_is_exported_and_every_entry_once(make_chain, tmp_path):
    source = make_chain("source")
    values = {f"key-{n:03}": b"%d" % n for n in range(700)}
    source.mset(values)
    inner = source.view("inner")
    inner.mset({"both": b"1", "upper": b"2"})
    drop_from(source, 2, *(key for key in values if key.endswith("7")))
    drop_from(inner, 2, "upper")
    drop_from(source, 1, *(key for key in values if key.endswith("77")))  # memory alone has these
    data, report = archive(source)
    assert (report.entries, report.unread, report.tier) == (702, 0, "sql, disk, memory")
    items = [record for record in Reader(io.BytesIO(data)) if isinstance(record, Item)]
    assert len(items) == 702
    found = {(item.path, item.key): item.entry.value for item in items}
    assert {key: value for (path, key), value in found.items() if not path} == values
    assert (found[("inner",), "both"], found[("inner",), "upper"]) == (b"1", b"2")
    assert archive(source, tier="sql")[1].entries == 631
    path = tmp_path / "a.tca"
    for length in range(100, len(data), len(data) // 5):  # in whichever tier it is cut
        path.write_bytes(data[:length])
        assert export_archive(source, path, resume=True).entries == 702
        assert contents(path.read_bytes()) == contents(data)


def test_what_is_written_into_a_tier_that_was_listed_comes_from_above(clock):
    lower, upper = Failing(), Failing()
    upper.name = "upper"
    source = TieredCache([upper, lower], namespace="app", clock=clock)
    source.mset({"kept": b"1", "late": b"old"})
    lower.data = {key: entry for key, entry in lower.data.items() if entry.value != b"old"}
    listed = upper.scan

    def scan(prefix, **options):  # by now the lower tier has been listed
        clock.advance(1)
        source.set("late", b"new")
        return listed(prefix, **options)

    upper.scan = scan
    exported = TieredCache([upper, lower], namespace="app", clock=clock)
    found = {key: entry.value for (_, key), entry in contents(archive(exported)[0]).items()}
    assert found == {"kept": b"1", "late": b"new"}


def test_keys_that_a_tier_lists_and_cannot_read_come_from_above_unless_it_is_named(make_chain, monkeypatch):
    source = make_chain("source", tiers=("disk", "sql"))
    source.mset({"a": b"1", "b": b"2"})
    sql = tier_of(source, 1)
    found = sql.mget
    monkeypatch.setattr(sql, "mget", lambda keys: {k: e for k, e in found(keys).items() if "b" not in k[-1]})
    reopened = TieredCache([DiskTier(tier_of(source, 0).directory), sql], namespace="app")
    report = archive(reopened)[1]
    assert (report.entries, report.unread) == (2, 0)
    _, report = archive(reopened, tier="sql")
    assert (report.entries, report.unread) == (1, 1)
    unlisted = Failing()
    unlisted.scan = None
    above = TieredCache([unlisted, sql], namespace="app")
    above.set("b", b"2")
    report = archive(above)[1]
    assert (report.entries, report.unread, report.tier) == (2, 0, "sql")


@pytest.mark.parametrize("guard", [lambda tier: tier, partial(guarded, deadline=60)], ids=["bare", "guarded"])
def test_a_copy_is_no_use_of_an_entry(make_chain, clock, guard):
    source = make_chain("source", tiers=("disk",))
    source.mset({"a": b"1", "b": b"2"})
    clock.advance(1000)
    assert source.get("b") == b"2"
    assert archive(TieredCache([guard(tier_of(source, 0))], namespace="app"))[1].entries == 2
    assert source.purge(expired=False, idle=500) == 1
    assert list(source.keys()) == ["b"]


# -- what is there already, and what is newer ------------------------------------------------------


def test_an_import_twice_changes_nothing(make_chain):
    source = make_chain("source", ttl="1h")
    source.mset({f"k{n}": b"%d" % n for n in range(1200)})
    data, _ = archive(source)
    target = make_chain("target")
    assert load(data, target).stored == 1200
    report = load(data, target)
    assert (report.stored, report.already_there) == (0, 1200)


def test_newer_entries_stay_and_older_ones_make_way(make_chain, clock):
    source, target = make_chain("source"), make_chain("target")
    target.mset({"older": b"old", "equal": b"old"})
    assert target.get("older") == b"old"  # it is in memory now
    clock.advance(1)
    source.mset({"older": b"new", "newer": b"new"})
    clock.advance(1)
    target.set("newer", b"newest")
    data, _ = archive(source)
    report = load(data, target)
    assert (report.stored, report.already_there) == (1, 1)
    assert target.mget(["older", "newer", "equal"]) == [b"new", b"newest", b"old"]
    report = load(data, target, replace=True)
    assert (report.stored, report.already_there) == (2, 0)
    assert target.get("newer") == b"new"


def test_entries_without_a_date_take_the_place_of_others_that_differ(make_chain):
    target = make_chain("target")
    target.set("key", b"old")
    data = handmade(one("key", b"new"))
    assert load(data, target).stored == 1
    assert target.get("key") == b"new"
    assert load(data, target).already_there == 1


@pytest.mark.parametrize("drop", ["clear", "delete"])
def test_what_was_dropped_since_comes_back(make_chain, clock, drop):
    cache = make_chain("cache", ttl="1h")
    cache.mset({"a": b"1", "b": b"2"})
    data, _ = archive(cache)
    clock.advance(5)
    if drop == "clear":
        cache.clear()
    else:
        cache.mdelete(["a", "b"])
    clock.advance(5)
    assert load(data, cache).stored == 2
    assert cache.mget(["a", "b"]) == [b"1", b"2"]
    cold = make_chain("cache")  # as another process has it, from disk and from below
    assert cold.mget(["a", "b"]) == [b"1", b"2"]
    below = archive(cold, tier="sql")[0]
    assert len(contents(below)) == 2
    assert load(data, cold).already_there == 2


# -- time ------------------------------------------------------------------------------------------


def test_what_is_past_its_time_is_left_out_of_both(make_chain, clock):
    source = make_chain("source")
    source.set("short", b"1", ttl=10)
    source.set("long", b"2", ttl=100)
    data, report = archive(source)
    assert report.entries == 2
    clock.advance(10)
    assert archive(source)[1].entries == 1
    target = make_chain("target")
    report = load(data, target)
    assert (report.stored, report.expired) == (1, 1)
    assert target.get("short") is None
    clock.advance(90)
    assert target.get("long") is None  # never at or after its time


def test_what_life_remained_can_be_given_again(make_chain, clock):
    source = make_chain("source", stale_for=50)
    source.set("key", b"1", ttl=100)
    clock.advance(40)
    data, _ = archive(source)
    clock.advance(10_000)
    target = make_chain("target")
    assert load(data, target).expired == 1
    assert load(data, target, expiry="remaining").stored == 1
    kept = contents(archive(target)[0])[(), "key"]
    now = NOW + 10_040
    assert (kept.fresh_until, kept.expires_at, kept.created_at) == (now + 60, now + 110, NOW)


def test_a_tiers_own_cap_holds_for_what_is_imported(make_chain, tmp_path, clock):
    source = make_chain("source")
    source.set("key", b"1", ttl=1000)
    target = TieredCache([DiskTier(tmp_path / "capped", ttl=10, clock=clock)], namespace="app", clock=clock)
    with target:
        load(archive(source)[0], target)
        clock.advance(10)
        assert target.get("key") is None


# -- interrupted -----------------------------------------------------------------------------------


def test_an_export_goes_on_from_wherever_it_was_cut(make_chain, tmp_path):
    source = make_chain("source", tiers=("disk",))
    expected = {f"key-{n:04}": b"%d" % n for n in range(1700)}
    source.mset(expected)
    source.view("inner").set("key", b"inner")
    path = tmp_path / "a.tca"
    whole = export_archive(source, path)
    assert (whole.entries, whole.resumed) == (1701, 0)
    data = path.read_bytes()
    done = export_archive(source, path, resume=True)
    assert (done.entries, done.resumed, path.read_bytes()) == (1701, 1701, data)
    resumed = set()
    for length in [0, 3, 16, 60, *range(200, len(data), len(data) // 7), len(data) - 1]:
        path.write_bytes(data[:length])
        report = export_archive(source, path, resume=True)
        assert report.entries == 1701
        resumed.add(report.resumed)
        found = contents(path.read_bytes())
        assert {key: entry.value for (where, key), entry in found.items() if not where} == expected
        assert (("inner",), "key") in found
    assert resumed == {0, 500, 1000, 1500}


@pytest.mark.parametrize("pages", [0, 1, 2, 3])
def test_what_an_export_told_before_it_ended_is_what_it_keeps(make_chain, tmp_path, monkeypatch, pages):
    """Behind the beginning of the last page, which says where to go on, all is written anew."""
    source = make_chain("source", tiers=("disk",))
    source.mset({f"key-{n:04}": b"%d" % n for n in range(1700)})
    page, written, told = Writer.page, [], []

    def ending(writer, record):
        if len(written) == pages:
            raise KeyboardInterrupt
        written.append(record)
        page(writer, record)

    monkeypatch.setattr(Writer, "page", ending)
    with pytest.raises(KeyboardInterrupt):
        export_archive(source, tmp_path / "a.tca", progress=told.append)
    monkeypatch.undo()
    report = export_archive(source, tmp_path / "a.tca", resume=True)
    assert report.resumed == sum(told) == max(0, pages - 1) * 500
    assert report.entries == 1700


def test_an_export_goes_on_behind_what_is_damaged(make_chain, tmp_path):
    source = make_chain("source", tiers=("sql",))
    source.mset({f"key-{n:04}": b"%d" % n for n in range(1200)})
    path = tmp_path / "a.tca"
    export_archive(source, path)
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    path.write_bytes(data)
    report = export_archive(source, path, resume=True)
    assert (report.entries, report.resumed) == (1200, 500)
    assert len(contents(path.read_bytes())) == 1200


def test_an_export_is_not_resumed_into_something_else(make_chain, tmp_path):
    source = make_chain("source")
    source.set("key", b"1")
    path = tmp_path / "a.tca"
    export_archive(source, path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"of the tier 'sql, disk, memory', and not of 'disk'"):
        export_archive(source, path, tier="disk", resume=True)
    with pytest.raises(ConfigError, match="of the namespace"):
        export_archive(source.view("v"), path, resume=True)
    with pytest.raises(ConfigError, match="is there already"):
        export_archive(source, path)
    assert path.read_bytes() == before
    path.write_bytes(b"somebody's file")
    with pytest.raises(ArchiveError, match="no archive"):
        export_archive(source, path, resume=True)
    assert path.read_bytes() == b"somebody's file"
    export_archive(source, path, replace=True)
    assert path.read_bytes()[:16] == before[:16]


def test_memorys_listing_cannot_be_resumed_and_it_says_so(make_chain, tmp_path):
    source = make_chain("source", tiers=("memory",))
    source.mset({f"k{n}": b"" for n in range(1200)})
    path = tmp_path / "a.tca"
    export_archive(source, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be resumed"):
        export_archive(source, path, resume=True)


def test_a_truncated_archive_is_imported_up_to_its_end_and_then_told(make_chain, tmp_path):
    source, target = make_chain("source"), make_chain("target")
    source.mset({f"key-{n:04}": b"%d" % n for n in range(1000)})
    data, _ = archive(source)
    with pytest.raises(
        ArchiveError, match=r"after 7\d\d whole entries.* imported before that: 7\d\d entries"
    ) as raised:
        load(data[: len(data) * 3 // 4], target)
    report = raised.value.report
    assert report.read == report.stored == raised.value.entries == len(list(target.keys()))
    done = load(data, target)
    assert (done.stored, done.already_there) == (1000 - report.stored, report.stored)
    assert contents(archive(target)[0]) == contents(data)


def test_a_new_file_is_private(make_chain, tmp_path):
    old = os.umask(0)
    try:
        export_archive(make_chain("source"), tmp_path / "a.tca")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.tca").stat().st_mode) == 0o600


# -- tiers that fail -------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["mget", "scan"])
def test_an_export_raises_rather_than_leave_something_out(verb):
    tier = Failing()
    cache = TieredCache([MemoryTier(), tier], namespace="app")
    cache.set("key", b"1")
    tier.ill.add(verb)
    with pytest.raises(TierError, match=r"'failing' cannot tell what it has \(OSError\)") as raised:
        archive(cache)
    assert (raised.value.tier, str(raised.value.__cause__)) == ("failing", f"no {verb} today")
    assert archive(cache, tier="memory")[1].entries == 1


def test_an_import_ends_where_the_lowest_tier_takes_no_more(make_chain):
    source = make_chain("source")
    source.mset({f"k{n}": b"v" for n in range(20)})
    data, _ = archive(source)
    tier = Failing()
    target = TieredCache([MemoryTier(), tier], namespace="app")
    tier.ill.add("mset")
    with pytest.raises(WriteError, match=r"'failing' takes no writes.*run it again"):
        load(data, target)
    well = TieredCache([MemoryTier(), tier], namespace="app")
    tier.ill.clear()
    assert load(data, well).stored == 20
    tier.ill.add("mget")  # nobody can tell what it has
    with pytest.raises(TierError, match="'failing' cannot tell what it has"):
        load(data, well)


def test_what_is_too_large_is_skipped_and_counted(tmp_path):
    data = handmade(one("small", b"s" * 10), one("large", b"l" * 300_000), one("other", b"o"))
    with TieredCache([DiskTier(tmp_path / "small", max_bytes="200KB")], namespace="app") as target:
        report = load(data, target)
        assert (report.stored, report.skipped) == (2, {"larger than the whole tier 'disk'": 1})
        assert target.get("small") == b"s" * 10


def test_what_a_tier_is_owed_is_in_no_archive(make_chain, monkeypatch):
    source = make_chain("source", tiers=("disk", "sql"))
    source.mset({"kept": b"1", "deleted": b"2"})
    port = source.as_tier()._core.members[-1]._blocking
    monkeypatch.setattr(port, "mdelete", _raising)
    assert source.delete("deleted").failed == ("sql",)
    assert set(contents(archive(source)[0])) == {((), "kept")}
    assert set(contents(archive(source, tier="sql")[0])) == {((), "kept")}


async def _raising(_keys, **_options):
    raise TierUnavailable("down")


# -- arguments -------------------------------------------------------------------------------------


def test_arguments_are_checked(make_chain):
    source = make_chain("source")
    with pytest.raises(
        ConfigError, match=r"tier: 'redis' is unknown; this cache has 'memory', 'disk', 'sql'"
    ):
        archive(source, tier="redis")
    with pytest.raises(ConfigError, match="a stream cannot be resumed"):
        archive(source, resume=True)
    with pytest.raises(ConfigError, match='it is "absolute" or "remaining"'):
        load(b"", source, expiry="later")
    unlisted = Failing()
    unlisted.scan = None
    with pytest.raises(ConfigError, match="none of the tiers can list its keys: failing"):
        archive(TieredCache([unlisted]))
    with pytest.raises(ConfigError, match="cannot list its keys; choose another"):
        archive(TieredCache([MemoryTier(), unlisted]), tier="failing")


def test_progress_is_told_of_every_entry(make_chain):
    source = make_chain("source")
    source.mset({f"k{n}": b"" for n in range(700)})
    told = []
    data, _ = archive(source, progress=told.append)
    assert (sum(told), len(told) > 2) == (700, True)
    told.clear()
    load(data, make_chain("target"), progress=told.append)
    assert (sum(told), len(told)) == (700, 2)
