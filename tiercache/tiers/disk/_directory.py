"""The directory of a disk tier: made private, recognised as ours, or refused with cause and cure.

A marker file, written when a directory is first claimed, tells ours from somebody else's: an empty
directory is claimed, one with other people's files in it is refused.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tiercache._paths import LOOKS, absolute
from tiercache.errors import ConfigError

__all__ = [
    "BALLAST",
    "DAMAGED",
    "DATABASE",
    "DOOR",
    "FORMAT",
    "LOG",
    "MARKER",
    "PENDING",
    "PRIVATE_PREFIX",
    "SHARED",
    "STATS",
    "UnusableDirectory",
    "prepare",
]

MARKER: Final = "tiercache.json"
DATABASE: Final = "cache.db"  # the name that diskcache gives it
#: What SQLite adds to a database's name for its log, and for what processes share about that.
LOG: Final = "-wal"
SHARED: Final = "-shm"
#: Begins the names of databases that were set aside; see `_damage`.
DAMAGED: Final = f"{DATABASE}.damaged-"
DOOR: Final = f"{DATABASE}.lock"  # see `_door`
BALLAST: Final = f"{DATABASE}.ballast"  # see `_ballast`
PENDING: Final = f"{DATABASE}.journal"  # there while the journal owes something; see `_journal`
#: Where the chains over this tier share their statistics, with the endings of SQLite's log and of what was
#: damaged.
STATS: Final = "stats.db"
#: The version of the layout inside the directory; a newer one is refused, not guessed at.
FORMAT: Final = 1
#: Begins the names of our short-lived files, which do not make a directory foreign.
PRIVATE_PREFIX: Final = ".tiercache-"


#: What to do about a directory that cannot be used, by what the system says of it.
_CURES: Final = {
    errno.EACCES: "give this user the right to {right} there, or choose another",
    errno.EPERM: "give this user the right to {right} there, or choose another",
    errno.EROFS: "mount its file system for writing, or choose one on another",
    errno.ENOENT: "no directory can be made there; choose another",
    errno.ELOOP: "symbolic links on the way to it lead in a circle; mend them, or choose another",
    errno.ENOSPC: "make room on that disk, or choose a directory on another",
    errno.EDQUOT: "make room in this user's quota, or choose a directory on another disk",
    errno.ENAMETOOLONG: "choose one with a shorter name",
}
_ANY_CURE: Final = "choose another"


class UnusableDirectory(ConfigError):
    """The directory cannot be made or written here; a temporary one could stand in for it. ``plight`` is the
    message without what is there to do besides that."""

    def __init__(self, plight: str, ways_out: str = '; or set on_unusable="temporary"') -> None:
        super().__init__(f"{plight}{ways_out}")
        self.plight = plight
        self._ways_out = ways_out

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.plight, self._ways_out)


def prepare(directory: str | os.PathLike[str], *, read_only: bool) -> Path:
    """The absolute path of ``directory``, which exists and is ours, with nobody else let in.

    Makes it and its missing parents (mode 0700), and claims an empty one, unless it is `only_looking`; with
    ``read_only`` it must be there and is not touched. Raises `ConfigError`: not a directory, a symbolic link,
    somebody else's files, another version's layout; and `UnusableDirectory`: not ours to write.
    """
    path = absolute(directory, "DiskTier.path")
    looks = LOOKS.get()
    try:
        if looks and not read_only and not os.path.lexists(path):
            _check_parent(path)
            return path
        if not read_only:
            _make(path)
        _check_kind(path)
        _check_owner(path, path.lstat())
        _check_files(path)
        if not _is_claimed(path):
            if read_only:
                raise ConfigError(
                    f"DiskTier: {path} holds no cache to read, and read_only makes none; leave that out once"
                )
            if not looks:
                _claim(path)
        if not read_only:
            if not looks:
                _tighten(path)
            _try_to_write(path)
    except FileNotFoundError as error:
        if read_only:
            raise ConfigError(
                f"DiskTier: the directory {path} does not exist, and read_only makes none"
            ) from error
        raise _unusable(path, error, read_only=read_only) from error
    except NotADirectoryError as error:
        plight = f"DiskTier: a part of {path} is a file, not a directory; choose another"
        raise (ConfigError if read_only else UnusableDirectory)(plight) from error
    except OSError as error:
        raise _unusable(path, error, read_only=read_only) from error
    return path


def _unusable(path: Path, error: OSError, *, read_only: bool) -> UnusableDirectory:
    cure = _CURES.get(error.errno or 0, _ANY_CURE).format(right="read" if read_only else "write")
    reason = error.strerror or type(error).__name__
    plight = f"DiskTier: the directory {path} cannot be used ({reason}): {cure}"
    if not read_only and os.access(path / MARKER, os.R_OK):
        return UnusableDirectory(
            plight, '; or set read_only, to use what it holds, or on_unusable="temporary"'
        )
    return UnusableDirectory(plight)


def _check_parent(path: Path) -> None:
    """Raise `OSError` where `_make` could not make the directory."""
    while not os.path.lexists(path):
        path = path.parent
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    _try_to_write(path)


def _make(path: Path) -> None:
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another process makes it too
            folder.mkdir(mode=0o700)
            folder.chmod(0o700)  # whatever the umask took away


def _check_kind(path: Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise ConfigError(
            f"DiskTier: {path} is a symbolic link, which could lead anywhere; pass the directory itself"
        )
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"DiskTier: {path} is a file, not a directory; choose another path or move it away")


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise UnusableDirectory(
            f"DiskTier: {path} belongs to another user (uid {status.st_uid}, and this process runs as "
            f"{os.geteuid()}): choose a directory of this user"
        )


def _is_claimed(path: Path) -> bool:
    """Whether the directory has our marker. Raises `ConfigError` if it holds something else."""
    try:
        marker = (path / MARKER).read_bytes()
    except FileNotFoundError:
        # The door is in it before the marker where processes make a directory again that was removed.
        foreign = sorted(
            item.name
            for item in path.iterdir()
            if item.name != DOOR and not item.name.startswith(PRIVATE_PREFIX)
        )
        if not foreign or (path / MARKER).exists():  # claimed by another process since we looked
            return bool(foreign)
        raise ConfigError(
            f"DiskTier: {path} is not empty and was not made by tiercache (it holds {foreign[0]!r}); "
            f"choose an empty or new directory"
        ) from None
    try:
        version = json.loads(marker)["format"]
    except (ValueError, KeyError, TypeError):
        version = None
    if not isinstance(version, int):
        raise ConfigError(
            f"DiskTier: {path / MARKER}, which names the directory's layout, is damaged; delete the "
            f"directory to start afresh, or choose another"
        )
    if version != FORMAT:
        raise ConfigError(
            f"DiskTier: {path / MARKER} names the layout {version!r}, and this version of tiercache knows "
            f"{FORMAT}; upgrade tiercache-framework, or choose another directory"
        )
    return True


def _claim(path: Path) -> None:
    handle, temporary = tempfile.mkstemp(prefix=PRIVATE_PREFIX, dir=path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps({"made_by": "tiercache", "format": FORMAT}).encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path / MARKER)  # whole or not at all, however many claim it at once
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _own_files(path: Path) -> list[Path]:
    """Those that we make, there or not."""
    database = (DATABASE, f"{DATABASE}{LOG}", f"{DATABASE}{SHARED}", DOOR, BALLAST, PENDING)
    statistics = (STATS, f"{STATS}-journal", f"{STATS}.damaged")
    return [*(path / name for name in (MARKER, *database, *statistics)), *path.glob(f"{DAMAGED}*")]


def _check_files(path: Path) -> None:
    """A directory that was open to others may hold what they planted: a link under a name of ours would
    have its target opened, and its rights changed."""
    for item in _own_files(path):
        with suppress(FileNotFoundError):
            found = item.lstat()
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"DiskTier: {item} is no plain file, and not ours; remove it")
            _check_owner(item, found)


def _tighten(path: Path) -> None:
    for item, allowed in ((path, 0o700), *((item, 0o600) for item in _own_files(path))):
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(item.lstat().st_mode)
            if mode & ~allowed:
                item.chmod(mode & allowed)  # no right is given: somebody may have taken it on purpose


def _try_to_write(path: Path) -> None:
    # os.access says yes to root on a read-only file system; only writing tells.
    try:
        handle, temporary = tempfile.mkstemp(prefix=PRIVATE_PREFIX, dir=path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # full, and ours to write: see `_ballast`
            return
        raise
    os.close(handle)
    Path(temporary).unlink(missing_ok=True)
