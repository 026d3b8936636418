"""`endpoint`: where a result leaves the diagram."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.types import Template
from treadle.nodes.base import BodyContext, NodeKind, bare
from treadle.nodes.files import format_of, present, write_file
from treadle.state.envelope import Envelope, infer


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Passes its input on as the result of the execution: one input as it is, several as a map by name.

    ```yaml
    treadle: 1
    nodes:
      begin: {type: start, custom_data: {name: Ann, age: 4}}
      done: {type: endpoint, save_to: out/person.json, needs: begin}
    ```
    """

    save_to: Template | None = None
    """A file to write the value to as well: text as it is, anything else in the format that the name ends in
    (json, yaml, csv; otherwise JSON)."""
    save_as: Literal["text", "json", "yaml", "csv"] | None = None
    """The format of that file for what is no text, whatever its name ends in; `text` is JSON, too."""


class EndpointStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Envelope:
        value = bare(inputs, context)
        if node.spec.save_to is not None:
            path = context.render(node.spec.save_to, inputs)
            content = value if isinstance(value, (str, bytes)) else present(
                value, format_of(path, node.spec.save_as))
            await context.executor("thread", timed=False).run(write_file, context.path(path), content,
                                                              name=context.node_id)
        return Envelope(context.node_id, context.node_id, infer(value), value)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "endpoint"


KIND = NodeKind("endpoint", Endpoint, EndpointStrategy(), secrets=())
