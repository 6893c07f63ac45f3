"""The caches that are awaited, each set up as the page says: with the strongest protection it offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.comparison.adapter import MISS, Adapter

__all__ = ["ADAPTERS"]

Make = Callable[[], Any]


class Aiocache(Adapter):
    """``Cache(Cache.REDIS)``, which writes JSON, with ``cached_stampede``."""

    awaited = True

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told)
        self.makes: dict[str, Make] = {}

    async def begin(self) -> None:
        import aiocache
        from aiocache.serializers import JsonSerializer

        about: dict[str, Any] = {"endpoint": "127.0.0.1", "port": self.port, "namespace": "app"}
        self.cache = aiocache.Cache(aiocache.Cache.REDIS, ttl=self.life, **about)

        @aiocache.cached_stampede(
            lease=30,
            ttl=self.life,
            cache=aiocache.Cache.REDIS,
            serializer=JsonSerializer(),
            key_builder=lambda _function, key: key,
            **about,
        )
        async def loaded(key: str) -> Any:
            return await self.makes[key]()

        self.loaded = loaded

    async def get(self, key: str) -> Any:
        return await self.cache.get(key, default=MISS)

    async def set(self, key: str, value: Any) -> None:
        await self.cache.set(key, value)

    async def delete(self, key: str) -> None:
        await self.cache.delete(key)

    async def load(self, key: str, make: Make) -> Any:
        self.makes[key] = make
        return await self.loaded(key)

    async def get_many(self, keys: list[str]) -> list[Any]:
        return list(await self.cache.multi_get(keys))

    async def can_count(self) -> str:
        await self.cache.increment("n")
        return "yes" if await self.cache.increment("n") == 2 else "no"

    async def can_lock(self) -> str:
        from aiocache.lock import OptimisticLock, RedLock

        await self.cache.set("checked", 1)
        async with RedLock(self.cache, "lock", 5), OptimisticLock(self.cache, "checked") as checked:
            await checked.cas(2)
        return "yes: `RedLock`, `OptimisticLock`" if await self.cache.get("checked") == 2 else "no"

    async def can_statistics(self) -> str:
        from aiocache import SimpleMemoryCache
        from aiocache.plugins import HitMissRatioPlugin

        cache = SimpleMemoryCache(plugins=[HitMissRatioPlugin()])
        await cache.get("nothing")
        return "hits and their ratio, by a plug-in" if cache.hit_miss_ratio["total"] == 1 else "no"

    async def can_extend(self) -> str:
        await self.cache.set("t", 1, ttl=1)
        return "yes: `expire`" if await self.cache.expire("t", ttl=100) else "no"

    async def can_clear_a_namespace(self) -> str:
        await self.cache.set("a", 1, namespace="one")
        await self.cache.set("a", 1, namespace="two")
        await self.cache.clear(namespace="one")
        gone = not await self.cache.exists("a", namespace="one")
        return "yes" if gone and await self.cache.exists("a", namespace="two") else "no"

    async def can_configure(self) -> str:
        from aiocache import caches

        caches.set_config({"default": {"cache": "aiocache.SimpleMemoryCache"}})
        return "yes: a mapping" if caches.get("default") is not None else "no"


class Cashews(Adapter):
    """``client_side=True``: memory that Redis keeps in step; ``cache(lock=True)``. The protocol is redis-py's
    older one: with its newer, which is that of redis-py 8, what the server takes back is not heard of."""

    awaited = True

    async def begin(self) -> None:
        from cashews import Cache

        self.makes: dict[str, Make] = {}
        self.cache = cache = Cache()
        cache.setup(self.url, client_side=True, protocol=2)
        await cache.init()

        @cache(ttl=self.life, key="{key}", lock=True)
        async def loaded(key: str) -> Any:
            return await self.makes[key]()

        @cache.early(ttl=3600, early_ttl=self.life, key="{key}")
        async def early(key: str) -> Any:
            return await self.makes[key]()

        @cache.soft(ttl=3600, soft_ttl=self.life, key="{key}")
        async def soft(key: str) -> Any:
            return await self.makes[key]()

        self.loaded, self.early, self.soft = loaded, early, soft

    async def get(self, key: str) -> Any:
        return await self.cache.get(key, default=MISS)

    async def set(self, key: str, value: Any) -> None:
        await self.cache.set(key, value, expire=self.life)

    async def delete(self, key: str) -> None:
        await self.cache.delete(key)

    async def load(self, key: str, make: Make) -> Any:
        self.makes[key] = make
        return await self.loaded(key=key)

    async def load_or_old(self, key: str, make: Make) -> Any:
        self.makes[key] = make
        return await self.early(key=key)

    async def load_or_stale(self, key: str, make: Make) -> Any:
        self.makes[key] = make
        return await self.soft(key=key)

    async def get_many(self, keys: list[str]) -> list[Any]:
        return list(await self.cache.get_many(*keys))

    async def close(self) -> None:
        await self.cache.close()

    async def can_tag(self) -> str:
        self.cache.register_tag("red", "tagged:{n}")
        await self.cache.set("tagged:a", 1, expire=60, tags=["red"])
        await self.cache.set("b", 1, expire=60)
        await self.cache.delete_tags("red")
        gone = await self.cache.get("tagged:a") is None
        return "yes" if gone and await self.cache.get("b") == 1 else "no"

    async def can_count(self) -> str:
        await self.cache.incr("n")
        return "yes" if await self.cache.incr("n") == 2 else "no"

    async def can_lock(self) -> str:
        async with self.cache.lock("lock", expire=5):
            return "yes: `lock`, `locked`"

    async def can_limit_rates(self) -> str:
        @self.cache.rate_limit(limit=1, period=60)
        async def limited() -> None:
            pass

        from cashews.exceptions import RateLimitError

        await limited()
        try:
            await limited()
        except RateLimitError:
            return "yes: `rate_limit`, for any function"
        return "no"

    async def can_collect(self) -> str:
        @self.cache.bloom(capacity=100, name="bloom:{n}")
        async def known(n: int) -> bool:
            return n == 1

        await known.set(1)  # type: ignore[attr-defined]  # what the decorator adds
        return "Bloom filters" if await known(1) and not await known(2) else "no"

    async def can_transact(self) -> str:
        try:
            async with self.cache.transaction():
                await self.cache.set("t", 1)
                raise KeyError  # noqa: TRY301 - what is rolled back
        except KeyError:
            return "yes" if await self.cache.get("t") is None else "no"

    async def can_list(self) -> str:
        await self.cache.set("list:a", 1)
        return "yes: by pattern" if [key async for key in self.cache.scan("list:*")] else "no"

    async def can_extend(self) -> str:
        await self.cache.set("t", 1, expire=1)
        await self.cache.expire("t", 100)
        return "yes: `expire`" if await self.cache.get_expire("t") > 50 else "no"

    async def can_clear_a_namespace(self) -> str:
        await self.cache.set("one:a", 1)
        await self.cache.set("two:a", 1)
        await self.cache.delete_match("one:*")
        gone = await self.cache.get("one:a") is None
        return "yes: by pattern" if gone and await self.cache.get("two:a") == 1 else "no"

    async def can_statistics(self) -> str:
        with self.cache.detect as detected:
            self.makes["a"] = self.nothing
            await self.loaded(key="a")
            await self.loaded(key="a")
            return "hits of a block, by `detect`" if detected.calls else "no"

    async def nothing(self) -> int:
        return 1

    async def can_configure(self) -> str:
        return "yes: a URL"  # this one was

    async def can_sign(self) -> str:
        from cashews import Cache
        from cashews.exceptions import UnSecureDataError

        own, other = Cache(), Cache()
        own.setup(self.url, secret="a secret", digestmod="sha256")  # noqa: S106 - of this try alone
        other.setup(self.url, secret="another", digestmod="sha256")  # noqa: S106 - the same
        await own.set("signed", "text")  # numbers are not
        if await own.get("signed") != "text":
            return "no"
        try:
            await other.get("signed")
        except UnSecureDataError:
            return "signed"
        return "no"


ADAPTERS: dict[str, type[Adapter]] = {"aiocache": Aiocache, "cashews": Cashews}
