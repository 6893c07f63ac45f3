"""Names for use in configurations: which tier or codec a name stands for, imported at its first use.

A tier is registered as a class (or another callable that makes a tier) or as an import string
``"package.module:Name"``; its parameters are then the options that a configuration may give. Registering
is thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, TypeAlias

from tiercache.errors import ConfigError

__all__ = ["CHAIN", "codec", "codec_names", "register_tier", "tier_maker", "tier_names"]

#: What makes a tier.
Maker: TypeAlias = Callable[..., Any]

#: The type of a chain among the tiers of a chain. No class of its own is behind it.
CHAIN: Final = "chain"

_TIERS: dict[str, str | Maker] = {
    "memory": "tiercache.tiers.memory:MemoryTier",
    "disk": "tiercache.tiers.disk:DiskTier",
    "redis": "tiercache.tiers.redis:RedisTier",
    "sql": "tiercache.tiers.sql:SQLTier",
}

#: Each codec under the name that it stores beside its bytes, so that a name cannot mean two formats.
_CODECS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
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


def register_tier(name: str, tier: str | Maker) -> None:
    """Let configurations say ``type = name`` for ``tier``: a class, or ``"package.module:Name"``.

    Registering the same again changes nothing. Raises `ConfigError` for a name that is taken, and for what
    is neither.
    """
    if not isinstance(name, str) or not name or name != name.strip():
        raise ConfigError(f"register_tier: {name!r} is no name; give text without spaces around it")
    if not (callable(tier) or (isinstance(tier, str) and all(tier.partition(":")))):
        raise ConfigError(
            f'register_tier: {tier!r:.60} is neither a class nor an import string "package.module:Name"'
        )
    if name == CHAIN or _TIERS.setdefault(name, tier) != tier:
        raise ConfigError(f"register_tier: the name {name!r} is taken; choose another")


def tier_names() -> tuple[str, ...]:
    """All that ``type`` may be, in the order in which they were registered."""
    return (*_TIERS, CHAIN)


def tier_maker(name: str) -> Maker:
    """What makes the tier of that registered name.

    Raises `MissingPackage` where its package is absent, and `ConfigError` for an import string that leads
    nowhere.
    """
    tier = _TIERS[name]
    return _load(tier, f"the tier type {name!r}") if isinstance(tier, str) else tier


def codec_names() -> tuple[str, ...]:
    """All that ``codec`` may be."""
    return (*_CODECS, *(_COMPRESSED + name for name in _COMPRESSIBLE))


def codec(name: str) -> Any:
    """A codec of that name. Raises `MissingPackage` where its package is absent."""
    if name.startswith(_COMPRESSED):
        inner = codec(name.removeprefix(_COMPRESSED))
        return _load("tiercache.codecs:ZstdCodec", f"the codec {name!r}")(inner)
    where, options = _CODECS[name]
    return _load(where, f"the codec {name!r}")(**options)


def _load(where: str, what: str) -> Maker:
    module, _, name = where.partition(":")
    try:
        found: Maker = getattr(import_module(module), name)
    except ConfigError:  # a MissingPackage is an ImportError too, and says more
        raise
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{what} is registered as {where!r}, which cannot be imported: {error}") from error
    return found
