"""The keys that texts are kept under: a digest of the text, ours or as LangChain writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b, sha1, sha256, sha512
from typing import Any, Literal, TypeAlias
from uuid import UUID, uuid5

from tiercache.errors import ConfigError

__all__ = ["KeyEncoder", "check_texts", "encoder_of", "name_of", "text_key"]

#: A function from text to key, or the name of an algorithm as ``CacheBackedEmbeddings`` has them.
KeyEncoder: TypeAlias = Callable[[str], str] | Literal["sha1", "blake2b", "sha256", "sha512"]


def text_key(text: str) -> str:
    """The BLAKE2b of ``text``, 256 bits in hexadecimal. Any text has one, lone surrogates too."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def _sha1(text: str) -> str:
    # LangChain makes a UUID of the digest's text, in a name space of its own.
    digest = sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False)
    return str(uuid5(UUID(int=1985), digest.hexdigest()))


def _plain(algorithm: Callable[[bytes], Any]) -> Callable[[str], str]:
    def encode(text: str) -> str:
        return str(algorithm(text.encode("utf-8", "surrogatepass")).hexdigest())

    return encode


_LANGCHAIN: dict[str, Callable[[str], str]] = {
    "sha1": _sha1,
    "blake2b": _plain(blake2b),
    "sha256": _plain(sha256),
    "sha512": _plain(sha512),
}


def encoder_of(choice: KeyEncoder | None) -> Callable[[str], str]:
    """The function that ``choice`` stands for; ``None``: `text_key`. A name stands for the keys that
    ``CacheBackedEmbeddings`` writes under that name, without the namespace that it puts before them.

    Raises `ConfigError` for anything else.
    """
    if choice is None:
        return text_key
    if isinstance(choice, str) and choice in _LANGCHAIN:
        return _LANGCHAIN[choice]
    if callable(choice):
        return choice
    raise ConfigError(
        f"key_encoder: {choice!r:.60} is not allowed; give a function from text to key, or one of "
        f"{', '.join(_LANGCHAIN)}"
    )


def name_of(encoder: Callable[[str], str]) -> str | None:
    """The name by which `encoder_of` knows ``encoder``; ``None`` for every other function."""
    return next((name for name, function in _LANGCHAIN.items() if function is encoder), None)


def check_texts(texts: Iterable[str]) -> list[str]:
    """``texts`` as a list. Raises `TypeError` for one text, or for what is no text among them."""
    if isinstance(texts, str | bytes):
        raise TypeError(f"texts must be a list of str, not one {type(texts).__name__}")
    listed = list(texts)
    for text in listed:
        if not isinstance(text, str):
            raise TypeError(f"a text must be a str, not {type(text).__name__}")
    return listed
