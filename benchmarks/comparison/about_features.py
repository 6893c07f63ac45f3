"""What each has beside a cache's look-ups, shown by using it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.comparison.trying import Claim, Missing, Try

__all__ = ["CLAIMS"]


def _feature(name: str) -> Callable[[Try], str]:
    def check(tried: Try) -> str:
        answer = tried.open().do("feature", name)
        if answer.absent:
            raise Missing
        return str(answer["value"]) if "value" in answer else answer.said

    check.__doc__ = f"``can_{name}`` of the adapter."
    return check


CLAIMS = tuple(
    Claim(name.replace("_", "-"), question, _feature(name))
    for name, question in (
        ("tag", "drop all entries that carry a tag"),
        ("clear_a_namespace", "clear one namespace and leave others"),
        ("list", "list the keys"),
        ("extend", "move an entry's end on"),
        ("statistics", "statistics"),
        ("count", "atomic counters"),
        ("lock", "locks for other uses"),
        ("limit_rates", "limits on rates"),
        ("collect", "queues, indexes, filters"),
        ("transact", "transactions"),
        ("sign", "values signed or encrypted"),
        ("configure", "made from a file, a mapping or a URL"),
    )
)
