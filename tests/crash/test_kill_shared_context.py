"""Killed at any seam, an execution is never found with a result whose body's writes are lost, and a resume
ends where no kill would have ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from treadle.config import TreadleConfig
from treadle.engine.engine import Engine
from treadle.state.context import snapshot_of
from treadle.state.status import NodeStatus
from treadle.store import open_store

TASKS = """
def mark(context):
    context.update("variables.order", lambda order: [*(order or []), context.node_id])
    with context.transaction() as tx:
        tx.variables[context.node_id] = tx.artifacts[context.node_id] = context.attempt
    return context.node_id
"""
CHILD = """
import asyncio, sys
from treadle.config import TreadleConfig
from treadle.engine.engine import Engine

async def main():
    config = TreadleConfig(batch_interval_s=0.0005, lease_s=0.15)
    async with Engine.open(sys.argv[1], config=config, durability=sys.argv[3]) as engine:
        await (await engine.start(sys.argv[2], execution_id="x")).result()

asyncio.run(main())
"""
NODES = 24


@pytest.mark.parametrize(("seam", "durability"), [
    ("commit.before:kill:4", "batched"), ("statement.after:kill:3", "batched"),
    ("seal.after:kill:4", "batched"), ("publish.before:kill:17", "strict"),
    ("perform.after:kill:19", "strict")])
def test_a_kill_loses_no_write_of_a_recorded_body(tmp_path: Path, seam: str, durability: str) -> None:
    (tmp_path / "shared_kill_tasks.py").write_text(TASKS)
    path, diagram = tmp_path / "runs.db", tmp_path / "diagram.yaml"
    diagram.write_text("treadle: 1\nnodes:\n" + "".join(
        f"  n{k}: {{type: code_job, call: 'shared_kill_tasks:mark'"
        + (f", needs: n{k - 2}}}\n" if k > 1 else "}\n") for k in range(NODES)))
    killed = subprocess.run([sys.executable, "-c", CHILD, str(path), str(diagram), durability],
                            env={**os.environ, "TREADLE_FAILPOINT": seam}, capture_output=True, text=True,
                            check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = open_store(path)
    _, cells = store.load("x")
    found = snapshot_of(store.context("x"))
    done = {cell.node_id for cell in cells if cell.status is NodeStatus.COMPLETED}
    assert done <= set(found.variables) and done <= set(found.variables.get("order", []))
    assert set(found.variables) - {"order"} == set(found.artifacts)  # a transaction is there whole
    store.close()

    async def go_on() -> None:
        async with Engine.open(str(path), config=TreadleConfig(lease_s=0.15)) as engine:
            await (await engine.resume("x")).result()

    asyncio.run(go_on())
    store = open_store(path)
    found = snapshot_of(store.context("x"))
    assert set(found.variables["order"]) == set(found.artifacts) == {f"n{k}" for k in range(NODES)}
    store.close()
