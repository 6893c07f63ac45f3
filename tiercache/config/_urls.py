"""Tiers as URLs: ``memory://?max_bytes=256MiB``, ``disk:///var/cache/app``, and the URLs of servers.

What comes of them is the mapping that says the same. Options are query parameters, with the names of the
constructor's parameters; what a server's own URL has besides is left in it. "%20" stands for a space there,
and "+" for itself. A variable may hold a URL, or how one begins; that of a server is not looked into, and its
options then stand behind it: ``${REDIS_URL}?ttl=5m``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote

from tiercache._masking import begins_as_path, is_plain_path
from tiercache.config._models import MODELS, GuardOptions
from tiercache.config._options import named, names_of, takes
from tiercache.config._problems import Problems, begun, hint, join, lacks, meant, show
from tiercache.config._values import REDIS_SCHEMES, SQL_DIALECTS
from tiercache.config._variables import VariableError, expand
from tiercache.errors import ConfigError
from tiercache.registry import CHAIN, is_tier, tier_maker, tier_names

__all__ = ["LOCAL", "tables"]

#: The types of tiers that no machines share.
LOCAL = ("memory", "disk", "null")
#: The dialects by which SQLAlchemy, or people, call the ones above too.
_SQL = (*SQL_DIALECTS, "postgres")
#: A variable that holds the beginning of a URL, or all of it.
_REFERENCE = re.compile(r"\$\{[^}]*\}")
_LONGEST = 80  # characters of a path that is told in a hint
#: What a URL says itself, of tiers that are told no URL.
_ITSELF = {"disk": ("type", "path", "directory")}


def tables(urls: Sequence[Any], problems: Problems, *, shared: bool = False) -> list[dict[str, Any]]:
    """One table for each of ``urls``; what is wrong is added to ``problems``. ``shared``: what is told as
    allowed, or as meant, is no tier of one machine alone; one that was asked for is in order here."""
    leaves = LOCAL if shared else ()
    return [_table(url, problems, f"tiers[{index}]", leaves) for index, url in enumerate(urls)]


def _table(url: Any, problems: Problems, path: str, leaves: Sequence[str]) -> dict[str, Any]:
    begins = _REFERENCE.match(url) if isinstance(url, str) else None
    try:
        held = expand(begins[0]) if begins else ""
    except VariableError as error:
        problems.add(path, str(error))
        return {}
    rest = url[begins.end() :] if begins else url
    scheme, separator, _ = f"{held}{rest}".partition("://") if isinstance(url, str) else ("", "", "")
    kind = _kind(scheme)
    if not separator or kind is None:
        known_here = (*LOCAL, *REDIS_SCHEMES, *_SQL, *tier_names()[len(MODELS) : -1])
        schemes = dict.fromkeys(one for one in known_here if one not in leaves)
        known = ", ".join(f"{one}://" for one in schemes)
        told = hint(_meant(url, f"{held}{rest}", schemes)) if isinstance(url, str) else ""
        problems.add(path, f"found {show(url, is_url=True)}; allowed: a URL that begins with {known}{told}")
        return {}
    table: dict[str, Any] = {"type": kind}
    is_server, options = _of(kind, problems, path)
    if begins and is_server:  # what the variable holds, a password perhaps, stays in it
        beginning = begins[0]
    else:
        whole = held.replace("${", "$${") + (rest.replace("?", "&", 1) if "?" in held else rest)
        beginning, rest = f"{scheme}://", whole.partition("://")[2]
    address, _, query = rest.partition("?")
    left = []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        name, value = unquote(name), unquote(value)
        if is_server and name not in options:
            left.append(part)
        elif name in _ITSELF.get(kind, ("type",)):
            problems.add(join(path, name), "is no option of a URL, which says it itself")
        elif name not in table:
            table[name] = value
        elif name == "secret":  # several of them, to rotate
            table[name] = [*([table[name]] if isinstance(table[name], str) else table[name]), value]
        else:
            problems.add(join(path, name), "is given twice; give it once")
    if is_server:
        joint = "&" if "?" in held else "?"
        table["url"] = f"{beginning}{address}" + (f"{joint}{'&'.join(left)}" if left else "")
    elif kind == "disk":
        table["path"] = unquote(address)
    elif address:
        problems.add(path, f'found {show(url)}; allowed: nothing between "{scheme}://" and the options')
    return table


def _meant(written: str, text: str, schemes: Iterable[str]) -> str | None:
    """What may have been meant by ``text``, which is ``written`` with what the variable there holds."""
    if "disk" not in schemes:
        if begins_as_path(text):
            return None
    elif len(rest := written.removeprefix("disk:")) <= _LONGEST and is_plain_path(rest):
        return f"disk://{rest}"
    scheme, separator, _ = text.partition("://")
    begins = None if separator else lacks(text, schemes, "disk://")
    guess = meant(scheme, schemes) if scheme and not begins else None
    return begins or (guess if separator or guess is None else begun(guess))


def _kind(scheme: str) -> str | None:
    """The type of the tier that URLs of that scheme are for."""
    if scheme in REDIS_SCHEMES:
        return "redis"
    if scheme.partition("+")[0] in _SQL:
        return "sql"
    ours = scheme in LOCAL
    return scheme if ours or (scheme not in (*MODELS, CHAIN) and is_tier(scheme)) else None


def _of(kind: str, problems: Problems, path: str) -> tuple[bool, frozenset[str]]:
    """Whether a tier of that type is told a URL, and which options it has besides."""
    model = MODELS.get(kind)
    if model is not None:
        names = [one for name, field in model.model_fields.items() for one in names_of(name, field)]
        return "url" in names, frozenset(names) - {"url"}
    try:
        make = tier_maker(kind)
    except ConfigError as error:
        problems.add(path, str(error))
        return False, frozenset()
    if not takes(make, "url"):
        return False, frozenset()
    return True, frozenset((*named(make), *GuardOptions.model_fields)) - {"url"}
