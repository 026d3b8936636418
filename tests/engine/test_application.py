"""What an engine is built of, and how it is taken down."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from treadle import Diagram, Engine, node
from treadle.clock import SystemClock
from treadle.config import TreadleConfig
from treadle.engine.application import ApplicationContext
from treadle.engine.async_state import AsyncStateManager
from treadle.engine.bus import Event, EventBus, EventType
from treadle.engine.services import (
    CLOCK,
    CONFIG,
    EVENT_BUS,
    NODES,
    STATE_MANAGER,
    STORE,
    ServiceRegistry,
)
from treadle.errors import NoSuchExecution
from treadle.state.status import ExecutionStatus
from treadle.store import MemoryStore


@node(isolation="inline")
def one() -> int:
    return 1


def diagram() -> Diagram:
    with Diagram("one") as drawn:
        one()
    return drawn


def test_services_are_built_at_the_start_and_closed_in_reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    def note(kind: type, method: str) -> None:
        original = getattr(kind, method)

        def noting(self: Any, *args: Any) -> Any:
            closed.append(kind.__name__)
            return original(self, *args)

        monkeypatch.setattr(kind, method, noting)

    for kind, method in ((EventBus, "close"), (AsyncStateManager, "stop"), (MemoryStore, "close")):
        note(kind, method)

    async def main() -> None:
        context = ApplicationContext("memory:")
        assert STORE not in context.services
        async with context as services:
            assert services.resolve(STATE_MANAGER).manager.store is services.resolve(STORE)
            assert services.resolve(CONFIG) is context.config
            writers = [thread for thread in threading.enumerate() if "treadle writer" in thread.name]
        assert writers and not any(thread.is_alive() for thread in writers)
        await context.stop()  # a second time there is nothing left to close

    asyncio.run(main())
    assert closed == ["EventBus", "AsyncStateManager", "MemoryStore"]


def test_what_is_handed_in_is_used_and_stays_open() -> None:
    async def main() -> None:
        services, bus, store, clock = ServiceRegistry(), EventBus(), MemoryStore(), SystemClock()
        for key, service in ((EVENT_BUS, bus), (STORE, store), (CLOCK, clock)):
            services.register(key, service)  # type: ignore[arg-type]
        seen: list[EventType] = []
        bus.subscribe(lambda event: seen.append(event.type))
        async with Engine.open(services=services) as engine:
            assert (engine.bus, engine.store, engine.clock) == (bus, store, clock)
            assert engine.services.resolve(NODES) is engine.registry
            await (await engine.start(diagram())).result()
        assert seen[-1] is EventType.EXECUTION_COMPLETED
        assert NODES not in services and STATE_MANAGER not in services, "what is built is the engine's own"
        assert store.executions()  # it is open still
        count = len(seen)
        bus.publish(Event(EventType.EXECUTION_STARTED, "x", store.executions()[0].cell, None, 0.0))
        assert len(seen) == count + 1, "and so is the bus"

    asyncio.run(main())


def test_engines_of_one_process_do_not_see_each_other(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[str] = []
        async with Engine.open(f"{tmp_path}/a.db") as first, Engine.open(f"{tmp_path}/b.db") as second:
            first.bus.subscribe(lambda event: seen.append(event.execution_id))
            await (await second.start(diagram(), execution_id="second")).result()
            await (await first.start(diagram(), execution_id="first")).result()
            assert first.services.resolve(STORE) is not second.services.resolve(STORE)
        assert set(seen) == {"first"}

    asyncio.run(main())


def test_a_start_that_fails_closes_what_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any) -> None:
        raise RuntimeError("no thread")

    monkeypatch.setattr("treadle.store.journal.writer.Writer.start", broken)
    closed: list[bool] = []
    store = MemoryStore()
    monkeypatch.setattr(store, "close", lambda: closed.append(True))
    monkeypatch.setattr("treadle.store.open_store", lambda url, key=None: store)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="no thread"):
            await ApplicationContext("memory:").start()

    asyncio.run(main())
    assert closed == [True]


@pytest.mark.parametrize("durability", ["batched", "memory"])
def test_observers_need_no_bus(tmp_path: Path, durability: Any) -> None:
    seen: list[EventType] = []

    def broken(event: Event) -> None:
        raise ValueError("not today")

    async def main() -> None:
        async with Engine.open(str(tmp_path / "runs.db"), durability=durability,
                               observers=[broken, lambda event: seen.append(event.type)]) as engine:
            assert await (await engine.start(diagram())).result() == 1

    asyncio.run(main())
    assert seen[0] is EventType.EXECUTION_STARTED and seen[-1] is EventType.EXECUTION_COMPLETED


def test_the_body_s_error_goes_before_those_of_closing(tmp_path: Path) -> None:
    async def main() -> None:
        engine = Engine.open(str(tmp_path / "runs.db"))

        async def late() -> None:
            raise OSError("the lamp is out")

        with pytest.raises(KeyError) as caught:
            async with engine:
                engine._app.resources.add_cleanup(late)
                raise KeyError("mine")
        assert "the lamp is out" in caught.value.__notes__[0]
        with pytest.raises(ExceptionGroup) as group:
            async with Engine.open(str(tmp_path / "runs.db")) as engine:
                engine._app.resources.add_cleanup(late)
        assert "the lamp is out" in str(group.value.exceptions[0])

    asyncio.run(main())


def test_a_state_is_read_right_after_its_update_without_the_disk(tmp_path: Path) -> None:
    async def main() -> None:
        config = TreadleConfig(batch_interval_s=60, batch_size=100_000)
        states: list[str] = []

        async with Engine.open(str(tmp_path / "runs.db"), config=config) as engine:
            @node(isolation="inline")
            async def look() -> int:
                state = await engine.state("mine")
                states.extend(f"{name} {cell.status}" for name, cell in state.node_states.items())
                return 1

            @node(isolation="inline")
            async def again(before: int) -> int:
                return await look.function() + before  # type: ignore[attr-defined]

            with Diagram("looks") as drawn:
                again(look())
            assert await (await engine.start(drawn, execution_id="mine")).result() == 2
            assert (await engine.state("mine")).status is ExecutionStatus.COMPLETED
            manager = engine.manager
            assert manager is not None and len(manager.cache) == 1
            await (await engine.start(diagram(), execution_id="other")).result()
            assert len(manager.cache) == 1, "what nobody reads is not cached"
            with pytest.raises(NoSuchExecution):
                await engine.state("nobody's")
        assert states == ["look running", "look completed", "again running"]

    asyncio.run(main())
