"""What errors of providers' clients say: whether another try is worth it, and when."""

from __future__ import annotations

import urllib.error
from math import inf
from types import SimpleNamespace

import pytest
from absent import said_without

from tiercache import ConfigError, LoadError, MemoryTier, TieredCache
from tiercache._loading.failures import is_passing, retry_after, status_of
from tiercache.loading import Retry


def made(name, bases=(Exception,), **attributes):
    """An error of somebody's client."""
    error = type(name, bases, {})("so it is")
    vars(error).update(attributes)
    return error


def answer(status, **headers):
    return SimpleNamespace(
        status_code=status, headers={name.replace("_", "-"): one for name, one in headers.items()}
    )


class Torn(Exception):
    """An error of a client that has no answer, and says so whenever it is asked for it."""

    @property
    def response(self):
        raise RuntimeError("no answer has been set")

    code = response


THROTTLED = {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
PASSING = [
    TimeoutError(),
    ConnectionResetError(),
    made("RateLimitError"),
    made("RateLimitError", status_code=429),
    made("OverloadedError", response=answer(529)),
    made("ClientResponseError", status=503),
    made("TooManyRequests", code=429),
    made("Mine", (made("APIConnectionError").__class__,)),
    urllib.error.URLError(ConnectionRefusedError()),
    made("ClientError", response={"Error": {"Code": "ThrottlingException"}}),
    made("ClientError", response=THROTTLED),
    made("RateLimitError", status_code=429, code={"type": "busy"}),
    made("ReadTimeout", (Torn, TimeoutError)),
]
OTHERS = [
    ValueError(),
    LoadError("a loader asked for a key that it is loading"),
    made("BadRequestError", status_code=400),
    made("RateLimitError", status_code=401),
    made("RateLimitError", status_code=429, code="insufficient_quota"),
    made("Timeout", response=answer(404)),
    made("ServerError", code=500),
    made("Odd", status_code="429", response=answer(True)),
    made("ClientError", response={**THROTTLED, "Error": {"Code": "ValidationException"}}),
    urllib.error.URLError("no such host"),
    made("Odd", code=["insufficient_quota"], response={"Error": {"Code": ["Throttling"]}}),
    Torn(),
    KeyboardInterrupt(),
    GeneratorExit(),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_passes(error):
    assert is_passing(error)


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_what_does_not(error):
    assert not is_passing(error)


def test_what_is_named():
    assert is_passing(ValueError(), [ValueError])
    assert is_passing(made("Mine", (ValueError,)), ["ValueError"])
    assert is_passing(made("Mine", status_code=500), [500])
    assert is_passing(made("Mine", status_code=400), [400])
    assert not is_passing(made("Mine", status_code=400), [Exception])
    assert not is_passing(KeyboardInterrupt(), [KeyboardInterrupt])


def test_statuses():
    assert status_of(made("E", response=answer(418))) == 418
    assert status_of(made("E", response={"ResponseMetadata": {"HTTPStatusCode": 503}})) == 503
    assert status_of(made("E", code=3)) is None


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (made("E", response=answer(429, retry_after="12")), 12.0),
        (made("E", response=answer(429, Retry_After=" 1.5 ")), 1.5),
        (made("E", response=answer(429, retry_after_ms="250", retry_after="9")), 0.25),
        (made("E", headers={"retry-after": "Sun, 09 Sep 2001 01:46:50 GMT"}), 10.0),
        (made("E", headers={"retry-after": "Sun, 09 Sep 2001 01:46:30 GMT"}), 0.0),
        (made("E", headers={"retry-after": "soon"}), None),
        (made("E", headers={"retry-after": "-3"}), None),
        (made("E", headers={"retry-after": "1600000000"}), 1_600_000_000.0),
        (made("E", headers={"retry-after": "9" * 400}), inf),
        (Torn(), None),
        (made("E", headers=7, response=object()), None),
        (made("E", retry_after=3), 3.0),
        (made("E", response={"ResponseMetadata": {"HTTPHeaders": {"retry-after": "4"}}}), 4.0),
        (ValueError(), None),
    ],
)
def test_when(error, seconds):
    assert retry_after(error, 1_000_000_000.0) == seconds


@pytest.mark.parametrize(
    "wrong",
    [
        -1,
        "3",
        1.5,
        None,
        101,
        {"trials": 3},
        {"on": "TimeoutError"},
        {"on": [True]},
        {"wait": 0},
        {"on": [KeyboardInterrupt]},
    ],
)
def test_what_may_not_be_given(wrong):
    with pytest.raises(ConfigError, match=r"^retry"):
        TieredCache([MemoryTier()], retry=wrong)


@pytest.mark.parametrize("on", [429, TimeoutError, {"TimeoutError": 1}, b"Error", None])
def test_errors_that_are_no_list_are_told_of(on):
    with pytest.raises(ConfigError, match=r"^retry\.on: .* give a list of exceptions, names and statuses"):
        TieredCache([MemoryTier()], retry={"on": on})


def test_it_needs_a_package():
    code = "from tiercache import MemoryTier, TieredCache; TieredCache([MemoryTier()], retry=True)"
    assert 'pip install "tiercache-framework[pace]"' in said_without("tenacity", code=code)


def test_it_shows_what_it_is():
    assert repr(Retry(on=[429])) == "Retry(3, wait=2.0, longest=60.0, on=(429,))"
