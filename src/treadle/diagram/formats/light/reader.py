"""From a light file's values to a `DiagramSpec`: its keys, nodes, properties and persons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats.light.aliases import PAGE_KEYS, documented, kept
from treadle.diagram.formats.light.kinds import KINDS
from treadle.diagram.formats.light.labels import Labels
from treadle.diagram.formats.light.made import Made
from treadle.diagram.formats.light.routes import Routes
from treadle.diagram.formats.light.shapes import SHAPES
from treadle.diagram.formats.light.templates import translate
from treadle.diagram.formats.tree import Value
from treadle.diagram.formats.values import convert_struct
from treadle.diagram.node import Arrow, Node
from treadle.diagram.person import Person
from treadle.diagram.policy import Policy
from treadle.errors import Fault, Where, did_you_mean
from treadle.ids import NodeID

TOP_KEYS = ("$schema", "version", "name", "description", "metadata", "nodes", "connections", "persons",
            "api_keys", "loops")
PERSON_KEYS = ("service", "model", "api_key_id", "system_prompt")
OUR_KEYS = {"model": "model", "system_prompt": "system_prompt", "api_key_id": "api_key"}
"""The keys of persons as ours, where both have them."""
SERVICES = {"openai": "openai", "anthropic": "anthropic", "claude": "anthropic", "google": "google",
            "gemini": "google", "ollama": "ollama"}
"""Services as the dialect calls them, and our names of their providers."""
NODE_KEYS = ("label", "type", "props", *PAGE_KEYS)


class Reader:
    def __init__(self, faults: list[Fault], base: str) -> None:
        self.faults, self.base = faults, base
        self.labels = Labels()
        self.kinds: dict[NodeID, str] = {}
        self.person_places: dict[str, Where] = {}
        self._places: dict[NodeID, Where] = {}

    def fault(self, message: str, where: Where | None, hint: str | None = None, node: str | None = None, *,
              warning: bool = False) -> None:
        self.faults.append(Fault(message, node=node, where=where, hint=hint, warning=warning))

    def diagram(self, root: Value, default_name: str, source: str) -> DiagramSpec | None:
        top = self.known(root, "a light diagram", TOP_KEYS)
        entries = [one for one in self.listed(top.get("nodes"), "nodes") if self.is_map(one, "a node")]
        names = self.labels.add([self.label(one) for one in entries], self.faults)
        self._places = {node_id: one.where for one, (_, node_id) in zip(entries, names, strict=True)}
        routes = Routes(self, self.listed(top.get("connections"), "connections"))
        persons = self.persons(top.get("persons"), top.get("api_keys"))
        nodes = [self.node(one, label, node_id, [routes.arrows[k] for k in routes.into.get(node_id, ())])
                 for one, (label, node_id) in zip(entries, names, strict=True)]
        arrows = routes.finished()
        about = {key: top[key].plain() for key in ("metadata",) if key in top}
        return DiagramSpec(
            name=self.text(top.get("name"), "name") or default_name,
            description=self.text(top.get("description"), "description"),
            nodes=tuple(nodes), arrows=arrows, loops=routes.loops(nodes, arrows, top.get("loops")),
            persons=persons, person_places=self.person_places, open=True, page=about, base=self.base,
            source=source, where=root.where)

    # values

    def known(self, value: Value, what: str, keys: Iterable[str], node: str | None = None
              ) -> dict[str, Value]:
        """The entries of a map; unknown keys are faults and left out."""
        found = {}
        known = tuple(keys)
        for key, one in value.data.items():
            if key in known:
                found[key] = one
            else:
                self.fault(f"{what} has no key {key!r}", value.keys[key],
                           did_you_mean(key, known) or f"there is: {', '.join(known)}", node)
        return found

    def is_map(self, value: Value, what: str) -> bool:
        if not isinstance(value.data, dict):
            self.fault(f"{what} must be a map, not {value.plain()!r:.60}", value.where)
        return isinstance(value.data, dict)

    def listed(self, value: Value | None, what: str) -> list[Value]:
        if value is None or value.data is None:
            return []
        if not isinstance(value.data, list):
            self.fault(f"{what!r} must be a list", value.where, "begin each entry with: -")
            return []
        return value.data

    def text(self, value: Value | None, what: str, node: str | None = None) -> str:
        """A text; a number counts as one."""
        if value is None or value.data is None:
            return ""
        if isinstance(value.data, str):
            return value.data
        if isinstance(value.data, int | float) and not isinstance(value.data, bool):
            return str(value.data)
        self.fault(f"{what} must be a text, not {value.plain()!r:.60}", value.where, node=node)
        return ""

    def place_of(self, node_id: NodeID) -> Where | None:
        return self._places.get(node_id)

    # persons

    def persons(self, said: Value | None, keys: Value | None) -> dict[str, Person]:
        found: dict[str, Person] = {}
        references = self.api_keys(keys)
        if said is None or said.data is None or not self.is_map(said, "persons"):
            return found
        for name, one in said.data.items():
            self.person_places[name] = said.keys[name]
            if not self.is_map(one, f"person {name!r}"):
                continue
            self.person_places |= {f"{name}.{OUR_KEYS[key]}": each.where for key, each in one.data.items()
                                   if key in OUR_KEYS}
            parts = self.known(one, f"person {name!r}", PERSON_KEYS)
            texts = {key: self.text(value, f"person {name!r}: {key}") for key, value in parts.items()}
            found[name] = Person(
                model=self.model(name, texts, one, parts),
                system_prompt=self.system_prompt(texts.get("system_prompt", ""), parts),
                api_key=self.api_key(texts.get("api_key_id", ""), references, parts))
        return found

    def model(self, name: str, texts: Mapping[str, str], one: Value, parts: Mapping[str, Value]) -> str:
        service, model = texts.get("service", "").strip().lower(), texts.get("model", "").strip()
        if model == "script" or (not service and ":" in model):
            return model
        if service and service not in SERVICES:
            self.fault(f"person {name!r}: there is no service {texts['service']!r}", parts["service"].where,
                       did_you_mean(service, SERVICES) or f"there is: {', '.join(SERVICES)}")
        elif not model:
            self.fault(f"person {name!r} has no model", one.where, "write: model: its name")
        elif not service:
            self.fault(f"person {name!r} has no service", one.where, f"there is: {', '.join(SERVICES)}")
        else:
            return f"{SERVICES[service]}:{model}"
        return "script"  # so that nothing more is said of it

    def system_prompt(self, text: str, parts: Mapping[str, Value]) -> str:
        if not text:
            return ""
        found = translate(text, where=parts["system_prompt"].where)
        self.faults += found.faults
        return found.text

    def api_keys(self, said: Value | None) -> dict[str, str]:
        """References to keys by the ids that persons say."""
        from treadle.diagram.check.secrets import is_reference  # not above: `check` imports the formats

        found: dict[str, str] = {}
        if said is None or said.data is None or not self.is_map(said, "api_keys"):
            return found
        for name, one in said.data.items():
            parts = {"key": one}
            if isinstance(one.data, dict):
                parts = self.known(one, f"api key {name!r}", ("key", "service", "label"))
            text = self.text(parts.get("key"), f"api key {name!r}")
            if text and not is_reference(text):  # it is not quoted: it may be a key
                self.fault(f"api key {name!r} must name a secret, as in env:NAME or secret://NAME: a key "
                           "itself has no place in a diagram", parts["key"].where)
            elif text:
                found[name] = text
        return found

    def api_key(self, name: str, references: Mapping[str, str], parts: Mapping[str, Value]) -> str | None:
        from treadle.diagram.check.secrets import is_reference

        if not name or name in references or is_reference(name):
            return references.get(name, name) or None
        if is_reference(reference := f"secret://{name}"):
            return reference
        self.fault(f"api_key_id: {name!r} can't be the name of a secret", parts["api_key_id"].where,
                   "say in api_keys what it stands for")
        return None

    # nodes

    def label(self, entry: Value) -> tuple[str, Where]:
        value = entry.data.get("label")
        label = self.text(value, "label").strip()
        if not label:
            if value is None or value.data is None or isinstance(value.data, str):
                near = next((key for key in entry.data if did_you_mean(key, ("label",))), None)
                self.fault("the node has no label", entry.where,
                           f"is {near!r} meant for it?" if near else "write: label: its name")
            return f"line {entry.where.line}", entry.where
        return label, (value or entry).where

    def node(self, entry: Value, label: str, node_id: NodeID, into: Sequence[Arrow]) -> Node:
        kind = self.text(entry.data.get("type"), "type", label).strip().lower()
        said, keys = self.properties(entry, label)
        page = kept(entry, said)
        documented(kind, said, keys, lambda message, where, hint: self.fault(message, where, hint, label))
        if kind == "hook" and "config" in said and self.is_map(said["config"], "config"):
            keys = {**said["config"].keys, **keys}
            said = {**said.pop("config").data, **said}
        made = Made(self, label, node_id, kind, said, keys, into)
        if "type" not in entry.data:
            made.fault("the node has no type", "", f"there is: {', '.join(SHAPES)}")
        elif kind not in SHAPES:
            made.broken = True
            self.fault(f"there is no node type {entry.data['type'].plain()!r}", entry.data["type"].where,
                       did_you_mean(kind, SHAPES) or f"there is: {', '.join(SHAPES)}", label)
        else:
            self.shaped(kind, said, made)
        self.kinds[node_id] = kind
        made.places["type"] = entry.data["type"].where if "type" in entry.data else entry.where
        return Node(id=node_id, type="" if made.broken else made.type, properties=made.properties,
                    policy=Policy(**made.policy), label=label if label != node_id else "", where=entry.where,
                    places=made.places, page=page)

    def shaped(self, kind: str, said: Mapping[str, Value], made: Made) -> None:
        """Read the properties of a node, and make ours of them."""
        shape, wrong = convert_struct({key: one.plain() for key, one in said.items()}, SHAPES[kind],
                                      NODE_KEYS)
        for one in wrong:
            key, message = one.path, one.message
            if message.startswith("unknown property"):
                message = f"{'an' if kind[0] in 'ae' else 'a'} {kind} has no property {key!r}"
            elif key:
                message = f"{key}: {message}"
            made.fault(message, key, one.hint)
        if not wrong:
            KINDS[kind](shape, made)

    def properties(self, entry: Value, label: str) -> tuple[dict[str, Value], dict[str, Where]]:
        """What a node says, and where: under `props` and beside it, where the latter wins; `a.b: 1` is
        `a: {b: 1}`, so `props.a: 1` stands under `props`. What is null is left out."""
        props = entry.data.get("props")
        found: dict[str, Value] = {}
        keys: dict[str, Where] = {}
        flat = {key: one for key, one in entry.data.items() if key not in NODE_KEYS}
        inner = {key: flat.pop(key) for key in list(flat) if key.startswith("props.")}
        parts = [(entry, flat)]
        if inner:
            cut = len("props.")
            keyed = {key[cut:]: entry.keys[key] for key in inner}
            parts.insert(0, (Value({}, entry.where, keyed), {key[cut:]: one for key, one in inner.items()}))
        if props is not None and props.data is not None and self.is_map(props, "props"):
            parts.insert(0, (props, props.data))
        for owner, said in parts:
            found |= {key: one for key, one in said.items() if "." not in key}
            for key, one in said.items():
                if "." in key:
                    self.dotted(found, key, one, owner.keys[key], label)
                keys[key.partition(".")[0]] = owner.keys[key]
        return {key: one for key, one in found.items() if one.data is not None}, keys

    def dotted(self, found: dict[str, Value], key: str, value: Value, where: Where, label: str) -> None:
        *ways, last = key.split(".")
        here = found
        for way in ways:
            inner = here.get(way)
            if inner is None or inner.data is None:
                inner = Value({}, where, {})
            elif not isinstance(inner.data, dict):
                self.fault(f"{key!r}: {way!r} is no map", where, "write it in one way", label)
                return
            here[way] = inner = Value(dict(inner.data), inner.where, dict(inner.keys))
            inner.keys.setdefault(last, where)
            here = inner.data
        here[last] = value

