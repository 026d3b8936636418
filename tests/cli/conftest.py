"""The real command, in this process or its own, on a store and in a folder of each test's own."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

import treadle
from treadle.cli.main import main

TASKS = '''
import asyncio
import time
from pathlib import Path

HERE = Path(__file__).parent


def log(text):
    with open(HERE / "log", "a") as file:
        file.write(text + "\\n")


async def hold():
    """Say that we are here, and stay until there is a file `go`."""
    log("began hold")
    (HERE / "here").touch()
    while not (HERE / "go").exists():
        await asyncio.sleep(0.02)
    log("ended hold")
    return "hold"


def first():
    log("first")
    return "one"


def boom():
    return helper({"cost": "none"})


def helper(row):
    return int(row["cost"])


def flaky(context):
    if context.attempt < 3:
        raise ConnectionError("no line")
    return context.attempt
'''


class Command:
    """Runs `treadle` in a folder; the store is there too unless the test says another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "runs.db"
        self.children: list[subprocess.Popen[str]] = []
        (folder / "tasks.py").write_text(TASKS)

    @property
    def environment(self) -> dict[str, str]:
        here = str(Path(treadle.__file__).parents[1])  # the same package that is under test, installed or not
        return {**os.environ, "PYTHONPATH": here, "TREADLE_STORE": str(self.store), "NO_COLOR": "1",
                "PYTHONUNBUFFERED": "1"}

    def apart(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in a process of its own: for what would hurt or change this one."""
        return subprocess.run(
            [sys.executable, "-m", "treadle", *words], cwd=self.folder, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)

    def here(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The same; says that the command only reads, or refuses."""
        return self(*words)

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in this process, which saves its start."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setenv("TREADLE_STORE", str(self.store))
            code = main(words)
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    def json(self, *words: str) -> Any:
        """Run a command with --json in this process; its document."""
        return json.loads(self(*words, "--json").stdout)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a command and go on."""
        child = subprocess.Popen(
            [sys.executable, "-m", "treadle", *words], cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.children.append(child)
        return child

    def write(self, text: str, name: str = "diagram.yaml") -> str:
        (self.folder / name).write_text(text)
        return name

    def until(self, there: Callable[[], object], what: str) -> None:
        """Wait for something that another process does."""
        end = time.monotonic() + 30
        while not there():
            for child in self.children:
                if child.poll() is not None:
                    raise AssertionError(f"{what}: the command ended before that\n{child.communicate()}")
            assert time.monotonic() < end, f"never happened: {what}"
            time.sleep(0.02)

    def until_held(self) -> None:
        """Wait until a body of `tasks:hold` is there."""
        self.until((self.folder / "here").exists, "hold began")

    def let_go(self) -> None:
        (self.folder / "go").touch()

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []


def execution_in(stderr: str) -> str:
    """The id in the line with which `run` begins."""
    found = re.search(r"execution (\S+) of", stderr)
    assert found is not None, stderr
    return found[1]


@pytest.fixture(name="treadle")
def _treadle(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path)
    yield command
    for child in command.children:
        if child.poll() is None:
            child.kill()
        child.communicate()
