"""`user_response`: waits durably for a person's answer."""

from __future__ import annotations

from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.types import Template
from treadle.nodes.base import BodyContext, NodeKind, Suspend, deadline


class UserResponse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Suspends until somebody answers (`treadle answer`, the API); the answer is its result. No process need
    be alive meanwhile. With `timeout` it fails when no answer has come by then.

    ```yaml
    treadle: 1
    nodes:
      ask: {type: user_response, prompt: "Go on?", schema: {type: string, enum: ["yes", "no"]}}
      done: {type: endpoint, needs: ask}
    ```
    """

    prompt: Template = ""
    """What to ask; a template over the inputs."""
    schema: dict[str, Any] | None = None
    """A JSON schema that the answer must satisfy."""


class UserResponseStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Suspend:
        spec: UserResponse = node.spec
        request: dict[str, Any] = {"kind": "answer", "prompt": context.render(spec.prompt, inputs)}
        if spec.schema is not None:
            request["schema"] = spec.schema
        return Suspend(request, deadline(node, context))

    def can_handle(self, node_type: str) -> bool:
        return node_type == "user_response"


KIND = NodeKind("user_response", UserResponse, UserResponseStrategy(), secrets=())
