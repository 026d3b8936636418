"""What a node of each type becomes: a node of ours with its properties, each with its place in the file."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from treadle.diagram.formats.light import shapes
from treadle.diagram.formats.light.made import Made, beside, inline
from treadle.diagram.formats.light.templates import spelled
from treadle.diagram.policy import Backoff
from treadle.errors import Where, did_you_mean

_ONE_NAME = re.compile(r"\{\{(?!\{)[^{}]*\}\}")
_SHELL = frozenset("|&;<>()$`*?[]#~!\\\n")
"""What makes a command a line for a shell."""
_NAMED = re.compile(r"\{\{(?!\{)[^{}]*\}\}")
_FILE = re.compile(r"[\w./ -]+\.(?:py|sh)")
"""Code that is the path of a file."""


def _start(said: shapes.Start, made: Made) -> None:
    if said.trigger_mode == "hook":
        made.fault("trigger_mode: hook waits for an event, and an execution here begins when it is started",
                   "trigger_mode", "write: manual; `treadle serve` lets others start it over HTTP")
    if said.custom_data:
        made.put("custom_data", made.map(said.custom_data, "custom_data"), "custom_data")


def _endpoint(said: shapes.Endpoint, made: Made) -> None:
    key = "file_name" if said.file_name is not None else "file_path"
    file = said.file_name if said.file_name is not None else said.file_path
    if said.file_name is not None and said.file_path is not None and said.file_name != said.file_path:
        made.fault("file_name and file_path are two names of one property", "file_path", "leave one out")
    if not said.save_to_file:
        for name in ("file_name", "file_path", "file_format"):
            if getattr(said, name) is not None:
                made.fault(f"{name} means nothing without save_to_file: true", name, warning=True)
    elif not file:
        made.fault("save_to_file needs file_name", "save_to_file")
    else:
        made.put("save_to", made.template(file, key), key)
        form = {"txt": "text", "md": "text", None: "text"}.get(said.file_format, said.file_format)
        made.put("save_as", form, "file_format")


def _person_job(said: shapes.PersonJob, made: Made) -> None:
    if said.person is None:
        made.fault("a person_job needs `person`", "", "name one of `persons`")
    else:
        made.put("person", said.person, "person")
    if said.default_prompt is not None and said.prompt_file is not None:
        made.fault("say either `default_prompt` or `prompt_file`", "prompt_file")
    elif said.prompt_file is not None:
        text = made.text_of(said.prompt_file, "prompt_file")
        made.put("prompt", made.template(text, "prompt_file"), "prompt_file")
    elif said.default_prompt is not None:
        made.put("prompt", made.template(said.default_prompt, "default_prompt"), "default_prompt")
    first = {"first_only_prompt": said.first_only_prompt, "first_prompt_file": said.first_prompt_file}
    if any(one is not None for one in first.values()) and (key := made.one_of(first, "a first prompt")):
        text = first[key] or ""
        made.put("first_prompt", made.template(
            made.text_of(text, key) if key == "first_prompt_file" else text, key), key)
    made.put("asks_max", said.max_iteration, "max_iteration")
    memory = _memory(said.memorize_to, said.at_most, made)
    if memory not in (None, "own"):
        made.put("memory", memory, "at_most" if memory.startswith("window") else "memorize_to")
    form = {"text_format": said.text_format, "text_format_file": said.text_format_file}
    if any(one is not None for one in form.values()) and (key := made.one_of(form, "an answer's form")):
        shape = made.text_of(said.text_format_file or "", key) if key == "text_format_file" else form[key]
        _text_format(shape or {}, key, made)


def _memory(memorize_to: str | None, at_most: int | None, made: Made) -> str | None:
    """What is remembered, in our words; None if nothing is said of it."""
    word = "" if memorize_to is None else memorize_to.strip().upper()
    if word == "GOLDFISH":
        return "none"
    if word not in ("", "ALL", "ALL_INVOLVED", "ALL_MESSAGES"):
        made.fault(f"memorize_to: {memorize_to!r}: no model chooses here what is remembered; it is all of "
                   "the person's own conversation", "memorize_to", did_you_mean(word, ["GOLDFISH"])
                   or "write GOLDFISH (nothing), or at_most: how many messages", warning=True)
    if at_most is not None:
        return f"window({at_most})"
    return {"": None, "ALL_MESSAGES": "all"}.get(word, "own")


def _text_format(said: str | dict[str, Any], key: str, made: Made) -> None:
    text = "" if isinstance(said, dict) else said.strip()
    if isinstance(said, dict) or text.startswith("{"):
        if schema := made.map(said, key):
            made.put("output", schema, key)
    elif ":" in text and not any(one.isspace() for one in text):
        made.put("output", text, key)
    else:
        made.fault(f"{key}: it takes a JSON schema, or `module:Class` of a pydantic model", key,
                   "put classes into a module beside the diagram" if "class " in text else None)


def _condition(said: shapes.Condition, made: Made) -> None:
    belongs = {"expression": "custom", "person": "llm_decision", "judge_by": "llm_decision",
               "judge_by_file": "llm_decision", "memorize_to": "llm_decision", "at_most": "llm_decision",
               "node_indices": "check_nodes_executed"}
    for key, kind in belongs.items():
        if getattr(said, key) is not None and said.condition_type != kind:
            made.fault(f"{key} belongs to condition_type: {kind}, and this is {said.condition_type}", key,
                       warning=True)
    if said.expose_index_as is not None:
        if not said.expose_index_as.isidentifier():
            made.fault(f"expose_index_as: {said.expose_index_as!r} can't be a name", "expose_index_as")
        made.put("expose_index_as", said.expose_index_as, "expose_index_as")
    if said.condition_type == "custom":
        if said.expression is None:
            made.fault("condition_type: custom needs `expression`")
        else:
            text = said.expression if isinstance(said.expression, str) else str(said.expression)
            made.put("when", made.expression(text, "expression"), "expression")
    elif said.condition_type == "detect_max_iterations":
        made.put("exhausted", True, "condition_type")
    elif said.condition_type == "check_nodes_executed":
        made.put("executed", _named(said.node_indices, made), "node_indices")
    else:
        _decision(said, made)


def _named(labels: Sequence[str] | None, made: Made) -> list[str]:
    """The ids of nodes by their labels; without any, of those whose arrows come here."""
    if labels is None:
        return list(dict.fromkeys(made.sources))
    found: list[str] = []
    for index, label in enumerate(labels):
        end = made.reader.labels.find(label)
        if isinstance(end, tuple):
            made.fault(f"node_indices: {end[0]}", f"node_indices[{index}]", end[1])
        else:
            found.append(end.node)
    return found


def _decision(said: shapes.Condition, made: Made) -> None:
    if said.person is None or not (said.judge_by or said.judge_by_file):
        made.fault("condition_type: llm_decision needs `person` and `judge_by`")
        return
    if said.judge_by and said.judge_by_file:
        made.fault("say either `judge_by` or `judge_by_file`", "judge_by_file")
    key = "judge_by" if said.judge_by else "judge_by_file"
    text = said.judge_by or made.text_of(said.judge_by_file or "", key)
    llm: dict[str, Any] = {"person": said.person, "question": made.template(text, key), "tries": 1}
    memory = _memory(said.memorize_to, said.at_most, made)
    if memory not in (None, "none"):  # they remember nothing unless it is said
        llm["memory"] = memory
    made.put("llm", llm, key)
    made.places["llm.person"] = made.places["llm"] = made.where("person") or Where()
    made.places["llm.question"] = made.where(key) or Where()


def _code_job(said: shapes.CodeJob, made: Made) -> None:
    made.rule("timeout", said.timeout, "timeout")
    language = said.language.strip().lower()
    if language not in ("python", "bash"):
        made.fault(f"language: {said.language!r} is not run here", "language",
                   did_you_mean(language, ("python", "bash")) or "there is python and bash")
        return
    key = made.one_of({"code": said.code, "file_path": said.file_path}, "a code_job")
    if key is None:
        return
    text = getattr(said, key)
    is_file = key == "file_path" or _FILE.fullmatch(text.strip()) is not None
    made.put("file" if is_file else "code", text.strip() if is_file else text, key)
    if language == "bash":
        made.put("language", "bash", "language")
        if said.function_name is not None:
            made.fault("function_name is for python", "function_name")
    elif said.function_name is not None:
        made.put("function", said.function_name, "function_name")


def _api_job(said: shapes.ApiJob, made: Made) -> None:
    made.put("url", made.template(said.url, "url"), "url")
    made.put("method", said.method.upper(), "method")
    headers = made.templates(made.map(said.headers, "headers"), "headers")
    params = made.templates(made.map(said.params, "params"), "params")
    for name, value in headers.items():
        if name.lower() == "authorization" and isinstance(value, str) and "{{" not in value:
            headers[name] = _constant(value)
            _warn_of_secret("headers", made)
    _authorize(said, headers, params, made)
    if headers:
        made.put("headers", headers, "headers")
    if params:
        made.put("params", params, "params")
    if said.timeout is not None:
        made.rule("timeout", said.timeout, "timeout")
    body = said.body
    if body is None or body == "":
        return
    if isinstance(body, str):
        text = body.strip()
        if _ONE_NAME.fullmatch(text) is None:
            try:
                body = json.loads(text)
            except ValueError:
                made.put("text", made.template(body, "body"), "body")
                return
    made.put("json", made.templates(body, "body"), "body")


_AUTH = {"bearer": {"token": "bearer", "bearer_token": "bearer"},
         "basic": {"username": "user", "user": "user", "password": "password"},
         "api_key": {"api_key": "api_key", "key": "api_key", "value": "api_key", "header": "header",
                     "header_name": "header", "key_name": "header", "query": "query", "prefix": "prefix"}}


def _authorize(said: shapes.ApiJob, headers: dict[str, Any], params: dict[str, Any], made: Made) -> None:
    """Who calls: by reference as `auth`, else as the header that it comes to."""
    if said.auth_type == "none":
        if said.auth_config:
            made.fault("auth_config means nothing without auth_type", "auth_config", warning=True)
        return
    found: dict[str, str] = {}
    for key, value in said.auth_config.items():
        known = _AUTH[said.auth_type]
        if key not in known or not isinstance(value, str | int):
            made.fault(f"auth_config has no {key!r} for {said.auth_type}" if key not in known else
                       f"auth_config.{key} must be a text", f"auth_config.{key}",
                       did_you_mean(key, known) or f"there is: {', '.join(known)}")
            return
        found[known[key]] = str(value)
    needed = {"bearer": ("bearer",), "basic": ("user", "password"), "api_key": ("api_key",)}[said.auth_type]
    for key in needed:
        if key not in found:
            names = next(name for name, ours in _AUTH[said.auth_type].items() if ours == key)
            made.fault(f"auth_type: {said.auth_type} needs auth_config.{names}",
                       "auth_config" if said.auth_config else "auth_type")
            return
    secret = found["password" if said.auth_type == "basic" else needed[0]]
    if secret.startswith(("env:", "secret://")):
        inner = found if said.auth_type == "api_key" else {
            "bearer": secret} if said.auth_type == "bearer" else {"basic": found}
        made.put("auth", inner, "auth_config")
        return
    _openly(said.auth_type, found, secret, headers, params, made)


def _openly(kind: str, found: dict[str, str], secret: str, headers: dict[str, Any], params: dict[str, Any],
            made: Made) -> None:
    if "{{" not in secret:
        _warn_of_secret("auth_config", made)
    if kind == "bearer":
        text = f"Bearer {secret}"
        headers["Authorization"] = made.template(text, "auth_config") if "{{" in secret else _constant(text)
    elif kind == "api_key":
        value = made.template(found.get("prefix", "") + secret, "auth_config")
        (params if "query" in found else headers)[found.get("query") or found.get("header", "X-API-Key")
                                                  ] = value
    elif "{{" in secret + found["user"]:
        made.fault("auth_config: a user or password of auth_type: basic can be no template", "auth_config",
                   "write env:NAME")
    else:
        pair = base64.b64encode(f"{found['user']}:{secret}".encode()).decode()
        headers["Authorization"] = _constant(f"Basic {pair}")


def _constant(text: str) -> str:
    """A text as an expression: an `api_job` refuses a secret that it sees."""
    return f"{{{{ {json.dumps(text)} }}}}"


def _warn_of_secret(key: str, made: Made) -> None:
    made.fault(f"{key} holds a secret in the clear, which everybody sees who sees the diagram", key,
               "write env:NAME in auth_config, and set that variable", warning=True)


def _db(said: shapes.Db, made: Made) -> None:
    made.put("operation", said.operation, "operation")
    if said.sub_type.strip().lower() != "file":
        made.fault(f"sub_type: {said.sub_type!r} is not known here", "sub_type", "there is: file")
    files = [said.file] if isinstance(said.file, str) else list(said.file)
    if not files or not all(files):
        made.fault("a db needs `file`", "file")
    texts = [made.template(one, "file") for one in files]
    made.put("file", texts[0] if len(texts) == 1 and not said.glob else texts, "file")
    reads = said.operation == "read"
    if said.glob:
        made.put("glob", True, "glob")
    if said.format is not None:
        made.put("format", said.format, "format")
    elif said.lines is not None:
        made.put("format", "text", "lines")
    if said.serialize_json and reads:
        made.put("serialize", True, "serialize_json")
    if said.keys is not None and said.keys not in ("", []):
        keys = [said.keys] if isinstance(said.keys, str) else said.keys
        texts = [made.template(one, "keys") for one in keys]
        made.put("key", texts[0] if len(texts) == 1 else texts, "keys")
    if said.lines is not None:
        made.put("lines", said.lines, "lines")
    if not reads:
        made.put("parse", True, "operation")


def _sub_diagram(said: shapes.SubDiagram, made: Made) -> None:
    form = said.diagram_format or "light"
    key = made.one_of({"diagram_name": said.diagram_name, "diagram_data": said.diagram_data}, "a sub_diagram")
    if key == "diagram_data":
        made.put("diagram", inline(said.diagram_data or {}, form, made), key)
    elif key == "diagram_name":
        made.put("diagram", beside(said.diagram_name or "", form, made), key)
    if said.input_mapping:
        made.put("inputs", {
            name: made.expression(one, f"input_mapping.{name}") if isinstance(one, str) else one
            for name, one in said.input_mapping.items()}, "input_mapping")
    if said.output_mapping:
        made.put("outputs", {name: made.expression(one, f"output_mapping.{name}")
                             for name, one in said.output_mapping.items()}, "output_mapping")
    if said.batch:
        # Only a list can be added to one: a map or a text is an error, and not done part by part.
        made.rule("for_each", f"{{{{ {spelled(said.batch_input_key)} + [] }}}}",
                  "batch_input_key" if "batch_input_key" in made.said else "batch")
        if not said.batch_parallel:
            made.rule("concurrency", 1, "batch_parallel")
    else:
        for name in ("batch_input_key", "batch_parallel"):
            if name in made.said:
                made.fault(f"{name} means nothing without batch: true", name, warning=True)


def _template_job(said: shapes.TemplateJob, made: Made) -> None:
    key = made.one_of({"template_content": said.template_content, "template_path": said.template_path},
                      "a template_job")
    made.known |= {spelled(name) for name in said.variables}
    if key == "template_content":
        text = said.template_content or ""
        made.put("text", made.template(text, key) if said.engine == "internal" else text, key)
    elif key == "template_path" and said.engine == "internal":
        made.put("text", made.template(made.text_of(said.template_path or "", key), key), key)
    elif key == "template_path":
        made.put("template", said.template_path, key)
    if said.variables:
        made.put("variables", {spelled(name): made.templates(one, f"variables.{name}")
                               for name, one in said.variables.items()}, "variables")
    if said.output_path:
        made.put("output_path", made.template(said.output_path, "output_path"), "output_path")


def _user_response(said: shapes.UserResponse, made: Made) -> None:
    made.put("prompt", made.template(said.prompt, "prompt"), "prompt")
    if said.timeout is not None:
        made.rule("timeout", said.timeout, "timeout")


_HOOKS = {"shell": ("command", "args", "env", "cwd"), "http": ("url", "method", "headers", "body"),
          "python": ("script", "code", "file_path", "function_name", "args"), "file": ("file_path", "format")}


def _hook(said: shapes.Hook, made: Made) -> None:
    kind = "http" if said.hook_type == "webhook" else said.hook_type
    for key in (one for other, keys in _HOOKS.items() if other != kind for one in keys):
        if getattr(said, key) is not None and key not in _HOOKS[kind]:
            made.fault(f"{key} is not for hook_type: {kind}", key, f"there is: {', '.join(_HOOKS[kind])}")
    if said.timeout is not None:
        made.rule("timeout", said.timeout, "timeout")
    if said.retry_count:
        made.rule("retries", said.retry_count, "retry_count")
        if said.retry_delay is not None:
            made.rule("backoff", Backoff(said.retry_delay, 1.0, max(said.retry_delay, 60.0)), "retry_delay")
    {"shell": _shell_hook, "http": _http_hook, "python": _python_hook, "file": _file_hook}[kind](said, made)


def _shell_hook(said: shapes.Hook, made: Made) -> None:
    if not said.command:
        made.fault("hook_type: shell needs `command`")
        return
    made.properties |= {"kind": "shell", "result": "output"}
    command, args, key = said.command, said.args, "args"
    if isinstance(args, dict):
        made.fault("args must be a list for hook_type: shell", "args")
        args = []
    if args is None and "{{" in command and not _SHELL & set(_NAMED.sub("", command)):
        # No line for a shell: as a program with arguments it takes values without any danger.
        command, *args = _words(command)
        key = "command"
    made.put("command", command, "command")
    if args is not None:
        made.put("args", made.templates(args, key), key)
    if said.env:
        made.put("env", made.templates(said.env, "env"), "env")
    if said.cwd is not None:
        made.put("cwd", made.template(said.cwd, "cwd"), "cwd")


def _words(line: str) -> list[str]:
    """A command as its words; names in double braces stay whole."""
    names = iter(_NAMED.findall(line))
    try:
        words = shlex.split(_NAMED.sub("\0", line))
    except ValueError:  # a quote that is never closed: the shell will say so
        return [line]
    return [re.sub("\0", lambda match: next(names), word) for word in words]


def _http_hook(said: shapes.Hook, made: Made) -> None:
    if not said.url:
        made.fault("hook_type: http needs `url`")
        return
    made.properties |= {"kind": "http", "result": "output"}
    made.put("url", made.template(said.url, "url"), "url")
    if said.method is not None:
        made.put("method", said.method.upper(), "method")
    if said.headers:
        made.put("headers", made.templates(said.headers, "headers"), "headers")
    if said.body is not None:
        made.put("body", made.templates(said.body, "body"), "body")


def _python_hook(said: shapes.Hook, made: Made) -> None:
    made.type = "code_job"
    key = made.one_of({"script": said.script, "code": said.code, "file_path": said.file_path},
                      "hook_type: python")
    if key is not None:
        made.put("code" if key == "code" else "file", getattr(said, key), key)
    if said.function_name is not None:
        made.put("function", said.function_name, "function_name")
    if isinstance(said.args, dict):
        made.put("arguments", said.args, "args")
    elif said.args is not None:
        made.fault("args must be a map for hook_type: python", "args")


def _file_hook(said: shapes.Hook, made: Made) -> None:
    made.type = "db"
    if not said.file_path:
        made.fault("hook_type: file needs `file_path`")
        return
    made.properties |= {"operation": "write", "parse": True}
    made.put("file", made.template(said.file_path, "file_path"), "file_path")
    if said.format is not None:
        made.put("format", said.format, "format")


def _validator(said: shapes.JsonSchemaValidator, made: Made) -> None:
    key = made.one_of({"json_schema": said.json_schema, "schema_path": said.schema_path},
                      "a json_schema_validator")
    if key == "json_schema":
        schema = said.json_schema
        made.put("schema", schema if isinstance(schema, bool | dict) else made.map(schema or "", key), key)
    elif key == "schema_path":
        made.put("schema_file", said.schema_path, key)
    if said.strict_mode:
        made.put("strict", True, "strict_mode")


KINDS: dict[str, Callable[[Any, Made], None]] = {
    "start": _start, "endpoint": _endpoint, "person_job": _person_job, "condition": _condition,
    "code_job": _code_job, "api_job": _api_job, "db": _db, "sub_diagram": _sub_diagram,
    "template_job": _template_job, "user_response": _user_response, "hook": _hook,
    "json_schema_validator": _validator}
"""Each reads the properties of one type, and gives the node ours."""
