"""`tiercache keys`: the live keys, one by one as the tiers list them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import click

from tiercache._chain.member import Member
from tiercache._log import describe
from tiercache._running.bridge import BLOCKING, drive
from tiercache.cli._context import Failed, Settings, command, count, in_namespace, open_cache
from tiercache.cli._lasting import lister, unlisted
from tiercache.cli._output import note, printable, say
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
) -> int:
    """List the live keys.

    One a line, in the order of the lowest tier that can list them. Characters that would steer a terminal are
    escaped. What is listed is what that tier holds, stale entries too: on Redis it is searched among all keys
    of the database. Exit code 1 if a tier below cannot list what it holds.
    """
    with open_cache(settings, namespace) as cache:
        member, left_out = lister(cache), unlisted(cache)
        if member is not None:
            _show(islice(_listed(member, prefix), limit), as_json=as_json)
        elif left_out:
            raise Failed(f"no tier of this chain can list its keys, which {' and '.join(left_out)} may hold")
        else:
            _show((), as_json=as_json)
            note("nothing is listed: the cache is memory alone, which is each process's own")
    if left_out:
        note(f"what only {' and '.join(left_out)} may hold is left out: no keys can be listed there")
    return 1 if left_out else 0


def _show(found: Iterable[str], *, as_json: bool) -> None:
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


def _listed(member: Member, prefix: str) -> Iterator[str]:
    """The live keys that ``member`` lists. Raises `Failed`."""
    cursor: Any = None
    while True:
        try:
            page, cursor = drive(member.page(BLOCKING, prefix, "", cursor))
        except Exception as error:
            reason = str(error) if isinstance(error, TierError) else describe(error)
            raise Failed(f"{member.guard.name}: it cannot list its keys: {reason}") from error
        yield from page
        if cursor is None:
            return
