"""Cases: leases, the locks that processes take on keys."""

from __future__ import annotations

import threading
from time import sleep

from tiercache.protocols import Purge
from tiercache.testing.conformance.capabilities import needs
from tiercache.testing.conformance.concurrency import in_threads
from tiercache.testing.conformance.expect import expect, expect_keys, expect_values
from tiercache.testing.conformance.keys import ODD_KEYS
from tiercache.testing.conformance.suite import MakeView, Suite
from tiercache.testing.conformance.views import View, listing

__all__ = ["LeaseCases"]

_LONG = 300.0  # seconds that no case takes
_SHORT = 0.2


class LeaseCases(Suite, cases=True):
    """One token has a key's lease at a time, and none has it for longer than it said."""

    @needs("lease")
    def test_a_lease_keeps_others_out(self, view: View) -> None:
        expect(view.acquire([], "first", _LONG) == [], "acquire of no keys takes none")
        taken = view.acquire(["a", "b"], "first", _LONG)
        expect_keys(taken, ["a", "b"], "acquire takes leases that nobody has")
        taken = view.acquire(["a", "c", "b", "d"], "second", _LONG)
        expect_keys(taken, ["c", "d"], "of a batch those are taken that nobody else has, and no others")

    @needs("lease")
    def test_a_lease_is_renewed_by_its_token(self, view: View) -> None:
        view.acquire(["a"], "first", _LONG)
        taken = view.acquire(["a", "b"], "first", _LONG)
        expect_keys(taken, ["a", "b"], "a token takes its own leases anew")
        expect(view.acquire(["a"], "second", _LONG) == [], "a renewed lease keeps others out")

    @needs("lease")
    def test_release(self, view: View) -> None:
        view.acquire(["a", "b", "c"], "first", _LONG)
        view.release(["a", "c", "never taken"], "first")
        view.release([], "first")
        taken = view.acquire(["a", "b", "c"], "second", _LONG)
        expect_keys(taken, ["a", "c"], "released leases, and no others, can be taken")

    @needs("lease")
    def test_release_leaves_leases_of_others(self, view: View) -> None:
        view.acquire(["a"], "first", _LONG)
        view.release(["a"], "second")
        expect(view.acquire(["a"], "third", _LONG) == [], "only the token that has a lease can release it")

    @needs("lease")
    def test_a_lease_runs_out(self, view: View) -> None:
        view.acquire(["a"], "first", _SHORT)
        view.acquire(["b"], "first", _LONG)
        self._until_taken(view, "a", "second")
        expect(view.acquire(["b"], "second", _LONG) == [], "a lease ends when its own time is over")
        view.release(["a"], "first")
        expect(
            view.acquire(["a"], "first", _LONG) == [] == view.acquire(["a"], "third", _LONG),
            "a token whose lease ran out can neither release nor renew the one that another took",
        )

    def _until_taken(self, view: View, key: str, token: str) -> None:
        """Take the lease on ``key`` once it has run out, by the tier's clock or by its server's."""
        for _try in range(20):
            if view.acquire([key], token, _LONG) == [key]:
                return
            self.clock.advance(_SHORT / 4)
            sleep(_SHORT / 4)
        raise AssertionError("the tier breaks a rule: a lease lasts for at most its seconds")

    @needs("lease")
    def test_a_lease_of_any_key(self, view: View) -> None:
        keys = list(ODD_KEYS)
        expect_keys(view.acquire(keys, "first", _LONG), keys, "any text is a key, and no two are the same")
        expect(view.acquire(keys, "second", _LONG) == [], "the lease of any key keeps others out")
        view.release(keys, "first")
        expect_keys(view.acquire(keys, "second", _LONG), keys, "the lease of any key can be released")

    @needs("lease")
    def test_a_lease_of_many_keys(self, view: View) -> None:
        keys = [f"key {number}" for number in range(2500)]
        expect_keys(view.acquire(keys[::2], "first", _LONG), keys[::2], "thousands are taken in one call")
        expect_keys(view.acquire(keys, "second", _LONG), keys[1::2], "each of thousands keeps others out")
        view.release(keys, "first")
        expect_keys(view.acquire(keys, "third", _LONG), keys[::2], "thousands are released in one call")

    @needs("lease")
    def test_leases_lie_apart_from_entries(self, view: View) -> None:
        view.mset({"held": self.entry(b"value"), "free": self.entry(b"value")})
        view.acquire(["held", "absent"], "first", _LONG)
        expect_values(view, {"held": b"value"}, "a lease hides no entry, and is none", absent=["absent"])
        view.mdelete(["held", "absent"])
        expect(
            view.acquire(["held", "absent"], "second", _LONG) == [],
            "deleting a key leaves its lease alone",
        )
        view.release(["held", "absent"], "first")
        expect_values(view, {"free": b"value"}, "releasing a lease leaves entries alone", absent=["held"])

    @needs("lease", "scan")
    def test_no_listing_names_a_lease(self, view: View) -> None:
        view.mset({"entry": self.entry(b"value")})
        view.acquire(["", "entry", "absent"], "first", _LONG)
        expect_keys(listing(view), ["entry"], "a scan lists entries, and no leases")

    @needs("lease", "clear")
    def test_clear_leaves_leases_alone(self, view: View) -> None:
        view.acquire(["a"], "first", _LONG)
        view.clear("")
        expect(view.acquire(["a"], "second", _LONG) == [], "clear drops entries, and no leases")

    @needs("lease", "purge")
    def test_purge_leaves_leases_alone(self, view: View) -> None:
        view.acquire(["a"], "first", _LONG)
        dropped = view.purge("", what=Purge(older_than=1e-9))
        expect(dropped == 0, "purge counts no leases", dropped)
        expect(view.acquire(["a"], "second", _LONG) == [], "purge drops entries, and no leases")

    @needs("lease", "size")
    def test_size_leaves_leases_out(self, view: View) -> None:
        view.acquire(["a"], "first", _LONG)
        expect(view.size().entries == 0, "size counts entries, and no leases", view.size())

    @needs("lease", "persistent")
    def test_leases_are_seen_by_all_who_share_the_tier(self, make: MakeView) -> None:
        one, other = make(), make()
        one.acquire(["a", "b"], "first", _LONG)
        expect(other.acquire(["a"], "second", _LONG) == [], "another tier over the same data sees a lease")
        other.release(["b"], "first")
        expect(one.acquire(["b"], "second", _LONG) == ["b"], "a lease is its token's, not the tier object's")

    @needs("lease")
    def test_of_many_threads_one_gets_a_lease(self, view: View) -> None:
        keys = [f"key {number}" for number in range(40)]
        won: list[str] = []
        lock = threading.Lock()

        def work(number: int) -> None:
            for part in (keys[::2], keys[::-1]):  # batches that overlap, in different orders
                taken = view.acquire(part if number % 2 else part[::-1], f"thread {number}", _LONG)
                with lock:
                    won.extend(f"{key} by {number}" for key in taken)

        in_threads(view, work)
        owners = {key: {one for one in won if one.startswith(f"{key} by ")} for key in keys}
        wrong = {key: who for key, who in owners.items() if len(who) != 1}
        expect(not wrong, "whoever asks at the same time, one token gets a key's lease", wrong)
