"""A graph with one cached node. A module of its own: LangGraph makes the node's module a part of the key, and
two processes must import it under one name."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

from langgraph.cache.base import BaseCache
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy

__all__ = ["arun", "graph", "run"]


class State(TypedDict):
    n: int
    doubled: int


def graph(cache: BaseCache[Any], ran: list[int], ttl: int | None = None) -> Any:
    def double(state: State) -> dict[str, int]:
        ran.append(state["n"])
        return {"doubled": state["n"] * 2}

    builder = StateGraph(State)
    builder.add_node("double", double, cache_policy=CachePolicy(key_func=str, ttl=ttl))
    builder.add_edge(START, "double")
    builder.add_edge("double", END)
    return builder.compile(cache=cache)


def run(compiled: Any, n: int) -> int:
    return int(compiled.invoke({"n": n})["doubled"])


def arun(compiled: Any, n: int) -> int:
    return int(asyncio.run(compiled.ainvoke({"n": n}))["doubled"])
