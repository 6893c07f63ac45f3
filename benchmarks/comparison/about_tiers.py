"""Claims about several tiers and several processes."""

from __future__ import annotations

import time

from benchmarks.comparison.trying import Claim, DoesNotApply, Missing, Try

__all__ = ["CLAIMS"]


def second_hit(tried: Try) -> str:
    """One process writes; another, which has nothing, looks twice: what does the server hear of it?"""
    server = tried.server
    with tried.open() as first:
        tried.filled(first, "k", "v")
    other = tried.open("b")
    heard = []
    for _ in range(2):
        before = server.commands()
        answer = other.do("get", "k")
        if answer.get("value") != "v":
            return f"the other process gets {answer.said}"
        time.sleep(0.3)  # what is copied behind the caller
        heard.append(server.commands() - before)
    return "no: it is in memory" if heard[1] == 0 else "yes"


def life_after_promotion(tried: Try) -> str:
    """An entry of 2 s is read by another process after 1.2 s, and again after 2.4 s."""
    if tried.peer.keeps == "memory":
        cache = other = tried.open(life=2)
    else:
        cache, other = tried.open(life=2), tried.open("b" if tried.peer.served else "a", life=2)
    try:
        tried.filled(cache, "k", "v")
    except AssertionError:
        raise DoesNotApply from None
    start = time.monotonic()
    time.sleep(1.2)
    first = other.do("get", "k")
    if first.absent:
        first = other.do("load", "k", *tried.about("new"))
    if first.get("value") != "v":
        return f"{first.said} within its life"
    time.sleep(max(0, start + 2.4 - time.monotonic()))
    answer = other.do("get", "k")
    if answer.absent:
        answer = other.do("load", "k", *tried.about("new"))
    return "still served" if answer.get("value") == "v" else "expired"


def foreign_delete(tried: Try) -> str:
    """A key that this process has in memory is deleted by another one."""
    if tried.peer.keeps == "memory":
        raise DoesNotApply
    here, there = tried.open(), tried.open("b" if tried.peer.served else "a")
    tried.filled(there, "k", "v")
    for _ in range(2):
        if here.do("get", "k").get("value") != "v":
            return "the other process does not see the key"
        time.sleep(0.3)
    there.do("delete", "k")
    start = time.monotonic()
    while (passed := time.monotonic() - start) < 4:
        if here.do("get", "k").get("value") != "v":
            return "at once" if passed < 0.5 else f"after {passed:.1f} s"
        time.sleep(0.05)
    return "not within 4 s"


def many(tried: Try) -> str:
    """100 keys, which another process wrote, in one call."""
    server = tried.server
    keys = [f"k{number}" for number in range(100)]
    with tried.open() as first:
        for key in keys:
            tried.filled(first, key, key)
    other = tried.open("b")
    other.do("get", "nothing")  # connections, scripts
    time.sleep(0.3)
    before = server.commands()
    answer = other.do("get_many", keys)
    if answer.absent:
        raise Missing
    found = sum(value is not None for value in answer.get("value", ()))
    return f"{server.commands() - before}" if found == 100 else f"finds {found}"


def both_ways(tried: Try) -> str:
    """Whether one object serves blocking and awaiting callers."""
    if tried.peer.name == "tiercache":
        with tried.open() as threads:
            tried.filled(threads, "k", "v")
        blocking_part = tried.open(tasks=True)
        assert blocking_part.do("get", "k").get("value") == "v"
        assert "error" not in blocking_part.do("set", "x", "v")  # the blocking method, on the same object
        return "both, one object" if blocking_part.do("get", "x").get("value") == "v" else "no"
    return "awaiting" if tried.peer.tasks else "blocking"


CLAIMS = (
    Claim("second-hit", "a value another process wrote is read twice: the server is asked again", second_hit),
    Claim(
        "life", "an entry of 2 s, read by another process after 1.2 s, is after 2.4 s", life_after_promotion
    ),
    Claim("foreign-delete", "another process deletes a key that this one has read: seen", foreign_delete),
    Claim("many", "100 keys in one call, from Redis: commands at the server", many),
    Claim("both-ways", "callers that block, callers that await", both_ways),
)
