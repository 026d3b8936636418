"""What announcing costs: a publish, and an execution with consumers beside the same one without.

    python benchmarks/bus.py

The first table is one `EventBus.publish` of an event that is made already, in microseconds, medians of 9
rounds. The second is a fan-out of 5,000 no-op nodes on one engine (durability batched, to the last row on
disk), plain and with what looks on attached, in turns; the medians' ratio is quoted. What plugins and files
have not seen when the result is there, they see afterwards.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from typing import Any

from engine import compiled, fan

from treadle.engine.bus import Event, EventBus, EventType
from treadle.engine.engine import Engine
from treadle.hooks.sdk import StateHook
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus

ROUNDS, EVENTS, NODES = 9, 20_000, 5_000


class Reader:
    """A queued consumer that does nothing."""

    async def consume(self, event: Event) -> None:
        pass


def look(event: Event) -> None:
    """An inline consumer that does nothing."""


async def publishing(consumers: list[Any]) -> float:
    """Microseconds of one publish."""
    cell = NodeState("x", "node", status=NodeStatus.COMPLETED)
    event = Event(EventType.NODE_COMPLETED, "x", cell, None, 0.0)
    took = []
    for _ in range(ROUNDS):
        bus = EventBus()
        for consumer in consumers:
            bus.subscribe(consumer)
        begun = time.perf_counter()
        for _ in range(EVENTS):
            bus.publish(event)
        took.append((time.perf_counter() - begun) / EVENTS * 1e6)
        await bus.close()
    return statistics.median(took)


class Plugin(StateHook):
    """A plugin that looks at each transition and does nothing."""

    version = "1.0"

    def post_node_execute(self, node_id: str, previous_state: NodeState, current_state: NodeState) -> None:
        pass


async def run(diagram: Any, folder: str, consumers: list[Any], **options: Any) -> float:
    """Seconds from the start of an execution to its result, with its last row on disk."""
    if options.pop("history", False):
        options["state_history"] = f"{folder}/history"
    async with Engine.open(f"sqlite:///{folder}/runs.db", **options) as engine:
        for consumer in consumers:
            engine.bus.subscribe(consumer)
        begun = time.perf_counter()
        handle = await engine.start(diagram)
        await handle.result()
        return time.perf_counter() - begun


WITH: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "one inline consumer": ([look], {}),
    "one queued consumer": ([Reader()], {}),
    "one plugin": ([], {"plugins": [Plugin()]}),
    "state history": ([], {"history": True}),
    "all of these": ([look, Reader()], {"plugins": [Plugin()], "history": True}),
}


def main() -> None:
    print("| publish to | µs |\n|---|---|")
    for name, consumers in (("nobody", []), ("one inline consumer", [look]),
                            ("one queued consumer", [Reader()])):
        print(f"| {name} | {asyncio.run(publishing(consumers)):.2f} |")
    print(f"\n| fan-out of {NODES:,} with | ms | plain ms | ratio |\n|---|---|---|---|")
    diagram = compiled(fan(NODES))
    for name, (consumers, options) in WITH.items():
        plain: list[float] = []
        attached: list[float] = []
        for _ in range(ROUNDS):
            for times, what, how in ((plain, [], {}), (attached, consumers, options)):
                with tempfile.TemporaryDirectory() as folder:
                    times.append(asyncio.run(run(diagram, folder, what, **how)))
        bare, full = statistics.median(plain) * 1000, statistics.median(attached) * 1000
        print(f"| {name} | {full:.0f} | {bare:.0f} | {full / bare:.2f} |")


if __name__ == "__main__":
    main()
