"""`tiercache clear` and `purge`: what drops many entries at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from tiercache._words import entries
from tiercache.chain import TieredCache
from tiercache.cli._context import (
    Failed,
    Settings,
    command,
    in_namespace,
    journal_of,
    open_cache,
    put_off,
    span,
)
from tiercache.cli._interrupts import ending_soon
from tiercache.cli._lasting import unclearable
from tiercache.cli._output import note, say, show_json
from tiercache.errors import ConfigError

__all__ = ["clear", "purge"]


@command()
@in_namespace
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
@ending_soon()
def clear(settings: Settings, namespace: tuple[str, ...], yes: bool) -> int:
    """Drop all entries of the cache.

    Those of its namespace alone: not those of others that share its tiers, nor those of namespaces inside it,
    which --namespace names. The memory of processes that run is cleared by themselves, as entries run out.
    """
    with open_cache(settings, namespace, writes=True) as cache:
        if not yes:
            what = f"the namespace {'/'.join(namespace)!r} inside the cache" if namespace else "the cache"
            _ask(f"Drop all entries of {what}?")
        cache.clear()
        code = _well(cache, journal_of(cache))
        stuck = unclearable(cache)
        if stuck:
            note(_not_cleared(stuck, journal_of(cache)))
        return 1 if stuck else code


def _not_cleared(stuck: Sequence[str], keeper: str | None) -> str:
    """What is said of tiers that the chain can only look past. It does so as long as somebody knows: the
    ``keeper``, or else this process, which ends."""
    names = ", ".join(stuck)
    what = f"not cleared in {names}, where not all can be listed or cleared"
    if keeper is None:
        return f"{what}: it is still served from there; delete its keys, or empty {names} by other means"
    return f"{what}: {keeper} has noted that it is not served, but a chain without {keeper} serves it still"


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("it drops everything, and nobody can be asked here; add --yes")
    if not click.confirm(question, err=True):
        raise click.exceptions.Exit(1)


@command()
@click.option("--older-than", type=span, metavar="TIME", help="Those written longer ago (30d, 12h).")
@click.option(
    "--idle", type=span, metavar="TIME", help="Those last used longer ago, where a tier knows: disk."
)
@click.option("--expired", is_flag=True, help="Those that are past their time.")
@in_namespace
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
@ending_soon()
def purge(
    settings: Settings,
    older_than: str | None,
    idle: str | None,
    expired: bool,
    namespace: tuple[str, ...],
    as_json: bool,
) -> int:
    """Drop entries by their age.

    Says how many: what several tiers held is counted once. When an entry was last used is known to disk
    tiers alone; the others are named then, and keep theirs. On Redis all keys of the database are looked at.
    """
    if not (older_than or idle or expired):
        raise click.UsageError("say which: --older-than TIME, --idle TIME or --expired, or several of them")
    with open_cache(settings, namespace, writes=True) as cache:
        try:
            dropped = cache.purge(expired=expired, older_than=older_than, idle=idle)
        except ConfigError as error:  # none of its tiers can tell
            raise Failed(str(error)) from error
        if as_json:
            show_json({"dropped": dropped})
        else:
            say(f"{entries(dropped)} dropped")
        return _well(cache)


def _well(cache: TieredCache[Any], keeper: str | None = None) -> int:
    """The exit code: 1 if a tier did not do what it was asked, which was told when it failed, and which the
    ``keeper`` has noted."""
    ill = [tier.name for tier in cache.stats().tiers if tier.errors or tier.timeouts or tier.skipped]
    if ill and keeper is not None:
        note(put_off("cleared", ill, keeper))
    elif ill:
        note(f"not done in {', '.join(ill)}; repeat it when that is well")
    return 1 if ill else 0
