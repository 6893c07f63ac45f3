"""A process whose wall clock is stepped by libfaketime, while real time goes on: for `test_clocks`.

Called with the file that holds the step, a folder, and the URL of a Valkey server.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache

HOURS = 7200
SHORT, LATER = 0.3, 0.5  # seconds: a life, and when it is over


def step(seconds: int) -> None:
    """Set the wall clock to ``seconds`` ahead of the real one."""
    before = time.time()
    STEP.write_text(f"{seconds:+d}")
    assert abs(time.time() - before) > HOURS / 2, "the clock cannot be stepped"


def lower() -> list[DiskTier | SQLTier | RedisTier]:
    return [
        DiskTier(FOLDER / "disk", deadline=30),
        SQLTier(f"sqlite:///{FOLDER}/lowest.db", deadline=30),
        RedisTier(VALKEY, deadline=30),
    ]


def back() -> None:
    """A step back: what was stored before it ends after its life of real time in memory and in Redis."""
    cache = TieredCache([MemoryTier()])
    redis = TieredCache([RedisTier(VALKEY, prefix="back:", deadline=30)])
    for one in (cache, redis):
        one.set("k", b"v", ttl=SHORT)
    step(-HOURS)
    time.sleep(LATER)
    assert cache.get("k") is None
    assert cache.mget(["k"]) == [None]
    assert redis.get("k") is None
    step(0)
    cache.close()
    redis.close()


def ahead() -> None:
    """A step ahead: what is over by the wall clock is not served by what goes by it."""
    for number, tier in enumerate(lower()):
        cache = TieredCache([tier], namespace=f"ahead {number}")
        cache.set("k", b"v", ttl=HOURS / 2)
        assert cache.get("k") == b"v"
        step(HOURS)
        assert cache.get("k") is None
        step(0)
        cache.close()


def risen() -> None:
    """What a tier serves after a step back is held in memory for its whole life, and no longer: also when
    the clock is put right again."""
    for number, tier in enumerate(lower()[:2]):
        cache = TieredCache([MemoryTier(), tier], namespace=f"risen {number}")
        TieredCache([tier], namespace=f"risen {number}").set("k", b"v", ttl=SHORT)
        step(-HOURS)
        assert cache.get("k") == b"v"
        time.sleep(LATER)
        step(0)
        assert cache.get("k") is None
        cache.close()


def loads() -> None:
    """Loads under a lease, refreshes and waiting go by other clocks."""
    cache = TieredCache([MemoryTier(), *lower()], lock="shared")
    for turn, seconds in enumerate((-HOURS, HOURS, -HOURS)):
        values = cache.mget_or_load([f"{turn} a", f"{turn} b"], lambda keys: [b"v"] * len(keys))
        assert values == [b"v", b"v"]
        cache.flush()
        step(seconds)
        assert cache.delete(f"{turn} a").ok
        assert cache.get(f"{turn} a") is None
    cache.close()


if __name__ == "__main__":
    STEP, FOLDER, VALKEY = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    for case in (back, ahead, risen, loads):
        case()
    sys.stdout.write("done\n")
