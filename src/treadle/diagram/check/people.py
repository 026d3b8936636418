"""The persons that a diagram's nodes may name: its own, and those of the diagrams around it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from treadle.config import TreadleConfig
from treadle.diagram.check.secrets import ALONE, SECRET, is_reference
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.expression import Template
from treadle.diagram.formats.persons import convert_person
from treadle.diagram.person import Defined, Person, named, read_memory
from treadle.diagram.types import NodeTypes
from treadle.errors import ExpressionError, Fault, LimitExceeded, did_you_mean
from treadle.ids import NodeID

_URL = re.compile(r"https?://[^\s/]+\S*")
_IN_THE_CLEAR = "must name a secret, as in `secret://NAME` or `env:NAME`: a key has no place in a diagram"


class Wrong(NamedTuple):
    """What is wrong with a person: at which of its keys, what, what to do."""

    at: str
    message: str
    hint: str | None = None
    warning: bool = False


class Cast:
    """Who may be named in a diagram, and who was. `outer` are the names that were looked for in the diagrams
    around it, with what they gave: where these are the same, so is the check of the diagram."""

    def __init__(self, spec: DiagramSpec, types: NodeTypes, config: TreadleConfig,
                 around: Mapping[str, Defined]) -> None:
        self.spec, self.types, self.config = spec, types, config
        self.own = {name: named(one, name, spec.base) for name, one in spec.persons.items()}
        self.visible: Mapping[str, Defined] = {**around, **self.own} if self.own else around
        self.outer: dict[str, Defined | None] = {}
        self._inner: dict[str, Defined] | None = None
        self.bound: dict[NodeID, Defined] = {}  # by node
        self._used: set[str] = set()
        self._texts: dict[int, str] = {}

    def find(self, name: str) -> Defined | None:
        """The person of that name, who counts as used."""
        if name in self.own:
            self._used.add(name)
        else:
            self.outer[name] = self.visible.get(name)
        return self.visible.get(name)

    @property
    def inner(self) -> Mapping[str, Defined]:
        """Those that the sub-diagrams see."""
        if self._inner is None:
            self._inner = {name: msgspec.structs.replace(one, level=one.level + 1)
                           for name, one in self.visible.items()}
        return self._inner

    def hint(self, name: str) -> str:
        """What to do about a name that nobody has."""
        if not self.visible:
            return f"write at the top: persons: {{{name}: {{model: …}}}}"
        return did_you_mean(name, self.visible) or f"there is: {', '.join(sorted(self.visible))}"

    def inside(self, outer: Iterable[str]) -> None:
        """Note whom a sub-diagram looks for here."""
        for name in outer:
            self.find(name)

    def inline(self, data: Mapping[str, Any], node_id: str) -> tuple[Defined | None, list[Wrong]]:
        """A person that a node says in place; its name is the node's. None for one that can't be converted:
        so can't the node."""
        person, _ = convert_person(data)
        if person is None:
            return None, []
        found = named(person, node_id, self.spec.base)
        return found, list(self.wrong(found, None))

    def faults(self) -> Iterator[Fault]:
        """What is wrong with the diagram's own persons; warnings for those that nobody names. To be asked
        last."""
        places = self.spec.person_places
        known = frozenset({"inputs", "nodes", "iteration", "attempt", "artifacts", "variables"})
        for name, person in self.own.items():
            broken = list(self.wrong(person, known))
            if name not in self._used and all(node.type for node in self.spec.nodes):  # a fault may name them
                broken.append(Wrong("", "no node names them", "remove them, or name them in a node", True))
            for at, message, hint, warning in broken:
                where = places.get(f"{name}.{at}") or places.get(name) or self.spec.where
                yield Fault(f"person {name!r}: {message}", where=where, hint=hint, warning=warning)

    def wrong(self, person: Defined, known: frozenset[str] | None) -> Iterator[Wrong]:
        """What is wrong with a person. `known` are the names that its system prompt may use; None: it is
        looked at with the node that it stands in."""
        if not person.model:
            yield Wrong("", "no `model`", "write openai:NAME, anthropic:NAME, google:NAME, ollama:NAME or "
                        "script")
        yield from getattr(self.types, "person_faults", _none)(person)
        if person.api_key is not None and not is_reference(person.api_key):  # not quoted: it may be a key
            yield Wrong("api_key", f"`api_key` {_IN_THE_CLEAR}")
        if person.base_url is not None and not _URL.fullmatch(person.base_url):
            yield Wrong("base_url", f"`base_url`: {person.base_url!r} is no address: write http://… or "
                        "https://…")
        try:
            read_memory(person.memory)
        except ValueError as error:
            yield Wrong("memory", f"`memory`: {error}")
        for key in ("model", "system_prompt", "prompt_file", "base_url", "settings"):
            if SECRET in str(getattr(person, key)):
                yield Wrong(key, f"`{key}`: {ALONE}, and here it is not", "it is looked up in `api_key`")
        if person.script is not None and person.model not in ("", "script"):
            yield Wrong("script", f"`script` means nothing to {person.model}", "write model: script", True)
        if person.prompt_file is not None and person.system_prompt:
            yield Wrong("prompt_file", "say either `system_prompt` or `prompt_file`")
        elif person.prompt_file is not None:
            yield from self._prompt(person, "prompt_file", known or frozenset())
        elif known is not None and person.system_prompt:
            yield from self._prompt(person, "system_prompt", known)

    def _prompt(self, person: Defined, key: str, known: frozenset[str]) -> Iterator[Wrong]:
        try:
            if key == "prompt_file" and person.prompt_file is not None:
                compiled = Template.load(person.prompt_file, base=person.base, config=self.config)
            else:
                compiled = Template.compile(person.system_prompt, base=person.base, config=self.config)
        except OSError as error:
            yield Wrong(key, f"`{key}` {person.prompt_file!r} can't be read: {error.strerror or error}")
            return
        except (ExpressionError, LimitExceeded, ValueError) as error:
            yield Wrong(key, f"`{key}`: {error}")
            return
        if self.spec.open:  # which names there are, only the execution knows
            return
        for name in sorted(compiled.names - known if known else ()):
            yield Wrong(key, f"`{key}`: unknown name {name!r}", self._name_hint(name, known))
        inputs = compiled.attributes.get("inputs", frozenset()) - {"get", "items", "keys"}
        for name in sorted(inputs - set(self.spec.inputs)):
            yield Wrong(key, f"`{key}`: unknown name 'inputs.{name}'", did_you_mean(name, self.spec.inputs)
                        or f"there is: {', '.join(sorted(self.spec.inputs)) or 'none'}")

    def _name_hint(self, name: str, known: frozenset[str]) -> str:
        if name in self.spec.inputs:
            return f"an input of the execution is 'inputs.{name}'"
        return did_you_mean(name, known) or f"there is: {', '.join(sorted(known))}"

    def source(self, person: Defined) -> str:
        """The text that the fingerprints of the person's nodes change with: neither the key nor the folder
        counts."""
        found = self._texts.get(id(person))
        if found is None:
            said = {field: getattr(person, field) for field in (*Person.__struct_fields__, "name")}
            del said["api_key"]
            try:
                prompt = "" if person.prompt_path is None else Path(person.prompt_path).read_text("utf-8")
            except (OSError, ValueError):  # a fault of its own
                prompt = ""
            found = msgspec.json.encode(["person", said, prompt], enc_hook=repr, order="sorted").decode()
            self._texts[id(person)] = found
        return found


def _none(person: Defined) -> Iterable[Wrong]:
    return ()
