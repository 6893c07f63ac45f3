"""Calls of models that LangChain makes itself after a miss of an `LLMCache`: when they begin, what they are
sent, and how they end, as far as it can be known.

LangChain asks a cache for an answer, then a rate limiter for leave, and gives the cache the answer, all in
one thread or task, whose context tells here what belongs together. Of a call that fails it tells callbacks
alone, by the number of a run, and these are told of a run before its look-up; of several runs that one call
of ``generate`` starts, the look-ups come in the same order. A model that no cache is asked for, and a stream,
ask the rate limiter alone: then these are what comes in that order.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from time import perf_counter
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary, ref

from tiercache._running.bridge import Runtime
from tiercache.chain import TieredCache
from tiercache.forks import reset_after_fork
from tiercache.integrations.langchain._call_place import CallPlace
from tiercache.integrations.langchain._llm_key import CallKey
from tiercache.integrations.langchain._paid import books_of, model_in
from tiercache.tokens import TokenUsage

__all__ = ["Call", "Misses", "Run"]

K = TypeVar("K")
V = TypeVar("V")

#: Calls whose end is waited for: of those that are cancelled nobody tells.
_MOST = 1000


class Call:
    """One that a look-up in vain announced. ``of``: whose look-up it was."""

    __slots__ = ("begun", "key", "let_go", "of", "over")

    def __init__(self, of: Misses, key: CallKey) -> None:
        self.of = of
        self.key = key
        self.begun = perf_counter()
        #: Whether a limiter has let it begin.
        self.let_go = False
        #: Whether it has ended, or was never made.
        self.over = False

    def begin(self) -> None:
        """It begins only now."""
        self.begun = perf_counter()
        self.let_go = True

    def texts(self) -> Sequence[str]:
        """What the model is sent, without the parameters."""
        return self.key.texts()


class Run:
    """A run that a callback was told of, and the ``call`` that it came to, if it did. ``number`` is there as
    long as LangChain has it; ``told``: whose callbacks they were."""

    __slots__ = ("call", "number", "place", "told")

    def __init__(self, run_id: UUID) -> None:
        self.number = ref(run_id)
        self.told: list[object] = []
        self.call: Call | None = None
        #: What it has among the loads, or had: where there may be only so many at once.
        self.place: CallPlace | None = None

    def leave(self) -> None:
        """It needs its place no more."""
        if self.place is not None:
            self.place.leave()


class _Started:
    """The runs that one call of ``generate`` starts, ``size`` of them, and how many have looked up, or asked
    for leave without. ``latest``: of a blocking one, which makes one call after the other, the latest."""

    __slots__ = ("asked", "latest", "runs", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.runs: list[Run] = []
        self.asked = 0
        self.latest: Run | None = None


#: Of the current thread or task: what its latest look-up in vain announced, the runs that it started, and the
#: one of them that it is at, if that is to be a call.
_call: ContextVar[Call | None] = ContextVar("tiercache_langchain_call", default=None)
_started: ContextVar[_Started | None] = ContextVar("tiercache_langchain_runs", default=None)
_run: ContextVar[Run | None] = ContextVar("tiercache_langchain_run", default=None)


class Misses:
    """The calls that are made since ``view`` was asked in vain. ``model``: what they are called, unless as
    each of them says. Thread-safe."""

    def __init__(self, view: TieredCache[Any], model: str | None) -> None:
        self._view = view
        self._model = model
        #: Among those who are told of a run: it may outlive the cache.
        self._me = object()
        self._calls: OrderedDict[str, Call] = OrderedDict()
        # Whom LangChain tells nothing of, as of those that are cancelled, it drops.
        self._runs: WeakKeyDictionary[UUID, Run] = WeakKeyDictionary()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock, for a forked child: another thread may have held the old one."""
        self._lock = threading.Lock()

    def model_of(self, key: CallKey) -> str:
        """What the model of a call is called."""
        return self._model or model_in(key.parts.parameters)

    # -- look-ups and answers ----------------------------------------------------------------------

    def found(self) -> None:
        """A look-up found an answer: no call follows."""
        if _started.get() is not None:
            self._next_run()

    async def missed(self, runtime: Runtime, key: CallKey) -> None:
        """A look-up for ``key`` was in vain: a call of the model follows. Raises `BudgetExceeded`."""
        run = self._next_run()
        _run.set(run)
        books = books_of(self._view)
        if books is not None:
            begun = await books.begin(runtime, self._view._core, 1)  # noqa: SLF001 - of our own class
            begun.drop()  # nobody says when it ends, if it fails
        call = Call(self, key)
        _call.set(call)
        if run is not None:
            run.call = call
        if books is not None:
            with self._lock:
                _note(self._calls, key.key, call)

    def announced(self) -> Call | None:
        """The call that the current thread or task has announced here, and that has not begun."""
        call = _call.get()
        return None if call is None or call.of is not self or call.let_go or call.over else call

    async def answered(
        self,
        runtime: Runtime,
        key: CallKey,
        usage: TokenUsage | None,
        values: Sequence[Any],
        asked: Callable[[], Iterable[str]],
    ) -> None:
        """It brought ``values``, with the ``usage`` that they tell."""
        call = self._ended(key)
        books = books_of(self._view)
        if books is not None:
            seconds = 0.0 if call is None else perf_counter() - call.begun
            core = self._view._core  # noqa: SLF001 - as above
            made = books.made(core, 1, self.model_of(key))
            await made.ended(runtime, core, values, asked, seconds, usage=usage)
        # Only now: who gets the place asks first whether the budget is spent.
        run = _run.get()
        if run is not None and run.call is call is not None:
            run.leave()

    def _ended(self, key: CallKey) -> Call | None:
        """The call for ``key`` that has ended: this thread's or task's own, or else the latest that there is
        (an LLM is given several prompts at once)."""
        own = _call.get()
        with self._lock:
            call = self._calls.get(key.key)
            if own is not None and own.of is self and own.key.key == key.key and not own.over:
                call = own
            if call is not None:
                self._forget(call)
        if call is own:
            _call.set(None)  # a long prompt is not to be kept by an idle thread
        return call

    def _forget(self, call: Call) -> None:
        """``call`` is over. The lock is held."""
        call.over = True
        if self._calls.get(call.key.key) is call:
            del self._calls[call.key.key]

    # -- runs --------------------------------------------------------------------------------------

    def started(self, run_id: UUID, size: int) -> None:
        """The current thread or task begins a run, one of ``size`` that one call starts."""
        group = _started.get()
        _run.set(None)
        # Handlers of other caches are told of the same run, before anything is asked for it; after that it is
        # another one, to which the caller gave the same number.
        if group is None or group.asked or not group.runs or group.runs[-1].number() != run_id:
            if group is None or group.asked or len(group.runs) >= group.size or group.size != size:
                group = _Started(size)
                _started.set(group)
            group.runs.append(Run(run_id))
        run = group.runs[-1]
        run.told.append(self._me)
        with self._lock:
            self._runs[run_id] = run

    def asking(self, *, blocking: bool) -> Run | None:
        """The run for which the current thread or task asks for leave, and whose end will be told here;
        ``None`` if there is none such, or it has its leave already."""
        run = _run.get()
        if run is None or run.place is not None:
            run = self._next_run()
            if run is not None:
                _run.set(run)
        if run is None or self._me not in run.told:
            return None
        group = _started.get()
        if blocking and group is not None:
            # Where no cache is given its answer, nobody tells of its end before that of the last.
            if group.latest is not None:
                group.latest.leave()
            group.latest = run
        return run

    def hears(self) -> bool:
        """Whether callbacks here are told of what the current thread or task started last."""
        group = _started.get()
        return group is not None and any(self._me in run.told for run in group.runs[-1:])

    def _next_run(self) -> Run | None:
        """The run that the look-up of the current thread or task is for, if a callback was told of it."""
        group = _started.get()
        if group is None:
            return None
        with self._lock:
            at, group.asked = group.asked, group.asked + 1
        return group.runs[at] if at < len(group.runs) else None

    def ended(self, run_id: UUID) -> None:
        """The run ended well."""
        with self._lock:
            run = self._runs.pop(run_id, None)
        if run is not None:
            run.leave()

    def failed(self, run_id: UUID) -> None:
        """The run failed: so did its call, if it came to one here. Noted for the ledger, without I/O."""
        with self._lock:
            run = self._runs.pop(run_id, None)
            call = None if run is None else run.call
            if call is not None and call.of is self and not call.over:
                self._forget(call)
            else:
                call = None
        books = books_of(self._view)
        if books is not None and call is not None:
            core = self._view._core  # noqa: SLF001 - as above
            made = books.made(core, 1, self.model_of(call.key))
            made.broken_off(core, perf_counter() - call.begun)
        if run is not None:
            run.leave()


def _note(kept: OrderedDict[K, V], name: K, what: V) -> None:
    """Keep ``what``, the latest of at most so many."""
    kept[name] = what
    kept.move_to_end(name)
    if len(kept) > _MOST:
        kept.popitem(last=False)
