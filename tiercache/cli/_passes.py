"""One pass over the text through a chain of tiers, in this process or in a new one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from time import perf_counter

from sqlalchemy import URL

from tiercache import DiskTier, MemoryTier, SQLTier, TieredCache
from tiercache.cli._model import LocalEmbeddings
from tiercache.codecs import VectorCodec
from tiercache.errors import TierCacheError

__all__ = [
    "CODEC",
    "Pass",
    "Place",
    "Vector",
    "answer",
    "key_of",
    "open_cache",
    "pass_in_new_process",
    "run_pass",
]

Vector = list[float]

CODEC = VectorCodec("float32")
#: Texts that are embedded between two writes: what Ctrl-C can cost is half a second of the model.
BATCH = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chain keeps what it knows."""

    namespace: str
    disk: str  # a directory of this machine
    sqlite: str  # a file that stands for a database, which many machines would share
    redis: str | None = None  # the URL of a server that takes its place


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass did: keys found in each tier and copied into it, texts embedded, seconds it took, and
    a digest of all vectors that came out of it."""

    name: str
    hits: dict[str, int]
    promotions: dict[str, int]
    model_calls: int
    seconds: float
    digest: str


def open_cache(place: Place) -> TieredCache[Vector]:
    """Memory over disk over SQL or Redis. Raises a `TierError` if the lowest tier does not answer."""
    shared: RedisTier | SQLTier
    if place.redis is not None:
        from tiercache import RedisTier

        shared = RedisTier(place.redis)
    else:
        shared = SQLTier(URL.create("sqlite", database=place.sqlite))
    shared.mget(["anybody there?"])  # the chain would go on without it, and embed everything again
    return TieredCache(
        [MemoryTier(), DiskTier(place.disk), shared],
        namespace=place.namespace,
        ttl="30d",
        codec=CODEC,
    )


def key_of(text: str, model: LocalEmbeddings) -> str:
    """Another model gives another vector, so that its name is part of the key."""
    return f"{model.name}:{blake2b(text.encode(), digest_size=20).hexdigest()}"


def run_pass(
    name: str,
    cache: TieredCache[Vector],
    texts: Sequence[str],
    model: LocalEmbeddings,
    on_progress: Callable[[int], object] = lambda _count: None,
) -> tuple[Pass, list[Vector]]:
    """The vectors of ``texts``, in their order, and how they were come by. ``on_progress`` hears how many
    were embedded since it was last called."""
    keys = {key_of(text, model): text for text in texts}

    def embed(missing: list[str]) -> list[Vector]:
        vectors = model.embed_documents([keys[key] for key in missing])
        on_progress(len(missing))
        return vectors

    before, calls, start = cache.stats(), model.calls, perf_counter()
    vectors = cache.mget_or_load(list(keys), embed, batch_size=BATCH)
    seconds = perf_counter() - start
    cache.flush()  # promotions into the disk tier go on behind us; they are to be counted
    tiers = list(zip(before.tiers, cache.stats().tiers, strict=True))

    found = [vector for vector in vectors if vector is not None]
    result = Pass(
        name,
        hits={after.name: after.hits - before.hits for before, after in tiers},
        promotions={after.name: after.promotions - before.promotions for before, after in tiers},
        model_calls=model.calls - calls,
        seconds=seconds,
        digest=blake2b(b"".join(map(CODEC.encode, found)), digest_size=20).hexdigest(),
    )
    return result, found


def pass_in_new_process(name: str, place: Place, texts: Sequence[str]) -> Pass:
    """`run_pass` in a fresh interpreter, whose memory is empty. Raises `TierCacheError` if it fails."""
    # Over a pipe, and not among the arguments, where everybody on this machine could read a URL's password.
    request = json.dumps({"name": name, "place": asdict(place), "texts": texts})
    child = subprocess.run(
        # -P: modules that happen to lie in the current directory are none of ours.
        [sys.executable, "-P", "-m", "tiercache.cli", "demo-pass"],
        input=request.encode(),
        capture_output=True,
        check=False,
    )
    if child.returncode:
        reason = child.stderr.decode(errors="replace").strip() or f"exit code {child.returncode}"
        raise TierCacheError(f"the pass in a new process failed: {reason}")
    return Pass(**json.loads(child.stdout))


def answer(request: bytes) -> str:
    """What `pass_in_new_process` asked of this process."""
    asked = json.loads(request)
    with open_cache(Place(**asked["place"])) as cache:
        result, _ = run_pass(asked["name"], cache, asked["texts"], LocalEmbeddings())
    return json.dumps(asdict(result))
