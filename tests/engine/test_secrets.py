"""Secrets reach the bodies that ask for them, and nothing that is recorded."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from treadle.engine.bus import Event
from treadle.engine.engine import Engine
from treadle.state import codec
from treadle.state.context import of_bodies
from treadle.state.status import ExecutionStatus
from treadle.store import open_store

SECRET = 'sésame "open" 4711'
BODIES = """
import base64, logging

def returns(context):
    value = context.secret("secret://db")
    assert len(value) == 18, value
    print("said", value)
    logging.getLogger("app").warning("logged %s", value)
    context.variables["kept"] = {"url": f"db://u:{value}@h"}
    return {"plain": value, "in": [f"a {value} b"], "raw": value.encode(),
            "basic": base64.b64encode(f"user:{value}".encode()).decode(), value: 1}

def length(context, default):
    return [len(default["plain"]), context.variables["kept"]["url"]]

def fails(context):
    error = ValueError("no entry with " + context.secret("secret://db"))
    raise error

def other(context):
    return context.secret("env:OTHER_SECRET")

def missing(context):
    return context.secret("secret://dbx")
"""
DIAGRAM = """
treadle: 1
secret_store: "file:secrets.toml"
on_error: continue
nodes:
  returns: {type: code_job, call: "bodies:returns", isolation: %s}
  length: {type: code_job, call: "bodies:length", needs: returns, isolation: %s}
  fails: {type: code_job, call: "bodies:fails", isolation: %s}
  other: {type: code_job, call: "bodies:other", isolation: %s}
  missing: {type: code_job, call: "bodies:missing", isolation: %s}
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bodies.py").write_text(BODIES)
    secrets = tmp_path / "secrets.toml"
    secrets.touch(0o600)
    secrets.write_text("db = '" + SECRET + "'\n")
    monkeypatch.setenv("OTHER_SECRET", "other-secret-value")
    return tmp_path


async def run(folder: Path, isolation: str, durability: Any) -> list[Event]:
    """Run the diagram; what was announced."""
    diagram = folder / "demo.yaml"
    diagram.write_text(DIAGRAM % ((isolation,) * 5))
    events: list[Event] = []
    async with Engine.open(str(folder / "state.db"), durability=durability) as engine:
        engine.bus.subscribe(events.append)
        handle = await engine.start(str(diagram), execution_id="run")
        assert await handle.wait() is ExecutionStatus.FAILED
    return events


def stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("state.db*") if path.is_file())


@pytest.mark.parametrize("isolation", ["thread", "process", "inline"])
def test_a_secret_reaches_the_body_and_nothing_that_is_recorded(
        folder: Path, isolation: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        events = asyncio.run(run(folder, isolation, "batched"))
    for form in (SECRET, "sésame", "open\\\\\" 4711", "other-secret-value", SECRET.encode().hex()):
        assert form.encode() not in stored(folder), form
        assert form not in repr(events), form
    store = open_store(folder / "state.db")
    cells = {cell.node_id: cell for cell in store.load("run")[1]}
    lines = sorted(line.text for line in store.logs("run"))
    [shared] = of_bodies(store.context("run"))
    store.close()
    returned = codec.decode(cells["returns"].output or b"null")
    assert returned["plain"] == "[secret db]" and returned["in"] == ["a [secret db] b"]
    assert returned["[secret db]"] == 1 and len(returned["raw"]) == len(SECRET.encode())
    assert codec.decode(shared.value or b"null") == {"url": "db://u:[secret db]@h"}
    assert codec.decode(cells["length"].output or b"null") == [len("[secret db]"), "db://u:[secret db]@h"]
    assert lines == ["logged [secret db]", "said [secret db]"]
    assert "no entry with [secret db]" in str(cells["fails"].error)
    assert cells["other"].output == b'"[secret OTHER_SECRET]"'
    error = cells["missing"].error
    assert error is not None and error.type == "NoSuchSecret"
    assert "secrets.toml has none of that name: did you mean 'db'?" in error.message


def test_a_result_that_is_kept_for_others_has_no_secret(folder: Path) -> None:
    diagram = folder / "kept.yaml"
    diagram.write_text("""
treadle: 1
secret_store: "file:secrets.toml"
nodes:
  a: {type: code_job, call: "bodies:returns", isolation: thread, cache: true}
""")

    async def scenario() -> Any:
        async with Engine.open(str(folder / "state.db")) as engine:
            first = await (await engine.start(str(diagram))).result()
            again = await (await engine.start(str(diagram))).result()
            assert first == again
            return first

    assert asyncio.run(scenario())["plain"] == "[secret db]"
    assert "sésame".encode() not in stored(folder)


def test_in_memory_too(folder: Path) -> None:
    events = asyncio.run(run(folder, "thread", "memory"))
    assert "sésame" not in repr(events)
