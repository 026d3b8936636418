"""Elastic actors: a task only for a body that waits, and a loop that breathes."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats import loads
from treadle.diagram.node import Arrow, Node
from treadle.engine.actor import IN_A_ROW_MAX, Drive
from treadle.engine.context import NodeContext
from treadle.engine.engine import Engine
from treadle.ids import NodeID


def test_bodies_that_never_wait_share_one_task() -> None:
    tasks: set[Any] = set()

    async def note(item: int) -> int:
        tasks.add(asyncio.current_task())
        return item

    spec = loads(
        'treadle: 1\nnodes: {note: {type: code_job, function: "x:note", for_each: "{{ range(50) }}"}}'
    )
    spec = msgspec.structs.replace(spec, functions={"note": note})

    async def main() -> None:
        async with Engine.open(durability="memory") as engine:
            assert await (await engine.start(spec)).result() == list(range(50))

    asyncio.run(main())
    assert len(tasks) <= 3


def test_one_execution_goes_on_before_the_next_but_not_for_long() -> None:
    """A chain's nodes follow each other directly, at most so many while others wait."""
    order: list[str] = []

    async def note(context: NodeContext, **_: Any) -> None:
        order.append(context.execution_id)

    spec = DiagramSpec(
        "chain", tuple(Node(NodeID(f"n{i}"), "code_job", {"function": "x:note"}) for i in range(40)),
        tuple(Arrow(NodeID(f"n{i}"), NodeID(f"n{i + 1}")) for i in range(39)),
        functions={f"n{i}": note for i in range(40)})

    async def main() -> None:
        async with Engine.open(durability="memory") as engine:
            drawn = engine.compile(spec)
            handles = await asyncio.gather(*(engine.start(drawn, execution_id=name) for name in "ab"))
            for handle in handles:
                await handle.result()

    asyncio.run(main())
    stretches = [(name, len(list(group))) for name, group in itertools.groupby(order)]
    first = IN_A_ROW_MAX + 1
    assert stretches == [("a", first), ("b", first), ("a", first), ("b", first),
                         ("a", 40 - 2 * first), ("b", 40 - 2 * first)]


def test_the_loop_breathes_while_nodes_run(tmp_path: Path) -> None:
    """Four milliseconds a turn: a ticker beside 3,000 nodes gets its turns."""

    async def quick(item: int) -> int:
        return item

    spec = loads(
        'treadle: 1\nnodes: {quick: {type: code_job, function: "x:q", for_each: "{{ range(3000) }}"}}'
    )
    spec = msgspec.structs.replace(spec, functions={"quick": quick})

    async def main() -> int:
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db") as engine:
            handle = await engine.start(spec)
            done = asyncio.ensure_future(handle.wait())
            turns = 0
            while not done.done():
                await asyncio.sleep(0)
                turns += 1
            return turns

    assert asyncio.run(main()) >= 5


def test_a_body_that_ignores_even_its_closing_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    async def immortal() -> None:
        ignored = 0
        while ignored < 2:  # once here, once when the test is over
            try:
                await asyncio.sleep(60)
            except BaseException:
                ignored += 1

    async def talks() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("perhaps a secret")

    async def main() -> None:
        await doom(immortal())
        await doom(talks())

    async def doom(body: Any) -> None:
        run = contextvars.copy_context().run
        drive = Drive(body, run, run(body.send, None))

        async def drive_it() -> None:
            await drive

        task = asyncio.ensure_future(drive_it())
        await asyncio.sleep(0)
        drive.doomed = True
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bodies.append(body)

    bodies: list[Any] = []
    with caplog.at_level(logging.ERROR, "treadle.engine"):
        asyncio.run(main())
    assert caplog.text.count("is let go") == 2 and "secret" not in caplog.text, "a body is not quoted"
    bodies[0].close()
