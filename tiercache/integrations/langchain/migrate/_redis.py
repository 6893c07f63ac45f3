"""A `RedisStore`'s keys as a source, with no other commands than SCAN and MGET."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Self

from tiercache._masking import blot, mask, mask_place
from tiercache.errors import ConfigError, MissingPackage
from tiercache.integrations.langchain.migrate._run import Page, Unfit

__all__ = ["RedisKeys"]

_GLOB = re.compile(rb"([*?\[\]\\])")
_SECONDS = 30.0


class RedisKeys:
    """The keys of ``namespace`` (``None``: all of the database) on the server that ``source``, a URL or a
    blocking client, leads to. Raises `ConfigError` for anything else, `MissingPackage` without redis."""

    def __init__(self, source: Any, namespace: str | None) -> None:
        try:
            import redis
        except ImportError:
            raise MissingPackage("redis", "redis", "migrating a RedisStore") from None
        self._own = isinstance(source, str)
        if isinstance(source, str):
            try:
                self._client = redis.Redis.from_url(
                    source, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS
                )
                pool = self._client.connection_pool
                pool.connection_class(**pool.connection_kwargs)  # which knows the options, and connects later
            except (ValueError, TypeError) as error:
                why = blot(str(error), source)
                raise ConfigError(f"{mask_place(source)} is no URL of a Redis server: {why}") from None
            self.name = f"RedisStore {mask(source)}"
        elif isinstance(source, redis.Redis):
            self._client = source
            self.name = "RedisStore"
        else:
            raise ConfigError(f"a {type(source).__name__} is no Redis URL and no redis.Redis client")
        if self._client.get_encoder().decode_responses:
            raise ConfigError("this Redis client decodes what it reads; give one with decode_responses=False")
        self._prefix = f"{namespace}/".encode() if namespace else b""  # as RedisStore does
        if namespace:
            self.name += f" namespace {namespace!a}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._client.close()

    def total(self) -> None:
        """Only a scan could tell."""

    def pages(self, size: int) -> Iterator[Page[str]]:
        pattern = _GLOB.sub(rb"\\\1", self._prefix) + b"*"
        found = iter(self._client.scan_iter(match=pattern, count=max(size, 100)))
        while some := dict.fromkeys(islice(found, size)):  # a scan may name a key twice
            keys, unfit = [], []
            for name in some:
                key = name[len(self._prefix) :]
                try:
                    keys.append(key.decode())
                except UnicodeDecodeError:
                    unfit.append((key.decode(errors="backslashreplace"), "no key of a RedisStore"))
            yield Page(keys, unfit)

    def read(self, keys: Sequence[str]) -> dict[str, bytes | Unfit]:
        values: Any = self._client.mget([self._prefix + key.encode() for key in keys])
        absent = Unfit("no string, or gone meanwhile")  # MGET tells neither from the other
        return {key: absent if value is None else value for key, value in zip(keys, values, strict=True)}

    def label(self, key: str) -> str:
        return key
