"""This project's own cache, set up as the page says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.comparison.adapter import MISS, Adapter

__all__ = ["ADAPTERS"]

Make = Callable[[], Any]


class Tiercache(Adapter):
    """Memory over disk over Redis, JSON, ``lock="shared"``; ``stale_for`` and ``stale_if_error``."""

    def __init__(self, told: dict[str, Any]) -> None:
        from tiercache import DiskTier, MemoryTier, RedisTier, TieredCache
        from tiercache.codecs import JSONCodec

        super().__init__(told)
        self.cache: Any = TieredCache(
            [DiskTier(self.folder)]
            if told.get("disk_alone")
            else [MemoryTier(), DiskTier(self.folder), RedisTier(self.url)],
            namespace="app",
            ttl=self.life,
            codec=JSONCodec(),
            lock="shared",
        )

    def get(self, key: str) -> Any:
        return self.cache.get(key, MISS)

    def set(self, key: str, value: Any) -> None:
        self.cache.set(key, value)

    def delete(self, key: str) -> None:
        self.cache.delete(key)

    def load(self, key: str, make: Make) -> Any:
        return self.cache.get_or_load(key, lambda _key: make())

    def load_or_old(self, key: str, make: Make) -> Any:
        return self.cache.get_or_load(key, lambda _key: make(), stale_for=3600)

    def load_or_stale(self, key: str, make: Make) -> Any:
        return self.cache.get_or_load(key, lambda _key: make(), stale_if_error=3600)

    def load_none(self, key: str, make: Make) -> Any:
        return self.cache.cached(name="nones", cache_none=True)(lambda _key: make())(key)

    def get_many(self, keys: list[str]) -> list[Any]:
        return list(self.cache.mget(keys))

    def close(self) -> None:
        self.cache.close()

    def can_statistics(self) -> str:
        self.cache.get("nothing")
        tiers = self.cache.stats().tiers
        right = len(tiers) == 3 and all(tier.misses == 1 for tier in tiers)
        return "hits, misses and more, of each tier" if right else "no"

    def can_list(self) -> str:
        self.cache.set("list:a", 1)
        return "yes: by prefix" if list(self.cache.keys("list:")) == ["list:a"] else "no"

    def can_clear_a_namespace(self) -> str:
        one, two = self.cache.view("one"), self.cache.view("two")
        one.set("a", b"1")
        two.set("a", b"1")
        one.clear()
        return "yes" if one.get("a") is None and two.get("a") == b"1" else "no"

    def can_extend(self) -> str:
        from tiercache import MemoryTier, TieredCache

        with TieredCache([MemoryTier()], sliding=1) as cache:
            cache.mset({"used": b"1", "unused": b"1"})
            for _ in range(3):
                time.sleep(0.5)
                cache.get("used")
            right = cache.get("used") and not cache.get("unused")
        return "yes: `sliding`, by use" if right else "no"

    def can_sign(self) -> str:
        from tiercache import DiskTier, TieredCache
        from tiercache.codecs import EncryptedCodec, JSONCodec

        codec = EncryptedCodec(JSONCodec(), key=b"k" * 32)
        tier = DiskTier(f"{self.folder}-signed", secret="sixteen bytes or more")  # noqa: S106 - of this try
        with TieredCache([tier], codec=codec) as cache:
            cache.set("a", 1)
            own = cache.get("a") == 1
        tier = DiskTier(f"{self.folder}-signed", secret="another one, just as long")  # noqa: S106 - the same
        with TieredCache([tier], codec=codec) as cache:
            return "signed, or encrypted" if own and cache.get("a") is None else "no"

    def can_limit_rates(self) -> str:
        from tiercache import MemoryTier, TieredCache

        start = time.monotonic()
        with TieredCache([MemoryTier()], rate="1/s") as cache:
            for key in "ab":
                cache.get_or_load(key, lambda _key: b"1")
        return "for loaders alone: `rate`" if time.monotonic() - start > 0.9 else "no"

    def can_configure(self) -> str:
        from tiercache import TieredCache

        path = Path(f"{self.folder}.toml")
        path.write_text('[[tiers]]\ntype = "memory"\n')
        with TieredCache.from_config(path) as cache:
            return "yes: TOML, YAML, JSON, a mapping" if cache.set("a", b"1").ok else "no"

    def can_bound_bytes(self, bound: int, values: list[str]) -> str:
        from tiercache import DiskTier, MemoryTier, TieredCache
        from tiercache.codecs import TextCodec

        tiers = [MemoryTier(max_bytes=bound), DiskTier(f"{self.folder}-bound", max_bytes=bound)]
        with TieredCache(tiers, codec=TextCodec()) as cache:
            cache.mset((str(number), value) for number, value in enumerate(values))
            kept = cache.stats().tiers[0].bytes or 0
        files = [file for file in Path(f"{self.folder}-bound").rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files if "ballast" not in file.name)
        return f"{kept / 1e6:.1f} MB in memory, {size / 1e6:.1f} MB of files"


class TiercacheAwaited(Tiercache):
    """The same, awaited."""

    awaited = True

    async def load(self, key: str, make: Make) -> Any:
        async def made(_key: str) -> Any:
            return await make()

        return await self.cache.aget_or_load(key, made)

    async def get(self, key: str) -> Any:
        return await self.cache.aget(key, MISS)


ADAPTERS: dict[str, type[Adapter]] = {"tiercache": Tiercache, "tiercache, awaited": TiercacheAwaited}
