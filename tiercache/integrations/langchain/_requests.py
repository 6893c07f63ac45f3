"""One request for vectors: the keys of its texts, what the model is asked, and what it may answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.runnables import run_in_executor

from tiercache._loading.sending import Joint, joint
from tiercache._log import logger
from tiercache._running.bridge import Runtime
from tiercache.chain import TieredCache
from tiercache.errors import CodecError, LoadError
from tiercache.integrations.langchain._paid import books_of, unkept
from tiercache.integrations.langchain._usage import Tokens, Usage
from tiercache.integrations.langchain._vectors import DType, Lists, Vector, pack
from tiercache.tokens import TokenUsage, report_usage

__all__ = ["Progress", "Request", "Side"]

#: Told how many texts of a call are done, and how many there are.
Progress: TypeAlias = Callable[[int, int], object]


class Side:
    """Documents or queries: where their vectors are kept, who makes them, and what is known of them.

    ``verb``: the model's method; ``single``: it takes one text and gives one vector. ``many``: the one that
    takes the texts of several callers, if there is one. ``length``: how many numbers a vector has, once one
    was seen.
    """

    def __init__(
        self,
        view: TieredCache[Vector],
        namespace: str,
        model: Any,
        verb: str,
        usage: Usage,
        *,
        single: bool,
        many: str | None,
    ) -> None:
        self.view = view
        self.namespace = namespace
        self.usage = usage
        self.single = single
        self.many = many
        self.length: int | None = None
        self._model = model
        self._verb = verb

    @property
    def call(self) -> Callable[[Any], Any]:
        """The model's method, for a list of texts or a single one."""
        return getattr(self._model, self._verb)  # type: ignore[no-any-return]  # of whatever model

    @property
    def acall(self) -> Callable[[Any], Awaitable[Any]] | None:
        """Its native async twin, if the model has one."""
        return getattr(self._model, f"a{self._verb}", None)

    def call_many(self, texts: list[str]) -> Any:
        """What the model answers to the texts of several callers."""
        return getattr(self._model, str(self.many))(texts)

    async def acall_many(self, texts: list[str]) -> Any:
        """The same, awaited."""
        native = getattr(self._model, f"a{self.many}", None)
        return await (run_in_executor(None, self.call_many, texts) if native is None else native(texts))

    def report(self, texts: Sequence[str]) -> None:
        """Tell the ledger what the model took for ``texts``: it was paid for, whatever it gave."""
        if books_of(self.view) is not None:
            report_usage(self.tokens(texts))

    def tokens(self, texts: Sequence[str]) -> TokenUsage:
        """Those of ``texts``, as they are counted for the statistics or else for the ledger, or estimated."""
        books = books_of(self.view)
        own = self.usage.tokens
        if own.counts or books is None or books.ledger.count_tokens is None:
            counted = own if own.counts else Tokens(None, wanted=True)
        else:
            counted = Tokens(books.ledger.count_tokens, wanted=True)
        return TokenUsage(counted.of(texts), estimated=counted.estimated)

    def check(self, vectors: Sequence[Vector]) -> None:
        """Raise `CodecError` unless ``vectors`` are of one length, which is that of those seen before."""
        lengths = {vector.length for vector in vectors}
        if not lengths or lengths == {self.length}:
            return
        if 0 in lengths:
            raise CodecError("a vector without numbers")
        if len(lengths) == 1 and self.length is None:
            (self.length,) = lengths
            return
        known_too = lengths if self.length is None else lengths | {self.length}
        several = ", ".join(f"{length:,}" for length in sorted(known_too))
        raise CodecError(
            f"vectors of different lengths ({several} numbers) for the namespace {self.namespace!r}: "
            f"another model, or another size of its vectors, needs a namespace of its own"
        )


def _texts(loader: Any, keys: Sequence[str]) -> list[str]:
    return [loader.__self__.text_of[key] for key in keys]


class Request:
    """``texts`` of one side, each wanted once for each time that it is among them.

    `begin`, then ``load`` or ``aload`` as the chain asks for them, then `end`. ``batch_size`` is that of the
    chain's loads; ``done`` and ``total``: what ``progress`` is told of the call that this request is a part
    of. ``lists``: who will be asked for lists of the vectors, and may keep the floats of new ones for that.
    """

    def __init__(
        self,
        side: Side,
        texts: list[str],
        key: Callable[[str], str],
        dtype: DType,
        *,
        batch_size: int | None = None,
        progress: Progress | None = None,
        done: int = 0,
        total: int | None = None,
        lists: Lists | None = None,
    ) -> None:
        self.side = side
        self.batch_size = batch_size
        self.embedded: list[str] = []
        self._texts = texts
        self._keys = list(map(key, texts))
        self.text_of = dict(zip(self._keys, texts, strict=True))
        #: The keys, each once, in first-seen order.
        self.unique = self._keys if len(self.text_of) == len(texts) else list(self.text_of)
        self._dtype = dtype
        self._lists = lists
        self._progress = progress
        self._done = done
        self._total = done + len(self.unique) if total is None else total
        self._end = done + len(self.unique)
        self._told = done or -1  # the part before this one told as much
        self._held: dict[str, Vector] = {}
        self.calls = 0

    @property
    def looks_first(self) -> bool:
        """Whether `begin` wants to know what is cached: nobody else can tell how much there is to do."""
        return self._progress is not None

    def texts_of_unique(self) -> list[str]:
        """The texts of `unique`."""
        return [self.text_of[key] for key in self.unique]

    def begin(self, found: Sequence[Vector | None]) -> list[str]:
        """Which keys to load; ``found``: what is cached of `unique`, or nothing unless it `looks_first`."""
        if not self.looks_first:
            return self.unique
        self._held = {
            key: vector for key, vector in zip(self.unique, found, strict=True) if vector is not None
        }
        self._tell(self._done + len(self._held))
        return [key for key in self.unique if key not in self._held]

    def load(self, keys: list[str]) -> list[Vector]:
        """The vectors of ``keys``, from the model."""
        texts = self.asked(keys)
        with self.side.usage.model_call():
            answer = self.side.call(texts[0] if self.side.single else texts)
        self.side.report(texts)
        return self._accepted(texts, answer)

    async def aload(self, keys: list[str]) -> list[Vector]:
        """The same, awaited."""
        acall = self.side.acall
        assert acall is not None  # noqa: S101 - callers look
        texts = self.asked(keys)
        with self.side.usage.model_call():
            answer = await acall(texts[0] if self.side.single else texts)
        self.side.report(texts)
        return self._accepted(texts, answer)

    def end(self, loaded: Sequence[Vector | None]) -> list[Vector]:
        """The vectors of all texts, in their order, given those of the keys that `begin` named.

        Raises `LoadError` where they are not of one length.
        """
        vectors: Any = loaded  # none is missing: a load gives all of its keys, or raises
        if self._held or len(self.unique) < len(self._keys):
            asked = self.unique if not self._held else [key for key in self.unique if key not in self._held]
            by_key = {**self._held, **dict(zip(asked, vectors, strict=True))}
            vectors = [by_key[key] for key in self._keys]
        self._check(vectors)
        batches = -(-len(self._texts) // (self.batch_size or len(self._texts) or 1))
        self.side.usage.answered(self._texts, self.embedded, max(0, batches - self.calls))
        self._tell(self._end)
        return list(vectors)

    async def uncached(self, runtime: Runtime) -> list[float]:
        """What the model answers to a single text, and nothing else."""
        side = self.side
        acall = None if runtime.blocking else side.acall

        def load(_key: str) -> Any:
            with side.usage.model_call():
                answer = side.call(self._texts[0])
            side.report(self._texts)
            return answer

        async def aload(_key: str) -> Any:
            with side.usage.model_call():
                answer = await acall(self._texts[0])  # type: ignore[misc]  # it is there, or `load` is taken
            side.report(self._texts)
            return answer

        answer = await unkept(runtime, side.view, load if acall is None else aload, self._texts)
        side.usage.embedded(self._texts)
        return answer  # type: ignore[no-any-return]  # the model's own

    def asked(self, keys: list[str]) -> list[str]:
        # The chain asks for a batch when those before it are stored.
        self._tell(self._done + len(self._held) + len(self.embedded))
        self.calls += 1
        return [self.text_of[key] for key in keys]

    def _accepted(self, texts: list[str], answer: Any) -> list[Vector]:
        """The model's answer, packed. Raises `LoadError` for one that must not be kept."""
        return self.packed(texts, _rows([answer] if self.side.single else answer, texts))

    def packed(self, texts: list[str], rows: list[Any]) -> list[Vector]:
        try:
            # Copies, also of the rows: a model may use its lists again.
            vectors = pack(rows, self._dtype, finite=True, floats=self._lists is not None)
        except CodecError as error:
            raise LoadError(f"the model gave what cannot be kept: {error}") from error
        self._check(vectors)
        if self._lists is not None:
            self._lists.keep([vector for vector in vectors if vector.floats is not None])
        self.side.usage.embedded(texts)
        self.embedded += texts
        return vectors

    def _check(self, vectors: Sequence[Vector]) -> None:
        try:
            self.side.check(vectors)
        except CodecError as error:
            raise LoadError(str(error)) from error

    def _tell(self, done: int) -> None:
        if self._progress is None or done == self._told:
            return
        self._told = done
        try:
            self._progress(done, self._total)
        except Exception as error:  # noqa: BLE001 - a hook never breaks a call
            logger().warning("a progress callback raised %s", type(error).__name__)

    # -- several requests in one call --------------------------------------------------------------

    @staticmethod
    def _join(parts: Sequence[tuple[Any, list[str]]]) -> Callable[[list[str]], Any]:
        """One loader for those of several requests, each with its keys."""
        requests = [(loader.__self__, keys) for loader, keys in parts]
        side = requests[0][0].side

        def texts() -> list[list[str]]:
            asked = [request.asked(keys) for request, keys in requests]
            for request, _ in requests[1:]:
                request.calls -= 1  # they are all one call of the model
            return asked

        def given(asked: list[list[str]], answer: Any) -> list[Any]:
            rows = _rows(answer, [text for one in asked for text in one])
            vectors: list[Any] = []
            for (request, _), one in zip(requests, asked, strict=True):
                try:
                    vectors += request.packed(one, rows[len(vectors) : len(vectors) + len(one)])
                except LoadError as error:  # of these texts alone
                    vectors += [error] * len(one)
            return vectors

        def load(_keys: list[str]) -> list[Any]:
            asked = texts()
            with side.usage.model_call():
                answer = side.call_many([text for one in asked for text in one])
            side.report([text for one in asked for text in one])
            return given(asked, answer)

        async def aload(_keys: list[str]) -> list[Any]:
            asked = texts()
            with side.usage.model_call():
                answer = await side.acall_many([text for one in asked for text in one])
            side.report([text for one in asked for text in one])
            return given(asked, answer)

        return aload if parts[0][0].__func__ is Request.aload else load

    @staticmethod
    def _group(loader: Any) -> Any:
        """Requests of one side are joined, if their model takes the texts of several."""
        request = loader.__self__
        return None if request.side.many is None else (request.side, loader.__func__)

    for _loader in (load, aload):
        joint(_loader, Joint(_group, _join, _texts))


def _rows(answer: Any, texts: Sequence[str]) -> list[Any]:
    """The rows of a model's answer to ``texts``. Raises `LoadError` for one that has not one for each."""
    if isinstance(answer, str | bytes | Mapping) or not hasattr(answer, "__iter__"):
        raise LoadError(f"the model gave a {type(answer).__name__}; it must give a list of vectors")
    rows = answer if isinstance(answer, list) else list(answer)
    if len(rows) != len(texts):
        raise LoadError(
            f"the model was given {len(texts)} texts and gave {len(rows)} vectors; it must give one for "
            f"each, in their order"
        )
    return rows
