"""mypy agrees with what `public_api.py` says of the types that users see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_public_api_has_the_types_that_it_says():
    file = Path(__file__).with_name("public_api.py")
    root = file.parents[2]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            file,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        timeout=120,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (
        0,
        ["Success: no issues found in 1 source file"],
    ), done.stdout + done.stderr
