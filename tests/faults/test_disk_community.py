"""The suites over `DiskTier` on ``diskcache-community``, for those who install it instead of diskcache.

It is not in the tests' environment, where diskcache would always be found first. So it is put into a folder
of its own, beside a ``diskcache`` that cannot be imported, and that folder comes first for another run of
pytest. Among the long tests, because it needs a package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = (
    "tests/conformance/test_disk_conformance.py",
    "tests/unit/test_disk_tier.py",
    "tests/unit/test_disk_damage.py",
    "tests/faults/test_disk_processes.py",
)


@pytest.mark.long
def test_the_suites_on_diskcache_community(tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    got = subprocess.run([*install, "diskcache-community"], capture_output=True, text=True, check=False)
    if got.returncode:
        pytest.skip(f"diskcache-community cannot be had here: {got.stderr.strip().splitlines()[-1]}")
    (tmp_path / "diskcache.py").write_text("raise ImportError('not here')\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    probe = "from tiercache.tiers.disk import _engine; print(_engine.diskcache.__name__)"
    used = subprocess.run(
        [sys.executable, "-c", probe], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert used.stdout == "diskcache_community\n"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *SUITES],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
