"""What is said in the log. The logger is made when there is something to say: importing logging takes as long
as all of our own code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiercache.errors import CacheClosed, TierError

if TYPE_CHECKING:
    import logging

__all__ = ["describe", "logger"]


def logger() -> logging.Logger:
    """The logger of the package."""
    import logging

    return logging.getLogger("tiercache")


def describe(error: Exception) -> str:
    """``error`` for people. Only our own errors promise to hold no key, value or password."""
    if isinstance(error, CacheClosed):  # of a tier: who calls a closed cache is told before any tier is asked
        return (
            "CacheClosed: the tier was closed; where another cache over it did that, use views of one cache, "
            "or close that one last"
        )
    return f"{type(error).__name__}: {error}" if isinstance(error, TierError) else type(error).__name__
