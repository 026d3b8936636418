"""Diagrams, and an engine to run them on, for what is edited and forked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from treadle.engine.engine import Engine

CHAIN = """
treadle: 1
name: chain
inputs: {title: {type: string, default: Sum}}
nodes:
  load:   {type: template_job, text: "1"}
  double: {type: template_job, text: "{{ load }}{{ load }}", needs: load}
  report: {type: template_job, text: "{{ inputs.title }} {{ double }}", needs: double}
  note:   {type: template_job, text: "{{ load }}!", needs: load}
"""
SUBS = """
treadle: 1
nodes:
  list: {type: code_job, code: "return [1, 2]", isolation: inline}
  each:
    type: sub_diagram
    for_each: "{{ list }}"
    needs: list
    inputs: {n: "{{ item }}"}
    diagram:
      inputs: {n: integer}
      nodes:
        one: {type: template_job, text: "{{ inputs.n }}"}
        two: {type: template_job, text: "<{{ one }}>", needs: one}
  done: {type: endpoint, needs: each}
"""


def run(main: Callable[[Engine], Awaitable[Any]], url: str = "memory:") -> Any:
    async def inside() -> Any:
        async with Engine.open(url, check=True) as engine:
            return await main(engine)

    return asyncio.run(inside())
