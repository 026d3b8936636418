"""Compile a checked diagram to int-indexed arrays, once; every execution of it shares them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.check import Checked, check
from treadle.diagram.diagram import (
    DiagramSpec,
    ExecutableArrow,
    ExecutableDiagram,
    ExecutableLoop,
    ExecutableNode,
)
from treadle.diagram.fingerprint import Identity, identify
from treadle.diagram.loops import Structure, find_loops
from treadle.diagram.person import Defined
from treadle.diagram.policy import LOOP_ITERATIONS_MAX, OnLimit, Policy
from treadle.diagram.types import NodeTypes
from treadle.errors import Fault, InvalidDiagram
from treadle.ids import NodeID

_NOTHING: frozenset[str] = frozenset()


def compile_diagram(spec: DiagramSpec, types: NodeTypes, *,
                    config: TreadleConfig = DEFAULT_CONFIG) -> ExecutableDiagram:
    """Check a diagram and compile it with its sub-diagrams. Raises InvalidDiagram that lists every error."""
    checked = check(spec, types, config=config)
    checked.raise_if_invalid()
    return _compiled(checked, identify(checked))


def _compiled(checked: Checked, identity: Identity) -> ExecutableDiagram:
    children = {
        node_id: _compiled(child, identity.children[node_id]) for node_id, child in checked.children.items()}
    return link(checked.spec, specs=checked.specs, children=children, fingerprints=identity.fingerprints,
                lineages=identity.lineages, sees=identity.sees, bodies=identity.bodies, bound=checked.bound,
                persons=checked.persons, policies=checked.policies,
                structure=checked.structure, warnings=checked.warnings)


def link(spec: DiagramSpec, *, specs: Mapping[NodeID, Any] | None = None,
         children: Mapping[NodeID, ExecutableDiagram] | None = None,
         fingerprints: Mapping[NodeID, str] | None = None, lineages: Mapping[NodeID, str] | None = None,
         sees: Mapping[NodeID, frozenset[str]] | None = None, bodies: Mapping[NodeID, str] | None = None,
         bound: Mapping[int, tuple[dict[str, Any], ...]] | None = None,
         persons: Mapping[NodeID, Defined] | None = None, policies: Mapping[NodeID, Policy] | None = None,
         structure: Structure | None = None, warnings: Sequence[Fault] = ()) -> ExecutableDiagram:
    """Put the parts of a diagram together. Its nodes and arrows must exist.

    `specs`, `children` and what `fingerprint.Identity` has are by node id; `structure` saves finding the
    loops again. InvalidDiagram if the loops have faults.
    """
    index = {node.id: i for i, node in enumerate(spec.nodes)}
    pairs = [(index[arrow.source], index[arrow.target]) for arrow in spec.arrows]
    found = structure or find_loops([node.id for node in spec.nodes], pairs, spec.loops)
    if found.faults:
        raise InvalidDiagram(found.faults)
    who, usual = persons or {}, policies or {}
    nodes = tuple(
        ExecutableNode(
            id=node.id, type=node.type, index=i, spec=(specs or {}).get(node.id),
            policy=usual.get(node.id, node.policy),
            child=(children or {}).get(node.id), fingerprint=(fingerprints or {}).get(node.id, ""),
            lineage=(lineages or {}).get(node.id, ""), sees=(sees or {}).get(node.id, _NOTHING),
            body=(bodies or {}).get(node.id, ""), where=node.where, function=spec.functions.get(node.id),
            base=spec.base, person=who.get(node.id))
        for i, node in enumerate(spec.nodes))
    arrows = tuple(
        ExecutableArrow(
            index=i, source=pairs[i][0], target=pairs[i][1], port=arrow.port, input=arrow.input,
            back_of=found.back_of[i], exits=found.exits[i], enters=found.enters[i],
            transform=(bound or {}).get(i, arrow.transform),
            content_type=arrow.content_type, drawn=arrow, first=arrow.first)
        for i, arrow in enumerate(spec.arrows))
    sources = {arrow.source for arrow in arrows}
    typed = tuple(node.index for node in nodes if node.type == "endpoint")
    return ExecutableDiagram(
        name=spec.name, nodes=nodes, arrows=arrows, loops=_loops(found, arrows), loop_of=tuple(found.loop_of),
        order=tuple(found.order), inputs=spec.inputs, on_error=spec.on_error, deadline=spec.deadline,
        hash=_hash(spec, nodes), spec=spec,
        endpoints=typed or tuple(node.index for node in nodes if node.index not in sources),
        warnings=tuple(warnings))


def _hash(spec: DiagramSpec, nodes: Sequence[ExecutableNode]) -> str:
    """A name for what runs: of its source, or, where it was drawn in Python, of what it comes to."""
    text = spec.source or "\n".join([spec.name, *(f"{node.id} {node.lineage}" for node in nodes)])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _loops(found: Structure, arrows: Sequence[ExecutableArrow]) -> tuple[ExecutableLoop, ...]:
    if not found.loops:
        return ()
    leaving: dict[int, list[int]] = {}
    own: dict[int, list[int]] = {}
    inner: dict[int, list[int]] = {}
    for arrow in arrows:
        if arrow.exits >= 0:
            leaving.setdefault(arrow.exits, []).append(arrow.index)
    for node, around in enumerate(found.loop_of):
        own.setdefault(around, []).append(node)
    for loop in found.loops:
        inner.setdefault(loop.parent, []).append(loop.index)
    inside: dict[int, list[int]] = {}
    for arrow in arrows:
        after = set(found.around(arrow.target))
        for around in found.around(arrow.source):
            if around in after and arrow.back_of != around:
                inside.setdefault(around, []).append(arrow.index)
    return tuple(
        ExecutableLoop(
            index=loop.index, parent=loop.parent, head=loop.head, members=loop.members,
            own=tuple(own[loop.index]), inner=tuple(inner.get(loop.index, ())), back=loop.back,
            inside=tuple(inside.get(loop.index, ())),
            exits=tuple(leaving.get(loop.index, ())),
            max_iterations=loop.declared.max_iterations if loop.declared else LOOP_ITERATIONS_MAX,
            on_limit=loop.declared.on_limit if loop.declared else OnLimit.FAIL,
            where=loop.declared.where if loop.declared else None)
        for loop in found.loops)
