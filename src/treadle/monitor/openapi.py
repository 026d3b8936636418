"""The description of the API, drawn from the operations: `python -m treadle.monitor.openapi` writes it.

The committed `openapi.json` is held to the code by a test.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
from starlette.responses import Response

from treadle.monitor.api.routing import OPERATIONS, Operation

FILE = Path(__file__).parent / "openapi.json"
_REF = "#/components/schemas/{name}"
_WORDS = {
    400: "the query or the body is not what it should be", 401: "there is no token, or a wrong one",
    403: "the token may only read, or the request comes from another site or to another name",
    404: "there is none", 409: "not in the state in which it is", 413: "too large",
    415: "the body is no JSON", 416: "the range is behind the end",
    422: "it was refused: the message says why",
    429: "too many requests: see Retry-After", 503: "the store can't be used at the moment"}


class Error(msgspec.Struct, omit_defaults=True):
    """Why, and what to do. `faults` are of a diagram."""

    type: str
    message: str
    hint: str | None = None
    faults: list[dict[str, Any]] = []


class Problem(msgspec.Struct):
    """The answer to what can't be done."""

    error: Error


def document() -> dict[str, Any]:
    """The whole description (OpenAPI 3.1)."""
    from treadle.monitor import app

    assert app.SUBJECTS  # importing it has filled OPERATIONS
    kinds = {Problem: None}
    for one in OPERATIONS:
        kinds |= {kind: None for kind in (one.body, _answer(one)) if kind is not None}
    schemas, components = msgspec.json.schema_components(list(kinds), ref_template=_REF)
    _complete(components)
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _described(one, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Treadle's monitor", "version": "1",
                 "description": "See docs/api.md. Instants are seconds since 1970."},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": dict(sorted(components.items())),
                       "responses": {str(status): {"description": words, "content": {
                           "application/json": {"schema": by_kind[Problem]}}}
                           for status, words in _WORDS.items()},
                       "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}]}


def _complete(components: dict[str, Any]) -> None:
    """An answer has all its fields, those with a default too; a body need not."""
    kinds: list[type[msgspec.Struct]] = [msgspec.Struct]
    for kind in kinds:
        kinds += [one for one in kind.__subclasses__() if one.__module__.startswith("treadle.")]
    known = {(kind.__name__, frozenset(kind.__struct_encode_fields__)): kind  # others have the same names
             for kind in kinds if kind.__module__.startswith("treadle.monitor.")}
    for name, schema in components.items():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
        found = known.get((name, frozenset(schema.get("properties", ()))))
        if found is not None and found.__struct_config__.frozen:
            schema["required"] = [field.encode_name for field in msgspec.structs.fields(found)
                                  if field.default is not msgspec.UNSET]


def _answer(one: Operation) -> Any:
    return None if isinstance(one.answer, type) and issubclass(one.answer, Response) else one.answer


def _described(one: Operation, by_kind: dict[Any, Any]) -> dict[str, Any]:
    kind = _answer(one)
    content = {one.content: {"schema": {} if kind is None else by_kind[kind]}}
    answers: dict[str, Any] = {str(one.status): {"description": "done", "content": content}}
    if kind is None:
        answers["206"] = {"description": "the part that was asked for", "content": content}
    answers |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in _statuses(one)}
    found: dict[str, Any] = {
        "operationId": one.name, "description": one.says,
        "tags": [one.function.__module__.rpartition(".")[2]],
        "parameters": [*_in_path(one), *_in_query(one)], "responses": dict(sorted(answers.items()))}
    if one.public:
        found["security"] = []
    if one.body is not None:
        found["requestBody"] = {"content": {"application/json": {"schema": by_kind[one.body]}}}
        found["requestBody"]["required"] = bool(_required(one.body))
    return found


def _statuses(one: Operation) -> list[int]:
    if one.public:
        return [429, 503]
    statuses = [400, 401, 403, 404, 409, 413, 422, 429, 503]
    if one.body is not None:
        statuses.append(415)
    return [*statuses, 416] if _answer(one) is None else statuses


def _required(kind: Any) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind) if field.required]


def _in_path(one: Operation) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in re.findall(r"{(\w+)}", one.path)]


def _in_query(one: Operation) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    found = []
    required = _required(one.query)
    _, components = msgspec.json.schema_components([one.query], ref_template=_REF)
    for name, schema in components[one.query.__name__]["properties"].items():
        # A query has no null: what may be left out is left out.
        kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
        bare = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        default = {} if schema.get("default") is None else {"default": schema["default"]}
        found.append({"name": name, "in": "query", "required": name in required,
                      "schema": {**bare, **(kinds[0] if len(kinds) == 1 else {}), **default}})
    return found


def text() -> str:
    """What the file holds."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
