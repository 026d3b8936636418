"""`condition`: chooses the port that its input leaves by."""

from __future__ import annotations

from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import ERROR, Node
from treadle.diagram.types import Expression, Ports
from treadle.errors import ExpressionError
from treadle.nodes.base import BodyContext, NodeKind, bare
from treadle.state.envelope import Envelope, infer

ELSE = "else"


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Passes its input on by one of its ports and kills the arrows of the others. One input passes as it is,
    several as a map by name. An expression that fails is a failed node, never false.

    Say either `when` or `switch` with `cases`.

    ```yaml
    treadle: 1
    inputs:
      amount: {type: integer, default: 120}
    nodes:
      begin: {type: start}
      large: {type: condition, when: "begin.amount > 100", needs: begin}
      ask: {type: endpoint}
      pay: {type: endpoint}
    arrows:
      - large.true -> ask
      - large.false -> pay
    ```
    """

    when: Expression | None = None
    """Chooses `true` or `false`. None, zero and what is empty are false; a text is an error, since "no" would
    be true: compare it (`answer == 'yes'`) or measure it (`answer | length > 0`)."""
    switch: Expression | None = None
    """Chooses the port that is named like its value."""
    cases: list[str] = []
    """The ports of `switch`. A value that is none of them leaves by `else`."""


class ConditionStrategy:
    """Evaluates `when`, and chooses the port that its value names."""

    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Envelope:
        spec: Condition = node.spec
        port = _truth(spec.when, context, inputs) if spec.when is not None else _case(spec, context, inputs)
        value = bare(inputs, context)
        return Envelope(context.node_id, context.node_id, infer(value), value, {"port": port})

    def can_handle(self, node_type: str) -> bool:
        return node_type == "condition"


def _truth(when: str, context: BodyContext, inputs: dict[str, Any]) -> str:
    value = context.evaluate(when, inputs)
    if isinstance(value, str):
        raise ExpressionError(f"`when: {when}` gave the text {value!r:.80}, which is neither true nor false: "
                              "compare it (== 'yes') or measure it (| length > 0)")
    return "true" if value else "false"


def _case(spec: Condition, context: BodyContext, inputs: dict[str, Any]) -> str:
    assert spec.switch is not None
    value = context.evaluate(spec.switch, inputs)
    if isinstance(value, bool):
        value = "true" if value else "false"
    if not isinstance(value, (str, int)):
        raise ExpressionError(f"`switch: {spec.switch}` gave a {type(value).__name__}; a case is named by a "
                              "text, a whole number, true or false")
    label = str(value)
    return label if label in spec.cases else ELSE


class ConditionKind(NodeKind):
    def ports(self, spec: Condition, node: Node, base: str) -> Ports:
        if (spec.when is None) == (spec.switch is None):
            raise ValueError("say either `when` or `switch` with `cases`")
        if spec.when is not None:
            if spec.cases:
                raise ValueError("`cases` belongs to `switch`; the ports of `when` are `true` and `false`")
            return Ports(outputs=("true", "false"), chooses=True)
        if not spec.cases:
            raise ValueError("`switch` needs `cases`: the list of its ports")
        if len(set(spec.cases)) < len(spec.cases) or {ELSE, ERROR} & set(spec.cases):
            raise ValueError("`cases` must differ from each other, and `else` and `error` are always there")
        return Ports(outputs=(*spec.cases, ELSE), chooses=True)


KIND = ConditionKind("condition", Condition, ConditionStrategy(), secrets=())
