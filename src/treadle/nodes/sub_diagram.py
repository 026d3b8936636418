"""`sub_diagram`: runs a diagram as one node. The kernel runs its nodes; there is no body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.expression import Expression as Compiled
from treadle.diagram.node import Node
from treadle.diagram.types import Expression, Ports
from treadle.errors import ExpressionError
from treadle.nodes.base import BodyContext, NodeKind
from treadle.state.envelope import Envelope


class SubDiagram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Runs another diagram inside this execution; its nodes are `node/inner`. Its result is the value of the
    inner diagram's endpoint, of several a map by name. With `for_each` it runs once per item, each an inner
    diagram of its own: an item that is a map is the inputs, any other value is the input `default`.

    Its nodes have the `environment_vars` and the `secret_store` of the diagrams around it, unless it says its
    own.

    ```yaml
    treadle: 1
    nodes:
      begin: {type: start, custom_data: {numbers: [1, 2, 3]}}
      double:
        type: sub_diagram
        for_each: "{{ begin.numbers }}"
        needs: begin
        diagram:
          treadle: 1
          inputs: {default: {type: integer}}
          nodes:
            number: {type: start}
            twice: {type: code_job, code: "return number['default'] * 2", needs: number}
            done: {type: endpoint, needs: twice}
      done: {type: endpoint, needs: double}
    ```
    """

    diagram: str | dict[str, Any]
    """The file of the diagram, relative to this one's folder, or the diagram itself as a map."""
    inputs: dict[str, Expression | Any] = {}
    """The inner diagram's inputs as expressions. Without it the values on the arrows go by label, and the
    keys of an unlabelled map by name."""
    outputs: dict[str, str] = {}
    """The node's result as a map of expressions, over `result` (what it would be otherwise), the inner
    diagram's endpoints by id, and the keys of `result` if it is a map."""


class SubDiagramStrategy:
    """A composite is performed by the kernel; asking this for a body is a mistake."""

    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Envelope:
        raise TypeError(f"sub_diagram {node.id!r} has no body of its own: run it with treadle.Engine")

    def can_handle(self, node_type: str) -> bool:
        return node_type == "sub_diagram"


class SubDiagramKind(NodeKind):
    def ports(self, spec: SubDiagram, node: Node, base: str) -> Ports:
        for name, text in spec.outputs.items():
            try:
                Compiled.compile(text)
            except ExpressionError as error:
                raise ValueError(f"`outputs`: {name}: {error}") from None
        return Ports()

    def child(self, spec: SubDiagram, node: Node, base: str) -> Mapping[str, Any] | str:
        return spec.diagram


KIND = SubDiagramKind("sub_diagram", SubDiagram, SubDiagramStrategy(), secrets=())
