"""`tiercache keys`: the live keys, one by one as the tiers list them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import click

from tiercache._bridge import BLOCKING
from tiercache.chain import TieredCache
from tiercache.cli._context import Failed, Settings, command, count, in_namespace, open_cache
from tiercache.cli._output import printable, say
from tiercache.errors import TierError

__all__ = ["keys"]


@command()
@click.option("--prefix", default="", metavar="TEXT", help="Those that begin with TEXT.")
@click.option("--limit", type=count, metavar="N", help="The first N that are found.")
@in_namespace
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, in which every key is exact.")
@click.pass_obj
def keys(
    settings: Settings, prefix: str, limit: int | None, namespace: tuple[str, ...], as_json: bool
) -> None:
    """List the live keys.

    One a line, in the order of the lowest tier that can list them. Characters that would steer a terminal are
    escaped. What is listed is what that tier holds: on Redis it is searched among all keys of the database.
    """
    with open_cache(settings, namespace) as cache, _told_of(cache):
        found = islice(cache.keys(prefix), limit)
        if not as_json:
            for key in found:
                say(printable(key))
            return
        # Piece by piece: there may be more keys than memory.
        lead = "["
        for key in found:
            say(f"{lead}{json.dumps(key)}")
            lead = ","
        say("[]" if lead == "[" else "]")


@contextmanager
def _told_of(cache: TieredCache[Any]) -> Iterator[None]:
    """Name the tier that could not list its keys."""
    try:
        yield
    except TierError as error:
        lists = [guard.name for guard in cache._stack.guards if BLOCKING.port(guard.tier).scan]  # noqa: SLF001 - as in check
        name = lists[-1] if lists else error.tier
        raise Failed(f"{name}: it cannot list its keys: {error}" if name else str(error)) from error
