"""What a provider's error says: whether it is worth another try, and when.

Providers' clients have errors of their own, and none of them is imported here: a class is known by its name,
a status by the attribute that it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tiercache.errors import BudgetExceeded

__all__ = ["is_passing", "is_wrong_request", "retry_after", "status_of"]

#: Too many requests, or nobody who answers in time.
_PASSING = frozenset({408, 425, 429, 502, 503, 504, 529})
#: The same by name, where an error has no status. Of the standard library, httpx, requests, aiohttp, OpenAI,
#: Anthropic, Google and Amazon; what inherits from one of them too.
_NAMES = frozenset(
    {
        "APIConnectionError", "APITimeoutError", "ChunkedEncodingError", "ClientConnectionError",
        "ClientPayloadError", "ConnectionError", "DeadlineExceeded", "IncompleteRead", "NetworkError",
        "RateLimitError", "RemoteProtocolError", "ResourceExhausted", "ServiceUnavailable", "Timeout",
        "TimeoutError", "TimeoutException", "TooManyRequests",
    }
)  # fmt: skip
#: What Amazon's services say of a rate limit, many of them with the status 400.
_THROTTLED = frozenset(
    {
        "RequestThrottledException", "ThrottledException", "Throttling", "ThrottlingException",
        "TooManyRequestsException",
    }
)  # fmt: skip
#: Codes of a provider whose limit no waiting lifts.
_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_SECONDS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*", re.ASCII)


def is_passing(error: BaseException, on: Iterable[Any] = ()) -> bool:
    """Whether ``error`` may be over when the same is tried again: the provider has too much to do, or did not
    answer; or it is one of ``on`` (classes, their names, and statuses). Never for a wrong request, and never
    for a budget that is spent, which is so until midnight."""
    if not isinstance(error, Exception) or isinstance(error, BudgetExceeded):
        return False
    status = status_of(error)
    if status is not None and any(one == status for one in on if isinstance(one, int)):
        return True
    if is_wrong_request(error):
        return False
    names = {one.__name__ for one in type(error).__mro__}
    for one in on:
        if one in names if isinstance(one, str) else isinstance(one, type) and isinstance(error, one):
            return True
    code = _attribute(error, "code")
    if isinstance(code, str) and code in _SPENT:
        return False
    if names & _THROTTLED or _aws_code(error) in _THROTTLED:
        return True
    if status is not None:
        return status in _PASSING
    if names & _NAMES or _aws_code(error) in _NAMES:
        return True
    reason = _attribute(error, "reason")  # as urllib has it
    return isinstance(reason, Exception) and reason is not error and is_passing(reason, on)


def is_wrong_request(error: Exception) -> bool:
    """Whether the provider says that the same request will never do."""
    status = status_of(error)
    if status is None or not 400 <= status < 500 or status in _PASSING:
        return False
    return _aws_code(error) not in _THROTTLED


def status_of(error: Exception) -> int | None:
    """The status of the answer that ``error`` is about, if there was one."""
    response = _attribute(error, "response")
    for thing in (error, response):
        for name in ("status_code", "status", "code"):
            found = _attribute(thing, name)
            if isinstance(found, int) and not isinstance(found, bool) and 100 <= found < 600:
                return int(found)
    if isinstance(response, Mapping):
        found = _item(_item(response, "ResponseMetadata"), "HTTPStatusCode")
        return found if isinstance(found, int) else None
    return None


def retry_after(error: Exception, now: float) -> float | None:
    """In how many seconds the provider wants the next request, if it says so; ``now`` is Unix time."""
    for headers in _headers(error):
        for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            text = _item(headers, name) or _item(headers, name.title())
            if text is None:
                continue
            match = _SECONDS.fullmatch(str(text))
            seconds = float(match[1]) * unit if match is not None else _until(str(text), now)
            if seconds is not None:
                return seconds
    own = _attribute(error, "retry_after")
    return float(own) if isinstance(own, int | float) and not isinstance(own, bool) and own >= 0 else None


def _headers(error: Exception) -> Iterator[Any]:
    response = _attribute(error, "response")
    yield _attribute(response, "headers")
    yield _attribute(error, "headers")
    yield _item(_item(response, "ResponseMetadata"), "HTTPHeaders")


def _until(date: str, now: float) -> float | None:
    """In how many seconds it is ``date``, as HTTP writes it."""
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _aws_code(error: Exception) -> str | None:
    code = _item(_item(_attribute(error, "response"), "Error"), "Code")
    return code if isinstance(code, str) else None


def _attribute(thing: Any, name: str) -> Any:
    """``thing.name``, of whatever it is; ``None`` where it has none."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - as below: some clients raise for an answer that never came
        return None


def _item(thing: Any, name: str) -> Any:
    """``thing[name]``, of whatever it is."""
    try:
        return None if thing is None else thing.get(name)
    except Exception:  # noqa: BLE001 - it is somebody else's, and may do anything when it is asked
        return None
