"""Kill the debate in the middle of a person's turn, over a real connection: nothing is said twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from treadle.errors import NoSuchExecution, StoreError
from treadle.state.status import NodeStatus
from treadle.state.steps import steps_of
from treadle.store import open_store
from treadle.testing.llm import Asked, LLMServer, Reply

EXAMPLE = Path(__file__).parents[2] / "examples" / "debate"
TURNS = {"You are Ann": "ann", "You are Bob": "bob", "You judge": "judge"}


def who(asked: Asked) -> str:
    return next(name for start, name in TURNS.items() if asked.system.startswith(start))


class Debaters:
    """Answer as a function of the conversation, so that a turn which is asked again says the same. Bob's turn
    in the second round is slow until `hurry`."""

    def __init__(self) -> None:
        self.hurry = False

    def __call__(self, asked: Asked) -> Reply:
        name = who(asked)
        before = sum(message["role"] == "assistant" for message in asked.messages)
        if name == "judge":
            winner = "Bob" if before else "nobody yet"
            return Reply(text=json.dumps({"winner": winner, "why": f"after {before + 1}"}))
        slow = name == "bob" and before and not self.hurry
        return Reply(text=f"{name} says something worth hearing, and it is number {before + 1}",
                     every=0.2 if slow else 0.0)


def words(folder: Path, url: str, *command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TREADLE_STORE": str(folder / "state.db"), "OPENAI_API_KEY": "sesame"}
    return subprocess.Popen([sys.executable, "-m", "treadle", *command], cwd=folder, text=True,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def in_the_turn(folder: Path) -> bool:
    """Whether Bob talks in the second round, what he says is shown, and all before it is on disk."""
    try:
        store = open_store(folder / "state.db", read_only=True)
    except StoreError:
        return False
    try:
        cells = {(cell.node_id, cell.iteration): cell for cell in store.load("debate")[1]}
    except NoSuchExecution:
        return False
    finally:
        store.close()
    ann, bob = cells.get(("ann", "2")), cells.get(("bob", "2"))
    return (ann is not None and ann.status is NodeStatus.COMPLETED and bob is not None
            and "something" in steps_of(bob.meta).partial)


def test_a_debate_is_killed_in_the_middle_of_a_turn_and_nothing_is_said_twice(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "debate"))
    debaters = Debaters()
    with LLMServer(debaters, key="sesame") as server:
        diagram = folder / "diagram.yaml"
        diagram.write_text(diagram.read_text().replace(
            "model: openai:gpt-5-mini",
            f"model: openai:test-model\n    base_url: {server.url}\n    api_key: env:OPENAI_API_KEY"))
        running = words(folder, server.url, "run", "diagram.yaml", "--execution-id", "debate")
        until = time.monotonic() + 60
        while not in_the_turn(folder):
            assert running.poll() is None and time.monotonic() < until, running.communicate(timeout=5)
            time.sleep(0.01)
        running.kill()
        running.communicate()
        debaters.hurry = True
        asked = [who(one) for one in server.requests]
        resumed = words(folder, server.url, "resume", "debate")
        out, err = resumed.communicate(timeout=60)
        assert resumed.returncode == 0, err
        requests = [one for one in server.requests if one.path.endswith("completions")]
    assert json.loads(out) == {"winner": "Bob", "why": "after 2"}
    assert asked == ["ann", "bob", "judge", "ann", "bob"]
    assert [who(one) for one in requests[5:]] == ["bob", "judge"], "only the turn that was cut is asked again"
    assert requests[5].messages == requests[4].messages, "and it is asked the same"
    with closing(open_store(folder / "state.db", read_only=True)) as store:
        said = [(cell.node_id, cell.iteration, one.name) for cell in store.load("debate")[1]
                for one in steps_of(cell.meta).steps]
    assert len(said) == len(set(said)) == 6
