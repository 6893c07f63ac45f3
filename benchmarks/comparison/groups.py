"""The tables of the page: which claims, of whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.comparison import (
    about_failures,
    about_features,
    about_langchain,
    about_loading,
    about_tiers,
    about_values,
)
from benchmarks.comparison.peers import GENERAL, STORES
from benchmarks.comparison.trying import Claim, Try

__all__ = ["GROUPS", "Group"]


@dataclass(frozen=True)
class Group:
    """A table. ``answer``, where the claims are not tried by `Try`."""

    name: str
    peers: Sequence[str]
    claims: Sequence[Claim]
    answer: Callable[[Claim, str], str] | None = None

    @property
    def distributions(self) -> dict[str, str]:
        """What those come with that are no `Peer`."""
        return _DISTRIBUTIONS

    def version(self, name: str) -> str | None:
        """Of one that is no `Peer`."""
        try:
            return version(self.distributions[name])
        except PackageNotFoundError:
            return None


_DISTRIBUTIONS = {
    "CachedEmbeddings": "tiercache-framework",
    "CacheBackedEmbeddings": "langchain-classic",
    "LLMCache": "tiercache-framework",
    "SQLiteCache": "langchain-community",
    "InMemoryCache": "langchain-core",
}
_GENERAL = [peer.name for peer in GENERAL]
_STORES = ["tiercache", *(peer.name for peer in STORES)]
_OF_STORES = {
    "foreign-delete",
    "many",
    "stopped",
    "gone",
    "spoilt",
    "killed",
    "read-while-written",
    "keys",
    "list",
}


def _of_stores() -> list[Claim]:
    every = (*about_tiers.CLAIMS, *about_failures.CLAIMS, *about_values.CLAIMS, *about_features.CLAIMS)
    return [claim for claim in every if claim.name in _OF_STORES]


def _told(rows: Sequence[tuple[str, str, Callable[[str, Path], str]]]) -> list[Claim]:
    return [Claim(name, question, _elsewhere) for name, question, _ in rows]


def _elsewhere(_tried: Try) -> str:
    raise NotImplementedError("its group answers")


GROUPS = (
    Group("loading", _GENERAL, about_loading.CLAIMS),
    Group("tiers", _GENERAL, about_tiers.CLAIMS),
    Group("failures", _GENERAL, about_failures.CLAIMS),
    Group("values", _GENERAL, about_values.CLAIMS),
    Group("features", _GENERAL, about_features.CLAIMS),
    Group("stores", _STORES, _of_stores()),
    Group(
        "embeddings", list(about_langchain.MAKERS), _told(about_langchain.EMBEDDINGS), about_langchain.answer
    ),
    Group(
        "answers",
        ["LLMCache", "SQLiteCache", "InMemoryCache"],
        _told(about_langchain.ANSWERS),
        about_langchain.answer,
    ),
)
