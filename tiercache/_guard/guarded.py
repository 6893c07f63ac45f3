"""`guarded`: gives anybody's tier a deadline of ours, and says what a chain does when the tier fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any

from tiercache._running.lanes import Lane
from tiercache._running.ports import WRITES, method_of
from tiercache.errors import ConfigError
from tiercache.forks import not_pickled
from tiercache.policies import Failure
from tiercache.protocols import CAPABILITIES, AsyncTier, Tier
from tiercache.units import Duration

__all__ = ["GuardedTier", "guarded"]

_VERBS = ("mget", "mset", "mdelete", "close", *CAPABILITIES)
#: What may have to wait and has no async twin, of `SupportsJournal` and `SupportsAbout`.
_BLOCKING = ("glance", "fill", "record", "settle", "due", "owed", "about")
#: What needs no deadline, being no I/O.
_PLAIN = (
    "check_purge", "size", "counters", "stores_bytes", "ttl", "domains", "lists_everything", "journals",
    "owes_nothing", "place", "note_outside", "stats_file", "holds_nothing",
)  # fmt: skip


def guarded(
    tier: Tier | AsyncTier,
    *,
    deadline: Duration | None = None,
    breaker_failures: int | None = 3,
    breaker_pause: Duration = 1.0,
    breaker_longest: Duration = 30.0,
    retries: int = 0,
    name: str | None = None,
) -> GuardedTier:
    """``tier``, with a bound on how long its calls may take, and on what a chain puts up with.

    ``deadline``
        for each call (seconds, or text such as ``"250ms"``). When it is over the caller gets a `TierTimeout`.
        A blocking tier then runs on worker threads, at most 32 of them; an async one in tasks. (One that
        blocks its loop all the same costs a blocking caller half a second more, and an async caller all the
        time that it takes: it is the caller's loop.) A call that
        cannot be stopped is left behind, and until it ends the tier gets no other: each is `TierUnavailable`
        at once. ``None``: what the tier takes (or its own deadline), with no thread or task between.
    ``breaker_failures``, ``breaker_pause``, ``breaker_longest``
        after so many failures in a row a chain leaves the tier alone for that long, and twice as long after
        each probe that fails, up to the longest; ``None`` failures: never.
    ``retries``
        how often a chain makes a call again that failed, though not for time.
    ``name``
        in statistics and errors; by default the tier's own.

    Raises `ConfigError` for a wrong argument. The result does what ``tier`` does, except that a memory
    tier's short road is gone, which a deadline would make a long one.
    """
    if isinstance(tier, type) or not isinstance(tier, Tier | AsyncTier):
        from tiercache._masking import mask  # it imports more than this needs to

        raise ConfigError(
            f"guarded: {mask(repr(tier)):.60} is no tier; a tier has mget, mset, mdelete and close "
            "(or amget, amset, amdelete and aclose)"
        )
    own = getattr(tier, "failure", None)
    inner = own if isinstance(own, Failure) else Failure()
    policy = Failure.of(
        "guarded",
        deadline=deadline,
        breaker_failures=breaker_failures,
        breaker_pause=breaker_pause,
        breaker_longest=breaker_longest,
        retries=retries,
        writes_apart=inner.writes_apart,
    )
    if name is None:
        name = getattr(tier, "name", None)
    if not isinstance(name, str) or not name:
        name = type(tier).__name__.lower().removesuffix("tier") or "tier"
    lane = None if policy.deadline is None else Lane(name, patience=policy.deadline)
    if lane is None:
        policy = replace(policy, deadline=inner.deadline)
    return GuardedTier(tier, policy, lane, name)


class GuardedTier:
    """What `guarded` gives: ``tier`` with the deadline of ``lane``'s calls. Thread-safe if the tier is."""

    # For type checkers; which of them there are is up to the tier.
    mget: Any
    mset: Any
    mdelete: Any
    close: Any
    amget: Any
    amset: Any
    amdelete: Any
    aclose: Any

    def __init__(self, tier: Any, failure: Failure, lane: Lane | None, name: str) -> None:
        self.tier = tier
        self.failure = failure
        self.name = name
        self.location: Hashable = getattr(tier, "location", tier)
        self._lane = lane
        # Instance attributes, because a tier's abilities are asked for with isinstance, which does not see
        # what a __getattr__ would give.
        for verb in _VERBS:
            blocking, native = method_of(tier, verb, verb), method_of(tier, verb, f"a{verb}")
            if blocking is not None:
                setattr(self, verb, self._blocking(verb, blocking))
            if native is not None:
                setattr(self, f"a{verb}", self._native(verb, native))
            elif blocking is not None and lane is not None:
                setattr(self, f"a{verb}", partial(self._from_loop, verb, blocking))
        for verb in _BLOCKING:
            if hasattr(tier, verb):
                setattr(self, verb, self._blocking(verb, getattr(tier, verb)))
        for attribute in _PLAIN:
            if hasattr(tier, attribute):
                setattr(self, attribute, getattr(tier, attribute))
        if lane is None and hasattr(tier, "nonblocking"):
            self.nonblocking = tier.nonblocking
        if hasattr(tier, "with_codec"):
            self.with_codec = lambda codec: GuardedTier(tier.with_codec(codec), failure, lane, name)

    __reduce__ = not_pickled

    def __repr__(self) -> str:
        return f"guarded({self.tier!r}, deadline={self.failure.deadline!r})"

    def _blocking(self, verb: str, method: Callable[..., Any]) -> Callable[..., Any]:
        lane, deadline = self._lane, self.failure.deadline
        if lane is None or deadline is None:
            return method

        def call(*args: Any, **options: Any) -> Any:
            return lane.call(partial(method, *args, **options), deadline, closing=verb == "close")

        return call

    def _native(self, verb: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        lane, deadline = self._lane, self.failure.deadline
        if lane is None or deadline is None:
            return method

        async def call(*args: Any, **options: Any) -> Any:
            return await lane.atask(
                partial(method, *args, **options), deadline, settle=verb in WRITES, closing=verb == "close"
            )

        return call

    async def _from_loop(self, verb: str, method: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """A blocking method for async callers: one thread away, and not two."""
        assert self._lane is not None  # noqa: S101 - asked by the caller
        return await self._lane.acall(
            partial(method, *args, **options),
            self.failure.deadline,
            settle=verb in WRITES,
            closing=verb == "close",
        )
