"""Every type of node has an example in its docs, and that example runs."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from treadle import Engine
from treadle.diagram.check import check_file
from treadle.nodes.registry import BUILT_IN, default_registry

FROM_OUTSIDE: dict[str, dict[str, Any]] = {
    "user_response": {"ask": "yes"}, "wait_for": {"paid-7": {"by": "card"}}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server with an empty list at every path."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, format: str, *args: object) -> None:
            pass

    there = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=there.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{there.server_port}"
    there.shutdown()
    thread.join()
    there.server_close()


@pytest.mark.parametrize("module", BUILT_IN, ids=lambda module: module.KIND.name)
def test_the_example_of_every_type_runs(module: ModuleType, tmp_path: Path, server: str) -> None:
    name = module.KIND.name
    words = inspect.cleandoc(module.KIND.properties.__doc__ or "")
    examples = re.findall(r"```yaml\n(.*?)```", words, re.DOTALL)
    assert examples, f"{name} has no example: put a ```yaml block into the docstring of its struct"
    for text in examples:
        file = tmp_path / "example.yaml"
        file.write_text(text)
        checked = check_file(file, default_registry())
        assert checked.faults == ()
        assert name in {node.type for node in checked.spec.nodes}
        inputs = {"server": server} if "server" in checked.spec.inputs else {}
        assert asyncio.run(ended(file, name, inputs)) == "completed"


def test_the_command_line_shows_the_example() -> None:
    done = subprocess.run([sys.executable, "-m", "treadle", "nodes", "hook"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert "how it tells" in done.stdout.lower()
    assert "type: hook\n" in done.stdout


async def ended(file: Path, name: str, inputs: dict[str, Any]) -> str:
    async with Engine.open("memory:") as engine:
        handle = await engine.start(file, **inputs)
        for what, value in FROM_OUTSIDE.get(name, {}).items():
            await (handle.answer(what, value) if name == "user_response" else handle.signal(what, value))
        await handle.result()
        return str(handle.status)
