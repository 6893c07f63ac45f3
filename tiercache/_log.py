"""The logger, made when there is something to say: importing logging takes as long as all of our own code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["logger"]


def logger() -> logging.Logger:
    """The logger of the package."""
    import logging

    return logging.getLogger("tiercache")
