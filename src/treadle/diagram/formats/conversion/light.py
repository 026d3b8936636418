"""A diagram of ours in the light dialect. What the dialect has no words for is named, node by node.

What is written is read again and compared, so that a file never says less than it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats.conversion.inverse import to_template
from treadle.diagram.formats.conversion.kinds import KINDS, Said
from treadle.diagram.formats.conversion.naming import labelled, undeclared
from treadle.diagram.formats.light import read_light
from treadle.diagram.formats.light.routes import CONTENT_TYPES
from treadle.diagram.formats.tree import located
from treadle.diagram.node import DEFAULT, ERROR, FIRST, Arrow, Node
from treadle.diagram.person import Person
from treadle.diagram.policy import LOOP_ITERATIONS_MAX, OnError, OnLimit
from treadle.errors import ExpressionError, Fault, Where
from treadle.ids import escape_label

_PORTS = {DEFAULT: "", "true": "condtrue", "false": "condfalse", ERROR: ERROR}


def to_light(spec: DiagramSpec, faults: list[Fault]) -> dict[str, Any]:
    """A diagram as the plain data of a light file. What can't be said is added to `faults`."""
    wrong: list[Fault] = []
    if not spec.open:
        spec = labelled(undeclared(spec, wrong), wrong)
    found, settled = _written(spec, wrong)
    if all(fault.warning for fault in wrong):
        wrong += _compared(spec, found, settled)
    faults += sorted(wrong, key=lambda fault: fault.where.line if fault.where is not None else 0)
    return found


def _written(spec: DiagramSpec, faults: list[Fault]) -> tuple[dict[str, Any], dict[str, set[str]]]:
    labels: dict[str, str] = {
        node.id: node.label if escape_label(node.label or " ") == node.id else node.id
        for node in spec.nodes}
    _whole(spec, faults)
    found: dict[str, Any] = {"version": "light", "name": spec.name}
    if spec.description:
        found["description"] = spec.description
    if spec.persons:
        found["persons"] = {name: _person(name, one, spec, faults) for name, one in spec.persons.items()}
    settled: dict[str, set[str]] = {}
    found["nodes"] = []
    for node in spec.nodes:
        said = Said(node, labels, faults)
        found["nodes"].append(_node(said, labels))
        settled[node.id] = said.settled
    found["connections"] = [_connection(arrow, labels, faults) for arrow in spec.arrows]
    if spec.loops:
        found["loops"] = [
            {"entry": labels.get(loop.entry, loop.entry)}
            | ({} if loop.max_iterations == LOOP_ITERATIONS_MAX else {"max_iterations": loop.max_iterations})
            | ({} if loop.on_limit is OnLimit.FAIL else {"on_limit": loop.on_limit.value})
            for loop in spec.loops]
    return {**found, **spec.page}, settled


def _whole(spec: DiagramSpec, faults: list[Fault]) -> None:
    """What a diagram says as a whole."""
    said = {"on_error": spec.on_error is not OnError.FAIL, "deadline": spec.deadline is not None,
            "environment_vars": spec.environment_vars, "secret_store": spec.secret_store is not None}
    faults += [Fault(f"the light dialect has no {key!r}", where=spec.where)
               for key, one in said.items() if one]
    if spec.inputs:  # of an open diagram, which says its inputs all the same
        faults.append(Fault(f"the light dialect declares no inputs, and this diagram has "
                            f"{', '.join(spec.inputs)}", where=spec.where,
                            hint="give them by the custom_data of a start node"))


def _node(said: Said, labels: dict[str, str]) -> dict[str, Any]:
    node = said.node
    label = labels[node.id]
    if node.label and node.label != label:
        said.fault(f"its label {node.label!r} gets lost, since arrows name it {node.id!r}", "label",
                   warning=True)
    if node.type not in KINDS:
        said.fault(f"the light dialect has no node type {node.type!r}", "type")
        return {"label": label, "type": node.type}
    KINDS[node.type](said)
    for key in said.left:
        article = "an" if node.type[0] in "aeiou" else "a"
        said.fault(f"the light dialect has no {key!r} of {article} {node.type}", key)
    return {"label": label, "type": node.type, **said.out, **node.page}


def _connection(arrow: Arrow, labels: dict[str, str], faults: list[Fault]) -> dict[str, Any]:
    def fault(message: str) -> None:
        faults.append(Fault(f"arrow '{arrow}': the light dialect has no {message}", where=arrow.where))

    if arrow.port not in _PORTS:
        fault(f"port {arrow.port!r}")
    if arrow.transform:
        fault("'transform'")
    if arrow.content_type is not None and arrow.content_type not in CONTENT_TYPES:
        fault(f"content_type {arrow.content_type!r}")
    first = _first(arrow)
    handle = f"[{port}]" if (port := _PORTS.get(arrow.port, "")) else ""
    found = {"from": f"{labels[arrow.source]}{handle}", "to": f"{labels[arrow.target]}{'[first]' * first}"}
    if arrow.input != (FIRST if first else DEFAULT):
        found["label"] = arrow.input
    return found if arrow.content_type is None else {**found, "content_type": arrow.content_type}


def _first(arrow: Arrow) -> bool:
    return arrow.input == FIRST if arrow.first is None else arrow.first


def _person(name: str, person: Person, spec: DiagramSpec, faults: list[Fault]) -> dict[str, Any]:
    where = spec.person_places.get(name, spec.where)
    found: dict[str, Any] = {}
    service, colon, model = person.model.partition(":")
    found |= {"service": service, "model": model} if colon else {"model": person.model}
    if person.api_key is not None:
        found["api_key_id"] = person.api_key.removeprefix("secret://")
    if person.system_prompt:
        try:
            found["system_prompt"] = to_template(person.system_prompt)
        except ExpressionError as error:
            faults.append(Fault(f"person {name!r}: system_prompt: {error}", where=where))
    said = {"model", "api_key", "system_prompt"}
    for field in msgspec.structs.fields(Person):
        value = getattr(person, field.name)
        default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
        if field.name not in said and value != default:
            faults.append(Fault(f"person {name!r}: the light dialect has no {field.name!r}",
                                where=spec.person_places.get(f"{name}.{field.name}", where)))
    return found


def _compared(spec: DiagramSpec, found: dict[str, Any], settled: dict[str, set[str]]) -> list[Fault]:
    """What reading the file again would make another diagram of."""
    faults: list[Fault] = []
    root = located(found, spec.where or Where())
    again = read_light(root, faults, name=spec.name, base=spec.base, source="")
    wrong = [fault for fault in faults if not fault.warning]
    if again is None or wrong:
        places = {node.label or node.id: node.where for node in spec.nodes}
        return [msgspec.structs.replace(fault, message=f"in the light dialect, {fault.message}",
                                        where=places.get(fault.node or "", fault.where)) for fault in wrong]
    different = list(_different(spec, again, settled))
    if not different and _written(again, [])[0] != found:
        return [Fault("in the light dialect its texts would mean something else", where=spec.where)]
    return different


def _different(spec: DiagramSpec, again: DiagramSpec, settled: dict[str, set[str]]) -> Iterator[Fault]:
    for before, after in zip(spec.nodes, again.nodes, strict=True):
        for key in sorted(_changed(before, after) - settled[before.id]):
            yield Fault(f"the light dialect can't say its {key!r} as it is", node=before.label or before.id,
                        where=before.places.get(key, before.where))
    for one, other in zip(spec.arrows, again.arrows, strict=True):
        plain = msgspec.structs.replace(other, where=one.where, first=one.first)
        if one != plain or _first(one) != _first(other):
            yield Fault(f"arrow '{one}': the light dialect would make it '{other}'"
                        + (f" with content_type {other.content_type}" if other.content_type else ""),
                        where=one.where)


def _changed(before: Node, after: Node) -> set[str]:
    """The properties that differ; texts may be written in another way."""
    ours, theirs = ({"id": node.id, "type": node.type, **node.properties, **msgspec.to_builtins(node.policy)}
                    for node in (before, after))
    return {key for key in ours.keys() | theirs.keys()
            if not _same(ours.get(key), theirs.get(key))}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other or (isinstance(one, str) and isinstance(other, str))
