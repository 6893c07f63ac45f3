"""Who answered: for a caller who wants to know, which tier or loader had each key of a look-up.

A context variable, so that the core's signatures stay as they are and nobody else pays for it. Hits of
the memory tier's own road (`Namespaced`) are not noted: they never come to the core.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import Enum

__all__ = ["Answer", "Source", "collecting", "is_collecting", "note", "unnoted", "unnoted_in"]


class Source(Enum):
    """Who it was where no tier had the value: the caller's own loader, or a flight that it joined."""

    LOADER = "loader"
    FLIGHT = "flight"


#: A tier's name, or a source.
Answer = str | Source

#: Whose look-ups are noted (a stack: chains inside it have their own), and the notes.
_answers: ContextVar[tuple[object, dict[str, Answer]] | None] = ContextVar("tiercache_answers", default=None)


def note(stack: object, keys: Iterable[str], who: Answer) -> None:
    """``who`` had ``keys`` in a look-up of ``stack``."""
    collected = _answers.get()
    if collected is not None and collected[0] is stack:
        collected[1].update(dict.fromkeys(keys, who))


def is_collecting() -> bool:
    """Whether somebody may want to know who answers what this thread or task looks up."""
    return _answers.get() is not None


@contextmanager
def collecting(stack: object) -> Iterator[dict[str, Answer]]:
    """Who answers the look-ups of this thread or task in ``stack``, by key."""
    answers: dict[str, Answer] = {}
    with _using((stack, answers)):
        yield answers


class unnoted:  # noqa: N801 - read as a statement; a generator would take three times as long
    """``with unnoted():`` is for a loader: what it looks up by itself is another matter."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = None if _answers.get() is None else _answers.set(None)

    def __exit__(self, *_error: object) -> None:
        if self._token is not None:
            with suppress(ValueError):  # as below
                _answers.reset(self._token)


def unnoted_in() -> None:
    """The same for good in the current context."""
    _answers.set(None)


@contextmanager
def _using(answers: tuple[object, dict[str, Answer]] | None) -> Iterator[None]:
    token = _answers.set(answers)
    try:
        yield
    finally:
        with suppress(ValueError):  # an abandoned coroutine is closed in whatever context there is
            _answers.reset(token)
