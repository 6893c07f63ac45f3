"""Why a server said no, or was not reached, in words that hold no key, value or password (its own may)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import redis
import redis.asyncio.sentinel
import redis.sentinel

__all__ = ["refusal"]

#: How replies to who is not known begin; the user and password of the URL are refused in other words.
_UNKNOWN: Sequence[tuple[str, str]] = (
    ("Authentication required", "it wants a password, and the URL has none"),
    ("AUTH <password> called without", "the URL has a password, and the server wants none"),
    ("Client sent AUTH, but no password is set", "the URL has a password, and the server wants none"),
)
_WRONG_PASSWORD = "it refused the user or password in the URL"  # noqa: S105 - no password, but a sentence
#: What redis-py writes before the system's own words.
_CONNECTING = re.compile(r"Error -?\d+ connecting to .*?\. (?=[A-Z])")

_NO_MASTER = (redis.sentinel.MasterNotFoundError, redis.asyncio.sentinel.MasterNotFoundError)
_OTHER_NODE = "it is a node of a cluster, and the key is another's; a cluster's URL is redis+cluster://"
_REASONS: Sequence[tuple[type[Exception], str]] = (
    (redis.exceptions.OutOfMemoryError, "it is out of memory (maxmemory reached, nothing to evict)"),
    (redis.ReadOnlyError, "it is a replica, and takes no writes"),
    (redis.BusyLoadingError, "it is still loading its data"),
    (redis.exceptions.MaxConnectionsError, "the client's connection pool is exhausted"),
    *((kind, "no Sentinel that answers knows a healthy master of that name") for kind in _NO_MASTER),
    (redis.exceptions.SlotNotCoveredError, "the cluster does not cover all slots"),
    (redis.exceptions.ClusterDownError, "the cluster is down"),
    (redis.exceptions.MovedError, _OTHER_NODE),
    (redis.exceptions.ClusterCrossSlotError, _OTHER_NODE),
    (redis.InvalidResponse, "it answered something else than Redis does"),
    (redis.exceptions.RedisClusterException, "no node of the cluster answers"),
)

#: Sentences of a server that are always the same, and hold nothing of what it was sent.
_SENTENCES: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"(?:DB index is out of range|invalid DB index)\b"), "it has no database of that number"),
    (re.compile(r"unknown command .([A-Z]+)\W"), "it does not know the command {}"),
)
_NO_CLUSTER = "Cluster mode is not enabled"  # redis-py's own words


def refusal(error: Exception, prefix: str) -> str:
    """Why a call of a tier whose keys begin with ``prefix`` failed with ``error`` of redis-py's."""
    if isinstance(error, redis.exceptions.RedisClusterException) and _NO_CLUSTER in str(error):
        return "it is not in cluster mode; write redis://"
    if isinstance(error, redis.AuthenticationError):
        return next((text for begin, text in _UNKNOWN if str(error).startswith(begin)), _WRONG_PASSWORD)
    if isinstance(error, _NO_MASTER) and "AuthenticationError" in str(error):
        return "a Sentinel wants a password, or another one; the URL's option sentinel_password is for that"
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, redis.exceptions.NoPermissionError):
        right = re.search(r"'([\w|]+)' command", str(error))
        return f"the user lacks the right {f'+{right[1]}' if right else f'~{prefix}*'}"
    if isinstance(error, redis.ResponseError):
        for sentence, reason in _SENTENCES:
            said = sentence.match(str(error))
            if said:
                return reason.format(*said.groups())
        code = re.match(r"[A-Z]{4,}\b", str(error))
        return f"it answered an error, {code[0] if code else type(error).__name__}"
    return (
        _CONNECTING.sub("", str(error)) if isinstance(error, redis.ConnectionError) else type(error).__name__
    )
