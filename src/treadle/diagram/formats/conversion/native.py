"""The native form of a light diagram: maps of nodes, handles, arrows and persons by id, in JSON.

    {"version": "native",
     "nodes": {"n1": {"label": "ask", "type": "person_job", "position": {"x": 1, "y": 2}, "data": {…}}},
     "handles": {"n1_first_input": {"node_id": "n1", "label": "first", "direction": "input"}},
     "arrows": {"a1": {"source": "n0_default_output", "target": "n1_first_input", "label": "topic"}},
     "persons": {"p1": {"label": "Ann", "llm_config": {"service": "openai", "model": "gpt-5-mini"}}}}

It says what a light file says, and is read as one: `as_light` is a tree of that shape in which every value
keeps its place. Each map may be a list, too, whose entries have an `id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from treadle.diagram.formats.light.labels import End, Labels
from treadle.diagram.formats.tree import Value
from treadle.errors import Fault, Where, did_you_mean

VERSION = "native"
TOP_KEYS = ("version", "name", "description", "nodes", "handles", "arrows", "persons", "metadata", "api_keys",
            "loops")
NODE_KEYS = ("id", "label", "type", "position", "flipped", "metadata", "data", "props")
HANDLE_KEYS = ("id", "node_id", "label", "direction", "data_type", "position")
ARROW_KEYS = ("id", "source", "target", "content_type", "label", "data", "execution_priority", "position",
              "flipped", "metadata")
PERSON_KEYS = ("id", "label", "type", "llm_config")
_KEPT = ("position", "flipped", "metadata")
_TYPENAME = "__typename"
"""What some programs leave in every map; it means nothing."""
_INPUTS = {"start": (), "person_job": ("first", "default")}
_OUTPUTS = {"endpoint": (), "condition": ("condtrue", "condfalse")}


def is_native(root: Value | None) -> bool:
    """Whether a file's values are a diagram in this form, by its version or, without one, its maps."""
    if root is None or not isinstance(root.data, dict):
        return False
    version = root.data.get("version")
    if version is not None and isinstance(version.data, str):
        return version.data.strip().lower() == VERSION
    return "treadle" not in root.data and {"nodes", "handles", "arrows"} <= root.data.keys()


def as_light(root: Value, faults: list[Fault]) -> Value:
    """The same diagram in the shape of the light dialect; what is wrong is added to `faults`."""
    return _Reader(faults).diagram(root)


class _Reader:
    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        self.labels: dict[str, str] = {}  # of nodes, by id
        self.people: dict[str, str] = {}  # labels of persons, by id
        self.handles: dict[str, tuple[str, str, bool]] = {}  # node, label, whether arrows enter by it

    def fault(self, message: str, where: Where, hint: str | None = None, node: str | None = None, *,
              warning: bool = False) -> None:
        self.faults.append(Fault(message, where=where, hint=hint, node=node, warning=warning))

    def diagram(self, root: Value) -> Value:
        top = self.known(root, "a native diagram", TOP_KEYS)
        persons = self.persons(self.entries(top.get("persons"), "persons"))
        nodes = self.nodes(self.entries(top.get("nodes"), "nodes"))
        self.read_handles(self.entries(top.get("handles"), "handles"))
        arrows = [self.arrow(name, one) for name, one in self.entries(top.get("arrows"), "arrows")]
        where = root.where
        found = {"version": Value("light", where)}
        found |= {key: top[key] for key in ("name", "description") if key in top}
        if persons:
            found["persons"] = _map(persons, top["persons"].where)
        found["nodes"] = Value(nodes, top["nodes"].where if "nodes" in top else where)
        found["connections"] = Value([one for one in arrows if one is not None],
                                     top["arrows"].where if "arrows" in top else where)
        found |= {key: top[key] for key in ("metadata", "api_keys", "loops") if key in top}
        return _map(found, where, root.keys)

    def known(self, value: Value, what: str, keys: Iterable[str]) -> dict[str, Value]:
        """The entries of a map that this form knows; others are faults."""
        found: dict[str, Value] = {}
        known = tuple(keys)
        if not isinstance(value.data, dict):
            self.fault(f"{what} must be a map, not {value.plain()!r:.60}", value.where)
            return found
        for key, one in value.data.items():
            if key in known:
                found[key] = one
            elif key != _TYPENAME:
                self.fault(f"{what} has no key {key!r}", value.keys[key],
                           did_you_mean(key, known) or f"there is: {', '.join(known)}")
        return {key: one for key, one in found.items() if one.data is not None}

    def entries(self, value: Value | None, what: str) -> list[tuple[str, Value]]:
        """A map's entries by id, or those of a list, by the id that each says."""
        if value is None or value.data is None:
            return []
        if isinstance(value.data, dict):
            for key, one in value.data.items():
                said = one.data.get("id") if isinstance(one.data, dict) else None
                if said is not None and said.data != key:
                    self.fault(f"{what}: the id {said.plain()!r} stands under the key {key!r}", said.where)
            return list(value.data.items())
        found: dict[str, Value] = {}
        for one in value.data if isinstance(value.data, list) else ():
            name = _text(one.data.get("id")) if isinstance(one.data, dict) else ""
            if not name:
                self.fault(f"an entry of {what} has no id", one.where, "write: \"id\": its name")
            elif name in found:
                self.fault(f"{what}: the id {name!r} stands here a second time", one.where)
            else:
                found[name] = one
        if not isinstance(value.data, list):
            self.fault(f"{what!r} must be a map", value.where, "of entries by id")
        return list(found.items())

    # nodes and persons

    def nodes(self, entries: list[tuple[str, Value]]) -> list[Value]:
        known = [(name, one, self.known(one, f"node {name!r}", NODE_KEYS)) for name, one in entries]
        for name, _, parts in known:
            inner = parts["data"].data if "data" in parts else {}
            said = parts.get("label") or (inner.get("label") if isinstance(inner, dict) else None)
            self.labels[name] = _free(_text(said).strip() or name, self.labels.values())
        return [self.node(name, one, parts) for name, one, parts in known]

    def node(self, name: str, entry: Value, parts: dict[str, Value]) -> Value:
        found = {"label": Value(self.labels[name], parts["label"].where if "label" in parts else entry.where)}
        found |= {key: parts[key] for key in ("type", *_KEPT) if key in parts}
        props: dict[str, Value] = {}
        keys: dict[str, Where] = {}
        for key in ("data", "props"):
            if key not in parts:
                continue
            if not isinstance(parts[key].data, dict):
                self.fault(f"{key} must be a map, not {parts[key].plain()!r:.60}", parts[key].where,
                           node=self.labels[name])
                continue
            props |= {name: one for name, one in parts[key].data.items()
                      if one.data not in (None, "", [], {})}  # which programs write for what nobody said
            keys |= parts[key].keys
        for key in (*_KEPT, "label", _TYPENAME):
            said = props.pop(key, None)
            if said is not None and key in _KEPT:
                found.setdefault(key, said)
        person = props.get("person")
        if person is not None and isinstance(person.data, str) and person.data in self.people:
            props["person"] = Value(self.people[person.data], person.where)
        if props:
            where = parts["data"].where if "data" in parts else parts["props"].where
            found["props"] = _map(props, where, keys)
        return _map(found, entry.where, entry.keys)

    def persons(self, entries: list[tuple[str, Value]]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for name, one in entries:
            if not isinstance(one.data, dict):
                self.fault(f"person {name!r} must be a map, not {one.plain()!r:.60}", one.where)
                continue
            label = _text(one.data.get("label")).strip() or name
            if label in found:
                self.fault(f"two persons have the label {label!r}", one.where, "rename one")
            self.people[name] = label
            config = one.data.get("llm_config")
            said = {key: value for key, value in one.data.items() if key not in (*PERSON_KEYS, _TYPENAME)}
            keys = dict(one.keys)
            if config is not None and isinstance(config.data, dict):
                said |= {key: value for key, value in config.data.items() if key != _TYPENAME}
                keys |= config.keys
            elif config is not None:
                self.fault(f"person {name!r}: llm_config must be a map", config.where)
            found[label] = _map({key: value for key, value in said.items() if value.data is not None},
                                one.where, keys)
        return found

    # arrows

    def read_handles(self, entries: list[tuple[str, Value]]) -> None:
        for name, one in entries:
            parts = self.known(one, f"handle {name!r}", HANDLE_KEYS)
            node, direction = _text(parts.get("node_id")), _text(parts.get("direction")).lower()
            if node not in self.labels:
                self.fault(f"handle {name!r}: there is no node {node!r}" if node else
                           f"handle {name!r} has no node_id", parts.get("node_id", one).where,
                           did_you_mean(node, self.labels))
            if direction not in ("input", "output"):
                self.fault(f"handle {name!r}: its direction is input or output, not {direction!r}",
                           parts.get("direction", one).where)
            self.handles[name] = (node, _text(parts.get("label")) or "default", direction == "input")

    def arrow(self, name: str, entry: Value) -> Value | None:
        parts = self.known(entry, f"arrow {name!r}", ARROW_KEYS)
        source, target = self.end(name, "source", entry, parts), self.end(name, "target", entry, parts)
        more = parts.get("data")
        if more is not None and not isinstance(more.data, dict):
            self.fault(f"arrow {name!r}: `data` must be a map", more.where)
            more = None
        if more is not None and more.data and more.data.keys() - {"branch", _TYPENAME}:
            self.fault(f"arrow {name!r}: `data` means nothing here", more.where, warning=True)
        if "execution_priority" in parts and parts["execution_priority"].data:
            self.fault(f"arrow {name!r}: execution_priority means nothing here",
                       parts["execution_priority"].where, warning=True)
        if source is None or target is None:
            return None
        found = {"from": source, "to": target}
        found |= {key: parts[key] for key in ("label", "content_type", *_KEPT) if key in parts}
        return _map(found, entry.where, entry.keys)

    def end(self, name: str, side: str, entry: Value, parts: dict[str, Value]) -> Value | None:
        """The label and the handle of one end."""
        said = parts.get(side)
        text = _text(said)
        if said is None or not text:
            self.fault(f"arrow {name!r} has no {side}", entry.where, "name a handle")
            return None
        node, label, enters = self.handles.get(text) or self.unlisted(text)
        if not label:
            self.fault(f"arrow {name!r}: there is no handle {text!r}", said.where,
                       did_you_mean(text, self.handles))
            return None
        if enters != (side == "target"):
            self.fault(f"arrow {name!r}: an arrow {'leaves' if side == 'source' else 'enters'} by no "
                       f"{'input' if enters else 'output'}, and {text!r} is one", said.where)
            return None
        if node not in self.labels:
            return None  # which the handle's own fault says
        end = self.labels[node]
        whole = end if label == "default" else f"{end}[{label}]"
        if label != "default" and whole in self.labels.values():
            self.fault(f"the label {whole!r} of a node reads as the handle {label!r} of {end!r}", said.where,
                       "rename that node")
        return Value(whole, said.where)

    def unlisted(self, text: str) -> tuple[str, str, bool]:
        """A handle that the map lacks, by what such ids are made of: node, label and direction."""
        for ending, enters in (("_input", True), ("_output", False)):
            node, _, label = text.removesuffix(ending).rpartition("_")
            if text.endswith(ending) and node in self.labels:
                return node, label, enters
        return "", "", False


def from_light(root: Value) -> dict[str, Any]:
    """The native form of a light file's values, which have no faults."""
    top = root.plain()
    entries = root.data["nodes"].data
    labels = Labels()
    named = labels.add([(_text(one.data.get("label")).strip(), one.where) for one in entries], [])
    ids = {node_id: f"node_{k}" for k, (_, node_id) in enumerate(named)}
    people = {label: f"person_{label}" for label in top.get("persons") or {}}
    nodes: dict[str, Any] = {}
    handles: dict[str, Any] = {}
    for one, (label, node_id) in zip(top["nodes"], named, strict=True):
        kind = str(one["type"]).strip().lower()
        data = {**(one.get("props") or {}), **{key: value for key, value in one.items() if key not in
                                               ("label", "type", "props", *_KEPT)}}
        if data.get("person") in people:
            data["person"] = people[data["person"]]
        nodes[ids[node_id]] = {"label": label, "type": kind, **_said(one, *_KEPT), "data": data}
        for handle in _INPUTS.get(kind, ("default",)):
            handles |= _handle(ids[node_id], handle, "input")
        for handle in _OUTPUTS.get(kind, ("default",)):
            handles |= _handle(ids[node_id], handle, "output")
    arrows: dict[str, Any] = {}
    for one in top.get("connections") or ():
        arrow: dict[str, Any] = {}
        for side, key, direction in (("source", "from", "output"), ("target", "to", "input")):
            end = labels.find(str(one[key]))
            assert isinstance(end, End)
            found = _handle(ids[end.node], end.handle.lower() or "default", direction)
            handles |= found
            arrow[side] = next(iter(found))
        content = one.get("content_type") or one.get("type")
        arrow |= {"content_type": content} if content else {}
        arrow |= {key: one[key] for key in ("label", *_KEPT) if one.get(key) is not None}
        arrows[f"arrow_{len(arrows)}"] = arrow
    persons = {people[label]: {"label": label, "type": "person", "llm_config": dict(said or {})}
               for label, said in (top.get("persons") or {}).items()}
    return {"version": VERSION, **_said(top, "name", "description"), "nodes": nodes, "handles": handles,
            "arrows": arrows, "persons": persons, **_said(top, "metadata", "api_keys", "loops")}


def _handle(node: str, label: str, direction: str) -> dict[str, Any]:
    return {f"{node}_{label}_{direction}": {
        "node_id": node, "label": label, "direction": direction,
        "data_type": "boolean" if label in ("condtrue", "condfalse") else "any"}}


def _said(one: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: one[key] for key in keys if key in one}


def flat(light: Mapping[str, Any]) -> dict[str, Any]:
    """A light diagram as plain data, with the properties of its nodes beside their labels."""
    nodes = []
    for one in light.get("nodes", ()):
        about = {key: value for key, value in one.items() if key not in ("props", *_KEPT)}
        props = {key: value for key, value in (one.get("props") or {}).items() if key not in about}
        nodes.append({**about, **props, **_said(one, *_KEPT)})
    return {**light, "nodes": nodes}


def _free(label: str, taken: Iterable[str]) -> str:
    """A label that no other node has: `a`, `a~1`, `a~2` …"""
    others, count, name = set(taken), 0, label
    while name in others:
        count += 1
        name = f"{label}~{count}"
    return name


def _text(value: Value | None) -> str:
    """A text; a number counts as one."""
    if value is None or isinstance(value.data, bool) or not isinstance(value.data, str | int | float):
        return ""
    return str(value.data)


def _map(data: dict[str, Value], where: Where, keys: Mapping[str, Where] | None = None) -> Value:
    known = keys or {}
    return Value(data, where, {key: known.get(key, one.where) for key, one in data.items()})
