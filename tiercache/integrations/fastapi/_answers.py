"""Answers to one request, made of a response that is kept: whole, or 304 for a client that has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import inf
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tiercache.integrations.fastapi._headers import directives, names, none_match
from tiercache.integrations.fastapi._responses import Kept

__all__ = ["Style", "answer", "mark"]

#: What a 304 has of the headers of the whole answer (RFC 9110, 15.4.5).
_OF_304 = frozenset({"cache-control", "content-location", "expires"})


@dataclass(frozen=True, slots=True)
class Style:
    """What all answers of a handler have. ``vary``: the headers that make a difference; ``max_age``: how many
    seconds a client keeps one at most, ``None``: as long as it lasts."""

    private: bool
    vary: frozenset[str]
    max_age: float | None


def answer(
    kept: Kept, request: Request, style: Style, *, now: float, source: str, background: Any
) -> Response:
    """``kept`` as the answer to ``request``; ``source`` says who had it."""
    known = 200 <= kept.status < 300 and none_match(request.headers.getlist("if-none-match"), kept.etag)
    response = Response(status_code=304 if known else kept.status, background=background)
    headers = [(name, value) for name, value in kept.headers if not known or name in _OF_304]
    headers.append(("etag", kept.etag))
    own = directives(value for name, value in kept.headers if name == "cache-control")
    if own:
        headers.append(("age", str(int(kept.age(now)))))  # the handler's own counts from when it was made
        if style.private and "private" not in own:
            headers.append(("cache-control", "private"))
    else:
        headers.append(("cache-control", _cache_control(min(kept.rest(now), _expires(kept, now)), style)))
    if not known and kept.status >= 200 and kept.status != 204:
        headers.append(("content-length", str(len(kept.body))))
        response.body = kept.body  # servers leave it out for HEAD
    response.raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    mark(response, style.vary, source)
    return response


def mark(response: Response, vary: Iterable[str], source: str | None = None) -> None:
    """Have ``response`` say what makes a difference, and who had it."""
    missing = frozenset(vary) - names(response.headers.getlist("vary"))
    if missing:
        response.headers.append("vary", ", ".join(sorted(missing)))
    if source is not None:
        response.headers["x-cache"] = source


def _expires(kept: Kept, now: float) -> float:
    """In how many seconds ``kept`` expires by its own ``Expires``, which is nothing beside what is said
    here. What is no date is a past one (RFC 9111, 5.3)."""
    said = [value for name, value in kept.headers if name == "expires"]
    try:
        return max(0.0, min((parsedate_to_datetime(value).timestamp() - now for value in said), default=inf))
    except (ValueError, OverflowError):
        return 0.0


def _cache_control(rest: float, style: Style) -> str:
    who = "private" if style.private else "public"
    if style.max_age == 0:
        return f"{who}, no-cache"
    # Of what is left, and so there is no Age: a client would subtract that.
    seconds = rest if style.max_age is None else min(rest, style.max_age)
    return f"{who}, max-age={int(seconds)}"
