"""A person that is edited: what was said is said again, and the plan says why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from treadle.diagram.formats import loads
from treadle.engine.engine import Engine

TEXT = """
treadle: 1
persons: {Ann: {model: script%s}, Bob: {model: script, api_key: env:%s}}
nodes:
  a: {type: person_job, person: Ann, prompt: one}
  b: {type: person_job, person: Bob, prompt: two}
  c: {type: endpoint, needs: [a, b]}
"""


def test_the_plan_names_what_has_changed_of_a_person(tmp_path: Path) -> None:
    async def main() -> Any:
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db") as engine:
            await (await engine.start(loads(TEXT % ("", "ONE")), execution_id="x")).result()
            edited = loads(TEXT % (", memory: none, settings: {seed: 3}", "TWO"))
            plan = await engine.plan("x", diagram=edited)
            return {one.path: one.why for one in plan.changed}

    assert asyncio.run(main()) == {"a": "its person Ann: memory: own → none, its person Ann: settings",
                                   "c": "it follows a"}
