"""What a node of each of our types is called in the light dialect, property by property."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from treadle.diagram.formats import from_map
from treadle.diagram.formats.conversion.inverse import to_expression, to_template
from treadle.diagram.formats.writing import as_map
from treadle.diagram.node import Node
from treadle.diagram.policy import Policy
from treadle.errors import ExpressionError, Fault, Where

NO_LIMIT_S = 31_536_000
"""The seconds that stand for no limit where the dialect has one by itself: a year."""
ASKS_MAX = 100
"""How often a person is asked at most by the dialect, if a node doesn't say; as often as a loop turns."""
_BATCH = re.compile(r"\{\{ (\w+) \+ \[\] \}\}")
_ONE_NAME = re.compile(r"\{\{(?:(?!\{\{).)*\}\}", re.DOTALL)
_CALL = re.compile(r"(\w+):(\w+)")
_USUAL = msgspec.to_builtins(Policy())


class Said:
    """A node in the making: what is left of our properties, and what the dialect says of them so far.

    `settled` are properties of ours that come back another way and mean the same."""

    def __init__(self, node: Node, labels: Mapping[str, str], faults: list[Fault]) -> None:
        self.node, self.labels, self.faults = node, labels, faults
        policy = msgspec.to_builtins(node.policy)
        self.left: dict[str, Any] = {**node.properties, **{
            key: one for key, one in policy.items() if one != _USUAL.get(key)}}
        self.out: dict[str, Any] = {}
        self.settled: set[str] = set()

    def fault(self, message: str, key: str = "", hint: str | None = None, *, warning: bool = False) -> None:
        where = self.node.places.get(key, self.node.where)
        self.faults.append(Fault(message, node=self.node.label or self.node.id, where=where, hint=hint,
                                 warning=warning))

    def take(self, key: str, name: str | None = None) -> Any:
        """Take a property; under `name` it is said as it is. None if there is none."""
        value = self.left.pop(key, None)
        if name is not None and value is not None:
            self.out[name] = value
        return value

    def template(self, key: str, name: str) -> None:
        """Say a template, or a structure of them."""
        value = self.take(key)
        if value is not None:
            self.out[name] = self.text(key, value, to_template)

    def expression(self, key: str, name: str) -> None:
        value = self.take(key)
        if value is not None:
            self.out[name] = self.text(key, value, to_expression)

    def text(self, key: str, value: Any, inverse: Callable[[str], str]) -> Any:
        if isinstance(value, dict):
            return {name: self.text(f"{key}.{name}", one, inverse) for name, one in value.items()}
        if isinstance(value, list):
            return [self.text(f"{key}[{index}]", one, inverse) for index, one in enumerate(value)]
        try:
            return inverse(value) if isinstance(value, str) else value
        except ExpressionError as error:
            self.fault(f"{key}: {error}", key)
            return value

    def seconds(self, default: float | None = None) -> None:
        """Say the timeout; what has none gets one so long that it is none, where the dialect has a
        default."""
        said = self.take("timeout")
        if said is None and default is not None:
            self.settled.add("timeout")
            said = NO_LIMIT_S
        if said != default:
            self.out["timeout"] = int(said) if float(said).is_integer() else said


def _start(said: Said) -> None:
    said.take("custom_data", "custom_data")


def _endpoint(said: Said) -> None:
    file = said.left.get("save_to")
    if file is None:
        return
    said.out["save_to_file"] = True
    said.template("save_to", "file_name")
    form = said.take("save_as")
    if form not in (None, "text"):
        said.out["file_format"] = form
    elif form is None:
        said.settled.add("save_as")
        if str(file).lower().endswith((".yaml", ".yml", ".csv")):
            said.fault("save_to: without `save_as` a value is written as the name ends, and by the dialect "
                       "as JSON", "save_to", "say save_as")


def _person_job(said: Said) -> None:
    if isinstance(said.left.get("person"), str):
        said.take("person", "person")
    said.template("prompt", "default_prompt")
    said.template("first_prompt", "first_only_prompt")
    asks_max = said.take("asks_max")
    if asks_max is None:
        said.settled.add("asks_max")
    elif asks_max != ASKS_MAX:
        said.out["max_iteration"] = asks_max
    memory = _memory(said.left.get("memory"))
    if memory is not None:
        if said.take("memory") == "own":  # what a person remembers anyway
            said.settled.add("memory")
        else:
            said.out |= memory
    said.take("output", "text_format")


def _condition(said: Said) -> None:
    said.take("expose_index_as", "expose_index_as")
    if "when" in said.left:
        said.out["condition_type"] = "custom"
        said.expression("when", "expression")
    elif said.left.get("exhausted"):
        said.take("exhausted")
        said.out["condition_type"] = "detect_max_iterations"
    elif "executed" in said.left:
        said.out["condition_type"] = "check_nodes_executed"
        said.out["node_indices"] = [said.labels.get(one, one) for one in said.take("executed")]
    elif (decision := _decision(said)) is not None:
        said.take("llm")
        said.out |= {"condition_type": "llm_decision", **decision}


def _memory(memory: Any) -> dict[str, Any] | None:
    """What the dialect says of what is remembered; None if it can't."""
    if isinstance(memory, str) and (window := re.fullmatch(r"window\((\d+)\)", memory)):
        return {"at_most": int(window[1])}
    words = {"none": {"memorize_to": "GOLDFISH"}, "own": {"memorize_to": "ALL_INVOLVED"},
             "all": {"memorize_to": "ALL_MESSAGES"}}
    return words.get(memory) if isinstance(memory, str) else None


def _decision(said: Said) -> dict[str, Any] | None:
    """A decision by a person; None if the dialect can't say it: it asks once."""
    llm = said.left.get("llm")
    if not isinstance(llm, dict) or llm.get("tries") != 1 or llm.keys() - {"memory"} != {
            "person", "question", "tries"} or not isinstance(llm["person"], str):
        return None
    memory = _memory(llm.get("memory", "none"))
    if memory is None:
        return None
    question = said.text("llm.question", llm["question"], to_template)
    return {"person": llm["person"], "judge_by": question, **(memory if "memory" in llm else {})}


def _code_job(said: Said) -> None:
    if "arguments" in said.left and said.left.keys() <= {"file", "code", "function", "arguments", "timeout"}:
        said.out |= {"type": "hook", "hook_type": "python"}  # which hands over arguments, and is the same
        for key, name in (("file", "script"), ("code", "code"), ("function", "function_name"),
                          ("arguments", "args")):
            said.take(key, name)
        said.seconds()
        return
    said.take("language", "language")
    said.take("code", "code")
    said.take("file", "file_path")
    said.take("function", "function_name")
    call = said.left.get("call")
    if isinstance(call, str) and (match := _CALL.fullmatch(call)):
        said.take("call")
        said.out |= {"file_path": f"{match[1]}.py", "function_name": match[2]}
        said.settled |= {"call", "file", "function"}
    said.seconds(30)


def _api_job(said: Said) -> None:
    said.template("url", "url")
    method = said.take("method")
    if method not in (None, "GET"):
        said.out["method"] = method
    said.settled.add("method")
    said.template("headers", "headers")
    said.template("params", "params")
    _body(said)
    said.seconds()
    auth = said.left.get("auth")
    if not isinstance(auth, dict):
        return
    if isinstance(auth.get("basic"), dict) and auth.keys() == {"basic"}:
        names = {"user": "username", "password": "password"}
        kind, config = "basic", {names.get(key, key): one for key, one in auth["basic"].items()}
    elif auth.keys() == {"bearer"}:
        kind, config = "bearer", {"token": auth["bearer"]}
    else:
        kind, config = "api_key", auth
    said.take("auth")
    said.out |= {"auth_type": kind, "auth_config": config}


def _body(said: Said) -> None:
    """The dialect knows by the body whether it is JSON: if it is no text, or the text of some."""
    is_text = "text" in said.left
    said.template("text" if is_text else "json", "body")
    body = said.out.get("body")
    if not isinstance(body, str):
        return
    if not is_text and not _ONE_NAME.fullmatch(body.strip()):
        said.out["body"] = json.dumps(body, ensure_ascii=False)
    elif is_text and (body.startswith("{{") or _is_json(body)):
        said.out["body"] = "{{!}}" + body  # a comment, which makes a mere text of it


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _db(said: Said) -> None:
    operation = said.take("operation", "operation")
    said.out["sub_type"] = "file"
    said.template("file", "file")
    for key, name in (("glob", "glob"), ("format", "format"), ("serialize", "serialize_json"),
                      ("lines", "lines")):
        said.take(key, name)
    said.template("key", "keys")
    if operation not in ("read", "write", "append", "update"):
        said.fault(f"operation: the light dialect has no {operation!r} of a db", "operation")
    elif not said.take("parse") and operation != "read":
        said.settled.add("parse")
        said.fault("a text that is JSON is written as a text by this node, and as what it says by the "
                   "dialect", "operation", warning=True)


def _sub_diagram(said: Said) -> None:
    diagram = said.take("diagram")
    if isinstance(diagram, str):
        form = "light" if ".light." in diagram else "native" if ".native." in diagram else "treadle"
        said.out |= {"diagram_name": diagram, "diagram_format": form}
    else:
        inner, faults = from_map(diagram or {}, where=said.node.where or Where(), name=said.node.id)
        said.faults += faults
        said.out |= {"diagram_data": {} if inner is None else as_map(inner), "diagram_format": "treadle"}
        said.settled.add("diagram")
    said.expression("inputs", "input_mapping")
    said.expression("outputs", "output_mapping")
    batch = _BATCH.fullmatch(str(said.left.get("for_each", "")))
    if batch is not None:
        said.take("for_each")
        said.out |= {"batch": True, "batch_input_key": batch[1]}
        if said.left.get("concurrency") == 1:
            said.take("concurrency")
            said.out["batch_parallel"] = False


def _template_job(said: Said) -> None:
    said.out["engine"] = "jinja2"
    said.take("text", "template_content")
    said.take("template", "template_path")
    said.template("variables", "variables")
    said.template("output_path", "output_path")


def _user_response(said: Said) -> None:
    said.template("prompt", "prompt")
    said.seconds()


def _hook(said: Said) -> None:
    kind = said.left.get("kind")
    if kind in ("shell", "http") and said.left.get("result") == "output":
        said.take("kind", "hook_type")
        said.take("result")
    said.take("command", "command")
    for key in ("args", "env", "cwd", "url", "headers", "body"):
        said.template(key, key)
    said.take("method", "method")
    said.seconds()
    said.take("retries", "retry_count")
    backoff = said.left.get("backoff")
    if isinstance(backoff, dict) and backoff.get("factor") == 1.0:
        said.take("backoff")
        said.out["retry_delay"] = backoff.get("initial", 0.1)


def _validator(said: Said) -> None:
    said.take("schema", "json_schema")
    said.take("schema_file", "schema_path")
    said.take("strict", "strict_mode")


KINDS: Mapping[str, Callable[[Said], None]] = {
    "start": _start, "endpoint": _endpoint, "person_job": _person_job, "condition": _condition,
    "code_job": _code_job, "api_job": _api_job, "db": _db, "sub_diagram": _sub_diagram,
    "template_job": _template_job, "user_response": _user_response, "hook": _hook,
    "json_schema_validator": _validator}
