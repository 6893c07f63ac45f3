"""`tiercache inspect`: one key, tier by tier."""

from __future__ import annotations

import time
from base64 import b64encode
from typing import Any

import click

from tiercache.cli._context import Settings, command, in_namespace, open_cache
from tiercache.cli._look import Held, held
from tiercache.cli._output import Column, Styled, age, printable, say, show_json, show_table, weight

__all__ = ["inspect"]

_COLUMNS = (
    Column("tier"),
    Column("holds it"),
    Column("size", figures=True),
    Column("age", figures=True),
    Column("left", figures=True),
    Column("codec"),
)


@command()
@click.argument("key")
@click.option("--value", "with_value", is_flag=True, help="Show the values too, as they lie in the tiers.")
@in_namespace
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object; times are seconds, values base64."
)
@click.pass_obj
def inspect(settings: Settings, key: str, with_value: bool, namespace: tuple[str, ...], as_json: bool) -> int:
    """Show which tiers hold KEY, and what they know of it.

    Its size as the codec made it, its age, what is left of its life, and its codec. Each tier is asked by
    itself, and nothing is promoted. Exit code 1 if none has it, or only such as missed its delete.
    """
    with open_cache(settings, namespace) as cache:
        found = held(cache, key)
    now = time.time()
    if as_json:
        show_json({"key": key, "tiers": [_as_data(one, now, with_value=with_value) for one in found]})
    else:
        show_table(_COLUMNS, [_row(one, now) for one in found])
        if with_value:
            _show_values(found)
    return 0 if any(one.entry is not None and not one.deleted for one in found) else 1


def _row(one: Held, now: float) -> list[str | Styled]:
    entry = one.entry
    if entry is None:
        style = "red" if one.failed else "dim"
        return [one.tier, Styled(one.unseen or "no", style), "", "", "", ""]
    stale = entry.fresh_until is not None and entry.fresh_until <= now
    written = None if entry.created_at is None else now - entry.created_at
    # Of its life as a hit: what `stale_for` adds comes when that is over.
    ends = [entry.expires_at] if stale else [entry.expires_at, entry.fresh_until]
    left = "for ever" if not any(ends) else age(min(end for end in ends if end is not None) - now)
    state = Styled("stale", "yellow") if stale else Styled("yes", "green")
    if one.deleted:
        state = Styled("deleted since", "yellow")
    # Who can write to a tier chooses the codec's name.
    return [one.tier, state, weight(_size(one)), age(written), left, printable(entry.codec)]


def _size(one: Held) -> int | None:
    """The bytes of the payload; ``None`` for a tier that keeps objects and was not told."""
    assert one.entry is not None  # noqa: S101 - asked by the caller
    value = one.entry.value
    return len(value) if isinstance(value, bytes) else one.entry.size


def _as_data(one: Held, now: float, *, with_value: bool) -> dict[str, Any]:
    entry = one.entry
    if entry is None:
        return {"tier": one.tier, "holds": None if one.unseen else False, "unseen": one.unseen or None}
    data = {
        "tier": one.tier,
        "holds": True,
        "deleted": one.deleted,
        "size": _size(one),
        "age": None if entry.created_at is None else now - entry.created_at,
        "left": None if entry.expires_at is None else entry.expires_at - now,
        "fresh_for": None if entry.fresh_until is None else entry.fresh_until - now,
        "codec": entry.codec,
    }
    if with_value and isinstance(entry.value, bytes):
        data["value"] = b64encode(entry.value).decode()
    return data


def _show_values(found: list[Held]) -> None:
    """The different ones, each once."""
    shown: dict[bytes, list[str]] = {}
    for one in found:
        if one.entry is not None and isinstance(one.entry.value, bytes):
            shown.setdefault(one.entry.value, []).append(one.tier)
    for value, tiers in shown.items():
        say(f"{', '.join(tiers)}: {value!r}")
