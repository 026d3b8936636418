"""Check a diagram node by node and arrow by arrow, and the sub-diagrams in it."""

from __future__ import annotations

import marshal
import math
import os
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.check.people import Cast
from treadle.diagram.check.policies import patient, policy_faults
from treadle.diagram.check.routes import route_faults
from treadle.diagram.check.secrets import ALONE, SECRET, broken, misplaced, unknown_store
from treadle.diagram.check.texts import PERSON, shared, texts_of
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.expression import Expression, Template
from treadle.diagram.fingerprint import source_of
from treadle.diagram.formats import Format, from_map, read, read_text
from treadle.diagram.formats.reading import INPUT_TYPES, NODE_KEYS, fits
from treadle.diagram.formats.values import Mismatch, convert_struct
from treadle.diagram.loops import Structure
from treadle.diagram.node import DEFAULT, ERROR, FIRST, Arrow, Node, stands_in
from treadle.diagram.person import Defined
from treadle.diagram.policy import Policy
from treadle.diagram.types import NodeType, NodeTypes, Ports
from treadle.errors import ExpressionError, Fault, InvalidDiagram, LimitExceeded, Where, did_you_mean
from treadle.ids import NodeID, is_node_id

SHARED_NAMES = frozenset({"artifacts", "variables"})
"""Names of the shared context."""
NAMES = frozenset({"inputs", "nodes", "iteration", "attempt"}) | SHARED_NAMES
"""Names that every expression of a node knows."""
ITEM_NAMES = frozenset({"item", "index"})
REDUCE_NAMES = frozenset({"acc", "value"})
"""Names that the expressions of a map's items know beside them."""
_PLAIN = Policy()
_NOBODY: Mapping[str, Defined] = {}


class Checked(msgspec.Struct):
    """A checked diagram: its faults, and what `compile` needs of it.

    `specs` are the types' structs by node id, `children` the checked sub-diagrams, `ports` what arrows may
    use; nodes with faults are missing in them. `structure` is None when arrows without ends made it
    meaningless.
    """

    spec: DiagramSpec
    specs: dict[NodeID, Any] = {}
    children: dict[NodeID, Checked] = {}
    inline: dict[NodeID, Mapping[str, Any]] = {}  # the sub-diagrams that stand in this diagram's text
    ports: dict[NodeID, Ports] = {}
    sources: dict[NodeID, tuple[str, ...]] = {}  # the texts that each node's fingerprint must change with
    bound: dict[int, tuple[dict[str, Any], ...]] = {}  # the transforms of arrows that name code, by place
    persons: dict[NodeID, Defined] = {}  # whom the nodes name
    policies: dict[NodeID, Policy] = {}  # of those who ask a person and don't say how often
    outer: dict[str, Defined | None] = {}  # the persons that it looks for in the diagrams around it
    structure: Structure | None = None
    faults: tuple[Fault, ...] = ()  # errors first

    @property
    def errors(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if not fault.warning)

    @property
    def warnings(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.warning)

    def raise_if_invalid(self) -> None:
        """Raise InvalidDiagram with every error, if there is any; warnings don't count."""
        if self.errors:
            raise InvalidDiagram(self.errors)


def check(spec: DiagramSpec, types: NodeTypes, *, config: TreadleConfig = DEFAULT_CONFIG) -> Checked:
    """Check a diagram and the sub-diagrams in it. Reads the files that they name; never raises for a bad
    diagram."""
    home = os.path.abspath(spec.where.file) if spec.where and spec.where.file else None
    return _Check(spec, types, config, (home,) if home else (), {}).run()


def check_file(path: str | Path, types: NodeTypes, *, config: TreadleConfig = DEFAULT_CONFIG) -> Checked:
    """Read and check a file; the faults of both together. Raises OSError if it can't be read."""
    return _check_file(str(path), types, config, (), {})


def _check_file(path: str, types: NodeTypes, config: TreadleConfig, around: tuple[str, ...],
                known: dict[str, list[Checked]], persons: Mapping[str, Defined] = _NOBODY) -> Checked:
    home = os.path.abspath(path)
    try:
        text = read_text(path, config=config)
    except InvalidDiagram as error:
        return Checked(DiagramSpec(), faults=error.faults)
    format_: Format = "json" if path.lower().endswith(".json") else "yaml"
    spec, faults = read(text, file=path, base=os.path.dirname(path) or ".", format=format_, config=config)
    if spec is None:
        return Checked(DiagramSpec(), faults=tuple(faults))
    checked = _Check(spec, types, config, (*around, home), known, persons).run()
    checked.faults = _in_order([*faults, *checked.faults])
    return checked


def _in_order(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """Errors first, then by file as they came, then by line."""
    files: dict[str, int] = {}
    places = [fault.where or Where() for fault in faults]
    for place in places:
        files.setdefault(place.file, len(files))
    rows = [
        (fault.warning, files[place.file], place.line, i)
        for i, (fault, place) in enumerate(zip(faults, places, strict=True))
    ]
    return tuple(faults[row[-1]] for row in sorted(rows))


class _Check:
    def __init__(self, spec: DiagramSpec, types: NodeTypes, config: TreadleConfig, around: tuple[str, ...],
                 known: dict[str, list[Checked]], persons: Mapping[str, Defined] = _NOBODY) -> None:
        self.spec, self.types, self.config = spec, types, config
        self.around = around  # the files that this diagram is in, outermost first
        self.known = known  # sub-diagram files that are checked already, each among other persons
        self.cast = Cast(spec, types, config, persons)
        self.ids = {node.id: node for node in spec.nodes}
        self.exposed = {name for node in spec.nodes
                        if isinstance(name := node.properties.get("expose_index_as"), str)}
        self.surroundings = {key for node in spec.nodes if spec.open and node.type == "start"
                             if isinstance(said := node.properties.get("custom_data"), Mapping)
                             for key in said} | self.exposed
        self.into: dict[str, list[Arrow]] = {node.id: [] for node in spec.nodes}
        for arrow in spec.arrows:
            if arrow.target in self.into:
                self.into[arrow.target].append(arrow)
        self.faults: list[Fault] = []
        self.secret = not spec.source or SECRET in spec.source  # whether a node may name one
        self.specs: dict[tuple[type, bytes], Any] = {}  # equal nodes share one struct: there may be thousands
        self.checked = Checked(spec, specs={}, children={}, inline={}, ports={}, sources={},
                               persons=self.cast.bound, policies={}, outer=self.cast.outer)

    def run(self) -> Checked:
        self.whole()
        for node in self.spec.nodes:
            self.node(node)
        self.faults += self.cast.faults()
        ends_exist = self.arrows()
        if ends_exist:
            self.checked.structure, faults = route_faults(self.spec, self.checked.ports)
            self.faults += faults
        self.checked.faults = _in_order(self.faults)
        return self.checked

    def fault(self, message: str, node: Node | None = None, *, at: str = "", where: Where | None = None,
              hint: str | None = None, warning: bool = False) -> None:
        """Note a fault; `at` is the path of a property, whose place is sought from the whole path upwards."""
        if where is None and node is not None:
            where = _place(node, at)
        self.faults.append(
            Fault(message, node=node.id if node else None, where=where, hint=hint, warning=warning)
        )

    # the whole

    def whole(self) -> None:
        spec = self.spec
        if not spec.nodes:
            self.fault("the diagram has no nodes", where=spec.where)
        if spec.deadline is not None and not (math.isfinite(spec.deadline) and spec.deadline > 0):
            self.fault(f"deadline must be more than 0 seconds, not {spec.deadline}", where=spec.where)
        for name, text in spec.environment_vars.items():
            if broken(text):
                self.fault(f"environment_vars.{name}: {ALONE}", where=spec.where,
                           hint="let the secret be all of the variable, and put it together where it is used")
        schemes: Collection[str] = getattr(self.types, "secret_schemes", ())
        if schemes and spec.secret_store and (hint := unknown_store(spec.secret_store, schemes)):
            # A warning: `--secret-store` may go before it.
            self.fault(f"secret_store: there is no store of secrets {spec.secret_store!r}", where=spec.where,
                       hint=hint, warning=True)
        seen: set[str] = set()
        for node in spec.nodes:
            if node.id in seen:
                self.fault("a second node has this id", node)
            elif not is_node_id(node.id):
                self.fault(
                    "an id is letters, digits, '_', '-' and spaces", node, hint="ids.escape_label makes one"
                )
            seen.add(node.id)
        for name, one in spec.inputs.items():
            if one.type not in INPUT_TYPES:
                self.fault(f"input {name!r}: {one.type!r} is no type of input", where=spec.where,
                           hint=did_you_mean(one.type, INPUT_TYPES))
            elif one.default is not msgspec.UNSET and not fits(one.default, one.type):
                self.fault(f"input {name!r}: the default is not of type {one.type}", where=spec.where)
        for loop in spec.loops:
            if loop.entry not in self.ids:
                self.fault(f"loops: there is no node {loop.entry!r}", where=loop.where,
                           hint=did_you_mean(loop.entry, self.ids))
            if loop.max_iterations < 1:
                self.fault(
                    f"loops: max_iterations must be at least 1, not {loop.max_iterations}", where=loop.where
                )

    # one node

    def node(self, node: Node) -> None:
        if node.policy != _PLAIN or node.policy.cache is not False:  # which 0 is equal to
            for message, at, warning in policy_faults(node.policy):
                self.fault(message, node, at=at, warning=warning)
        kind = self.types.get(node.type)
        if kind is None:
            if node.type:
                known = sorted(self.types.names())
                self.fault(f"there is no node type {node.type!r}", node, at="type",
                           hint=did_you_mean(node.type, known) or f"there is: {', '.join(known)}")
            return
        spec, wrong = self.converted(node, kind.properties)
        for one in wrong:
            place = f"{one.path}: " if one.path and not one.message.startswith("unknown property") else ""
            self.fault(f"{place}{one.message}", node, at=one.path, hint=one.hint)
        self.texts(node, kind)
        allowed: Sequence[str] | None = getattr(kind, "secrets", None)  # None: the type's own affair
        if allowed is not None and self.secret:
            for stray in misplaced(node.properties, allowed):
                self.fault(stray.message, node, at=stray.at, hint=stray.hint, warning=stray.warning)
        if spec is None:
            return
        self.checked.specs[node.id] = spec
        if node.id in self.cast.bound:
            self.checked.policies[node.id] = patient(node)
        try:
            ports = kind.ports(spec, node, self.spec.base)
            child = kind.child(spec, node, self.spec.base)
            sources = tuple(kind.sources(spec, node, self.spec.base))
        except (ValueError, OSError) as error:
            self.fault(str(error), node, at=getattr(error, "at", ""))
            return
        self.checked.ports[node.id] = ports
        for doubt in ports.doubts:
            self.fault(doubt.message, node, at=doubt.at, hint=doubt.hint, warning=True)
        if node.id in self.spec.functions and "call" not in node.properties:
            # What can't be imported is known here only; for the rest its type answers, as after a reload.
            sources = (*sources, source_of(self.spec.functions[node.id]))
        if (person := self.cast.bound.get(node.id)) is not None:
            sources = (*sources, self.cast.source(person))
        self.checked.sources[node.id] = sources
        if node.policy.cache and (found := shared(node.properties, sources)):
            self.fault(f"its code uses {found}, and its result is kept by its inputs alone", node, at="cache",
                       hint="where a kept result is used it reads and writes nothing", warning=True)
        if node.policy.for_each is not None and (ports.chooses or not ports.maps):
            self.fault(f"a node of type {node.type!r} can't have for_each", node, at="for_each",
                       hint="put it into a sub_diagram and give that for_each")
        self.needed(node, ports)
        if child is not None:
            if node.policy.cache:
                self.fault("cache means nothing for what runs nodes of its own: give it to those", node,
                           at="cache", warning=True)
            self.child(node, child)
            self.child_inputs(node, getattr(spec, "inputs", None))

    def converted(self, node: Node, properties: type[msgspec.Struct]) -> tuple[Any, list[Mismatch]]:
        """A node's properties as its type's struct, and what is wrong with them."""
        try:
            key = (properties, marshal.dumps(node.properties, 2))  # exact in types, unlike repr and JSON
        except ValueError:
            return convert_struct(node.properties, properties, NODE_KEYS)
        if key in self.specs:
            return self.specs[key], []
        spec, wrong = convert_struct(node.properties, properties, NODE_KEYS)
        if not wrong:
            self.specs[key] = spec
        return spec, wrong

    def needed(self, node: Node, ports: Ports) -> None:
        """Required inputs that nothing brings. An unlabelled arrow or a map's item may bring any one of
        them."""
        if not ports.required:
            return
        arrows = self.into[node.id]
        brought = {arrow.input for arrow in arrows} | {
            arrow.source for arrow in arrows if arrow.input == DEFAULT
        }
        missing = [name for name in ports.required if name not in brought | self.surroundings]
        spare = sum(
            arrow.input in (DEFAULT, FIRST) and arrow.source not in ports.required for arrow in arrows
        )
        spare += node.policy.for_each is not None
        for name in missing[spare:]:
            self.fault(f"nothing brings its input {name!r}", node,
                       hint=f"draw an arrow to it: … -> {node.id}.{name}", warning=self.spec.open)

    def texts(self, node: Node, kind: NodeType) -> None:
        """Compile every expression and template, and look at the names in them."""
        found = list(texts_of(node.properties, kind.properties, ""))
        if not found and node.policy.for_each is None:
            return
        known = NAMES | {one.input for one in self.into[node.id] if not stands_in(one.input, one.first)}
        known |= {arrow.source for arrow in self.into[node.id]}
        if node.policy.for_each is not None:
            self.text(node, Expression.kind, node.policy.for_each, "for_each", known)
            known |= ITEM_NAMES
            if node.policy.reduce is not None:
                self.text(node, Expression.kind, node.policy.reduce, "reduce", known | REDUCE_NAMES)
        for what, text, at in found:
            if what == PERSON:
                self.person(node, text, at)
            else:
                self.text(node, what, text, at, known)

    def person(self, node: Node, said: Any, at: str) -> None:
        """Whom a node names, or says in place."""
        if isinstance(said, str):
            if (person := self.cast.find(said)) is None:
                self.fault(f"{at}: there is no person {said!r}", node, at=at, hint=self.cast.hint(said))
        else:
            person, wrong = self.cast.inline(said, node.id)
            for path, message, hint, warning in wrong:
                self.fault(f"{at}: {message}", node, at=f"{at}.{path}", hint=hint, warning=warning)
        if person is not None:
            self.cast.bound.setdefault(node.id, person)

    def text(self, node: Node, what: str, text: str, at: str, known: frozenset[str]) -> None:
        compiled: Expression | Template
        try:
            if what == Expression.kind:
                compiled = Expression.compile(text, config=self.config)
            else:
                compiled = Template.compile(text, base=self.spec.base, config=self.config)
        except (ExpressionError, LimitExceeded) as error:
            self.fault(f"{at}: {error}", node, at=at)
            return
        # What an open diagram is given, and what keys an unlabelled map has, only the execution knows.
        for name in sorted(compiled.names - known - self.exposed) if not self.spec.open else ():
            self.fault(f"{at}: unknown name {name!r}", node, at=at, hint=self.name_hint(node, name, known))
        sources = {arrow.source for arrow in self.into[node.id]}
        shared = sorted(compiled.names & SHARED_NAMES - sources - {one.input for one in self.into[node.id]})
        if node.policy.cache and shared:
            self.fault(f"{at}: it sees '{shared[0]}', which may change, and its result is kept by its inputs "
                       "alone", node, at=at, hint="give what it needs along an arrow, or leave cache out",
                       warning=True)
        for owner, there in (("inputs", self.spec.inputs), ("nodes", sources)):
            if owner == "inputs" and self.spec.open:
                continue
            for name in sorted(
                compiled.attributes.get(owner, frozenset()) - set(there) - {"get", "items", "keys"}
            ):
                listed = ", ".join(sorted(there)) or "none"
                self.fault(f"{at}: unknown name '{owner}.{name}'", node, at=at,
                           hint=did_you_mean(name, there) or f"there is: {listed}")

    def name_hint(self, node: Node, name: str, known: frozenset[str]) -> str:
        if name in self.spec.inputs:
            return f"an input of the execution is 'inputs.{name}'"
        if name in ITEM_NAMES:
            return "only a node with for_each has it"
        if name in self.ids:
            return f"node {name!r} has no arrow to here: {name} -> {node.id}"
        return did_you_mean(name, known) or f"there is: {', '.join(sorted(known))}"

    def child(self, node: Node, child: Mapping[str, Any] | str) -> None:
        if len(self.around) >= self.config.depth_max:
            what = "too many sub-diagrams inside one another"
            self.fault(str(self.config.exceeded("depth_max", what)), node)
            return
        if isinstance(child, Mapping):
            where = _place(node, "diagram")
            file = where.file if where else ""
            spec, faults = from_map(child, where=where or Where(), base=self.spec.base, name=node.id)
            around = (*self.around, f"{file}#{node.id}")
            if spec is None:
                checked = Checked(DiagramSpec(), faults=tuple(faults))
            else:
                checked = _Check(spec, self.types, self.config, around, self.known, self.cast.inner).run()
                checked.faults = (*faults, *checked.faults)
            self.faults += checked.faults
            self.checked.inline[node.id] = child
            self.include(node, checked)
            return
        path = os.path.normpath(os.path.join(self.spec.base, child))
        home = os.path.abspath(path)
        if home in self.around:
            chain = [os.path.basename(one) for one in self.around[self.around.index(home):]]
            told = " → ".join([*chain, os.path.basename(home)])
            self.fault(f"the diagram runs itself: {told}", node, at="diagram")
            return
        known = next((one for one in self.known.get(home, ()) if all(
            self.cast.inner.get(name) == person for name, person in one.outer.items())), None)
        if known is None:
            try:
                known = _check_file(path, self.types, self.config, self.around, self.known, self.cast.inner)
            except OSError as error:
                self.fault(f"diagram {child!r} can't be read: {error.strerror or error}", node, at="diagram")
                return
            self.known.setdefault(home, []).append(known)
            self.faults += known.faults  # once, however many nodes run it
        self.include(node, known)

    def include(self, node: Node, checked: Checked) -> None:
        self.checked.children[node.id] = checked
        self.cast.inside(checked.outer)

    def child_inputs(self, node: Node, mapping: Mapping[str, Any] | None) -> None:
        """Required inputs of a sub-diagram that nothing gives. The keys of an unlabelled value, or of an
        item, are known only when it runs."""
        child = self.checked.children.get(node.id)
        arrows = self.into[node.id]
        open_ended = node.policy.for_each is not None or any(one.input in (DEFAULT, FIRST) for one in arrows)
        if child is None or (open_ended and not mapping):
            return
        given = mapping or [arrow.input for arrow in arrows]
        for name, one in child.spec.inputs.items():
            if one.required and name not in given:
                near = get_close_matches(name, given, 1)
                self.fault(f"its diagram needs the input {name!r}", node, at="inputs",
                           hint=f"rename {near[0]!r}" if near else f"write: inputs: {{{name}: …}}")

    # arrows

    def on_the_way(self, place: int, arrow: Arrow) -> None:
        """What an arrow does to its value. The code that it names counts as its target's."""
        if arrow.transform:
            wrong = list(self.types.transforms.faults(arrow.transform))
            for message, hint in wrong:
                self.fault(f"arrow '{arrow}': {message}", where=arrow.where, hint=hint)
            if not wrong:
                try:
                    rules, texts = self.types.transforms.bound(arrow.transform, self.spec.base)
                except (ValueError, OSError) as error:
                    self.fault(f"arrow '{arrow}': {error}", where=arrow.where)
                else:
                    if texts:
                        self.checked.bound[place] = rules
                        own = self.checked.sources.get(arrow.target, ())
                        self.checked.sources[arrow.target] = (*own, *texts)
        if arrow.content_type is not None and arrow.content_type not in (known := self.types.content_types()):
            self.fault(f"arrow '{arrow}': unknown content type {arrow.content_type!r}", where=arrow.where,
                       hint=did_you_mean(arrow.content_type, known) or f"there is: {', '.join(known)}")

    def arrows(self) -> bool:
        """Look at each arrow by itself; gives whether both ends of all of them exist."""
        whole = True
        drawn: dict[tuple[str, str, str, str], Arrow] = {}
        for place, arrow in enumerate(self.spec.arrows):
            self.on_the_way(place, arrow)
            for end in (arrow.source, arrow.target):
                if end not in self.ids:
                    whole = False
                    self.fault(f"arrow '{arrow}': there is no node {end!r}", where=arrow.where,
                               hint=did_you_mean(end, self.ids))
            key = (arrow.source, arrow.port, arrow.target, arrow.input)
            first = drawn.setdefault(key, arrow)
            if first is not arrow:
                line = (
                    f"the first is in line {first.where.line}" if first.where and first.where.line else None
                )
                self.fault(f"arrow '{arrow}' is drawn a second time", where=arrow.where, hint=line)
            self.port(arrow)
            self.input(arrow)
        return whole

    def port(self, arrow: Arrow) -> None:
        ports = self.checked.ports.get(arrow.source)
        if ports is None or ports.outputs is None or arrow.port in ports.outputs or arrow.port == ERROR:
            return
        known = [*ports.outputs, ERROR]
        self.fault(f"arrow '{arrow}': node {arrow.source!r} has no port {arrow.port!r}", where=arrow.where,
                   hint=did_you_mean(arrow.port, known) or f"there is: {', '.join(known)}")

    def input(self, arrow: Arrow) -> None:
        ports = self.checked.ports.get(arrow.target)
        if ports is None or stands_in(arrow.input, arrow.first):
            return
        if arrow.input == DEFAULT:
            if not ports.accepts_default:
                named = f"name one: {', '.join(ports.inputs)}" if ports.inputs else "it has no inputs"
                self.fault(
                    f"arrow '{arrow}': node {arrow.target!r} takes no unlabelled input",
                    where=arrow.where,
                    hint=named,
                )
        elif ports.inputs is not None and arrow.input not in ports.inputs:
            hint = did_you_mean(arrow.input, ports.inputs) or f"there is: {', '.join(ports.inputs) or 'none'}"
            self.fault(
                f"arrow '{arrow}': node {arrow.target!r} has no input {arrow.input!r}",
                where=arrow.where,
                hint=hint,
            )


def _place(node: Node, at: str) -> Where | None:
    while at:
        if at in node.places:
            return node.places[at]
        at = at[:max(at.rfind("."), at.rfind("["), 0)]
    return node.where
