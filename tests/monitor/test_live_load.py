"""Watching an execution that leaves its loop no time: what that may cost, and what is seen of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from treadle.engine.engine import Engine
from treadle.monitor import Monitor
from treadle.monitor.live import channel, sources
from treadle.monitor.live.channel import Channel, Hub
from treadle.monitor.live.wire import Message, Viewer

ITEMS = 20_000
TASKS = """
import asyncio
from pathlib import Path

GO = Path(__file__).with_name("go")

async def gate():
    while not GO.exists():
        await asyncio.sleep(0.005)

async def same(item):
    return item

async def calm(item):
    await asyncio.sleep(0.01)
"""
MAP = """
treadle: 1
name: wide
nodes:
  first: {{type: code_job, call: "loadtasks:gate"}}
  each: {{type: code_job, call: "loadtasks:{call}", for_each: "{{{{ range({items}) | list }}}}", needs: first,
         concurrency: {width}}}
"""


class Wire:
    """Takes everything at once, and keeps what a viewer would see; each message costs so much computing."""

    def __init__(self, cost_s: float = 0.0, free: bool = True) -> None:
        self.free, self._cost_s = free, cost_s
        self.messages: list[dict[str, Any]] = []
        self.counts: dict[str, int] = {}
        self.groups: list[dict[str, Any]] = []
        self.ended, self._came = asyncio.Event(), asyncio.Event()

    def send(self, message: Message) -> None:
        until = time.thread_time() + self._cost_s
        while time.thread_time() < until:
            pass
        said = json.loads(message.text)
        self.messages.append(said)
        self._came.set()
        self.counts = said.get("payload", {}).get("execution", {}).get("counts", self.counts)
        view = said.get("payload", {}).get("nodes", {}).get("each", {})
        self.groups += [view["group"]] if "group" in view else []
        if said["event_type"] == "end":
            self.ended.set()

    async def drained(self) -> None:
        pass

    async def until(self, messages: int) -> None:
        """Wait until so many have come."""
        async with asyncio.timeout(20):
            while len(self.messages) < messages:
                self._came.clear()
                await self._came.wait()


class Run:
    """An execution that waits at its gate, and those who watch it."""

    def __init__(self, hub: Hub, watched: Channel, go: Callable[[], None], done: Any) -> None:
        self.hub, self.watched, self.go, self.done = hub, watched, go, done

    def come(self, *wires: Wire) -> None:
        for wire in wires:
            self.watched.join(Viewer(wire, channel.PERIOD_S_MAX), None)

    async def measured(self) -> float:
        """Let it run to its end; what share of the loop's computing was for viewers."""
        spent, computed = self.hub.spent_s, time.thread_time()
        self.go()
        await self.done()
        return (self.hub.spent_s - spent) / (time.thread_time() - computed)


@asynccontextmanager
async def running(folder: Path, call: str, items: int, width: int = 256, *,
                  beside: bool = False) -> AsyncIterator[Run]:
    """`beside`: seen from the store alone, as another process would see it."""
    (folder / "loadtasks.py").write_text(TASKS)
    (folder / "wide.yaml").write_text(MAP.format(call=call, items=items, width=width))
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Engine.open(f"{folder}/runs.db"))
        monitor = await stack.enter_async_context(
            Monitor(f"{folder}/runs.db") if beside else Monitor(engine.store, engine=engine))
        handle = await engine.start(str(folder / "wide.yaml"))
        hub = Hub.of(monitor)
        watched = await hub.execution(handle.execution_id)
        yield Run(hub, watched, (folder / "go").touch, handle.wait)
        for viewer in list(watched.viewers):
            watched.leave(viewer)


def test_a_loop_without_time_keeps_nearly_all_of_it(tmp_path: Path) -> None:
    """Ten viewers, each message to one 0.1 ms: they get exact counts meanwhile, and everything after it."""

    async def main() -> None:
        async with running(tmp_path, "same", ITEMS) as run:
            wires = [Wire(cost_s=0.0001) for _ in range(10)]
            run.come(*wires)
            await asyncio.sleep(0.2)
            share = await run.measured()
            assert share < 0.15, share  # the machine may be busy with other things
            during = [one["payload"]["execution"]["counts"] for one in wires[0].messages
                      if "counts" in one.get("payload", {}).get("execution", {})]
            assert any(0 < counts.get("completed", 0) <= ITEMS for counts in during[:-1]), during
            await asyncio.wait_for(wires[0].ended.wait(), 20)
            for wire in wires:
                assert wire.counts == {"completed": ITEMS + 2}
                assert wire.groups[-1] == {"kind": "map", "total": ITEMS, "counts": {"completed": ITEMS}}

    asyncio.run(main())


def test_viewers_that_never_read_cost_nothing_and_get_all_of_it_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, "same", ITEMS) as run:
            wires = [Wire(free=False) for _ in range(10)]
            run.come(*wires)
            assert await run.measured() < 0.1
            source = run.watched.feed
            assert isinstance(source, sources.Source)
            assert source.behind
            assert source.held <= sources.HELD_MAX  # the store has the others
            assert not any(wire.messages for wire in wires)
            for wire in wires:
                wire.free = True
            await asyncio.wait_for(wires[9].ended.wait(), 20)
            assert wires[9].counts == {"completed": ITEMS + 2}
            assert len(wires[9].messages) <= 4

    asyncio.run(main())


async def hog(seconds: float) -> None:
    """Compute in the loop for so long, as nodes do that don't wait."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        until = time.thread_time() + 0.004
        while time.thread_time() < until:
            pass
        await asyncio.sleep(0)


def test_where_others_compute_messages_become_rarer(tmp_path: Path) -> None:
    """Nodes end all the time, and a message to all viewers takes 10 ms: more than 8 % of the loop if they
    came as often as else."""

    async def main() -> None:
        async with running(tmp_path, "calm", 100_000, width=5) as run:
            wires = [Wire(cost_s=0.001) for _ in range(10)]
            run.come(*wires)
            run.go()
            await wires[0].until(4)
            await hog(0.3)  # until it is noticed
            before, spent, computed = len(wires[0].messages), run.hub.spent_s, time.thread_time()
            await hog(1.5)
            assert len(wires[0].messages) > before
            share = (run.hub.spent_s - spent) / (time.thread_time() - computed)
            assert share < 0.06
            before, now = len(wires[0].messages), time.monotonic()
            await wires[0].until(before + 8)
            assert time.monotonic() - now < 5.0

    asyncio.run(main())


def test_a_flood_is_one_of_any_kind_of_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many cells that a mirror of them would be the larger part of the work: their figures are told."""
    monkeypatch.setattr(channel, "FLOOD", 50)

    async def main() -> None:
        async with running(tmp_path, "calm", 2000, width=50) as run:
            wire = Wire()
            run.come(wire)
            run.go()
            await asyncio.wait_for(wire.ended.wait(), 20)
            known = sum(len(one.get("payload", {}).get("nodes", {})) for one in wire.messages)
            assert wire.counts == {"completed": 2002}
            assert wire.groups[-1]["counts"] == {"completed": 2000}
            assert known < 100
            growing = [group["counts"].get("completed", 0) for group in wire.groups]
            assert growing == sorted(growing)

    asyncio.run(main())


def test_what_another_process_pours_out_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact counts meanwhile, few nodes, and all of them at the end."""
    monkeypatch.setattr(sources, "POUR", 200.0)

    async def main() -> None:
        async with running(tmp_path, "calm", 2000, width=20, beside=True) as run:
            wire = Wire()
            run.come(wire)
            await wire.until(1)
            run.watched.ask(next(iter(run.watched.viewers)), "open", frozenset({"each"}))
            run.go()
            counted = 0
            while not wire.ended.is_set():
                source = run.watched.feed
                assert isinstance(source, sources.Source)
                counted += source.behind
                await asyncio.sleep(0.02)
            assert counted > 5
            growing = [group["counts"].get("completed", 0) for group in wire.groups]
            assert growing == sorted(growing)
            assert len({count for count in growing if 0 < count < 2000}) > 1
            assert wire.counts == {"completed": 2002}
            assert wire.groups[-1] == {"kind": "map", "total": 2000, "counts": {"completed": 2000}}
            known = [path for one in wire.messages for path in one.get("payload", {}).get("nodes", {})]
            assert {f"each[{item}]" for item in range(2000)} <= set(known)

    asyncio.run(main())


def test_what_went_on_while_nobody_looked_is_seen_by_who_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, "calm", 2000, width=20) as run:
            source, engine = run.watched.feed, run.hub.monitor.engine
            assert isinstance(source, sources.Source)
            assert engine is not None
            handle = engine.handle(run.watched.execution_id or "")
            assert handle is not None
            first, later = Wire(), Wire()
            run.come(first)
            await first.until(1)
            run.watched.leave(next(iter(run.watched.viewers)))
            run.go()
            while handle.counts["completed"] < 500:
                await asyncio.sleep(0.01)
                assert source.held == 0  # nothing is kept for nobody
            assert source.local
            run.come(later)
            await asyncio.wait_for(later.ended.wait(), 20)
            assert later.counts == {"completed": 2002}
            assert later.groups[-1]["counts"] == {"completed": 2000}

    asyncio.run(main())
