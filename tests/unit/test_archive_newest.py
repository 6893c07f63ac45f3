"""What an import keeps, since it is newer; how long an entry lives that only some tiers cut short; and which
codecs open what goes where objects are kept."""

from __future__ import annotations

import pytest
from archives import NOW, archive, contents, drop_from, handmade, load, one, tier_of

from tiercache import Entry, MemoryTier, TieredCache, TierUnavailable
from tiercache.codecs import EncryptedCodec, JSONCodec
from tiercache.keys import Namespace

# -- which is newer --------------------------------------------------------------------------------


def test_what_is_newer_in_an_upper_tier_alone_is_kept(make_chain, clock):
    """The lowest drops it earlier, or has no room for it."""
    cache = make_chain("cache", tiers=("disk", "sql"), ttls={"sql": 10})
    cache.mset({"expired": b"old", "evicted": b"old"})
    data, _ = archive(cache)
    clock.advance(1)
    cache.mset({"expired": b"new", "evicted": b"new"})
    drop_from(cache, 1, "evicted")
    clock.advance(10)
    report = load(data, cache)
    assert (report.stored, report.already_there) == (0, 2)
    assert cache.mget(["expired", "evicted"]) == [b"new", b"new"]
    assert load(data, cache, replace=True).stored == 2
    assert cache.mget(["expired", "evicted"]) == [b"old", b"old"]


@pytest.mark.parametrize("tiers", [("disk", "sql"), ("memory", "sql")])
def test_what_the_lowest_tier_refused_is_kept_above(make_chain, clock, monkeypatch, tiers):
    cache = make_chain("cache", tiers=tiers)
    cache.set("key", b"old")
    data, _ = archive(cache)
    clock.advance(1)
    with monkeypatch.context() as patch:
        patch.setattr(cache.as_tier()._core.members[-1]._blocking, "mset", _refuse)
        patch.setattr(cache.as_tier()._core.members[-1]._blocking, "mdelete", _refuse)
        assert cache.set("key", b"new").failed == ("sql",)
    clock.advance(60)  # whatever pause it was given is over
    assert load(data, cache).already_there == 1
    assert cache.get("key") == b"new"


async def _refuse(*_arguments, **_options):
    raise TierUnavailable("down")


def test_a_lowest_tier_that_lost_its_copy_is_given_it_back(make_chain):
    cache = make_chain("cache", tiers=("memory", "disk", "sql"))
    cache.mset({"a": b"1", "b": b"2"})
    data, _ = archive(cache)
    tier_of(cache, 2).clear("")
    report = load(data, cache)
    assert (report.stored, report.already_there) == (2, 0)
    assert len(contents(archive(cache, tier="sql")[0])) == 2


def test_an_upper_tier_that_cannot_be_asked_ends_it_since_it_may_have_something_newer(
    make_chain, monkeypatch
):
    monkeypatch.setattr("tiercache.tiers.disk.tier.DiskTier.peek", _raising)
    data = handmade(one("key", b"old", created_at=NOW - 1))
    cache = make_chain("cache", tiers=("disk", "sql"))
    cache.set("key", b"new")
    drop_from(cache, 1, "key")
    with pytest.raises(TierUnavailable, match="down"):
        load(data, cache)
    assert load(data, cache, replace=True).stored == 1


def _raising(*_arguments, **_options):
    raise TierUnavailable("down")


@pytest.mark.parametrize("newer_first", [True, False])
@pytest.mark.parametrize("apart", [0, 600])
def test_of_a_key_that_an_archive_has_twice_the_newer_entry_counts(make_chain, newer_first, apart):
    twins = [one("key", b"new", created_at=NOW - 1), one("key", b"old", created_at=NOW - 2)]
    between = [one(f"other-{number}") for number in range(apart)]
    first, last = twins if newer_first else twins[::-1]
    target = make_chain("target", tiers=("disk",))
    report = load(handmade(first, *between, last), target)
    assert target.get("key") == b"new"
    assert report.stored + report.already_there == apart + 2
    load(handmade(first, *between, last), target, replace=True)
    assert target.get("key") == last.entry.value


# -- how long it lives -----------------------------------------------------------------------------


def life(data, key="key"):
    return contents(data)[(), key].expires_at


@pytest.mark.parametrize("ttl", [None, 1000])
def test_a_tiers_own_cap_is_no_end_of_an_entry_that_another_has_for_longer(make_chain, clock, ttl):
    source = make_chain("source", tiers=("disk", "sql"), ttls={"sql": 60})
    source.set("key", b"1", ttl=ttl)
    source.set("short", b"2", ttl=10)
    whole = None if ttl is None else NOW + ttl
    data, _ = archive(source)
    assert (life(data), life(data, "short")) == (whole, NOW + 10)
    assert life(archive(source, tier="sql")[0]) == NOW + 60  # a copy of that tier
    target = make_chain("target", tiers=("disk",))
    load(data, target)
    clock.advance(61)
    assert target.get("key") == b"1"


def test_the_longest_life_counts_wherever_it_is(make_chain):
    source = make_chain(
        "source", tiers=("memory", "disk", "sql"), ttls={"memory": None, "disk": 100, "sql": 60}
    )
    source.mset({"everywhere": b"1", "not below": b"2"})
    drop_from(source, 2, "not below")
    data, _ = archive(source)
    assert life(data, "everywhere") is None
    assert life(data, "not below") is None
    lowest = tier_of(source, 2)
    name = next(iter(source.as_tier()._core.members[2].fold_all(["everywhere"])))
    lowest.mset({name: Entry(b"another", created_at=NOW + 1, expires_at=NOW + 50)})  # that is another entry
    found = contents(archive(make_chain("source", tiers=("disk", "sql"), ttls={"disk": 100, "sql": 60}))[0])
    assert (found[(), "everywhere"].value, found[(), "everywhere"].expires_at) == (b"another", NOW + 50)


def test_of_a_chain_inside_too_the_longest_life_counts(make_chain):
    inner = make_chain("inner", namespace="", tiers=("disk", "sql"), ttls={"sql": 60})
    source = TieredCache([MemoryTier(), inner], namespace="app")
    source.mset({"key": b"1", "not below": b"2"})
    drop_from(inner, 1, Namespace(("app",)).fold("not below"))
    data, _ = archive(source, tier="chain")
    assert {key: entry.expires_at for (_, key), entry in contents(data).items()} == {
        "key": None,
        "not below": None,
    }


# -- which codec opens it --------------------------------------------------------------------------


def encrypted(letter):
    return EncryptedCodec(JSONCodec(), key=letter * 32)


@pytest.mark.parametrize("inside", [False, True])
def test_a_namespace_that_nobody_named_is_opened_with_the_keys_of_others(make_chain, inside):
    """Where memory is the lowest tier, also that of a chain inside."""
    ours, theirs = encrypted(b"o"), encrypted(b"t")
    source = make_chain("source", tiers=("memory", "disk"), codec=ours)
    source.set("key", 0)
    source.view("unnamed", codec=ours).set("key", 1)
    source.view("unnamed").view("deep", codec=theirs).set("key", 2)
    source.view("strange", codec=encrypted(b"s")).set("key", 3)
    data, _ = archive(source)
    tiers = [make_chain("inner", namespace="", tiers=("memory",))] if inside else []
    with TieredCache([MemoryTier(), *tiers], namespace="app", codec=ours) as target:
        view = target.view("view", codec=theirs)
        report = load(data, target, views={"view": view})
        assert (report.stored, report.skipped) == (3, {"its codec 'encrypted-json' cannot read it": 1})
        unnamed = target.view("unnamed", codec=ours)
        assert (target.get("key"), unnamed.get("key")) == (0, 1)
        assert unnamed.view("deep", codec=theirs).get("key") == 2


def test_a_chain_inside_that_keeps_bytes_needs_no_codec_and_has_none_of_them_in_memory(make_chain, clock):
    codec = encrypted(b"k")
    source = make_chain("source", tiers=("disk",), codec=codec)
    inner = make_chain("inner", namespace="within", tiers=("memory", "disk"))
    target = TieredCache([MemoryTier(clock=clock), inner], namespace="app", codec=JSONCodec(), clock=clock)
    known = target.with_codec(codec)
    known.mset({"changed": ["old"], "kept": ["kept"]})
    assert known.get("changed") == ["old"]  # from memory, which both chains have
    clock.advance(1)
    source.mset({"changed": ["new"], "new": ["new"]})
    source.view("nested", codec=codec).set("new", ["nested"])
    data, _ = archive(source)
    report = load(data, target)  # which has no such key
    assert (report.stored, report.skipped) == (3, {})
    assert inner.stats().tiers[0].entries == 1
    assert known.mget(["changed", "new", "kept"]) == [["new"], ["new"], ["kept"]]
    assert known.view("nested", codec=codec).get("new") == ["nested"]
    assert load(data, target).already_there == 3
