"""mypy agrees with what `public_api.py` says of the types that users see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: What the public API has no types of takes four fifths of the time to analyse; it is `Any` here. A line of
#: `public_api.py` that needed its types would no longer fail as it says, and this test with it.
CONFIG = """
[mypy]
strict = True
follow_imports = silent
[mypy-sqlalchemy.*,redis.*]
follow_imports = skip
"""


def test_the_public_api_has_the_types_that_it_says(tmp_path):
    file = Path(__file__).with_name("public_api.py")
    root = file.parents[2]
    config = tmp_path / "mypy.ini"
    config.write_text(CONFIG)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file",
            config,
            "--cache-dir",
            root / ".mypy_cache/public_api",
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
