"""Names in texts: ours see the nodes that arrows come from by their ids, and inputs as `inputs.name`; the
light dialect sees labels only, and inputs as names by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.expression import Expression, Template
from treadle.diagram.formats.light.templates import spelled
from treadle.diagram.node import DEFAULT, Arrow, Node
from treadle.errors import ExpressionError, Fault

_EXPRESSIONS = ("when", "switch", "for_each", "reduce")
_CODE = ("code", "call", "schema", "custom_data")
_TAG = re.compile(r"\{[{%].*?[}%]\}", re.DOTALL)
_INPUT = re.compile(r"(?<![\w.])inputs\.([^\W\d]\w*)")
_INDIFFERENT = frozenset((
    "condition", "template_job", "person_job", "user_response", "api_job", "db", "endpoint"))
"""Types that do the same with one input, whatever it is called."""


def undeclared(spec: DiagramSpec, faults: list[Fault]) -> DiagramSpec:
    """A diagram without declared inputs, whose start nodes give the defaults, and whose texts name inputs by
    themselves."""
    if not spec.inputs:
        return spec
    starts = [node for node in spec.nodes if node.type == "start"]
    defaults = {name: one.default for name, one in spec.inputs.items() if not one.required}
    if defaults and not starts:
        faults.append(Fault("the light dialect gives inputs a default by the custom_data of a start node, "
                            f"and there is none for {', '.join(defaults)}", where=spec.where, hint="add one"))
    typed = [name for name, one in spec.inputs.items() if one.type != "any"]
    if typed:
        faults.append(Fault(f"the light dialect knows no types of inputs: {', '.join(typed)}",
                            where=spec.where, warning=True))
    nodes = []
    for node in spec.nodes:
        labels = {arrow.input for arrow in spec.arrows if arrow.target == node.id}
        properties = {key: one if key in _CODE else _named_alone(one, spec, key in _EXPRESSIONS)
                      for key, one in node.properties.items()}
        policy = {key: _named_alone(getattr(node.policy, key), spec, True) for key in ("for_each", "reduce")}
        hidden = [name for name in spec.inputs if name in labels
                  and (properties != node.properties or any(policy.values()))]
        faults += [Fault(f"the label {name!r} of an arrow would hide the input of that name",
                         node=node.label or node.id, where=node.where, hint="rename one") for name in hidden]
        if node.type == "start" and defaults:
            properties["custom_data"] = {**defaults, **node.properties.get("custom_data", {})}
        nodes.append(msgspec.structs.replace(
            node, properties=properties, policy=msgspec.structs.replace(node.policy, **policy)))
    return msgspec.structs.replace(spec, inputs={}, nodes=tuple(nodes))


def _named_alone(value: Any, spec: DiagramSpec, is_expression: bool) -> Any:
    """A text in which `inputs.name` is `name`, for the inputs that are declared."""
    if isinstance(value, dict):
        return {key: _named_alone(one, spec, is_expression) for key, one in value.items()}
    if isinstance(value, list):
        return [_named_alone(one, spec, is_expression) for one in value]
    if not isinstance(value, str):
        return value

    def alone(text: str) -> str:
        return _INPUT.sub(lambda found: found[1] if found[1] in spec.inputs else found[0], text)

    return alone(value) if is_expression else _TAG.sub(lambda found: alone(found[0]), value)


def labelled(spec: DiagramSpec, faults: list[Fault]) -> DiagramSpec:
    """A diagram in which the arrows have the names by which texts ask for their values. A name that can't be
    had so is a fault."""
    into: dict[str, list[int]] = {}
    for k, arrow in enumerate(spec.arrows):
        into.setdefault(arrow.target, []).append(k)
    arrows = list(spec.arrows)
    for node in spec.nodes:
        mine = into.get(node.id, [])
        names = _names(node)
        sources = {arrows[k].source for k in mine} - {arrows[k].input for k in mine}
        asked = [name for name in sorted(names) if name in sources]
        if asked and _may_be_called_so(node, [arrows[k] for k in mine], names):
            arrows[mine[0]] = msgspec.structs.replace(arrows[mine[0]], input=asked[0])
            asked = []
        faults += [Fault(f"its texts ask for the node {name!r}, and the light dialect knows labels only",
                         node=node.label or node.id, where=node.where,
                         hint=f"label the arrow: {name} -> {node.id}.{name}") for name in asked]
        faults += [Fault(f"its texts ask for {name!r}, and the light dialect has no such name",
                         node=node.label or node.id, where=node.where)
                   for name in sorted(names - {arrows[k].input for k in mine}) if spelled(name) != name]
    return msgspec.structs.replace(spec, arrows=tuple(arrows))


def _may_be_called_so(node: Node, arrows: list[Arrow], names: frozenset[str]) -> bool:
    """Whether its one arrow can get a label without anything else changing."""
    return (len(arrows) == 1 and arrows[0].input == DEFAULT and DEFAULT not in names
            and node.type in _INDIFFERENT and spelled(arrows[0].source) == arrows[0].source)


def _names(node: Node) -> frozenset[str]:
    """The names that a node's texts use."""
    found: set[str] = set()
    said = {**node.properties, "for_each": node.policy.for_each, "reduce": node.policy.reduce}
    for key, value in said.items():
        for text in _texts(value) if key not in _CODE else ():
            try:
                found |= (Expression if key in _EXPRESSIONS else Template).compile(text).names
            except ExpressionError:
                pass  # it is no text of ours, or `check` says so
    return frozenset(found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
