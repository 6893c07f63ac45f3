"""The half of a cache's methods that has to do with configurations: how it is made from one, the views in
that, and what it tells of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar

from tiercache._chain.view import View
from tiercache.errors import ConfigError

if TYPE_CHECKING:
    from tiercache.chain import TieredCache
    from tiercache.config import Built

__all__ = ["DescribedMethods", "NamedViews"]

T = TypeVar("T")


class DescribedMethods(View[T]):
    """Made from a configuration, part of `TieredCache`."""

    @classmethod
    def from_config(
        cls, source: str | PathLike[str] | Mapping[str, Any] | None = None, *, name: str | None = None
    ) -> TieredCache[Any]:
        """The cache that ``source`` describes: the path of a TOML, YAML or JSON file, or a mapping.

        Without one it is the file that ``$TIERCACHE_CONFIG`` names, or the nearest, from the working
        directory upward, of ``tiercache.toml`` and of ``pyproject.toml`` with a table ``[tool.tiercache]``.
        ``name`` says which one, where it describes several (``[caches.NAME]``).

        Its options are the parameters of the constructors, ``[[tiers]]`` a list of tables with a ``type``
        (``memory``, ``disk``, ``redis``, ``sql``, ``chain``, or a registered name), ``[views.NAME]`` what
        `views` gives. ``${VAR}`` and ``${VAR:-default}`` stand for environment variables (``$${`` for the
        characters themselves), ``"none"`` for ``None``; relative paths in a file begin at its folder. A
        variable such as ``TIERCACHE__TIERS__2__URL`` sets what it names. The cache can be pickled: it is
        built again where it is unpickled.

        Raises one `ConfigError` that names all that is wrong, and nothing stays open then; `MissingPackage`
        where reading the file needs a package.
        """
        from tiercache.config import build  # it needs pydantic

        cache = _made(build(source, cls, name))
        publisher = cache._stack.sharing  # noqa: SLF001 - see `View`
        if name is not None and publisher is not None:
            publisher.call(name)  # of several in a file the namespaces may all be the same
        return cache

    @classmethod
    def from_url(cls, *urls: str, **options: Any) -> TieredCache[Any]:
        """The cache of the tiers that ``urls`` name, the fastest first: ``memory://?max_bytes=256MiB``,
        ``disk:///var/cache/app``, ``redis://…``, ``sqlite:///…``, ``postgresql://…``, a registered name.

        A tier's options are query parameters, by the names of its constructor's; what a server's own URL has
        besides stays in it. ``options`` are those of a chain, as a configuration has them: ``namespace``,
        ``ttl``, ``codec`` (a name, a table or a codec), and so on. Raises what `from_config` raises.
        """
        from tiercache.config import build_urls

        return _made(build_urls(urls, options, cls))

    def config(self) -> dict[str, Any]:
        """The configuration that this cache was built from, by `from_config` or `from_url`: a new mapping of
        plain data, from which an equal cache can be built. References to variables are in it as they were
        given, and one to each variable that set an option; paths are absolute.

        Raises `ConfigError` for a cache that was made in code, for a view, and for a configuration that is no
        plain data.
        """
        self._check_open()
        if self._root is not None:
            raise ConfigError("config: this is a view; ask the cache that it was made from")
        if self._origin is None:
            raise ConfigError(
                "config: this cache was made in code; what from_config(...) or from_url(...) makes has one"
            )
        return self._origin.told()

    @property
    def views(self) -> Mapping[str, TieredCache[Any]]:
        """The views that the configuration names, by these names. Each look-up makes a new one: closing it
        closes that one alone. Empty for a cache that was made in code, and for a view."""
        this: Any = self
        return NamedViews(this, self._named)


def _made(built: Built[Any]) -> TieredCache[Any]:
    """The chain, which remembers what it was built from."""
    from tiercache._chain.pickling import Origin

    codecs = {name: options.get("codec") for name, options in built.views.items()}
    origin = Origin(built.chain, built.recipe, config=built.config, reason=built.reason, codecs=codecs)
    vars(built.chain).update(_origin=origin, _named=built.views)
    cache: TieredCache[Any] = built.chain
    return cache


class NamedViews(Mapping[str, Any]):
    """What `DescribedMethods.views` gives; read-only."""

    def __init__(self, cache: TieredCache[Any], names: Mapping[str, Any]) -> None:
        self._cache = cache
        self._names = names

    def __getitem__(self, name: str) -> TieredCache[Any]:
        if name not in self._names:
            raise KeyError(name)
        return self._cache.view(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<views {', '.join(map(repr, self))} of {self._cache!r}>"
