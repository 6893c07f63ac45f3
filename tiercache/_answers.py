"""Who answered: for a caller who wants to know, which tier or loader had each key of a look-up.

A context variable, so that the core's signatures stay as they are and nobody else pays for it. Hits of
the memory tier's own road (`Namespaced`) are not noted: they never come to the core.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

__all__ = ["FLIGHT", "LOADER", "collecting", "note", "unnoted"]

#: Stand for a tier's name where the caller's own loader made the value, or a flight that it joined.
LOADER = "loader"
FLIGHT = "flight"

_answers: ContextVar[dict[str, str] | None] = ContextVar("tiercache_answers", default=None)


def note(keys: Iterable[str], who: str) -> None:
    """``who`` had ``keys``."""
    answers = _answers.get()
    if answers is not None:
        answers.update(dict.fromkeys(keys, who))


@contextmanager
def collecting() -> Iterator[dict[str, str]]:
    """Who answers the look-ups of this thread or task, by key."""
    answers: dict[str, str] = {}
    with _using(answers):
        yield answers


@contextmanager
def unnoted() -> Iterator[None]:
    """For a loader: what it looks up by itself is another matter."""
    with _using(None):
        yield


@contextmanager
def _using(answers: dict[str, str] | None) -> Iterator[None]:
    token = _answers.set(answers)
    try:
        yield
    finally:
        with suppress(ValueError):  # an abandoned coroutine is closed in whatever context there is
            _answers.reset(token)
