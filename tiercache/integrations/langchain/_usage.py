"""What a cache of embeddings did, and what it saved: counters inside, frozen records outside."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import floor, log10
from time import perf_counter
from typing import Any

from tiercache.forks import reset_after_fork
from tiercache.tokens import Tokens

__all__ = ["EmbeddingStats", "EmbeddingUsage", "Tokens", "Usage"]


@dataclass(frozen=True, slots=True)
class EmbeddingUsage:
    """One kind of text since the object was made.

    ``served`` texts came from the cache, or from a call of the model that somebody else made for them
    (duplicates count each time); ``embedded`` were given to the model, whose answers were sound.
    ``model_calls`` counts all calls, and ``model_calls_saved`` those more that the same requests would have
    made without a cache, in batches of the same size. ``model_seconds`` is the time spent in the model.
    ``tokens_spent`` and ``tokens_saved`` are those of embedded and of served texts, 0 where nobody counts.
    """

    embedded: int = 0
    served: int = 0
    model_calls: int = 0
    model_calls_saved: int = 0
    model_seconds: float = 0.0
    tokens_spent: int = 0
    tokens_saved: int = 0

    @property
    def texts(self) -> int:
        """How many texts were asked for."""
        return self.embedded + self.served

    def __add__(self, other: EmbeddingUsage) -> EmbeddingUsage:
        return EmbeddingUsage(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class EmbeddingStats:
    """A snapshot of what a `CachedEmbeddings` did. ``str()`` of it is a table, `as_dict` plain data.

    ``price_per_1000_tokens`` is the price that was given, and money is in its currency; without one it is
    ``None``. ``tokens_estimated``: nobody gave a way to count, and four bytes of UTF-8 are taken for a token.
    """

    documents: EmbeddingUsage = EmbeddingUsage()
    queries: EmbeddingUsage = EmbeddingUsage()
    price_per_1000_tokens: float | None = None
    tokens_estimated: bool = False

    @property
    def total(self) -> EmbeddingUsage:
        """Documents and queries together."""
        return self.documents + self.queries

    @property
    def model_calls_saved(self) -> int:
        """Calls of the model that the cache made needless."""
        return self.total.model_calls_saved

    @property
    def money_spent(self) -> float | None:
        """The price of the tokens that the model was given."""
        return self._price(self.total.tokens_spent)

    @property
    def money_saved(self) -> float | None:
        """The price of the tokens that the cache kept from the model."""
        return self._price(self.total.tokens_saved)

    def as_dict(self) -> dict[str, Any]:
        """Everything as nested dicts and numbers, ready for JSON."""
        data = asdict(self)
        for name, usage in (("documents", self.documents), ("queries", self.queries), ("total", self.total)):
            data[name] = {**asdict(usage), "texts": usage.texts}
        return {**data, "money_spent": self.money_spent, "money_saved": self.money_saved}

    def __str__(self) -> str:
        about = "~" if self.tokens_estimated else ""
        rows: list[tuple[str, ...]] = [
            ("", "texts", "served", "embedded", "model calls", "saved", "model s", "tokens spent", "saved")
        ]
        rows += [
            (
                name,
                *(f"{count:,}" for count in (usage.texts, usage.served, usage.embedded)),
                *(f"{count:,}" for count in (usage.model_calls, usage.model_calls_saved)),
                f"{usage.model_seconds:.2f}",
                *(f"{about if count else ''}{count:,}" for count in (usage.tokens_spent, usage.tokens_saved)),
            )
            for name, usage in (
                ("documents", self.documents),
                ("queries", self.queries),
                ("total", self.total),
            )
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        spent, saved = self.money_spent, self.money_saved
        if self.price_per_1000_tokens is not None and spent is not None and saved is not None:
            lines.append(
                f"at {_amount(self.price_per_1000_tokens)} per 1,000 tokens: "
                f"{about if spent else ''}{_amount(spent)} spent, "
                f"{about if saved else ''}{_amount(saved)} saved"
            )
        return "\n".join(lines)

    def _price(self, tokens: int) -> float | None:
        return None if self.price_per_1000_tokens is None else tokens * self.price_per_1000_tokens / 1000


class Usage:
    """The counters behind an `EmbeddingUsage`. Thread-safe; a forked child keeps them."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self._total = EmbeddingUsage()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock: another thread may have held the old one."""
        # Re-entrant: the garbage collector may throw a call of the model away in a thread that holds it.
        self._lock = threading.RLock()

    def snapshot(self) -> EmbeddingUsage:
        """The counts so far."""
        return self._total

    @contextmanager
    def model_call(self) -> Iterator[None]:
        """Count the call of the model inside, whatever becomes of it."""
        start = perf_counter()
        try:
            yield
        finally:
            self._add(EmbeddingUsage(model_calls=1, model_seconds=perf_counter() - start))

    def embedded(self, texts: Sequence[str]) -> None:
        """Count ``texts`` for which the model gave sound vectors."""
        self._add(EmbeddingUsage(embedded=len(texts), tokens_spent=self.tokens.of(texts)))

    def answered(self, texts: Sequence[str], embedded: Sequence[str], calls_saved: int) -> None:
        """Count a request for ``texts``, of which ``embedded`` were counted before."""
        served = len(texts) - len(embedded)
        if served:
            saved = self.tokens.of(texts) - (self.tokens.of(embedded) if embedded else 0)
            self._add(EmbeddingUsage(served=served, model_calls_saved=calls_saved, tokens_saved=saved))

    def _add(self, more: EmbeddingUsage) -> None:
        with self._lock:
            self._total += more


def _amount(money: float) -> str:
    """``money`` to the fourth place, and a small amount to its fourth digit: an embedding costs so little
    that fixed places would show nothing. Never with an exponent."""
    places = 3 - floor(log10(money)) if 0 < money < 0.1 else 4
    return f"{money:,.{places}f}".rstrip("0").rstrip(".")
