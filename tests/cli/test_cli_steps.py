"""Steps of bodies on the command line: in a table, in JSON, in sums, and while a text is coming."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from treadle import Diagram, Engine, node
from treadle.cli.running.screen import Screen
from treadle.cli.running.watching import _listen
from treadle.monitor.core import Monitor

TALK = '''
import asyncio
from treadle.state.steps import Noted


async def talk(context):
    async def model():
        for text in ("Te", "Tea", "Tea is"):
            context.steps.show(text)
            await asyncio.sleep(0.3)
        call = {"id": "1", "tool": "search", "arguments": {"q": "tea"}}
        answer = {"content": "One moment", "calls": [call]}
        return Noted({"asked": [], "answer": answer}, {"person": "Ann", "tokens": 1234, "cost": 0.012})

    async def search():
        return {"found": 3}

    await context.steps.run("model 1", model, kind="model")
    await context.steps.run("search 1", search, kind="tool", meta={"arguments": {"q": "tea"}})
    return "done"
'''
DIAGRAM = """
treadle: 1
name: talk
nodes:
  talk: {type: code_job, call: "talking:talk", isolation: inline}
"""


def test_show_lists_a_node_s_steps_and_what_they_took(treadle: Any) -> None:
    (treadle.folder / "talking.py").write_text(TALK)
    done = treadle("run", treadle.write(DIAGRAM), "--live", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["spent"] == {"tokens": 1234.0, "cost": 0.012}
    told = [json.loads(line) for line in done.stderr.splitlines()]
    partial = [one["text"] for one in told if one["event_type"] == "partial"]
    assert partial and set(partial) <= {"Te", "Tea", "Tea is"}
    name = told[0]["execution_id"]

    told = treadle("show", name)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[1].endswith(", 1,234 tokens, $0.0120")
    shown = treadle("show", name, "--node", "talk").stdout
    assert 'Ann: One moment calls search {"q": "tea"}' in shown
    assert '{"q": "tea"} → {"found": 3}' in shown
    document = treadle.json("show", name, "--node", "talk")
    assert [(one["name"], one["kind"]) for one in document["steps"]] == [
        ("model 1", "model"), ("search 1", "tool")]
    assert document["steps"][1]["value"] == {"found": 3}
    assert treadle.json("show", name)["spent"]["tokens"] == 1234


def test_a_run_says_what_it_took(treadle: Any) -> None:
    (treadle.folder / "talking.py").write_text(TALK.replace("sleep(0.3)", "sleep(0)"))
    done = treadle("run", treadle.write(DIAGRAM))
    assert done.stderr.splitlines()[-1].endswith(": 1 completed, 1,234 tokens, $0.0120")


class Telling(Screen):
    """A screen that tells when somebody talks, or nobody any more."""

    told: asyncio.Queue[list[tuple[str, str]]] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "talking" and self.told is not None and value != self.talking:
            self.told.put_nowait(value)
        super().__setattr__(name, value)


def test_who_watches_hears_what_a_body_says_while_it_comes(tmp_path: Path) -> None:
    async def main() -> None:
        done = asyncio.Event()

        @node(isolation="inline")
        async def talk(context: Any) -> None:
            async def model() -> None:
                context.steps.show("Tea is a drink")
                await done.wait()

            await context.steps.run("model 1", model, kind="model")

        with Diagram("talk") as diagram:
            talk()
        screen, told = Telling(), asyncio.Queue[list[tuple[str, str]]]()
        screen.told = told
        async with Engine.open(str(tmp_path / "runs.db")) as engine, Monitor(engine.store) as monitor:
            handle = await engine.start(diagram)
            listening = asyncio.create_task(_listen(monitor, handle.execution_id, screen))
            screen.nodes["talk"] = {"status": "running", "partial": 14}
            assert await told.get() == [("talk", "Tea is a drink")]
            done.set()
            screen.nodes["talk"] = {"status": "completed"}
            assert await told.get() == []
            listening.cancel()
            await handle.result()

    asyncio.run(main())
