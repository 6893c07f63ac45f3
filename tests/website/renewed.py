"""The files in `docs/` that are made from the code, besides those of the configuration's schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from website import diagram, llms, metrics
from website.build import ROOT

__all__ = ["MADE", "RENEW", "renew"]

RENEW = "PYTHONPATH=tests python -m website renew"
#: What each is to hold; the list of pages comes last, since it quotes the others.
MADE: dict[Path, Callable[[], str]] = {
    ROOT / "docs" / "reference" / "metrics.md": metrics.page,
    ROOT / "docs" / "explanation" / "imports.svg": diagram.picture,
    ROOT / "docs" / "llms.txt": lambda: llms.index(ROOT),
}


def renew() -> None:
    """Write them."""
    for file, made in MADE.items():
        file.write_text(made())
