"""Claims about values and keys."""

from __future__ import annotations

from benchmarks.comparison.trying import Claim, DoesNotApply, Missing, Try

__all__ = ["CLAIMS"]

#: What users' keys look like, now and then; each is to have a value of its own.
KEYS = [
    "a",
    "a\0b",
    "a\0c",
    "",
    "k" * 10_000,
    "models/gemini:x",
    "a b\n",
    "\u00e9",
    "e\u0301",
    "A",
    "../a",
    "\ud800",
    "*",
]


def changed(tried: Try) -> str:
    """A caller appends to the list that it was given."""
    answer = tried.open().do("mutate")
    if "error" in answer:
        return answer.said
    return "unchanged" if answer["value"] == [1] else "changed"


def keys(tried: Try) -> str:
    """Each of `KEYS` gets a value of its own; then all are read."""
    cache = tried.open()
    refused, wrong, missing = [], [], []
    for number, key in enumerate(KEYS):
        answer = cache.do("set", key, f"value {number}")
        if answer.absent:
            raise DoesNotApply
        if "error" in answer:
            refused.append(key)
    for number, key in enumerate(KEYS):
        if key not in refused:
            answer = cache.do("get", key)
            if "value" not in answer:
                missing.append(key)
            elif answer["value"] != f"value {number}":
                wrong.append(key)
    told = [
        f"{len(bad)} {word}: {', '.join(map(_shown, bad[:3]))}{', ...' if bad[3:] else ''}"
        for bad, word in ((refused, "refused"), (missing, "lost"), (wrong, "mixed up"))
        if bad
    ]
    return "; ".join(told) or "all"


def _shown(key: str) -> str:
    if len(key) > 100:
        return "the long one"
    return f"`{key!a}`"


def tuples(tried: Try) -> str:
    """What a tuple comes back as."""
    return _thing(tried, "tuple")


def objects(tried: Try) -> str:
    """Whether an object of somebody's own class comes back, as the cache was set up."""
    return _thing(tried, "object")


def _thing(tried: Try, kind: str) -> str:
    if tried.peer.name == "bentocache" or tried.peer.name.endswith("Store"):
        raise DoesNotApply
    answer = tried.open().do("thing", kind)
    return str(answer["value"]) if "value" in answer else f"refused: {answer.said}"


def planted(tried: Try) -> str:
    """Code that somebody put into the store as a pickle, by way of another process: does a look-up run it?"""
    if tried.peer.keeps == "memory" or tried.peer.name == "bentocache":
        raise DoesNotApply
    made = tried.base / "it-ran"
    with tried.open() as cache:
        answer = cache.do("plant", str(made))
        if "error" in answer:
            return "no: it stores no pickles"
    made.unlink(missing_ok=True)
    tried.open("b" if tried.peer.served else "a").do("get", "bomb")
    return "yes" if made.exists() else "no"


def bounded(tried: Try) -> str:
    """200 values of 100 kB, 5 MB of room."""
    cache = tried.open(bytes=5_000_000)
    answer = cache.do("feature", "bound_bytes", 5_000_000, [str(n).zfill(100_000) for n in range(200)])
    if answer.absent:
        raise Missing
    return f"keeps {answer['value']}" if "value" in answer else answer.said


CLAIMS = (
    Claim("changed", "a caller appends to a list it was given: the cache's own is", changed),
    Claim("keys", f"{len(KEYS)} odd keys, each with a value of its own: kept apart", keys),
    Claim("tuples", "a tuple comes back", tuples),
    Claim("objects", "an object of a class of your own comes back", objects),
    Claim("planted", "reading runs code that somebody else put into the store", planted),
    Claim("bounded", "20 MB of values where 5 MB are allowed", bounded),
)
