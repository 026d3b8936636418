"""Many executions at once for minutes, with all that can misbehave attached: nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from treadle import Blob, Diagram, Engine, StateHook, node
from treadle.config import TreadleConfig
from treadle.engine.bus import Event, Queue
from treadle.errors import ExecutionFailed
from treadle.state.status import ExecutionStatus

SECONDS = float(os.environ.get("TREADLE_SOAK_S", "600"))
AT_ONCE = 200


class Raises(StateHook):
    """Every third transition is too much for it."""

    version = "1"

    def __init__(self) -> None:
        self.count = 0

    def post_node_execute(self, node_id: str) -> None:
        self.count += 1
        if not self.count % 3:
            raise ValueError("a third one")


class Guards(StateHook):
    version = "1"

    def __init__(self) -> None:
        self.ended = 0

    def pre_state_mutation(self, transaction: Any) -> str | None:
        return "forbidden" if "variables.forbidden" in transaction.changes else None

    def post_state_finalize(self) -> None:
        self.ended += 1


class Slow:
    """A consumer that never keeps up."""

    async def consume(self, event: Event) -> None:
        await asyncio.sleep(0.01)


@node(isolation="inline")
def begin(n: int) -> int:
    return n


@node(isolation="inline", retries=1)
async def work(item: int, n: int, context: Any) -> int:
    await asyncio.sleep(random.random() / 50)
    if random.random() < 0.02:
        raise RuntimeError("bad luck")
    context.update("variables.sum", lambda total: (total or 0) + item)
    if n % 17 == 0:
        context.variables["forbidden"] = 1
    return item


@node(isolation="thread")
def large(n: int, context: Any) -> Blob:
    blob: Blob = context.blob(f"{n}".encode() * 5000, "large")
    return blob


@node(isolation="inline")
def end(items: list[int], blob: Blob, context: Any) -> int:
    total: int = context.variables["sum"]
    assert total >= sum(items) and len(blob.read()) >= 5000
    return total


def drawn() -> Diagram:
    with Diagram("soak") as diagram:
        n = begin(diagram.input("n", int))
        end(work.map([1, 2, 3, 4, 5], n=n), large(n))
    return diagram


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_left_behind_by_many_that_misbehave(tmp_path: Path) -> None:
    threads, files = set(threading.enumerate()), open_files()
    ended: dict[ExecutionStatus, int] = {}
    logging.disable()  # it would keep every error that is expected here
    guards = Guards()

    async def one(engine: Engine, compiled: Any, n: int) -> None:
        handle = await engine.start(compiled, n=n)
        if random.random() < 0.2:
            await asyncio.sleep(random.random() / 20)
            await handle.cancel("the soak")
        try:
            value = await handle.result()
            assert value >= 15
        except ExecutionFailed:
            pass
        if random.random() < 0.1:
            state = await engine.state(handle.execution_id)
            assert state.status is handle.status
        ended[handle.status] = ended.get(handle.status, 0) + 1

    async def main() -> None:
        config = TreadleConfig(consumer_errors_max=10**9, hook_errors_max=10**9, event_backlog_max=1000,
                               state_cache_ttl_s=2, state_cache_executions_max=20)
        async with Engine.open(str(tmp_path / "soak.db"), config=config,
                               plugins=[Raises(), guards]) as engine:
            slow = engine.bus.subscribe(Slow(), queued=True)
            assert isinstance(slow, Queue)
            published = [0]
            engine.bus.subscribe(lambda event: published.__setitem__(0, published[0] + 1))
            compiled, until, n = engine.compile(drawn()), time.monotonic() + SECONDS, 0
            memory: list[int] = []
            running: set[asyncio.Task[None]] = set()
            while time.monotonic() < until:
                while len(running) < AT_ONCE:
                    n += 1
                    running.add(asyncio.create_task(one(engine, compiled, n)))
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if n // 500 > len(memory):
                    gc.collect()
                    memory.append(len(gc.get_objects()))
            await asyncio.gather(*running)
            stats, manager = slow.stats, engine.manager
            assert manager is not None
            assert published[0] == sum(stats[key] for key in ("consumed", "joined", "waiting", "left_out"))
            assert not stats["errors"] and stats["waiting"] <= 2 * config.event_backlog_max
            await manager.flush()
            written = manager.stats
            assert written["updates_queued"] == written["updates_processed"] and not written["errors"]
            manager.cache.clean_up()  # what was dirty when it was one too many may go now
            assert len(manager.cache) <= 20 and not engine.running
            slow.close()
            assert sum(ended.values()) == n
            recorded = [summary for status in ended for summary in
                        await engine.executions(status=status, limit=10**6)]
            assert len(recorded) == n
            print(f"{n} executions: {ended}; objects {memory[:1]} … {memory[-1:]}")
            if len(memory) > 4:
                assert memory[-1] < memory[1] * 1.5 + 200_000, "memory grows with what has ended"
        assert guards.ended == n
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []

    try:
        asyncio.run(main())
    finally:
        logging.disable(logging.NOTSET)
    gc.collect()
    assert {thread for thread in threading.enumerate() if thread not in threads} == set()
    assert open_files() <= files
