"""What type checkers make of the public API. mypy reads this file with the package; nothing runs it.

A line with an ignore is an error that mypy must find: an ignore that it has no need of is an error too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, assert_type

from tiercache import (
    CacheStats,
    DiskTier,
    Loaded,
    MemoryTier,
    NullTier,
    RedisTier,
    SQLTier,
    TieredCache,
    TierStats,
    WriteResult,
)
from tiercache.codecs import Codec, EncryptedCodec, TextCodec, ZstdCodec
from tiercache.loading import batched

tiers = [MemoryTier(), DiskTier("somewhere"), SQLTier("sqlite://"), RedisTier("redis://localhost")]
plain = TieredCache([MemoryTier(), DiskTier("somewhere")], ttl="5m", namespace="n")
off = TieredCache([NullTier()], codec=TextCodec())
texts = TieredCache([MemoryTier(), plain], codec=TextCodec())


class NumberCodec:
    name = "number"

    def encode(self, value: int) -> bytes:
        return b""

    def decode(self, data: bytes) -> int:
        return 0


def load_or_not(key: str) -> Loaded[int] | None:
    return Loaded.absent(ttl=5) if key else None


def load_mixed(keys: list[str]) -> list[int | Loaded[int] | None]:
    return [1, Loaded(2), Loaded.absent(), None]


codec: Codec[int] = NumberCodec()
numbers = plain.view("numbers", codec=codec)
assert_type(ZstdCodec(codec), ZstdCodec[int])
assert_type(ZstdCodec(level=9, max_bytes="1MiB"), ZstdCodec[bytes])
assert_type(EncryptedCodec(key=b""), EncryptedCodec[bytes])
assert_type(EncryptedCodec(ZstdCodec(TextCodec()), key=[b"", ""]), EncryptedCodec[str])
assert_type(plain.view("secret", codec=EncryptedCodec(codec, key="")), TieredCache[int])
EncryptedCodec(codec)  # type: ignore[call-overload]  # there is no default key
EncryptedCodec(codec, key=1)  # type: ignore[call-overload]  # bytes, text, or several of them

assert_type(plain, TieredCache[bytes])
assert_type(texts, TieredCache[str])
assert_type(numbers, TieredCache[int])
assert_type(texts.view("plain"), TieredCache[bytes])

assert_type(plain.get("a"), bytes | None)
assert_type(plain.get("a", b""), bytes)
assert_type(numbers.get("a", "none"), int | str)
assert_type(texts.mget(["a"]), list[str | None])
assert_type(texts.set("a", "b", ttl=None), WriteResult)
assert_type(texts.mset({"a": "b"}, ttl=1.5), WriteResult)
assert_type(numbers.mset([("a", 1)]), WriteResult)
assert_type(texts.mdelete(["a"]), WriteResult)
assert_type(numbers.get_or_load("a", lambda key: 1), int | None)
assert_type(numbers.mget_or_load(["a"], lambda keys: [1]), list[int | None])
assert_type(numbers.mget_or_load(["a"], lambda keys: {"a": 1}), list[int | None])
assert_type(numbers.get_or_load("a", lambda key: Loaded(1, ttl="1m")), int | None)
assert_type(numbers.get_or_load("a", load_or_not, stale_for="5m", load_deadline=None), int | None)
assert_type(numbers.mget_or_load(["a"], load_mixed, jitter="10%", refresh_ahead=1), list[int | None])
assert_type(numbers.mget_or_load(["a"], lambda keys: {"a": Loaded(1)}), list[int | None])
assert_type(TieredCache([MemoryTier()], stale_if_error=True), TieredCache[bytes])
assert_type(numbers.get_or_load("a", batched(lambda keys: [1]), rate="60/min", retry=True), int | None)
numbers.get_or_load("a", lambda key: 1, rate=60)  # type: ignore[arg-type]  # a rate is text
numbers.get_or_load("a", lambda key: Loaded("1"))  # type: ignore[arg-type]  # a str is no int
numbers.get_or_load("a", lambda key: 1, stale_fro=5)  # type: ignore[call-arg]  # misspelt
TieredCache([MemoryTier()], stale_for=b"")  # type: ignore[call-overload]  # no duration
assert_type(plain.keys(), Iterator[str])
assert_type(plain.akeys(), AsyncIterator[str])
assert_type(plain.purge(idle="1h"), int)

assert_type(TieredCache.from_config(), TieredCache[Any])
assert_type(TieredCache.from_config("cache.toml", name="one"), TieredCache[Any])
assert_type(TieredCache.from_url("memory://", "disk://a", ttl="5m", codec=TextCodec()), TieredCache[Any])
assert_type(plain.views, Mapping[str, TieredCache[Any]])
assert_type(plain.config(), dict[str, Any])
assert_type(plain.stats(), CacheStats)
assert_type(plain.stats().tiers, tuple[TierStats, ...])
assert_type(plain.stats().as_dict(), dict[str, Any])

with plain as entered:
    assert_type(entered, TieredCache[bytes])


async def main() -> None:
    async with texts as cache:
        assert_type(cache, TieredCache[str])
    assert_type(await texts.aget("a"), str | None)
    assert_type(await texts.aget("a", "b"), str)
    assert_type(await numbers.amget(["a"]), list[int | None])
    assert_type(await numbers.aset("a", 1), WriteResult)
    assert_type(await numbers.aget_or_load("a", load_one), int | None)
    assert_type(await numbers.aget_or_load("a", lambda key: 1), int | None)
    assert_type(await numbers.aget_or_load("a", load_or_not, stale_if_error=True), int | None)
    assert_type(await later(1), bool)


async def load_one(key: str) -> int:
    return 1


@plain.cached
def bare(x: int, *, y: str = "") -> bytes:
    return b""


@plain.cached(ttl=60, codec=codec)
def optioned(x: int) -> int:
    return x


@numbers.cached(ttl=60)
async def later(x: int) -> bool:
    return True


@numbers.cached(batch=True, batch_window="5ms")
def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


@numbers.cached(batch=True)
async def alengths(texts: list[str]) -> dict[str, int]:
    return {text: len(text) for text in texts}


async def use_batches() -> None:
    assert_type(lengths("one"), int)
    assert_type(await alengths("one"), int | None)
    lengths(["one"])  # type: ignore[arg-type]  # must be an error


assert_type(bare(1, y="2"), bytes)
assert_type(bare.cache_key(1), str)
bare.cache_delete(1, y="2")
assert_type(optioned(1), int)

plain.set("a", "text")  # type: ignore[arg-type]  # must be an error
plain.set(1, b"")  # type: ignore[arg-type]  # must be an error
plain.get(b"a")  # type: ignore[call-overload]  # must be an error
texts.mset({"a": b""})  # type: ignore[arg-type]  # must be an error
numbers.get_or_load("a", lambda key: "text")  # type: ignore[arg-type, return-value]  # must be an error
plain.set("a", b"", ttl=[1])  # type: ignore[arg-type]  # must be an error
bare("1")  # type: ignore[arg-type]  # must be an error
bare(1, z=2)  # type: ignore[call-arg]  # must be an error
optioned.cache_delete("1")  # type: ignore[arg-type]  # must be an error
TieredCache([MemoryTier()], promote="later")  # type: ignore[call-overload]  # must be an error
TieredCache([object()])  # type: ignore[list-item]  # must be an error
