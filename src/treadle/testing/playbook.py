"""A test script for the kernel that reads as the execution it describes.

```python
Playbook(diagram) \\
    .on(Started(), expect=[Perform("a")]) \\
    .on(Finished("a"), expect=[Perform("b"), Perform("c")]) \\
    .on(Failed("b", error="Boom"), expect=[Wake("b", at=2.1)])
```

Nodes are named by path, time passes one second a fact unless `at` says otherwise, and every step is checked
against all invariants.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec

from treadle.diagram.compile import link
from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.diagram.node import Arrow, Node
from treadle.diagram.policy import OnError, Policy
from treadle.ids import NodeID
from treadle.kernel import commands as c
from treadle.kernel import facts as f
from treadle.kernel.execution import Kernel
from treadle.state.cell import CellKey, ErrorInfo, ExecutionCell, NodeState, join_cells
from treadle.state.status import ExecutionStatus


class Did:
    """What a step is expected to command, or what happened, in words of paths."""

    def __init__(self, what: str, node: str = "", **more: Any) -> None:
        self.what, self.node, self.more = what, node, more

    def __repr__(self) -> str:
        words = [repr(self.node)] if self.node else []
        return f"{self.what}({', '.join(words + [f'{k}={v!r}' for k, v in self.more.items()])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Did) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


def Perform(node: str, attempt: int = 1) -> Did:
    """Expect the body of a node to be run."""
    return Did("Perform", node, **({"attempt": attempt} if attempt > 1 else {}))


def Expand(node: str) -> Did:
    """Expect a composite's items to be asked for."""
    return Did("Expand", node)


def Gather(node: str) -> Did:
    """Expect a composite's results to be collected."""
    return Did("Gather", node)


def Wake(node: str = "", at: float = 0.0) -> Did:
    """Expect a timer."""
    return Did("Wake", node, at=float(at))


def Cancel(node: str) -> Did:
    """Expect a body to be stopped."""
    return Did("Cancel", node)


def Close(status: str) -> Did:
    """Expect the execution to end, or to be suspended."""
    return Did("Close", status=status)


def Started() -> Did:
    return Did("Started")


def Finished(node: str, value: Any = None, port: str | None = None) -> Did:
    return Did("Finished", node, value=value, port=port)


def Failed(node: str, error: str = "Boom", retryable: bool = True, delay: float | None = None) -> Did:
    return Did("Failed", node, error=error, retryable=retryable, delay=delay)


def Expanded(node: str, items: Any) -> Did:
    return Did("Expanded", node, items=items)


def Suspended(node: str, kind: str = "answer", wake_at: float | None = None) -> Did:
    return Did("Suspended", node, kind=kind, wake_at=wake_at)


def Answered(node: str, value: Any = None) -> Did:
    return Did("Answered", node, value=value)


def Woken(node: str) -> Did:
    return Did("Woken", node)


def Cancelled(reason: str = "") -> Did:
    return Did("Cancelled", reason=reason)


def Expired() -> Did:
    return Did("Expired")


class Playbook:
    """One execution on the kernel, told fact by fact. `store` holds every cell that the steps journaled."""

    def __init__(self, diagram: ExecutableDiagram, *, concurrency: int = 256) -> None:
        self.diagram, self.concurrency = diagram, concurrency
        self.row = ExecutionCell("playbook", epoch=1)
        self.kernel = Kernel(diagram, self.row, concurrency=concurrency, check=True)
        self.store: dict[CellKey, NodeState] = {}
        self.now = -1.0
        self.started = False

    def on(self, fact: Did, expect: Sequence[Did] | None = None, at: float | None = None) -> Playbook:
        """Tell a fact; AssertionError unless the step's commands are the expected ones, in order."""
        self.now = self.now + 1.0 if at is None else float(at)
        step = self.kernel.handle(self._fact(fact))
        return self._keep(step, fact, expect)

    def crash(self, expect: Sequence[Did] | None = None, *, clean: bool = False, reopen: bool = False,
              diagram: ExecutableDiagram | None = None) -> Playbook:
        """Throw the kernel away and resume a new one from the store."""
        self.now += 1
        self.diagram = diagram or self.diagram
        self.row = msgspec.structs.replace(self.row, epoch=self.row.epoch + 1)
        self.kernel = Kernel(self.diagram, self.row, concurrency=self.concurrency, check=True)
        step = self.kernel.resume(self.store.values(), self.now, clean=clean, reopen=reopen)
        return self._keep(step, Did("resume"), expect)

    def _keep(self, step: c.Step, fact: Did, expect: Sequence[Did] | None) -> Playbook:
        for cell in step.cells:
            known = self.store.get(cell.key)
            self.store[cell.key] = cell if known is None else join_cells(known, cell)
        if step.execution is not None:
            self.row = step.execution
        did = [self._did(command) for command in step.commands]
        if expect is not None:
            assert did == list(expect), f"on {fact}:\n  expected {list(expect)}\n  was      {did}"
        return self

    def _did(self, command: c.Command) -> Did:
        match command:
            case c.Perform(slot, cell):
                return Perform(self.kernel.path(slot), cell.attempt)
            case c.Expand(slot, _) | c.Gather(slot, _):
                return Did(type(command).__name__, self.kernel.path(slot))
            case c.Wake(slot, at):
                return Wake(self.kernel.path(slot) if slot >= 0 else "", at)
            case c.Cancel(slot):
                return Cancel(self.kernel.path(slot))
            case c.Close(status, _):
                return Close(status.value)

    def _fact(self, did: Did) -> f.Fact:
        at, more = self.now, did.more
        slot = self.kernel.find(did.node) if did.node else -1
        match did.what:
            case "Started":
                return f.Started(at)
            case "Finished":
                return f.Finished(slot, at, output=msgspec.json.encode(more["value"]), port=more["port"])
            case "Failed":
                return f.Failed(slot, at, 0.5, ErrorInfo(more["error"], "as told"), more["retryable"],
                                delay=more["delay"])
            case "Expanded":
                items = more["items"]
                count = len(items) if isinstance(items, list) else 0
                return f.Expanded(slot, at, msgspec.json.encode(items), count)
            case "Suspended":
                return f.Suspended(slot, at, msgspec.json.encode({"kind": more["kind"]}), more["wake_at"])
            case "Answered":
                return f.Answered(slot, at, msgspec.json.encode(more["value"]))
            case "Woken":
                return f.Woken(slot, at)
            case "Cancelled":
                return f.Cancelled(at, more["reason"])
            case _:
                return f.Expired(at)

    # What is true now

    def status(self, node: str, iteration: str = "1") -> str:
        """The status of a node's newest attempt in the store, `pending` if there is none."""
        cells = [cell for cell in self.store.values() if (cell.node_id, cell.iteration) == (node, iteration)]
        return max(cells, key=lambda cell: cell.attempt).status.value if cells else "pending"

    def attempts(self, node: str, iteration: str = "1") -> list[str]:
        """The statuses of all attempts of a node, first to last."""
        cells = [cell for cell in self.store.values() if (cell.node_id, cell.iteration) == (node, iteration)]
        return [cell.status.value for cell in sorted(cells, key=lambda cell: cell.attempt)]

    def inputs(self, node: str) -> list[tuple[str, Any]]:
        """(arrow, value) pairs that a node has been given."""
        slot = self.kernel.find(node)
        return [(arrow.text, cell.error.type if cell.error else msgspec.json.decode(cell.output or b"null"))
                for arrow, cell in self.kernel.inputs(slot)]

    @property
    def ended(self) -> ExecutionStatus:
        """The execution's status."""
        return self.row.status


def draw(text: str, *, loops: Sequence[Any] = (), **options: Any) -> ExecutableDiagram:
    """A diagram for tests from arrows: `"a -> b; b.true -> c.x; d"`. `options` gives policies by node id
    (`a=Policy(…)`) or a sub-diagram (`a=ExecutableDiagram`, or a pair of both), and `on_error`, `deadline`.
    """
    on_error, deadline = OnError(options.pop("on_error", "fail")), options.pop("deadline", None)
    names: dict[str, None] = {}
    arrows = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        ends = [end.strip() for end in part.split("->")]
        names.update(dict.fromkeys(end.partition(".")[0] for end in ends))
        for source, target in pairwise(ends):
            (a, _, port), (b, _, into) = source.partition("."), target.partition(".")
            arrows.append(Arrow(NodeID(a), NodeID(b), port or "default", into or "default"))
    policies: dict[str, Policy] = {}
    children: dict[NodeID, ExecutableDiagram] = {}
    for name, option in options.items():
        for one in option if isinstance(option, tuple) else (option,):
            if isinstance(one, ExecutableDiagram):
                children[NodeID(name)] = one
            else:
                policies[name] = one
    nodes = tuple(Node(NodeID(name), "task", policy=policies.get(name, Policy())) for name in names)
    spec = DiagramSpec("drawn", nodes, tuple(arrows), tuple(loops), on_error=on_error, deadline=deadline)
    return link(spec, children=children)
