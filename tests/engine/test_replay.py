"""Inputs that are derived are the inputs that bodies got: each body here writes down what it got."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.formats import loads
from treadle.engine.engine import Engine
from treadle.engine.replay import inputs_of, node_at
from treadle.engine.sources import compile_stored
from treadle.errors import NoSuchNode
from treadle.nodes.registry import default_registry
from treadle.state import codec
from treadle.state.cell import NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import open_store

LOOPS_MAPS_AND_SUB_DIAGRAMS = """
treadle: 1
name: everything
inputs: {turns: {type: integer, default: 3}}
nodes:
  seed: {type: code_job, call: "bodies:got"}
  other: {type: code_job, call: "bodies:got"}
  step: {type: code_job, call: "bodies:got"}
  inner: {type: code_job, call: "bodies:got", needs: step}
  each: {type: code_job, call: "bodies:got_item", for_each: "{{ range(iteration + 1) }}", needs: inner}
  twice:
    type: sub_diagram
    for_each: "{{ ['p', 'q'] }}"
    needs: each
    diagram:
      nodes:
        enter: {type: start}
        work: {type: code_job, call: "bodies:got", needs: enter}
        leave: {type: endpoint, needs: work}
  enough: {type: condition, when: "{{ iteration >= inputs.turns }}", needs: twice}
  fails: {type: code_job, call: "bodies:fails", needs: enough.true}
  caught: {type: code_job, call: "bodies:got", needs: fails.error}
  either: {type: code_job, call: "bodies:got", join: any}
  big: {type: code_job, call: "bodies:big", needs: seed}
  last: {type: code_job, call: "bodies:got"}
arrows:
  - seed -> step.from_seed
  - other -> step.from_other
  - enough.false -> step.again
  - caught -> either.a
  - seed -> either.b
  - caught -> last.a
  - {from: big, to: last.b, transform: [{select: text}]}
loops: [{entry: step}]
"""
BODIES = '''
def got(inputs):
    return {"got": inputs}

def got_item(item, inputs):
    return {"got": {**inputs, "item": item}}

def fails():
    raise ValueError("as planned")

def big(inputs):
    return {"got": inputs, "text": "x" * 100_000}
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of one completed execution."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "bodies.py").write_text(BODIES)

    async def main() -> None:
        async with Engine.open(str(folder / "runs.db")) as engine:
            diagram = loads(LOOPS_MAPS_AND_SUB_DIAGRAMS, base=str(folder))
            handle = await engine.start(diagram, execution_id="x")
            assert await handle.wait() is ExecutionStatus.COMPLETED, handle.error

    asyncio.run(main())
    return folder


def derived(home: Path, cell: NodeState) -> dict[str, Any]:
    store = open_store(home / "runs.db")
    try:
        execution, cells = store.load("x")
        diagram = compile_stored(store.source(execution.diagram), default_registry())
        return inputs_of(cell, execution, cells, diagram, store.blob)
    finally:
        store.close()


def recorded(home: Path) -> list[tuple[NodeState, Any]]:
    """Every completed cell whose output says what its body got."""
    store = open_store(home / "runs.db")
    try:
        cells = [one for one in store.load("x")[1] if one.status is NodeStatus.COMPLETED]
        raw = [store.blob(str(one.blob)) if one.output is None else one.output for one in cells]
    finally:
        store.close()
    bodies = {"seed", "other", "step", "inner", "caught", "either", "big", "last"}
    return [(cell, codec.decode(output)["got"]) for cell, output in zip(cells, raw, strict=True)
            if cell.node_id in bodies or cell.node_id.startswith("each[") or cell.node_id.endswith("/work")]


def test_derived_inputs_are_what_each_body_got(home: Path) -> None:
    """In loops, maps, sub-diagrams, after an error, with join any, and through blobs and transforms."""
    found = recorded(home)
    names = {cell.node_id for cell, _ in found}
    assert {"seed", "step", "inner", "each[0]", "each[3]", "twice[1]/work", "caught", "either",
            "last"} <= names
    for cell, got in found:
        assert derived(home, cell) == got, (cell.node_id, cell.iteration)


def test_what_was_recorded_counts_even_when_the_files_have_changed(home: Path) -> None:
    (home / "bodies.py").write_text(BODIES.replace("100_000", "100"))
    try:
        cell, got = next(pair for pair in recorded(home) if pair[0].node_id == "last")
        assert len(got["b"]) == 100_000
        assert derived(home, cell) == got
    finally:
        (home / "bodies.py").write_text(BODIES)


def test_a_node_that_was_not_reached_has_no_inputs(home: Path) -> None:
    missing = NodeState("x", "step", iteration="9")
    with pytest.raises(NoSuchNode, match="iteration"):
        derived(home, missing)


def test_paths_find_their_nodes_through_sub_diagrams(home: Path) -> None:
    store = open_store(home / "runs.db")
    diagram = compile_stored(store.source(store.load("x")[0].diagram), default_registry())
    store.close()
    found = node_at(diagram, "twice[1]/work")
    assert found is not None and found.type == "code_job"
    assert node_at(diagram, "twice[1]/nothing") is None
    assert node_at(diagram, "step/inner") is None
