"""The main job of the `tiercache` command: embed real text through three tiers, and then not again."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tiercache._masking import mask
from tiercache.chain import TieredCache
from tiercache.cli._model import LocalEmbeddings
from tiercache.cli._passes import (
    CODEC,
    Pass,
    Place,
    Vector,
    key_of,
    open_cache,
    pass_in_new_process,
    run_pass,
)
from tiercache.cli._report import Answer, Comparison, Report, Screen
from tiercache.cli._texts import Chunk, chunked, python_documentation, text_files
from tiercache.errors import ConfigError

__all__ = ["Options", "run_demo"]

QUESTIONS = ("How do I handle an exception?", "What makes an object usable in a with statement?")
#: How many vectors are compared with what the model says of the same texts now: a second of its time.
COMPARED = 32
#: What a shell gives for a process that Ctrl-C ended.
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of ``tiercache demo``."""

    limit: int | None = None
    text: Path | None = None
    questions: Sequence[str] = ()
    redis: str | None = None
    folder: Path | None = None
    as_json: bool = False

    def command(self, folder: Path) -> list[str]:
        """What to type for the same in ``folder``; the password of a Redis is left for the user to add."""
        words = [*_as_started(), "demo"]
        if self.limit is not None:
            words += ["--limit", str(self.limit)]
        if self.text is not None:
            words += ["--text", str(self.text)]
        for question in self.questions:
            words += ["--question", question]
        if self.redis is not None:
            words += ["--redis", mask(self.redis)]
        if self.as_json:
            words.append("--json")
        return [*words, "--dir", str(folder)]


def run_demo(options: Options) -> int:
    """Run the demo and show what came of it; the exit code.

    Without a folder of their own the entries are dropped at the end; after Ctrl-C they are kept, so that
    what was embedded is not lost. Raises `TierCacheError` where the demo cannot run.
    """
    screen = Screen(as_json=options.as_json)
    documents = python_documentation() if options.text is None else text_files(options.text)
    chunks = chunked(documents, options.limit)
    model = LocalEmbeddings()

    keep = options.folder is not None
    folder = _folder(options.folder)
    # Several runs may share one Redis: each folder's entries have a namespace of their own there.
    place = Place(
        f"tiercache-demo/{folder.name}", str(folder / "disk"), str(folder / "shared.sqlite"), options.redis
    )
    try:
        with open_cache(place) as cache:
            try:
                model.load()
                screen.begin(documents=len(documents), chunks=len(chunks), model=model, place=place)
                passes, vectors = _passes(cache, place, chunks, model, screen)
                comparison = _compare(passes, vectors, chunks, model)
                answers = [
                    _answer(question, vectors, chunks, model) for question in options.questions or QUESTIONS
                ]
                report = Report(len(documents), len(chunks), model, passes, comparison, answers, folder, keep)
                screen.show(report)
            except KeyboardInterrupt:
                stored = cache.stats().tiers[-1].sets
                keep = keep or stored > 0
                screen.interrupted(stored, options.command(folder) if keep else [])
                return INTERRUPTED
            finally:
                if options.redis and not keep:
                    cache.mdelete([key_of(chunk.text, model) for chunk in chunks])
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if comparison.identical else 1


def _as_started() -> list[str]:
    """What to type for this command here: its name if the shell finds it by that, else where it lies."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return [sys.executable, "-m", "tiercache"]
    found = shutil.which("tiercache")
    if started.stem != "tiercache" or not started.exists() or (found and started.samefile(found)):
        return ["tiercache"]
    return [str(started)]


def _folder(chosen: Path | None) -> Path:
    if chosen is None:
        return Path(tempfile.mkdtemp(prefix="tiercache-demo-"))
    folder = chosen.expanduser().resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--dir: {folder} cannot be made ({error.strerror})") from error
    return folder


def _passes(
    cache: TieredCache[Vector], place: Place, chunks: Sequence[Chunk], model: LocalEmbeddings, screen: Screen
) -> tuple[list[Pass], list[Vector]]:
    """The four passes, and the vectors that the cache gave when it was warm."""
    texts = [chunk.text for chunk in chunks]
    with screen.progress(len(texts)) as begin:
        cold, _ = run_pass("cold", cache, texts, model, begin("cold"))
        begin("warm")
        warm, vectors = run_pass("warm", cache, texts, model)
        begin("new process")
        new_process = pass_in_new_process("new process", place, texts)
        begin("other machine")
        with tempfile.TemporaryDirectory(prefix="tiercache-demo-") as empty:
            elsewhere = replace(place, disk=str(Path(empty, "disk")))
            other_machine = pass_in_new_process("other machine", elsewhere, texts)
    return [cold, warm, new_process, other_machine], vectors


def _compare(
    passes: Sequence[Pass], vectors: Sequence[Vector], chunks: Sequence[Chunk], model: LocalEmbeddings
) -> Comparison:
    """Every vector of every pass with those of the first, and a sample of those with the model's own."""
    size = min(COMPARED, len(chunks))
    sample = [number * len(chunks) // size for number in range(size)]  # spread over all of them
    anew = model.embed_documents([chunks[number].text for number in sample])
    wrong = [
        chunks[number]
        for number, vector in zip(sample, anew, strict=True)
        if CODEC.encode(vector) != CODEC.encode(vectors[number])
    ]
    differing = [one.name for one in passes if one.digest != passes[0].digest]
    return Comparison(len(sample), tuple(chunk.topic for chunk in wrong), tuple(differing))


def _answer(
    question: str, vectors: Sequence[Vector], chunks: Sequence[Chunk], model: LocalEmbeddings
) -> Answer:
    """The chunk whose vector points most nearly where the question's does. The question is embedded; the
    chunks come out of the cache."""
    matrix = np.array(vectors)
    asked = np.array(model.embed_query(question))
    cosines = matrix @ asked / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(asked))
    best = int(cosines.argmax())
    return Answer(question, chunks[best].topic, float(cosines[best]), chunks[best].text)
