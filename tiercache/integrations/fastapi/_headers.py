"""Headers of requests: what a client says of caching (RFC 9111), which versions it has (RFC 9110), and lists
of names. Nothing here raises, whatever a client sends."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Wishes", "directives", "names", "none_match", "wishes"]

_DIRECTIVE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:=(\"(?:[^\"\\]|\\.)*\"|[^\s,\"]*))?")
#: An entity tag and the comma behind it; with the empty elements that lists may have.
_TAG = re.compile(r"[ \t,]*(?:W/)?(\"[\x21\x23-\x7e\x80-\xff]*\")[ \t]*(?:,|$)")
#: More than that is not looked at: seconds of 68 years, as RFC 9111 has it.
_LONGEST = 2**31


@dataclass(frozen=True, slots=True)
class Wishes:
    """``no_store``: nothing of this exchange is to be kept. ``max_age``: how many seconds old a response may
    be at most; zero: it is to be made for this request; ``None``: as old as it lasts."""

    no_store: bool = False
    max_age: int | None = None


def directives(lines: Iterable[str]) -> dict[str, str]:
    """The directives of ``Cache-Control``, in small letters, with their arguments; the first of each
    counts."""
    found: dict[str, str] = {}
    for name, argument in _DIRECTIVE.findall(",".join(lines)):
        found.setdefault(name.lower(), argument.strip('"'))
    return found


def wishes(cache_control: Iterable[str], pragma: Iterable[str] = ()) -> Wishes:
    """What a client asks for. Its other directives are not obeyed, which RFC 9111 leaves to a cache."""
    lines = list(cache_control)
    if not lines:  # HTTP/1.0
        return Wishes(max_age=0) if "no-cache" in directives(pragma) else Wishes()
    found = directives(lines)
    age: int | None = None
    if "no-cache" in found:
        age = 0
    elif "max-age" in found:
        text = found["max-age"]
        # What cannot be read is as good as no-cache: the client wants something new.
        age = int(text) if text.isascii() and text.isdigit() and len(text) < 11 else 0
        age = min(age, _LONGEST)
    return Wishes("no-store" in found, age)


def none_match(lines: Iterable[str], tag: str) -> bool:
    """Whether ``If-None-Match`` has ``tag``, or ``*``: then the client has this version. The comparison is
    weak: a ``W/`` makes no difference. Of a list that is malformed what stands before the fault counts."""
    text, at = ",".join(lines).strip(" \t"), 0
    if text == "*":
        return True
    wanted = tag.removeprefix("W/")
    while at < len(text):
        match = _TAG.match(text, at)
        if match is None:
            return False
        if match[1] == wanted:
            return True
        at = match.end()
    return False


def names(lines: Iterable[str]) -> frozenset[str]:
    """The names in a list of them, in small letters: those of ``Vary``."""
    return frozenset(name.strip().lower() for line in lines for name in line.split(",") if name.strip())
