"""What a loader made, as entries to store: a value that cannot be stored is told of, once, and left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tiercache._chain.batch import Batch
from tiercache._chain.core import Core
from tiercache._loading.loaded import Answer
from tiercache._loading.loaders import Load
from tiercache._loading.telling import loader_name
from tiercache._log import logger
from tiercache.errors import CodecError, EntryRejected

__all__ = ["entries", "tell_too_large"]


def entries(core: Core, answer: Answer, keys: Iterable[str], load: Load) -> Batch:
    """The values of ``answer`` under ``keys``, each for its own ttl, or else for that of ``load``. Raises
    nothing: the values were paid for."""
    if not answer.ttls:
        kept = {key: answer.values[key] for key in keys if key in answer.values}
        return _storable(core, kept, load.ttl, load) if kept else Batch({}, core.codec)
    by_ttl: dict[float | None, dict[str, Any]] = {}
    for key in keys:
        if key in answer.values:
            by_ttl.setdefault(answer.ttls.get(key, load.ttl), {})[key] = answer.values[key]
    return _merged(core, (_storable(core, values, ttl, load) for ttl, values in by_ttl.items()))


def tell_too_large(
    core: Core, batch: Batch, taken: Sequence[tuple[str, int, Exception | None]], load: Load
) -> None:
    """Tell of the values of ``batch`` that every tier refused as too large; ``taken`` is what `write_all`
    said."""
    refused = set(batch.objects)
    for member, (_, _, failure) in zip(core.members, taken, strict=True):
        if not isinstance(failure, EntryRejected):
            return
        names = member.fold_all(list(batch.objects))
        known = dict(zip(names, batch.objects, strict=True))
        refused &= {known[name] for name in failure.keys if name in known}
    for key in refused:
        size = batch.objects[key].size
        _lost(
            core,
            load,
            "too large",
            f"a loaded value of {size or 0:,} bytes is larger than the whole of every tier",
            "give one of them a larger max_bytes",
        )


def _storable(core: Core, values: dict[str, Any], ttl: float | None, load: Load) -> Batch:
    try:
        return core.batch(values, ttl, load.staleness)
    except (CodecError, TypeError) as error:
        if len(values) == 1:
            (value,) = values.values()
            _tell_unstorable(core, value, error, load)
            return Batch({}, core.codec)
    return _merged(core, (_storable(core, {key: value}, ttl, load) for key, value in values.items()))


def _tell_unstorable(core: Core, value: Any, error: Exception, load: Load) -> None:
    kind = type(value).__name__
    if core.codec is None:
        said = f"a loaded {kind} cannot be stored by a cache of bytes"
        remedy = "give the cache (or a view) a codec, for instance codec=JSONCodec() from tiercache.codecs"
    else:
        said = f"a loaded {kind} cannot be stored by the codec {core.codec.name!r} ({_reason(error)})"
        data = " (of a model its .model_dump())" if hasattr(type(value), "model_dump") else ""
        remedy = f"return what the codec takes{data}, or give a codec= that takes this"
    _lost(core, load, "unstorable", said, remedy)


def _reason(error: Exception) -> str:
    """The message of an error of our own codecs, which holds no value; of another's only its name."""
    trace = error.__traceback__
    module = ""
    while trace is not None:
        module, trace = str(trace.tb_frame.f_globals.get("__name__")), trace.tb_next
    return str(error) if module.startswith("tiercache.") else type(error).__name__


def _lost(core: Core, load: Load, what: str, said: str, remedy: str) -> None:
    with core.stack.counters.lock:
        core.stack.counters.unstorable += 1
    loader = loader_name(load.load_many)
    if core.stack.told.first(what, loader):
        logger().warning("%s, so %s is called for it each time; %s", said, loader, remedy)


def _merged(core: Core, batches: Iterable[Batch]) -> Batch:
    merged: Batch | None = None
    for batch in batches:
        merged = batch if merged is None else merged.merged(batch)
    return Batch({}, core.codec) if merged is None else merged
