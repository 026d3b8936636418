"""The shape of diagram files as JSON Schema (draft 2020-12), for editors and programs that write such files.

It is made from what `check` uses: the structs of the node types and of the policy, the registered transforms
and content types. It says what one place of a file may hold. What takes the whole diagram to see (names of
nodes, ports and inputs, cycles, expressions) is `check`'s.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from treadle.diagram.formats.reading import (
    ARROW_KEYS,
    FORMAT_VERSION,
    INPUT_KEYS,
    INPUT_TYPES,
    LOOP_KEYS,
    POLICY_KEYS,
    TOP_KEYS,
)
from treadle.diagram.node import Arrow, Input, Loop
from treadle.diagram.person import Person, Settings
from treadle.diagram.policy import LOOP_ITERATIONS_MAX, OnError, OnLimit, Policy
from treadle.diagram.types import NodeType, NodeTypes

Schema: TypeAlias = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ARROW = r"^(?!.*->.*->).*\S.*->.*\S"
"""A text that is an arrow: one `->`, and something on either side."""
_REF = "#/$defs/{name}"
_COMPONENT = "#/$defs/{name}_struct"
"""Where the structs stand that msgspec describes; the node types have the plain names."""
_LEAST: dict[str, Schema] = {
    "retries": {"minimum": 0}, "concurrency": {"minimum": 1}, "timeout": {"exclusiveMinimum": 0}}
_BACKOFF: dict[str, Schema] = {
    "initial": {"minimum": 0}, "factor": {"minimum": 1}, "max": {"minimum": 0},
    "jitter": {"minimum": 0, "maximum": 1}}
_ARGUMENTS: dict[str, Schema] = {
    "select": {"type": "string", "description": "A path into the value: rows[0].name"},
    "default": {"description": "What stands in for null."},
    "rename": {"type": "object", "additionalProperties": {"type": "string"},
               "description": "New names of keys: {old: new}"},
    "merge": {"anyOf": [{"type": "object"}, {"const": True}],
              "description": "Keys to add; true makes one map of a list of maps."},
    "flatten": {"anyOf": [{"const": True}, {"type": "integer", "minimum": 1}],
                "description": "true, or how many levels."},
    "coerce": {"enum": list(INPUT_TYPES), "description": "Read the value as this type."},
    "format": {"type": "string", "description": "A template over `value` and, of a map, its keys."},
}
"""What built-in transforms take; registered ones take anything."""
_WORDS = {
    "treadle": "Version of the format.",
    "name": "Name of the diagram; else that of the file.",
    "description": "A text for people.",
    "inputs": "Inputs of an execution, by name.",
    "nodes": "The nodes, by id.",
    "arrows": "Arrows: source.port -> target.input",
    "loops": "What the diagram says about its loops.",
    "environment_vars": "Environment of scripts and processes that nodes start, by name.",
    "secret_store": "Where secret://NAME is looked up: env:, file:PATH or vault://MOUNT/PATH.",
    "persons": "People who talk in the diagram, by name.",
    "deadline": "Seconds that an execution may take.",
    "needs": "Unlabelled arrows into the node: a node, node.port, or a list of these.",
    "label": "What people see instead of the id.",
    "open": "Inputs that are not declared may be given; they, the custom data of start nodes and the keys of "
            "an unlabelled map are names by themselves in its texts.",
    "page": "What is kept for a page that draws it; it means nothing else.",
    "first": "Whether the arrow is used only in iteration 1 of every loop that it enters; else if its input "
             "is `first`, which then stands in for the unlabelled one.",
    "for_each": "An expression that gives a list: the node is performed once per item.",
    "from": "Where the arrow begins: node, or node.port",
    "to": "Where the arrow ends: node, or node.input",
    "transform": "What is done to the value on its way: a rule, or a list of rules.",
    "content_type": "The kind of content that the value becomes.",
    "entry": "The node that the loop begins with.",
    "max_iterations": "Iterations that the loop may have.",
    "default": "What is used when no value is given. Without it the input is required.",
}


def schema_of(types: NodeTypes) -> Schema:
    """The JSON Schema of diagram files whose nodes are of these types."""
    kinds = {name: kind for name in types.names() if (kind := types.get(name)) is not None}
    structs = [*(kind.properties for kind in kinds.values()), Policy]
    people = (Person, Settings)
    references, components = msgspec.json.schema_components([*structs, *people], ref_template=_COMPONENT)
    found = {f"{name}_struct": _tidy(one) for name, one in components.items()}
    own = {struct: found.pop(reference["$ref"].rpartition("/")[2])
           for struct, reference in zip(structs, references, strict=False)}
    for one in people:
        shape, words = found[f"{one.__name__}_struct"], field_words(one)
        shape["properties"] = {name: _described(each, words.get(name))
                               for name, each in shape["properties"].items()}
    common = _common(own[Policy], found)
    defs = {
        "diagram": _diagram(), "input": _input(), "node": _node(kinds), "arrow": _arrow(types),
        "transform": _transform(types.transforms.names()), "loop": _loop(),
        **{name: _kind(kind, own[kind.properties], common) for name, kind in kinds.items()}, **found}
    whole = _diagram()
    whole["required"] = ["treadle", *whole["required"]]
    return {"$schema": DIALECT, "title": "Treadle diagram", **whole, "$defs": defs}


# The parts of a file

def _diagram() -> Schema:
    """A diagram that may stand inside another one: `treadle` may be left out."""
    return _closed(TOP_KEYS, {
        "treadle": {"const": FORMAT_VERSION},
        "name": {"type": "string"},
        "description": {"type": "string"},
        "inputs": {"type": "object", "additionalProperties": _ref("input")},
        "nodes": {"type": "object", "additionalProperties": _ref("node"), "minProperties": 1},
        "arrows": {"type": ["array", "null"], "items": _ref("arrow")},
        "loops": {"type": ["array", "null"], "items": _ref("loop")},
        "on_error": _choice(OnError, OnError.FAIL),
        "deadline": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "environment_vars": {"type": "object", "additionalProperties": {"type": "string"}},
        "secret_store": {"type": ["string", "null"]},
        "open": {"type": "boolean", "default": False},
        "page": {"type": "object"},
        "persons": {"type": ["object", "null"], "additionalProperties": {
            "$ref": _COMPONENT.format(name=Person.__name__)}},
    }, required=["nodes"])


def _input() -> Schema:
    kind = {"enum": list(INPUT_TYPES), "description": "The type of the value.", "default": "any"}
    whole = _closed(INPUT_KEYS, {
        "type": kind, "default": {}, "description": {"type": "string"}}, about=_words(Input))
    whole["allOf"] = [
        {"if": {"properties": {"type": {"const": one}}, "required": ["type"]},
         "then": {"properties": {"default": {"type": one}}}} for one in INPUT_TYPES if one != "any"]
    return {"description": whole.pop("description"), "anyOf": [whole, kind, {"type": "null"}]}


def _node(kinds: Mapping[str, NodeType]) -> Schema:
    """Which type it is decides which properties it has."""
    names = {"enum": list(kinds), "description": "What the node does.",
             "enumDescriptions": [_summary(kind.properties) for kind in kinds.values()]}
    return {"type": "object", "properties": {"type": names}, "required": ["type"], "allOf": [
        {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": _ref(name)}
        for name in kinds]}


def _kind(kind: NodeType, struct: Schema, common: Mapping[str, Schema]) -> Schema:
    words = field_words(kind.properties)
    own = {name: _described(one, words.get(name)) for name, one in struct["properties"].items()}
    if kind.name == "sub_diagram":
        own["diagram"]["anyOf"] = [one if one["type"] == "string" else _ref("diagram")
                                   for one in own["diagram"]["anyOf"]]
    return {"title": kind.name, "description": _summary(kind.properties),
            "markdownDescription": _words(kind.properties), "type": "object",
            "properties": {"type": {"const": kind.name}, **own, **common},
            "required": ["type", *struct.get("required", ())], "additionalProperties": False}


def _common(policy: Schema, components: Mapping[str, Schema]) -> dict[str, Schema]:
    """The keys of every node."""
    texts: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    about = {name: _mentions(Policy, name) or _WORDS.get(name) for name in POLICY_KEYS}
    keys = {name: _described(policy["properties"][name] | _LEAST.get(name, {}), about[name])
            for name in POLICY_KEYS}
    keys["retry_on"] = _described(texts, about["retry_on"])
    keys["backoff"] = {"description": "Seconds before a retry: a number, or how they grow.",
                       "anyOf": [{"type": "number", "minimum": 0}, {"$ref": keys["backoff"]["$ref"]}]}
    backoff = components[keys["backoff"]["anyOf"][1]["$ref"].rpartition("/")[2]]
    for name, least in _BACKOFF.items():
        backoff["properties"][name] |= least
    return {"needs": _described(texts, _WORDS["needs"]),
            "label": {"type": "string", "description": _WORDS["label"]},
            "page": {"type": "object", "description": _WORDS["page"]}, **keys}


def _arrow(types: NodeTypes) -> Schema:
    end: Schema = {"type": "string", "pattern": r"\S"}
    whole = _closed(ARROW_KEYS, {
        "from": end, "to": end,
        "transform": {"anyOf": [{"type": "array", "items": _ref("transform")}, _ref("transform")]},
        "content_type": {"enum": [*types.content_types(), None]},
        "first": {"type": ["boolean", "null"]},
    }, required=["from", "to"])
    return {"description": _words(Arrow), "anyOf": [{"type": "string", "pattern": ARROW}, whole]}


def _transform(names: Iterable[str]) -> Schema:
    return {"type": "object", "properties": {name: _ARGUMENTS.get(name, {}) for name in names},
            "additionalProperties": False}


def _loop() -> Schema:
    return _closed(LOOP_KEYS, {
        "entry": {"type": "string", "minLength": 1},
        "max_iterations": {"type": "integer", "minimum": 1, "default": LOOP_ITERATIONS_MAX},
        "on_limit": _choice(OnLimit, OnLimit.FAIL),
    }, required=["entry"], about=_words(Loop))


# Small things

def _ref(name: str) -> Schema:
    return {"$ref": _REF.format(name=name)}


def _closed(keys: Iterable[str], properties: Mapping[str, Schema], *, required: Iterable[str] = (),
            about: str | None = None) -> Schema:
    """A map with these keys and no others; KeyError if a key of the format has no schema here."""
    named = {key: _described(properties[key], _WORDS.get(key)) for key in keys}
    return _described({"type": "object", "properties": named, "required": list(required),
                       "additionalProperties": False}, about)


def _choice(kind: type[OnError] | type[OnLimit], default: str) -> Schema:
    return {"enum": [one.value for one in kind], "default": str(default),
            "description": inspect.cleandoc(kind.__doc__ or "")}


def _described(schema: Schema, about: str | None) -> Schema:
    return {"description": about, **schema} if about and "description" not in schema else dict(schema)


def _tidy(schema: Any) -> Any:
    """What msgspec writes, without what says nothing: an alternative that takes anything makes the others
    idle, a default of null is none."""
    if isinstance(schema, list):
        return [_tidy(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _tidy(one) for key, one in schema.items()
            if not (key == "default" and one is None) and not (key == "required" and not one)}
    if any(one == {} for one in tidy.get("anyOf", ())):
        del tidy["anyOf"]
    return tidy


def _words(struct: type[msgspec.Struct]) -> str:
    return inspect.cleandoc(struct.__doc__ or "")


def _summary(struct: type[msgspec.Struct]) -> str:
    """The first paragraph of a struct's docstring, in one line."""
    return " ".join(_words(struct).partition("\n\n")[0].split())


def _mentions(struct: type[msgspec.Struct], name: str) -> str | None:
    """The text under a field, else the sentences of its struct's docstring that mention it."""
    under = field_words(struct).get(name)
    sentences = re.split(r"(?<=\.)\s+", " ".join(_words(struct).split()))
    return under or " ".join(one for one in sentences if f"`{name}`" in one) or None


def field_words(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The text under each field, where the struct's source is there to be read."""
    try:
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(struct))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    words = {}
    for field, text in itertools.pairwise(getattr(body, "body", ())):
        if (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)):
            words[field.target.id] = " ".join(str(text.value.value).split())
    return words
