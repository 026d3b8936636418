"""`condition`: chooses the port that its input leaves by."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import ERROR, Node
from treadle.diagram.types import Expression, Ports
from treadle.errors import ExpressionError
from treadle.ids import inner_path
from treadle.nodes.base import BodyContext, NodeKind, bare
from treadle.nodes.people.deciding import Decision, decide, require_decision
from treadle.state.envelope import Envelope, infer

ELSE = "else"


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Passes its input on by one of its ports and kills the arrows of the others. One input passes as it is,
    several as a map by name. An expression that fails is a failed node, never false.

    Say one of `when`, `switch` with `cases`, `llm`, `exhausted` and `executed`.

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
    exhausted: bool = False
    """Chooses `true` when every `person_job` in its loop has been asked as often as its `asks_max` says, else
    `false`. Its loop is the innermost one that has any."""
    executed: list[str] | None = None
    """Chooses `true` when each of these nodes of its diagram has completed, in this turn of a loop or in one
    before, else `false`."""
    llm: Decision | None = None
    """A person chooses: `{person: Ann, question: "Is it done? {{ draft }}"}` gives `true` or `false`, with
    `choices: [a, b]` it gives one of these. An answer that isn't clear is asked for once more; then the node
    fails: it is never false."""
    expose_index_as: str | None = None
    """A name for the turn of the loop around it, from 0, that every text and code of the diagram sees: in the
    loop that of the turn, behind it that of the last one."""


class ConditionStrategy:
    """Evaluates `when`, and chooses the port that its value names."""

    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Envelope:
        spec: Condition = node.spec
        port = (_port(spec, context, inputs) if spec.llm is None
                else await decide(spec.llm, node, context, inputs))
        value = bare(inputs, context)
        return Envelope(context.node_id, context.node_id, infer(value), value, {"port": port})

    def can_handle(self, node_type: str) -> bool:
        return node_type == "condition"


def _port(spec: Condition, context: BodyContext, inputs: dict[str, Any]) -> str:
    if spec.when is not None:
        return _truth(spec.when, context, inputs)
    if spec.switch is not None:
        return _case(spec, context, inputs)
    return "true" if (_exhausted(context) if spec.exhausted else
                      all(map(context.has_run, spec.executed or ()))) else "false"


def _exhausted(context: BodyContext) -> bool:
    """Whether everybody in the loop has been asked as often as they may be."""
    jobs = next((found for loop in context.loops() if (
        found := [node for node in loop if node.type == "person_job"])), None)
    if jobs is None:
        raise ValueError("`exhausted`: the condition is in no loop with a person_job")
    prefix = context.node_id.rpartition("/")[0]
    asked = Counter(told.node_id for told in context.told()
                    if any(record.kind == "model" for record in told.records))
    return all(node.spec.asks_max is not None and node.spec.asks_max <= asked[
        inner_path(prefix, node.id) if prefix else node.id] for node in jobs)


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
        said = [key for key in ("when", "switch", "llm", "exhausted", "executed")
                if getattr(spec, key) not in (None, False)]
        if len(said) != 1:
            raise ValueError("say one of `when`, `switch` with `cases`, `llm`, `exhausted` and `executed`"
                             + (f", not {' and '.join(said)}" if said else ""))
        if spec.expose_index_as is not None and not spec.expose_index_as.isidentifier():
            raise ValueError(f"`expose_index_as`: {spec.expose_index_as!r} can't be a name in a text")
        if spec.switch is None:
            if spec.cases:
                raise ValueError(f"`cases` belongs to `switch`; the ports of `{said[0]}` are `true` and "
                                 "`false`")
            if spec.llm is not None:
                require_decision(spec.llm)
            outputs = tuple(spec.llm.choices) if spec.llm is not None else ()
            return Ports(outputs=outputs or ("true", "false"), chooses=True)
        if not spec.cases:
            raise ValueError("`switch` needs `cases`: the list of its ports")
        if len(set(spec.cases)) < len(spec.cases) or {ELSE, ERROR} & set(spec.cases):
            raise ValueError("`cases` must differ from each other, and `else` and `error` are always there")
        return Ports(outputs=(*spec.cases, ELSE), chooses=True)


KIND = ConditionKind("condition", Condition, ConditionStrategy(), secrets=("llm.*",))
