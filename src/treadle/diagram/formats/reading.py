"""From a file's values to a `DiagramSpec`, with every fault that can be seen without knowing node types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats.persons import convert_person, words
from treadle.diagram.formats.tree import Value
from treadle.diagram.formats.values import convert_value
from treadle.diagram.node import DEFAULT, Arrow, Input, Loop, Node
from treadle.diagram.person import Person
from treadle.diagram.policy import LOOP_ITERATIONS_MAX, OnError, OnLimit, Policy
from treadle.errors import Fault, Where, did_you_mean
from treadle.ids import NodeID, escape_label

FORMAT_VERSION = 1
"""What `treadle:` says at the top of a file."""
TOP_KEYS = ("treadle", "name", "description", "inputs", "nodes", "arrows", "loops", "on_error", "deadline",
            "environment_vars", "secret_store", "persons", "open", "page")
ARROW_KEYS = ("from", "to", "transform", "content_type", "first")
LOOP_KEYS = ("entry", "max_iterations", "on_limit")
INPUT_KEYS = ("type", "default", "description")
INPUT_TYPES = ("any", "string", "integer", "number", "boolean", "array", "object")
POLICY_KEYS = tuple(field.name for field in msgspec.structs.fields(Policy))
NODE_KEYS = ("type", "needs", "label", "page", *POLICY_KEYS)
"""The keys of every node; what else it has are its type's properties."""
_UNKNOWN = Person(model="script")  # stands for one with faults
_POLICY_TYPES = {field.name: field.type for field in msgspec.structs.fields(Policy)}


def read_diagram(root: Value | None, faults: list[Fault], *, file: str, name: str, base: str,
                 source: str) -> DiagramSpec | None:
    """Make a spec of a file's values, as far as it can be made; what is wrong is added to `faults`."""
    if root is None or root.data is None:
        first = "version: light" if ".light." in file else f"treadle: {FORMAT_VERSION}"
        faults.append(Fault("the diagram is empty", where=Where(file), hint=f"begin with: {first}"))
        return None
    return _Reader(faults).diagram(root, name, base, source)


class _Reader:
    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        self.ids: dict[str, NodeID] = {}  # by id, and by label as written

    def fault(self, message: str, where: Where | None, hint: str | None = None,
              node: str | None = None) -> None:
        self.faults.append(Fault(message, node=node, where=where, hint=hint))

    def diagram(self, root: Value, default_name: str, base: str, source: str) -> DiagramSpec | None:
        top = self.map(root, "a diagram", TOP_KEYS)
        if top is None:
            return None
        self.version(top.get("treadle"), root)
        nodes, needs = self.nodes(top.get("nodes"), root)
        arrows = [*needs(), *self.arrows(top.get("arrows"))]
        persons, places = self.persons(top.get("persons"))
        return DiagramSpec(
            name=self.scalar(top.get("name"), str, default_name, "name"),
            description=self.scalar(top.get("description"), str, "", "description"),
            nodes=tuple(nodes), arrows=tuple(arrows), loops=tuple(self.loops(top.get("loops"))),
            inputs=self.inputs(top.get("inputs")),
            on_error=self.scalar(top.get("on_error"), OnError, OnError.FAIL, "on_error"),
            deadline=self.scalar(top.get("deadline"), float | None, None, "deadline"),
            environment_vars=self.scalar(top.get("environment_vars"), dict[str, str], {}, "environment_vars"),
            secret_store=self.scalar(top.get("secret_store"), str | None, None, "secret_store"),
            open=self.scalar(top.get("open"), bool, False, "open"),
            page=self.scalar(top.get("page"), dict[str, Any], {}, "page"),
            persons=persons, person_places=places, base=base, source=source, where=root.where)

    def version(self, value: Value | None, root: Value) -> None:
        if value is None:
            self.fault("the key 'treadle' is missing", root.where, f"begin with: treadle: {FORMAT_VERSION}")
        elif type(value.data) is not int or value.data != FORMAT_VERSION:
            self.fault(f"this program reads 'treadle: {FORMAT_VERSION}', not {value.plain()!r}", value.where)

    # values

    def map(self, value: Value | None, what: str, known: Iterable[str] | None = None,
            node: str | None = None, hint: str | None = None) -> dict[str, Value] | None:
        """The entries of a map; unknown keys are faults and left out. None if it isn't one."""
        if value is None:
            return {}
        if not isinstance(value.data, dict):
            self.fault(f"{what} must be a map, not {_kind(value)}", value.where, hint, node)
            return None
        if known is None:
            return value.data
        for key in value.data:
            if key not in known:
                near = did_you_mean(key, known)
                self.fault(f"{what} has no key {key!r}", value.keys[key],
                           near or f"there is: {', '.join(known)}", node)
        return {key: one for key, one in value.data.items() if key in known}

    def entries(self, value: Value | None, what: str) -> list[Value]:
        if value is None or value.data is None:
            return []
        if not isinstance(value.data, list):
            self.fault(f"{what} must be a list, not {_kind(value)}", value.where)
            return []
        return value.data

    def scalar(self, value: Value | None, kind: Any, default: Any, what: str, node: str | None = None) -> Any:
        """A value of a type, or the default if there is none or it does not fit."""
        if value is None:
            return default
        plain = value.plain()
        converted, wrong = convert_value(plain, kind)
        if wrong is None:
            return converted
        inner = f".{wrong.path}" if wrong.path else ""
        found: dict[str, Where] = {}
        value.places("", found)
        self.fault(f"{what}{inner}: {wrong.message}", found.get(inner, value.where), wrong.hint, node)
        return default

    # parts of a diagram

    def inputs(self, value: Value | None) -> dict[str, Input]:
        found = {}
        for name, one in (self.map(value, "'inputs'") or {}).items():
            what = f"input {name!r}"
            if isinstance(one.data, str):
                entries = {"type": one}
            else:
                how = None if isinstance(one.data, dict) else f"write: {name}: {{default: …}}"
                entries = {} if one.data is None else self.map(one, what, INPUT_KEYS, hint=how) or {}
            kind = self.scalar(entries.get("type"), str, "any", f"{what}: type")
            if kind not in INPUT_TYPES:
                self.fault(f"{what}: {kind!r} is no type of input", entries["type"].where,
                           did_you_mean(kind, INPUT_TYPES) or f"there is: {', '.join(INPUT_TYPES)}")
                kind = "any"
            default = entries.get("default")
            found[name] = Input(
                type=kind, default=msgspec.UNSET if default is None else default.plain(),
                description=self.scalar(entries.get("description"), str, "", f"{what}: description"))
            if default is not None and not fits(found[name].default, kind):
                self.fault(f"{what}: the default is {_kind(default)}, not of type {kind}", default.where)
        return found

    def persons(self, value: Value | None) -> tuple[dict[str, Person], dict[str, Where]]:
        """The persons by name, and the places of their parts. One with faults counts as there."""
        found: dict[str, Person] = {}
        places: dict[str, Where] = {}
        entries = {} if value is None or value.data is None else self.map(value, "'persons'")
        for name, one in (entries or {}).items():
            assert value is not None
            one.places(name, places)
            places[name] = value.keys[name]
            parts = self.map(one, f"person {name!r}", hint=f"write: {name}: {{model: …}}")
            person = None
            if parts is not None:
                person, wrong = convert_person({key: part.plain() for key, part in parts.items()})
                for each in wrong:
                    at = f"{name}.{each.path}" if each.path else name
                    self.fault(f"person {name!r}: {words(each)}", places.get(at, places[name]), each.hint)
            found[name] = person or _UNKNOWN
        return found, places

    def nodes(self, value: Value | None, root: Value) -> tuple[list[Node], Any]:
        """The nodes, and a function that gives the arrows of their `needs` once every id is known."""
        entries = {} if value is None or value.data is None else self.map(value, "'nodes'")
        if entries == {}:
            self.fault("the diagram has no nodes", (value or root).where)
        found: list[Node] = []
        waiting: list[tuple[NodeID, Value]] = []
        for label, one in (entries or {}).items():
            assert value is not None
            where = value.keys[label]
            node_id = escape_label(label)
            if node_id in self.ids:
                self.fault(f"{label!r} and another label are the same id {node_id!r}", where, "rename one")
                continue
            self.ids[node_id] = self.ids[label] = node_id
            parts = self.map(one, "a node", node=label)
            if parts is None:
                continue
            if "needs" in parts:
                waiting.append((node_id, parts["needs"]))
            found.append(self.node(node_id, label, parts, where))
        return found, lambda: [arrow for node_id, needs in waiting for arrow in self.needs(node_id, needs)]

    def node(self, node_id: NodeID, label: str, parts: Mapping[str, Value], where: Where) -> Node:
        kind = parts.get("type")
        if kind is None:
            near = next((key for key in parts if did_you_mean(key, ("type",))), None)
            self.fault(
                "the key 'type' is missing", where, f"is {near!r} meant for it?" if near else None, label
            )
        places: dict[str, Where] = {}
        properties: dict[str, Any] = {}
        for key, one in parts.items():
            if key not in ("type", "needs", "label", "page"):
                one.places(key, places)
                if key not in POLICY_KEYS:
                    properties[key] = one.plain()
        if kind is not None:
            places["type"] = kind.where
        written = self.scalar(parts.get("label"), str, label if label != node_id else "", "label", label)
        return Node(
            id=node_id, type=self.scalar(kind, str, "", "type", label), properties=properties,
            policy=self.policy(parts, label), label=written, where=where, places=places,
            page=self.scalar(parts.get("page"), dict[str, Any], {}, "page", label))

    def policy(self, parts: Mapping[str, Value], label: str) -> Policy:
        found: dict[str, Any] = {}
        for key in POLICY_KEYS:
            value = parts.get(key)
            if value is None:
                continue
            if key == "retry_on" and isinstance(value.data, str):
                value = Value([value], value.where)
            if key == "backoff" and isinstance(value.data, int | float) and not isinstance(value.data, bool):
                value = Value({"initial": value}, value.where)
            converted = self.scalar(value, _POLICY_TYPES[key], None, key, label)
            if converted is not None:
                found[key] = converted
        return Policy(**found)

    def needs(self, node_id: NodeID, value: Value) -> list[Arrow]:
        found = []
        for one in value.data if isinstance(value.data, list) else [value]:
            if not isinstance(one.data, str):
                self.fault(
                    f"needs: expected 'node' or 'node.port', not {_kind(one)}", one.where, node=node_id
                )
            elif "->" in one.data:
                self.fault(f"needs: {one.data!r} is an arrow; name only its source", one.where, node=node_id)
            else:
                source, port = self.end(one.data)
                found.append(Arrow(source=source, port=port, target=node_id, where=one.where))
        return found

    def arrows(self, value: Value | None) -> list[Arrow]:
        found = []
        for one in self.entries(value, "'arrows'"):
            arrow = self.arrow(one)
            if arrow is not None:
                found.append(arrow)
        return found

    def arrow(self, value: Value) -> Arrow | None:
        how = "write: source.port -> target.input"
        if isinstance(value.data, str):
            ends = value.data.split("->")
            if len(ends) != 2 or not all(self.is_end(end.strip()) for end in ends):
                self.fault(f"{value.data!r} is not an arrow", value.where, how)
                return None
            (source, port), (target, into) = self.end(ends[0]), self.end(ends[1])
            return Arrow(source=source, target=target, port=port, input=into, where=value.where)
        if not isinstance(value.data, dict):
            self.fault(f"an arrow must be a text or a map, not {_kind(value)}", value.where, how)
            return None
        parts = self.map(value, "an arrow", ARROW_KEYS) or {}
        written = {key: self.scalar(parts.get(key), str, "", f"arrow: {key}") for key in ("from", "to")}
        for key, end in written.items():
            if not self.is_end(end.strip()):
                if key not in parts or isinstance(parts[key].data, str):
                    how = "write: {from: source.port, to: target.input}"
                    self.fault(f"the arrow has no {key!r}", value.where, how)
                return None
        (source, port), (target, into) = self.end(written["from"]), self.end(written["to"])
        rules = parts.get("transform")
        if rules is not None and isinstance(rules.data, dict):
            rules = Value([rules], rules.where)
        return Arrow(
            source=source, target=target, port=port, input=into, where=value.where,
            transform=self.scalar(rules, tuple[dict[str, Any], ...], (), "transform"),
            content_type=self.scalar(parts.get("content_type"), str, None, "content_type"),
            first=self.scalar(parts.get("first"), bool | None, None, "first"))

    def is_end(self, text: str) -> bool:
        return bool(text) and (text in self.ids or not text.endswith("."))

    def end(self, text: str) -> tuple[NodeID, str]:
        """One end of an arrow: a node, and its port or input. The longest node that the text begins with
        wins."""
        text = text.strip()
        at = len(text)
        while at > 0:
            node_id = self.ids.get(text[:at].rstrip())
            if node_id is not None and text[at + 1:].strip():
                return node_id, text[at + 1:].strip()
            if node_id is not None and at == len(text):
                return node_id, DEFAULT
            at = text.rfind(".", 0, at)
        head, _, rest = text.partition(".")  # no such node: `check` says so
        return NodeID(head.strip()), rest.strip() or DEFAULT

    def loops(self, value: Value | None) -> list[Loop]:
        found = []
        for one in self.entries(value, "'loops'"):
            parts = self.map(one, "a loop", LOOP_KEYS)
            if parts is None:
                continue
            if "entry" not in parts:
                self.fault("the loop has no 'entry'", one.where, "name the node that the loop begins with")
                continue
            entry = self.scalar(parts["entry"], str, "", "entry")
            limit = self.scalar(parts.get("max_iterations"), int, LOOP_ITERATIONS_MAX, "max_iterations")
            on_limit = self.scalar(parts.get("on_limit"), OnLimit, OnLimit.FAIL, "on_limit")
            if entry:
                found.append(Loop(self.ids.get(entry, NodeID(entry)), limit, on_limit, one.where))
        return found


def fits(value: Any, kind: str) -> bool:
    """Whether a plain value is of a type of input."""
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    kinds = {"string": str, "boolean": bool, "array": list, "object": dict}
    return kind == "any" or isinstance(value, kinds[kind])


def _kind(value: Value) -> str:
    names = {dict: "a map", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value.data), "a number")
