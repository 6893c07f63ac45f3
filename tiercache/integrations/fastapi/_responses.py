"""Responses as they are kept: which may be, what of them, and as which bytes."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response

from tiercache.errors import CodecError
from tiercache.integrations.fastapi._headers import directives, names

__all__ = ["Kept", "ResponseCodec", "headers_of", "keepable"]

#: Headers of one connection, or of one answer, and those that are made anew for each.
_NOT_KEPT = frozenset(
    [
        "age",
        "connection",
        "content-length",
        "date",
        "etag",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "x-cache",
    ]
)
_FORMAT = b"\x01"


@dataclass(frozen=True, slots=True)
class Kept:
    """A response: its ``headers`` in their order, names in small letters, without those that are made for
    each answer; when it was ``made`` (Unix seconds), and how long it lasts from then (seconds)."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    etag: str
    made: float
    life: float

    @classmethod
    def of(cls, response: Response, *, made: float, life: float) -> Kept:
        """What is kept of ``response``, one that is `keepable`."""
        said, body = headers_of(response), bytes(response.body)
        headers = tuple((name, value) for name, value in said.items() if name not in _NOT_KEPT)
        tag = said.get("etag") or _tag(body, said.get("content-type", ""))
        return cls(response.status_code, headers, body, tag, made, life)

    def age(self, now: float) -> float:
        """How many seconds old it is; clocks of machines differ, so it may seem to come from the future."""
        return max(0.0, now - self.made)

    def rest(self, now: float) -> float:
        """How many seconds it has left."""
        return max(0.0, self.life - self.age(now))


def headers_of(response: Response) -> Headers:
    """The headers, with their names in small letters: those that a handler sends on from elsewhere may have
    others, and Starlette would not find them."""
    return Headers(raw=[(name.lower(), value) for name, value in response.raw_headers])


def keepable(response: Response, *, statuses: Container[int], varies: Container[str], private: bool) -> bool:
    """Whether the response to a GET may be kept and given to others who ask the same. It says by itself why
    not: by its status, a cookie, ``Cache-Control``, or a ``Vary`` of more than ``varies``. ``private``: those
    others are the same user."""
    # One that streams has no body yet; a part (206) would be taken for the whole.
    if not isinstance(getattr(response, "body", None), bytes | memoryview):
        return False
    if response.status_code not in statuses or response.status_code in (206, 304):
        return False
    headers = headers_of(response)
    said = directives(headers.getlist("cache-control"))
    if "set-cookie" in headers or "no-store" in said or "no-cache" in said:
        return False
    if "private" in said and not private:
        return False
    return all(name in varies for name in names(headers.getlist("vary")))


def _tag(body: bytes, content_type: str) -> str:
    """The same in every process, and another for other content: Python's own hashes are neither."""
    digest = blake2b(body, digest_size=16)
    digest.update(b"\0" + content_type.encode())
    return f'"{digest.hexdigest()}"'


class ResponseCodec:
    """`Kept` as bytes: a format's number, the length of what follows in JSON, that, and the body as it is."""

    name = "http-response"

    def encode(self, value: Kept) -> bytes:
        """The bytes of ``value``. Raises `CodecError` for anything else."""
        if not isinstance(value, Kept):
            raise CodecError(f"a {type(value).__name__} is no response")
        head = json.dumps(
            [value.status, value.headers, value.etag, value.made, value.life],
            separators=(",", ":"),
        ).encode()
        return _FORMAT + len(head).to_bytes(4, "big") + head + value.body

    def decode(self, data: bytes) -> Kept:
        """The response. Raises `CodecError` for bytes that are none."""
        end = 5 + int.from_bytes(data[1:5], "big")
        if data[:1] != _FORMAT:
            raise CodecError("no response in a known format")
        try:
            status, headers, etag, made, life = json.loads(data[5:end])
            return Kept(
                _status(status),
                tuple((_text(name), _text(value)) for name, value in headers),
                bytes(data[end:]),
                _text(etag),
                _seconds(made),
                _seconds(life),
            )
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise CodecError("a response that cannot be read") from error


def _status(value: Any) -> int:
    if type(value) is not int or not 200 <= value <= 599:
        raise ValueError("no status of a response")
    return value


def _text(value: Any) -> str:
    """What a header may hold: a server chokes on the rest, or takes it for another header."""
    if type(value) is not str or not set(value).isdisjoint("\r\n\0"):
        raise ValueError("no text of a header")
    value.encode("latin-1")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value):
        raise ValueError("no time")
    return float(value)
