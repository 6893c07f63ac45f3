"""Claims about loading: what is missing is made by a function of the user's, here one that takes its time."""

from __future__ import annotations

import time

from benchmarks.comparison.driver import Driven
from benchmarks.comparison.trying import Claim, DoesNotApply, Missing, Try, together

__all__ = ["CLAIMS"]

CALLERS, ROUNDS = 8, 5


def _loads(tried: Try, op: str, caches: list[Driven]) -> str | None:
    """How often loaders were called, with a new key a round: the fewest and the most."""
    counts = []
    for number in range(ROUNDS):
        before = tried.loads()
        about = tried.about("v", seconds=0.3)
        key = f"{op} {number} {before}"
        runs = [cache.start(op, key, *about) for _ in range(CALLERS // len(caches)) for cache in caches]
        answers = together(runs)
        if answers[0].absent:
            return None
        wrong = [answer for answer in answers if answer.get("value") != "v"]
        if wrong:
            return wrong[0].said
        counts.append(tried.loads() - before)
    fewest, most = min(counts), max(counts)
    return f"{most}" if fewest == most else f"{fewest} to {most}"


def one_process(tried: Try) -> str:
    """Eight callers in one process, threads and (where it is awaited too) tasks."""
    told = _loads(tried, "load", [tried.open()])
    if told is None:
        raise DoesNotApply
    if tried.peer.name == "tiercache":
        told += f"; as tasks {_loads(tried, 'load', [tried.open('b', tasks=True)])}"
    serialised = _loads(tried, "load_serialised", [tried.open("c")])
    return told if serialised is None else f"{told}; with `barrier` {serialised}"


def two_processes(tried: Try) -> str:
    """Four callers in each of two processes on one machine."""
    if tried.peer.keeps == "memory":
        raise DoesNotApply
    told = _loads(tried, "load", [tried.open(), tried.open()])
    if told is None:
        raise DoesNotApply
    serialised = _loads(tried, "load_serialised", [tried.open("c"), tried.open("c")])
    return told if serialised is None else f"{told}; with `barrier` {serialised}"


def leader_cancelled(tried: Try) -> str:
    """Three tasks ask; the one that loads is cancelled."""
    if tried.peer.tasks is None or tried.peer.name == "bentocache":
        raise DoesNotApply
    cache = tried.open(tasks=True)
    first = cache.start("load", "k", *tried.about("v", seconds=1))
    tried.wait_for_loads(1)
    others = [cache.start("load", "k", *tried.about("v", seconds=1)) for _ in range(2)]
    time.sleep(0.2)
    cache.do("cancel", first.number)
    answers = together(others, within=40)
    if any(answer.said != "the value" for answer in answers):
        return " / ".join(dict.fromkeys(answer.said for answer in answers))
    slowest = max(answer["seconds"] for answer in answers)
    late = f" after {slowest:.0f} s" if slowest > 5 else ""
    return f"the value{late}, {tried.loads()} calls"


def deleted_meanwhile(tried: Try) -> str:
    """A delete comes while the value is being made; then another look-up, that fails to load."""
    cache = tried.open()
    run = cache.start("load", "k", *tried.about("old", seconds=0.7))
    if not run.answer(0.3).absent:
        tried.wait_for_loads(1)
    else:
        raise DoesNotApply
    cache.do("delete", "k")
    run.answer()
    answer = cache.do("load", "k", *tried.about("new"))
    return "the old value" if answer.get("value") == "old" else "a new load"


def loader_fails(tried: Try) -> str:
    """Eight callers wait for a loader that raises."""
    cache = tried.open()
    runs = [cache.start("load", "k", *tried.about("v", 0.4, fails=True)) for _ in range(CALLERS)]
    answers = together(runs)
    if answers[0].absent:
        raise DoesNotApply
    raised = sum("error" in answer for answer in answers)
    return f"{tried.loads()}, {raised} of {CALLERS} callers get the error"


def none_returned(tried: Try) -> str:
    """The loader has nothing to give, and is asked for it twice."""
    cache = tried.open()
    told = []
    for op, word in (("load", ""), ("load_none", "with `cache_none=True` ")):
        before = tried.loads()
        answers = [cache.do(op, "k", *tried.about(None)) for _ in range(2)]
        if answers[0].absent:
            continue
        if any("error" in answer for answer in answers):
            told.append(word + answers[0].said)
        else:
            told.append(word + ("yes" if tried.loads() - before == 1 else "no"))
    if not told:
        raise DoesNotApply
    return "; ".join(told)


def stale_if_error(tried: Try) -> str:
    """The loader raises, and there is a value past its life."""
    cache = tried.open(life=1)
    if cache.do("load_or_stale", "k", *tried.about("old")).absent:
        raise DoesNotApply if cache.do("load", "x", *tried.about("v")).absent else Missing
    time.sleep(1.4)
    answer = cache.do("load_or_stale", "k", *tried.about("new", fails=True))
    return "yes" if answer.get("value") == "old" else "no"


def stale_while_revalidating(tried: Try) -> str:
    """A value past its life, and a loader that takes a second: who asks gets the old value at once?"""
    cache = tried.open(life=1)
    if cache.do("load_or_old", "k", *tried.about("old")).absent:
        raise DoesNotApply if cache.do("load", "x", *tried.about("v")).absent else Missing
    time.sleep(1.4)
    answer = cache.do("load_or_old", "k", *tried.about("new", seconds=1))
    if answer.get("value") != "old":
        return "no"
    return "yes" if answer["seconds"] < 0.5 else "after the load"


CLAIMS = (
    Claim("one-process", f"{CALLERS} callers in one process ask for a missing key: loads", one_process),
    Claim("two-processes", f"{CALLERS} callers in two processes of one machine: loads", two_processes),
    Claim("leader-cancelled", "the task that loads is cancelled: the tasks that wait get", leader_cancelled),
    Claim("loader-fails", f"the loader raises for {CALLERS} callers: calls of it", loader_fails),
    Claim("deleted-meanwhile", "a delete comes during a load: afterwards there is", deleted_meanwhile),
    Claim("none-returned", "a loader's `None` can be kept", none_returned),
    Claim("stale-if-error", "the loader fails: an old value can be had instead", stale_if_error),
    Claim(
        "stale-at-once", "past its life: the old value at once, one load behind it", stale_while_revalidating
    ),
)
