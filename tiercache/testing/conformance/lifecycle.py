"""Cases: closing, opening again."""

from __future__ import annotations

from collections.abc import Callable

from tiercache.testing.conformance.capabilities import needs
from tiercache.testing.conformance.expect import expect, expect_values
from tiercache.testing.conformance.keys import ODD_KEYS
from tiercache.testing.conformance.suite import MakeView, Suite
from tiercache.testing.conformance.views import View

__all__ = ["LifecycleCases"]


class LifecycleCases(Suite, cases=True):
    """A tier ends once."""

    def test_close_is_idempotent(self, view: View) -> None:
        view.mset({"one": self.entry(b"1")})
        view.close()
        view.close()

    def test_close_before_use(self, view: View) -> None:
        view.close()

    def test_calls_after_close_raise(self, view: View) -> None:
        view.mset({"one": self.entry(b"1")})
        view.close()
        calls: dict[str, Callable[[], object]] = {
            "mget": lambda: view.mget(["one"]),
            "mset": lambda: view.mset({"two": self.entry(b"2")}),
            "mdelete": lambda: view.mdelete(["one"]),
        }
        for name, call in calls.items():
            try:
                call()
            except Exception:  # noqa: BLE001, S112 - a tier may choose its error; ours is CacheClosed
                continue
            expect(False, f"{name} on a closed tier raises")

    @needs("persistent")
    def test_data_outlives_the_tier(self, make: MakeView) -> None:
        first = make()
        values = {key: b"value %d" % n for n, key in enumerate(ODD_KEYS)}
        first.mset({key: self.entry(value) for key, value in values.items()})
        first.mset({"gone": self.entry(b"v"), "for ever": self.entry(b"e", life=None)})
        first.mdelete(["gone"])
        first.close()
        second = make()
        rule = "a tier made over the same folder has the same data"
        kept = expect_values(second, {**values, "for ever": b"e"}, rule, absent=["gone"])
        expect(kept["for ever"].expires_at is None, "no expiry is still no expiry", kept["for ever"])
        expect(kept["a"].expires_at is not None, "an expiry is still there", kept["a"])

    @needs("persistent")
    def test_two_at_once_see_each_other(self, make: MakeView) -> None:
        first, second = make(), make()
        first.mset({"one": self.entry(b"1"), "two": self.entry(b"2")})
        expect_values(second, {"one": b"1", "two": b"2"}, "what one stored, another over the same data sees")
        second.mset({"one": self.entry(b"new")})
        second.mdelete(["two"])
        expect_values(first, {"one": b"new"}, "and the other way round, deletes included", absent=["two"])
        second.close()
        expect_values(first, {"one": b"new"}, "closing one leaves the other open")
