"""What a node of each type may say in the light dialect, by the dialect's own names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Start(msgspec.Struct, frozen=True):
    custom_data: dict[str, Any] | str = {}
    trigger_mode: Literal["none", "manual", "hook"] = "none"


class Endpoint(msgspec.Struct, frozen=True):
    save_to_file: bool = False
    file_name: str | None = None
    file_path: str | None = None
    file_format: Literal["json", "text", "txt", "md", "yaml", "csv"] | None = None


class PersonJob(msgspec.Struct, frozen=True):
    person: str | None = None
    default_prompt: str | None = None
    first_only_prompt: str | None = None
    prompt_file: str | None = None
    first_prompt_file: str | None = None
    max_iteration: _Count = 100
    memorize_to: str | None = None
    at_most: _Count | None = None
    text_format: str | dict[str, Any] | None = None
    text_format_file: str | None = None


class Condition(msgspec.Struct, frozen=True):
    condition_type: Literal[
        "custom", "detect_max_iterations", "check_nodes_executed", "llm_decision"] = "custom"
    expression: str | bool | None = None
    person: str | None = None
    judge_by: str | None = None
    judge_by_file: str | None = None
    memorize_to: str | None = None
    at_most: _Count | None = None
    node_indices: list[str] | None = None
    expose_index_as: str | None = None
    skippable: bool = False


class CodeJob(msgspec.Struct, frozen=True):
    language: str = "python"
    code: str | None = None
    file_path: str | None = None
    function_name: str | None = None
    timeout: _Seconds = 30


class ApiJob(msgspec.Struct, frozen=True):
    url: str
    method: str = "GET"
    headers: dict[str, Any] | str = {}
    params: dict[str, Any] | str = {}
    body: Any = None
    timeout: _Seconds | None = None
    auth_type: Literal["none", "bearer", "basic", "api_key"] = "none"
    auth_config: dict[str, Any] = {}


class Db(msgspec.Struct, frozen=True):
    operation: Literal["read", "write", "append", "update"]
    sub_type: str = "file"
    file: str | list[str] = ""
    glob: bool = False
    format: Literal["json", "yaml", "csv", "text"] | None = None
    serialize_json: bool = False
    keys: str | list[str] | None = None
    lines: str | int | list[str | int] | None = None


class SubDiagram(msgspec.Struct, frozen=True):
    diagram_name: str | None = None
    diagram_data: dict[str, Any] | None = None
    diagram_format: Literal["light", "native", "treadle"] | None = None
    input_mapping: dict[str, Any] = {}
    output_mapping: dict[str, str] = {}
    batch: bool = False
    batch_input_key: str = "items"
    batch_parallel: bool = True


class TemplateJob(msgspec.Struct, frozen=True):
    engine: Literal["internal", "jinja2"] = "internal"
    template_content: str | None = None
    template_path: str | None = None
    variables: dict[str, Any] = {}
    output_path: str | None = None


class UserResponse(msgspec.Struct, frozen=True):
    prompt: str = ""
    timeout: _Seconds | None = None


class Hook(msgspec.Struct, frozen=True):
    """All but `hook_type` may stand under `config` too."""

    hook_type: Literal["shell", "http", "webhook", "python", "file"]
    command: str | None = None
    args: list[str] | dict[str, Any] | None = None
    env: dict[str, str] | None = None
    cwd: str | None = None
    url: str | None = None
    method: str | None = None
    headers: dict[str, Any] | None = None
    body: Any = None
    script: str | None = None
    code: str | None = None
    function_name: str | None = None
    file_path: str | None = None
    format: Literal["json", "text", "yaml", "csv"] | None = None
    timeout: _Seconds | None = None
    retry_count: Annotated[int, msgspec.Meta(ge=0)] | None = None
    retry_delay: Annotated[float, msgspec.Meta(ge=0)] | None = None


class JsonSchemaValidator(msgspec.Struct, frozen=True):
    json_schema: dict[str, Any] | str | bool | None = None
    schema_path: str | None = None
    strict_mode: bool = False


SHAPES: dict[str, type[msgspec.Struct]] = {
    "start": Start, "endpoint": Endpoint, "person_job": PersonJob, "condition": Condition,
    "code_job": CodeJob, "api_job": ApiJob, "db": Db, "sub_diagram": SubDiagram,
    "template_job": TemplateJob, "user_response": UserResponse, "hook": Hook,
    "json_schema_validator": JsonSchemaValidator}
"""The types of node that the dialect has."""
