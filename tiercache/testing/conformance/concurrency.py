"""Cases: several threads, tasks and event loops at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from tiercache.testing.conformance.capabilities import needs
from tiercache.testing.conformance.expect import expect, expect_values
from tiercache.testing.conformance.suite import Suite
from tiercache.testing.conformance.views import View

__all__ = ["ConcurrencyCases", "in_threads"]

_ROUNDS = 6


class ConcurrencyCases(Suite, cases=True):
    """A tier serves everybody at once."""

    def test_threads_apart(self, view: View) -> None:
        left: dict[str, bytes] = {}

        def work(number: int) -> None:
            keys = [f"{number}/{n}" for n in range(5)]
            rest: dict[str, bytes] = {}
            for turn in range(_ROUNDS):
                expect_values(view, rest, "what a thread wrote is still there while others write other keys")
                values = {key: f"{key} in round {turn}".encode() for key in keys}
                view.mset({key: self.entry(value) for key, value in values.items()})
                expect_values(view, values, "a thread reads what it wrote while others write other keys")
                view.mdelete(keys[:2])
                rest = {key: values[key] for key in keys[2:]}
                expect_values(view, rest, "a thread's deletes hold while others write", absent=keys[:2])
            left.update(rest)

        in_threads(view, work)
        expect_values(view, left, "when all threads are done nothing of what they wrote is lost")

    def test_threads_together(self, view: View) -> None:
        keys = [f"shared {n}" for n in range(4)]
        allowed = {key: {f"{key} by {number}".encode() * 50 for number in range(8)} for key in keys}

        def work(number: int) -> None:
            for turn in range(_ROUNDS):
                view.mset({key: self.entry(f"{key} by {number}".encode() * 50) for key in keys})
                for key, entry in view.mget(keys).items():
                    expect(entry.value in allowed[key], "a read is one write's value", entry.value[:80])
                if turn % 4 == number % 4:
                    view.mdelete(keys[:1])

        in_threads(view, work)
        expect(
            set(view.mget(keys[1:])) == set(keys[1:]),
            "keys that nobody deleted are there after a storm of writes",
        )

    @needs("asynchronous")
    def test_tasks_at_once(self, view: View) -> None:
        async def work(number: int) -> None:
            key = f"task {number}"
            for turn in range(3):
                value = f"{key} in round {turn}".encode()
                await view.tier.amset({key: self.entry(value)})
                found = await view.tier.amget([key, "absent"])
                expect(
                    list(found) == [key] and found[key].value == value, "a task reads what it wrote", found
                )

        async def everybody() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(50):
                    group.create_task(work(number))

        view.run(everybody())

    @needs("asynchronous")
    def test_one_loop_after_another(self, view: View) -> None:
        async def write() -> None:
            await view.tier.amset({"one": self.entry(b"1")})

        async def read() -> dict[str, Any]:
            found: dict[str, Any] = await view.tier.amget(["one", "two"])
            return found

        asyncio.run(write())
        found = asyncio.run(read())
        expect(list(found) == ["one"], "a tier used in one event loop works in the next", found)

    @needs("asynchronous")
    def test_cancelling_hurts_nobody(self, view: View) -> None:
        values = {f"key {n}": f"value {n}".encode() for n in range(10)}

        async def scenario() -> None:
            tier = view.tier
            await tier.amset({key: self.entry(value) for key, value in values.items()})
            for turns in range(12):
                victims: list[Any] = [
                    asyncio.ensure_future(tier.amget(list(values)[:5])),
                    asyncio.ensure_future(tier.amset({"torn": self.entry(b"v" * turns)})),
                    asyncio.ensure_future(tier.amdelete(["absent"])),
                ]
                for _turn in range(turns):
                    await asyncio.sleep(0)
                for victim in victims:
                    victim.cancel()
                await asyncio.gather(*victims, return_exceptions=True)
                found = await tier.amget(["key 7", "key 8"])
                expect(
                    {key: entry.value for key, entry in found.items()}
                    == {"key 7": b"value 7", "key 8": b"value 8"},
                    f"after calls were cancelled ({turns} turns in) the next one gets its own answer",
                    found,
                )
            torn = (await tier.amget(["torn"])).get("torn")
            whole = torn is None or torn.value in {b"v" * turns for turns in range(12)}
            expect(whole, "a cancelled write leaves a whole value or none", torn)

        view.run(scenario())

    @needs("blocking", "asynchronous")
    def test_both_ways_see_the_same(self, view: View) -> None:
        async def change() -> None:
            found = await view.tier.amget(["one", "two"])
            expect(set(found) == {"one", "two"}, "async calls see what blocking calls stored", found)
            await view.tier.amset({"one": self.entry(b"async")})
            await view.tier.amdelete(["two"])

        view.tier.mset({"one": self.entry(b"1"), "two": self.entry(b"2")})
        view.run(change())
        found = view.tier.mget(["one", "two"])
        expect(list(found) == ["one"], "blocking calls see what async calls deleted", found)
        expect(found["one"].value == b"async", "blocking calls see what async calls stored", found)


def in_threads(view: View, work: Callable[[int], None], threads: int = 8) -> None:
    """Run ``work(0)``, ``work(1)``, … at once; raise the first error of any of them."""
    start = threading.Barrier(threads)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            start.wait(30)
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread of the test
            errors.append(error)
        finally:
            view.leave()

    workers = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    expect(not any(worker.is_alive() for worker in workers), "threads do not block each other for ever")
    if errors:
        raise errors[0]
