"""The caches that block, each set up as the page says: with the strongest protection it offers."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.comparison.adapter import MISS, Adapter

__all__ = ["ADAPTERS"]

Make = Callable[[], Any]


class LruCache(Adapter):
    """``functools.lru_cache(maxsize=10_000)`` round a function."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told)
        self.makes: dict[str, Make] = {}
        self.cached = functools.lru_cache(maxsize=10_000)(lambda key: self.makes[key]())

    def load(self, key: str, make: Make) -> Any:
        self.makes[key] = make
        return self.cached(key)

    def delete(self, _key: str) -> None:
        self.cached.cache_clear()  # it drops all, or nothing

    def can_statistics(self) -> str:
        self.load("a", lambda: 1)
        self.load("a", lambda: 1)
        found = self.cached.cache_info()
        return "hits and misses" if (found.hits, found.misses) == (1, 1) else "no"


class CacheTools(Adapter):
    """``cached(TTLCache(10_000, life), condition=Condition(), info=True)``."""

    def __init__(self, told: dict[str, Any]) -> None:
        import cachetools

        super().__init__(told)
        self.makes: dict[str, Make] = {}
        self.cache: Any = cachetools.TTLCache(10_000, self.life)
        self.lock = threading.Condition()
        self.cached = cachetools.cached(self.cache, key=str, condition=self.lock, info=True)(
            lambda key: self.makes[key]()
        )

    def get(self, key: str) -> Any:
        with self.lock:
            return self.cache.get(key, MISS)

    def set(self, key: str, value: Any) -> None:
        with self.lock:
            self.cache[key] = value

    def delete(self, key: str) -> None:
        with self.lock:
            self.cache.pop(key, None)

    def load(self, key: str, make: Make) -> Any:
        self.makes[key] = make
        return self.cached(key)

    def can_statistics(self) -> str:
        self.load("a", lambda: 1)
        self.load("a", lambda: 1)
        found = self.cached.cache_info()  # type: ignore[attr-defined]  # for info=True
        return "hits and misses" if (found.hits, found.misses) == (1, 1) else "no"

    def can_bound_bytes(self, bound: int, values: list[str]) -> str:
        import cachetools

        cache = cachetools.LRUCache(bound, getsizeof=len)
        for number, value in enumerate(values):
            cache[number] = value
        return f"{cache.currsize / 1e6:.1f} MB" if cache.currsize <= bound else "exceeded"


class DiskCache(Adapter):
    """``Cache(folder)`` with ``memoize_stampede``."""

    def __init__(self, told: dict[str, Any]) -> None:
        import diskcache

        super().__init__(told)
        size = {"size_limit": told["bytes"]} if "bytes" in told else {}
        self.cache = diskcache.Cache(self.folder, **size)
        self.makes: dict[str, Make] = {}

        def made(key: str) -> Any:
            return self.makes[key]()

        self.memoized = diskcache.memoize_stampede(self.cache, expire=self.life, name="loads")(made)
        # Its other answer to stampedes: one caller at a time, of all processes, hits included.
        memoized = self.cache.memoize(expire=self.life, name="serialised")(made)
        self.serialised = diskcache.barrier(self.cache, diskcache.Lock, name="barrier")(memoized)

    def get(self, key: str) -> Any:
        return self.cache.get(key, MISS)

    def set(self, key: str, value: Any) -> None:
        self.cache.set(key, value, expire=self.life)

    def delete(self, key: str) -> None:
        self.cache.delete(key)
        self.cache.delete(self.memoized.__cache_key__(key))

    def load(self, key: str, make: Make) -> Any:
        self.makes[key] = make
        return self.memoized(key)

    load_or_old = load

    def load_serialised(self, key: str, make: Make) -> Any:
        self.makes[key] = make
        return self.serialised(key)

    def get_many(self, keys: list[str]) -> list[Any]:
        return [self.get(key) for key in keys]

    def close(self) -> None:
        self.cache.close()

    def can_tag(self) -> str:
        self.cache.set("a", 1, tag="red")
        self.cache.set("b", 1)
        self.cache.evict("red")
        return "yes" if "a" not in self.cache and "b" in self.cache else "no"

    def can_statistics(self) -> str:
        self.cache.stats(enable=True)
        self.cache.get("nothing")
        hits, misses = self.cache.stats()
        return "hits and misses" if (hits, misses) == (0, 1) else "no"

    def can_count(self) -> str:
        self.cache.incr("n", default=0)
        return "yes" if self.cache.incr("n") == 2 else "no"

    def can_lock(self) -> str:
        import diskcache

        with diskcache.Lock(self.cache, "lock"), diskcache.BoundedSemaphore(self.cache, "semaphore", value=2):
            return "yes: `Lock`, `RLock`, `BoundedSemaphore`"

    def can_limit_rates(self) -> str:
        import diskcache

        throttled = diskcache.throttle(self.cache, 1, 1)(lambda: None)
        start = time.monotonic()
        for _ in range(3):
            throttled()
        return "yes: `throttle`, for any function" if time.monotonic() - start > 0.9 else "no"

    def can_collect(self) -> str:
        import diskcache

        queue = diskcache.Deque.fromcache(self.cache)
        queue.append(1)
        index = diskcache.Index(f"{self.folder}/index")
        index["a"] = 1
        return "yes: `Deque`, `Index`" if queue.popleft() == index["a"] else "no"

    def can_transact(self) -> str:
        try:
            with self.cache.transact():
                self.cache.set("t", 1)
                raise KeyError  # noqa: TRY301 - what is rolled back
        except KeyError:
            return "yes" if "t" not in self.cache else "no"

    def can_list(self) -> str:
        self.cache.set("b", 1)
        return "yes: all keys" if "b" in list(self.cache) else "no"

    def can_extend(self) -> str:
        self.cache.set("t", 1, expire=1)
        self.cache.touch("t", expire=100)
        return "yes: `touch`" if self.cache.get("t", expire_time=True)[1] else "no"

    def can_bound_bytes(self, _bound: int, values: list[str]) -> str:
        for number, value in enumerate(values):
            self.cache.set(number, value)
        self.cache.close()
        found = sum(file.stat().st_size for file in Path(self.folder).rglob("*") if file.is_file())
        return f"{found / 1e6:.1f} MB of files"


class Dogpile(Adapter):
    """A region over Redis with ``distributed_lock=True``."""

    def __init__(self, told: dict[str, Any]) -> None:
        from dogpile.cache import make_region
        from dogpile.cache.api import NO_VALUE

        super().__init__(told)
        self.none = NO_VALUE
        arguments = {"url": self.url, "distributed_lock": True, "redis_expiration_time": 7200}
        arguments["thread_local_lock"] = False
        self.region = make_region().configure(
            "dogpile.cache.redis", expiration_time=self.life, arguments=arguments
        )

        def behind(region: Any, key: str, creator: Make, mutex: Any) -> None:
            def run() -> None:
                try:
                    region.set(key, creator())
                finally:
                    mutex.release()

            threading.Thread(target=run, daemon=True).start()

        self.behind = make_region(async_creation_runner=behind).configure(
            "dogpile.cache.redis", expiration_time=self.life, arguments=arguments
        )

    def get(self, key: str) -> Any:
        found = self.region.get(key)
        return MISS if found is self.none else found

    def set(self, key: str, value: Any) -> None:
        self.region.set(key, value)

    def delete(self, key: str) -> None:
        self.region.delete(key)

    def load(self, key: str, make: Make) -> Any:
        return self.region.get_or_create(key, make)

    load_or_stale = load

    def load_or_old(self, key: str, make: Make) -> Any:
        return self.behind.get_or_create(key, make)

    def get_many(self, keys: list[str]) -> list[Any]:
        return list(self.region.get_multi(keys))

    def can_lock(self) -> str:
        mutex = self.region.backend.get_mutex("lock")
        mutex.acquire()
        mutex.release()
        return "yes: a mutex a key, of its back end"

    def can_clear_a_namespace(self) -> str:
        from dogpile.cache import make_region

        def region(name: str) -> Any:
            made = make_region(key_mangler=lambda key: f"{name}:{key}")
            return made.configure("dogpile.cache.redis", arguments={"url": self.url})

        one, two, elsewhere = region("one"), region("two"), region("one")
        one.set("a", 1)
        two.set("a", 1)
        one.invalidate()
        if one.get("a") is not self.none or two.get("a") != 1:
            return "no"
        return "in this process alone" if elsewhere.get("a") == 1 else "yes"

    def can_configure(self) -> str:
        from dogpile.cache import make_region

        region = make_region()
        region.configure_from_config({"cache.backend": "dogpile.cache.memory"}, "cache.")
        region.set("a", 1)
        return "yes: a mapping" if region.get("a") == 1 else "no"


ADAPTERS: dict[str, type[Adapter]] = {
    "functools.lru_cache": LruCache,
    "cachetools": CacheTools,
    "diskcache": DiskCache,
    "dogpile.cache": Dogpile,
}
