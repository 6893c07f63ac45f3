"""Responses as bytes: they come back as they were, and what is damaged is none."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from fastapi import Response
from fastapi.responses import FileResponse, StreamingResponse
from hypothesis import given
from hypothesis import strategies as st

from tiercache import CodecError
from tiercache.integrations.fastapi._responses import Kept, ResponseCodec, keepable

LATIN = st.text(st.characters(max_codepoint=0xFF, exclude_characters="\r\n\0"))
KEPT = st.builds(
    Kept,
    status=st.integers(200, 599),
    headers=st.lists(st.tuples(LATIN, LATIN), max_size=4).map(tuple),
    body=st.binary(),
    etag=LATIN,
    made=st.floats(0, 1e10),
    life=st.floats(0.001, 1e9),
)
CODEC = ResponseCodec()


@given(KEPT)
def test_what_comes_back_is_what_went_in(kept):
    assert CODEC.decode(CODEC.encode(kept)) == kept


@given(st.binary())
def test_other_bytes_are_no_response(data):
    with pytest.raises(CodecError):
        CODEC.decode(data)


@given(KEPT, st.data())
def test_a_head_that_is_damaged_is_an_error_of_the_codec_and_no_other(kept, data):
    encoded = bytearray(CODEC.encode(kept))
    head = 5 + int.from_bytes(encoded[1:5], "big")
    at = data.draw(st.integers(0, head - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    with suppress(CodecError):  # or a digit has become another
        CODEC.decode(bytes(encoded))


@pytest.mark.parametrize(
    "head",
    [
        None,
        [],
        {},
        [200, [], '"a"', 1.0],
        ["200", [], '"a"', 1.0, 1.0],
        [True, [], '"a"', 1.0, 1.0],
        [200, [["a"]], '"a"', 1.0, 1.0],
        [200, [["a", 1]], '"a"', 1.0, 1.0],
        [200, [], None, 1.0, 1.0],
        [99, [], '"a"', 1.0, 1.0],
        [200, [["a", "b\r\nset-cookie: c"]], '"a"', 1.0, 1.0],
        [200, [["a", "\u20ac"]], '"a"', 1.0, 1.0],
        [200, [], '"a"\n', 1.0, 1.0],
        [200, [], '"a"', float("nan"), 1.0],
        [200, [], '"a"', 1.0, float("inf")],
        [200, [], '"a"', None, 1.0],
        [200, [], '"a"', 1.0, "soon"],
    ],
)
def test_json_that_is_no_response(head):
    text = json.dumps(head).encode()
    with pytest.raises(CodecError):
        CODEC.decode(b"\x01" + len(text).to_bytes(4, "big") + text)


def test_another_format_is_for_a_later_version():
    good = CODEC.encode(Kept(200, (), b"", '"a"', 1.0, 1.0))
    with pytest.raises(CodecError):
        CODEC.decode(b"\x02" + good[1:])
    with pytest.raises(CodecError):
        CODEC.encode(b"bytes")  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize(
    ("response", "kept"),
    [
        (Response("a"), True),
        (Response(status_code=204), True),
        (Response("a", 404), False),
        (Response("a", 206), False),
        (Response(status_code=304), False),
        (Response("a", headers={"set-cookie": "a=b"}), False),
        (Response("a", headers={"cache-control": "no-store"}), False),
        (Response("a", headers={"cache-control": "max-age=3, NO-CACHE"}), False),
        (Response("a", headers={"cache-control": 'private="x-who"'}), False),
        (Response("a", headers={"cache-control": "max-age=3"}), True),
        (Response("a", headers={"vary": "Accept"}), True),
        (Response("a", headers={"vary": "accept, x-mood"}), False),
        (Response("a", headers={"vary": "*"}), False),
        (StreamingResponse(iter(["a"])), False),
        (FileResponse(__file__), False),
    ],
)
def test_what_may_be_kept(response, kept):
    assert keepable(response, statuses=range(200, 400), varies={"accept"}, private=False) is kept


def test_what_is_a_users_own_is_kept_for_the_user():
    response = Response("a", headers={"cache-control": "private, max-age=9"})
    assert keepable(response, statuses={200}, varies=(), private=True)


def test_a_tag_is_of_the_content_and_its_type():
    def tag(**options):
        return Kept.of(Response(**options), made=1.0, life=1.0).etag

    assert tag(content="a") == tag(content="a")
    assert len({tag(content="a"), tag(content="b"), tag(content="a", media_type="text/html")}) == 3
    assert tag(content="a", headers={"etag": 'W/"mine"'}) == 'W/"mine"'


def test_names_that_were_sent_on_in_capitals_are_the_same_names():
    for name, value in (b"Set-Cookie", b"session=a"), (b"Cache-Control", b"no-store"), (b"Vary", b"x-mood"):
        response = Response("a")
        response.raw_headers.append((name, value))
        assert not keepable(response, statuses={200}, varies=(), private=True)
    response = Response("a")
    response.raw_headers += [(b"ETag", b'"mine"'), (b"Content-Length", b"1"), (b"X-Of-It", b"b")]
    kept = Kept.of(response, made=1.0, life=1.0)
    assert (kept.etag, kept.headers) == ('"mine"', (("x-of-it", "b"),))
