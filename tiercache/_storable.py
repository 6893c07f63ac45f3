"""What a loader made, as entries to store: a value that its codec refuses is told of, and left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiercache._batch import Batch
from tiercache._core import Core
from tiercache._loaded import Answer
from tiercache._log import logger
from tiercache._staleness import Staleness
from tiercache.errors import CodecError

__all__ = ["entries"]


def entries(
    core: Core, answer: Answer, keys: Iterable[str], ttl: float | None, staleness: Staleness
) -> Batch:
    """The values of ``answer`` under ``keys``, each for its own ttl, or else for ``ttl``. Raises nothing: the
    values were paid for."""
    by_ttl: dict[float | None, dict[str, Any]] = {}
    for key in keys:
        if key in answer.values:
            by_ttl.setdefault(answer.ttls.get(key, ttl), {})[key] = answer.values[key]
    return _merged(core, (_storable(core, values, one, staleness) for one, values in by_ttl.items()))


def _storable(core: Core, values: dict[str, Any], ttl: float | None, staleness: Staleness) -> Batch:
    try:
        return core.batch(values, ttl, staleness)
    except CodecError as error:
        if len(values) == 1:
            with core.stack.counters.lock:
                core.stack.counters.unstorable += 1
            # Not the error's message: that is the codec's, and may hold the value.
            logger().warning(
                "a loaded %s cannot be stored by the codec %r (%s), and is loaded anew each time",
                *(type(value).__name__ for value in values.values()),
                getattr(core.codec, "name", None),
                type(error).__name__,
            )
            return Batch({}, core.codec)
    return _merged(core, (_storable(core, {key: value}, ttl, staleness) for key, value in values.items()))


def _merged(core: Core, batches: Iterable[Batch]) -> Batch:
    merged: Batch | None = None
    for batch in batches:
        merged = batch if merged is None else merged.merged(batch)
    return Batch({}, core.codec) if merged is None else merged
