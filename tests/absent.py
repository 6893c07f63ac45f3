"""What is said where a package is not installed."""

from __future__ import annotations

import subprocess
import sys

__all__ = ["said_without"]


def said_without(*packages: str, code: str, given: str = "") -> str:
    """In a process where ``packages`` cannot be imported, the message of the `MissingPackage` that ``code``
    raises after ``given``, which raises none; empty if ``code`` does not either."""
    program = f"""
import sys
sys.modules.update(dict.fromkeys({packages!r}))  # as if they were not installed
from tiercache.errors import MissingPackage
{given}
try:
    exec({code!r})
except MissingPackage as missing:
    print(missing)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout
