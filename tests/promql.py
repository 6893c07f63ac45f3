"""As much of PromQL as dashboards need: what a query gives, by its labels and its unit, or why it gives
nothing that makes sense."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Exported", "Given", "given"]

_TOKENS = re.compile(r"\s*([a-zA-Z_]\w*|\d+(?:\.\d+)?|\{[^}]*\}|\[[^\]]*\]|[()+\-*/>,])")
_MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"[^"]*"')
_AGGREGATIONS = ("sum", "max", "min", "count")
#: What Prometheus itself gives every series.
TARGET = frozenset({"job", "instance"})


class Exported(NamedTuple):
    """A sample that is scraped: the ``kind`` of its family, and its labels."""

    kind: str
    labels: frozenset[str]


@dataclass(frozen=True)
class Given:
    """``powers`` of units: what counts has none. ``ranged``: a selection over time; ``counted``: it is of a
    counter, which means nothing until it is a rate. A number has no labels at all."""

    labels: frozenset[str] | None
    powers: tuple[tuple[str, int], ...] = ()
    ranged: bool = False
    counted: bool = False


def given(query: str, exported: Mapping[str, Exported]) -> Given:
    """What ``query`` gives where that is exported. Raises `AssertionError`."""
    parser = _Parser(query, exported)
    found = parser.compared()
    assert parser.at == len(parser.tokens), f"{parser.tokens[parser.at :]} is too much: {query}"
    assert not found.ranged, query
    assert not found.counted, f"a counter is shown without a rate: {query}"
    return found


class _Parser:
    def __init__(self, query: str, exported: Mapping[str, Exported]) -> None:
        self.query, self.exported = query, exported
        self.tokens = [found[1] for found in _TOKENS.finditer(query)]
        assert "".join(self.tokens) == re.sub(r"\s", "", query) or any("{" in one for one in self.tokens)
        self.at = 0

    def next(self, *wanted: str) -> str | None:
        """The next token, if it is one of those."""
        if self.at < len(self.tokens) and self.tokens[self.at] in wanted:
            self.at += 1
            return self.tokens[self.at - 1]
        return None

    def need(self, wanted: str) -> None:
        assert self.next(wanted), f"{wanted} is missing before {self.tokens[self.at :]}: {self.query}"

    def compared(self) -> Given:
        left = self.sums()
        while self.next(">"):
            left = self.joined(left, self.sums())
        return left

    def sums(self) -> Given:
        left = self.products()
        while self.next("+", "-"):
            left = self.joined(left, self.products())
        return left

    def products(self) -> Given:
        left = self.one()
        while sign := self.next("*", "/"):
            right = self.one()
            powers = dict(left.powers)
            for unit, power in right.powers:
                powers[unit] = powers.get(unit, 0) + (power if sign == "*" else -power)
            labels = self.together(left, right)
            left = Given(labels, tuple(sorted((unit, power) for unit, power in powers.items() if power)))
        return left

    def joined(self, left: Given, right: Given) -> Given:
        assert None in (left.labels, right.labels) or left.powers == right.powers, self.query
        return Given(self.together(left, right), left.powers or right.powers)

    def together(self, left: Given, right: Given) -> frozenset[str] | None:
        """Series are joined whose labels are the same."""
        assert not left.counted, self.query
        assert not right.counted, self.query
        if left.labels is None or right.labels is None:
            return right.labels if left.labels is None else left.labels
        assert left.labels == right.labels, f"{set(left.labels)} and {set(right.labels)}: {self.query}"
        return left.labels

    def one(self) -> Given:
        if self.next("("):
            inner = self.compared()
            self.need(")")
            return inner
        name = self.tokens[self.at]
        self.at += 1
        if name[0].isdigit():
            return Given(None)
        if name in _AGGREGATIONS:
            return self.aggregated()
        if name in ("rate", "increase"):
            self.need("(")
            inner = self.compared()
            self.need(")")
            assert inner.ranged, self.query
            assert inner.counted, f"{name} of what is no counter: {self.query}"
            powers = dict(inner.powers)
            if name == "rate":
                powers["s"] = powers.get("s", 0) - 1
            return Given(
                inner.labels, tuple(sorted((unit, power) for unit, power in powers.items() if power))
            )
        return self.selected(name)

    def aggregated(self) -> Given:
        how = self.next("by", "without")
        named: set[str] = set()
        if how:
            self.need("(")
            while not self.next(")"):
                named.add(self.tokens[self.at])
                self.at += 1
                self.next(",")
        self.need("(")
        inner = self.compared()
        self.need(")")
        assert inner.labels is not None, self.query
        assert not inner.ranged, self.query
        assert named <= inner.labels, f"{named - inner.labels} is no label: {self.query}"
        kept = inner.labels - named if how == "without" else frozenset(named)
        return Given(kept, inner.powers, counted=inner.counted)

    def selected(self, name: str) -> Given:
        assert name in self.exported, f"{name} is not exported: {self.query}"
        kind, own = self.exported[name]
        labels = own | TARGET
        if self.at < len(self.tokens) and self.tokens[self.at][0] == "{":
            matched = set(_MATCHER.findall(self.tokens[self.at]))
            assert matched <= labels, f"{matched - labels} is no label of {name}: {self.query}"
            self.at += 1
        ranged = self.at < len(self.tokens) and self.tokens[self.at][0] == "["
        self.at += ranged
        words = name.removesuffix("_total").split("_")
        unit = {"seconds": "s", "bytes": "B", "money": "money"}.get(words[-1])
        return Given(labels, ((unit, 1),) if unit else (), ranged, counted=kind == "counter")
