"""`hook`: tells the outside world, by a program, a URL or a function."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import msgspec

from treadle.crypto.secrets import is_reference
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import Node
from treadle.diagram.types import Ports, Template
from treadle.nodes import api_job, code_job
from treadle.nodes.auth import asked, environment_of
from treadle.nodes.base import BodyContext, NodeKind, Suspend, bare
from treadle.nodes.files import plain
from treadle.nodes.filling import is_expression
from treadle.nodes.shell import bash, run_program, tell
from treadle.state.blob import Blob
from treadle.state.envelope import Envelope, infer

_INPUT = "hook_input"  # the name by which the template of a call finds what it tells
_OWN = {
    "shell": {"command", "args", "env", "cwd"},
    "http": {"url", "method", "headers", "params", "body", "auth", "expect", "verify"},
    "python": {"call", "arguments", "isolation"},
}


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tells the outside world about something, and passes its input on: one input as it is, several as a map
    by name. If the telling fails, so does the node.

    ```yaml
    treadle: 1
    nodes:
      report: {type: start, custom_data: {title: "3 % over; mind it"}}
      tell:
        type: hook
        kind: shell
        command: echo "$INPUT_report" >> told.txt
      done: {type: endpoint, needs: tell}
    arrows:
      - report -> tell.report
    ```

    `shell` runs a program with the input as JSON on stdin (a blob as it is), and each input in the
    environment as `INPUT_<name>` (`INPUT_default` without a label; in a map, `INPUT_item` and `INPUT_index`).
    `INPUT_<name>_FILE` names a file with the same, for inputs of any size; one over 64 KB is only there, as
    for `code_job`. An exit code other than 0 is a failure; a timeout and a cancellation kill it and all that
    it started.

    A `command` without `args` is a line for bash. Nothing is pasted into it, since a value with a quote or a
    `;` in it would be run: a template there is refused. Write `"$INPUT_name"`, with the quotes. A `command`
    with `args` is a program that gets them as they are, without a shell.

    `http` calls a URL as `api_job` does: secrets by `auth`, the same failures, the same that are tried
    again. `python` calls a function as `code_job` does. A hook may be tried again, or performed again after a
    crash: what it tells should do no harm twice.
    """

    kind: Literal["shell", "http", "python"]
    """How it tells."""
    result: Literal["input", "output"] = "input"
    """What the node's result is: its input, or what the program, server or function answered."""
    response: Literal["auto", "json", "text", "bytes"] = "auto"
    """How the answer is read, with `result: output`. `auto` is text for a program, and goes by the
    Content-Type for a server. `bytes` is for servers."""
    command: str | None = None
    """shell: a line for bash or, with `args`, a program."""
    args: list[Template] | None = None
    """shell: the program's arguments; each is a template, and reaches it as one argument."""
    env: dict[str, Template] = {}
    """shell: more variables for its environment; each value is a template, or the name of a secret
    (`secret://NAME`, `env:NAME`)."""
    cwd: Template | None = None
    """shell: the folder to run in, relative to the diagram's, which it is by default."""
    url: Template | None = None
    """http: where to."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] = "POST"
    """http: what to do there."""
    headers: dict[str, Template | Any] = {}
    """http: headers by name; each value is a template, or `secret://NAME`."""
    params: dict[str, Template | Any] = {}
    """http: parameters that the URL's query gets, each like a header."""
    body: Template | dict[str, Template | Any] | list[Template | Any] | Any = None
    """http: what to send: a text as it is, anything else as JSON, templates filled in. Without it the input
    is sent as JSON, unless the method is GET, HEAD, DELETE or OPTIONS."""
    auth: str | dict[str, Any] | None = None
    """http: who calls, as for `api_job`: `{bearer: env:TOKEN}`."""
    expect: int | str | list[int | str] = "2xx"
    """http: the statuses that count as success."""
    verify: bool = True
    """http: whether the server must prove by its certificate who it is."""
    call: str | None = None
    """python: `module:function`, as for `code_job`."""
    arguments: dict[str, Any] = {}
    """python: constants, by the name of the parameter."""
    isolation: Literal["inline", "thread", "process"] | None = None
    """python: where it runs, as for `code_job`."""


class HookStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext,
                      inputs: dict[str, Any]) -> Envelope | Suspend:
        spec: Hook = node.spec
        value = bare(inputs, context)
        if spec.kind == "shell":
            answer = _answer(await _shell(spec, context, inputs, value), context)
        elif spec.kind == "http":
            answer = await api_job.KIND.strategy.execute(
                msgspec.structs.replace(node, spec=_call(spec)), context,  # type: ignore[assignment]
                {**inputs, _INPUT: value})
        else:
            found = await code_job.KIND.strategy.execute(
                msgspec.structs.replace(node, spec=_job(spec)), context, inputs)
            if isinstance(found, Suspend):
                raise TypeError(f"hook: {spec.call} would suspend; use wait_for or user_response for that")
            answer = found
        if spec.result == "output":
            return answer
        return Envelope(context.node_id, context.node_id, infer(value), value, _meta(answer))

    def can_handle(self, node_type: str) -> bool:
        return node_type == "hook"


def _meta(answer: Envelope) -> dict[str, Any]:
    return {name: one for name, one in (answer.meta or {}).items() if name != "port"}


def _answer(value: Any, context: BodyContext) -> Envelope:
    return Envelope(context.node_id, context.node_id, infer(value), value)


async def _shell(spec: Hook, context: BodyContext, inputs: dict[str, Any], value: Any) -> Any:
    assert spec.command is not None
    folder = context.path("." if spec.cwd is None else context.render(spec.cwd, inputs))
    if not folder.is_dir():
        raise FileNotFoundError(f"`cwd`: there is no folder {folder}")
    given = {**context.around(inputs), **inputs}
    if context.index is not None:
        given |= {"item": context.item, "index": context.index}
    told = tell(given)
    environment = {**os.environ, **await environment_of(context), **told.environment,
                   **await asked(lambda: {name: context.secret(text) if is_reference(text) else
                                          context.render(text, inputs) for name, text in spec.env.items()},
                                 *spec.env.values())}
    arguments: list[str | bytes]
    if spec.args is None:
        told.require(spec.command)
        arguments = bash(spec.command)
    else:
        program = spec.command if "/" not in spec.command else str(folder / spec.command)
        if shutil.which(program, path=environment.get("PATH")) is None:
            raise FileNotFoundError(f"`command`: there is no program {spec.command!r}: install it, or leave "
                                    "out `args` if it is a line for bash")
        arguments = [program, *(context.render(text, inputs) for text in spec.args)]
    if any(isinstance(text, str) and "\0" in text for text in (*arguments, *environment.values())):
        raise ValueError("a program can't be handed a text with a null character: let it read stdin")
    text = await run_program(arguments, environment, folder=folder, name=context.node_id,
                             config=context.config, files=told.files, stdin=_stdin(value))
    if spec.result == "input" or spec.response != "json":
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"`response: json`: what the program printed is not JSON ({error}): "
                         f"{text:.200}") from None


def _stdin(value: Any) -> bytes | Path:
    if isinstance(value, Blob):
        return value.path()
    return json.dumps(plain(value), ensure_ascii=False).encode()


def _call(spec: Hook) -> api_job.ApiJob:
    """The hook as a call of an API."""
    body: dict[str, Any] = {}
    if isinstance(spec.body, str) and not is_expression(spec.body):
        body = {"text": spec.body}
    elif spec.body is not None:
        body = {"json": spec.body}
    elif spec.method in ("POST", "PUT", "PATCH"):
        body = {"json": "{{ " + _INPUT + " }}"}
    assert spec.url is not None
    # An answer that nobody wants must not fail for its form.
    response = spec.response if spec.result == "output" else "bytes"
    return api_job.ApiJob(url=spec.url, method=spec.method, headers=spec.headers, params=spec.params,
                          auth=spec.auth, expect=spec.expect, verify=spec.verify, response=response, **body)


def _job(spec: Hook) -> code_job.CodeJob:
    """The hook as a call of a function."""
    return code_job.CodeJob(call=spec.call, arguments=spec.arguments, isolation=spec.isolation)


class HookKind(NodeKind):
    def ports(self, spec: Hook, node: Node, base: str) -> Ports:
        for other, keys in _OWN.items():
            for key in sorted(keys & node.properties.keys()):
                if other != spec.kind:
                    raise ValueError(f"`{key}` belongs to `kind: {other}`, not to `kind: {spec.kind}`")
        needed = {"shell": "command", "http": "url", "python": "call"}[spec.kind]
        if not getattr(spec, needed):
            raise ValueError(f"`kind: {spec.kind}` needs `{needed}`")
        known = {"shell": ("auto", "text", "json"), "python": ("auto",)}.get(spec.kind)
        if known is not None and spec.response not in known:
            raise ValueError(f"`response: {spec.response}` means nothing for `kind: {spec.kind}`")
        if spec.kind == "http":
            return api_job.KIND.ports(_call(spec), node, base)
        if spec.kind == "python":
            return code_job.KIND.ports(_job(spec), node, base)
        self._require_command(spec, base)
        return Ports()

    def _require_command(self, spec: Hook, base: str) -> None:
        assert spec.command is not None
        if re.search(r"\{\{\s*[A-Za-z_]", spec.command):
            raise ValueError("`command` is no template: a value that is pasted into a line for bash could be "
                             "run. Write \"$INPUT_name\" there, or hand it over in `args` or `env`")
        if "\0" in spec.command:
            raise ValueError("`command` has a null character in it")
        for name in spec.env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"`env`: {name!r} is no name of a variable")
        if spec.cwd is not None and "{" not in spec.cwd and not (Path(base) / spec.cwd).is_dir():
            raise ValueError(f"`cwd`: there is no folder {spec.cwd!r} in {Path(base).resolve()}")

    def sources(self, spec: Hook, node: Node, base: str) -> list[str]:
        return code_job.KIND.sources(_job(spec), node, base) if spec.kind == "python" else []


KIND = HookKind("hook", Hook, HookStrategy(), secrets=("auth", "env", "headers", "params"))
