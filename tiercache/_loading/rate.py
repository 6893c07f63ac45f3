"""`Rate`: how many calls of loaders there may be in a stretch of time, and of how many tokens.

Who would exceed it waits: asleep until it may be his turn, and then he looks again. It is the turn of who
came first, or one of many tokens would wait as long as small ones come. A caller that is cancelled, or whose
event loop stands still so that he does not look when he should, holds up none of the others.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any, TypeAlias

from tiercache._loading.closing import Closing
from tiercache._loading.gate import Gate
from tiercache._loading.shared_rate import SharedWindows, margin
from tiercache._loading.windows import Window
from tiercache._running.bridge import LeftRunning, Runtime
from tiercache._running.owners import Owner, leavings, owned, thrown
from tiercache.errors import ConfigError
from tiercache.forks import not_pickled, reset_after_fork
from tiercache.protocols import Clock
from tiercache.tokens import Tokens
from tiercache.units import LONGEST_WAIT

__all__ = ["RATES", "RATE_TEXT", "Pause", "Rate"]

#: Lets so many seconds pass.
Pause: TypeAlias = "Callable[[float], Awaitable[None]]"

#: What may be written, for messages.
RATES = 'such as "60/min", "100/30s" or "500/min, 90000 tokens/min" (units: s, min, h, d)'
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER, _PER = "[1-9][0-9_]{0,17}", r"\s*/\s*(?:[1-9][0-9]{0,8})?\s*(?:s|min|h|d)\s*"
_REQUESTS, _TOKENS = rf"\s*{_NUMBER}(?:\s*requests)?{_PER}", rf"\s*{_NUMBER}\s*tokens{_PER}"
#: The same as a regular expression, of JSON Schema too.
RATE_TEXT = f"(?:{_REQUESTS}(?:,{_TOKENS})?|{_TOKENS}(?:,{_REQUESTS})?)"
_PART = re.compile(r"\s*([0-9_]+)\s*([a-z]*)\s*/\s*([0-9]*)\s*([a-z]+)\s*")
#: Seconds that one sleeps at most beyond the moment when there is room: those ahead may have left by then.
#: Who has not looked for so long when he should is passed by.
_LOOK_AGAIN = 1.0
#: So many at most look in a second of those whose turn is a whole window away, however many there are.
_LOOKS = 1000
#: On a machine that is so slow no answer of a server is ever in time.
_MOST_LATE = 3
#: So many of a process ask a server at once, in their order. If all who wait did, each would take a thread
#: and a connection, and who gets none of these takes the server for ill.
_ASKING = 4
#: For who cannot be woken by closing a cache.
_OPEN = Closing()


class _Waiting:
    """One who waits for his turn, to take so many ``tokens``; ``looks``: when he will look again."""

    __slots__ = ("looks", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.looks = inf


class Rate:
    """How fast loaders may be called: ``Rate("500/min, 90000 tokens/min")``. Thread-safe.

    ``text``
        requests, tokens or both, each as a number and a time: ``"60/min"``, ``"100/30s"``. In no stretch of
        that length are there more. Each call of a loader is a request, however many keys it is for, and so
        is each further try.
    ``count_tokens``
        a function from a text to its tokens. Unless given, a token is taken for four bytes. The texts are the
        keys, or what the loader says that it sends instead (`CachedEmbeddings` and ``cached`` do).
    ``shared``
        the URL of a Redis: all processes that give the same, the same ``text`` and the same ``name`` keep to
        one rate. When it is ill, each of them keeps to it by itself, and the log says so. The clocks of the
        machines must agree.
    ``name``
        tells this rate from others on that server.

    A cache that is given text makes a `Rate` of its own. An object may be given to several caches, functions
    and calls: they share it. A call of more tokens than the limit waits until it can have all of it. Raises
    `ConfigError` for text that is no rate.
    """

    def __init__(
        self,
        text: str,
        *,
        count_tokens: Callable[[str], int] | None = None,
        shared: str | None = None,
        name: str = "",
    ) -> None:
        if count_tokens is not None and not callable(count_tokens):
            raise ConfigError(f"count_tokens: {count_tokens!r:.60} cannot be called; give a function")
        self.text = text
        #: Whether an option made it of its text, and could make another of the same.
        self.of_option = False
        self.limits = limits_of(text)
        self.counts_tokens = "tokens" in self.limits
        self._tokens = Tokens(count_tokens, wanted=self.counts_tokens)
        self._requests = _window(self.limits.get("requests"))
        self._spent = _window(self.limits.get("tokens"))
        self._nearest = min(period for _, period in self.limits.values())
        self._shared = None if shared is None else SharedWindows(shared, name, self.limits)
        self._asking = Gate(_ASKING)
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        # Who waits is in the parent; what was taken was taken for the child, too.
        self._waiting: OrderedDict[_Waiting, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"Rate({self.text!r})"

    def __reduce__(self) -> Any:
        return not_pickled(self)

    def tokens(self, texts: Sequence[str]) -> int:
        """How many tokens ``texts`` are."""
        return max(0, self._tokens.of(texts)) if self.counts_tokens else 0

    async def take(self, runtime: Runtime, clock: Clock, tokens: int, closing: Closing | None = None) -> None:
        """Wait until there is room for a request of so many ``tokens``, and take it. ``closing`` ends the
        waiting, with `CacheClosed`. Who is cancelled while waiting has taken nothing."""
        sleep = runtime.sleep if closing is None else partial(closing.pause, runtime)
        me = _Waiting(min(tokens, self._spent.limit) if self._spent else 0)
        if self._shared is not None and await self._take_shared(runtime, me, sleep, closing or _OPEN):
            with self._lock:
                self._take(clock.monotonic(), me)
            return
        leavings.settle()
        seconds = 1.0
        try:
            seconds = self._look(clock, me)
            while seconds:
                await sleep(seconds)
                seconds = self._look(clock, me)
        except GeneratorExit as gone:
            thrown(gone)
            raise
        finally:
            if seconds:
                self._leave(me)

    async def take_now(self, runtime: Runtime, clock: Clock, tokens: int) -> bool:
        """The same for who does not wait: whether there was room."""
        me = _Waiting(min(tokens, self._spent.limit) if self._spent else 0)
        if self._shared is not None:
            try:
                room = await runtime.call(self._shared.have_room, {"requests": 1, "tokens": me.tokens})
            except LeftRunning as left:
                raise left.cancelled from None  # as in `_take_shared`
            if room:
                with self._lock:
                    self._take(clock.monotonic(), me)
            if room is not None:
                return bool(room)
        if not self._look(clock, me):
            return True
        self._leave(me)
        return False

    def _look(self, clock: Clock, me: _Waiting) -> float:
        """Take what ``me`` is to have if it is his turn, and say zero; or else how long to sleep."""
        with self._lock:
            now = clock.monotonic()
            in_turn = alone = self._seconds(now, 1, me.tokens)
            if alone and me not in self._waiting and not self._fit(1 + len(self._waiting), me.tokens):
                in_turn = inf  # who comes last of thousands need not look at those ahead
            elif self._waiting:
                in_turn = self._seconds(now, *self._up_to(me, now))
            if not in_turn:
                self._take(now, me)
                self._waiting.pop(me, None)
                return 0.0
            again = _LOOK_AGAIN
            if in_turn == inf:  # all those ahead are more than one window takes
                again = max(again, min(len(self._waiting) / _LOOKS, self._nearest))
            seconds = min(in_turn, alone + again, LONGEST_WAIT)
            me.looks = now + seconds
            self._waiting[me] = None
            return seconds

    def _up_to(self, me: _Waiting, now: float) -> tuple[int, int]:
        """How many requests and tokens those take who wait before ``me`` and look when they should, and he;
        or of those next in turn alone, if these are too many for one window already."""
        requests, tokens = 1, me.tokens
        for one in self._waiting:
            if one is me or not self._fit(requests, tokens):
                break
            if now < one.looks + _LOOK_AGAIN:
                requests += 1
                tokens += one.tokens
        return requests, tokens

    def _fit(self, requests: int, tokens: int) -> bool:
        if self._requests is not None and requests > self._requests.limit:
            return False
        return self._spent is None or tokens <= self._spent.limit

    @owned
    async def _take_shared(
        self, owner: Owner, runtime: Runtime, me: _Waiting, sleep: Pause, closing: Closing
    ) -> bool:
        """The same of the windows that processes share; whether they could be asked."""
        place = await self._asking.enter(runtime, owner, closing)
        try:
            return await self._ask(runtime, me, sleep)
        except GeneratorExit as gone:
            thrown(gone)
            raise
        finally:
            self._asking.leave(place)

    async def _ask(self, runtime: Runtime, me: _Waiting, sleep: Pause) -> bool:
        assert self._shared is not None  # noqa: S101 - the caller looks
        amounts, taken = {"requests": 1, "tokens": me.tokens}, set[str]()
        least = min(margin(period) for _, period in self.limits.values())
        late = 0
        while True:
            asked = monotonic()
            try:
                seconds = await runtime.call(self._shared.seconds, amounts, taken)
            except LeftRunning as left:
                raise left.cancelled from None  # what it may have taken is lost: that errs on the safe side
            if seconds:
                await sleep(min(seconds, LONGEST_WAIT))
            elif seconds is not None and monotonic() - asked > least and late < _MOST_LATE:
                late += 1  # it was let go so long ago that it would be among those of the next window: again
                taken.clear()
            else:
                return seconds is not None

    def _take(self, now: float, me: _Waiting) -> None:
        """Note what ``me`` takes, also of shared windows: those here count when the server is ill."""
        for window, amount in ((self._requests, 1), (self._spent, me.tokens)):
            if window is not None:
                window.take(now, amount)

    def _seconds(self, now: float, requests: int, tokens: int) -> float:
        of_requests = 0.0 if self._requests is None else self._requests.seconds(now, requests)
        return max(of_requests, 0.0 if self._spent is None else self._spent.seconds(now, tokens))

    def _leave(self, me: _Waiting) -> None:
        if leavings.take(self._leave, me):
            return
        with self._lock:
            self._waiting.pop(me, None)


def limits_of(text: str) -> dict[str, tuple[int, float]]:
    """What ``text`` says of ``requests`` and ``tokens``: how many, in how many seconds. Raises
    `ConfigError`."""
    if not isinstance(text, str):
        raise ConfigError(f"rate: {text!r:.60} is no rate; give text {RATES}")
    if not re.fullmatch(RATE_TEXT, text, re.ASCII):
        raise ConfigError(f"rate: {text!r:.60} cannot be read; write {RATES}")
    limits: dict[str, tuple[int, float]] = {}
    for number, what, times, unit in _PART.findall(text):
        limits[what or "requests"] = int(number.replace("_", "")), int(times or 1) * _SECONDS[unit]
    return limits


def _window(limit: tuple[int, float] | None) -> Window | None:
    return None if limit is None else Window(*limit)
