"""What of a cell a viewer sees, as plain fields. Those that are not known, or don't apply, are left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from treadle.engine.showing import plain
from treadle.errors import NotDecodable
from treadle.monitor.views import STALE, error_view, waits_for
from treadle.state import codec
from treadle.state.cell import CellKey, ContextCell, ErrorInfo, ExecutionCell, NodeState
from treadle.state.context import of_bodies, tree_of
from treadle.state.status import NodeStatus
from treadle.state.steps import Gist, gist_of
from treadle.store.base import Owner

Fields = dict[str, Any]
"""A view: fields by name."""

LARGE_BYTES = 4096
"""A value of the shared context that is longer is told by its size."""
SPACE_BYTES = 64 * 1024
"""What the values of one space of the context take together; the size stands for each that is more."""
_PLAIN = re.compile(r"[\w \-\[\]/]+")
_ATTRIBUTES = ("status", "iteration", "attempt", "scheduled_at", "started_at", "ended_at", "wake_at", "port",
               "error", "claims", "worker", "winner", "content_type", "output", "blob", "request", "meta")
_NAMES = tuple({"output": "has_output", "meta": "steps"}.get(name, name) for name in _ATTRIBUTES)
_OF_STEPS = ("tokens", "cost", "partial")
_values = attrgetter(*_ATTRIBUTES)


def node_fields(cell: NodeState) -> Fields:
    """The fields of a node that its newest cell gives."""
    (status, iteration, attempt, scheduled, started, ended, wake, port, error, claims, worker, winner, kind,
     output, blob, request, meta) = _values(cell)
    fields: Fields = {"status": status.value, "iteration": iteration, "attempt": attempt}
    for name, value in (("scheduled_at", scheduled), ("started_at", started), ("ended_at", ended),
                        ("wake_at", wake), ("port", port), ("worker", worker), ("winner", winner),
                        ("content_type", kind)):
        if value is not None:
            fields[name] = value
    if claims:
        fields["claims"] = claims
    if output is not None or blob is not None:
        fields["has_output"] = True
        if blob is not None:
            fields["blob"] = True
    if error is not None:
        fields["error"] = error_fields(error)
    if request is not None and status is NodeStatus.SUSPENDED:
        fields["request"] = waits_for(cell)
    said = None if meta is None else gist_of(meta)
    if said is not None:
        fields["steps"] = said.steps
        for name, count in (("tokens", int(said.tokens)), ("cost", said.cost), ("partial", said.partial)):
            if count:
                fields[name] = count
    return fields


def changed_fields(before: NodeState, after: NodeState) -> list[str]:
    """The names of the fields in which two cells of a node may differ."""
    pairs = zip(_NAMES, _values(before), _values(after), strict=True)
    names = [name for name, a, b in pairs if a is not b and a != b]
    if after.request is not None and "status" in names and "request" not in names:
        names.append("request")  # it is there while the node is suspended
    if "steps" in names:
        names += _OF_STEPS
    if "blob" in names and "has_output" not in names:
        names.append("has_output")
    if before.items != after.items:
        names.append("group")
    return names


class Spending:
    """What the steps of an execution took, by the attempts that made them."""

    def __init__(self) -> None:
        self._by_key: dict[CellKey, tuple[NodeState, Gist]] = {}

    def note(self, cell: NodeState) -> None:
        """Take a bare cell that has steps."""
        said = gist_of(cell.meta)
        known = self._by_key.get(cell.key)
        if said is not None and (said.tokens or said.cost) and (
                known is None or known[0].version < cell.version):
            self._by_key[cell.key] = cell, said

    def fields(self, own: ExecutionCell | None) -> Fields:
        """Those of the execution: tokens and cost. What a fork has of its parent it has not spent."""
        if not self._by_key:
            return {}
        began = 0.0 if own is None or own.parent is None else own.started_at or 0.0
        mine = [said for cell, said in self._by_key.values()
                if cell.ended_at is None or cell.ended_at >= began]
        sums = {"tokens": int(sum(one.tokens for one in mine)), "cost": sum(one.cost for one in mine)}
        return {name: count for name, count in sums.items() if count}


def error_fields(error: ErrorInfo) -> Fields:
    seen = error_view(error)
    assert seen is not None
    fields: Fields = {"type": seen.type, "message": seen.message}
    if seen.node is not None:
        fields["node"] = seen.node
    return fields


def execution_fields(cell: ExecutionCell, owner: Owner | None, stale: bool) -> Fields:
    """The fields of an execution that its own row gives."""
    fields: Fields = {
        "id": cell.execution_id, "name": cell.name, "status": STALE if stale else cell.status.value,
        "stale": stale, "round": cell.round, "created_at": cell.created_at, "started_at": cell.started_at,
        "ended_at": cell.ended_at, "deadline_at": cell.deadline_at, "parent": cell.parent,
        "owner": None if owner is None else str(owner), "diagram": cell.diagram,
        "error": None if cell.error is None else error_fields(cell.error)}
    return {name: value for name, value in fields.items() if value is not None}


def context_fields(cells: Iterable[ContextCell]) -> dict[str, Fields]:
    """The shared context as a tree of its spaces; what is large is told by its size."""
    values: Fields = {}
    small: list[ContextCell] = []
    left: dict[str, int] = {}
    for cell in cells:
        if cell.value is None:
            continue
        space, size = cell.key.partition(".")[0], len(cell.value)
        room = left.get(space, SPACE_BYTES)
        if size > min(LARGE_BYTES, room):
            values[cell.key] = {"$large": size}
        else:
            left[space] = room - size
            small.append(cell)
    for cell in of_bodies(small):
        assert cell.value is not None
        try:
            values[cell.key] = plain(codec.decode(cell.value))
        except NotDecodable as error:  # its type is registered by a module that nobody loads only to look
            values[cell.key] = {"$unreadable": str(error)}
    return tree_of(values)


def path_of(root: str, name: str, field: str = "") -> str:
    """A path in an update mask: `nodes.parse[17].status`; a name with a dot or a quote in it is quoted."""
    path = f"{root}.{name}" if _PLAIN.fullmatch(name) else f"{root}[{json.dumps(name)}]"
    return f"{path}.{field}" if field else path
