"""Diagrams that the command runs, each in a folder of its own; then the store is asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import treadle
from treadle.state import codec
from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import NodeStatus
from treadle.store import open_store

from .. import forked

COMPLETED, SKIPPED, FAILED = NodeStatus.COMPLETED, NodeStatus.SKIPPED, NodeStatus.FAILED


class CaseIn:
    """A diagram file, and the store beside it, with one execution: x."""

    def __init__(self, file: Path) -> None:
        self.file, self.folder, self.store = file, file.parent, file.parent / "runs.db"

    def treadle(self, *words: str) -> subprocess.CompletedProcess[str]:
        return forked.command(self.folder, *words, "--store", str(self.store))

    def run(self, *options: str) -> int:
        return self.treadle("run", str(self.file), "--execution-id", "x", *options).returncode

    def kill_within_d(self) -> None:
        """Run it in a process of its own, and kill that when the node d, which writes into `log`, runs."""
        child = subprocess.Popen(
            [sys.executable, "-m", "treadle", "run", str(self.file), "--execution-id", "x", "--store",
             str(self.store)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(treadle.__file__).parents[1])})
        end = time.monotonic() + 60
        while not (self.store.exists() and self._held()):
            assert child.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        child.kill()
        child.wait()

    def _held(self) -> bool:
        """Whether the store knows that d is under way: all that was before it is recorded then."""
        try:
            return self.states().get("d") is NodeStatus.RUNNING and "d" in (self.folder / "log").read_text()
        except (LookupError, FileNotFoundError):
            return False

    def load(self) -> tuple[ExecutionCell, list[NodeState]]:
        store = open_store(self.store)
        try:
            return store.load("x")
        finally:
            store.close()

    @property
    def execution(self) -> ExecutionCell:
        return self.load()[0]

    @property
    def error(self) -> ErrorInfo:
        error = self.execution.error
        assert error is not None
        return error

    def states(self) -> dict[str, NodeStatus]:
        return {cell.node_id: cell.status for cell in self.load()[1]}

    def outputs(self, node: str) -> list[Any]:
        """What a node gave, turn by turn."""
        cells = sorted((cell for cell in self.load()[1] if cell.node_id == node),
                       key=lambda cell: int(cell.iteration))
        return [codec.decode(cell.output) if cell.output is not None else None for cell in cells]
