"""The tiers of a chain without the chain: a dict over diskcache over SQLAlchemy Core, as one would write it.

No bounds, no expiry, no statistics, nothing for threads or other processes: what a chain is measured against.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import diskcache
import sqlalchemy as sa

__all__ = ["Bare", "ByHand"]

Batch = dict[str, bytes]


class Bare:
    """A table of keys and values, its statements built once. ``url``: of a database."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url)
        meta = sa.MetaData()
        table = sa.Table(
            "bare",
            meta,
            sa.Column("key", sa.String, primary_key=True),
            sa.Column("value", sa.LargeBinary),
        )
        meta.create_all(self._engine)
        self._read = sa.select(table.c.key, table.c.value).where(
            table.c.key.in_(sa.bindparam("keys", expanding=True))
        )
        self._write = table.insert()

    def mget(self, keys: Sequence[str]) -> Batch:
        with self._engine.connect() as connection:
            return dict(connection.execute(self._read, {"keys": keys}).all())  # type: ignore[arg-type]  # pairs

    def mset(self, batch: Batch) -> None:
        """New keys alone."""
        with self._engine.begin() as connection:
            connection.execute(self._write, [{"key": key, "value": batch[key]} for key in batch])

    def close(self) -> None:
        self._engine.dispose()


class ByHand:
    """Each asked for what is still missing, top down; hits are copied upwards before the look-up returns."""

    def __init__(self, folder: Path, tiers: int, *, url: str | None = None) -> None:
        self.memory: Batch = {}
        self.disk = diskcache.Cache(str(folder / "by-hand")) if tiers > 1 else None
        self.lowest = Bare(url or f"sqlite:///{folder}/by-hand.db") if tiers > 2 else None

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        found = {key: value for key in keys if (value := self.memory.get(key)) is not None}
        missing = [key for key in keys if key not in found]
        if missing and self.disk is not None:
            hits = {key: value for key in missing if (value := self.disk.get(key)) is not None}
            self.memory.update(hits)
            found |= hits
            missing = [key for key in missing if key not in found]
        if missing and self.lowest is not None:
            hits = self.lowest.mget(missing)
            self.memory.update(hits)
            self.fill(hits)
            found |= hits
        return [found.get(key) for key in keys]

    def get(self, key: str) -> bytes | None:
        return self.mget([key])[0]

    def fill(self, batch: Batch) -> None:
        """Write into the disk alone."""
        if self.disk is not None and batch:
            with self.disk.transact():
                for key, value in batch.items():
                    self.disk.set(key, value)

    def set(self, key: str, value: bytes) -> None:
        """A new key, into all."""
        for depth in (3, 2, 1):
            self.put(depth, {key: value})

    def put(self, depth: int, batch: Batch) -> None:
        """New keys into one of them, the dict being the first."""
        if depth == 1:
            self.memory.update(batch)
        elif depth == 2:
            self.fill(batch)
        elif self.lowest is not None:
            self.lowest.mset(batch)

    def settle(self) -> None:
        """Nothing is done behind its callers."""

    def close(self) -> None:
        if self.disk is not None:
            self.disk.close()
        if self.lowest is not None:
            self.lowest.close()
