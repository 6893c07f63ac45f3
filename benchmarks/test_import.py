"""What importing takes: new interpreters by turns, over one that imports nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.contest import Contest

#: What each is imported by.
IMPORTS = {
    "tiercache": "import tiercache",
    "tiercache, a cache in memory": (
        "from tiercache import MemoryTier, TieredCache\nTieredCache([MemoryTier()]).set('a', b'1')"
    ),
    "tiercache, memory over disk": "from tiercache import DiskTier, MemoryTier, TieredCache",
    "dataclasses and typing": "import dataclasses, typing",
    "cachetools": "import cachetools",
    "cachebox": "import cachebox",
    "theine": "import theine",
    "moka-py": "import moka_py",
    "LMDB": "import lmdb",
    "LangChain LocalFileStore": "import langchain_classic.storage",
    "diskcache": "import diskcache",
    "dogpile.cache": "import dogpile.cache",
    "cashews": "import cashews",
    "aiocache": "import aiocache",
    "kmcache": "import kmcache.manager",
    "py-key-value-aio": "import key_value.aio.stores.memory",
}
BACKENDS = {"cachetools", "diskcache", "redis", "sqlalchemy", "numpy", "xxhash", "langchain_core", "pydantic"}


def run(code: str, compiled: Path) -> str:
    """What ``code`` prints. Modules are compiled once, whatever the environment says about that."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code]
    return subprocess.run(  # noqa: S603 - our own code
        command, capture_output=True, text=True, check=True, timeout=60, env=environment
    ).stdout


def test_import(hold: Any, tmp_path: Path) -> None:
    def runs(code: str) -> Callable[[], str]:
        return lambda: run(code, tmp_path)

    contest = Contest("import", "A new interpreter that imports …", thing="process")
    for name, code in IMPORTS.items():
        module = code.split()[1].split(".")[0].rstrip(",")
        if importlib.util.find_spec(module) is None:
            contest.absent(name, "not installed")
        else:
            contest.add(name, runs(code))
    contest.add("nothing", runs("pass"))
    for name in ("dict", "functools.lru_cache"):
        contest.absent(name, "is there in each interpreter")
    contest.absent("LiteLLM DualCache", "takes seconds: too long for the rounds")
    contest.at_most_more(0.040, than="nothing")
    hold(contest)
    told = run(f"{IMPORTS['tiercache']}\nimport sys\nprint(*sys.modules)", tmp_path).split()
    assert "tiercache" in told
    assert not BACKENDS & set(told)
