"""Stored diagrams at hand: none is compiled twice, nor one that the engine has compiled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Barrier

import pytest
from msgspec.structs import replace

from treadle.diagram import formats
from treadle.diagram.diagram import ExecutableDiagram
from treadle.engine.engine import Engine
from treadle.engine.sources import compile_stored, digest_of, source_of
from treadle.monitor import drawn
from treadle.monitor.drawn import Drawings
from treadle.nodes.registry import NodeRegistry
from treadle.store import open_store
from treadle.store.base import Summary
from treadle.store.owner import this_owner
from treadle.testing.contract import an_execution

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

    def compiling(text: str, types: NodeRegistry) -> ExecutableDiagram:
        reads.append(text)
        return compile_stored(text, types)

    monkeypatch.setattr(drawn, "compile_stored", compiling)

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
