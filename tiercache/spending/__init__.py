"""What calls of models cost, and what a cache saves of it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiercache.spending.price_files import example_prices, read_prices
    from tiercache.spending.prices import ModelPrice, Prices
    from tiercache.spending.roi import Assumptions, Projection, project

__all__ = ["Assumptions", "ModelPrice", "Prices", "Projection", "example_prices", "project", "read_prices"]

_HOMES = {
    "Assumptions": "roi", "ModelPrice": "prices", "Prices": "prices", "Projection": "roi",
    "example_prices": "price_files", "project": "roi", "read_prices": "price_files",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"tiercache.spending.{_HOMES[name]}"), name)
