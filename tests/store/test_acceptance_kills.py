"""Scenario 12 of the state manager's acceptance: kills and interrupts of a process that streams updates."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from treadle.state.cell import NodeState
from treadle.store import open_store


def cells(path: Path) -> list[NodeState]:
    store = open_store(path)
    try:
        return store.load("job-123")[1]
    finally:
        store.close()


CHILD = """
import asyncio, signal, sys
from treadle.store import StateManager, open_store

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits "ignore"

async def main(path):
    manager = StateManager(execution_id="job-123", store=open_store(path), batch_size=20)
    await manager.start()
    known = [manager.get_node_state(f"n{k}") for k in range(5)]
    n = max([cell.claims for cell in known if cell], default=0)
    try:
        while True:
            for turn in range(200):
                n += 1
                await manager.update_node_state(f"n{n % 5}", claims=n)
                if turn % 40 == 0:
                    await asyncio.sleep(0)
            await manager.flush()
            print(n, flush=True)
    finally:
        await manager.stop()
        print(n, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@contextmanager
def streaming(path: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)
    with child:
        try:
            yield child
        finally:
            child.kill()


def watermark(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    lines = [line for line in child.stdout.read().splitlines() if line.strip()]
    return int(lines[-1]) if lines else 0


def is_a_prefix(path: Path, announced: int) -> int:
    """The state is that after some update, no earlier than the announced one; returns that update."""
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    connection.close()
    claims = sorted(cell.claims for cell in cells(path))
    last = claims[-1] if claims else 0
    assert last >= announced
    expected = sorted(n for n in range(last, max(0, last - 5), -1))
    assert claims == expected, "a batch came half"
    return last


def test_12_a_kill_at_any_instant_leaves_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    rng = random.Random(12)
    reached = 0
    for _ in range(50):
        with streaming(path) as child:
            assert child.stdout is not None
            first = child.stdout.readline()  # it is at work
            time.sleep(rng.uniform(0, 0.02))
            child.send_signal(signal.SIGKILL)
            child.wait()
            reached = is_a_prefix(path, max(int(first), watermark(child), reached))


def test_12b_an_interrupt_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with streaming(path) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=20)
        said = int(out.splitlines()[-1])
        assert is_a_prefix(path, said) == said
