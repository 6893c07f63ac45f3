"""`StoreTier`: any LangChain ``ByteStore`` as a tier of a chain."""

from __future__ import annotations

from langchain_core.stores import BaseStore

from tiercache.errors import ConfigError
from tiercache.integrations.langchain._blobs import blobs_in
from tiercache.protocols import SYSTEM_CLOCK, Clock
from tiercache.tiers.encoded import EncodedTier
from tiercache.units import Duration, optional_duration

__all__ = ["StoreTier"]


class StoreTier(EncodedTier):
    """Entries in ``byte_store``, a LangChain store of bytes (`InMemoryByteStore`, `LocalFileStore` …).

    What is stored is verified when it is read and expires on time, whatever the store does about either;
    names in the store are digests, so that any key is one it takes. Its async methods are used where they
    are its own, else worker threads. Blocking calls of this tier let many readers or one writer at it;
    what other processes do at the same time is between them and the store.

    Listing, `clear` and `purge` read every value of ours in the store, in batches, since only those tell
    their keys and times; other keys of a store that is shared are left alone. Expired entries stay until
    they are overwritten or purged, and nothing bounds the store's size. It is not closed by this tier.

    ``ttl`` is the longest that this tier holds an entry (seconds, or text such as ``"30d"``).

    Raises `ConfigError` for what is no LangChain store, `MissingPackage` without ``xxhash``.
    """

    def __init__(
        self,
        byte_store: BaseStore[str, bytes],
        *,
        name: str | None = None,
        ttl: Duration | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not isinstance(byte_store, BaseStore):
            raise ConfigError(
                f"StoreTier: a {type(byte_store).__name__} is no LangChain store; give an object of a class "
                f"derived from langchain_core.stores.ByteStore"
            )
        name = name or type(byte_store).__name__.lower()
        super().__init__(
            blobs_in(byte_store, name=name, clock=clock),
            name=name,
            ttl=optional_duration(ttl, name="StoreTier.ttl"),
            clock=clock,
        )
