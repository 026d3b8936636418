"""`wait_for`: waits durably for a named signal."""

from __future__ import annotations

from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import Node
from treadle.diagram.types import Ports, Template
from treadle.nodes.base import BodyContext, NodeKind, Suspend, deadline


class WaitFor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Suspends until a signal of that name is sent to the execution (`treadle signal`, the API); the signal's
    value is its result. Signals queue by name, each is consumed once and in order, and an early one waits.
    With `timeout` the node fails when none has come by then.

    ```yaml
    treadle: 1
    inputs:
      order: {type: integer, default: 7}
    nodes:
      paid: {type: wait_for, signal: "paid-{{ inputs.order }}"}
      done: {type: endpoint, needs: paid}
    ```
    """

    signal: Template
    """The name of the signal; a template over the inputs."""


class WaitForStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Suspend:
        name = context.render(node.spec.signal, inputs)
        if not name.strip():
            raise ValueError(f"`signal: {node.spec.signal}` gave an empty name")
        return Suspend({"kind": "signal", "name": name}, deadline(node, context))

    def can_handle(self, node_type: str) -> bool:
        return node_type == "wait_for"


class WaitForKind(NodeKind):
    def ports(self, spec: WaitFor, node: Node, base: str) -> Ports:
        if not spec.signal.strip():
            raise ValueError("`signal` needs a name")
        return Ports()


KIND = WaitForKind("wait_for", WaitFor, WaitForStrategy(), secrets=())
