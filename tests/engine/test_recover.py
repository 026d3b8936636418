"""Interrupted, killed, failed: a resume goes on, and nothing recorded runs again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats import loads
from treadle.engine.engine import Durability, Engine
from treadle.engine.run import run as run_script
from treadle.errors import ExecutionFailed, LeaseHeld, NoSuchExecution, TreadleError
from treadle.state.status import ExecutionStatus, NodeStatus

from .. import forked

DURABLE: list[Durability] = ["batched", "strict"]


def draw(text: str, /, **functions: Callable[..., Any]) -> DiagramSpec:
    spec = loads(text)
    nodes = tuple(
        msgspec.structs.replace(node, properties={**node.properties, "function": f"{__name__}:{node.id}"})
        if node.id in functions
        else node
        for node in spec.nodes
    )
    return msgspec.structs.replace(spec, nodes=nodes, source="", functions=functions)


def run(tmp_path: Path, main: Callable[[Engine], Awaitable[Any]], **options: Any) -> Any:
    async def inside() -> Any:
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db", check=True, **options) as engine:
            return await main(engine)

    return asyncio.run(inside())


class Work:
    """Two nodes; the second waits for `gate` if it is there."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.gate: asyncio.Event | None = None
        self.fail = False
        self.there: asyncio.Event | None = None

    async def reached(self) -> None:
        """Return when the second node waits."""
        self.there = asyncio.Event()
        await self.there.wait()

    def diagram(self) -> DiagramSpec:
        async def a() -> int:
            self.runs.append("a")
            return 1

        async def b(a: int, context: Any) -> int:
            self.runs.append(f"b{context.attempt}")
            if self.fail:
                raise ValueError("not today")
            if self.gate is not None:
                if self.there is not None:
                    self.there.set()
                await self.gate.wait()
            return a + 1

        return draw("treadle: 1\nnodes: {a: {type: code_job}, b: {type: code_job, needs: a}}", a=a, b=b)


@pytest.mark.parametrize("durability", DURABLE)
def test_leaving_the_engine_interrupts_and_a_resume_goes_on(tmp_path: Path, durability: Durability) -> None:
    work = Work()

    async def before(engine: Engine) -> str:
        work.gate = asyncio.Event()
        handle = await engine.start(work.diagram())
        await work.reached()
        waiting = asyncio.ensure_future(handle.result())
        await asyncio.sleep(0)
        waits.append(waiting)
        return handle.execution_id

    waits: list[asyncio.Future[Any]] = []
    name = run(tmp_path, before, durability=durability)
    assert isinstance(waits[0].exception(), ExecutionFailed) and "resume it" in str(waits[0].exception())
    work.gate = None

    async def after(engine: Engine) -> None:
        handle = await engine.resume(name, diagram=work.diagram())
        assert await handle.result() == 2
        _, cells = await engine.manager.read(engine.store.load, name)  # type: ignore[union-attr]
        assert {(c.node_id, c.attempt, c.claims, c.status) for c in cells} == {
            ("a", 1, 1, NodeStatus.COMPLETED),
            ("b", 1, 1, NodeStatus.COMPLETED),
        }

    run(tmp_path, after, durability=durability)
    assert work.runs == ["a", "b1", "b1"]


def test_a_failed_execution_gets_a_next_attempt(tmp_path: Path) -> None:
    work = Work()
    work.fail = True

    async def main(engine: Engine) -> None:
        handle = await engine.start(work.diagram())
        with pytest.raises(ExecutionFailed, match="ValueError: not today"):
            await handle.result()
        work.fail = False
        again = await engine.resume(handle.execution_id, diagram=work.diagram())
        assert await again.result() == 2
        done = await engine.resume(handle.execution_id, diagram=work.diagram())
        assert await done.result() == 2 and done.metrics().total == 0

    run(tmp_path, main)
    assert work.runs == ["a", "b1", "b2"]


def test_an_execution_has_one_owner(tmp_path: Path) -> None:
    work = Work()

    async def main(engine: Engine) -> None:
        work.gate = asyncio.Event()
        handle = await engine.start(work.diagram())
        assert (await engine.resume(handle.execution_id)).execution_id == handle.execution_id
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db") as other:
            with pytest.raises(LeaseHeld, match=f"process {os.getpid()}"):
                await other.resume(handle.execution_id, diagram=work.diagram())
            with pytest.raises(NoSuchExecution):
                await other.resume("nobody")
        work.gate.set()
        assert await handle.result() == 2

    run(tmp_path, main)


CHILD = """
import asyncio, os, sys
from treadle.diagram.formats import loads
from treadle.engine.engine import Engine

async def main():
    async with Engine.open(sys.argv[1], durability=sys.argv[2]) as engine:
        handle = await engine.start(sys.argv[3], execution_id="mine")
        print(await handle.wait(), flush=True)

asyncio.run(main())
"""


def child(tmp_path: Path, durability: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    return forked.run(CHILD, f"sqlite:///{tmp_path}/runs.db", durability, str(tmp_path / "d.yaml"),
                      environment={"TREADLE_FAILPOINT": failpoint})


@pytest.mark.parametrize(
    "failpoint", ["perform.before:kill:3", "publish.after:kill:4", "perform.after:kill:2"]
)
def test_a_killed_process_costs_nothing_that_was_recorded(tmp_path: Path, failpoint: str) -> None:
    (tmp_path / "d.yaml").write_text(textwrap.dedent("""
        treadle: 1
        nodes:
          a: {type: template_job, text: "a"}
          b: {type: template_job, text: "{{ a }}b", needs: a}
          c: {type: template_job, text: "{{ b }}c", needs: b}
          d: {type: template_job, text: "{{ c }}d", needs: c}
        """))
    killed = child(tmp_path, "strict", failpoint)
    assert killed.returncode == -9, killed.stderr

    async def main(engine: Engine) -> None:
        (handle,) = engine.recovered
        assert handle.execution_id == "mine"
        assert await handle.result() == "abcd"
        _, cells = await engine.manager.read(engine.store.load, "mine")  # type: ignore[union-attr]
        assert {(c.node_id, c.attempt, c.status) for c in cells} == {
            (node, 1, NodeStatus.COMPLETED) for node in "abcd"}
        assert handle.metrics().completed < 4

    run(tmp_path, main, recover=True)

    async def later(engine: Engine) -> None:
        assert engine.recovered == []
        assert (await engine.resume("mine")).status is ExecutionStatus.COMPLETED

    run(tmp_path, later, recover=True)


def test_another_process_cancels(tmp_path: Path) -> None:
    work = Work()
    sender = (
        "import sys; from treadle.store import open_store; from treadle.store.base import Signal; "
        "s = open_store(sys.argv[1]); s.send(Signal('mine', 'cancel', payload=b'\"from afar\"')); s.close()"
    )

    async def main(engine: Engine) -> None:
        work.gate = asyncio.Event()
        handle = await engine.start(work.diagram(), execution_id="mine")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", sender, f"sqlite:///{tmp_path}/runs.db")
        assert await process.wait() == 0
        async with asyncio.timeout(10):
            assert await handle.wait() is ExecutionStatus.CANCELLED
        assert handle.error is not None and handle.error.message == "from afar"

    run(tmp_path, main)


def test_who_lost_the_lease_stops(tmp_path: Path) -> None:
    """Somebody else claims the execution behind our back: nothing of ours is written any more."""
    from treadle.errors import LeaseLost

    work = Work()

    async def main(engine: Engine) -> None:
        work.gate = asyncio.Event()
        handle = await engine.start(work.diagram())
        assert engine.manager is not None
        await work.reached()
        await engine.manager.flush()
        lease = engine.manager.leases[handle.execution_id]
        await engine.manager.call(engine.store.release, [lease])
        await engine.manager.call(engine.store.claim, handle.execution_id, engine.manager.owner, 60.0)
        work.gate.set()
        with pytest.raises(LeaseLost, match="was taken over by another owner"):
            await handle.result()

    run(tmp_path, main)


def test_memory_keeps_nothing(tmp_path: Path) -> None:
    async def main(engine: Engine) -> None:
        with pytest.raises(TreadleError, match="has no store"):
            await engine.resume("x")

    run(tmp_path, main, durability="memory")
    assert not (tmp_path / "runs.db").exists()


def test_run_is_for_scripts(tmp_path: Path) -> None:
    work = Work()
    assert run_script(work.diagram()) == 2
    assert run_script(work.diagram(), store=f"sqlite:///{tmp_path}/runs.db") == 2
    assert (tmp_path / "runs.db").exists()

    async def inside() -> None:
        with pytest.raises(TreadleError, match=r"async with treadle\.Engine\.open"):
            run_script(work.diagram())

    asyncio.run(inside())


def test_what_was_killed_before_its_first_batch_is_recovered_too(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text('treadle: 1\nnodes: {a: {type: template_job, text: "a"}}\n')
    killed = child(tmp_path, "batched", "perform.before:kill:1")
    assert killed.returncode == -9, killed.stderr

    async def main(engine: Engine) -> None:
        (handle,) = engine.recovered
        assert await handle.result() == "a"

    run(tmp_path, main, recover=True)
