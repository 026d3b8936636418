"""Write a `DiagramSpec` as a file. Reading it again gives the same diagram."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import yaml

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats.reading import FORMAT_VERSION
from treadle.diagram.formats.yaml_text import FLOAT, INTEGER, ODD_FLOAT
from treadle.diagram.node import DEFAULT, Arrow, Input, Node
from treadle.diagram.policy import LOOP_ITERATIONS_MAX, OnError, OnLimit, Policy

_USUAL = Policy()
_POLICY_FIELDS = msgspec.structs.fields(Policy)


class Dumper(yaml.SafeDumper):
    """Quotes what the core schema of YAML 1.2, or that of 1.1, would not read as text."""

    yaml_implicit_resolvers = dict(yaml.SafeDumper.yaml_implicit_resolvers)  # noqa: RUF012 (PyYAML's name)

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern in (("int", INTEGER), ("float", FLOAT), ("float", ODD_FLOAT)):
    Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, None)


def as_map(spec: DiagramSpec) -> dict[str, Any]:
    """A spec as the plain map that its file holds, defaults left out."""
    found: dict[str, Any] = {"treadle": FORMAT_VERSION, "name": spec.name}
    if spec.description:
        found["description"] = spec.description
    if spec.on_error is not OnError.FAIL:
        found["on_error"] = spec.on_error.value
    if spec.deadline is not None:
        found["deadline"] = spec.deadline
    if spec.environment_vars:
        found["environment_vars"] = dict(spec.environment_vars)
    if spec.secret_store is not None:
        found["secret_store"] = spec.secret_store
    if spec.persons:
        found["persons"] = {name: msgspec.to_builtins(one) for name, one in spec.persons.items()}
    if spec.open:
        found["open"] = True
    if spec.inputs:
        found["inputs"] = {name: _input(one) for name, one in spec.inputs.items()}
    if spec.page:
        found["page"] = msgspec.to_builtins(spec.page)
    found["nodes"] = {node.id: _node(node) for node in spec.nodes}
    if spec.arrows:
        found["arrows"] = [_arrow(arrow) for arrow in spec.arrows]
    if spec.loops:
        found["loops"] = [
            {"entry": loop.entry}
            | ({} if loop.max_iterations == LOOP_ITERATIONS_MAX else {"max_iterations": loop.max_iterations})
            | ({} if loop.on_limit is OnLimit.FAIL else {"on_limit": loop.on_limit.value})
            for loop in spec.loops]
    return found


def write_yaml(found: dict[str, Any]) -> str:
    text = yaml.dump(found, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)
    assert isinstance(text, str)
    return text


def write_json(found: dict[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _input(one: Input) -> dict[str, Any]:
    found: dict[str, Any] = {"type": one.type}
    if one.default is not msgspec.UNSET:
        found["default"] = one.default
    if one.description:
        found["description"] = one.description
    return found


def _node(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = {"type": node.type}
    if node.label and node.label != node.id:
        found["label"] = node.label
    if node.policy != _USUAL:
        policy = msgspec.to_builtins(node.policy)
        for field in _POLICY_FIELDS:
            if getattr(node.policy, field.name) != getattr(_USUAL, field.name):
                found[field.name] = policy[field.name]
    found.update(msgspec.to_builtins(node.properties, builtin_types=()))
    if node.page:
        found["page"] = msgspec.to_builtins(node.page)
    return found


def _arrow(arrow: Arrow) -> Any:
    plain = str(arrow)
    more = arrow.transform or arrow.content_type is not None or arrow.first is not None
    if not more and "->" not in arrow.port + arrow.input:
        return plain
    port = "" if arrow.port == DEFAULT else f".{arrow.port}"
    into = "" if arrow.input == DEFAULT else f".{arrow.input}"
    found: dict[str, Any] = {"from": f"{arrow.source}{port}", "to": f"{arrow.target}{into}"}
    if arrow.transform:
        found["transform"] = [dict(rule) for rule in arrow.transform]
    if arrow.content_type is not None:
        found["content_type"] = arrow.content_type
    if arrow.first is not None:
        found["first"] = arrow.first
    return found
