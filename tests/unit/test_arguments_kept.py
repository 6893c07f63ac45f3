"""What a tier does to the lists and dicts that it is given is its own affair: the chain keeps others."""

from __future__ import annotations

from typing import Any

import pytest
from apis import both_apis

from tiercache import MemoryTier, TieredCache, guarded
from tiercache.testing import AsyncDictTier, DictTier

VALUES = {"b": b"value of b", "a": b"value of a", "c": b"value of c"}


class Sorting(DictTier):
    """Such as for a scan over a range of its database. Leases of the keys ``elsewhere`` are not to be had."""

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: set[str] = set()

    def mget(self, keys: Any) -> Any:
        keys.sort()
        return super().mget(keys)

    def acquire(self, keys: Any, token: str, seconds: float) -> Any:
        keys.sort()
        return super().acquire([key for key in keys if key not in self.elsewhere], token, seconds)

    def release(self, keys: Any, token: str) -> None:
        keys.sort()
        super().release(keys, token)


class Emptying(AsyncDictTier):
    """Works off what it is given, and fails as often as it is told to when that is done."""

    failures = 0

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionResetError

    async def amget(self, keys: Any) -> Any:
        found: dict[str, Any] = {}
        while keys:
            found |= await super().amget([keys.pop()])
        self._fail()
        return found

    async def amset(self, entries: Any) -> None:
        taken = dict(entries)
        entries.clear()
        self._fail()
        await super().amset(taken)

    async def amdelete(self, keys: Any) -> None:
        taken = list(keys)
        keys.clear()
        self._fail()
        await super().amdelete(taken)


@both_apis
@pytest.mark.parametrize("namespace", ["", "app"])
@pytest.mark.parametrize("make", [Sorting, Emptying])
def test_each_key_gets_its_own_value(call: Any, make: Any, namespace: str) -> None:
    tier = make()
    with TieredCache([MemoryTier(), tier], namespace=namespace) as writer:
        assert call(writer, "mset", VALUES).ok
        with TieredCache([MemoryTier(), guarded(tier)], namespace=namespace) as reader:
            for _ in ("below", "promoted"):
                assert call(reader, "mget", list(VALUES)) == list(VALUES.values())
            assert call(reader, "mdelete", ["b", "a"]).ok
            assert call(reader, "mget", list(VALUES)) == [None, None, b"value of c"]


@both_apis
def test_a_further_try_gets_all_of_it(call: Any) -> None:
    tier = Emptying()
    with TieredCache([guarded(tier, retries=1)]) as cache:
        tier.failures = 1
        assert call(cache, "mset", VALUES).ok
        tier.failures = 1
        assert call(cache, "mget", list(VALUES)) == list(VALUES.values())
        tier.failures = 1
        assert call(cache, "mdelete", ["b", "a"]).ok
        assert call(cache, "mget", list(VALUES)) == [None, None, b"value of c"]


@both_apis
def test_a_lease_is_that_of_its_key(call: Any) -> None:
    tier = Sorting()
    tier.elsewhere.add("a")
    asked: list[list[str]] = []

    def load(keys: list[str]) -> list[bytes]:
        asked.append(keys)
        assert set(tier._leases) == set(keys)
        tier.elsewhere.clear()
        return [VALUES[key] for key in keys]

    with TieredCache([MemoryTier(), tier], lock="shared") as cache:
        assert call(cache, "mget_or_load", list(VALUES), load) == list(VALUES.values())
    assert asked == [["b", "c"], ["a"]]
    assert tier._leases == {}
