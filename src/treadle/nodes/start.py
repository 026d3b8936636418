"""`start`: where an execution's inputs enter the diagram."""

from __future__ import annotations

from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import Node
from treadle.diagram.types import Ports
from treadle.nodes.base import BodyContext, NodeKind
from treadle.state.envelope import Envelope


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Emits the execution's inputs as a map. In a sub-diagram these are the inputs that its node hands in.

    ```yaml
    treadle: 1
    inputs:
      name: {type: string, default: Ann}
    nodes:
      begin: {type: start, custom_data: {greeting: Hello}}
      done: {type: endpoint, needs: begin}
    ```
    """

    custom_data: dict[str, Any] = {}
    """Values that go along; an input of the same name wins."""


class StartStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Envelope:
        value = {**node.spec.custom_data, **context.execution_inputs}
        return Envelope(context.node_id, context.node_id, "object", value)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "start"


class StartKind(NodeKind):
    def ports(self, spec: Start, node: Node, base: str) -> Ports:
        return Ports(inputs=(), accepts_default=False)


KIND = StartKind("start", Start, StartStrategy(), secrets=())
