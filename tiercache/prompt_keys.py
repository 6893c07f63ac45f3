"""Keys of prompts to a model, and what two prompts have in common: `prompt_key` and `explain_prefix`, to be
had from `tiercache.keys`.

A prompt is read in the order in which providers read it: tools, system, messages. Their prefix caches, like
ours, are of no use from the first part on that differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import zip_longest
from math import isfinite
from typing import Any, Literal, NamedTuple, TypeAlias

from tiercache.tokens import estimate

__all__ = ["PrefixDifference", "explain_prefix", "prompt_key"]

#: The parts of a prompt, in the order in which they are read.
PARTS = ("tools", "system", "messages")
#: How much of either prompt `PrefixDifference` tells, in characters.
_EXCERPT = 40


def prompt_key(*, tools: Any = None, system: Any = None, messages: Any = None, **parameters: Any) -> str:
    """A key for the answer to one prompt: in every process the same for the same prompt, and another for any
    other.

    The parts are what one would send as JSON: text, numbers, ``True``, ``False``, ``None``, and lists and
    mappings of those; objects that say what they are by ``model_dump()`` (pydantic's, and so those of most
    providers' packages) are taken as that. The order of a mapping's keys is no difference, that of a list is;
    ``1``, ``1.0``, ``True`` and ``"1"`` are four. A part of ``None`` is one that is left out.

    ``parameters`` is what the answer depends on besides: give ``model=`` at least, or two models share
    answers, and ``temperature=`` and the like where you set them. The key is an ASCII digest, which tells
    nothing of the prompt. Raises `TypeError` for what JSON has no form for, and says where it is.
    """
    parts = {"tools": tools, "system": system, "messages": messages, **dict(sorted(parameters.items()))}
    plain = {name: _plain(part, name) for name, part in parts.items() if part is not None}
    text = json.dumps([[name, _sorted(part)] for name, part in plain.items()], separators=(",", ":"))
    return f"prompt:{blake2b(text.encode(), digest_size=20).hexdigest()}"


@dataclass(frozen=True, slots=True)
class PrefixDifference:
    """Where two prompts begin to differ; ``str()`` says it in two lines.

    ``part``
        the path of the first thing that differs: ``"system"``, ``"tools[1].function.description"``.
    ``tokens``
        how many tokens come before that, in both: what a prefix cache can use. ``estimated`` if nobody
        counted them, by four bytes of text for each.
    ``kind``
        ``"changed"``; ``"added"`` or ``"removed"``, where the second has more or less than the first;
        ``"reordered"``: the keys of a mapping come in another order, which is another text to providers, and
        the same key of ours.
    ``first``, ``second``
        the beginning of what differs, of either prompt (prompts are private: mind where you show it).
    """

    part: str
    tokens: int
    kind: Literal["changed", "added", "removed", "reordered"]
    first: str
    second: str
    estimated: bool = True

    @property
    def goes_on(self) -> bool:
        """Whether the second prompt only goes on after the first, as the next turn of a conversation does: a
        provider's prefix cache serves all of the first then."""
        return self.kind == "added" and self.part.startswith("messages[") and "." not in self.part

    def __str__(self) -> str:
        about = "about " if self.estimated else ""
        what = f"{self.part} {_KINDS[self.kind]}, after {about}{self.tokens:,} tokens that both have"
        return f"{what}\nfirst: {self.first}\nsecond: {self.second}"


_KINDS = {
    "changed": "differs",
    "added": "is in the second alone",
    "removed": "is in the first alone",
    "reordered": "has its keys in another order",
}


def explain_prefix(
    first: Mapping[str, Any], second: Mapping[str, Any], *, count: Callable[[str], int] | None = None
) -> PrefixDifference | None:
    """The first part in which two prompts differ, with how many tokens come before it; ``None`` if they are
    the same.

    The prompts are mappings with what `prompt_key` takes (``tools``, ``system``, ``messages``; other
    parameters come before these, since another model shares no prefix). ``count`` says how many tokens a text
    is, as ``lambda text: len(encoding.encode(text))`` with a tokenizer of the model's; unless given they are
    estimated. Providers add some tokens of their own around each message. Raises `TypeError` as `prompt_key`.
    """
    one, other = _read(first), _read(second)
    before = ""
    for mine, yours in zip_longest(_pieces(one, ()), _pieces(other, ()), fillvalue=_END):
        if mine == yours:
            before += mine.text
            continue
        names, kind = _difference(one, mine, other, yours)
        if kind == "changed":
            before += mine.text[: _alike(mine.text, yours.text)]
        told = (count or estimate)(before)
        return PrefixDifference(_path(names), told, kind, *_excerpts(one, other, names), count is None)
    return None


_Names: TypeAlias = tuple[str | int, ...]


class _Piece(NamedTuple):
    """A piece of a prompt as it is read, with the path to it: a leaf, or that a list, a mapping or one of
    their items begins."""

    names: _Names
    text: str
    kind: type = str


_END = _Piece((), "")


def _read(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """``prompt`` as JSON has it, in the order in which it is read."""
    if not isinstance(prompt, Mapping):
        raise TypeError(f"a prompt is a mapping with {', '.join(PARTS)}, not {type(prompt).__name__}")
    names = [*sorted(name for name in prompt if name not in PARTS), *PARTS]
    return {name: _plain(prompt[name], name) for name in names if prompt.get(name) is not None}


def _pieces(value: Any, names: _Names) -> Iterator[_Piece]:
    if isinstance(value, dict):
        yield _Piece(names, "", dict)
        for name, item in value.items():
            yield _Piece(
                (*names, name), name if names else ""
            )  # the parts' names are ours, and sent to nobody
            yield from _pieces(item, (*names, name))
    elif isinstance(value, list):
        yield _Piece(names, "", list)
        for index, item in enumerate(value):
            yield from _pieces(item, (*names, index))
    else:
        yield _Piece(names, value if isinstance(value, str) else json.dumps(value), type(value))


def _difference(
    one: dict[str, Any], mine: _Piece, other: dict[str, Any], yours: _Piece
) -> tuple[_Names, Literal["changed", "added", "removed", "reordered"]]:
    """Where, and how, the prompt ``one`` at its piece ``mine`` differs from the ``other`` at ``yours``."""
    if mine.names == yours.names:
        return mine.names, "changed"
    gone, new = _missing(mine.names, other), _missing(yours.names, one)
    if gone is not None:
        return gone, "removed"
    if new is not None:
        return new, "added"
    return mine.names[: _alike(mine.names, yours.names)], "reordered"


def _missing(names: _Names, prompt: Any) -> _Names | None:
    """The shortest beginning of the path ``names`` that ``prompt`` does not have."""
    for length, name in enumerate(names, 1):
        try:
            prompt = prompt[name]
        except (LookupError, TypeError):
            return names[:length]
    return None


def _path(names: _Names) -> str:
    return "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names).removeprefix(".")


def _excerpts(one: dict[str, Any], other: dict[str, Any], names: _Names) -> tuple[str, str]:
    """What stands at the path ``names`` in both, from a little before it differs."""
    mine, yours = _text(one, names), _text(other, names)
    begin = 0 if mine is None or yours is None else max(0, _alike(mine, yours) - _EXCERPT // 2)
    first, second = ("nothing" if text is None else _cut(text, begin) for text in (mine, yours))
    return first, second


def _alike(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many of their first things are the same."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (mine, yours) in enumerate(pairs) if mine != yours), min(len(one), len(other)))


def _text(prompt: Any, names: _Names) -> str | None:
    if _missing(names, prompt) is not None:
        return None
    for name in names:
        prompt = prompt[name]
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def _cut(text: str, begin: int) -> str:
    end = begin + _EXCERPT
    return repr(f"{'…' if begin else ''}{text[begin:end]}{'…' if end < len(text) else ''}")


def _plain(value: Any, path: str) -> Any:
    """``value`` as JSON has it. Raises `TypeError`, with its ``path``, where JSON has nothing for it."""
    if value is None or isinstance(value, bool):
        return value
    # One of a subclass, such as a member of an enum, is sent like any other: not as its own `str()` shows it.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        if not isfinite(value):
            raise TypeError(f"{path}: {value} has no form in JSON")
        return value
    if isinstance(value, Mapping):
        strange = next((name for name in value if not isinstance(name, str)), None)
        if strange is not None:
            raise TypeError(f"{path}: the key {strange!r} of a mapping is no str, and JSON has no other")
        return {name: _plain(item, f"{path}.{name}") for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return _plain(dump(mode="json"), path)
    raise TypeError(
        f"{path}: {type(value).__name__} has no form in JSON; give text (base64 for bytes), numbers, lists "
        f"and mappings"
    )


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
