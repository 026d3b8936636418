"""What a recorded result depends on, as digests: change one thing, and exactly what follows from it changes.

A node's *fingerprint* covers what it is: its type, its properties, the texts that it names (functions,
templates) and those parts of its policy that change its results. Retries, timeouts, priorities and limits
don't. Its *lineage* covers its fingerprint and those of its ancestors, and the arrows between them; neither
names, nor the order of a file.

- A loop has one lineage, that of all its members: each of them may depend on each.
- The nodes of a sub-diagram begin where their composite's inputs end: an edit inside changes what follows
  it inside, the composite itself and what follows that, but not what stands beside it in the sub-diagram.
- Defaults are left out, so a new property of a type with a default changes no digest of old diagrams.

BLAKE2b over a fixed encoding: the same on every machine and in every process.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import linecache
import re
import textwrap
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.loops import Structure
from treadle.diagram.node import DEFAULT, Arrow, Node
from treadle.diagram.policy import OnItemError
from treadle.ids import NodeID

if TYPE_CHECKING:
    from treadle.diagram.check import Checked

_DIGEST_BYTES = 16
FUNCTIONS_MAX = 1000
"""Functions that `source_of` follows from one function."""


_WORD = re.compile(rb"[^\W\d]\w*")
_AROUND = frozenset(("inputs", "nodes", "default", "index", "iteration", "attempt", "context"))
"""The names by which a body reaches what surrounds it."""


class Identity(msgspec.Struct, frozen=True):
    """The digests of a diagram, by node id, and those of its sub-diagrams.

    `sees` says which of the names around a node (`inputs`, `index`, the nodes before it …) its texts and its
    code mention. `bodies` are the digests of what nodes with `cache` perform, wherever they stand.
    """

    fingerprints: dict[NodeID, str]
    lineages: dict[NodeID, str]
    children: dict[NodeID, Identity]
    sees: dict[NodeID, frozenset[str]]
    bodies: dict[NodeID, str]


def identify(checked: Checked, around: str = "") -> Identity:
    """The digests of a checked diagram without errors; `around` is what the nodes of a sub-diagram begin
    with."""
    assert checked.structure is not None
    fingerprints = dict(_prints(checked))
    insides = {node_id: whole(child) for node_id, child in checked.children.items()}
    entries, lineages_ = lineages(
        checked.spec, fingerprints, checked.structure, insides=insides, around=around
    )
    children = {node_id: identify(child, entries[node_id]) for node_id, child in checked.children.items()}
    bodies = {node.id: _digest("body", node.type, _said(checked.specs[node.id]),
                               list(checked.sources.get(node.id, ())))
              for node in checked.spec.nodes if node.policy.cache}
    return Identity(fingerprints, lineages_, children, _sights(checked), bodies)


def whole(checked: Checked) -> str:
    """One digest of all that a sub-diagram is, wherever it stands."""
    assert checked.structure is not None
    prints = sorted(_prints(checked))
    arrows = sorted([*_drawn(arrow), str(place)] for place, arrow in enumerate(checked.spec.arrows))
    inside = sorted((node_id, whole(child)) for node_id, child in checked.children.items())
    heads = sorted(checked.spec.nodes[loop.head].id for loop in checked.structure.loops)
    defaults = {name: one.default for name, one in checked.spec.inputs.items() if not one.required}
    return _digest(
        "diagram", prints, [arrow[:-1] for arrow in arrows], inside, heads, sorted(defaults.items())
    )


def _prints(checked: Checked) -> Iterator[tuple[NodeID, str]]:
    known: dict[tuple[Any, ...], str] = {}  # equal nodes share their struct
    for node in checked.spec.nodes:
        spec, policy, sources = checked.specs[node.id], node.policy, checked.sources.get(node.id, ())
        inline = checked.inline.get(node.id)
        if inline is not None:
            yield node.id, fingerprint(node, spec, sources, inline)
            continue
        key = (node.type, id(spec), policy.join, policy.for_each, policy.on_item_error, tuple(sources),
               policy.reduce, "" if policy.reduce is None else _text(policy.initial))
        found = known.get(key)
        if found is None:
            found = known[key] = fingerprint(node, spec, sources)
        yield node.id, found


def _sights(checked: Checked) -> dict[NodeID, frozenset[str]]:
    known: dict[tuple[Any, ...], frozenset[str]] = {}  # equal nodes share their struct
    found = {}
    for node in checked.spec.nodes:
        sources = checked.sources.get(node.id, ())
        key = (id(checked.specs[node.id]), *sources)
        seen = known.get(key)
        if seen is None:
            raw = msgspec.json.encode([_said(checked.specs[node.id]), sources], enc_hook=repr)
            words = {word.decode() for word in _WORD.findall(raw)}
            seen = known[key] = frozenset(one for one in words if one in _AROUND or one in checked.specs)
        if seen:
            found[node.id] = seen
    return found


def fingerprint(node: Node, spec: Any, sources: Iterable[str],
                inline: Mapping[str, Any] | None = None) -> str:
    """The digest of what a node is. `spec` is its type's struct; `sources` are the texts that it names.

    The property that holds an `inline` sub-diagram is left out: its nodes have digests of their own.
    """
    policy = node.policy
    results: list[Any] = [policy.join.value, policy.for_each,
               policy.on_item_error.value if policy.on_item_error is not OnItemError.FAIL else ""]
    if policy.reduce is not None:
        results += [policy.reduce, policy.initial]
    return _digest("node", node.type, _said(spec, inline), results, list(sources))


def lineages(spec: DiagramSpec, fingerprints: Mapping[NodeID, str], structure: Structure, *,
             insides: Mapping[NodeID, str] | None = None, around: str = "",
             recorded: Mapping[NodeID, str] | None = None) -> tuple[dict[NodeID, str], dict[NodeID, str]]:
    """Each node's entry (what its inputs and its own fingerprint come to) and its lineage, by id.

    They differ for composites only: a lineage covers `insides`, the digests of the sub-diagrams, and an
    entry doesn't. Where ancestors have a `recorded` lineage, that counts instead of what theirs is now.
    """
    if spec.open:  # every node sees what its start nodes say
        around = _digest("open", around, [node.properties for node in spec.nodes if node.type == "start"])
    index = {node.id: i for i, node in enumerate(spec.nodes)}
    into: list[list[Arrow]] = [[] for _ in spec.nodes]
    for arrow in spec.arrows:
        into[index[arrow.target]].append(arrow)
    outermost = [(structure.around(i) or [-1])[-1] for i in range(len(spec.nodes))]
    entries: dict[NodeID, str] = {}
    found: dict[NodeID, str] = {}
    before: Mapping[NodeID, str] = found if recorded is None else ChainMap(dict(recorded), found)
    same: dict[str, str] = {}  # nodes that are alike in everything share the text of their lineage
    for i in structure.order:
        node_id, loop = spec.nodes[i].id, outermost[i]
        if loop < 0:
            entry = _digest("entry", around, fingerprints[node_id], _brought(into[i], before))
            entries[node_id] = same.setdefault(entry, entry)
            inside = (insides or {}).get(node_id)
            found[node_id] = _digest("composite", entries[node_id], inside) if inside else entries[node_id]
        elif node_id not in found:
            members = [spec.nodes[m].id for m in structure.loops[loop].members]
            shared = _loop(spec, structure, loop, around, fingerprints, insides or {}, into, before)
            for member in members:
                entries[member] = found[member] = shared
    return entries, found


def _loop(spec: DiagramSpec, structure: Structure, loop: int, around: str, fingerprints: Mapping[NodeID, str],
          insides: Mapping[NodeID, str], into: list[list[Arrow]], found: Mapping[NodeID, str]) -> str:
    members = structure.loops[loop].members
    inside = {spec.nodes[m].id for m in members}
    heads = sorted(spec.nodes[one.head].id for one in structure.loops
                   if one.index == loop or one.head in members)
    parts = []
    for m in members:
        node_id = spec.nodes[m].id
        own = [_drawn(arrow) for arrow in into[m] if arrow.source in inside]
        parts.append([node_id, fingerprints[node_id], insides.get(node_id, ""), _grouped(own, 3),
                      _brought([arrow for arrow in into[m] if arrow.source not in inside], found)])
    return _digest("loop", around, heads, sorted(parts, key=lambda part: str(part[0])))


def _brought(arrows: Iterable[Arrow], found: Mapping[NodeID, str]) -> list[Any]:
    """What arrows bring. Those on one input make a list, so their order counts; that of the inputs
    doesn't."""
    return _grouped(
        [[found[arrow.source], arrow.port, "", arrow.input, *_said_of(arrow)] for arrow in arrows], 3
    )


def _grouped(rows: list[list[Any]], column: int) -> list[Any]:
    return sorted(rows, key=lambda row: str(row[column]))  # stable: rows of one input stay in order


def _drawn(arrow: Arrow) -> list[Any]:
    return [arrow.source, arrow.port, arrow.target, arrow.input, *_said_of(arrow)]


def _said_of(arrow: Arrow) -> list[Any]:
    # A node's id is the name of its unlabelled value in expressions and parameters, so it counts there.
    found = [_text(arrow.transform), arrow.content_type or "", arrow.source if arrow.input == DEFAULT else ""]
    return found if arrow.first is None else [*found, "first" if arrow.first else "not first"]


_fields = functools.cache(msgspec.structs.fields)


def _said(spec: Any, without: Any = None) -> Any:
    """A struct as its fields that are not as by default, in order of name."""
    if not isinstance(spec, msgspec.Struct):
        return spec
    said = {}
    for field in _fields(type(spec)):
        value = getattr(spec, field.name)
        usual = field.default_factory() if callable(field.default_factory) else field.default
        if (field.required or value != usual) and (without is None or value != without):
            said[field.encode_name] = _said(value)
    return said


def _text(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=repr, order="sorted").decode()


def _digest(kind: str, *parts: Any) -> str:
    raw = msgspec.json.encode([kind, *parts], enc_hook=repr, order="sorted")
    return hashlib.blake2b(raw, digest_size=_DIGEST_BYTES).hexdigest()


# the source of functions


@functools.lru_cache(maxsize=4096)
def source_of(function: Callable[..., Any]) -> str:
    """The source of a function and of what it uses from its own module: functions, classes and plain
    constants.

    Comments, docstrings and layout don't count, nor does the `@node` on it. Where there is no source (a
    function typed into a shell), its byte code stands for it. What comes from other modules is not
    followed.
    """
    texts: dict[str, str] = {}
    waiting: list[Any] = [function]
    while waiting and len(texts) < FUNCTIONS_MAX:
        one = waiting.pop()
        while isinstance(one, functools.partial):
            texts[f"partial {len(texts)}"] = repr((one.args, sorted(one.keywords.items())))
            one = one.func
        one = inspect.unwrap(one) if callable(one) else one
        one = getattr(one, "__func__", one)
        if not isinstance(one, FunctionType | type):
            one = type(one)
        name = one.__qualname__  # not its module: that is named after the folder it was loaded from
        if name in texts:
            continue
        tree = _tree(one)
        if tree is None:
            texts[name] = _code(one.__code__) if isinstance(one, FunctionType) else name
            continue
        texts[name] = ast.unparse(tree)
        waiting += _used(one, tree, texts)
    return "\n".join(f"# {name}\n{texts[name]}" for name in sorted(texts))


def _used(one: Any, tree: ast.Module, texts: dict[str, str]) -> list[Any]:
    """What a function's source names of its own module; constants are noted in `texts` at once."""
    names = _names(tree)
    top = tree.body[0]
    if isinstance(one, FunctionType) and isinstance(top, ast.FunctionDef | ast.AsyncFunctionDef):
        # Often a parameter has the name of a node, and so of the function which that node calls.
        names -= {*one.__code__.co_varnames, *one.__code__.co_cellvars}
        names |= _names(top.args, *top.decorator_list)
    module = inspect.getmodule(one)
    scope = dict(getattr(one, "__globals__", None) or vars(module or ModuleType("")))
    if isinstance(one, FunctionType) and one.__closure__:
        for name, cell in zip(one.__code__.co_freevars, one.__closure__, strict=True):
            try:
                scope[name] = cell.cell_contents
            except ValueError:  # not set yet
                continue
    found = []
    for name in sorted(names & scope.keys()):
        value = scope[name]
        if isinstance(value, FunctionType | type | functools.partial) or hasattr(value, "__wrapped__"):
            if getattr(inspect.unwrap(value), "__module__", one.__module__) == one.__module__:
                found.append(value)
        elif isinstance(value, str | bytes | int | float | bool | tuple | frozenset | None):
            texts[f"{name} ="] = repr(sorted(value, key=repr) if isinstance(value, frozenset)
                                                       else value)
    return found


def _names(*trees: ast.AST) -> set[str]:
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _tree(one: Any) -> ast.Module | None:
    """The source of a function or class as a tree without docstrings and `@node`; None if there is none."""
    try:
        linecache.checkcache(inspect.getsourcefile(one) or "")
        tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
    except (OSError, TypeError, SyntaxError):  # a lambda's line need not be a statement
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.decorator_list = [one for one in node.decorator_list if not _is_node(one)]
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def _is_node(decorator: ast.expr) -> bool:
    name = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (
        name.id if isinstance(name, ast.Name) else name.attr if isinstance(name, ast.Attribute) else ""
    ) == "node"


def _code(code: CodeType) -> str:
    constants = [_code(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
