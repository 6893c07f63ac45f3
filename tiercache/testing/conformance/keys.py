"""Cases: any text is a key, and different texts are different keys."""

from __future__ import annotations

from tiercache.keys import MARKER
from tiercache.testing.conformance.expect import expect, expect_values, short
from tiercache.testing.conformance.suite import Suite
from tiercache.testing.conformance.views import View

__all__ = ["ODD_KEYS", "KeyCases"]

#: Keys that back ends are known to refuse, cut short, fold together or read as something else.
ODD_KEYS: tuple[str, ...] = (
    "",
    " ",
    "a/b",
    "../../etc/passwd",
    "C:\\dir\\file",
    "line\nbreak\r\n",
    "tab\t",
    "\0",
    "a\0b",
    "a\0",
    "a",
    "x" * 10_000,
    "x" * 9_999 + "y",
    "é" * 3_000,
    "\ud800",
    "a\udfffb",
    "😀",
    "\ud83d\ude00",
    "'; DROP TABLE entries; --",
    '"quoted"',
    "100%",
    "under_score",
    "*",
    "[a-z]?",
    "{hash}tag",
    MARKER,
    MARKER + "/",
    f"{MARKER}3:abc/key",
    "\ufeffbom",
    "\x7f\x80\xff",
    "\uffff",
    "None",
    "0",
)

#: Pairs of keys that a back end with a collation, a C string or a path in it takes for the same.
_PAIRS = (
    ("Key", "key"),
    ("\u00e9", "e\u0301"),
    ("straße", "strasse"),
    ("Ⅳ", "IV"),
    ("trailing", "trailing "),
    ("trailing", "trailing\0"),
    (" leading", "leading"),
    ("a/b", "a//b"),
    ("a/./b", "a/b"),
    ("e", "é"),
    ("İ", "i"),
    ("1", "1.0"),
    ("01", "1"),
    ("b'k'", "k"),
    ("\ud800", "\ufffd"),
    ("\ud800", "?"),
    ("😀", "😁"),
    ("a\nb", "a\r\nb"),
)


class KeyCases(Suite, cases=True):
    """Keys are opaque text."""

    def test_any_text_is_a_key(self, view: View) -> None:
        values = {key: b"value %d" % n for n, key in enumerate(ODD_KEYS)}
        view.mset({key: self.entry(value) for key, value in values.items()})
        expect_values(view, values, "any str is a key")
        for key, value in values.items():
            found = view.mget([key])
            expect(
                list(found) == [key] and found[key].value == value,
                f"the key {short(key)} can be asked for alone",
                short(found),
            )
        gone = list(ODD_KEYS[::2])
        view.mdelete(gone)
        rest = {key: value for key, value in values.items() if key not in set(gone)}
        expect_values(view, rest, "any str can be deleted, and takes no other key with it", absent=gone)

    def test_different_keys_stay_different(self, view: View) -> None:
        for one, other in _PAIRS:
            view.mdelete([one, other])
            view.mset({one: self.entry(b"one")})
            expect(not view.mget([other]), f"{short(other)} is another key than {short(one)}")
            view.mset({other: self.entry(b"other")})
            found = {key: entry.value for key, entry in view.mget([one, other]).items()}
            expect(
                found == {one: b"one", other: b"other"},
                f"{short(one)} and {short(other)} lie side by side",
                short(found),
            )
            view.mdelete([other])
            expect(list(view.mget([one])) == [one], f"deleting {short(other)} leaves {short(one)} alone")

    def test_keys_in_one_batch_stay_different(self, view: View) -> None:
        keys = sorted({key for pair in _PAIRS for key in pair})
        values = {key: b"value %d" % n for n, key in enumerate(keys)}
        view.mset({key: self.entry(value) for key, value in values.items()})
        expect_values(view, values, "different texts in one batch are different keys")
