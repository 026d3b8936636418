"""The command of tests/cli, and what must hold after every mistake."""

from __future__ import annotations

import sqlite3
from typing import Any

from ..cli.conftest import Command, _treadle

__all__ = ["_treadle"]


def whole(treadle: Command) -> None:
    """The state file is in order."""
    connection = sqlite3.connect(treadle.store)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def run(treadle: Any, body: str, *, properties: str = "", words: tuple[str, ...] = (),
        apart: bool = False, name: str = "x") -> Any:
    """Run a diagram of two nodes, `good` and then `bad`, whose body this is, in the file `bodies.py`; in this
    process, unless it is said to be `apart`."""
    (treadle.folder / "bodies.py").write_text(body)
    treadle.write(f"""
treadle: 1
nodes:
  good: {{type: code_job, call: "tasks:first"}}
  bad: {{type: code_job, call: "bodies:bad", needs: good{properties and ', ' + properties}}}
  done: {{type: endpoint, needs: bad}}
""")
    command = treadle.apart if apart else treadle
    return command("run", "diagram.yaml", "--execution-id", name, *words)
