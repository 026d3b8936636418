"""Check a diagram node by node and arrow by arrow, and the sub-diagrams in it."""

from __future__ import annotations

import marshal
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.check.routes import route_faults
from treadle.diagram.check.secrets import ALONE, SECRET, broken, misplaced, unknown_store
from treadle.diagram.check.texts import texts_of
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.expression import Expression, Template
from treadle.diagram.fingerprint import source_of
from treadle.diagram.formats import Format, from_map, read, read_text
from treadle.diagram.formats.reading import INPUT_TYPES, NODE_KEYS, fits
from treadle.diagram.formats.values import Mismatch, convert_struct
from treadle.diagram.loops import Structure
from treadle.diagram.node import DEFAULT, ERROR, FIRST, Arrow, Node
from treadle.diagram.policy import OnItemError, Policy
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


_SHARING = re.compile(r"\bcontext\.(?:artifacts|variables|plugin|snapshot|transaction|update)\b")
_SHARED = re.compile(r"(?<![\w.])(?:artifacts|variables)\b")


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


def _shared(node: Node, sources: Sequence[str]) -> str | None:
    """What of the shared context a node's code names."""
    found = next(filter(None, map(_SHARING.search, sources)), None)
    if found is None and "code" in node.properties:
        found = next(filter(None, map(_SHARED.search, sources)), None)
    return None if found is None else found[0]


def check(spec: DiagramSpec, types: NodeTypes, *, config: TreadleConfig = DEFAULT_CONFIG) -> Checked:
    """Check a diagram and the sub-diagrams in it. Reads the files that they name; never raises for a bad
    diagram."""
    home = os.path.abspath(spec.where.file) if spec.where and spec.where.file else None
    return _Check(spec, types, config, (home,) if home else (), {}).run()


def check_file(path: str | Path, types: NodeTypes, *, config: TreadleConfig = DEFAULT_CONFIG) -> Checked:
    """Read and check a file; the faults of both together. Raises OSError if it can't be read."""
    return _check_file(str(path), types, config, (), {})


def _check_file(path: str, types: NodeTypes, config: TreadleConfig, around: tuple[str, ...],
                known: dict[str, Checked]) -> Checked:
    home = os.path.abspath(path)
    try:
        text = read_text(path, config=config)
    except InvalidDiagram as error:
        return Checked(DiagramSpec(), faults=error.faults)
    format_: Format = "json" if path.lower().endswith(".json") else "yaml"
    spec, faults = read(text, file=path, base=os.path.dirname(path) or ".", format=format_, config=config)
    if spec is None:
        return Checked(DiagramSpec(), faults=tuple(faults))
    checked = _Check(spec, types, config, (*around, home), known).run()
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
                 known: dict[str, Checked]) -> None:
        self.spec, self.types, self.config = spec, types, config
        self.around = around  # the files that this diagram is in, outermost first
        self.known = known  # sub-diagram files that are checked already
        self.ids = {node.id: node for node in spec.nodes}
        self.into: dict[str, list[Arrow]] = {node.id: [] for node in spec.nodes}
        for arrow in spec.arrows:
            if arrow.target in self.into:
                self.into[arrow.target].append(arrow)
        self.faults: list[Fault] = []
        self.secret = not spec.source or SECRET in spec.source  # whether a node may name one
        self.specs: dict[tuple[type, bytes], Any] = {}  # equal nodes share one struct: there may be thousands
        self.checked = Checked(spec, specs={}, children={}, inline={}, ports={}, sources={})

    def run(self) -> Checked:
        self.whole()
        for node in self.spec.nodes:
            self.node(node)
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
        self.policy(node)
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
        try:
            ports = kind.ports(spec, node, self.spec.base)
            child = kind.child(spec, node, self.spec.base)
            sources = tuple(kind.sources(spec, node, self.spec.base))
        except (ValueError, OSError) as error:
            self.fault(str(error), node, at=getattr(error, "at", ""))
            return
        self.checked.ports[node.id] = ports
        if node.id in self.spec.functions and "call" not in node.properties:
            # What can't be imported is known here only; for the rest its type answers, as after a reload.
            sources = (*sources, source_of(self.spec.functions[node.id]))
        self.checked.sources[node.id] = sources
        if node.policy.cache and (found := _shared(node, sources)):
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

    def policy(self, node: Node) -> None:
        policy, backoff = node.policy, node.policy.backoff
        if policy == _PLAIN and policy.cache is False:  # not 0, which is equal
            return
        for key, value, least in (
                ("retries", policy.retries, 0), ("concurrency", policy.concurrency, 1),
                ("backoff.initial", backoff.initial, 0), ("backoff.factor", backoff.factor, 1),
                ("backoff.max", backoff.max, 0), ("backoff.jitter", backoff.jitter, 0)):
            if value is not None and not (value >= least and math.isfinite(value)):
                self.fault(f"{key} must be at least {least}, not {value}", node, at=key)
        if backoff.initial > backoff.max:
            self.fault(f"backoff.initial of {backoff.initial:g} s is cut to backoff.max, {backoff.max:g} s: "
                       "say a larger max", node, at="backoff.initial", warning=True)
        if backoff.jitter > 1:
            self.fault(f"backoff.jitter must be at most 1, not {backoff.jitter}", node, at="backoff.jitter")
        if policy.timeout is not None and not (policy.timeout > 0 and math.isfinite(policy.timeout)):
            self.fault(f"timeout must be more than 0 seconds, not {policy.timeout}", node, at="timeout")
        if policy.cache is not True and policy.cache is not False and not (
                policy.cache > 0 and math.isfinite(policy.cache)):
            self.fault(f"cache must be true, or more than 0 seconds, not {policy.cache}", node, at="cache")
        if policy.for_each is None:
            for key, said in (("concurrency", policy.concurrency is not None),
                              ("on_item_error", policy.on_item_error is not OnItemError.FAIL),
                              ("reduce", policy.reduce is not None)):
                if said:
                    self.fault(f"{key} means nothing without for_each", node, at=key, warning=True)
        if policy.reduce is None and policy.initial is not None:
            self.fault("initial means nothing without reduce", node, at="initial", warning=True)

    def needed(self, node: Node, ports: Ports) -> None:
        """Required inputs that nothing brings. An unlabelled arrow or a map's item may bring any one of
        them."""
        if not ports.required:
            return
        arrows = self.into[node.id]
        brought = {arrow.input for arrow in arrows} | {
            arrow.source for arrow in arrows if arrow.input == DEFAULT
        }
        missing = [name for name in ports.required if name not in brought]
        spare = sum(
            arrow.input in (DEFAULT, FIRST) and arrow.source not in ports.required for arrow in arrows
        )
        spare += node.policy.for_each is not None
        for name in missing[spare:]:
            self.fault(f"nothing brings its input {name!r}", node,
                       hint=f"draw an arrow to it: … -> {node.id}.{name}")

    def texts(self, node: Node, kind: NodeType) -> None:
        """Compile every expression and template, and look at the names in them."""
        found = list(texts_of(node.properties, kind.properties, ""))
        if not found and node.policy.for_each is None:
            return
        known = NAMES | {arrow.input for arrow in self.into[node.id]} - {FIRST}
        known |= {arrow.source for arrow in self.into[node.id]}
        if node.policy.for_each is not None:
            self.text(node, Expression.kind, node.policy.for_each, "for_each", known)
            known |= ITEM_NAMES
            if node.policy.reduce is not None:
                self.text(node, Expression.kind, node.policy.reduce, "reduce", known | REDUCE_NAMES)
        for what, text, at in found:
            self.text(node, what, text, at, known)

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
        for name in sorted(compiled.names - known):
            self.fault(f"{at}: unknown name {name!r}", node, at=at, hint=self.name_hint(node, name, known))
        sources = {arrow.source for arrow in self.into[node.id]}
        shared = sorted(compiled.names & SHARED_NAMES - sources - {one.input for one in self.into[node.id]})
        if node.policy.cache and shared:
            self.fault(f"{at}: it sees '{shared[0]}', which may change, and its result is kept by its inputs "
                       "alone", node, at=at, hint="give what it needs along an arrow, or leave cache out",
                       warning=True)
        for owner, there in (("inputs", self.spec.inputs), ("nodes", sources)):
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
            self.fault(
                str(self.config.exceeded("depth_max", "too many sub-diagrams inside one another")), node
            )
            return
        if isinstance(child, Mapping):
            where = _place(node, "diagram")
            file = where.file if where else ""
            spec, faults = from_map(child, where=where or Where(), base=self.spec.base, name=node.id)
            around = (*self.around, f"{file}#{node.id}")
            if spec is None:
                checked = Checked(DiagramSpec(), faults=tuple(faults))
            else:
                checked = _Check(spec, self.types, self.config, around, self.known).run()
                checked.faults = (*faults, *checked.faults)
            self.faults += checked.faults
            self.checked.inline[node.id] = child
            self.checked.children[node.id] = checked
            return
        path = os.path.normpath(os.path.join(self.spec.base, child))
        home = os.path.abspath(path)
        if home in self.around:
            chain = [os.path.basename(one) for one in self.around[self.around.index(home):]]
            self.fault(
                f"the diagram runs itself: {' → '.join([*chain, os.path.basename(home)])}",
                node,
                at="diagram",
            )
            return
        if home not in self.known:
            try:
                self.known[home] = _check_file(path, self.types, self.config, self.around, self.known)
            except OSError as error:
                self.fault(f"diagram {child!r} can't be read: {error.strerror or error}", node, at="diagram")
                return
            self.faults += self.known[home].faults  # once, however many nodes run it
        self.checked.children[node.id] = self.known[home]

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
        if ports is None or arrow.input == FIRST:
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
