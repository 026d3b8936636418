"""Diagrams as a page draws them: nodes, arrows and groups as plain data."""

from __future__ import annotations

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

import msgspec

from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.diagram.node import DEFAULT, Arrow, Node
from treadle.diagram.policy import Policy
from treadle.engine.edited import types_for
from treadle.engine.looking import outlined, spec_of
from treadle.engine.plan import static
from treadle.engine.prepared import Diagrams
from treadle.engine.replay import node_at
from treadle.engine.showing import plain
from treadle.engine.sources import Source, compile_stored
from treadle.errors import Fault, InvalidDiagram, TreadleError
from treadle.monitor.views import as_json
from treadle.nodes.registry import NodeRegistry
from treadle.store.base import Store, Summary

DRAWINGS_MAX, SIZES_MAX = 100, 10_000
"""Diagrams that stay in memory, and those whose numbers of nodes do."""
ENCODED_BYTES_MAX = 64 * 1024 * 1024
"""What diagrams take that stay in memory as they are sent: one of 10,000 nodes has 2 MB."""
QUICK_S, REST = 0.1, 20.0
"""A diagram that takes longer to compile stays as it is for so many times as long."""
DEPTH_MAX = 32
"""Sub-diagrams inside one another that are drawn."""
FOLDERS_MAX = 100
"""Folders whose plugins are known."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """A place in a diagram's file; `line` counts from 1, 0 is unknown."""

    file: str
    line: int = 0


class DrawnInput(msgspec.Struct, frozen=True):
    """An input of an execution. `default` is missing if it is required."""

    type: str
    required: bool
    default: Any = msgspec.UNSET
    description: str = ""


class DrawnNode(msgspec.Struct, frozen=True, gc=False):
    """A node. `group` is the id of the group that it opens to (its own id), for a map or a sub-diagram;
    `loop` is the innermost loop that it is in. `properties` are its own and its policy's, as its file says
    them."""

    id: str
    type: str
    label: str
    group: str | None = None
    loop: str | None = None
    properties: dict[str, Any] = {}
    source: Place | None = None


class DrawnArrow(msgspec.Struct, frozen=True, gc=False):
    """An arrow. `back`: it begins the next turn of a loop. `label` is what stands on it: port and input,
    where they are not the default ones."""

    source: str
    port: str
    target: str
    input: str
    label: str = ""
    back: bool = False


class DrawnGroup(msgspec.Struct, frozen=True):
    """A map (`drawn` if each item is a sub-diagram), a sub-diagram (`drawn`), or a loop (`nodes`: the ids of
    what is in it)."""

    id: str
    kind: Literal["map", "sub", "loop"]
    nodes: list[str] = []
    drawn: Drawn | None = None


class DrawnFault(msgspec.Struct, frozen=True):
    """Something that is wrong with a diagram, and what to do."""

    severity: Literal["error", "warning"]
    message: str
    file: str = ""
    line: int = 0
    node: str | None = None
    hint: str | None = None


class Drawn(msgspec.Struct, frozen=True):
    """A diagram to draw. `hash` is its key in the store, "" for one that was not started."""

    name: str
    hash: str = ""
    description: str = ""
    inputs: dict[str, DrawnInput] = {}
    nodes: list[DrawnNode] = []
    arrows: list[DrawnArrow] = []
    groups: list[DrawnGroup] = []
    faults: list[DrawnFault] = []


def fault(one: Fault) -> DrawnFault:
    """A fault as the page shows it."""
    where = one.where
    return DrawnFault("warning" if one.warning else "error", one.message, where.file if where else "",
                      where.line if where else 0, one.node, one.hint)


def other_plugins(faults: Iterable[Fault]) -> str | None:
    """What to do about a diagram that is wrong here, and may be right in its own folder: an engine has the
    plugins of one."""
    from treadle.hooks.finding.discovery import FOLDER

    for one in faults:
        place = Path(one.where.file).parent if one.where and one.where.file else Path()
        if not one.warning and (place / FOLDER).is_dir() and not place.samefile(Path()):
            return (f"{place} has plugins of its own, and this server runs with those of {Path.cwd()}: if "
                    "the diagram needs them, start a server there")
    return None


def drawn(spec: DiagramSpec, compiled: ExecutableDiagram | None, *, digest: str = "",
          faults: Iterable[Fault] = (), depth: int = 0) -> Drawn:
    """A diagram to draw. Without its compiled form sub-diagrams can't be opened."""
    loops: list[tuple[str, list[str]]] = []
    loop_of: dict[str, str] = {}
    back: set[int] = set()
    if compiled is not None:
        loops = [(compiled.nodes[one.head].id, [compiled.nodes[m].id for m in one.members])
                 for one in compiled.loops]
        loop_of = {node.id: loops[loop][0]
                   for node, loop in zip(compiled.nodes, compiled.loop_of, strict=True) if loop >= 0}
        drawn_back = {id(arrow.drawn) for arrow in compiled.arrows if arrow.back_of >= 0}
        texts = {str(arrow.drawn) for arrow in compiled.arrows if id(arrow.drawn) in drawn_back}
        back = {k for k, arrow in enumerate(spec.arrows) if str(arrow) in texts}
    children = {} if compiled is None else {str(node.id): node for node in compiled.nodes}
    groups = [DrawnGroup(head, "loop", members) for head, members in loops]
    nodes = []
    for one in spec.nodes:
        made = children.get(str(one.id))
        child = None if made is None or depth >= DEPTH_MAX else made.child
        is_map = one.policy.for_each is not None
        opens = is_map or child is not None
        if opens:
            inner = None if child is None else drawn(child.spec, child, depth=depth + 1)
            groups.append(DrawnGroup(one.id, "map" if is_map else "sub", [], inner))
        nodes.append(_node(one, opens=opens, loop=loop_of.get(one.id)))
    arrows = [_arrow(one, back=k in back) for k, one in enumerate(spec.arrows)]
    return Drawn(spec.name, digest, spec.description, inputs_of(spec), nodes, arrows, groups,
                 list(map(fault, faults)))


def inputs_of(spec: DiagramSpec) -> dict[str, DrawnInput]:
    """What an execution is given."""
    return {name: DrawnInput(one.type, one.required, one.default if one.required else plain(one.default),
                             one.description) for name, one in spec.inputs.items()}


def _node(one: Node, *, opens: bool, loop: str | None) -> DrawnNode:
    policy = {} if one.policy == _PLAIN else {
        name: value for name, value in msgspec.to_builtins(one.policy).items() if value != _POLICY.get(name)}
    where = None if one.where is None or not one.where.file else Place(one.where.file, one.where.line)
    return DrawnNode(one.id, one.type, one.label or one.id, one.id if opens else None, loop,
                     {**plain(one.properties), **(plain(policy) if policy else {})}, where)


def _arrow(one: Arrow, *, back: bool) -> DrawnArrow:
    said = [text for text in (one.port, one.input) if text != DEFAULT]
    return DrawnArrow(one.source, one.port, one.target, one.input, " → ".join(said), back)


_PLAIN = Policy()
_POLICY: Mapping[str, Any] = msgspec.to_builtins(_PLAIN)


@functools.lru_cache(maxsize=FOLDERS_MAX)
def types_in(folder: Path) -> NodeRegistry:
    """The types of nodes for diagrams of a folder. Plugins that change there are for the next server."""
    return types_for(folder)


class Known(msgspec.Struct, frozen=True):
    """What is known of a stored diagram. `compiled` is None where it can't be, and has no fingerprints where
    nothing was imported for it."""

    spec: DiagramSpec
    compiled: ExecutableDiagram | None
    faults: tuple[Fault, ...]
    hash: str

    def type_of(self, path: str) -> str:
        """The type of the node at a path; "" if the diagram has none there (any more)."""
        node = self.node(path)
        return "" if node is None else node.type

    def around(self, path: str) -> tuple[list[str], list[str]]:
        """The paths of the nodes right before and right after one, in its own diagram."""
        prefix, slash, name = path.rpartition("/")
        name, spec = static(name), self._spec_at(prefix)
        if spec is None:
            return [], []
        before = [f"{prefix}{slash}{one.source}" for one in spec.arrows if one.target == name]
        after = [f"{prefix}{slash}{one.target}" for one in spec.arrows if one.source == name]
        return list(dict.fromkeys(before)), list(dict.fromkeys(after))

    def node(self, path: str) -> Node | None:
        """The node at a path as it was drawn."""
        prefix, _, name = static(path).rpartition("/")
        spec = self._spec_at(prefix)
        return None if spec is None else next((one for one in spec.nodes if one.id == name), None)

    def _spec_at(self, path: str) -> DiagramSpec | None:
        """The diagram inside of the node at a path, or the whole ("")."""
        if not path:
            return self.spec
        owner = None if self.compiled is None else node_at(self.compiled, static(path))
        return None if owner is None or owner.child is None else owner.child.spec


class _Turn:
    """Held by the one who reads a diagram; the others wait."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Drawings:
    """Stored diagrams at hand. Its methods are called by threads. `ours` are those that this process's engine
    has compiled. Without it nothing is imported that a diagram names."""

    def __init__(self, ours: Diagrams | None = None) -> None:
        self._ours = ours  # without an engine no code is loaded, whatever is asked
        self._reading: WeakValueDictionary[str, _Turn] = WeakValueDictionary()
        self._known: OrderedDict[tuple[str, bool], tuple[Known | None, float]] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._encoded: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, store: Store, digest: str, *, anew: bool = False) -> Known | None:
        """The diagram with that hash; None if the store has none, or it can't be read any more. `anew`: where
        there is an engine, with the code and the sub-diagrams that it names as they are now, unless that was
        just looked at and took long; else as its text says it."""
        begun = time.monotonic()
        key = digest, anew and self._ours is not None
        with self._lock:
            turn = self._reading.get(digest)
            if turn is None:
                turn = self._reading[digest] = _Turn()
        with turn.lock:  # who opens a page asks for it several times at once
            with self._lock:
                if key in self._known:
                    known, until = self._known[key]
                    self._known.move_to_end(key)
                    if not key[1] or begun < until:
                        return known
            return self._read(store, digest, compiles=key[1])

    def _read(self, store: Store, digest: str, *, compiles: bool) -> Known | None:
        begun = time.monotonic()
        ours = None if self._ours is None or compiles else self._ours.with_key(digest)
        try:
            known = (_read(store.source(digest), digest, compiles=compiles) if ours is None
                     else Known(ours.spec, ours, tuple(ours.warnings), digest))
        except (KeyError, msgspec.DecodeError):
            return None
        now = time.monotonic()
        with self._lock:
            self._known[digest, compiles] = known, (
                0.0 if now - begun < QUICK_S else now + REST * (now - begun))
            while len(self._known) > DRAWINGS_MAX:
                self._known.popitem(last=False)
        return known

    def drawn(self, store: Store, digest: str, *, anew: bool = False) -> Drawn | None:
        """The same to draw."""
        known = self.of(store, digest, anew=anew)
        if known is None:
            return None
        return drawn(known.spec, known.compiled, digest=digest, faults=known.faults)

    def encoded(self, store: Store, digest: str) -> bytes | None:
        """The same as JSON. What many look at is made once."""
        with self._lock:
            if digest in self._encoded:
                self._encoded.move_to_end(digest)
                return self._encoded[digest]
        made = self.drawn(store, digest)
        if made is None:
            return None
        text = as_json(made)
        with self._lock:
            self._encoded[digest] = text
            while sum(map(len, self._encoded.values())) > ENCODED_BYTES_MAX:
                self._encoded.popitem(last=False)
        return text

    def whole(self, store: Store, summary: Summary) -> Summary:
        """A summary whose `nodes` count those of its diagram, too, that it has not come to."""
        if not summary.nodes:
            return summary
        rest = self._size(store, summary.cell.diagram) - summary.roots
        return msgspec.structs.replace(summary, nodes=summary.nodes + rest) if rest > 0 else summary

    def _size(self, store: Store, digest: str) -> int:
        """How many nodes a stored diagram has; 0 if it can't be read."""
        with self._lock:
            size = self._sizes.get(digest)
        if size is None:
            try:
                spec = spec_of(msgspec.json.decode(store.source(digest), type=Source))
            except (KeyError, msgspec.DecodeError):
                spec = None
            size = 0 if spec is None else len(spec.nodes)
            with self._lock:
                self._sizes[digest] = size
                while len(self._sizes) > SIZES_MAX:
                    self._sizes.popitem(last=False)
        return size


def _read(text: str, digest: str, *, compiles: bool) -> Known | None:
    spec = spec_of(msgspec.json.decode(text, type=Source))
    if spec is None:
        return None
    if not compiles:
        return Known(spec, *outlined(spec), digest)
    try:
        compiled = compile_stored(text, types_in(Path(spec.base)))
    except InvalidDiagram as error:
        return Known(spec, None, error.faults, digest)
    except (TreadleError, OSError) as error:  # a plugin that is gone, a folder that is
        return Known(spec, None, (Fault(str(error), warning=True),), digest)
    return Known(spec, compiled, tuple(compiled.warnings), digest)
