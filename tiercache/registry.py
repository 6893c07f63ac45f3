"""Names for use in configurations: which tier or codec a name stands for, imported at its first use.

A tier or codec is registered as a class (or another callable that makes one) or as an import string
``"package.module:Name"``; its parameters are then the options that a configuration may give. A package that
is installed offers them by the entry-point groups ``tiercache.tiers`` and ``tiercache.codecs``; these are
looked at when a name is asked for that is not registered. Registering is thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tiercache.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "CHAIN",
    "OWN_CODEC_NAMES",
    "codec",
    "codec_maker",
    "codec_names",
    "is_codec",
    "is_tier",
    "register_codec",
    "register_tier",
    "tier_maker",
    "tier_names",
]

#: What makes a tier or a codec.
Maker: TypeAlias = Callable[..., Any]

#: The type of a chain among the tiers of a chain. No class of its own is behind it.
CHAIN: Final = "chain"

_TIER_GROUP: Final = "tiercache.tiers"
_CODEC_GROUP: Final = "tiercache.codecs"

_TIERS: dict[str, str | Maker] = {
    "memory": "tiercache.tiers.memory:MemoryTier",
    "disk": "tiercache.tiers.disk:DiskTier",
    "redis": "tiercache.tiers.redis:RedisTier",
    "sql": "tiercache.tiers.sql:SQLTier",
    "null": "tiercache.tiers.null:NullTier",
}

#: Each codec of ours under the name that it stores beside its bytes, so that a name cannot mean two formats.
_OWN_CODECS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "bytes": ("tiercache.codecs:BytesCodec", {}),
    "json": ("tiercache.codecs:JSONCodec", {}),
    "text": ("tiercache.codecs:TextCodec", {}),
    "vector-f2": ("tiercache.codecs:VectorCodec", {"dtype": "float16"}),
    "vector-f4": ("tiercache.codecs:VectorCodec", {"dtype": "float32"}),
    "vector-f8": ("tiercache.codecs:VectorCodec", {"dtype": "float64"}),
}
#: Those of them that may have this before their name, and are compressed then. Vectors gain nothing by it.
_COMPRESSED: Final = "zstd-"
_COMPRESSIBLE: Final = ("bytes", "json", "text")
#: The names of all these.
OWN_CODEC_NAMES: Final = (*_OWN_CODECS, *(_COMPRESSED + name for name in _COMPRESSIBLE))
_CODECS: dict[str, str | Maker] = {}


def register_tier(name: str, tier: str | Maker) -> None:
    """Let configurations say ``type = name`` for ``tier``: a class, or ``"package.module:Name"``.

    Registering the same again changes nothing. Raises `ConfigError` for a name that is taken, and for what
    is neither.
    """
    _check("register_tier", name, tier)
    if name == CHAIN or _TIERS.setdefault(name, tier) != tier:
        raise ConfigError(f"register_tier: the name {name!r} is taken; choose another")


def register_codec(name: str, made: str | Maker) -> None:
    """Let configurations say ``codec = name`` for what ``made`` makes: a class, or ``"package.module:Name"``.

    Registering the same again changes nothing. Raises `ConfigError` for a name that is taken, and for what
    is neither.
    """
    _check("register_codec", name, made)
    if _is_own(name) or name == "none" or _CODECS.setdefault(name, made) != made:
        raise ConfigError(f"register_codec: the name {name!r} is taken; choose another")


def _check(caller: str, name: object, made: object) -> None:
    if not isinstance(name, str) or not name or name != name.strip():
        raise ConfigError(f"{caller}: {name!r} is no name; give text without spaces around it")
    if not (callable(made) or (isinstance(made, str) and all(made.partition(":")))):
        raise ConfigError(
            f'{caller}: {made!r:.60} is neither a class nor an import string "package.module:Name"'
        )


def is_tier(name: str) -> bool:
    """Whether ``type`` may be ``name``."""
    return name == CHAIN or name in _TIERS or name in _offered(_TIER_GROUP)


def tier_names() -> tuple[str, ...]:
    """All that ``type`` may be: what is registered, in that order, and what packages offer."""
    return (*dict.fromkeys((*_TIERS, *_offered(_TIER_GROUP))), CHAIN)


def tier_maker(name: str) -> Maker:
    """What makes the tier of that name.

    Raises `MissingPackage` where its package is absent, and `ConfigError` for an import string or an entry
    point that leads nowhere.
    """
    return _maker(name, _TIERS, _TIER_GROUP, f"the tier type {name!r}")


def is_codec(name: str) -> bool:
    """Whether ``codec`` may be ``name``."""
    return _is_own(name) or name in _CODECS or name in _offered(_CODEC_GROUP)


def codec_names() -> tuple[str, ...]:
    """All that ``codec`` may be."""
    return tuple(dict.fromkeys((*OWN_CODEC_NAMES, *_CODECS, *_offered(_CODEC_GROUP))))


def codec(name: str) -> Any:
    """A codec of that name, made with no options. Raises as `codec_maker` does."""
    return codec_maker(name)()


def codec_maker(name: str) -> Maker:
    """What makes the codec of that name; raises what `tier_maker` raises."""
    what = f"the codec {name!r}"
    if not _is_own(name):
        return _maker(name, _CODECS, _CODEC_GROUP, what)
    if name.startswith(_COMPRESSED):
        return partial(_load("tiercache.codecs:ZstdCodec", what), codec(name.removeprefix(_COMPRESSED)))
    where, options = _OWN_CODECS[name]
    return partial(_load(where, what), **options)


def _is_own(name: str) -> bool:
    return name in OWN_CODEC_NAMES


def _maker(name: str, registered: Mapping[str, str | Maker], group: str, what: str) -> Maker:
    made = registered.get(name)
    if made is None:
        return _from_package(_offered(group)[name], what)
    return _load(made, what) if isinstance(made, str) else made


def _load(where: str, what: str) -> Maker:
    module, _, name = where.partition(":")
    try:
        found: Maker = getattr(import_module(module), name)
    except ConfigError:  # a MissingPackage is an ImportError too, and says more
        raise
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{what} is registered as {where!r}, which cannot be imported: {error}") from error
    except Exception as error:
        raise ConfigError(
            f"{what} is registered as {where!r}, which cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ConfigError(f"{what} is registered as {where!r}, which is no class")
    return found


@cache
def _offered(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """What the packages that are installed offer in ``group``, by name. None of it is imported."""
    from importlib.metadata import entry_points  # few need it, and it costs more than this whole package

    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _from_package(points: tuple[EntryPoint, ...], what: str) -> Maker:
    point = points[0]
    packages = sorted({one.dist.name if one.dist else "?" for one in points})
    if len({one.value for one in points}) > 1:
        raise ConfigError(f"{what} is offered by several packages: {', '.join(packages)}; keep one of them")
    try:
        found: Maker = point.load()
    except ConfigError:  # it says what is missing
        raise
    except Exception as error:
        raise ConfigError(
            f"{what} is offered by the package {packages[0]!r} as {point.value!r}, which cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ConfigError(f"{what} is offered by the package {packages[0]!r} as {point.value!r}, no class")
    return found
