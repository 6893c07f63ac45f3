"""The methods of a cache that make others over the same tiers: another namespace, codec, or defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from tiercache._chain.arguments import check_codec
from tiercache._chain.core import Core
from tiercache._chain.view import TTL, View
from tiercache._ledgered import check_model
from tiercache._loading.options import Manner
from tiercache._loading.pace import Made
from tiercache._loading.staleness import Staleness
from tiercache.entry import UNSET
from tiercache.keys import Namespace
from tiercache.protocols import Codec

if TYPE_CHECKING:
    from tiercache.chain import TieredCache

__all__ = ["ViewMethods"]

T = TypeVar("T")
U = TypeVar("U")


class ViewMethods(View[T]):
    """Part of `TieredCache`."""

    _sibling: Callable[[Core, float | None, Manner], TieredCache[Any]]

    @overload
    def view(
        self, namespace: str, *, codec: None = None, ttl: TTL = UNSET, model: str | None = None
    ) -> TieredCache[bytes]: ...
    @overload
    def view(
        self, namespace: str, *, codec: Codec[U], ttl: TTL = UNSET, model: str | None = None
    ) -> TieredCache[U]: ...
    def view(
        self,
        namespace: str,
        *,
        codec: Codec[Any] | None = None,
        ttl: TTL = UNSET,
        model: str | None = None,
    ) -> TieredCache[Any]:
        """Another namespace, nested in this one, and another value type over the same tiers.

        The codec is not inherited: without ``codec=`` a view's values are bytes. ``ttl``, ``model`` and the
        options of loading are inherited; budgets, connections and statistics are shared. Closing a view
        closes that view alone; closing the cache closes its views. A view can be made again at any time, and
        costs nothing once it is forgotten. With nothing but a name that the configuration gave to a view it
        is that one.
        """
        self._check_open()
        check_codec(codec)
        bare = codec is None and ttl is UNSET and model is None
        if bare and isinstance(namespace, str) and namespace in self._named:
            return self._open_view(**self._named[namespace])
        return self._open_view(namespace, codec, ttl, model)

    def _open_view(
        self,
        namespace: str,
        codec: Codec[Any] | None = None,
        ttl: TTL = UNSET,
        model: str | None = None,
    ) -> TieredCache[Any]:
        path = Namespace(self._core.path).child(namespace).path
        core = Core(self._stack, path, codec, check_model(model) or self._core.model)
        return self._sibling(core, self._seconds(ttl), self._manner)

    @property
    def codec(self) -> Codec[T] | None:
        """What turns this cache's values into bytes; ``None``: they are bytes."""
        return self._core.codec

    def with_codec(self, codec: Codec[Any] | None) -> TieredCache[Any]:
        """A view of this very namespace with another codec, which does not see the other's values."""
        self._check_open()
        check_codec(codec)
        core = Core(self._stack, self._core.path, codec, self._core.model)
        return self._sibling(core, self._ttl, self._manner)

    def with_staleness(self, staleness: Staleness) -> TieredCache[T]:
        """A view of this very namespace with other defaults for its calls: for `restore`."""
        return self.with_manner(self._manner._replace(staleness=staleness))

    def with_options(self, options: Mapping[str, Any], made: Made) -> TieredCache[T]:
        """A view of this very namespace with these ``options`` for its loads, which count in ``made``."""
        self._check_open()
        return self.with_manner(self._options(options, made))

    def with_manner(self, manner: Manner) -> TieredCache[T]:
        """The same for `memoize`."""
        return self._sibling(self._core, self._ttl, manner)
