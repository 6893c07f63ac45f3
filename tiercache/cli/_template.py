"""The configuration that `tiercache init` writes: TOML, with what a reader has to know beside each option."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from tiercache._masking import holds_secret

__all__ = ["Choices", "rendered"]

_VARIABLE = re.compile(r"\$\{\w+(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Choices:
    """What is to be in it. ``None`` leaves a tier out, or (``ttl``) stands for no end. ``kind`` is the type
    of the tier that ``shared`` is the URL of."""

    namespace: str
    ttl: str | None
    codec: str
    memory: str | None
    disk: str | None
    disk_size: str
    shared: str | None
    kind: str

    @property
    def holds_a_password(self) -> bool:
        """Whether the URL has one in it, before its host or among its options, and not only the name of a
        variable that holds it."""
        return self.shared is not None and holds_secret(_VARIABLE.sub(_default, self.shared))


def rendered(choices: Choices, name: str) -> str:
    """The text of the file called ``name``."""
    parts = [
        _HEAD.format(
            name=name,
            namespace=_text(choices.namespace),
            ttl=_text(choices.ttl or "none"),
            codec=_text(choices.codec),
        )
    ]
    if choices.memory is not None:
        below = choices.disk is not None or choices.shared is not None
        parts.append(_MEMORY.format(size=_text(choices.memory)) + (_CAP if below else ""))
    if choices.disk is not None:
        parts.append(_DISK.format(directory=_text(choices.disk), size=_text(choices.disk_size)))
    if choices.shared is not None:
        deadline = "500ms" if choices.kind == "redis" else "2s"
        parts.append(_SHARED.format(kind=_text(choices.kind), url=_text(choices.shared), deadline=deadline))
    if len(parts) == 1:
        parts.append("tiers = []\n")
    return "\n".join(parts)


def _default(variable: re.Match[str]) -> str:
    return variable[1] or ""


def _text(text: str) -> str:
    """As TOML writes it, which is as JSON does where nothing is escaped that need not be."""
    return json.dumps(text, ensure_ascii=False)


_HEAD = """\
# A cache of tiers: TieredCache.from_config("{name}") in Python, `tiercache` in a shell.
# `tiercache check --connect` tells whether it is in order. ${{NAME}} in a text is a variable of the
# environment, ${{NAME:-default}} one that need not be set.

# Keeps the keys of this cache apart from those of others on the same tiers.
namespace = {namespace}

# How long an entry lives that is stored without a life of its own: "12h", "30d", or "none" (until evicted).
ttl = {ttl}

# What values are: "bytes", "json", "text", "vector-f4" (lists of floats), or "zstd-json" (compressed).
codec = {codec}

# After its time a value may be served this much longer, while a new one is loaded.
# stale_for = "10m"

# The tiers, the fastest first. A hit is copied into those above.
"""
_MEMORY = """\
# The memory of each process: values as they are, the nearest of all.
[[tiers]]
type = "memory"
max_bytes = {size}
# max_entries = 100000
"""
_CAP = """\
# The longest that it holds an entry, and so that it can miss what another process deleted.
ttl = "5m"
"""
_DISK = """\
# A directory that the processes of this machine share, and that outlives them. A relative path begins at the
# folder of this file.
[[tiers]]
type = "disk"
directory = {directory}
max_bytes = {size}
# "power": what was stored survives a power cut too, at the price of slower writes.
# durability = "power"
"""
_SHARED = """\
# A server that machines share.
[[tiers]]
type = {kind}
url = {url}
# A call that takes longer is a miss.
deadline = "{deadline}"
# Signs what is stored, where others can write to that server: 16 bytes and more.
# secret = "${{CACHE_SECRET}}"
"""
