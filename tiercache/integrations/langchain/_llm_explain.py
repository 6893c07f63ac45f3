"""Why a call was a miss: its key's parts beside those of the nearest stored one. Data and comparison only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tiercache.integrations.langchain._llm_key import MessageParts, Parts

__all__ = ["Difference", "Explanation", "Reason", "nearest"]

#: ``hit``: it is stored. ``different``: only other keys are. ``refused``, ``gone``: this very key was
#: offered, but its answer could not be kept, or it is there no longer. ``unkeyable``: such calls are not
#: cached. ``empty``: nothing was found to compare with.
Reason = Literal["hit", "different", "refused", "gone", "unkeyable", "empty"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One part of the key that is not the same. ``None``: that side has no such part.

    For a message ``index`` and ``role`` (its class) say which, and ``name`` its field; for a parameter
    ``name`` is its name. ``stored`` and ``asked`` are short values as they are, else
    ``#digest/characters``: the words themselves are not kept.
    """

    kind: Literal["message", "parameter"]
    name: str
    stored: str | None
    asked: str | None
    index: int | None = None
    role: str | None = None

    def __str__(self) -> str:
        change = f"{_shown(self.stored)} -> {_shown(self.asked)}"
        if self.kind == "parameter":
            return f"parameter {self.name}: {change}"
        role = "the system prompt" if self.role == "SystemMessage" else self.role
        return f"message {self.index} ({role}), {self.name}: {change}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of a call, and why. ``nearest`` is the key of the most similar one of the ``compared``
    stored entries, and ``differences`` tells what is not the same in it, messages first."""

    reason: Reason
    key: str
    detail: str = ""
    compared: int = 0
    nearest: str | None = None
    differences: tuple[Difference, ...] = ()

    @property
    def hit(self) -> bool:
        """Whether the call would be answered from the cache."""
        return self.reason == "hit"

    def as_dict(self) -> dict[str, Any]:
        """Everything as nested dicts and lists, ready for JSON."""
        return {**asdict(self), "differences": [asdict(each) for each in self.differences], "hit": self.hit}

    def __str__(self) -> str:
        told = {
            "hit": "a hit: this call is stored",
            "refused": f"a miss: the answer was offered and not kept: {self.detail}",
            "gone": "a miss: it was stored, and is not there now: expired, evicted, deleted or damaged",
            "unkeyable": f"a miss: such calls are not cached: {self.detail}",
            "empty": "a miss: there is no stored call to compare it with",
            "different": f"a miss; the nearest of {self.compared} stored calls differs in",
        }[self.reason]
        lines = [f"  {difference}" for difference in self.differences]
        if self.reason == "different" and not lines:
            lines = ["  no part that can be told from the other: their texts are spelt differently"]
        return "\n".join([told, *lines])


def nearest(asked: Parts, stored: Iterable[tuple[str, Parts]]) -> tuple[str, tuple[Difference, ...]] | None:
    """The key of the stored one with the fewest differences, and these. Of equals one that has what the
    other has, only different, is nearer than one that lacks it; then the first."""
    best: tuple[str, tuple[Difference, ...]] | None = None
    shortest: tuple[int, int] | None = None
    for key, parts in stored:
        found = (*_messages(parts.messages, asked.messages), *_parameters(parts, asked))
        lacking = sum(difference.stored is None or difference.asked is None for difference in found)
        if shortest is None or (len(found), lacking) < shortest:
            shortest = len(found), lacking
            best = key, found
    return best


def _messages(stored: tuple[MessageParts, ...], asked: tuple[MessageParts, ...]) -> Iterable[Difference]:
    for index in range(max(len(stored), len(asked))):
        old = stored[index] if index < len(stored) else None
        new = asked[index] if index < len(asked) else None
        if old is None or new is None or old.role != new.role:
            before, after = old.role if old else None, new.role if new else None
            yield Difference("message", "all of it", before, after, index, after or before)
            continue
        for name, was, is_ in _changes(old.fields, new.fields):
            yield Difference("message", name, was, is_, index, new.role)


def _parameters(stored: Parts, asked: Parts) -> Iterable[Difference]:
    for name, before, after in _changes(stored.parameters, asked.parameters):
        yield Difference("parameter", name, before, after)


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[tuple[str, str | None, str | None]]:
    for name in {**old, **new}:
        before, after = old.get(name), new.get(name)
        if before != after:
            yield name, before, after


def _shown(value: str | None) -> str:
    if value is None:
        return "absent"
    if not value.startswith("#"):
        return value
    digest, _, length = value[1:].partition("/")
    return f"{length} characters ({digest})"
