"""What an execution knows of its secrets before a body asks: after a resume, in a fork, from its start; and
where a sub-diagram looks them up."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from treadle.engine import secret
from treadle.engine.engine import Engine
from treadle.errors import ExecutionFailed
from treadle.hooks.sdk import StateHook
from treadle.state import codec
from treadle.state.context import SECRETS_KEY
from treadle.store import open_store

VALUE = "sesame-4711-open"
BODIES = """
import os
from pathlib import Path

HERE = Path(__file__).parent

def asks(context):
    # Put together, so that nobody finds it by reading the diagram or this.
    value = context.secret("secret:" + "//db")
    (HERE / "left-behind").write_text(value)
    return "asked"

def finds():
    value = (HERE / "left-behind").read_text()
    print("found", value)
    return {"found": value}

def prints():
    print("set", os.environ.get("KNOWN_TOKEN"))
    return os.environ.get("KNOWN_TOKEN")

def env(context):
    return dict(context.environment_vars)

def ask(context, name):
    return len(context.secret(name))
"""
DIAGRAM = """
treadle: 1
secret_store: "file:secrets.toml"
nodes:
  asks: {type: code_job, call: "bodies:asks", isolation: %s}
  go: {type: wait_for, signal: go, needs: asks}
  finds: {type: code_job, call: "bodies:finds", isolation: %s, needs: go}
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "bodies.py").write_text(BODIES)
    private(tmp_path / "secrets.toml", f"db = '{VALUE}'\n")
    return tmp_path


def private(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)


def diagram(folder: Path, text: str, name: str = "demo.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def result(folder: Path, text: str, **given: Any) -> Any:
    """Run a diagram; its result."""
    async def scenario() -> Any:
        async with Engine.open(str(folder / "state.db"), **given) as engine:
            return await (await engine.start(diagram(folder, text), execution_id="run")).result()

    return asyncio.run(scenario())


async def suspended(folder: Path, isolation: str) -> None:
    """Leave the execution `run`, which has asked for its secret, in the store."""
    async with Engine.open(str(folder / "state.db")) as engine:
        handle = await engine.start(diagram(folder, DIAGRAM % (isolation, isolation)), execution_id="run")
        await handle.wait()
    assert (folder / "left-behind").read_text() == VALUE


def lines(folder: Path, execution_id: str) -> list[str]:
    store = open_store(folder / "state.db")
    try:
        return [line.text for line in store.logs(execution_id)]
    finally:
        store.close()


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_resume_and_a_fork_know_what_was_asked_for(folder: Path, isolation: str) -> None:
    async def scenario() -> list[Any]:
        await suspended(folder, isolation)
        results = []
        async with Engine.open(str(folder / "state.db")) as engine:
            handle = await engine.resume("run")
            await handle.signal("go")
            results.append(await handle.result())
            assert list(await handle.context()) == []  # the engine's own cell is nobody's
        async with Engine.open(str(folder / "state.db")) as engine:
            fork = await engine.fork("run", at="finds", fork_id="fork")
            results.append(await fork.result())
            assert (await engine.state("fork")).context == {}
        return results

    assert asyncio.run(scenario()) == [{"found": "[secret db]"}] * 2
    assert lines(folder, "run") == lines(folder, "fork") == ["found [secret db]"]
    assert VALUE.encode() not in b"".join(path.read_bytes() for path in folder.glob("state.db*"))
    store = open_store(folder / "state.db")
    [cell] = store.context("fork")
    store.close()
    assert (cell.key, cell.writer, codec.decode(cell.value or b"")) == (
        SECRETS_KEY, "treadle", [["secret://db", "", ""]])


def test_a_store_that_is_away_keeps_no_execution_from_going_on(
        folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> Any:
        await suspended(folder, "thread")
        (folder / "secrets.toml").chmod(0o644)
        async with Engine.open(str(folder / "state.db")) as engine:
            handle = await engine.resume("run")
            await handle.signal("go")
            return await handle.result()

    with caplog.at_level(logging.WARNING, "treadle.secrets"):
        assert asyncio.run(scenario()) == {"found": VALUE}
    [said] = [one.getMessage() for one in caplog.records if one.name == "treadle.secrets"]
    assert said.startswith("execution run: secret://db can't be looked up now, so it is not kept out of what "
                           "is recorded until a body asks for it: secret 'db': ")
    assert "chmod 600" in said


def test_a_store_that_says_nothing_is_not_waited_for_long(
        folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(secret, "PRIMED_S_MAX", 0.05)
    go = threading.Event()

    class Silent(StateHook):
        def treadle_secret_stores(self) -> Any:
            return {"silent": lambda url: self}

        def get(self, name: str) -> str:
            assert go.wait(30)
            return VALUE

    text = """
treadle: 1
secret_store: "silent:once"
environment_vars: {TOKEN: "secret://late"}
nodes:
  a: {type: wait_for, signal: go}
"""

    async def scenario() -> None:
        async with Engine.open(durability="memory", plugins=[Silent]) as engine:
            handle = await engine.start(diagram(folder, text))
            go.set()
            again = await engine.start(diagram(folder, text))  # not waited for a second time
            for one in (handle, again):
                redactor = engine._runners[one.execution_id].redactor
                assert redactor is not None
                for _ in range(2000):
                    if redactor.text(VALUE) != VALUE:
                        break
                    await asyncio.sleep(0.005)
                await one.signal("go", f"the {VALUE}")
                assert await one.result() == "the [secret late]"

    with caplog.at_level(logging.WARNING, "treadle.secrets"):
        asyncio.run(asyncio.wait_for(scenario(), 20))
    assert "what silent:once has can't be looked up now" in caplog.text
    assert "no answer after 0.05 s" in caplog.text


def test_what_the_diagram_names_is_known_from_the_start(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWN_TOKEN", VALUE)
    rest = """
nodes:
  prints: {type: code_job, call: "bodies:prints", isolation: thread}
  %s
"""
    for index, (top, later) in enumerate((
            ('environment_vars: {T: "secret://KNOWN_TOKEN"}', ""),
            ("", "later: {type: hook, needs: prints, "
                 "kind: shell, command: ':', env: {T: 'env:KNOWN_TOKEN'}}"),
            ("", "later: {type: code_job, needs: prints, "
                 "code: 'context.secret(\"secret://KNOWN_TOKEN\")'}"),
            ("", "later: {type: sub_diagram, needs: prints, diagram: {nodes: {a: {type: start}}, "
                 "environment_vars: {T: 'env:KNOWN_TOKEN'}}}"))):
        text = f"treadle: 1\n{top}{rest % later}"

        async def scenario(text: str = text, index: int = index) -> None:
            async with Engine.open(str(folder / "state.db")) as engine:
                handle = await engine.start(diagram(folder, text), execution_id=f"run{index}")
                await handle.result()

        asyncio.run(scenario())
        assert lines(folder, f"run{index}") == ["set [secret KNOWN_TOKEN]"], text


def test_a_variable_of_the_command_line_is_known_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWN_TOKEN", VALUE)
    text = 'treadle: 1\nnodes: {prints: {type: code_job, call: "bodies:prints", isolation: thread}}\n'
    assert result(folder, text, environment_vars={"T": "env:KNOWN_TOKEN"}) == "[secret KNOWN_TOKEN]"


NESTED = """
treadle: 1
secret_store: "file:secrets.toml"
environment_vars: {A: outer, B: outer, C: outer, TOKEN: "secret://db"}
nodes:
  out: {type: code_job, call: "bodies:env", isolation: %s}
  sub:
    type: sub_diagram
    diagram: inner/sub.yaml
    for_each: "{{ [1] }}"
  plain:
    type: sub_diagram
    diagram: {nodes: {shell: {type: code_job, language: bash, code: 'echo "$A ${#TOKEN}"'}}}
"""
SUB = """
treadle: 1
secret_store: "file:own.toml"
environment_vars: {B: inner, C: inner, OWN: "secret://api"}
nodes:
  env: {type: code_job, call: "tasks:env"}
  shell: {type: code_job, language: bash, code: 'echo "$A $B $C ${#TOKEN} ${#OWN}"'}
  ask: {type: code_job, call: "tasks:ask", arguments: {name: "secret://api"}, isolation: %s}
"""


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_sub_diagram_has_its_own_variables_and_store(folder: Path, isolation: str) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "tasks.py").write_text(BODIES)
    private(folder / "inner" / "own.toml", "api = 'an-inner-secret'\n")
    (folder / "inner" / "sub.yaml").write_text(SUB % isolation)
    found = result(folder, NESTED % isolation, environment_vars={"C": "given"})
    assert found["out"] == {"A": "outer", "B": "outer", "C": "given", "TOKEN": "secret://db"}
    [inner] = found["sub"]
    assert inner["env"] == {"A": "outer", "B": "inner", "C": "given", "TOKEN": "secret://db",
                            "OWN": "secret://api"}
    # Each is looked up where it was written: TOKEN in the outer store, OWN in the inner one.
    assert inner["shell"] == f"outer inner given {len(VALUE)} {len('an-inner-secret')}"
    assert inner["ask"] == len("an-inner-secret")
    assert found["plain"] == f"outer {len(VALUE)}"


def test_a_store_that_is_given_holds_for_sub_diagrams_too(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "tasks.py").write_text(BODIES)
    private(folder / "given.toml", "api = 'given'\ndb = 'given-too'\n")
    (folder / "inner" / "sub.yaml").write_text(SUB % "thread")
    given = f"file:{folder}/given.toml"

    async def scenario() -> Any:
        async with Engine.open(str(folder / "state.db"), secret_store=given) as engine:
            handle = await engine.start(diagram(folder, NESTED % "thread"), execution_id="run")
            first = await handle.result()
        async with Engine.open(str(folder / "state.db")) as engine:  # a fork has what was given before
            again = await (await engine.fork("run", at="sub[0]/ask", fork_id="fork")).result()
        return [one["sub"][0]["ask"] for one in (first, again)]

    assert asyncio.run(scenario()) == [5, 5]


def test_a_body_can_not_write_what_is_the_engines_own(folder: Path) -> None:
    text = """
treadle: 1
nodes:
  a: {type: code_job, code: "context.plugin('treadle')['secrets'] = []", isolation: inline}
"""
    with pytest.raises(ExecutionFailed, match=r"a#1 would write plugins\.treadle\.secrets, which is the eng"):
        result(folder, text)


def test_an_answer_that_holds_a_secret_is_redacted(folder: Path) -> None:
    text = """
treadle: 1
secret_store: "file:secrets.toml"
environment_vars: {T: "secret://db"}
nodes:
  go: {type: wait_for, signal: go}
"""

    async def scenario() -> Any:
        async with Engine.open(str(folder / "state.db")) as engine:
            handle = await engine.start(diagram(folder, text))
            await handle.signal("go", {"it is": VALUE})
            return await handle.result()

    assert asyncio.run(scenario()) == {"it is": "[secret db]"}
