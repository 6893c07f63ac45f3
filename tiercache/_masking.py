"""Passwords and other secrets in URLs, connection strings and options: found, and kept out of what is shown.

One finder serves whoever shows a URL (`mask`), or what stands in the place of one (`mask_place`), hands on
what others say about one (`blot`), or asks whether there is a secret in it (`holds_secret`); `torn` tells
where a parser has cut one in two. It goes by the text, and never by a parser: the URLs that matter most are
those that cannot be parsed, or lead elsewhere because a part of them is missing. Where it cannot know, it
takes too much for a secret rather than too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

__all__ = ["begins_as_path", "blot", "holds_secret", "is_plain_path", "mask", "mask_place", "torn"]

_SCHEME = re.compile(r"\s*[\w+.-]*://")
#: Those with a path, and no host, and so no password before one: a "@" is a letter there.
_LOCAL = re.compile(r"\s*(?:(?:sqlite(?:\+\w+)?|unix|file):///|(?:disk|memory)://)")
#: What may stand between "//" and ":" as the name of a user.
_USER = re.compile(r"[^/?#@=\s]*")
#: A host in brackets is one of IPv6, which has colons of its own.
_BRACKETS = re.compile(r"\[[0-9a-f:.]*(?:%\w+)?\]", re.IGNORECASE)
#: The word itself is what examples have there.
_PORT = re.compile(r"\d{1,5}|port|\$\{\w+(?::-\d*)?\}", re.IGNORECASE)
#: What has a colon, and no place: a time, and a path on Windows.
_NO_PLACE = re.compile(r"\d{1,3}(?::\d\d){1,2}|[A-Z]:[/\\](?!/)[^@=]*")
#: What says by itself that it is a place, with no scheme: this machine or a number, with a port; a variable.
_PLACE = re.compile(r"(?:localhost|\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}(?:/\d{0,5})?|\$\{\w+\}", re.ASCII)
#: What may be a host and its port, or a user and a password of digits.
_PAIR = re.compile(r"([\w.-]+:)\d{1,5}(?:/\d{0,5})?", re.ASCII)
#: Those whose path is the number of a database, behind a service's name or not. What is no number there may
#: be a password alone, or the rest of one whose beginning looks like a port.
_NUMBERED = re.compile(r"\s*rediss?(?:\+cluster|(\+sentinel))?://", re.IGNORECASE)
_SERVICE = re.compile(r"/[^/?#]*")
_DATABASE = re.compile(r"/?(?:\d{0,5}|\$\{\w+(?::-\d{0,5})?\})(?:[?#]|$)")
#: What is no URL and says by itself what was meant: a path of plain names, a machine, and a word of ours,
#: with the colon of a scheme perhaps. A password may begin with a slash, and words with dots between them are
#: a good one.
_PATH_BEGINS = re.compile(r"/(?!/)|\.\.?/|~(?:/|\Z)|[A-Z]:[/\\]", re.IGNORECASE)
_NAME = re.compile(r"(?!.{21})[A-Z]?[a-z\d._-]*", re.ASCII)
_HOST = re.compile(
    r"localhost|(?:\d{1,3}\.){3}\d{1,3}|"
    r"(?:[a-z\d-]{1,20}\.)+(?:local|localdomain|internal|lan|home|com|net|org|io|dev)",
    re.ASCII | re.IGNORECASE,
)
_WORD = re.compile(
    r"(?:memory|disk|chain|sql|unix|rediss?(?:\+sentinel|\+cluster)?|valkeys?|sqlite|postgres(?:ql)?|mysql|"
    r"mariadb)(?::|\Z)"
)
_OPTION = re.compile(r"(?<![^\s=&?#;,])([^\s=&?#;,]++)\s*=\s*")
#: An "@" in a query that is in no value there.
_QUERY_AT = re.compile(r"[?&][^=&]*@")
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
#: Where the value of an option ends: an "&" or a space of its own that nobody quoted names no next one.
_NEXT = {True: re.compile(r"&[^&=]*="), False: re.compile(r"[&;\s][^&;=\s]++\s?=")}

#: Whose value is one in a text, where nobody says what it is for, slips of the pen among them. How many keys
#: (max_keys) is none.
_SECRET_OPTION = re.compile(
    r"pass|pasw|psw|pwd|secret|token|auth|cred|(?<!max[_-])(?<!min[_-])key|(?:^|[_-])pw$", re.IGNORECASE
)
#: "key" is the last word of what holds one: api_key, keys; and not max_keys, which counts, or key_prefix.
_SECRET_NAME = re.compile(
    r"pass|pasw|psw|pwd|secret|token|auth|cred|(?:^|[_-])pw$|(?:api|access|private)_?key|"
    r"(?:^|[_-])(?<!max[_-])(?<!min[_-])keys?$",
    re.IGNORECASE,
)
#: What may hold an address that is no whole URL.
_ADDRESS_NAME = re.compile(r"ur[il]|dsn|addr|conn|endpoint|host|server", re.IGNORECASE)
#: What a parser that takes a secret for something else may end a piece of it at; and so many of them are more
#: than a password has.
_MARK = re.compile(r"[:/?#@=&;,\[\]\s]|%(?:3a|2f|3f|23|40|3d|26|3b|2c|5b|5d|20)", re.IGNORECASE)
_MARKS = 24
#: A secret shorter than this may be a part of any word; it is given away only where it stands by itself.
_TELLING = 5
#: A piece shorter than this gives nothing away.
_PIECE = 3


def mask(text: str) -> str:
    """``text``, a URL or connection string or what was written in the place of one, without its secrets."""
    shown, end = [], 0
    for start, stop in _spans(text, is_address=True):
        shown += [text[end:start], "***"]
        end = stop
    return "".join((*shown, text[end:]))


def mask_place(text: str) -> str:
    """``text``, given in the place of a URL, without its secrets: what says by nothing that it is a place may
    be a password alone, or a user and one. It goes by the looks: a password that looks like a path of
    plain names, or a machine of a usual domain, is shown."""
    if not text or _SCHEME.match(text) or _PLACE.fullmatch(text):
        return mask(text)
    if is_plain_path(text) or _HOST.fullmatch(text):
        return text
    if word := _WORD.match(text):
        rest = text[word.end() :]
        return word[0] + (rest if not rest or is_plain_path(rest) or _PLACE.fullmatch(rest) else "***")
    pair = _PAIR.fullmatch(text)
    return f"{pair[1]}***" if pair else "***"


def begins_as_path(text: str) -> bool:
    """Whether ``text`` begins as a path, that of a user's home included, and as no URL."""
    return text.startswith("~") or _PATH_BEGINS.match(text) is not None


def is_plain_path(text: str) -> bool:
    """Whether ``text`` is a path of plain names: each short and in small letters, but for a capital at its
    beginning, and one that stands alone without digits."""
    begins = _PATH_BEGINS.match(text)
    if begins is None:
        return False
    parts = re.split(r"[/\\]" if ":" in begins[0] else "/", text[begins.end() :])
    names = [part for part in parts if part.strip(".")]
    return all(map(_NAME.fullmatch, parts)) and (len(names) != 1 or re.search(r"\d", names[0]) is None)


def holds_secret(url: str) -> bool:
    """Whether there is a secret in ``url``. A user's name alone is none here, though `mask` hides it."""
    return bool(_spans(re.sub(r"://[^:/?#@]*@", "://", url, count=1), is_address=True))


def torn(url: str, user: str | None, port: int | None) -> str:
    """Why a parser that found this user and port in ``url`` has a password, or a piece of one, in the host,
    the path or the query, which would be looked up, and told by whoever does not find it; ``""``: it has not.
    """
    behind = url if user is None else url.partition("@")[2]
    if not _LOCAL.match(url) and ("@" in behind.partition("?")[0] or _QUERY_AT.search(behind)):
        return "a password's @ is written %40, and so is a database's"
    return "a port is no number between 0 and 65535" if port is not None and port > 65535 else ""


def blot(message: str, given: Mapping[str, Any] | str) -> str:
    """``message``, which somebody else wrote about a URL or a table of options, without the secrets in these,
    or in the tables and lists inside them."""
    found: set[str] = set()
    for name, text in _texts({"url": given} if isinstance(given, str) else given, ""):
        if _SECRET_NAME.search(name):
            found.add(text)
        for start, stop in _spans(text, is_address=bool(_ADDRESS_NAME.search(name))):
            secret = text[start:stop]
            found |= {secret, unquote(secret), unquote_plus(secret)}
            found |= {piece for piece in _pieces(secret) if len(piece) >= _PIECE}
    spelled = {
        form for secret in found if secret for form in (secret, repr(secret)[1:-1], ascii(secret)[1:-1])
    }
    lower = message.lower()
    for secret in sorted((one for one in spelled if one.lower() in lower), key=len, reverse=True):
        pattern = re.escape(secret)
        if len(secret) < _TELLING:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        message = re.sub(pattern, "***", message, flags=re.IGNORECASE)
    return message


def _texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Each text in ``value`` with what it is called; what is inside something secret is called as that is."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, bytes):
        yield name, value.decode(errors="replace")
        yield name, repr(value)[2:-1]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, str(value)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(one, name if _SECRET_NAME.search(name) else str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one, name)


def _pieces(secret: str) -> Iterator[str]:
    """What parsers may make of ``secret``, who take it for something else: all from one mark to another."""
    marks = [match.span() for match in _MARK.finditer(secret)]
    near = len(marks) if len(marks) < _MARKS else 0
    begins = [0, *(end for _, end in marks)]
    ends = [*(start for start, _ in marks), len(secret)]
    for at, begin in enumerate(begins):
        for end in ends[at : at + 1 + near]:
            yield from (secret[begin:end], unquote(secret[begin:end]))


def _spans(text: str, *, is_address: bool) -> list[tuple[int, int]]:
    """Where the secrets in ``text`` are, in order, none empty and none touching another. ``is_address``: it
    is meant to say where a server is, even if it is no URL."""
    if _NO_PLACE.fullmatch(text):
        return []
    scheme = _SCHEME.match(text)
    begin = scheme.end() if scheme else 0
    found = list(_options(text, is_url=scheme is not None))
    if not _LOCAL.match(text):
        # The last "@" is meant: a password may hold one that its author did not quote.
        at = text.rfind("@", begin)
        if at >= 0:
            user = _USER.match(text, begin, at)
            colon = text.find(":", begin, at)
            named = user is not None and colon >= 0 and user.end() >= colon
            found.append((colon + 1 if named else begin, at))
        if scheme or is_address:
            found += _beyond_host(text, at + 1 or begin, is_url=scheme is not None)
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(span for span in found if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _beyond_host(text: str, begin: int, *, is_url: bool) -> Iterator[tuple[int, int]]:
    """What stands after a colon and is no port, such as a password without the "@" and the host behind it,
    up to the end: whatever it holds is its own. And the fragment, which these URLs do not have."""
    hosts = _BRACKETS.sub(lambda found: " " * len(found[0]), text[begin:])
    if is_url:
        hosts = re.split("[/?#]", hosts, maxsplit=1)[0]
    for colon in re.finditer(":([^,/?#]*)", hosts):
        port = colon[1]
        known = _PORT.fullmatch(port) and not (port.isdecimal() and int(port) > 65535)
        if not known and (port or not is_url):
            yield begin + colon.start(1), len(text)
            return
    path = begin + len(hosts)
    numbered = _NUMBERED.match(text)
    service = _SERVICE.match(text, path) if numbered and numbered[1] else None
    path = service.end() if service else path
    if numbered and not _DATABASE.match(text, path):
        yield path + 1, len(text)
    fragment = text.find("#", begin)
    if is_url and fragment >= 0:
        yield fragment + 1, len(text)


def _options(text: str, *, is_url: bool) -> Iterator[tuple[int, int]]:
    """The values of the options that are secrets: ``name=value`` in a query, or in a list as libpq's."""
    at = 0
    while option := _OPTION.search(text, at):
        quoted = None if is_url else _QUOTED.match(text, option.end())
        following = _NEXT[is_url].search(text, option.end())
        at = quoted.end() if quoted else following.start() if following else len(text)
        names = [option[1], *(one[1] for one in _OPTION.finditer(unquote(text[option.end() : at])))]
        if any(_SECRET_OPTION.search(unquote(name)) for name in names):
            yield (option.end() + 1, at - 1) if quoted else (option.end(), at)
