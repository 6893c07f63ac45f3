"""Cases: an entry's times travel with it, and what expired is never served."""

from __future__ import annotations

from tiercache.entry import Entry
from tiercache.testing.conformance.capabilities import needs
from tiercache.testing.conformance.expect import expect, expect_values
from tiercache.testing.conformance.suite import Suite
from tiercache.testing.conformance.views import View

__all__ = ["TimeCases"]


class TimeCases(Suite, cases=True):
    """Expiry is absolute."""

    def test_keeps_the_expiry(self, view: View) -> None:
        stored = {
            f"for {life} s": self.entry(b"v", life=life) for life in (60.0, 3600.123456, 86400.0 * 3650)
        }
        view.mset(stored)
        found = expect_values(view, dict.fromkeys(stored, b"v"), "an entry is there before its time is over")
        for key, entry in stored.items():
            kept = found[key].expires_at
            expect(
                kept is not None and entry.expires_at is not None and abs(kept - entry.expires_at) <= 0.001,
                f"expires_at comes back within 1 ms: {entry.expires_at!r}",
                repr(kept),
            )

    def test_keeps_what_never_expires(self, view: View) -> None:
        view.mset({"for ever": self.entry(b"v", life=None)})
        found = expect_values(view, {"for ever": b"v"}, "an entry without expiry is kept")
        expect(found["for ever"].expires_at is None, "expires_at=None comes back as None", found["for ever"])

    def test_a_new_expiry_replaces_the_old(self, view: View) -> None:
        view.mset({"one": self.entry(b"1", life=60.0), "two": self.entry(b"1", life=None)})
        view.mset({"one": self.entry(b"2", life=None), "two": self.entry(b"2", life=60.0)})
        found = expect_values(view, {"one": b"2", "two": b"2"}, "an overwrite may have another expiry")
        expect(found["one"].expires_at is None, "an overwrite without expiry lifts the old one", found["one"])
        expect(found["two"].expires_at is not None, "an overwrite with an expiry sets it", found["two"])

    @needs("bytes")
    def test_keeps_everything_else(self, view: View) -> None:
        now = self.clock.time()
        entries = {
            "all": Entry(b"v", now + 60, created_at=now - 5, fresh_until=now + 30, codec="json"),
            "codec": Entry(b"v", codec="vectors-f32-ü"),
            "none": Entry(b"v"),
        }
        view.mset(entries)
        found = expect_values(view, dict.fromkeys(entries, b"v"), "an entry is kept, whatever it has set")
        for key, entry in entries.items():
            kept = found[key]
            expect(kept.codec == entry.codec, f"codec comes back: {entry.codec!r}", repr(kept.codec))
            for field in ("created_at", "fresh_until"):
                want, have = getattr(entry, field), getattr(kept, field)
                expect(
                    have == want or (None not in (have, want) and abs(have - want) <= 0.001),
                    f"{field} comes back within 1 ms, None as None: {want!r}",
                    repr(have),
                )
            expect(kept.size in (None, 1), "size is the encoded length, or None", kept.size)

    def test_never_serves_what_came_expired(self, view: View) -> None:
        old = {"old": self.entry(b"v", life=-10.0), "just": self.entry(b"v", life=-0.5)}
        view.mset({**old, "live": self.entry(b"live")})
        expect_values(view, {"live": b"live"}, "an entry past its time is a miss", absent=list(old))

    def test_an_expired_overwrite_hides_the_old_value(self, view: View) -> None:
        view.mset({"key": self.entry(b"old", life=None)})
        view.mset({"key": self.entry(b"new", life=-10.0)})
        expect_values(view, {}, "an expired entry replaces the older one too", absent=["key"])

    @needs("clock")
    def test_expires_to_the_moment(self, view: View) -> None:
        view.mset({"key": self.entry(b"v", life=10.0), "other": self.entry(b"o", life=1000.0)})
        self.clock.advance(9.5)
        expect_values(view, {"key": b"v", "other": b"o"}, "an entry is served until its time is over")
        self.clock.advance(0.5)
        expect_values(view, {"other": b"o"}, "at expires_at an entry is a miss already", absent=["key"])
        view.mset({"key": self.entry(b"new", life=10.0)})
        expect_values(view, {"key": b"new"}, "the key of an expired entry can be stored again")

    @needs("clock", "counters")
    def test_counts_what_expired(self, view: View) -> None:
        view.mset({"key": self.entry(b"v", life=10.0), "other": self.entry(b"o")})
        self.clock.advance(20)
        view.mget(["key", "other"])
        counted = view.counters().get("expirations", 0)
        expect(counted == 1, "an entry found past its time is one of expirations", counted)
