"""Codecs in a configuration: a name, or a table with the options of a codec and of those around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from tiercache._masking import blot
from tiercache.codecs import EncryptedCodec, ZstdCodec
from tiercache.config._kinds import Keys, Level, Weight, choice
from tiercache.config._models import Options
from tiercache.config._options import check_foreign, said, type_of, validate
from tiercache.config._problems import Problems, close, join, show
from tiercache.config._variables import VariableError, expand
from tiercache.protocols import Codec
from tiercache.registry import codec, codec_maker, codec_names, is_codec

__all__ = [
    "BESIDES",
    "LAYERS",
    "OWN_CODECS",
    "EncryptedOptions",
    "NamedVectorOptions",
    "VectorOptions",
    "ZstdOptions",
    "make_codec",
]

_COMPRESSED = "zstd-"
#: The type whose ``dtype`` says which vectors; the registry has a name for each of them.
_VECTOR = "vector"


class NoOptions(Options):
    """Of a codec that has none."""


class VectorOptions(Options):
    dtype: Annotated[str, choice("float32", "float64", "float16")] = "float32"
    as_: Annotated[str, choice("list", "array")] = "list"


class NamedVectorOptions(Options):
    """Of one whose name says its ``dtype``."""

    as_: Annotated[str, choice("list", "array")] = "list"


class ZstdOptions(Options):
    level: Level = 3
    max_bytes: Weight = "64MiB"


class EncryptedOptions(Options):
    key: Keys


#: The options that each type of ours has in a table; one that somebody else registered tells by itself.
OWN_CODECS: dict[str, type[Options]] = {
    "bytes": NoOptions,
    "json": NoOptions,
    "text": NoOptions,
    _VECTOR: VectorOptions,
    "vector-f2": NamedVectorOptions,
    "vector-f4": NamedVectorOptions,
    "vector-f8": NamedVectorOptions,
}


@dataclass(frozen=True, slots=True)
class _Layer:
    """A codec round another: the key of its options, and the text that stands for it without any."""

    key: str
    make: Callable[..., Any]
    model: type[Options]
    short: str | None


#: The innermost first: what is encrypted cannot be made smaller.
LAYERS = (
    _Layer("compress", ZstdCodec, ZstdOptions, "zstd"),
    _Layer("encrypt", EncryptedCodec, EncryptedOptions, None),
)
BESIDES = tuple(layer.key for layer in LAYERS)


def make_codec(given: Any, folder: Path | None, problems: Problems, path: str) -> Codec[Any] | None:
    """The codec that ``given`` stands for: a name, a table, a codec itself, or ``None``.

    What is wrong is added to ``problems``; ``None`` then. Relative paths of a codec of somebody else begin at
    ``folder`` where there is one.
    """
    made: Any = given
    if isinstance(given, str):
        made = _made(lambda: codec(given), problems, path)
    elif isinstance(given, Mapping):
        before = problems.count
        made = _of_table(given, folder, problems, path)
        if problems.count > before:
            return None
    if isinstance(made, type) or not (made is None or isinstance(made, Codec)):
        problems.add(path, f"its type made a {type(made).__name__}, which is no codec")
        return None
    return made


def _of_table(given: Mapping[Any, Any], folder: Path | None, problems: Problems, path: str) -> Any:
    made = _innermost(given, folder, problems, path)
    for layer in LAYERS:
        made = _wrapped(made, layer, given.get(layer.key), problems, join(path, layer.key))
    return made


def _innermost(given: Mapping[Any, Any], folder: Path | None, problems: Problems, path: str) -> Any:
    kind, rest = type_of(
        {key: value for key, value in given.items() if key not in BESIDES},
        problems,
        path,
        known=lambda: (*filter(_is_innermost, codec_names()), _VECTOR),
        is_known=lambda name: name == _VECTOR or (is_codec(name) and _is_innermost(name)),
        meant=close,
        options=OWN_CODECS.values(),
        register="register_codec",
    )
    if kind is None:
        return None
    maker = _made(lambda: codec_maker("vector-f4" if kind == _VECTOR else kind), problems, path)
    if maker is None:
        return None
    if kind in OWN_CODECS:
        options = validate(OWN_CODECS[kind], rest, problems, path, BESIDES)
        arguments = None if options is None else options.given()
    else:
        arguments = check_foreign(maker, rest, folder, problems, path, BESIDES)
    return None if arguments is None else _made(lambda: maker(**arguments), problems, path, arguments)


def _is_innermost(name: str) -> bool:
    return not name.startswith(_COMPRESSED)  # a table says that by "compress"


def _wrapped(inner: Any, layer: _Layer, given: Any, problems: Problems, path: str) -> Any:
    """``inner`` in the codec that ``given`` asks for, if any."""
    try:
        given = expand(given) if isinstance(given, str) else given
    except VariableError as error:
        problems.add(path, str(error))
        return None
    if given is None or given == "none":
        return inner
    if isinstance(given, Mapping):
        options = validate(layer.model, given, problems, path)
        arguments = None if options is None else options.given()
    elif given == layer.short:
        arguments = {}
    else:
        # Text may be a key that was written in the wrong place.
        hidden = layer.short is None and isinstance(given, str | bytes)
        found = "a value that is not shown" if hidden else show(given)
        short = f'"{layer.short}", ' if layer.short else ""
        table = f"a table with {', '.join(layer.model.model_fields)}"
        problems.add(path, f'found {found}; allowed: {short}{table}, or "none"')
        return None
    return (
        None
        if arguments is None
        else _made(lambda: layer.make(inner, **arguments), problems, path, arguments)
    )


def _made(
    make: Callable[[], Any], problems: Problems, path: str, given: Mapping[str, Any] = MappingProxyType({})
) -> Any:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - what somebody else's raises is told, with where it is
        problems.add(path, blot(said(error), given))
    return None
