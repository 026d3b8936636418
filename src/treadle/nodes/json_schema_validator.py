"""`json_schema_validator`: lets a value pass that a JSON schema allows."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import DEFAULT, Node
from treadle.diagram.types import Ports
from treadle.errors import TreadleError, did_you_mean
from treadle.nodes.base import BodyContext, NodeKind, bare
from treadle.nodes.files import format_of, parse, plain, read_file
from treadle.state.envelope import Envelope, infer

INVALID = "invalid"
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_NAMED = frozenset(("properties", "patternProperties", "$defs", "definitions"))  # by name, schemas
_PARTS = frozenset(("items", "prefixItems", "additionalItems", "additionalProperties", "contains"))
_SHOWN_CHARS = 200  # of one message, which quotes the value


class JsonSchemaValidator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Passes its input on, unchanged, if it satisfies a JSON schema. One input passes as it is, several as a
    map by name. It needs jsonschema: `pip install treadle[schemas]`.

    ```yaml
    treadle: 1
    nodes:
      order: {type: start, custom_data: {id: 7, amount: -1}}
      valid:
        type: json_schema_validator
        on_invalid: port
        needs: order
        schema:
          type: object
          required: [id]
          properties: {id: {type: integer}, amount: {type: number, minimum: 0}}
      good: {type: endpoint, needs: valid}
      bad: {type: endpoint}
    arrows:
      - valid.invalid -> bad
    ```

    Say either `schema` or `schema_file`. The schema itself is checked with the diagram. It is read as Draft
    2020-12 unless its `$schema` names another draft. A `$ref` may lead to a place in the schema, or to a
    draft's own schema; nothing is fetched from elsewhere.

    Dates count as the texts that they are in JSON, tuples as lists.
    """

    schema: dict[str, Any] | bool | None = None
    """The schema itself."""
    schema_file: str | None = None
    """A file with the schema, JSON or YAML, relative to the diagram's folder."""
    on_invalid: Literal["fail", "port"] = "fail"
    """What a value does that the schema forbids. `fail`: the node fails, and the message names each place as
    a path (`$.items[0].id`). `port`: a map with `value` and `errors` leaves by the port `invalid`; each error
    is a map with `path`, `message`, `rule`, the word of the schema that it breaks, and `schema_path`, the way
    to that word (`#/properties/items/items/required`; a `$ref` is followed). An `error` arrow has these in
    `details.errors`."""
    strict: bool = False
    """Whether a map may have no other keys than its schema's `properties`, wherever the schema doesn't say
    itself what of others (`additionalProperties`, `patternProperties`)."""
    errors_max: int = 10
    """How many errors are told; the rest is counted by `fail`, and left out by `port`."""
    formats: bool = True
    """Whether `format` counts (`email`, `date`, `ipv4` …), or is only a remark. Formats for which jsonschema
    needs further packages always pass."""


class InvalidValue(TreadleError, ValueError):
    """A value that a schema forbids. Another attempt would find the same. `details` has the `errors`, and how
    many `more` there are."""

    retryable = False

    def __init__(self, message: str, errors: list[dict[str, str]], more: int = 0) -> None:
        super().__init__(message)
        self.details = {"errors": errors, "more": more}


class JsonSchemaValidatorStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Envelope:
        spec: JsonSchemaValidator = node.spec
        value = bare(inputs, context)
        schema = _schema(spec, node.base, context.config)
        if spec.strict:
            schema = _closed(schema)
        # In a thread: a long value or a slow `pattern` must not stop the event loop.
        found, more = await context.executor("thread").run(
            faults_of, value, schema, spec.formats, spec.errors_max, timeout=node.policy.timeout,
            name=context.node_id)
        if not found:
            port = {"port": DEFAULT} if spec.on_invalid == "port" else {}
            return Envelope(context.node_id, context.node_id, infer(value), value, port)
        if spec.on_invalid == "port":
            return Envelope(context.node_id, context.node_id, "object", {"value": value, "errors": found},
                            {"port": INVALID})
        lines = [f"{one['path']}: {one['message']}" for one in found]
        if more:
            lines.append(f"and {more} more")
        where = f" of {spec.schema_file!r}" if spec.schema_file is not None else ""
        raise InvalidValue(f"the value breaks the schema{where} in {len(found) + more} "
                           f"place{'s' if len(found) + more > 1 else ''}: " + "; ".join(lines), found, more)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "json_schema_validator"


def faults_of(value: Any, schema: Any, formats: bool, errors_max: int) -> tuple[list[dict[str, str]], int]:
    """The first faults of a value by a schema, by path, and how many more there are."""
    from jsonschema.exceptions import best_match

    validator = _validator(json.dumps(schema), formats)
    errors = sorted(validator.iter_errors(plain(value)), key=lambda error: list(map(_rank, error.path)))
    found = []
    for error in errors[:errors_max]:
        deepest = best_match([error])  # of an `anyOf`, the branch that came nearest
        said = str(deepest.message)
        found.append({"path": str(deepest.json_path), "rule": str(deepest.validator),
                      "schema_path": _pointer(deepest.absolute_schema_path),
                      "message": said if len(said) <= _SHOWN_CHARS else said[:_SHOWN_CHARS] + "…"})
    return found, len(errors) - len(found)


def _pointer(parts: Iterable[str | int]) -> str:
    """A place in a schema as a JSON Pointer."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _rank(part: str | int) -> tuple[int, str]:
    return (part, "") if isinstance(part, int) else (-1, part)


@functools.lru_cache(maxsize=64)
def _validator(schema: str, formats: bool) -> Any:
    from referencing.jsonschema import EMPTY_REGISTRY

    found = json.loads(schema)
    kind = _draft(found)
    # Its own registry, so that a `$ref` to elsewhere is an error: the library's would fetch it.
    return kind(found, format_checker=kind.FORMAT_CHECKER if formats else None,
                registry=_known(EMPTY_REGISTRY))


def _known(registry: Any) -> Any:
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

    return REGISTRY.combine(registry)


def _draft(schema: Any) -> Any:
    """The library's class for the draft that a schema names. ValueError for one that it doesn't know."""
    from jsonschema import (
        Draft4Validator,
        Draft6Validator,
        Draft7Validator,
        Draft201909Validator,
        Draft202012Validator,
        validators,
    )

    if not isinstance(schema, Mapping) or "$schema" not in schema:
        return Draft202012Validator
    found = validators.validator_for(schema, default=None)
    if found is None:
        known = [kind.META_SCHEMA.get("$id", kind.META_SCHEMA.get("id")) for kind in (
            Draft202012Validator, Draft201909Validator, Draft7Validator, Draft6Validator, Draft4Validator)]
        hint = did_you_mean(str(schema["$schema"]), known) or f"there is {', '.join(known)}"
        raise SchemaFault(f"$schema names no draft that is known, {schema['$schema']!r}: {hint}", "$schema")
    return found


class SchemaFault(ValueError):
    """What is wrong with a schema; `at` is the place, as `check` knows it."""

    def __init__(self, message: str, at: str = "") -> None:
        super().__init__(message)
        self.at = at


def _schema(spec: JsonSchemaValidator, base: str, config: TreadleConfig = DEFAULT_CONFIG) -> Any:
    """The schema as plain data."""
    if spec.schema_file is None:
        return plain(spec.schema)
    said = spec.schema_file
    form = format_of(said, None)
    if form not in ("json", "yaml"):
        raise ValueError(f"`schema_file`: {said!r} must end in .json, .yaml or .yml")
    return plain(parse(read_file(Path(base) / said, said, config), form, said, config))


_SAYING = frozenset((
    "allOf", "anyOf", "oneOf", "if", "$ref", "$dynamicRef",  # others say what keys there are, too
    "additionalProperties", "unevaluatedProperties", "patternProperties"))


def _closed(schema: Any) -> Any:
    """A schema whose maps have no other keys than it names. What is put together of several schemas stays."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for key in _NAMED & schema.keys():
        if isinstance(schema[key], dict):
            closed[key] = {name: _closed(one) for name, one in schema[key].items()}
    for key in _PARTS & schema.keys():
        closed[key] = _closed(schema[key])
    if isinstance(schema.get("properties"), dict) and not _SAYING & schema.keys():
        closed["additionalProperties"] = False
    return closed


def require_schema(schema: Any) -> None:
    """SchemaFault for what is no schema, or refers to what isn't there; its `at` is a path in the schema."""
    from jsonschema.exceptions import SchemaError, best_match

    if not isinstance(schema, Mapping | bool):
        raise SchemaFault(f"a schema is a map, true or false, not a {type(schema).__name__}")
    kind = _draft(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        deepest = best_match([error])
        at = deepest.json_path.removeprefix("$").removeprefix(".")
        where = f"at {at}: " if at else ""
        said = deepest.instance if at.rpartition(".")[2] == "type" else None
        hint = did_you_mean(said, _TYPES) if isinstance(said, str) else None
        raise SchemaFault(f"{where}{deepest.message}" + (f": {hint}" if hint else ""), at) from None
    _require_references(schema, kind)


def _require_references(schema: Any, kind: Any) -> None:
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY, specification_with

    meta = kind.META_SCHEMA.get("$schema", "")
    root = specification_with(meta, default=DRAFT202012).create_resource(schema)
    todo = [(root, _known(EMPTY_REGISTRY).resolver_with_root(root))]
    while todo:
        resource, resolver = todo.pop()
        said = resource.contents.get("$ref") if isinstance(resource.contents, Mapping) else None
        if isinstance(said, str):
            try:
                resolver.lookup(said)
            except Unresolvable:
                why = "there is no such place in it" if said.startswith("#") else (
                    "nothing is fetched from elsewhere: put it under `$defs`")
                raise SchemaFault(f"`$ref: {said}` leads nowhere: {why}", "") from None
        todo += [(one, resolver.in_subresource(one)) for one in resource.subresources()]


class JsonSchemaValidatorKind(NodeKind):
    def ports(self, spec: JsonSchemaValidator, node: Node, base: str) -> Ports:
        if (spec.schema is None) == (spec.schema_file is None):
            raise ValueError("say either `schema` or `schema_file`")
        if spec.errors_max < 1:
            raise ValueError(f"`errors_max` must be at least 1, not {spec.errors_max}")
        try:
            import jsonschema  # noqa: F401  # whether it is there
        except ImportError:
            raise ValueError("json_schema_validator needs jsonschema, which is not installed: "
                             "pip install treadle[schemas]") from None
        schema = _schema(spec, base)
        try:
            require_schema(schema)
        except SchemaFault as fault:
            key = "schema" if spec.schema_file is None else "schema_file"
            inside = "" if spec.schema_file is None else f" {spec.schema_file!r}"
            raise SchemaFault(f"`{key}`{inside}: {fault}",
                              f"schema.{fault.at}" if spec.schema_file is None else key) from None
        if spec.on_invalid == "port":
            if node.policy.for_each is not None:
                raise ValueError("`on_invalid: port` doesn't go with `for_each`: an item that is invalid "
                                 "fails, and `on_item_error: collect` keeps its error among the results")
            return Ports(outputs=("default", INVALID), chooses=True)
        return Ports()

    def sources(self, spec: JsonSchemaValidator, node: Node, base: str) -> list[str]:
        return [] if spec.schema_file is None else [read_file(Path(base) / spec.schema_file,
                                                              spec.schema_file)]


KIND = JsonSchemaValidatorKind("json_schema_validator", JsonSchemaValidator, JsonSchemaValidatorStrategy(),
                               secrets=())
