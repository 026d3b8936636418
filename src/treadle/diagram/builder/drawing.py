"""Draw nodes and arrows: `Diagram`, and functions as nodes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import ContextVar, Token
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload

import msgspec

from treadle.diagram.builder.handles import (
    SOURCES,
    Branch,
    Carried,
    Choice,
    Either,
    Given,
    Output,
    Source,
    Turn,
    caller,
    free,
    invalid,
)
from treadle.diagram.builder.signature import Signature, assignable, item_of, shown, type_of
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats.persons import as_persons, said
from treadle.diagram.formats.reading import POLICY_KEYS
from treadle.diagram.formats.values import convert_value
from treadle.diagram.node import DEFAULT, Arrow, Input, Loop, Node
from treadle.diagram.person import Person
from treadle.diagram.policy import LOOP_ITERATIONS_MAX, Backoff, Join, OnError, OnItemError, OnLimit, Policy
from treadle.errors import did_you_mean
from treadle.ids import NodeID, escape_label

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
Arg: TypeAlias = A | Output[A] | Either[A] | Given[A] | Carried
"""What a parameter of type A takes while drawing."""
Isolation = Literal["inline", "thread", "process"]
JSON_TYPES: Mapping[Any, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}

_START = NodeID("start")
_CONSTANT = "constant value"  # a key that no input of an execution has: those are Python names
_drawing: ContextVar[Diagram | None] = ContextVar("drawing", default=None)


class _Takes1(Protocol[A_contra]):
    @property
    def function(self) -> Callable[Concatenate[A_contra, ...], Any]: ...


class _Takes2(Protocol[A_contra, B_contra]):
    @property
    def function(self) -> Callable[Concatenate[A_contra, B_contra, ...], Any]: ...


class _Takes3(Protocol[A_contra, B_contra, C_contra]):
    @property
    def function(self) -> Callable[Concatenate[A_contra, B_contra, C_contra, ...], Any]: ...


class NodeFunction(Generic[P, R]):
    """A function that can be drawn as a node. `.function` is the plain function."""

    def __init__(
        self, function: Callable[P, Any], policy: Policy, properties: Mapping[str, Any], id_: str
    ) -> None:
        self.function: Callable[P, Any] = function
        self.policy, self.properties, self.id = policy, dict(properties), id_
        self.signature = Signature.of(function)
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        self.__wrapped__ = function

    @property
    def __module__(self) -> str:  # type: ignore[override]
        return self.function.__module__

    # A type checker sees what goes to the first three parameters by position; drawing checks all of it.
    @overload
    def __call__(self: _Takes3[A, B, C], a: Arg[A], b: Arg[B], c: Arg[C], /,
                 *rest: Any, **named: Any) -> Output[R]: ...
    @overload
    def __call__(self: _Takes2[A, B], a: Arg[A], b: Arg[B], /, **named: Any) -> Output[R]: ...
    @overload
    def __call__(self: _Takes1[A], a: Arg[A], /, **named: Any) -> Output[R]: ...
    @overload
    def __call__(self, **named: Any) -> Output[R]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Output[R]:  # type: ignore[misc]  # it does accept them
        """Draw the node in the diagram of the `with` block; outside of one, call the function."""
        diagram = _drawing.get()
        if diagram is None:
            if any(isinstance(value, SOURCES) for value in (*args, *kwargs.values())):
                _open(self.id)
            # Typed as what it is while drawing: `.function` is exact.
            plain: Any = self.function(*args, **kwargs)
            return plain  # type: ignore[no-any-return]
        return Output(diagram, diagram._call(self, args, kwargs), kind=self.signature.returns)

    def map(self, over: Output[Iterable[Any]] | Given[Iterable[Any]] | Carried | str | Iterable[Any], /, *,
            concurrency: int | None = None,
            on_item_error: Literal["fail", "collect"] | None = None, **kwargs: Any) -> Output[list[R]]:
        """Draw the node as a map over a list: an output, an input of the diagram, an expression or plain
        data.

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
        kind = Any if returns is Any else list[returns]  # type: ignore[valid-type]
        return Output(diagram, node_id, kind=kind)

    def options(
        self,
        *,
        id: str | None = None,
        isolation: Isolation | None = None,
        memory_mb_max: int | None = None,
        **policy: Any,
    ) -> NodeFunction[P, R]:
        """The same node with another id, another place to run or another policy (`retries`, `timeout`, `join`
        …)."""
        properties = dict(self.properties)
        if isolation is not None:
            properties["isolation"] = isolation
        if memory_mb_max is not None:
            properties["memory_mb_max"] = memory_mb_max
        return NodeFunction(self.function, _policy(policy, self.policy), properties, id or self.id)

    def __repr__(self) -> str:
        return f"<node {self.id}{self.signature}>"


class Decorator(Protocol):
    """What `@node(…)` does: a node's result is what its function returns, awaited if it is async."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> NodeFunction[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> NodeFunction[P, R]: ...


@overload
def node(function: Callable[P, Coroutine[Any, Any, R]], /) -> NodeFunction[P, R]: ...
@overload
def node(function: Callable[P, R], /) -> NodeFunction[P, R]: ...
@overload
def node(*, id: str | None = None, isolation: Isolation | None = None, memory_mb_max: int | None = None,
         retries: int = 0, backoff: Backoff | float = ..., timeout: float | None = None, priority: int = 0,
         retry_on: Iterable[type[BaseException] | str] = (), join: Join | Literal["all", "any"] = ...,
         ) -> Decorator: ...
def node(
    function: Callable[..., Any] | None = None,
    /,
    *,
    id: str | None = None,
    isolation: Isolation | None = None,
    memory_mb_max: int | None = None,
    **policy: Any,
) -> Any:
    """Make a function a node; its parameters are the node's inputs. Sync functions run in a thread by
    default."""
    def wrap(function: Callable[..., Any]) -> NodeFunction[..., Any]:
        made: NodeFunction[..., Any] = NodeFunction(function, Policy(), {}, id or function.__name__)
        return made.options(isolation=isolation, memory_mb_max=memory_mb_max, **policy)
    return wrap if function is None else wrap(function)


class Diagram:
    """A diagram that is drawn in Python. `base` is the folder that its paths start from: that of the drawing
    file."""

    def __init__(self, name: str = "diagram", *, description: str = "", deadline: float | None = None,
                 on_error: Literal["fail", "continue"] = "fail", base: str | Path | None = None,
                 environment_vars: Mapping[str, str] | None = None, secret_store: str | None = None,
                 persons: Mapping[str, Person | Mapping[str, Any]] | None = None) -> None:
        self.name, self.description, self.deadline, self.on_error = (
            name,
            description,
            deadline,
            OnError(on_error),
        )
        self.environment_vars, self.secret_store = dict(environment_vars or {}), secret_store
        self.where = caller()
        self.persons = as_persons(persons, self.where)
        self.base = str(base) if base is not None else os.path.dirname(self.where.file) or "."
        self.branches: tuple[Branch, ...] = ()  # the `with` blocks of conditions around what is drawn now
        self._nodes: dict[NodeID, Node] = {}
        self._drawn: dict[str, int] = {}  # by label, how many: so that the next free number is near
        self._entered: set[NodeID] = set()  # the targets of arrows
        self._arrows: list[tuple[Arrow, Branch | None]] = []
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

    @overload
    def input(self, name: str, kind: type[T], default: T = ..., *, description: str = "") -> Given[T]: ...
    @overload
    def input(self, name: str, kind: Any = ..., default: Any = ..., *, description: str = ""
              ) -> Given[Any]: ...
    def input(
        self, name: str, kind: Any = Any, default: Any = msgspec.UNSET, *, description: str = ""
    ) -> Given[Any]:
        """An input of the execution; without a default it is required."""
        if name in self._inputs:
            raise invalid(f"the diagram has an input {name!r} already")
        if isinstance(kind, str):
            raise invalid(f"input {name!r}: {kind!r} is a text, not a type: write int, str, list[int] …")
        if default is not msgspec.UNSET and not assignable(type_of(default), kind):
            raise invalid(f"input {name!r}: the default is {shown(type_of(default))}, not {shown(kind)}")
        origin = getattr(kind, "__origin__", kind)
        self._inputs[name] = Input(JSON_TYPES.get(origin, "any"), default, description)
        return Given(self, name, kind)

    def add(
        self, id: str, type: str, /, *, needs: Source | Iterable[Source] = (), **properties: Any
    ) -> Output[Any]:
        """Draw a node of any type. Outputs among the properties are its inputs by name; `needs` are
        unlabelled."""
        policy = {key: properties.pop(key) for key in POLICY_KEYS if key in properties}
        brought = {key: value for key, value in properties.items() if isinstance(value, SOURCES)}
        plain = {key: said(value) for key, value in properties.items() if key not in brought}
        node_id = self._draw(id, type, plain, _policy(policy, Policy()))
        for key, value in brought.items():
            self._bring(value, node_id, key)
        for value in [needs] if isinstance(needs, SOURCES) else needs:
            self._bring(value, node_id, DEFAULT)
        self._guard(node_id)
        return Output(self, node_id)

    def result(self, *outputs: Source, id: str = "result", **named: Source) -> Output[Any]:
        """Draw the endpoint: its value is the execution's result, of several a map by name."""
        return self.add(id, "endpoint", needs=outputs, **named)

    def spec(self) -> DiagramSpec:
        """The diagram as drawn so far, for `check` and `compile`."""
        return DiagramSpec(
            name=self.name,
            nodes=tuple(self._nodes.values()),
            arrows=tuple(self._finished()),
            loops=tuple(self._loops),
            inputs=dict(self._inputs),
            on_error=self.on_error,
            deadline=self.deadline,
            environment_vars=self.environment_vars,
            secret_store=self.secret_store,
            persons=self.persons,
            description=self.description,
            base=self.base,
            where=self.where,
            functions=dict(self._functions),
        )

    # drawing

    def _call(self, made: NodeFunction[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any],
              over: Any = None) -> NodeID:
        is_map = over is not None
        given = made.signature.bind(args, kwargs, made.id, caller(), is_map=is_map)
        for name, value in given.items():
            self._typed(made, name, value)
        policy = made.policy
        if is_map:
            self._item(made, over, given)
            policy = msgspec.structs.replace(policy, for_each=self._over(over))
        constants = {name: value for name, value in given.items() if not isinstance(value, SOURCES)}
        properties = dict(made.properties) | _reference(made.function)
        if constants:
            properties["arguments"] = constants
        node_id = self._draw(made.id, "code_job", properties, policy)
        self._functions[node_id] = made.function
        for name, value in given.items():
            if isinstance(value, SOURCES):
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
        self._drawn[label] = self._drawn.get(label, 0) + 1
        node_id = NodeID(free(escape_label(label), self._nodes, self._drawn[label]))
        self._nodes[node_id] = Node(id=node_id, type=kind, properties=properties, policy=policy,
                                    label=label if label != node_id and escape_label(label) != label else "",
                                    where=caller())
        return node_id

    def _typed(self, made: NodeFunction[Any, Any], name: str, value: Any) -> None:
        wanted = made.signature.kinds.get(name, Any)
        parts = value.parts if isinstance(value, Either) else (value,)
        for part in parts:
            if isinstance(part, Carried):
                part = part.turn._values[part.name]
            kind = part.kind if isinstance(part, Output | Given) else type_of(part)
            if not assignable(kind, wanted):
                what = repr(part) if isinstance(part, Output) else f"input {part.name!r}" if isinstance(
                    part, Given) else repr(part)[:60]
                raise invalid(
                    f"{what} is {shown(kind)}, but parameter {name!r} of {made.id} is {shown(wanted)}",
                    node_id=made.id,
                )

    def _item(self, made: NodeFunction[Any, Any], over: Any, given: Mapping[str, Any]) -> None:
        name = made.signature.item(given)
        if name is None:
            raise invalid(f"{made.id} has no parameter left for the item of the map", node_id=made.id)
        kind = (
            over.kind
            if isinstance(over, Output | Given)
            else Any
            if isinstance(over, str)
            else type_of(over)
        )
        item, wanted = item_of(kind), made.signature.kinds.get(name, Any)
        if item is None:
            raise invalid(f"{over!r} is {shown(kind)}, not a list to map over", node_id=made.id)
        if not assignable(item, wanted):
            raise invalid(f"an item of {over!r} is {shown(item)}, but parameter {name!r} of {made.id} is "
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
        if isinstance(value, Carried):
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

    def _given(self, given: Given[Any]) -> Output[Any]:
        if given.diagram is not self:
            raise invalid(f"input {given.name!r} belongs to the diagram {given.diagram.name!r}")
        if _START not in self._nodes:
            self._nodes[_START] = Node(id=_START, type="start", where=self.where)
        output: Output[Any] = Output(self, _START, kind=given.kind, select=given.name)
        output._branches = ()
        return output

    def _connect(self, output: Output[Any], target: NodeID, input_: str,
                 inside: tuple[Branch, ...] | None = None) -> None:
        """Draw an arrow. What comes from outside a branch's block goes through its condition, and is picked
        out."""
        if output.diagram is not self:
            raise invalid(f"{output!r} belongs to the diagram {output.diagram.name!r}, not to {self.name!r}")
        around = self.branches if inside is None else inside
        for branch in reversed(around):
            if any(one.choice is branch.choice and one.port == branch.port for one in output._branches):
                break
            label = branch.choice.label_of(output, output._select or output.node_id)
            self._arrow(
                Output(self, branch.choice.node_id, branch.port, select=label), target, input_, branch
            )
            return
        self._arrow(output, target, input_, None)

    def _arrow(self, output: Output[Any], target: NodeID, input_: str, through: Branch | None) -> None:
        rules = ({"select": output._select},) if output._select else ()
        arrow = Arrow(source=output.node_id, target=target, port=output._port, input=input_, transform=rules,
                      where=caller())
        self._arrows.append((arrow, through))
        self._entered.add(target)

    def _guard(self, node_id: NodeID) -> bool:
        """In a branch's block a node that takes nothing from it gets its arrow, so that it waits for the
        choice."""
        if not self.branches or node_id in self._entered:
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


def when(condition: str | Output[Any], /, **inputs: Output[Any] | Given[Any]) -> Choice:
    """Draw a condition over labelled inputs: an expression, or an output that is true or false."""
    return _condition("when", condition, inputs, ("true", "false"), {})


def switch(value: str | Output[Any], cases: Sequence[str], /, **inputs: Output[Any] | Given[Any]) -> Choice:
    """Draw a condition with a way out per case, and `otherwise`."""
    return _condition("switch", value, inputs, (*cases, "else"), {"cases": list(cases)})


def loop(*, max_iterations: int = LOOP_ITERATIONS_MAX, on_limit: Literal["fail", "exit"] = "fail",
         **values: Any) -> Turn:
    """Begin a loop whose variables start with these values; see the example at the top of this module."""
    return Turn(_open("loop"), values, max_iterations, OnLimit(on_limit))


def _condition(
    key: str,
    over: str | Output[Any],
    inputs: Mapping[str, Output[Any] | Given[Any]],
    ways: Sequence[str],
    properties: dict[str, Any],
) -> Choice:
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
