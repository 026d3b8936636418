"""`sleep`: waits durably for a time."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import Node
from treadle.diagram.policy import LATEST
from treadle.diagram.types import Expression, Ports, Template
from treadle.errors import ExpressionError
from treadle.nodes.base import BodyContext, NodeKind, Suspend


class Sleep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Suspends for a while, or until an instant; its result is None. No process need be alive meanwhile, and
    a crash doesn't start the wait again. Say either `seconds` or `until`.

    ```yaml
    treadle: 1
    nodes:
      pause: {type: sleep, seconds: 0.1}
      done: {type: endpoint, needs: pause}
    ```
    """

    seconds: float | Expression | None = None
    """How long: a number, or an expression that gives one."""
    until: Template | None = None
    """When to go on: ISO 8601 (`2027-01-31T09:00:00+01:00`; without an offset it is local time); a template
    over the inputs. An instant that has passed doesn't wait."""


class SleepStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Suspend:
        spec: Sleep = node.spec
        if spec.until is not None:
            text = context.render(spec.until, inputs)
            try:
                until = datetime.fromisoformat(text.strip()).timestamp()
                return Suspend({"kind": "sleep"}, min(until, LATEST))
            except (ValueError, OverflowError) as error:
                raise ExpressionError(f"`until: {spec.until}` gave {text!r:.80}, which is no ISO 8601 "
                                      f"instant ({error})") from None
        seconds = context.evaluate(spec.seconds, inputs) if isinstance(spec.seconds, str) else spec.seconds
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
            raise ExpressionError(f"`seconds: {spec.seconds}` gave {seconds!r:.80}, not a number of seconds "
                                  "from 0")
        return Suspend({"kind": "sleep"}, min(context.now() + seconds, LATEST))

    def can_handle(self, node_type: str) -> bool:
        return node_type == "sleep"


class SleepKind(NodeKind):
    def ports(self, spec: Sleep, node: Node, base: str) -> Ports:
        if (spec.seconds is None) == (spec.until is None):
            raise ValueError("say either `seconds` or `until`")
        if isinstance(spec.seconds, (int, float)) and not 0 <= spec.seconds < math.inf:
            raise ValueError(f"`seconds` is {spec.seconds}: it can't be less than 0 or infinite")
        return Ports()


KIND = SleepKind("sleep", Sleep, SleepStrategy(), secrets=())
