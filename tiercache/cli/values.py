"""`tiercache get`, `set` and `delete`: one value as bytes, on stdout and from stdin."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from tiercache.chain import TieredCache, WriteResult
from tiercache.cli._context import (
    Failed,
    Settings,
    command,
    in_namespace,
    journal_of,
    life,
    open_cache,
    put_off,
)
from tiercache.cli._interrupts import ending_soon
from tiercache.cli._look import held
from tiercache.cli._output import note, printable, write
from tiercache.cli._payloads import payloads, payloads_of
from tiercache.entry import UNSET
from tiercache.errors import CodecError, WriteError

__all__ = ["delete", "get", "set_value"]

#: What a ``--ttl`` that is no duration stands for.
_LIVES: dict[str | None, Any] = {None: UNSET, "none": None}


@command()
@click.argument("key")
@in_namespace
@click.pass_obj
@ending_soon()
def get(settings: Settings, key: str, namespace: tuple[str, ...]) -> int:
    """Write the value under KEY to stdout.

    Its bytes are those that the cache's codec made: JSON text for a cache of JSON, packed numbers for one of
    vectors. Compressed and encrypted values are opened. If there is none: nothing, and exit code 1.
    """
    with open_cache(settings, namespace) as cache:
        value, foreign = _value(cache, key)
        ours = _codec_name(cache)
    if value is None:
        return 1
    if foreign is not None:
        note(f"it is of the codec {printable(foreign)!r}, and a miss for this cache, whose codec is {ours!r}")
    write(value)
    return 0


def _value(cache: TieredCache[Any], key: str) -> tuple[bytes | None, str | None]:
    """The bytes under ``key``. A function or view of the application may have stored them with a codec of its
    own, which is not known here: then as the tiers hold them, and the codec's name."""
    ours = payloads(cache)
    codecs = {copy.entry.codec: None for copy in held(cache, key) if copy.entry is not None}
    if not codecs or _codec_name(ours) in codecs:
        return ours.get(key), None
    found = ((payloads_of(cache, name).get(key), name) for name in codecs)
    return next(((value, name) for value, name in found if value is not None), (None, None))


def _codec_name(cache: TieredCache[Any]) -> str:
    return cache.codec.name if cache.codec is not None else "bytes"


@command("set")
@click.argument("key")
@click.argument("value", required=False)
@click.option(
    "--ttl", type=life, metavar="TIME", help='How long it lives (30s, 5m, 30d), or "none": until evicted.'
)
@in_namespace
@click.pass_obj
@ending_soon()
def set_value(
    settings: Settings, key: str, value: str | None, ttl: str | None, namespace: tuple[str, ...]
) -> int:
    """Store VALUE, or what stdin holds, under KEY.

    It is what `get` writes: the bytes that the cache's codec makes, and other bytes are refused. Without
    --ttl it lives as long as the cache says.
    """
    data = sys.stdin.buffer.read() if value is None else os.fsencode(value)
    with open_cache(settings, namespace, writes=True) as cache:
        try:
            done = payloads(cache).set(key, data, ttl=_LIVES.get(ttl, ttl))
            refused = [tier.name for tier in cache.stats().tiers if tier.rejected]
        except (CodecError, WriteError) as error:
            raise Failed(str(error)) from error
    return _told(done, "stored", refused)


@command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@in_namespace
@click.pass_obj
@ending_soon()
def delete(settings: Settings, keys: tuple[str, ...], namespace: tuple[str, ...]) -> int:
    """Drop KEYS from every tier.

    It is no error if they were not there.
    """
    with open_cache(settings, namespace, writes=True) as cache:
        done = cache.mdelete(list(keys))
        keeper = journal_of(cache)
    if keeper is None:
        return _told(done, "deleted")
    if done.failed:
        note(put_off("deleted", done.failed, keeper))
    return 0 if done.ok else 1


def _told(done: WriteResult, what: str, refused: Sequence[str] = ()) -> int:
    """The exit code; says which tiers failed, and for which of them (``refused``) the value is too large."""
    ill = [name for name in done.failed if name not in refused]
    if refused:
        note(f"not {what} in {', '.join(refused)}: it is larger than all of its room")
    if ill:
        note(f"not {what} in {', '.join(ill)}; repeat it when that is well")
    return 0 if done.ok else 1
