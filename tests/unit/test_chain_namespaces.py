"""Namespaces and views: what lies in them never runs together, and listing and clearing keep to theirs."""

from __future__ import annotations

import pytest
from apis import both_apis
from names import plain_repr
from selections import together

from tiercache import (
    ConfigError,
    EncodedTier,
    Entry,
    MemoryTier,
    TieredCache,
    TierError,
    guarded,
)
from tiercache.codecs import JSONCodec, TextCodec
from tiercache.keys import MARKER
from tiercache.testing import ChaosTier, DictStore, DictTier, FakeClock, Raise, SpyTier

LONG = "x" * 10_000
ODD = [
    "",
    "/",
    "a/b",
    "a",
    "\n",
    "\0",
    "a\0b",
    LONG,
    "\ud800",
    "1:a/",
    MARKER,
    f"{MARKER}/",
    f"{MARKER}1:a/",
    "é",
    "*[?]",
    "b",
    "a:b",
    "a1:b",
]
TIERS = {
    "memory": lambda: [MemoryTier()],
    "dict": lambda: [DictTier()],
    "bytes": lambda: [EncodedTier(DictStore())],
    "chain": lambda: [TieredCache([DictTier()])],
    "both": lambda: [MemoryTier(), DictTier()],
}
every_tier = pytest.mark.parametrize("tiers", TIERS.values(), ids=TIERS)
LISTED = {name: tiers for name, tiers in TIERS.items() if name != "bytes"}  # a `DictStore` cannot list
every_listed_tier = pytest.mark.parametrize("tiers", LISTED.values(), ids=LISTED)


class Bare:
    """A tier that can do the four things, and no more."""

    name = "bare"

    def __init__(self):
        self.entries = {}

    def mget(self, keys):
        return {key: self.entries[key] for key in keys if key in self.entries}

    def mset(self, entries):
        self.entries.update(entries)

    def mdelete(self, keys):
        for key in keys:
            self.entries.pop(key, None)

    def close(self):
        pass


@every_tier
def test_any_text_is_a_key(tiers):
    with TieredCache(tiers()) as cache:
        values = {
            key: repr(key[:9]).encode("utf-8", "surrogatepass") + b"%d" % at for at, key in enumerate(ODD)
        }
        cache.mset(values)
        assert cache.mget(ODD) == list(values.values())
        assert [cache.get(key) for key in ODD] == list(values.values())
        cache.mdelete(ODD[::2])
        assert cache.mget(ODD) == [None if at % 2 == 0 else values[key] for at, key in enumerate(ODD)]


@every_tier
def test_namespaces_and_keys_never_run_into_each_other(tiers):
    root = TieredCache(tiers())
    with root:
        caches = [root, *(root.view(name) for name in ODD), *(root.view("a").view(name) for name in ODD)]
        for at, cache in enumerate(caches):
            cache.mset(dict.fromkeys(ODD, b"%d" % at))
        for at, cache in enumerate(caches):
            assert cache.mget(ODD) == [b"%d" % at] * len(ODD)


@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name[:9]))
def test_any_text_is_a_namespace(name):
    tier = DictTier()
    with TieredCache([tier], namespace=name) as cache, TieredCache([tier], namespace=name + "x") as other:
        cache.set("k", b"1")
        assert other.get("k") is None
        assert list(cache.keys()) == ["k"]
        assert list(other.keys()) == []


def test_the_default_namespace_keeps_keys_as_they_come():
    tier = DictTier()
    with TieredCache([tier]) as cache:
        cache.mset({"plain": b"1", f"{MARKER}x": b"2"})
        assert "plain" in tier.entries
        assert f"{MARKER}x" not in tier.entries  # the reserved marker is escaped


def test_the_same_namespace_on_the_same_tier_is_the_same_cache():
    tier = DictTier()
    with TieredCache([tier], namespace="n") as one, TieredCache([tier], namespace="n") as two:
        one.set("k", b"1")
        assert two.get("k") == b"1"


@every_tier
def test_a_view_has_values_and_a_life_of_its_own(tiers):
    with TieredCache(tiers(), ttl=50) as root:
        texts = root.view("texts", codec=TextCodec())
        texts.set("k", "text")
        root.set("k", b"bytes")
        assert (texts.get("k"), root.get("k")) == ("text", b"bytes")
        assert texts.codec == TextCodec()
        with pytest.raises(TypeError, match=r"a str was given .* \(a view does not inherit the codec"):
            texts.view("child").set("k", "text")
        assert root.view("texts").get("k") is None  # without the codec it is no value


@pytest.mark.parametrize("names", [("x",), ("a", "b/c"), ("a/b", "c")], ids=str)
def test_views_of_equal_names_are_one(names):
    with TieredCache([MemoryTier(), DictTier()]) as root:
        one = two = root
        for name in names:
            one, two = one.view(name), two.view(name)
        one.set("k", b"1")
        assert two.get("k") == b"1"
        two.delete("k")
        assert one.get("k") is None


def test_a_view_inherits_the_default_life_unless_it_has_its_own():
    clock = FakeClock()
    tier = DictTier(clock=clock)
    with TieredCache([tier], ttl=50, clock=clock) as root:
        lives = {}
        for name, options in {"inherits": {}, "own": {"ttl": 7}, "none": {"ttl": None}}.items():
            view = root.view(name, **options)
            tier.entries.clear()
            view.set("k", b"")
            view.view("child").set("k", b"")
            assert len(tier.entries) == 2
            expiries = {entry.expires_at for entry in tier.entries.values()}
            lives[name] = {time and time - clock.time() for time in expiries}
        assert lives == {"inherits": {50}, "own": {7}, "none": {None}}


def test_views_share_budgets_and_statistics():
    with TieredCache([MemoryTier(max_entries=3)]) as root:
        view = root.view("v")
        view.mset({"a": b"1", "b": b"2"})
        root.mset({"a": b"1", "b": b"2"})
        view.get("absent")
        assert root.stats().tiers[0].entries == view.stats().tiers[0].entries == 3
        assert root.stats().misses == 1


@both_apis
@every_listed_tier
def test_keys_lists_this_namespace_alone(call, tiers):
    with TieredCache(tiers()) as root:
        view = root.view("v", codec=JSONCodec())
        root.mset(dict.fromkeys(ODD, b""))
        view.mset({"in": 1, "it": 2})
        view.view("w").set("deeper", b"")
        assert sorted(call(root, "keys")) == sorted(ODD)
        assert sorted(call(view, "keys")) == ["in", "it"]


@both_apis
@every_listed_tier
@together(
    "prefix",
    ["a", "a/", "*", "\x1f", MARKER, "\ud800", "\0", "none", LONG],
)
def test_the_prefix_of_keys_is_text_and_no_pattern(call, tiers, prefix):
    with TieredCache(tiers()) as root:
        for cache in (root, root.view("v")):
            cache.mset(dict.fromkeys(ODD, b""))
            expected = sorted(key for key in ODD if key.startswith(prefix))
            assert sorted(call(cache, "keys", prefix)) == expected


@both_apis
def test_keys_are_live(call):
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock), DictTier(clock=clock)], clock=clock) as cache:
        cache.set("short", b"", ttl=1)
        cache.mset(dict.fromkeys(map(str, range(2500)), b""))
        cache.delete("0")
        clock.advance(1)
        assert sorted(call(cache, "keys")) == sorted(map(str, range(1, 2500)))  # of several pages


@both_apis
def test_keys_come_from_the_lowest_tier_that_can_list(call):
    middle = DictTier("middle")
    with TieredCache([MemoryTier(), middle, Bare()]) as cache:
        cache.set("a", b"")
        middle.mset({"only there": Entry(b"")})
        assert sorted(call(cache, "keys")) == ["a", "only there"]


@both_apis
def test_a_chain_of_tiers_that_cannot_list_leaves_it_to_the_tier_above(call):
    with TieredCache([MemoryTier(), TieredCache([Bare()])]) as cache:
        cache.set("a", b"")
        assert call(cache, "keys") == ["a"]


@both_apis
def test_keys_raises_where_no_tier_can_list(call):
    with TieredCache([Bare()]) as cache, pytest.raises(TierError, match="list"):
        call(cache, "keys")


@both_apis
@pytest.mark.parametrize("error", [None, RuntimeError("secret"), OSError()], ids=plain_repr)
def test_keys_raises_when_that_tier_is_ill(call, error):
    ill = ChaosTier(DictTier("ill"))
    with TieredCache([MemoryTier(), ill]) as cache:
        cache.set("a", b"")
        ill.inject(Raise(error), on="scan")
        with pytest.raises(TierError):
            call(cache, "keys")


@both_apis
@every_listed_tier
def test_clear_drops_this_namespace_and_no_other(call, tiers):
    with TieredCache(tiers()) as root:
        caches = [root, root.view("v"), root.view("v").view("w"), root.view("vv")]
        for cleared in (0, 1):
            for cache in caches:
                cache.mset(dict.fromkeys(ODD, b"1"))
            call(caches[cleared], "clear")
            for at, cache in enumerate(caches):
                assert cache.mget(ODD) == [None if at == cleared else b"1"] * len(ODD)
                assert len(list(cache.keys())) == (0 if at == cleared else len(ODD))


@both_apis
def test_clear_reaches_every_tier_lowest_first(call):
    tiers = [SpyTier(DictTier("top")), SpyTier(DictTier("lowest"))]
    with TieredCache(tiers) as cache:
        cache.set("a", b"")
        call(cache, "clear")
        assert [tier.tier.entries for tier in tiers] == [{}, {}]
        cache.set("a", b"2")
        assert call(cache, "get", "a") == b"2"


@both_apis
def test_clear_leaves_a_tier_that_can_neither_clear_nor_list_cold(call):
    bare = Bare()
    with TieredCache([MemoryTier(), bare], namespace="n") as root:
        view = root.view("v")
        for cache in (root, view):
            cache.mset({"a": b"1", "b": b"2"})
        for _ in range(2):
            call(root, "clear")
            assert call(root, "mget", ["a", "b"]) == [None, None]
            assert view.mget(["a", "b"]) == [b"1", b"2"]
            root.set("a", b"new")
            assert call(root, "get", "a") == b"new"
            bare_only = [entry for entry in bare.entries.values() if entry.value == b"new"]
            assert bare_only


def test_clear_of_one_view_is_seen_by_its_twin_with_another_codec():
    with TieredCache([Bare()]) as root:
        texts, plain = root.view("v", codec=TextCodec()), root.view("v")
        texts.set("a", "x")
        plain.clear()
        assert texts.get("a") is None


@both_apis
def test_a_clear_that_a_tier_missed_is_noted_after_every_tier_was_asked(call):
    top, ill = DictTier("top"), ChaosTier(DictTier("ill"))
    with TieredCache([top, ill]) as cache:
        cache.set("a", b"")
        ill.inject(Raise(), on="clear")
        call(cache, "clear")
        assert top.entries == {}
        assert cache.get("a") is None
        assert cache.stats().tiers[1].owed > 0


@both_apis
@pytest.mark.parametrize("kind", [MemoryTier, DictTier])
def test_purge_drops_what_is_past_its_time_old_or_idle(call, kind):
    clock = FakeClock()
    with TieredCache([kind(clock=clock)], clock=clock) as root:
        view = root.view("v")
        for cache in (root, view):
            cache.mset({"a": b"", "b": b""}, ttl=10)
            cache.mset({"c": b"", "d": b"", "e": b""}, ttl=1000)
        clock.advance(10)
        assert call(root, "purge", expired=False) == 0
        assert call(root, "purge") == 2
        clock.advance(90)
        root.set("young", b"")
        assert call(root, "purge", older_than=101) == 0
        assert root.get("c") == b""
        clock.advance(9)
        assert call(root, "purge", idle=10) == 2  # d and e; c was used and young written 9 s ago
        assert call(root, "purge", older_than="100s") == 1  # c
        assert root.mget(["c", "d", "e", "young"]) == [None, None, None, b""]
        assert view.mget(["c", "d", "e"]) == [b""] * 3  # not the views nested in it


@both_apis
def test_purge_counts_the_copies_of_an_entry_once(call):
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock), DictTier(clock=clock)], clock=clock) as cache:
        cache.mset({"a": b"", "b": b""})
        clock.advance(5)
        assert call(cache, "purge", older_than=4) == 2


class NoLastUse(DictTier):
    """Knows how old an entry is, and not when it was used."""

    def check_purge(self, what):
        if what.idle is not None:
            raise ConfigError("purge: no last use")


@both_apis
@pytest.mark.parametrize("nested", [False, True], ids=["", "nested"])
@pytest.mark.parametrize(
    "options", [{"older_than": 1e-9}, {"older_than": 1e-9, "idle": 1e-9}], ids=plain_repr
)
def test_nothing_is_purged_by_age_where_a_tier_cannot_tell(call, options, nested):
    """It would be found there afterwards, and nobody would know."""
    memory = MemoryTier()
    below = guarded(TieredCache([Bare()]).as_tier()) if nested else Bare()
    with TieredCache([memory, below]) as cache:
        cache.set("a", b"1")
        with pytest.raises(ConfigError, match=r"^purge: "):
            call(cache, "purge", **options)
        assert memory.size().entries == 1
        assert cache.stats().tiers[1].errors == 0
        assert call(cache, "purge") == 0  # what expired nobody finds


@both_apis
@pytest.mark.parametrize("nested", [False, True], ids=["", "nested"])
@pytest.mark.parametrize("lowest", [Bare, NoLastUse], ids=["bare", "no last use"])
def test_what_is_idle_is_purged_where_tiers_can_tell(call, lowest, nested, caplog):
    """It makes room; the tiers that cannot are named, and at least one must."""
    memory = MemoryTier()
    below = guarded(TieredCache([lowest()]).as_tier()) if nested else lowest()
    with TieredCache([memory, below]) as cache:
        cache.set("a", b"1")
        assert call(cache, "purge", idle=1e-9) == 1
        assert memory.size().entries == 0
        assert f"{cache.stats().tiers[1].name} cannot tell when an entry was last used" in caplog.text
        assert cache.get("a") == b"1"
    with TieredCache([lowest()]) as cache, pytest.raises(ConfigError, match=r"^purge: "):
        call(cache, "purge", idle=1e-9)


@both_apis
def test_both_reasons_are_applied_where_a_tier_knows_one(call):
    with TieredCache([MemoryTier(), NoLastUse()]) as cache:
        cache.set("a", b"1")
        assert call(cache, "purge", older_than=1e-9, idle=1e-9) == 1
        assert cache.get("a") is None


@pytest.mark.parametrize("namespace", [None, 7, b"n", ("a",)], ids=plain_repr)
def test_a_namespace_is_text(namespace):
    with pytest.raises(ConfigError, match="namespace"):
        TieredCache([DictTier()], namespace=namespace)
    with TieredCache([DictTier()]) as cache, pytest.raises(ConfigError, match="namespace"):
        cache.view(namespace)


@both_apis
@pytest.mark.parametrize("tiers", [TIERS["memory"], TIERS["bytes"]], ids=["memory", "bytes"])
def test_views_with_two_codecs_in_one_namespace_see_their_own_values_alone(call, tiers):
    with TieredCache(tiers()) as root:
        texts, plain = root.view("v", codec=TextCodec()), root.view("v")
        texts.mset({"a": "text", "b": "text"})
        plain.mset({"c": b"bytes"})
        assert call(texts, "mget", ["a", "b"]) == ["text", "text"]
        assert call(texts, "mget", ["a", "c"]) == ["text", None]
        assert call(plain, "mget", ["c", "a"]) == [b"bytes", None]
        assert call(plain, "mget", ["c"]) == [b"bytes"]
        plain.set("a", b"new")
        assert call(texts, "get", "a") is None
        assert call(plain, "get", "a") == b"new"
        texts.delete("a")
        assert call(plain, "get", "a") is None
