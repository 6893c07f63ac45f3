"""`tiercache warm`: fill a cache from lines of JSON."""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import click

from tiercache._words import entries
from tiercache.chain import TieredCache
from tiercache.cli._context import Failed, Settings, command, in_namespace, open_cache
from tiercache.cli._interrupts import ending_soon
from tiercache.cli._output import note, progress, show_json
from tiercache.cli._payloads import payloads
from tiercache.codecs._wrapping import WrappingCodec
from tiercache.entry import UNSET
from tiercache.errors import CodecError, ConfigError, WriteError
from tiercache.units import optional_duration

__all__ = ["warm"]

#: What is in memory at a time.
_LINES: Final = 500
_BYTES: Final = 4 << 20
#: Bad lines that are named one by one.
_NAMED: Final = 20
_FIELDS: Final = ("key", "value", "value_base64", "ttl")


class _BadLineError(Exception):
    """Why a line is left out, with no word of the value on it."""


class _Line(NamedTuple):
    """One entry: ``value`` for the codec, or the bytes that it would make (``encoded``). It stands for
    ``lines`` of them, the others being earlier ones of its key."""

    number: int
    key: str
    value: Any
    encoded: bool
    ttl: Any
    lines: int = 1


@command()
@click.argument("file", metavar="FILE")
@in_namespace
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
@ending_soon()
def warm(settings: Settings, file: str, namespace: tuple[str, ...], as_json: bool) -> int:
    """Store the entries that the lines of FILE describe ("-": stdin).

    Each line is a JSON object with "key" and "value", and perhaps "ttl" (seconds, or text such as "5m"; null:
    until evicted). A cache of bytes takes text as UTF-8; "value_base64" in the place of "value" is for
    other bytes, and for those that a codec has made. A bad line is named and left out; the exit code is 1
    then.
    """
    with (
        open_cache(settings, namespace, writes=True) as cache,
        _opened(file) as stream,
        progress("warming") as advance,
    ):
        run = _Warming(cache, advance)
        try:
            run.take(stream)
        except WriteError as error:
            raise Failed(f"line {run.line:,}: {error}; stored before it: {entries(run.stored)}") from error
    if as_json:
        failed = sorted(run.failed | run.small)
        show_json({"stored": run.stored, "bad_lines": run.bad, "failed_tiers": failed})
    else:
        note(
            f"{entries(run.stored)} stored"
            + (f", {run.bad:,} bad {'line' if run.bad == 1 else 'lines'} left out" if run.bad else "")
        )
    if run.small:
        note(f"not all of them in {', '.join(sorted(run.small))}: they are larger than all of its room")
    if run.failed:
        note(f"not all of them in {', '.join(sorted(run.failed))}; run it again when that is well")
    return 1 if run.bad or run.failed or run.small else 0


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as stream:
        yield stream


class _Warming:
    """One run. ``stored`` counts the lines whose entry is in a tier that outlives this process; ``failed``
    and ``small`` name those that lack some: they were ill, or an entry is larger than all their room."""

    def __init__(self, cache: TieredCache[Any], advance: Callable[[int], None]) -> None:
        self.stored = self.bad = self.line = 0
        self.failed: set[str] = set()
        self.small: set[str] = set()
        self._cache = cache
        guards = cache._stack.guards  # noqa: SLF001 - whose memory goes away is no business of its users
        self._lasting = {guard.name for guard in guards if not getattr(guard.tier, "nonblocking", False)}
        self._lasting = self._lasting or {guard.name for guard in guards}
        self._payloads = payloads(cache)
        self._advance = advance
        self._waiting: dict[str, _Line] = {}

    def take(self, lines: Iterable[bytes]) -> None:
        """Store what ``lines`` describe, batch by batch; of a key that comes twice the last one counts."""
        size = 0
        for text in lines:
            self.line += 1
            size += len(text)
            if text.strip():
                try:
                    line = _parsed(self.line, text, self._cache)
                except _BadLineError as error:
                    self._refuse(self.line, str(error))
                else:
                    self._take(line)
            if len(self._waiting) >= _LINES or size >= _BYTES:
                self._flush()
                size = 0
            self._advance(1)
        self._flush()

    def _take(self, line: _Line) -> None:
        """Have ``line`` wait, in the place of an earlier one of its key; unless its value is none for the
        codec, which leaves the earlier one where it is, as if it had been stored already."""
        earlier = self._waiting.get(line.key)
        if earlier is None:
            self._waiting[line.key] = line
        elif self._is_good(line):
            # One that stands for several was looked at when it came.
            lines = earlier.lines if earlier.lines > 1 or self._is_good(earlier) else 0
            self._waiting[line.key] = line._replace(lines=1 + lines)

    def _is_good(self, line: _Line) -> bool:
        cache = self._payloads if line.encoded else self._cache
        try:
            cache._core.batch({line.key: line.value}, None)  # noqa: SLF001 - what storing begins with, alone
        except (CodecError, TypeError) as error:
            self._refuse(line.number, str(error))
            return False
        return True

    def _flush(self) -> None:
        lines, self._waiting = list(self._waiting.values()), {}
        groups: dict[tuple[bool, Any], list[_Line]] = {}
        for line in lines:
            groups.setdefault((line.encoded, line.ttl), []).append(line)
        for group in groups.values():
            try:
                self._store(group)
            except (CodecError, TypeError):  # before anything of it was stored
                for line in group:
                    try:
                        self._store([line])
                    except (CodecError, TypeError) as error:
                        self._refuse(line.number, str(error))

    def _store(self, lines: list[_Line]) -> None:
        """Store ``lines``; of several of which one is too large, each half by itself: a tier does not tell
        which ones it took. Raises `WriteError` if no tier is well enough to take them."""
        cache = self._payloads if lines[0].encoded else self._cache
        before = self._rejected()
        accepted, failed, failure = self._taken(cache, lines)
        small = {name for name, count in self._rejected().items() if count > before[name]}
        if small and len(lines) > 1:
            middle = len(lines) // 2
            self._store(lines[:middle])
            self._store(lines[middle:])
        elif small and not accepted and failed <= small:
            self._refuse(lines[0].number, f"larger than all the room of {', '.join(sorted(small))}")
        elif failure is not None or not accepted:
            raise failure or WriteError(f"not taken by {', '.join(sorted(failed))}")
        else:
            self.failed |= failed - small
            self.small |= small
            self.stored += sum(line.lines for line in lines)

    def _taken(
        self, cache: TieredCache[Any], lines: list[_Line]
    ) -> tuple[set[str], set[str], WriteError | None]:
        """The lasting tiers that took ``lines``, and those that did not take all of them."""
        try:
            result = cache.mset([(line.key, line.value) for line in lines], ttl=lines[0].ttl)
        except WriteError as error:
            return set(), self._lasting, error
        return self._lasting.intersection(result.accepted), self._lasting.intersection(result.failed), None

    def _rejected(self) -> dict[str, int]:
        """How many entries each lasting tier has refused, as no room that it has would do."""
        return {tier.name: tier.rejected for tier in self._cache.stats().tiers if tier.name in self._lasting}

    def _refuse(self, number: int, reason: str) -> None:
        self.bad += 1
        if self.bad <= _NAMED:
            note(f"line {number:,}: {reason}")
        elif self.bad == _NAMED + 1:
            note("more bad lines are counted, and not named")


def _parsed(number: int, text: bytes, cache: TieredCache[Any]) -> _Line:
    """The entry on a line. Raises `_BadLineError`."""
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        where = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise _BadLineError(f"no JSON{where}") from None
    if not isinstance(data, dict):
        raise _BadLineError("no JSON object")
    unknown = [name for name in data if name not in _FIELDS]
    if unknown:
        raise _BadLineError(f"{unknown[0]!r:.60} is not known; it has {', '.join(map(repr, _FIELDS))}")
    key = data.get("key")
    if not isinstance(key, str):
        raise _BadLineError('"key" is missing' if "key" not in data else '"key" is no text')
    if ("value" in data) == ("value_base64" in data):
        raise _BadLineError('one of "value" and "value_base64" is needed')
    encoded = "value_base64" in data
    value = _bytes(data["value_base64"]) if encoded else _value(data["value"], cache)
    return _Line(number, key, value, encoded, _ttl(data))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):  # JSON would take the last one, and nobody would know what was left out
        raise _BadLineError("one object has the same name twice")
    return table


def _bytes(text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise _BadLineError('"value_base64" is no base64') from None


def _value(value: Any, cache: TieredCache[Any]) -> Any:
    if value is None:
        raise _BadLineError('"value" is null, which is no value')
    if not _is_of_bytes(cache):
        return value
    if not isinstance(value, str):
        raise _BadLineError('"value" is no text, and this cache is of bytes')
    return value.encode("utf-8", "surrogatepass")


def _is_of_bytes(cache: TieredCache[Any]) -> bool:
    codec: Any = cache.codec
    while isinstance(codec, WrappingCodec):
        codec = codec.inner
    return codec is None or codec.name == "bytes"


def _ttl(data: dict[str, Any]) -> Any:
    if "ttl" not in data:
        return UNSET
    try:
        return optional_duration(data["ttl"], name='"ttl"')
    except ConfigError as error:
        raise _BadLineError(str(error)) from None
