"""How many tokens a call of a model took: as its provider says, or as somebody counts, or else estimated.

Providers tell it with each answer, each in its own words. `TokenUsage.of` reads those of OpenAI, Anthropic
and Google, of whatever speaks like them, and LangChain's. Where they differ is what "input" means: some count
what came from their own prompt cache in it, some apart; here it is always apart, for it has another price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any

from tiercache._log import logger

__all__ = ["TokenUsage", "Tokens", "estimate", "report_usage", "reported", "texts_in"]

#: Bytes of UTF-8 that are about one token, where nobody counts them.
_BYTES_A_TOKEN = 4
#: How deep texts are looked for in arguments: the parts of a message in a list of them.
_DEEPEST = 6


def estimate(text: str) -> int:
    """About how many tokens ``text`` is: one for four bytes of UTF-8."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_A_TOKEN)


def texts_in(thing: Any, depth: int = _DEEPEST) -> Iterator[str]:
    """The texts in ``thing``, and in the lists and mappings in it, such as messages."""
    if isinstance(thing, str):
        yield thing
    elif depth and isinstance(thing, Mapping):
        for value in thing.values():
            yield from texts_in(value, depth - 1)
    elif depth and isinstance(thing, list | tuple):
        for value in thing:
            yield from texts_in(value, depth - 1)


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens of one call, or of several. ``input`` is without those of the provider's own prompt cache:
    ``cache_read`` came from it, ``cache_write`` (kept for five minutes, or as long as the provider's default
    says) and ``cache_write_1h`` (for an hour) went into it."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    #: Whether nobody counted some of them.
    estimated: bool = False

    def __add__(self, other: TokenUsage) -> TokenUsage:
        sums = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return TokenUsage(**sums, estimated=self.estimated or other.estimated)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, name) for name in _COUNTS)

    @classmethod
    def of(cls, answer: Any) -> TokenUsage | None:
        """What the provider says in ``answer`` (a response, a message, or the usage by itself, as an object
        or a mapping); ``None`` where it says nothing of tokens. Raises nothing for an answer of any form."""
        for usage in _told(answer):
            for reader in (_chat, _gemini, _messages):
                found = reader(usage)
                if found is not None:
                    return found
        return None


_COUNTS = tuple(each.name for each in fields(TokenUsage) if each.name != "estimated")


#: What a call has reported by now, where somebody wants to know.
_reports: ContextVar[list[TokenUsage] | None] = ContextVar("tiercache_usage", default=None)


def report_usage(answer: Any) -> None:
    """Called inside a loader: the provider's ``answer`` tells what this call took (see `TokenUsage.of`), or
    it is a `TokenUsage`. For loaders that return but a part of the answer; what several calls of a provider
    report adds up. Does nothing where no ledger is kept, or the answer tells nothing."""
    reports = _reports.get()
    if reports is not None:
        usage = answer if isinstance(answer, TokenUsage) else TokenUsage.of(answer)
        if usage is not None:
            reports.append(usage)


@contextmanager
def reported(reports: list[TokenUsage]) -> Iterator[None]:
    """What is reported inside, in this thread or task and those that it begins, goes into ``reports``."""
    token = _reports.set(reports)
    try:
        yield
    finally:
        with suppress(ValueError):  # an abandoned coroutine is closed in whatever context there is
            _reports.reset(token)


class Tokens:
    """Counts tokens, where somebody wants to know. A count that fails is told once, and is 0."""

    def __init__(self, count: Callable[[str], int] | None, *, wanted: bool) -> None:
        self.estimated = count is None and wanted
        self._count = estimate if self.estimated else count
        self._failed = False

    @property
    def counts(self) -> bool:
        """Whether somebody gave a way to count."""
        return self._count is not None and not self.estimated

    def of(self, texts: Sequence[str]) -> int:
        """The tokens of all ``texts``."""
        if self._count is None:
            return 0
        try:
            return sum(map(self._count, texts))
        except Exception as error:  # noqa: BLE001 - statistics never break a call
            if not self._failed:
                self._failed = True
                logger().warning("count_tokens raised %s; its tokens count as 0", type(error).__name__)
            return 0


#: Where the usage stands in answers.
_PLACES = (
    ("usage_metadata",),
    ("usage",),
    ("usageMetadata",),
    ("llm_output", "token_usage"),
    ("response_metadata", "token_usage"),
    ("response_metadata", "usage"),
)


def _told(answer: Any) -> list[Any]:
    """Where usage may be told in ``answer``, itself first."""
    places = [answer]
    for path in _PLACES:
        found = answer
        for name in path:
            found = _get(found, name)
        if found is not None:
            places.append(found)
    return places


def _chat(usage: Any) -> TokenUsage | None:
    """As OpenAI's chat completions and embeddings say it: what was cached is counted in the prompt."""
    prompt = _count(usage, "prompt_tokens")
    if prompt is None:
        return None
    read = _count(_get(usage, "prompt_tokens_details"), "cached_tokens") or 0
    return TokenUsage(max(0, prompt - read), _count(usage, "completion_tokens") or 0, read)


def _gemini(usage: Any) -> TokenUsage | None:
    """As Google says it, in either spelling: what was cached is counted in the prompt, thoughts apart."""
    for names in _GEMINI:
        prompt, read, *output = (_count(usage, name) for name in names)
        if prompt is not None:
            read = read or 0
            return TokenUsage(max(0, prompt - read), sum(one or 0 for one in output), read)
    return None


_GEMINI = (
    ("prompt_token_count", "cached_content_token_count", "candidates_token_count", "thoughts_token_count"),
    ("promptTokenCount", "cachedContentTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
)


def _messages(usage: Any) -> TokenUsage | None:
    """As Anthropic's messages, OpenAI's responses and LangChain say it, which share words for the sums."""
    total = _count(usage, "input_tokens")
    if total is None:
        return None
    output = _count(usage, "output_tokens") or 0
    inside = _get(usage, "input_tokens_details")  # OpenAI's
    if inside is not None:
        read = _count(inside, "cached_tokens") or 0
        return TokenUsage(max(0, total - read), output, read)
    inside = _get(usage, "input_token_details")  # LangChain's: in the sum, too
    if inside is not None:
        read = _count(inside, "cache_read") or 0
        written = _written(_count(inside, "cache_creation") or 0, inside)
        return TokenUsage(max(0, total - read - sum(written)), output, read, *written)
    read = _count(usage, "cache_read_input_tokens") or 0
    split = _get(usage, "cache_creation")
    return TokenUsage(
        total, output, read, *_written(_count(usage, "cache_creation_input_tokens") or 0, split)
    )


def _written(total: int, split: Any) -> tuple[int, int]:
    """What went into the provider's cache for five minutes, and for an hour: by ``split`` where it is told,
    which the ``total`` may contain or not."""
    hour = _count(split, "ephemeral_1h_input_tokens") or 0
    short = _count(split, "ephemeral_5m_input_tokens") or 0
    return max(short, total - hour), hour


def _get(thing: Any, name: str) -> Any:
    if thing is None or isinstance(thing, str | bytes):
        return None
    try:
        return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - an answer is somebody else's, and may do anything when it is asked
        return None


def _count(thing: Any, name: str) -> int | None:
    number = _get(thing, name)
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None
