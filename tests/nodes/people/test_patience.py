"""What is tried again when the diagram says nothing of it, and what is not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from treadle.engine.engine import Engine
from treadle.engine.outside import send
from treadle.testing.bench import Bench
from treadle.testing.diagrams import run_diagram
from treadle.testing.llm import LLMServer, Reply

ANN = "treadle: 1\npersons: {Ann: {model: script, script: %s}}\n"


def test_who_could_not_be_asked_is_asked_again(run: Any) -> None:
    ran = run(ANN % "[{error: 503, retry_after: 0}, {error: 429, retry_after: 0}, at last]"
              + "nodes: {a: {type: person_job, person: Ann, prompt: Hello}}")
    assert (ran.result, ran.cells["a"].attempt) == ("at last", 3)


@pytest.mark.parametrize(("more", "said"), [
    ("images: none.png", "no file 'none.png'"),
    ('images: "{{ 3 }}"', "is no image"),
    ('output: "forms:Broken"', "ZeroDivisionError")])
def test_what_is_wrong_with_the_node_is_not_tried_again(run: Any, tmp_path: Path, more: str,
                                                        said: str) -> None:
    (tmp_path / "forms.py").write_text("from pydantic import BaseModel, field_validator\n"
                                       "class Broken(BaseModel):\n    n: int\n"
                                       "    @field_validator('n')\n"
                                       "    def half(cls, value):\n        return value / 0\n")
    ran = run(ANN % "[{n: 1}, {n: 1}]"
              + f"nodes: {{a: {{type: person_job, person: Ann, prompt: Hi, {more}}}}}")
    assert said in ran.error
    assert ran.cells["a"].attempt == 1


def test_who_says_retries_has_them_for_everything(run: Any) -> None:
    ran = run(ANN % "[]" + "nodes: {a: {type: person_job, person: Ann, images: none.png, retries: 1, "
              "backoff: 0}}")
    assert ran.cells["a"].attempt == 2


def asking_leave(folder: Path, module: str, says: str, more: str = "") -> Path:
    """A diagram whose person may send nothing without leave; `module` is a name that no other test has."""
    (folder / f"{module}.py").write_text("def send(to: str) -> str:\n    '''Sends.'''\n    return to\n")
    diagram = folder / "d.yaml"
    diagram.write_text(ANN % says + "nodes: {a: {type: person_job, person: Ann, prompt: Hi, " + more
                       + f"tools: [{{call: '{module}:send', approve: true}}]}}}}")
    return diagram


def test_leave_may_take_its_time(tmp_path: Path) -> None:
    says = "[{tool: send, arguments: {to: Bob}}, done]"
    with Bench() as bench:
        handle = bench.start(asking_leave(tmp_path, "leave", says, "timeout: 60, "))
        bench.skip(3600)  # the timeout is that of the calls
        bench.run(handle.answer("a", "yes"))
        assert bench.run(handle.result()) == "done"


def test_nobody_is_asked_for_leave_for_a_call_that_cannot_be(tmp_path: Path) -> None:
    diagram = asking_leave(
        tmp_path, "leaves",
        "[[{tool: send, arguments: {too: Bob}}, {tool: send, arguments: {to: Bob}}], done]")
    asked = []
    ran = run_diagram(diagram, answers={"a": lambda request: asked.append(request) or "yes"})
    assert ran.result == "done"
    assert [one["arguments"] for one in asked] == [{"to": "Bob"}]


def test_an_answer_is_for_the_question_that_was_seen(tmp_path: Path) -> None:
    diagram = asking_leave(
        tmp_path, "twice", "[{tool: send, arguments: {to: Bob}}, {tool: send, arguments: {to: Eve}}, done]")

    async def main() -> None:
        url = f"sqlite:///{tmp_path}/twice.db"
        async with Engine.open(url) as engine:
            handle = await engine.start(diagram, execution_id="x")
            assert await handle.wait() == "suspended"
            assert engine.manager is not None
            for _ in range(2):  # somebody says it twice
                send(engine.manager.store, "x", "answer", node="a", value="yes")
        async with Engine.open(url) as engine:
            handle = await engine.resume("x")
            assert await handle.wait() == "suspended"
            ((_, _, request),) = handle.waiting()
            assert request["arguments"] == {"to": "Eve"}
            await handle.answer("a", "no")
            assert await handle.result() == "done"

    asyncio.run(main())


def test_an_answer_of_a_strange_shape_is_asked_for_again(run: Any) -> None:
    strange = Reply(body='data: {"choices": 3}\n\ndata: [DONE]\n\n', content_type="text/event-stream")
    with LLMServer(strange, "Hello") as server:
        ran = run(f"treadle: 1\npersons: {{Ann: {{model: 'openai:test-model', base_url: '{server.url}'}}}}\n"
                  "nodes: {a: {type: person_job, person: Ann, prompt: Hi, backoff: 0}}")
    assert (ran.result, ran.cells["a"].attempt) == ("Hello", 2)


SLOW = """
from threading import Event
from treadle.nodes.base import cancelled

def quick() -> str:
    "Quick."
    return "x"

def slow() -> str:
    "Slow."
    while not cancelled():
        Event().wait(0.01)
    return "x"
"""


def test_a_tool_in_a_thread_leaves_the_node_its_timeout(run: Any, tmp_path: Path) -> None:
    (tmp_path / "slow_tools.py").write_text(SLOW)
    ran = run(ANN % "[{tool: quick}, {tool: slow}]"
              + "nodes: {a: {type: person_job, person: Ann, prompt: Hi, timeout: 0.5, retries: 0, "
              "tools: ['slow_tools:quick', 'slow_tools:slow']}}")
    assert "longer than its timeout of 0.5 s" in ran.error
    assert ran.names("a")[:3] == ["model 1", "quick 1", "model 2"]
