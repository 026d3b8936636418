"""What drawing gives and takes: outputs, inputs of the diagram, the ways out of a condition, a loop's
variables."""

from __future__ import annotations

import inspect
import os
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from treadle.diagram.node import DEFAULT, ERROR, Loop
from treadle.diagram.policy import OnLimit
from treadle.errors import Fault, InvalidDiagram, Where, did_you_mean
from treadle.ids import NodeID

if TYPE_CHECKING:
    from treadle.diagram.builder.drawing import Diagram

T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S")
R = TypeVar("R")
_HERE = os.path.dirname(os.path.abspath(__file__))


class _Unknown:
    """What has no value yet. Python's own operators would answer wrongly, or with an error that teaches
    nothing."""

    if not TYPE_CHECKING:  # a type checker that saw these would take an output for an iterable or a number

        def _refuse(self, *_: Any) -> NoReturn:
            raise TypeError(f"the value of {self!r} is not known while the diagram is drawn: use it in a "
                            "node, or in the expression of when(…)")

        __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __getitem__ = __len__ = __contains__ = _refuse
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __mod__ = _refuse
        __format__ = _refuse
        __hash__ = object.__hash__

        def __iter__(self) -> Any:
            raise TypeError(
                f"the value of {self!r} is not known while the diagram is drawn: use node.map(…)")

    def __bool__(self) -> bool:
        raise TypeError(f"the value of {self!r} is not known while the diagram is drawn: use when(…)")


class Output(_Unknown, Generic[T_co]):
    """What a node hands on by one of its ports. Pass it to another node to draw an arrow; `a >> b` draws a
    plain one."""

    def __init__(
        self,
        diagram: Diagram,
        node_id: NodeID,
        port: str = DEFAULT,
        kind: Any = Any,
        *,
        select: str = "",
        branch: Branch | None = None,
    ) -> None:
        self.diagram, self.node_id, self.kind = diagram, node_id, kind
        self._port, self._select = port, select
        self._branches = diagram.branches if branch is None else (*diagram.branches, branch)

    @property
    def error(self) -> Output[dict[str, Any]]:
        """The error of the node if it fails: a map with `type` and `message`. Who takes it handles the
        failure."""
        return Output(self.diagram, self.node_id, ERROR, dict[str, Any])

    def port(self, name: str) -> Output[Any]:
        """What leaves by another port."""
        return Output(self.diagram, self.node_id, name)

    def __or__(self, other: Output[S] | Either[S]) -> Either[T_co | S]:
        return Either(self, other)

    def __rshift__(self, target: Output[R]) -> Output[R]:
        """Draw an unlabelled arrow to the node of another output."""
        self.diagram._connect(self, target.node_id, DEFAULT)
        return target

    def __repr__(self) -> str:
        return f"<output of {self.node_id}{'' if self._port == DEFAULT else '.' + self._port}>"


class Either(_Unknown, Generic[T_co]):
    """Several outputs of which one will have a value, as at the end of branches."""

    def __init__(self, *parts: Output[T_co] | Either[T_co]) -> None:
        self.parts: tuple[Output[T_co], ...] = tuple(
            output for part in parts for output in (part.parts if isinstance(part, Either) else (part,)))

    def __or__(self, other: Output[S] | Either[S]) -> Either[T_co | S]:
        return Either(self, other)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.parts))


class Given(_Unknown, Generic[T_co]):
    """An input of the execution, by name."""

    def __init__(self, diagram: Diagram, name: str, kind: Any) -> None:
        self.diagram, self.name, self.kind = diagram, name, kind

    def __repr__(self) -> str:
        return f"<input {self.name}>"


class Carried(_Unknown):
    """A loop's variable: the value from outside first, then what `again` gives."""

    def __init__(self, turn: Turn, name: str) -> None:
        self.turn, self.name = turn, name

    def __repr__(self) -> str:
        return f"<loop variable {self.name}>"


Source = Output[Any] | Either[Any] | Given[Any] | Carried
SOURCES = (Output, Either, Given, Carried)


class Branch:
    """One way out of a condition. In its `with` block, nodes take values from outside through the
    condition."""

    def __init__(self, choice: Choice, port: str) -> None:
        self.choice, self.port = choice, port
        self._before: list[tuple[Branch, ...]] = []

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
    """A condition that was drawn: its ways out are `.true` and `.false`, or `.case(label)` and
    `.otherwise`."""

    def __init__(self, diagram: Diagram, node_id: NodeID, cases: Sequence[str]) -> None:
        self.diagram, self.node_id, self.cases = diagram, node_id, tuple(cases)
        self.inputs: dict[tuple[NodeID, str, str], str] = {}  # by where a value comes from: its label here
        self._branches = diagram.branches

    @property
    def true(self) -> Branch:
        return self.case("true")

    @property
    def false(self) -> Branch:
        return self.case("false")

    @property
    def otherwise(self) -> Branch:
        """The way of a `switch` whose value is none of its cases."""
        return self.case("else")

    def case(self, label: str) -> Branch:
        if label not in self.cases:
            near = did_you_mean(label, self.cases)
            raise invalid(f"the condition has no way {label!r}", near or f"there is: {', '.join(self.cases)}")
        return Branch(self, label)

    @property
    def error(self) -> Output[dict[str, Any]]:
        """The error, if the expression fails."""
        return Output(self.diagram, self.node_id, ERROR, dict[str, Any])

    def label_of(self, output: Output[Any], wanted: str) -> str:
        """The label under which an output enters the condition; it is drawn there if it was not yet."""
        key = (output.node_id, output._port, output._select)
        if key not in self.inputs:
            taken = set(self.inputs.values())
            self.inputs[key] = label = free(wanted, taken)
            # As it was where the condition stands: the branches around the condition still count.
            self.diagram._connect(output, self.node_id, label, inside=self._branches)
        return self.inputs[key]


class Turn:
    """A loop that is being drawn. `turn.name` is a variable of it, to be taken by one node: the loop's
    head."""

    def __init__(
        self, diagram: Diagram, values: Mapping[str, Any], max_iterations: int, on_limit: OnLimit
    ) -> None:
        self._diagram, self._values = diagram, dict(values)
        self._limits = (max_iterations, on_limit)
        self._taken: dict[str, list[str]] = {}  # by variable: the head's inputs that take it
        self._head: NodeID | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(
                f"the loop has no variable {name!r}; it has {', '.join(self._values) or 'none'}"
            )
        return Carried(self, name)

    def again(self, **values: Source) -> None:
        """Draw the arrows that start another iteration with these values."""
        for name, value in values.items():
            if self._head is None or name not in self._taken:
                raise invalid(
                    f"no node takes the loop's variable {name!r}",
                    f"pass turn.{name} to the node that begins an iteration",
                )
            for input_ in self._taken[name]:
                self._diagram._bring(value, self._head, input_)

    def _take(self, name: str, node_id: NodeID, input_: str) -> None:
        if self._head not in (None, node_id):
            raise invalid(
                f"{self._head!r} begins the loop already, so {node_id!r} can't take its variable {name!r}",
                f"take it from {self._head!r}, or let one node take all variables and pass them on",
            )
        self._head = node_id
        self._taken.setdefault(name, []).append(input_)
        self._diagram._bring(self._values[name], node_id, input_)

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        if self._head is None:
            raise invalid(
                "no node takes a variable of the loop", "pass turn.<name> to the node that begins it"
            )
        limit, on_limit = self._limits
        self._diagram._loops.append(Loop(self._head, limit, on_limit, caller()))


def free(label: str, taken: Container[str], number: int = 2) -> str:
    """The label, or with the first free number from `number` if it is taken."""
    if label not in taken:
        return label
    while f"{label}_{number}" in taken:
        number += 1
    return f"{label}_{number}"


def invalid(message: str, hint: str | None = None, node_id: str | None = None) -> InvalidDiagram:
    return InvalidDiagram([Fault(message, node=node_id, where=caller(), hint=hint)])


def caller() -> Where:
    """The place of the call that came from outside this package."""
    frame = inspect.currentframe()
    while frame is not None and os.path.dirname(os.path.abspath(frame.f_code.co_filename)) == _HERE:
        frame = frame.f_back
    return Where(frame.f_code.co_filename, frame.f_lineno) if frame is not None else Where()
