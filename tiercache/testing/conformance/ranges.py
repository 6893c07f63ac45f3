"""Cases: listing, clearing and purging ranges of keys."""

from __future__ import annotations

from tiercache.entry import Entry
from tiercache.protocols import Purge
from tiercache.testing.conformance.capabilities import needs
from tiercache.testing.conformance.expect import expect, expect_keys, expect_values
from tiercache.testing.conformance.keys import ODD_KEYS
from tiercache.testing.conformance.suite import Suite
from tiercache.testing.conformance.views import View, listing

__all__ = ["RangeCases"]

#: Keys around every prefix that a pattern language could read as a pattern.
_NEAR = (
    "a", "ab", "abc", "a%", "a%b", "a_", "a_b", "axb", "a*", "a*b", "a[b]", "a[b", "a?", "a?c", "a\\", "a\\%",
    "a/", "a/b", "a.b", "a\0", "a\0b", "a\n", "A", "AB", "á", "a\ud800", "a\ud800b", "", "b", "%", "_", "*",
)  # fmt: skip


class RangeCases(Suite, cases=True):
    """Prefixes are text, never patterns."""

    @needs("scan")
    def test_scan_lists_live_keys(self, view: View) -> None:
        expect(listing(view) == [], "a scan of an empty tier lists nothing")
        view.mset({key: self.entry(b"v") for key in ODD_KEYS})
        view.mset({"dropped": self.entry(b"v"), "expired": self.entry(b"v", life=-10.0)})
        view.mdelete(["dropped"])
        expect_keys(listing(view), ODD_KEYS, "a scan lists every live key as it was given, and no other")

    @needs("scan")
    def test_scan_prefix_is_literal(self, view: View) -> None:
        view.mset({key: self.entry(b"v") for key in _NEAR})
        for prefix in (*_NEAR, "a[", "nothing begins so"):
            wanted = [key for key in _NEAR if key.startswith(prefix)]
            expect_keys(listing(view, prefix), wanted, f"scan({prefix!a}) lists the keys that begin so")

    @needs("scan")
    def test_scan_skips_a_range(self, view: View) -> None:
        view.mset({key: self.entry(b"v") for key in _NEAR})
        for prefix, skip in (
            ("", "a"),
            ("a", "ab"),
            ("a", "a%"),
            ("a", "a_"),
            ("", "b"),
            ("a", "zzz"),
            ("a", "a"),
        ):
            wanted = [key for key in _NEAR if key.startswith(prefix) and not key.startswith(skip)]
            rule = f"scan({prefix!a}, skip={skip!a}) leaves out the keys that begin with {skip!a}"
            expect_keys(listing(view, prefix, skip=skip), wanted, rule)

    @needs("scan")
    def test_scan_pages(self, view: View) -> None:
        keys = [f"page/{n}" for n in range(31)]
        view.mset({key: self.entry(b"v") for key in [*keys, "other"]})
        for limit in (1, 3, 31, 32, 1000):
            found = listing(view, "page/", limit=limit)
            rule = f"pages of limit={limit} list every key, none of another range"
            expect_keys(sorted(set(found)), keys, rule)

    @needs("scan")
    def test_scan_beside_writes(self, view: View) -> None:
        staying = [f"range/{n}" for n in range(40)]
        doomed = {f"range/{n}/doomed" for n in range(40)}
        view.mset({key: self.entry(b"v") for key in [*staying, *doomed]})
        found: list[str] = []
        cursor = None
        for page in range(1000):
            names, cursor = view.scan("range/", cursor=cursor, limit=5)
            found += names
            if cursor is None:
                break
            # Deletes behind the cursor would shift a listing that counts; rewrites reorder one by age.
            listed = sorted(doomed.intersection(found))[:3]
            view.mdelete([*listed, f"range/new/{page - 1}"])
            doomed.difference_update(listed)
            view.mset({f"range/{n}": self.entry(b"w") for n in (page % 40, 39 - page % 40)})
            view.mset({f"range/new/{page}": self.entry(b"n"), f"other/{page}": self.entry(b"n")})
        expect(cursor is None, "a listing ends beside writes, too")
        missing = sorted(set(staying) - set(found))
        expect(not missing, "a key that is there during the whole listing is listed", missing)
        strays = [key for key in found if not key.startswith("range/")]
        expect(not strays, "no key of another range is listed", strays)

    @needs("scan", "clock")
    def test_scan_leaves_out_what_expires(self, view: View) -> None:
        view.mset({"short": self.entry(b"v", life=10.0), "long": self.entry(b"v", life=1000.0)})
        self.clock.advance(10)
        expect_keys(listing(view), ["long"], "a scan does not list what expired")

    @needs("clear")
    def test_clear(self, view: View) -> None:
        for prefix, skip in (("a", "ab"), ("a%", ""), ("a_", ""), ("A", ""), ("", "a"), ("", "")):
            view.mset({key: self.entry(b"v") for key in _NEAR})
            view.clear(prefix, skip=skip)
            gone = [key for key in _NEAR if key.startswith(prefix) and not (skip and key.startswith(skip))]
            rest = {key: b"v" for key in _NEAR if key not in gone}
            rule = f"clear({prefix!a}, skip={skip!a}) drops the keys that begin so, no more"
            expect_values(view, rest, rule, absent=gone)

    @needs("purge")
    def test_purge_by_age(self, view: View) -> None:
        now = self.clock.time()
        ages = {"a/old": 1000.0, "a/new": 10.0, "b/old": 1000.0, "a/skipped/old": 1000.0}
        view.mset({key: Entry(b"v", now + 3600, created_at=now - age) for key, age in ages.items()})
        dropped = view.purge("a/", skip="a/skipped/", what=Purge(expired=False, older_than=100.0))
        expect(dropped == 1, "purge returns how many entries it dropped", dropped)
        rest = dict.fromkeys(["a/new", "b/old", "a/skipped/old"], b"v")
        expect_values(view, rest, "purge(older_than=…) drops the older ones of its range", absent=["a/old"])

    @needs("purge")
    def test_purge_leaves_live_entries(self, view: View) -> None:
        view.mset({"live": self.entry(b"v"), "for ever": self.entry(b"v", life=None)})
        expect(view.purge("", what=Purge()) == 0, "purge of what expired drops nothing that is live")
        expect_values(view, dict.fromkeys(["live", "for ever"], b"v"), "purge leaves live entries alone")

    @needs("purge", "clock", "size")
    def test_purge_what_expired(self, view: View) -> None:
        view.mset(
            {"a/1": self.entry(b"v", life=10.0), "b/1": self.entry(b"v", life=10.0), "a/2": self.entry(b"v")}
        )
        self.clock.advance(10)
        view.purge("a/", what=Purge(expired=False))
        dropped = view.purge("a/", what=Purge())
        expect(dropped == 1, "purge drops what expired in its range, and counts it", dropped)
        expect_values(view, {"a/2": b"v"}, "purge drops no more", absent=["a/1", "b/1"])
        expect(view.purge("a/", what=Purge()) == 0, "what was dropped is not there to be dropped again")

    @needs("purge", "clock", "idle")
    def test_purge_what_is_idle(self, view: View) -> None:
        view.mset({"read": self.entry(b"v"), "unread": self.entry(b"v")})
        self.clock.advance(300)
        view.mget(["read"])
        self.clock.advance(200)
        dropped = view.purge("", what=Purge(expired=False, idle=400.0))
        expect(dropped == 1, "purge(idle=…) counts what it drops", dropped)
        expect_values(view, {"read": b"v"}, "purge(idle=…) drops what nobody read so long", absent=["unread"])
