"""`code_job`: calls a Python function, runs Python code that stands in the diagram, or a bash script."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

import msgspec

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.fingerprint import source_of
from treadle.diagram.node import DEFAULT, Node
from treadle.diagram.types import Ports
from treadle.nodes import inline
from treadle.nodes.auth import environment_of
from treadle.nodes.base import Body, BodyContext, NodeKind, Suspend, result_of
from treadle.nodes.binding import CONTEXT, INPUTS, ITEM, Arguments, Signature, plan
from treadle.nodes.modules import (
    Reference,
    attribute,
    load_file_function,
    load_function,
    plain_function,
)
from treadle.nodes.processes import Limits, SharedName, call_there, run_code_there, snapshot
from treadle.nodes.sharing import open_desk
from treadle.nodes.shell import run_bash
from treadle.state import codec
from treadle.state.context import Space
from treadle.state.envelope import Envelope

Isolation = Literal["inline", "thread", "process"]


class CodeJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Runs code; what it returns is the node's result.

    Say one of `call`, `code` and `file`. Inputs with a label go to the parameters of that name; the
    unlabelled one to the parameter that is free, or of several to those named like the node that it comes
    from; in a map the item goes to the parameter `item` or the first free one. A parameter `inputs` gets all
    inputs as a map, `context` what is known of the attempt (`node_id`, `attempt`, `idempotency_key` …),
    `**kwargs` the rest. By `context` it also reads and sets what the bodies of the execution share
    (`context.variables`, `context.artifacts`, `context.transaction()`: see context.md).

    In Python `code` the inputs are local names, as are the nodes that they come from, and `inputs` is all of
    them; `variables` and `artifacts` are those that bodies share, to read and to set; `context` is what it
    is for functions (`context.secret("secret://NAME")`), unless an input has that name. The result is what
    `return` gives, else the variable `result`, else that of the function which the code ends with. In bash
    each input is in the environment, as `INPUT_<name>` (a text as it is, a blob as the path of its file,
    anything else as JSON), beside the `environment_vars` of the diagram, and the result is what the
    script prints, without the last newline. An exit code other than 0 is a failure.

    `INPUT_<name>_FILE` names a file with the same content, for inputs of any size. One over 64 KB (or over
    512 KB together with those before it), or with a null character, is only there: a script that names its
    `INPUT_<name>` then fails.

    ```yaml
    treadle: 1
    nodes:
      begin: {type: start, custom_data: {words: [big, small]}}
      count:
        type: code_job
        code: |
          return {word: len(word) for word in begin["words"]}
        needs: begin
      shout:
        type: code_job
        language: bash
        code: echo "$INPUT_default" | tr a-z A-Z
        needs: count
    ```
    """

    call: str | None = None
    """`module:function`; the module is a file of the diagram's folder, or an installed one."""
    code: str | None = None
    """The code itself."""
    file: str | None = None
    """A file with the code, relative to the diagram's folder."""
    function: str | None = None
    """The function of `file` or `code` to call. Without it the file is run like `code`, and of `code` it is
    the one that it ends with or names in its last line."""
    language: Literal["python", "bash"] = "python"
    """What `code` and `file` are written in."""
    isolation: Isolation | None = None
    """Where Python runs. `inline`: in the event loop, for async functions (the default for these). `thread`:
    the default for other functions named by `call`; at its timeout a thread is told, and abandoned.
    `process`: the default for `code` and `file`; a timeout kills it, and a crash there is only a failure of
    this node."""
    memory_mb_max: int | None = None
    """Address space of a process body in MB, instead of the engine's limit."""
    arguments: dict[str, Any] = {}
    """Constants, by the name of the parameter."""


class CodeJobStrategy:
    """`bind` does the look-ups once; `execute` is for those who call a strategy by hand."""

    async def execute(self, node: ExecutableNode, context: BodyContext,
                      inputs: dict[str, Any]) -> Envelope | Suspend:
        return await self.bind(node)(context, inputs)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "code_job"

    def bind(self, node: ExecutableNode) -> Body:
        spec: CodeJob = node.spec if node.spec is not None else CodeJob()
        if node.function is None and spec.language == "bash":
            return _bash(node, spec, _code(spec, node.base))
        function = node.function or _function(spec, node.base)
        if function is None:
            return _inline(node, spec, _code(spec, node.base))
        isolation = spec.isolation or _default(function, spec)
        if isolation == "inline" and not spec.arguments and isinstance(function, FunctionType):
            return _shared(function, node.is_map)
        arguments = plan(Signature.of(function), spec.arguments, is_map=node.is_map)
        if spec.file is not None:
            arguments = _surrounded(Signature.of(function), spec.arguments, arguments)
        if isolation == "process":
            return _in_process(node, spec, Reference.of(function), arguments)
        if isolation == "thread":
            return _in_thread(node, function, arguments)
        return _in_loop(function, arguments)


def _surrounded(signature: Signature, constants: Mapping[str, Any], arguments: Arguments) -> Arguments:
    """A file's function is given what is known around the node as code in the diagram is: by name, where no
    arrow brings it."""
    names = [name for name in signature.names if name not in constants]

    def found(context: BodyContext, inputs: dict[str, Any]) -> dict[str, Any]:
        around = context.around(inputs)
        near = {name: around[name] for name in names if name in around and name not in inputs
                and (name != ITEM or context.index is None)}
        if not near:
            return arguments(context, inputs)
        known = {**near, **inputs}
        if signature.required <= known.keys() | constants.keys():
            known.pop(DEFAULT, None)  # it is for a parameter that nothing is named like
        given = arguments(context, known)
        return {**given, INPUTS: inputs} if signature.inputs else given

    return found


def _default(function: Callable[..., Any], spec: CodeJob) -> Isolation:
    if spec.file is not None:
        return "process"
    if isinstance(function, FunctionType) and function.__code__.co_flags & inspect.CO_COROUTINE:
        return "inline"  # the usual case, fifty times faster to see
    return "inline" if inspect.iscoroutinefunction(function) else "thread"


def _function(spec: CodeJob, base: str) -> Callable[..., Any] | None:
    if spec.call is not None:
        return load_function(spec.call, base)
    if spec.file is not None and spec.function is not None:
        return load_file_function(spec.file, spec.function, base)
    if spec.function is not None and spec.code is None:  # drawn in Python, not importable
        module, _, name = spec.function.partition(":")
        found: Callable[..., Any] | None = plain_function(attribute(sys.modules.get(module), name))
        if found is None:
            raise ValueError(f"{spec.function!r} was drawn in Python and has no import path: run the program "
                             "that draws it, or move the function into a module")
        return found
    return None


def _code(spec: CodeJob, base: str) -> str:
    if spec.code is not None:
        return spec.code if spec.function is None else f"{spec.code}\n{spec.function}"
    assert spec.file is not None
    path = Path(base) / spec.file
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {spec.file!r} in {Path(base).resolve()}") from None


@functools.lru_cache(maxsize=1024)
def _shared(function: FunctionType, is_map: bool) -> Body:
    """The body of every node that calls this function and adds nothing: a wide diagram has thousands."""
    return _in_loop(function, plan(Signature.of(function), is_map=is_map))


def _in_loop(function: Callable[..., Any], arguments: Arguments) -> Body:
    if inspect.iscoroutinefunction(function):
        async def body(context: BodyContext, inputs: dict[str, Any]) -> Envelope | Suspend:
            return result_of(await function(**arguments(context, inputs)), context)
    else:
        async def body(context: BodyContext, inputs: dict[str, Any]) -> Envelope | Suspend:
            value = function(**arguments(context, inputs))
            return result_of(await value if inspect.isawaitable(value) else value, context)
    return body


def _in_thread(node: ExecutableNode, function: Callable[..., Any], arguments: Arguments) -> Body:
    timeout = node.policy.timeout
    call = inline.run_async(function) if inspect.iscoroutinefunction(function) else function

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Envelope | Suspend:
        given = arguments(context, inputs)
        value = await context.executor("thread").run(_call, call, given, timeout=timeout,
                                                     name=context.node_id)
        return result_of(value, context)

    return body


def _call(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return function(**arguments)


def _in_process(node: ExecutableNode, spec: CodeJob, reference: Reference, arguments: Arguments) -> Body:
    timeout, memory_mb = node.policy.timeout, spec.memory_mb_max
    where = list(msgspec.structs.astuple(reference))

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Envelope | Suspend:
        found = arguments(context, inputs)
        given = {name: snapshot(context) if value is context else value for name, value in found.items()}
        if given != found:
            open_desk(context)
        raw = await context.executor("process").run(
            call_there, where, codec.encode(given), context.place.spec, await environment_of(context),
            timeout=timeout, memory_mb=memory_mb, name=context.node_id)
        return result_of(codec.decode(raw), context)

    return body


def _inline(node: ExecutableNode, spec: CodeJob, code: str) -> Body:
    file = f"<code of node {node.id}>" if spec.file is None else str(Path(node.base) / spec.file)
    compiled = inline.Code(code, file)
    isolation = spec.isolation or "process"
    timeout, memory_mb = node.policy.timeout, spec.memory_mb_max

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Envelope | Suspend:
        names = {**spec.arguments, **compiled.names(context, inputs)}
        if CONTEXT in spec.arguments and names.get(CONTEXT) is context:
            names[CONTEXT] = spec.arguments[CONTEXT]
        if isolation == "process":
            shared: dict[str, Any] = {name: SharedName(value.space, Limits.of(context.config))
                                      for name, value in names.items() if isinstance(value, Space)}
            shared |= {name: snapshot(context) for name, value in names.items() if value is context}
            if shared:
                names |= shared
                open_desk(context)
            raw = await context.executor("process").run(
                run_code_there, compiled.text, compiled.file, codec.encode(names), context.place.spec,
                await environment_of(context), timeout=timeout, memory_mb=memory_mb, name=context.node_id)
            return result_of(codec.decode(raw), context)
        if isolation == "thread":
            return result_of(await context.executor("thread").run(compiled.run, names, timeout=timeout,
                                                                  name=context.node_id), context)
        return result_of(await compiled.run_here(names), context)

    return body


def _bash(node: ExecutableNode, spec: CodeJob, code: str) -> Body:
    async def body(context: BodyContext, inputs: dict[str, Any]) -> Envelope | Suspend:
        given: Mapping[str, Any] = {**context.around(inputs), **spec.arguments, **inputs}
        if context.index is not None:
            given = {**given, "item": context.item, "index": context.index}
        text = await run_bash(code, given, await environment_of(context), folder=context.path("."),
                              name=context.node_id, config=context.config)
        return Envelope(context.node_id, context.node_id, "raw_text", text)

    return body


class CodeJobKind(NodeKind):
    def ports(self, spec: CodeJob, node: Node, base: str) -> Ports:
        said = [name for name in ("call", "code", "file") if getattr(spec, name) is not None]
        if not said and spec.function is not None:  # drawn in Python: `Diagram.functions` has it
            return Ports()
        if len(said) != 1:
            raise ValueError("say one of `call`, `code` and "
                             "`file`" + (f", not {' and '.join(said)}" if said else ""))
        if spec.function is not None and spec.call is not None:
            raise ValueError("`function` belongs to `file` and `code`; with `call` write 'module:function'")
        if spec.language == "bash":
            if spec.call is not None or spec.function is not None or spec.isolation is not None:
                raise ValueError("bash takes `code` or `file`, and always runs as a process of its own")
            _code(spec, base)
            return Ports()
        function = _function(spec, base)
        if function is None:
            inline.Code(_code(spec, base), spec.file or "code").check(spec.function)
            return Ports()
        signature = Signature.of(function)
        plan(signature, spec.arguments)
        if (spec.isolation or _default(function, spec)) == "process":
            Reference.of(function)
        return signature.ports(spec.arguments, is_map=node.policy.for_each is not None)

    def sources(self, spec: CodeJob, node: Node, base: str) -> list[str]:
        if spec.code is not None:
            return [spec.code]
        if spec.call is None and spec.file is None:
            return []  # drawn in Python
        function = None if spec.language == "bash" else _function(spec, base)
        if function is None:
            return [_code(spec, base)]
        return [source_of(function)]


KIND = CodeJobKind("code_job", CodeJob, CodeJobStrategy(), secrets=())
