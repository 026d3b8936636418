"""The handle of an execution, as an application uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import treadle
from treadle import Diagram, Engine, EventType, ExecutionFailed, TreadleError, node
from treadle.diagram.formats import loads
from treadle.state.cell import NodeState
from treadle.state.status import ExecutionStatus


@node
async def wait(gate: str) -> str:
    await GATES[gate].wait()
    return gate


@node
async def boom(text: str) -> str:
    raise ValueError(f"no {text}")


GATES: dict[str, asyncio.Event] = {}


def gated(name: str) -> Diagram:
    GATES[name] = asyncio.Event()
    with Diagram(name) as diagram:
        wait(wait(name))
    return diagram


def test_who_stops_waiting_for_a_result_does_not_stop_the_execution(tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine.open(str(tmp_path / "handle_wait.db")) as engine:
            handle = await engine.start(gated("patient"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await handle.result()
            waiter = asyncio.create_task(handle.result())
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            assert handle.status == "running"
            GATES["patient"].set()
            assert await handle.result() == "patient"

    asyncio.run(main())


def test_cancelling_says_why_and_twice_is_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine.open(str(tmp_path / "handle_cancel.db")) as engine:
            handle = await engine.start(gated("dear"))
            await handle.cancel("too dear")
            await handle.cancel("again")
            with pytest.raises(ExecutionFailed, match=r"was cancelled: .*too dear") as caught:
                await handle.result()
            assert caught.value.status == "cancelled"
            assert engine.running == {}

    asyncio.run(main())


def test_events_by_type_late_slow_and_to_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine.open(str(tmp_path / "handle_events.db")) as engine:
            handle = await engine.start(gated("seen"))
            everything, ended = handle.events(), handle.events([EventType.NODE_COMPLETED])
            GATES["seen"].set()
            await handle.result()
            # Nobody read meanwhile: what was announced is there all the same.
            names = [event.cell.node_id async for event in ended if isinstance(event.cell, NodeState)]
            assert names == ["wait", "wait_2"]
            kinds = [event.type async for event in everything]
            assert kinds[-1] is EventType.EXECUTION_COMPLETED
            assert [event async for event in handle.events()] == []  # too late: it ends at once

    asyncio.run(main())


def test_many_starts_at_once_and_one_id_only_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine.open(str(tmp_path / "handle_many.db")) as engine:
            diagram = gated("many")
            GATES["many"].set()
            handles = await asyncio.gather(*(engine.start(diagram) for _ in range(50)))
            assert len({handle.execution_id for handle in handles}) == 50
            assert await asyncio.gather(*(handle.result() for handle in handles)) == ["many"] * 50
            await engine.start(diagram, execution_id="mine")
            with pytest.raises(ValueError, match="an execution 'mine' already: choose another id"):
                await engine.start(diagram, execution_id="mine")
            again = await engine.resume("mine")
            assert await again.result() == "many"
            same = await asyncio.gather(*(engine.start(diagram, execution_id="once") for _ in range(9)),
                                        return_exceptions=True)
            refused = [one for one in same if isinstance(one, ValueError)]
            assert len(refused) == 8 and "an execution 'once' already" in str(refused[0])

    asyncio.run(main())


def test_run_says_which_node_failed_where_and_why() -> None:
    with Diagram("fails") as diagram:
        boom("luck")
    with pytest.raises(ExecutionFailed, match=r"failed at node 'boom': ValueError: no luck") as caught:
        treadle.run(diagram)
    assert caught.value.node_id == "boom"
    [note] = caught.value.__notes__
    assert note.startswith("in node 'boom':") and f'{Path(__file__).name}", line' in note


def test_run_inside_a_loop_says_what_to_do() -> None:
    async def main() -> None:
        with Diagram("inside") as diagram:
            boom("luck")
        with pytest.raises(TreadleError, match=r"async with treadle\.Engine\.open"):
            treadle.run(diagram)

    asyncio.run(main())


def test_an_app_finds_what_runs_and_what_ran(tmp_path: Path) -> None:
    spec = loads('treadle: 1\nname: ask\nnodes: {ask: {type: wait_for, signal: go}}')

    async def main() -> None:
        async with Engine.open(str(tmp_path / "runs.db")) as engine:
            handle = await engine.start(spec, execution_id="one")
            found = engine.handle("one")
            assert found is not None and found.execution_id == handle.execution_id
            assert await handle.wait() is ExecutionStatus.SUSPENDED
            assert engine.handle("one") is None and engine.handle("two") is None
            listed = await engine.executions(status=ExecutionStatus.SUSPENDED, name="ask")
            assert [one.cell.execution_id for one in listed] == ["one"]
            assert await engine.executions(status=ExecutionStatus.FAILED) == []
        async with Engine.open(durability="memory") as engine:
            with pytest.raises(TreadleError, match="no store"):
                await engine.executions()

    asyncio.run(main())
