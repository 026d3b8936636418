"""What docs/plugins.md shows works when it is copied."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.engine.engine import Engine
from treadle.errors import ExecutionFailed, PluginError
from treadle.hooks.manager import PluginManager
from treadle.hooks.specs import HOOKS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plugins.md"
DIAGRAM = """\
treadle: 1
inputs: {dry_run: {type: boolean, default: false}}
nodes:
  loud: {type: shout, text: hey}
  kept: {type: code_job, call: "tasks:keep", needs: done}
  done: {type: endpoint}
arrows: [{from: loud, to: done, transform: [{exclaim: 2}]}]
"""
TASKS = """\
def keep(context):
    context.artifacts["raw"] = "raw.csv"
    context.artifacts["rows"] = 3
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def copied(write: Write) -> None:
    """Every block of the page that begins with the name of a file, as that file."""
    blocks = re.findall(r"```(?:python|toml)\n# ([\w./]+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = [name for name, text in blocks if name != "pyproject.toml" and write(name, text)]
    assert names == ["plugins/slow_nodes.py", "treadle.toml", "plugins/tally.py", "plugins/shouting.py"]


@pytest.mark.usefixtures("copied")
def test_the_templates_work_when_they_are_copied(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("d.yaml", DIAGRAM)
    write("tasks.py", TASKS)

    async def script() -> Any:
        manager = PluginManager.discover()
        assert manager.active == ["Shouting@1.0", "SlowNodes@1.0.0", "tally@0.1"]
        slow, tally = manager.plugins[1].target, manager.plugins[2].target
        assert slow.seconds == 0.5
        slow.seconds = 0.0
        async with Engine.open(durability="memory", plugins=manager) as engine:
            with pytest.raises(PluginError, match="refuses the start: dry runs are not for this machine"):
                await engine.start(path, dry_run=True)
            handle = await engine.start(path)
            with pytest.raises(ExecutionFailed, match=r"artifacts\.rows must be a path"):
                await handle.result()
        assert tally.seen["failed"] == 1 and tally.seen["running"] == 3

    with caplog.at_level(logging.INFO):
        asyncio.run(script())
    messages = [one.getMessage() for one in caplog.records if one.name == "treadle.plugins.SlowNodes"]
    assert messages[0] == "loud: pending → running"
    assert any(re.fullmatch(r"slow in \w+: loud 0\.\d+ s", one) for one in messages)


def test_the_page_names_every_hook_and_every_setting() -> None:
    from treadle.plugins.state_logger import StateLogger
    from treadle.plugins.webhook import WebhookNotifier

    page = PAGE.read_text()
    assert [hook for hook in HOOKS if f"`{hook}(" not in page] == []
    for plugin in (StateLogger, WebhookNotifier):
        words = plugin.__init__.__annotations__.keys() - {"return", "timeout_s", "close_s_max"}
        assert [word for word in words if f"{word} = " not in page] == []
