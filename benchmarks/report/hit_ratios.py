"""The cases that replayed traces make: what `benchmarks.hit_ratio` prints with ``--json``, for the report."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from tiercache.tiers.memory._policies import POLICIES

__all__ = ["ABOUT", "GROUP", "cases"]

Case = dict[str, Any]
Rows = list[dict[str, Any]]

GROUP = "hit_ratio"
ABOUT = (
    "How often a cache has what is asked for: traces of look-ups replayed through the real tiers, what\n"
    "misses being stored, by each policy of the memory tier and at several sizes. Beside them stand the\n"
    "policies of libcachesim, and the optimum, which knows the future: no cache of the size has more hits.\n"
    "Higher is better, except for what misses, moves, takes time or costs. A point is a hundredth of the\n"
    "look-ups. What is told of time and price is an estimate: the tiers' own time as measured, and for each\n"
    "miss what making its value is said to take and to cost."
)

#: The hit ratios that are to be reached, in points: of all traces and sizes together.
_POLICY, _REFERENCE = "s3-fifo", "libcachesim S3FIFO"
#: The policies whose curves are drawn for each trace.
_CURVES = ("lru", _POLICY, "lfu", "libcachesim ARC", "libcachesim WTinyLFU", "optimum")
#: And those of which is told what their hits and misses come to.
_COUNTED = (_POLICY, "lru")


def cases(data: dict[str, Any]) -> dict[str, Case]:
    """By name: of memory alone, all traces together and each by itself; of memory above a disk tier, one."""
    if data["disk"] is not None:
        return {"hit-ratio-chain": _chain(data)}
    return {**dict(_summaries(data["summaries"])), **_traces(data)}


def _summaries(summaries: Rows) -> Iterator[tuple[str, Case]]:
    for name, key, unit, title in (
        ("hit-ratio", "mean", "%", "Hit ratio, the mean over all traces and sizes"),
        ("hit-ratio-above-lru", "above", "points", "Above LRU, the mean over all traces and sizes"),
        ("hit-ratio-worst", "worst", "points", "Above LRU, on the trace and at the size where it is least"),
    ):
        scale = 100 if unit == "%" else 1
        amounts = {one["policy"]: scale * one[key] for one in summaries}
        targets = []
        if _POLICY in amounts and key == "above":
            targets.append(_target(amounts, "at least", 4))
            if _REFERENCE in amounts:
                targets.append(_target(amounts, "at most away", 1, _REFERENCE))
        if _POLICY in amounts and key == "worst":
            targets.append(_target(amounts, "at least", -2))
        yield (
            name,
            {
                "group": GROUP,
                "unit": unit,
                "title": title,
                "took": {policy: {"median": value} for policy, value in amounts.items()},
                "ours": [policy for policy in amounts if policy in POLICIES],
                "targets": targets,
            },
        )


def _traces(data: dict[str, Any]) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for trace in data["traces"]:
        rows = [row for row in data["figures"] if row["trace"] == trace["trace"]]
        points: dict[str, list[list[float]]] = {}
        for row in rows:
            points.setdefault(row["policy"], []).append([row["size"], 100 * row["memory_ratio"]])
        found[f"hit-ratio-{trace['trace'].replace(':', '-')}"] = {
            "group": GROUP,
            "unit": "%",
            "title": (
                f"Hit ratio of {_told(trace)}, the mean over these sizes and at each. "
                f"Below, what the hits and misses come to, where {_costs(data)}"
            ),
            "took": {who: {"median": fmean(y for _, y in line)} for who, line in points.items()},
            "ours": [who for who in points if who in POLICIES],
            "series": {who: points[who] for who in _CURVES if who in points},
            "replays": [_replay(row, None) for row in rows if row["policy"] in _COUNTED],
        }
    return found


def _chain(data: dict[str, Any]) -> Case:
    of_policy: dict[str, Rows] = {}
    for row in data["figures"]:
        of_policy.setdefault(row["policy"], []).append(row)
    took = {
        f"{policy}, {where}": {"median": 100 * fmean(share(row) for row in rows)}
        for policy, rows in of_policy.items()
        for where, share in _SHARES.items()
        if where != "missed"  # so that of each more is better
    }
    return {
        "group": GROUP,
        "unit": "%",
        "title": (
            f"Memory above a disk tier with room for {data['disk']:g} times as many entries: where the "
            f"look-ups hit, the mean over all traces and sizes, and below each by itself, where "
            f"{_costs(data)}. The optimum's misses are those of one cache with the room of both. The traces: "
            f"{'; '.join(map(_told, data['traces']))}"
        ),
        "took": took,
        "ours": [name for name in took if name.partition(",")[0] in POLICIES],
        "replays": [_replay(row, data["disk"]) for row in data["figures"]],
    }


#: Of a row's look-ups those that end there.
_SHARES = {
    "memory": lambda row: row["memory_ratio"],
    "disk": lambda row: row["hit_ratio"] - row["memory_ratio"],
    "missed": lambda row: 1 - row["hit_ratio"],
}


def _told(trace: dict[str, Any]) -> str:
    return f"{trace['trace']} ({trace['lookups']:,} look-ups of {trace['keys']:,} keys)"


def _costs(data: dict[str, Any]) -> str:
    load = data["load"]
    price = f" and costs {load['price']:g}" if load["price"] else ""
    beside = f" ({data['processes']} replays at once, which slows the tiers)" if data["processes"] > 1 else ""
    return f"making a value of {data['value']:,} bytes takes {1e3 * load['seconds']:g} ms{price}{beside}"


def _replay(row: dict[str, Any], disk: float | None) -> dict[str, Any]:
    """What the page shows of one replay; shares in hundredths, and nothing that the optimum has not."""
    shares = {where: 100 * share(row) for where, share in _SHARES.items() if disk or where != "disk"}
    told = {"trace": row["trace"], "entries": row["size"], "policy": row["policy"], **shares}
    done = row["replayed"]
    if done is None:
        return told
    tiers, lookups = done["tiers"], done["lookups"]
    below = sum(tier["bytes_read"] for tier in tiers[1:])
    return {
        **told,
        **({"promotions": sum(tier["promotions"] for tier in tiers)} if disk else {}),
        "moved": below + sum(tier["bytes_written"] for tier in tiers),
        "tiers": done["seconds"] / lookups,
        "seconds": row["seconds"],
        "price": row["price"],
    }


def _target(amounts: dict[str, float], bound: str, limit: float, of: str | None = None) -> dict[str, Any]:
    value = amounts[_POLICY] if of is None else abs(amounts[_POLICY] - amounts[of])
    return {
        "name": _POLICY,
        "bound": bound,
        "limit": limit,
        "of": of,
        "reached": {"median": value},
        "holds": value >= limit if bound == "at least" else value <= limit,
    }
