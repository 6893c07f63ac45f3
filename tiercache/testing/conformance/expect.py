"""How a case says which rule a tier broke. Not ``assert``: these have to hold under ``python -O`` as well,
and pytest rewrites asserts in test files only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiercache.entry import Entry
from tiercache.testing.conformance.views import View

__all__ = ["expect", "expect_keys", "expect_values", "short"]


def expect(holds: object, rule: str, found: object = "") -> None:
    """Fail unless ``holds``; ``rule`` is what the protocol demands, ``found`` what the tier did."""
    __tracebackhide__ = True
    if not holds:
        raise AssertionError(f"the tier breaks a rule: {rule}" + (f"\nfound: {found}" if found != "" else ""))


def expect_keys(found: Iterable[str], wanted: Iterable[str], rule: str) -> None:
    """Fail unless ``found`` holds each of ``wanted`` exactly once and nothing else."""
    __tracebackhide__ = True
    found, wanted = sorted(found), sorted(wanted)
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    twice = len(found) - len(set(found))
    expect(
        found == wanted,
        rule,
        f"missing {len(missing)} {short(missing)}, too many {len(extra)} {short(extra)}, repeated {twice}",
    )


def expect_values(
    view: View, wanted: Mapping[str, Any], rule: str, *, absent: Iterable[str] = ()
) -> dict[str, Entry[Any]]:
    """Read the keys of ``wanted`` and ``absent`` in one batch; fail unless exactly ``wanted`` comes back.

    Returns the entries."""
    __tracebackhide__ = True
    found = view.mget([*wanted, *absent])
    expect(isinstance(found, dict), "mget returns a dict", type(found))
    strays = [key for key, entry in found.items() if not isinstance(entry, Entry)]
    expect(not strays, "mget returns entries, and no key for a miss", short(strays))
    expect_keys(found, wanted, rule)
    wrong = {key: entry.value for key, entry in found.items() if entry.value != wanted[key]}
    expect(not wrong, f"{rule} (right keys, wrong values)", short(wrong))
    return found


def short(what: object) -> str:
    """``what`` as a line that can be read."""
    text = ascii(what)
    return text if len(text) < 400 else f"{text[:390]} …"
