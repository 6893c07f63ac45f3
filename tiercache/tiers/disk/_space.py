"""Whether the disk has the room that a tier is to fill, told to people."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from tiercache.tiers.disk._directory import DATABASE

__all__ = ["exceeds_disk", "shortage"]


def exceeds_disk(directory: Path, max_bytes: int) -> str:
    """What is wrong where the whole disk of ``directory`` is smaller than ``max_bytes``; else nothing."""
    total = _disk(directory)[0]
    if max_bytes <= total:
        return ""
    return (
        f"the whole disk of {directory} has {_amount(total)}, and max_bytes is {_amount(max_bytes)}: it will "
        f"be full before; set max_bytes lower"
    )


def shortage(directory: Path, max_bytes: int) -> str:
    """The same, and where less of the disk is free by now than the cache may still take."""
    free = _disk(directory)[1]
    growth = max_bytes
    with suppress(OSError):
        growth -= (directory / DATABASE).stat().st_size
    too_large = exceeds_disk(directory, max_bytes)
    if too_large or free >= growth:
        return too_large
    return (
        f"the disk of {directory} has {_amount(free)} left, and max_bytes lets the cache take "
        f"{_amount(growth)} more; make room, or set max_bytes lower"
    )


def _disk(directory: Path) -> tuple[float, float]:
    """Bytes of the disk, and those that are free on it; without end where the system does not say."""
    while not os.path.lexists(directory):  # it is not made yet
        directory = directory.parent
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return float("inf"), float("inf")
    return usage.total, usage.free


def _amount(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
