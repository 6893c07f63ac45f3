"""A multi-tier cache: memory over disk over SQL or Redis.

Importing this module imports no backend: each tier, and what it needs, is imported when its name is
first used.
"""

from __future__ import annotations

__version__ = "0.1.0.dev0"
