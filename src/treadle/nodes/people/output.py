"""Structured output: what an answer must be, as a JSON schema or a pydantic model, and whether it is."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import msgspec

from treadle.nodes.files import plain
from treadle.nodes.json_schema_validator import SchemaFault, faults_of, require_schema
from treadle.nodes.modules import load_function

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_FAULTS_MAX = 10  # that the model is told of
_NEEDS = "`output` needs jsonschema, which is not installed: pip install treadle[schemas]"


class Output(msgspec.Struct, frozen=True):
    """What an answer must be. `model` is the class of pydantic's that says so, if one does."""

    schema: dict[str, Any]
    model: Any = None

    def read(self, text: str) -> Any:
        """The value of an answer. ValueError says, in words for the model, what is wrong with it."""
        match = _FENCED.fullmatch(text)
        if self.model is not None:
            return _validated(self.model, match[1] if match else text)
        try:
            value = json.loads(match[1] if match else text)
        except ValueError as error:
            raise ValueError(f"it is not JSON: {error}") from None
        found, more = faults_of(value, self.schema, True, _FAULTS_MAX)
        if found:
            said = "; ".join(f"{one['path']}: {one['message']}" for one in found)
            raise ValueError(f"it breaks the schema: {said}" + (f"; and {more} more" if more else ""))
        return value


def _validated(model: Any, text: str) -> Any:
    import pydantic

    try:
        return model.model_validate_json(text).model_dump(mode="json")
    except pydantic.ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])) or '$'}: {one['msg']}" for one in error.errors()]
        raise ValueError(f"it breaks the schema: {'; '.join(lines[:_FAULTS_MAX])}") from None


def output_of(said: dict[str, Any] | str, base: str) -> Output:
    """What `output` says: a schema, or `module:Model`. ValueError, whose `at` is the place in the schema."""
    if isinstance(said, str):
        found: Any = load_function(said, base)
        if not (isinstance(found, type) and hasattr(found, "model_json_schema")):
            raise ValueError(f"`output`: {said!r} is no pydantic model: write a class that derives from "
                             "pydantic.BaseModel, or a JSON schema")
        return Output(found.model_json_schema(), found)
    return _of_schema(json.dumps(plain(said)))


@functools.lru_cache(maxsize=256)
def _of_schema(text: str) -> Output:
    schema = json.loads(text)
    try:
        import jsonschema  # noqa: F401  # whether it is there
    except ImportError:
        raise ValueError(_NEEDS) from None
    try:
        require_schema(schema)
    except SchemaFault as fault:
        raise SchemaFault(f"`output`: {fault}", f"output.{fault.at}" if fault.at else "output") from None
    return Output(schema)
