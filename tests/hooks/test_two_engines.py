"""Two engines on one bus: each hears of its own executions, whatever their ids."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from treadle import EVENT_BUS, Diagram, Engine, EventBus, ServiceRegistry, node
from treadle.engine.bus import Backlog, Event, EventType
from treadle.errors import PluginError
from treadle.hooks.manager import PluginManager
from treadle.hooks.sdk import StateHook
from treadle.state.cell import NodeState


class Hears(StateHook):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def post_node_execute(self, node_id: str, current_state: NodeState) -> None:  # type: ignore[override]
        self.heard.append(f"{node_id} {current_state.status}")


def diagram(name: str, go: asyncio.Event) -> Diagram:
    """`before`, then a node of this name, that waits until it may go on."""
    @node(isolation="inline")
    async def before() -> None:
        await go.wait()

    @node(id=name, isolation="inline")
    def after(value: Any) -> str:
        return name

    with Diagram("d") as drawn:
        after(before())
    return drawn


def test_engines_on_one_bus_do_not_mix_executions_of_one_id(tmp_path: Path) -> None:
    hears: list[Hears] = [Hears(), Hears()]
    observed: list[list[Event]] = [[], []]
    everything: list[Event] = []

    async def script() -> None:
        bus, go = EventBus(), asyncio.Event()
        services = ServiceRegistry()
        services.register(EVENT_BUS, bus)
        bus.subscribe(everything.append)
        async with Engine.open(durability="memory", services=services, plugins=[hears[0]],
                               observers=[observed[0].append]) as one, \
                Engine.open(f"{tmp_path}/two.db", services=services, plugins=[hears[1]],
                            observers=[observed[1].append], state_history=tmp_path / "files") as two:
            assert one.number != two.number
            here = await one.start(diagram("here", go), execution_id="x")
            there = await two.start(diagram("there", go), execution_id="x")
            streams = here.events(), there.events()
            go.set()
            assert (await here.result(), await there.result()) == ("here", "there")
            for engine, stream, name in zip((one, two), streams, ("here", "there"), strict=True):
                got = [event async for event in stream]
                assert {event.engine for event in got} == {engine.number}
                assert [event.type for event in got][-1] is EventType.EXECUTION_COMPLETED
                assert {event.cell.node_id for event in got if isinstance(event.cell, NodeState)} == {
                    "before", name}

    asyncio.run(script())
    assert [one.heard[-1] for one in hears] == ["here completed", "there completed"]
    assert [len(one.heard) for one in hears] == [4, 4]
    assert [len({event.engine for event in seen}) for seen in (*observed, everything)] == [1, 1, 2]
    (folder,) = (tmp_path / "files").iterdir()
    assert not list(folder.glob("state_node_here_*")), "the history is of the second engine's execution"


def test_a_manager_of_plugins_belongs_to_one_engine_at_a_time() -> None:
    manager = PluginManager([Hears])

    async def script() -> None:
        for _ in range(2):
            one, other = (Engine.open(durability="memory", plugins=manager) for _ in range(2))
            async with one:
                with pytest.raises(PluginError, match="of an open engine: make one for each engine"):
                    await other.__aenter__()
                assert manager.in_use, "by the first, still"
            assert not manager.in_use

    asyncio.run(script())


def test_a_stream_ends_with_the_run_of_its_own_engine() -> None:
    async def script() -> None:
        bus = EventBus()
        mine, others = bus.stream(execution_id="x", engine=1), bus.stream(execution_id="x", engine=2)
        anybody = bus.stream(execution_id="x")
        bus.finish("x", 2)
        assert await anext(others, None) is None and await anext(anybody, None) is None
        bus.publish(Event(EventType.NODE_STARTED, "x", NodeState("x", "a"), None, 0.0, 1))
        assert (await anext(mine)).engine == 1
        await bus.close()

    asyncio.run(script())


def test_a_backlog_joins_no_cells_of_two_engines() -> None:
    backlog = Backlog(2)
    for number in range(4):
        for engine in (1, 2):
            cell = NodeState("x", "a", seq=number)
            backlog.put(Event(EventType.NODE_STARTED, "x", cell, None, 0.0, engine))
    rest = backlog.take(10), backlog.take(10)
    assert [[(one.engine, one.cell.version[1]) for one in part] for part in rest] == [
        [(1, 0), (2, 0)], [(1, 3), (2, 3)]]
    assert (backlog.joined, len(backlog)) == (4, 0)


def test_a_consumer_of_many_gets_what_waits_at_once() -> None:
    class Many:
        def __init__(self) -> None:
            self.got: list[int] = []

        async def consume(self, event: Event) -> None:
            raise AssertionError("it takes many")

        async def consume_many(self, events: list[Event]) -> None:
            self.got.append(len(events))
            if len(self.got) == 1:
                raise ValueError("once")

    async def script() -> None:
        bus, many = EventBus(), Many()
        queue = bus.subscribe(many)
        for number in range(2500):
            bus.publish(Event(EventType.NODE_STARTED, "x", NodeState("x", f"n{number}"), None, 0.0))
        await bus.drain()
        assert many.got == [1024, 1024, 452] and queue.errors == 1
        bus.publish(Event(EventType.NODE_STARTED, "x", NodeState("x", "last"), None, 0.0))
        await bus.drain()
        assert many.got[-1] == 1 and queue.stats["consumed"] == 2501  # type: ignore[attr-defined]
        await bus.close()

    asyncio.run(script())
