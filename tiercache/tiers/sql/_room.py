"""How much room there is where a database is kept, which only SQLite lets us see."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy.engine import URL

from tiercache.tiers.sql._engines import in_memory

__all__ = ["room"]


def room(url: URL) -> int | None:
    """Bytes that are free where SQLite keeps the database of ``url``; ``None`` for any other."""
    database = url.database or ""
    if url.get_backend_name() != "sqlite" or in_memory(url) or database.startswith("file:"):
        return None
    return shutil.disk_usage(Path(database).expanduser().parent).free
