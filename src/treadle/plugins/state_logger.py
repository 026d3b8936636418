"""`StateLogger`: each transition of a node as a line of JSON in a file.

    [plugins.StateLogger]
    path = "states.jsonl"
    size_max = "64MB"
    keep = 5
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from treadle import __version__
from treadle.config import parse_bytes
from treadle.errors import PluginError
from treadle.hooks.sdk import StateHook
from treadle.hooks.specs import FinalReport
from treadle.state.cell import ErrorInfo, ExecutionState, NodeState
from treadle.state.status import NodeStatus


class Line(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What a line says. The line at the end of a run has no node."""

    time: str  # ISO 8601, UTC
    execution: str
    node: str | None
    from_: str | None
    to: str
    iteration: str | None = None
    attempt: int | None = None
    error: str | None = None


class StateLogger(StateHook):
    """Writes a line for each transition, and one when the run of an execution ends. A line is handed to the
    operating system at once, so a crash of the program loses none; several processes may write one file."""

    version = __version__

    def __init__(self, path: str = "states.jsonl", size_max: str = "64MB", keep: int = 5) -> None:
        """`path` is relative to the folder of treadle.toml. A file that would grow beyond `size_max` becomes
        `path.1`, that one `path.2`, and so on; `keep` of them stay."""
        self._said, self.keep = path, keep
        self.size_bytes_max = parse_bytes(size_max, "size_max")
        if keep < 0:
            raise PluginError(f"keep = {keep}: it must be a number from 0")
        if self.size_bytes_max <= 0:
            raise PluginError(f"size_max = {size_max!r}: it must be larger than 0")
        self._file: int | None = None
        self._size = 0
        self._encode = msgspec.json.Encoder().encode

    @property
    def path(self) -> Path:
        return self.folder / Path(self._said).expanduser()

    def post_node_execute(self, node_id: str, previous_state: NodeState, current_state: NodeState) -> None:
        now = current_state
        at = now.started_at if now.status is NodeStatus.RUNNING else now.ended_at
        self._write(Line(_iso(at), now.execution_id, node_id, previous_state.status, now.status,
                         now.iteration, now.attempt, _text(now.error)))

    def post_state_finalize(self, state: ExecutionState, report: FinalReport) -> None:
        error = state.cell.error if state.cell is not None else None
        self._write(Line(_iso(None), str(state.execution_id), None, None, state.status, error=_text(error)))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, line: Line) -> None:
        raw = self._encode(line) + b"\n"
        if self._file is None:
            self._open()
        if self._size and self._size + len(raw) > self.size_bytes_max:
            self._rotate()
        assert self._file is not None
        os.write(self._file, raw)  # with O_APPEND a line stays whole beside those of other processes
        self._size += len(raw)

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        assert self._file is not None
        if _same_file(self._file, self.path):  # else another process has done it
            if self.keep:
                for number in range(self.keep - 1, 0, -1):
                    older = self._numbered(number)
                    if older.exists():
                        os.replace(older, self._numbered(number + 1))
                os.replace(self.path, self._numbered(1))
            else:
                os.unlink(self.path)
        self.close()
        self._open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _same_file(file: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(file)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _iso(at: float | None) -> str:
    when = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return when.isoformat(timespec="microseconds")


def _text(error: Any) -> str | None:
    return str(error) if isinstance(error, ErrorInfo) else None
