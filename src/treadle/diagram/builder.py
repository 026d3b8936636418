"""Draw diagrams in Python: inside a `with Diagram(...)` block, calling a node draws it and its arrows.

    @node
    def find(folder: str) -> list[str]: ...

    @node(retries=2, timeout=30)
    async def measure(path: str, unit: str = "lines") -> int: ...

    @node
    def report(sizes: list[int], title: str) -> str: ...

    with Diagram("sizes") as diagram:
        files = find(diagram.input("folder", str, "."))
        sizes = measure.map(files, concurrency=16)          # one item a file; the result is a list
        many = when("sizes | length > 100", sizes=sizes)
        with many.true:                                     # drawn here: runs only when it is true
            text = report(sizes, title="Many")
        with many.false:
            short = report(sizes, title="Few")
        diagram.result(text | short)                        # whichever there is

    treadle.run(diagram, folder="src")

A call takes *outputs* (an arrow to the parameter's input), inputs of the diagram, and plain values (constants). A
signature is a contract: an unknown or missing argument, or an output of another type than the parameter's, is an
InvalidDiagram with the line of the call. Outside a `with Diagram` block a node is its function, for tests and reuse.

    with loop(draft=first, max_iterations=5) as turn:       # the node that takes turn.draft begins every iteration
        text = improve(turn.draft)
        good = when("text | length < 80", text=text)
        with good.false:
            turn.again(draft=text)                          # another iteration, with this draft
    publish(text)                                           # the last iteration's text

Other types of nodes are drawn by `diagram.add("ask", "user_response", prompt="…")`.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar, Token
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

import msgspec

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats.reading import POLICY_KEYS
from treadle.diagram.formats.values import convert_value
from treadle.diagram.node import DEFAULT, ERROR, Arrow, Input, Loop, Node
from treadle.diagram.policy import LOOP_ITERATIONS_MAX, Backoff, Join, OnError, OnItemError, OnLimit, Policy
from treadle.diagram.signature import Signature, assignable, item_of, shown, type_of
from treadle.errors import Fault, InvalidDiagram, Where, did_you_mean
from treadle.ids import NodeID, escape_label

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Isolation = Literal["inline", "thread", "process"]
JSON_TYPES: Mapping[Any, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}

_START = NodeID("start")
_CONSTANT = "constant value"  # a key that no input of an execution has: those are Python names
_drawing: ContextVar[Diagram | None] = ContextVar("drawing", default=None)
_HERE = os.path.dirname(os.path.abspath(__file__))


class Output(Generic[T]):
    """What a node hands on by one of its ports. Pass it to another node to draw an arrow; `a >> b` draws a plain one."""

    def __init__(self, diagram: Diagram, node_id: NodeID, port: str = DEFAULT, kind: Any = Any, *, select: str = "",
                 branch: _Branch | None = None) -> None:
        self.diagram, self.node_id, self.kind = diagram, node_id, kind
        self._port, self._select = port, select
        self._branches = diagram.branches if branch is None else (*diagram.branches, branch)

    @property
    def error(self) -> Output[dict[str, Any]]:
        """The error of the node if it fails: a map with `type` and `message`. Who takes it handles the failure."""
        return Output(self.diagram, self.node_id, ERROR, dict[str, Any])

    def port(self, name: str) -> Output[Any]:
        """What leaves by another port."""
        return Output(self.diagram, self.node_id, name)

    def __or__(self, other: Output[Any] | Either) -> Either:
        return Either(self, other)

    def __rshift__(self, target: Output[R]) -> Output[R]:
        """Draw an unlabelled arrow to the node of another output."""
        self.diagram._connect(self, target.node_id, DEFAULT)
        return target

    def __bool__(self) -> bool:
        raise TypeError(f"the value of {self!r} is not known while the diagram is drawn: use when(…)")

    def __iter__(self) -> Any:
        raise TypeError(f"the value of {self!r} is not known while the diagram is drawn: use node.map(…)")

    def __repr__(self) -> str:
        return f"<output of {self.node_id}{'' if self._port == DEFAULT else '.' + self._port}>"


class Either:
    """Several outputs of which one will have a value, as at the end of branches."""

    def __init__(self, *parts: Output[Any] | Either) -> None:
        self.parts: tuple[Output[Any], ...] = tuple(
            output for part in parts for output in (part.parts if isinstance(part, Either) else (part,)))

    def __or__(self, other: Output[Any] | Either) -> Either:
        return Either(self, other)


class Given:
    """An input of the execution, by name."""

    def __init__(self, diagram: Diagram, name: str, kind: Any) -> None:
        self.diagram, self.name, self.kind = diagram, name, kind


class _Carried:
    """A loop's variable: the value from outside first, then what `again` gives."""

    def __init__(self, turn: Turn, name: str) -> None:
        self.turn, self.name = turn, name


Source = Output[Any] | Either | Given | _Carried
_SOURCES = (Output, Either, Given, _Carried)


class _Branch:
    """One way out of a condition. In its `with` block, nodes take values from outside through the condition."""

    def __init__(self, choice: Choice, port: str) -> None:
        self.choice, self.port = choice, port
        self._before: list[tuple[_Branch, ...]] = []

    def __enter__(self) -> Output[Any]:
        diagram = self.choice.diagram
        self._before.append(diagram.branches)
        diagram.branches = (*diagram.branches, self)
        return self.output

    def __exit__(self, *_: object) -> None:
        self.choice.diagram.branches = self._before.pop()

    @property
    def output(self) -> Output[Any]:
        """The condition's value on this way: its input, or a map of them by name."""
        return Output(self.choice.diagram, self.choice.node_id, self.port, branch=self)


class Choice:
    """A condition that was drawn: its ways out are `.true` and `.false`, or `.case(label)` and `.otherwise`."""

    def __init__(self, diagram: Diagram, node_id: NodeID, cases: Sequence[str]) -> None:
        self.diagram, self.node_id, self.cases = diagram, node_id, tuple(cases)
        self.inputs: dict[tuple[NodeID, str, str], str] = {}  # by where a value comes from: its label here
        self._branches = diagram.branches

    @property
    def true(self) -> _Branch:
        return self.case("true")

    @property
    def false(self) -> _Branch:
        return self.case("false")

    @property
    def otherwise(self) -> _Branch:
        """The way of a `switch` whose value is none of its cases."""
        return self.case("else")

    def case(self, label: str) -> _Branch:
        if label not in self.cases:
            near = did_you_mean(label, self.cases)
            raise _invalid(f"the condition has no way {label!r}", near or f"there is: {', '.join(self.cases)}")
        return _Branch(self, label)

    @property
    def error(self) -> Output[dict[str, Any]]:
        """The error, if the expression fails."""
        return Output(self.diagram, self.node_id, ERROR, dict[str, Any])

    def label_of(self, output: Output[Any], wanted: str) -> str:
        """The label under which an output enters the condition; it is drawn there if it was not yet."""
        key = (output.node_id, output._port, output._select)
        if key not in self.inputs:
            taken = set(self.inputs.values())
            self.inputs[key] = label = _free(wanted, taken)
            # As it was where the condition stands: the branches around the condition still count.
            self.diagram._connect(output, self.node_id, label, inside=self._branches)
        return self.inputs[key]


class Turn:
    """A loop that is being drawn. `turn.name` is a variable of it, to be taken by one node: the loop's head."""

    def __init__(self, diagram: Diagram, values: Mapping[str, Any], max_iterations: int, on_limit: OnLimit) -> None:
        self._diagram, self._values = diagram, dict(values)
        self._limits = (max_iterations, on_limit)
        self._taken: dict[str, list[str]] = {}  # by variable: the head's inputs that take it
        self._head: NodeID | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"the loop has no variable {name!r}; it has {', '.join(self._values) or 'none'}")
        return _Carried(self, name)

    def again(self, **values: Source) -> None:
        """Draw the arrows that start another iteration with these values."""
        for name, value in values.items():
            if self._head is None or name not in self._taken:
                raise _invalid(f"no node takes the loop's variable {name!r}", f"pass turn.{name} to the node that "
                               "begins an iteration")
            for input_ in self._taken[name]:
                self._diagram._bring(value, self._head, input_)

    def _take(self, name: str, node_id: NodeID, input_: str) -> None:
        if self._head not in (None, node_id):
            raise _invalid(f"{self._head!r} begins the loop already, so {node_id!r} can't take its variable {name!r}",
                           f"take it from {self._head!r}, or let one node take all variables and pass them on")
        self._head = node_id
        self._taken.setdefault(name, []).append(input_)
        self._diagram._bring(self._values[name], node_id, input_)

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        if self._head is None:
            raise _invalid("no node takes a variable of the loop", "pass turn.<name> to the node that begins it")
        limit, on_limit = self._limits
        self._diagram._loops.append(Loop(self._head, limit, on_limit, _caller()))


class NodeFunction(Generic[P, R]):
    """A function that can be drawn as a node. `.function` is the plain function."""

    def __init__(self, function: Callable[P, Any], policy: Policy, properties: Mapping[str, Any], id_: str) -> None:
        self.function, self.policy, self.properties, self.id = function, policy, dict(properties), id_
        self.signature = Signature.of(function)
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self.__wrapped__ = function

    @property
    def __module__(self) -> str:  # type: ignore[override]
        return self.function.__module__

    def __call__(self, *args: Any, **kwargs: Any) -> Output[R]:
        """Draw the node in the diagram of the `with` block; outside of one, call the function."""
        diagram = _drawing.get()
        if diagram is None:
            plain: Any = self.function(*args, **kwargs)  # typed as what it is while drawing: `.function` is exact
            return plain  # type: ignore[no-any-return]
        return Output(diagram, diagram._call(self, args, kwargs), kind=self.signature.returns)

    def map(self, over: Output[Any] | Given | str | Iterable[Any], /, *, concurrency: int | None = None,
            on_item_error: Literal["fail", "collect"] | None = None, **kwargs: Any) -> Output[list[R]]:
        """Draw the node as a map over a list: an output, an input of the diagram, an expression or plain data.

        An item goes to the parameter `item`, else to the first one that no other argument is for.
        """
        options: dict[str, Any] = {}
        if concurrency is not None:
            options["concurrency"] = concurrency
        if on_item_error is not None:
            options["on_item_error"] = on_item_error
        mapped = self.options(**options) if options else self
        diagram = _open("map")
        node_id = diagram._call(mapped, (), kwargs, over=over)
        returns = self.signature.returns
        return Output(diagram, node_id, kind=Any if returns is Any else list[returns])  # type: ignore[valid-type]

    def options(self, *, id: str | None = None, isolation: Isolation | None = None, memory_mb_max: int | None = None,
                **policy: Any) -> NodeFunction[P, R]:
        """The same node with another id, another place to run or another policy (`retries`, `timeout`, `join` …)."""
        properties = dict(self.properties)
        if isolation is not None:
            properties["isolation"] = isolation
        if memory_mb_max is not None:
            properties["memory_mb_max"] = memory_mb_max
        return NodeFunction(self.function, _policy(policy, self.policy), properties, id or self.id)

    def __repr__(self) -> str:
        return f"<node {self.id}{self.signature}>"


@overload
def node(function: Callable[P, R], /) -> NodeFunction[P, R]: ...
@overload
def node(*, id: str | None = None, isolation: Isolation | None = None, memory_mb_max: int | None = None,
         retries: int = 0, backoff: Backoff | float = ..., timeout: float | None = None, priority: int = 0,
         retry_on: Iterable[type[BaseException] | str] = (), join: Join | Literal["all", "any"] = ...,
         ) -> Callable[[Callable[P, R]], NodeFunction[P, R]]: ...
def node(function: Callable[..., Any] | None = None, /, *, id: str | None = None, isolation: Isolation | None = None,
         memory_mb_max: int | None = None, **policy: Any) -> Any:
    """Make a function a node; its parameters are the node's inputs. Sync functions run in a thread by default."""
    def wrap(function: Callable[..., Any]) -> NodeFunction[..., Any]:
        made: NodeFunction[..., Any] = NodeFunction(function, Policy(), {}, id or function.__name__)
        return made.options(isolation=isolation, memory_mb_max=memory_mb_max, **policy)
    return wrap if function is None else wrap(function)


class Diagram:
    """A diagram that is drawn in Python. `base` is the folder that its paths start from: that of the drawing file."""

    def __init__(self, name: str = "diagram", *, description: str = "", deadline: float | None = None,
                 on_error: Literal["fail", "continue"] = "fail", base: str | Path | None = None) -> None:
        self.name, self.description, self.deadline, self.on_error = name, description, deadline, OnError(on_error)
        self.where = _caller()
        self.base = str(base) if base is not None else os.path.dirname(self.where.file) or "."
        self.branches: tuple[_Branch, ...] = ()  # the `with` blocks of conditions around what is drawn now
        self._nodes: dict[NodeID, Node] = {}
        self._arrows: list[tuple[Arrow, _Branch | None]] = []
        self._loops: list[Loop] = []
        self._inputs: dict[str, Input] = {}
        self._functions: dict[str, Any] = {}
        self._tokens: list[Token[Diagram | None]] = []

    def __enter__(self) -> Diagram:
        self._tokens.append(_drawing.set(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        _drawing.reset(self._tokens.pop())

    def input(self, name: str, kind: Any = Any, default: Any = msgspec.UNSET, *, description: str = "") -> Given:
        """An input of the execution; without a default it is required."""
        if name in self._inputs:
            raise _invalid(f"the diagram has an input {name!r} already")
        if default is not msgspec.UNSET and not assignable(type_of(default), kind):
            raise _invalid(f"input {name!r}: the default is {shown(type_of(default))}, not {shown(kind)}")
        origin = getattr(kind, "__origin__", kind)
        self._inputs[name] = Input(JSON_TYPES.get(origin, "any"), default, description)
        return Given(self, name, kind)

    def add(self, id: str, type: str, /, *, needs: Source | Iterable[Source] = (), **properties: Any) -> Output[Any]:
        """Draw a node of any type. Outputs among the properties are its inputs by name; `needs` are unlabelled."""
        policy = {key: properties.pop(key) for key in POLICY_KEYS if key in properties}
        brought = {key: value for key, value in properties.items() if isinstance(value, _SOURCES)}
        plain = {key: value for key, value in properties.items() if key not in brought}
        node_id = self._draw(id, type, plain, _policy(policy, Policy()))
        for key, value in brought.items():
            self._bring(value, node_id, key)
        for value in [needs] if isinstance(needs, _SOURCES) else needs:
            self._bring(value, node_id, DEFAULT)
        self._guard(node_id)
        return Output(self, node_id)

    def result(self, *outputs: Source, id: str = "result", **named: Source) -> Output[Any]:
        """Draw the endpoint: its value is the execution's result, of several a map by name."""
        return self.add(id, "endpoint", needs=outputs, **named)

    def spec(self) -> DiagramSpec:
        """The diagram as drawn so far, for `check` and `compile`."""
        return DiagramSpec(
            name=self.name, nodes=tuple(self._nodes.values()), arrows=tuple(self._finished()),
            loops=tuple(self._loops), inputs=dict(self._inputs), on_error=self.on_error, deadline=self.deadline,
            description=self.description, base=self.base, where=self.where, functions=dict(self._functions))

    # drawing

    def _call(self, made: NodeFunction[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any],
              over: Any = None) -> NodeID:
        is_map = over is not None
        given = made.signature.bind(args, kwargs, made.id, _caller(), is_map=is_map)
        for name, value in given.items():
            self._typed(made, name, value)
        policy = made.policy
        if is_map:
            self._item(made, over, given)
            policy = msgspec.structs.replace(policy, for_each=self._over(over))
        constants = {name: value for name, value in given.items() if not isinstance(value, _SOURCES)}
        properties = dict(made.properties) | _reference(made.function)
        if constants:
            properties["arguments"] = constants
        node_id = self._draw(made.id, "code_job", properties, policy)
        self._functions[node_id] = made.function
        for name, value in given.items():
            if isinstance(value, _SOURCES):
                self._bring(value, node_id, name)
        if isinstance(over, Output):
            self._connect(over, node_id, DEFAULT)
        if self._guard(node_id) and not is_map:
            # The guard's value must not slip into a parameter that was left to its default.
            rest = {name: value for name, value in made.signature.defaults.items() if name not in given}
            if rest:
                properties["arguments"] = rest | constants
        return node_id

    def _draw(self, label: str, kind: str, properties: dict[str, Any], policy: Policy) -> NodeID:
        node_id = NodeID(_free(escape_label(label), self._nodes))
        self._nodes[node_id] = Node(id=node_id, type=kind, properties=properties, policy=policy,
                                    label=label if label != node_id and escape_label(label) != label else "",
                                    where=_caller())
        return node_id

    def _typed(self, made: NodeFunction[Any, Any], name: str, value: Any) -> None:
        wanted = made.signature.kinds.get(name, Any)
        parts = value.parts if isinstance(value, Either) else (value,)
        for part in parts:
            if isinstance(part, _Carried):
                part = part.turn._values[part.name]
            kind = part.kind if isinstance(part, Output | Given) else type_of(part)
            if not assignable(kind, wanted):
                what = repr(part) if isinstance(part, Output) else f"input {part.name!r}" if isinstance(
                    part, Given) else repr(part)[:60]
                raise _invalid(f"{what} is {shown(kind)}, but parameter {name!r} of {made.id} is {shown(wanted)}",
                               node_id=made.id)

    def _item(self, made: NodeFunction[Any, Any], over: Any, given: Mapping[str, Any]) -> None:
        name = made.signature.item(given)
        if name is None:
            raise _invalid(f"{made.id} has no parameter left for the item of the map", node_id=made.id)
        kind = over.kind if isinstance(over, Output | Given) else Any if isinstance(over, str) else type_of(over)
        item, wanted = item_of(kind), made.signature.kinds.get(name, Any)
        if item is None:
            raise _invalid(f"{over!r} is {shown(kind)}, not a list to map over", node_id=made.id)
        if not assignable(item, wanted):
            raise _invalid(f"an item of {over!r} is {shown(item)}, but parameter {name!r} of {made.id} is "
                           f"{shown(wanted)}", node_id=made.id)

    def _over(self, over: Any) -> str:
        if isinstance(over, Output):
            name = over.node_id
            return "{{ " + (name if name.isidentifier() else f"nodes[{name!r}]") + " }}"
        if isinstance(over, Given):
            return "{{ inputs." + over.name + " }}"
        return over if isinstance(over, str) else "{{ " + repr(list(over)) + " }}"

    def _bring(self, value: Any, target: NodeID, input_: str) -> None:
        """Draw the arrows that bring a value to an input."""
        if isinstance(value, _Carried):
            value.turn._take(value.name, target, input_)
        elif isinstance(value, Either):
            for part in value.parts:
                self._connect(part, target, input_)
        elif isinstance(value, Given):
            self._connect(self._given(value), target, input_)
        elif isinstance(value, Output):
            self._connect(value, target, input_)
        else:
            constant = self.add(f"{target} {input_}", "start", custom_data={_CONSTANT: value})
            self._connect(Output(self, constant.node_id, select=_CONSTANT), target, input_)

    def _given(self, given: Given) -> Output[Any]:
        if given.diagram is not self:
            raise _invalid(f"input {given.name!r} belongs to the diagram {given.diagram.name!r}")
        if _START not in self._nodes:
            self._nodes[_START] = Node(id=_START, type="start", where=self.where)
        output: Output[Any] = Output(self, _START, kind=given.kind, select=given.name)
        output._branches = ()
        return output

    def _connect(self, output: Output[Any], target: NodeID, input_: str,
                 inside: tuple[_Branch, ...] | None = None) -> None:
        """Draw an arrow. What comes from outside a branch's block goes through its condition, and is picked out."""
        if output.diagram is not self:
            raise _invalid(f"{output!r} belongs to the diagram {output.diagram.name!r}, not to {self.name!r}")
        around = self.branches if inside is None else inside
        for branch in reversed(around):
            if any(one.choice is branch.choice and one.port == branch.port for one in output._branches):
                break
            label = branch.choice.label_of(output, output._select or output.node_id)
            self._arrow(Output(self, branch.choice.node_id, branch.port, select=label), target, input_, branch)
            return
        self._arrow(output, target, input_, None)

    def _arrow(self, output: Output[Any], target: NodeID, input_: str, through: _Branch | None) -> None:
        rules = ({"select": output._select},) if output._select else ()
        arrow = Arrow(source=output.node_id, target=target, port=output._port, input=input_, transform=rules,
                      where=_caller())
        self._arrows.append((arrow, through))

    def _guard(self, node_id: NodeID) -> bool:
        """In a branch's block a node that takes nothing from it gets its arrow, so that it waits for the choice."""
        if not self.branches or any(arrow.target == node_id for arrow, _ in self._arrows):
            return False
        branch = self.branches[-1]
        self._arrow(Output(self, branch.choice.node_id, branch.port), node_id, DEFAULT, None)
        return True

    def _finished(self) -> Iterable[Arrow]:
        """The arrows; one input of a condition passes as it is, so there is nothing to pick out of a map."""
        for arrow, through in self._arrows:
            if through is not None and len(through.choice.inputs) == 1:
                yield msgspec.structs.replace(arrow, transform=())
            else:
                yield arrow


def when(condition: str | Output[Any], /, **inputs: Output[Any] | Given) -> Choice:
    """Draw a condition over labelled inputs: an expression, or an output that is true or false."""
    return _condition("when", condition, inputs, ("true", "false"), {})


def switch(value: str | Output[Any], cases: Sequence[str], /, **inputs: Output[Any] | Given) -> Choice:
    """Draw a condition with a way out per case, and `otherwise`."""
    return _condition("switch", value, inputs, (*cases, "else"), {"cases": list(cases)})


def loop(*, max_iterations: int = LOOP_ITERATIONS_MAX, on_limit: Literal["fail", "exit"] = "fail",
         **values: Source) -> Turn:
    """Begin a loop whose variables start with these values; see the example at the top of this module."""
    return Turn(_open("loop"), values, max_iterations, OnLimit(on_limit))


def _condition(key: str, over: str | Output[Any], inputs: Mapping[str, Output[Any] | Given], ways: Sequence[str],
               properties: dict[str, Any]) -> Choice:
    diagram = _open(key)
    if isinstance(over, Output):
        inputs = {"value": over, **inputs}
        over = "value"
    node_id = diagram._draw(key, "condition", {key: over, **properties}, Policy())
    choice = Choice(diagram, node_id, ways)
    for label, value in inputs.items():
        output = diagram._given(value) if isinstance(value, Given) else value
        choice.inputs[output.node_id, output._port, output._select] = label
        diagram._connect(output, node_id, label)
    diagram._guard(node_id)
    return choice


def _open(what: str) -> Diagram:
    diagram = _drawing.get()
    if diagram is None:
        raise RuntimeError(f"{what}(…) draws a node, so it belongs into a block: with Diagram('name'): …")
    return diagram


def _policy(said: Mapping[str, Any], usual: Policy) -> Policy:
    changes: dict[str, Any] = {}
    kinds = {field.name: field.type for field in msgspec.structs.fields(Policy)}
    for key, value in said.items():
        if key not in kinds:
            raise TypeError(f"a node has no option {key!r}: {did_you_mean(key, kinds) or ', '.join(kinds)}")
        if key == "retry_on":
            several = [value] if isinstance(value, str | type) else value
            value = tuple(one if isinstance(one, str) else one.__name__ for one in several)
        elif key == "backoff" and isinstance(value, int | float):
            value = Backoff(initial=float(value))
        elif not isinstance(value, Backoff | Join | OnItemError):
            converted, wrong = convert_value(value, kinds[key])
            if wrong is not None:
                raise TypeError(f"option {key!r}: {wrong.message}")
            value = converted
        changes[key] = value
    return msgspec.structs.replace(usual, **changes)


def _reference(function: Callable[..., Any]) -> dict[str, Any]:
    """How a function can be found again: `call` if it can be imported, else its name only."""
    module, name = function.__module__, function.__qualname__
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if module != "__main__" and (found is function or getattr(found, "function", None) is function):
        return {"call": f"{module}:{name}"}
    return {"function": f"{module}:{name}"}


def _free(label: str, taken: Iterable[str]) -> str:
    known = set(taken)
    if label not in known:
        return label
    number = 2
    while f"{label}_{number}" in known:
        number += 1
    return f"{label}_{number}"


def _invalid(message: str, hint: str | None = None, node_id: str | None = None) -> InvalidDiagram:
    return InvalidDiagram([Fault(message, node=node_id, where=_caller(), hint=hint)])


def _caller() -> Where:
    """The place of the call that came from outside this package."""
    frame = inspect.currentframe()
    while frame is not None and os.path.dirname(os.path.abspath(frame.f_code.co_filename)) == _HERE:
        frame = frame.f_back
    return Where(frame.f_code.co_filename, frame.f_lineno) if frame is not None else Where()
