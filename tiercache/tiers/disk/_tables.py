"""Tables of the disk tier's database that are made when they are first needed: most databases hold no lease
and no ledger in all their life.

Whether they are there is asked each time, which is a look into what SQLite has read anyhow: another process
may have made the database anew, or somebody dropped them.
"""

from __future__ import annotations

import sqlite3

__all__ = ["exists"]


def exists(connection: sqlite3.Connection, *tables: str) -> bool:
    """Whether all of ``tables`` are there."""
    names = ", ".join("?" * len(tables))
    found = f"SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ({names})"  # noqa: S608 - marks
    ((count,),) = connection.execute(found, tables).fetchall()
    return bool(count == len(tables))
