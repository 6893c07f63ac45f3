"""Cases: reading, writing and deleting."""

from __future__ import annotations

from collections.abc import Hashable

from tiercache.errors import EntryRejected
from tiercache.protocols import AsyncTier, Tier
from tiercache.testing.conformance.capabilities import needs
from tiercache.testing.conformance.expect import expect, expect_keys, expect_values
from tiercache.testing.conformance.suite import MakeView, Suite
from tiercache.testing.conformance.views import View

__all__ = ["BasicCases"]


class BasicCases(Suite, cases=True):
    """What every tier does."""

    def test_can_do_what_it_declares(self, view: View) -> None:
        tier, declared = view.tier, self.capabilities
        actual = {
            "blocking": isinstance(tier, Tier),
            "asynchronous": isinstance(tier, AsyncTier),
            "scan": hasattr(tier, "scan") or hasattr(tier, "ascan"),
            "clear": hasattr(tier, "clear") or hasattr(tier, "aclear"),
            "purge": hasattr(tier, "purge") or hasattr(tier, "apurge"),
            "size": hasattr(tier, "size"),
            "counters": hasattr(tier, "counters"),
            "lease": hasattr(tier, "acquire") or hasattr(tier, "aacquire"),
        }
        wrong = {name: can for name, can in actual.items() if can != getattr(declared, name)}
        expect(not wrong, "the capabilities declared are those that the tier has", wrong)
        expect(
            bool(getattr(tier, "stores_bytes", False)) == (declared.values == "bytes"),
            'a tier of values="bytes" has stores_bytes = True, one of values="any" has not',
            f"stores_bytes = {getattr(tier, 'stores_bytes', 'missing')}, values={declared.values!r}",
        )
        name = getattr(tier, "name", "unnamed")
        expect(isinstance(name, str) and name, "name is a str that is not empty, if it is there", repr(name))
        place = getattr(tier, "location", None)
        expect(isinstance(place, Hashable), "location is hashable, if it is there", repr(place))

    def test_round_trip(self, view: View) -> None:
        view.mset({"one": self.entry(b"1")})
        expect_values(view, {"one": b"1"}, "what was stored comes back")

    def test_returns_hits_only(self, view: View) -> None:
        expect_values(view, {}, "a key that was never stored is missing in the result", absent=["x", "y"])
        view.mset({"one": self.entry(b"1"), "two": self.entry(b"2")})
        expect_values(
            view,
            {"two": b"2", "one": b"1"},
            "of a mixed batch hits come back",
            absent=["x", "on", "one2"],
        )
        expect_values(view, {"two": b"2"}, "only what was asked for comes back")

    def test_empty_batches(self, view: View) -> None:
        view.mset({"one": self.entry(b"1")})
        expect(view.mget([]) == {}, "mget of no keys is an empty dict")
        view.mset({})
        view.mdelete([])
        expect_values(view, {"one": b"1"}, "empty batches change nothing")

    def test_overwrite(self, view: View) -> None:
        view.mset({"one": self.entry(b"a long first value"), "two": self.entry(b"2")})
        view.mset({"one": self.entry(b"new")})
        expect_values(view, {"one": b"new", "two": b"2"}, "mset replaces what was under its keys, no more")

    def test_delete(self, view: View) -> None:
        view.mset({key: self.entry(key.encode()) for key in ("one", "two", "three")})
        view.mdelete(["one", "three"])
        expect_values(view, {"two": b"two"}, "mdelete drops its keys, no more", absent=["one", "three"])
        view.mset({"one": self.entry(b"again")})
        expect_values(view, {"one": b"again"}, "a deleted key can be stored again")

    def test_delete_absent(self, view: View) -> None:
        view.mset({"one": self.entry(b"1")})
        view.mdelete(["never stored", "one", "nor this"])
        expect_values(view, {}, "absent keys are no error, the others go", absent=["one"])

    def test_empty_value(self, view: View) -> None:
        view.mset({"empty": self.entry(b"")})
        expect_values(view, {"empty": b""}, "an empty value is a hit")

    @needs("any")
    def test_any_object(self, view: View) -> None:
        values = {
            "zero": 0,
            "false": False,
            "text": "",
            "list": [1, [2]],
            "tuple": ("a", 1.5),
            "dict": {"k": b""},
        }
        view.mset({key: self.entry(value) for key, value in values.items()})
        expect_values(view, values, "any object comes back equal, also where it is false")

    @needs("bytes")
    def test_every_byte(self, view: View) -> None:
        values = {"all": bytes(range(256)), "zeros": bytes(100), "text": "ünï".encode(), "crlf": b"a\r\nb\n"}
        view.mset({key: self.entry(value) for key, value in values.items()})
        expect_values(view, values, "bytes come back as they were")
        kinds = {type(entry.value) for entry in view.mget(list(values)).values()}
        expect(kinds == {bytes}, "values of a byte tier are bytes, not another buffer", kinds)

    def test_large_value(self, view: View) -> None:
        value = bytes(range(256)) * 4096
        view.mset({"large": self.entry(value), "small": self.entry(b"s")})
        expect_values(view, {"large": value, "small": b"s"}, "a value of 1 MiB comes back whole")

    def test_large_batch(self, view: View) -> None:
        values = {f"key {n}": b"value %d" % n for n in range(2000)}
        absent = [f"absent {n}" for n in range(500)]
        view.mset({key: self.entry(value) for key, value in values.items()})
        expect_values(view, values, "a batch of 2,000 is one batch", absent=absent)
        gone = list(values)[::2]
        view.mdelete(gone + absent)
        rest = {key: value for key, value in values.items() if key not in set(gone)}
        expect_values(view, rest, "a delete of 1,500 keys drops them all, and no more", absent=gone)

    def test_result_is_the_callers_own(self, view: View) -> None:
        view.mset({"one": self.entry(b"1")})
        view.mget(["one"]).clear()
        expect_values(view, {"one": b"1"}, "a caller may do what it likes with the dict it got")

    def test_arguments_are_not_kept(self, view: View) -> None:
        entries = {"one": self.entry(b"1"), "two": self.entry(b"2")}
        view.mset(entries)
        entries["one"] = self.entry(b"changed later")
        del entries["two"]
        entries["three"] = self.entry(b"3")
        expect_values(
            view, {"one": b"1", "two": b"2"}, "mset keeps no reference to entries", absent=["three"]
        )
        keys = ["one"]
        view.mdelete(keys)
        expect(keys == ["one"], "mdelete leaves its argument alone", keys)

    def test_arguments_of_other_types(self, view: View) -> None:
        view.mset({"one": self.entry(b"1"), "two": self.entry(b"2")})
        expect_keys(view.mget(("one", "two")), ["one", "two"], "keys may be any sequence, a tuple for one")
        view.mdelete(("one",))
        expect_values(view, {"two": b"2"}, "keys may be any sequence for mdelete too", absent=["one"])

    @needs("bounded")
    def test_rejects_what_never_fits(self, make: MakeView) -> None:
        view = make(64 * 1024)
        view.mset({"big": self.entry(b"an older value")})
        batch = {"a": self.entry(b"a"), "big": self.entry(bytes(256 * 1024)), "b": self.entry(b"b")}
        try:
            view.mset(batch)
        except EntryRejected as error:
            expect(list(error.keys) == ["big"], "EntryRejected names the entries that do not fit", error.keys)
        else:
            expect(False, "an entry larger than the whole budget raises EntryRejected")
        expect_values(view, {"a": b"a", "b": b"b"}, "the rest of the batch is kept")
        found = view.mget(["big"]).get("big")
        expect(found is None or len(found.value) < 100, "what was rejected is not there")

    @needs("counters")
    def test_counters(self, view: View) -> None:
        view.mset({"one": self.entry(b"1")})
        counters = view.counters()
        unknown = set(counters) - {"evictions", "expirations", "corrupt", "foreign"}
        expect(not unknown, "counters() are named evictions, expirations, corrupt or foreign", unknown)
        expect(
            all(type(count) is int and count == 0 for count in counters.values()),
            "counters are ints, and 0 while nothing was evicted, expired or damaged",
            dict(counters),
        )

    @needs("size")
    def test_size(self, view: View) -> None:
        expect(view.size().entries == 0, "a new tier holds no entries", view.size())
        view.mset({"one": self.entry(b"1"), "two": self.entry(b"2" * 1000)})
        full = view.size()
        expect(full.entries == 2, "size() counts the entries", full)
        expect(full.bytes is None or full.bytes >= 1000, "size() weighs the values, or says None", full)
        view.mset({"two": self.entry(b"2")})
        expect(view.size().entries == 2, "an overwrite is no further entry", view.size())
        view.mdelete(["two", "absent"])
        expect(view.size().entries == 1, "size() knows of deletes", view.size())
