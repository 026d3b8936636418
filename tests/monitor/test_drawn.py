"""Stored diagrams at hand: none is compiled twice, nor one that the engine has compiled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Barrier

import msgspec
import pytest
from msgspec.structs import replace

from treadle.diagram import formats
from treadle.diagram.compile import compile_diagram
from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.engine.engine import Engine
from treadle.engine.looking import outlined
from treadle.engine.sources import digest_of, source_of
from treadle.errors import Fault, InvalidDiagram
from treadle.monitor import drawn
from treadle.monitor.drawn import Drawings
from treadle.nodes.registry import default_registry
from treadle.store import open_store
from treadle.store.base import Summary
from treadle.store.owner import this_owner
from treadle.testing.contract import an_execution

ROOT = Path(__file__).resolve().parents[2]
SMALL = """
treadle: 1
name: small
nodes:
  a: {type: template_job, text: hi}
  inner: {type: sub_diagram, diagram: {name: inside, nodes: {b: {type: endpoint}}}, needs: a}
"""


def test_what_the_engine_has_compiled_is_drawn_as_it_is_recorded(tmp_path: Path) -> None:
    file, url = tmp_path / "small.yaml", str(tmp_path / "runs.db")
    file.write_text(SMALL)

    async def run() -> None:
        async with Engine.open(url) as engine:
            compiled = engine.compile(file)
            handle = await engine.start(compiled)
            await handle.wait()
            digest = engine.store.summary(handle.execution_id).cell.diagram
            known = Drawings(engine.diagrams).of(engine.store, digest)
            other = Drawings().of(engine.store, digest)
            assert known is not None and other is not None
            assert known.compiled is compiled and other.compiled is not compiled
            assert drawn.drawn(known.spec, known.compiled) == drawn.drawn(other.spec, other.compiled)
            assert known.around("inner/b") == other.around("inner/b")
            anew = Drawings(engine.diagrams).of(engine.store, digest, anew=True)
            assert anew is not None and anew.compiled is not compiled, "what it names may have changed"

    asyncio.run(run())


def test_several_who_ask_at_once_get_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    reads: list[str] = []

    def outlining(spec: DiagramSpec) -> tuple[ExecutableDiagram | None, tuple[Fault, ...]]:
        reads.append(spec.name)
        return outlined(spec)

    monkeypatch.setattr(drawn, "outlined", outlining)

    async def run() -> None:
        async with Engine.open(str(tmp_path / "runs.db")) as engine:
            handle = await engine.start(file)
            await handle.wait()
            digest = engine.store.summary(handle.execution_id).cell.diagram
            drawings, together = Drawings(), Barrier(4)

            def ask() -> object:
                together.wait(20)
                return drawings.of(engine.store, digest)

            found = await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(4)))
            assert len({id(one) for one in found}) == len(reads) == 1

    asyncio.run(run())


def test_nodes_that_were_not_come_to_are_counted() -> None:
    store, drawings, cell = open_store("memory:"), Drawings(), an_execution()
    text = source_of(formats.loads(SMALL))
    store.create(cell, "", this_owner(), 60)
    summary = Summary(cell, nodes=4, ended=4, roots=1)
    assert drawings.whole(store, summary) == summary, "its diagram can't be read"
    store.create(replace(cell, execution_id="other", diagram=digest_of(text)), text, this_owner(), 60)
    own = store.summary("other").cell
    assert drawings.whole(store, Summary(own, nodes=4, ended=4, roots=1)).nodes == 5
    assert drawings.whole(store, Summary(own, nodes=9, ended=4, roots=2)).nodes == 9
    assert drawings.whole(store, Summary(own)).nodes == 0, "nothing has begun, or nobody has counted"


def test_what_is_sent_is_made_once_and_takes_no_more_than_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    store, drawings = open_store("memory:"), Drawings()
    texts = [source_of(formats.loads(SMALL.replace("small", name))) for name in ("one", "two", "six")]
    keys = [digest_of(text) for text in texts]
    for key, text in zip(keys, texts, strict=True):
        store.create(replace(an_execution(), execution_id=key, diagram=key), text, this_owner(), 60)
    one = drawings.encoded(store, keys[0])
    assert one is not None
    monkeypatch.setattr(drawn, "ENCODED_BYTES_MAX", 2 * len(one))
    two = drawings.encoded(store, keys[1])
    assert drawings.encoded(store, keys[0]) is one
    drawings.encoded(store, keys[2])
    assert drawings.encoded(store, keys[0]) is one, "it was asked for last"
    again = drawings.encoded(store, keys[1])
    assert again == two and again is not two, "it had to go"
    assert msgspec.json.decode(one, type=drawn.Drawn).name == "one"
    assert drawings.encoded(store, "unknown") is None


def test_what_is_only_looked_at_is_drawn_as_what_is_compiled() -> None:
    """Loops, back arrows, sub-diagrams: of every diagram of the acceptance tests."""
    drawn_alike = 0
    for path in sorted((ROOT / "tests" / "acceptance").rglob("*.yaml")):
        spec = formats.load(path)
        try:
            compiled = compile_diagram(spec, default_registry())
        except InvalidDiagram:  # some are wrong on purpose
            continue
        shape, faults = outlined(spec)
        assert faults == (), path
        assert drawn.drawn(spec, shape) == drawn.drawn(spec, compiled), path
        drawn_alike += 1
    assert drawn_alike > 15


def test_a_diagram_whose_parts_are_gone_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    text = """
treadle: 1
nodes:
  a: {type: sub_diagram, diagram: gone.yaml}
  b: {type: sub_diagram, diagram: self.yaml, needs: a}
"""
    (tmp_path / "self.yaml").write_text(text)
    shape, faults = outlined(formats.load(tmp_path / "self.yaml"))
    assert shape is not None
    assert [node.child for node in shape.nodes] == [None, None]
    assert [(one.node, one.warning) for one in faults] == [("a", True), ("b", True)]
    loose = formats.read("treadle: 1\nnodes: {a: {type: start}}\narrows: [a -> nowhere]\n")[0]
    assert loose is not None
    assert outlined(loose)[0] is None
