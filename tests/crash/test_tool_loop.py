"""A person with tools is killed, at every point of the loop: what was recorded is not called again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from treadle.errors import NoSuchExecution
from treadle.state.steps import steps_of
from treadle.store import open_store
from treadle.testing.crashes import crash_everywhere

from .. import forked

SERVER = Path(__file__).parents[1] / "nodes" / "tools" / "mcp_by_hand.py"
DIAGRAM = """
treadle: 1
persons:
  Ann:
    model: script
    script:
      - [{tool: note, arguments: {text: a}}, {tool: later, arguments: {text: b}}]
      - [{tool: note, arguments: {text: c}}, {tool: sign, arguments: {text: d}}]
      - {tool: twice, arguments: {number: 4}}
      - {tool: note, arguments: {txt: e}}
      - All is done.
nodes:
  talk:
    type: person_job
    person: Ann
    prompt: Do it
    tools:
      - "loop_tools:note"
      - "loop_tools:later"
      - {call: "loop_tools:sign", approve: true}
      - {diagram: twice.yaml, description: Doubles a number}
  done: {type: endpoint, needs: talk}
"""
TWICE = """
treadle: 1
inputs: {number: {type: integer}}
nodes:
  begin: {type: start}
  twice: {type: code_job, call: "loop_tools:double", needs: begin}
  done: {type: endpoint, needs: twice}
"""
CODE = '''
import asyncio
import os
import signal
from pathlib import Path

LOG = Path(__file__).with_name("log")


def log(text):
    with LOG.open("a") as file:
        file.write(text + "\\n")


def die(text, when):
    if os.environ.get("TREADLE_TEST_DIE") == f"{when} {text}":
        os.kill(os.getpid(), signal.SIGKILL)


def note(text: str) -> str:
    """Note it."""
    die(text, "before")
    log(text)
    die(text, "after")
    return text.upper()


async def later(text: str) -> str:
    """Note it later."""
    await asyncio.sleep(0)
    return note(text)


def sign(text: str) -> str:
    """Sign it."""
    return note(text)


def double(begin: dict) -> int:
    log(f"double{begin['number']}")
    die("double", "after")
    return begin["number"] * 2
'''
LIFE = """
import asyncio, json, sys
from treadle.engine.engine import Engine
from treadle.errors import NoSuchExecution
from treadle.state.status import ExecutionStatus

async def main():
    async with Engine.open("sqlite:///runs.db", durability=sys.argv[1]) as engine:
        try:
            handle = await engine.resume("x")
        except NoSuchExecution:
            handle = await engine.start("d.yaml", execution_id="x")
        if await handle.wait() is ExecutionStatus.SUSPENDED:
            await handle.answer("talk", True)
        print(json.dumps(await handle.result()))

asyncio.run(main())
"""


class Scene:
    durability = "strict"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "d.yaml").write_text(DIAGRAM)
        (folder / "twice.yaml").write_text(TWICE)
        (folder / "loop_tools.py").write_text(CODE)

    def live(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return forked.run(LIFE, self.durability, folder=self.folder, environment=environment)

    @property
    def log(self) -> Counter[str]:
        path = self.folder / "log"
        return Counter(path.read_text().split() if path.exists() else ())

    def recorded(self) -> Counter[str]:
        """What calls whose results are in the store have noted."""
        store = open_store(self.folder / "runs.db")
        try:
            cells = store.load("x")[1]
        except NoSuchExecution:
            return Counter()
        finally:
            store.close()
        texts: Counter[str] = Counter()
        for cell in cells:
            texts.update(one.meta["arguments"]["text"] for one in steps_of(cell.meta).steps
                         if one.kind == "tool" and "text" in one.meta["arguments"])
        return texts

    def ends_well(self, killed: subprocess.CompletedProcess[str]) -> None:
        """Go on after a kill, and see that nothing that was recorded is called again."""
        assert killed.returncode == -9, killed.stderr
        before, recorded = self.log, self.recorded()
        done = self.live()
        assert (done.returncode, done.stdout) == (0, '"All is done."\n'), done.stderr
        again = self.log - before
        assert not again & recorded, "recorded calls were made again"
        assert set(self.log) == {"a", "b", "c", "d", "double4"}
        assert max(self.log.values()) <= 2


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_every_write_of_the_loop(scene: Scene) -> None:
    """In one process: each state that the store ever had is gone on from."""
    crashes = crash_everywhere(scene.folder / "d.yaml", answers={"talk": True})
    assert (crashes.ran.status, crashes.ran.result) == ("completed", "All is done.")
    names = {point.after for point in crashes.points}
    steps = ("model 1", "note 1", "later 2", "model 2", "note 3", "sign 4", "model 3", "twice 5", "note 6",
             "model 5")
    assert {f"talk: {step}" for step in steps} <= names, names
    assert not any(point.repeated for point in crashes.points)


@pytest.mark.parametrize("seam", [f"commit.{when}:{n}" for when in ("before", "after") for n in (3, 6)])
def test_a_kill_at_a_commit(scene: Scene, seam: str) -> None:
    scene.ends_well(scene.live(TREADLE_FAILPOINT=seam.replace(":", ":kill:")))


@pytest.mark.parametrize("moment", ["after a", "before b", "after d", "after double"])
def test_a_kill_within_a_tool(scene: Scene, moment: str) -> None:
    scene.ends_well(scene.live(TREADLE_TEST_DIE=moment))


@pytest.mark.parametrize("moment", ["after b", "after d"])
def test_a_kill_before_the_last_steps_are_written(scene: Scene, moment: str) -> None:
    """In `batched` some of them may be lost, and are taken again; what the store has is not."""
    scene.durability = "batched"
    scene.ends_well(scene.live(TREADLE_TEST_DIE=moment))


def test_a_server_dies_with_the_engine(scene: Scene) -> None:
    """Whatever death that is."""
    (scene.folder / "d.yaml").write_text(f"""
treadle: 1
persons:
  Ann: {{model: script, script: [{{tool: pid, arguments: {{}}}}, {{tool: note, arguments: {{text: a}}}}, ok]}}
nodes:
  talk:
    type: person_job
    person: Ann
    prompt: Do it
    tools: [{{mcp: {{command: [{sys.executable}, {SERVER}, stubborn]}}}}, "loop_tools:note"]
""")
    killed = scene.live(TREADLE_TEST_DIE="after a")
    assert killed.returncode == -9, killed.stderr
    store = open_store(scene.folder / "runs.db")
    pids = [int(one.result()) for cell in store.load("x")[1] for one in steps_of(cell.meta).steps
            if one.name.startswith("pid")]
    store.close()
    assert len(pids) == 1
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.kill(pids[0], 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("the server has outlived its engine")
