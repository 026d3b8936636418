"""One seed, the whole kernel, crash anywhere: random diagrams under random orders, failures and crashes.

`random_diagram(seed)` draws a diagram with conditions, joins, loops, maps, sub-diagrams, retries and error
arrows. A `Simulation` runs it on the kernel alone: what bodies do follows from (path, iteration, attempt), so
that two runs of one diagram differ only in what the seed of the order may change. The seed is the bug report.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from treadle.diagram.compile import link
from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.diagram.node import Arrow, Loop, Node
from treadle.diagram.policy import Backoff, Join, OnError, OnItemError, OnLimit, Policy
from treadle.errors import Corruption, InvalidDiagram
from treadle.ids import NodeID
from treadle.kernel import facts as f
from treadle.kernel.commands import Cancel, Close, Command, Expand, Gather, Perform, Step, Wake
from treadle.kernel.execution import Kernel
from treadle.state.cell import CellKey, ErrorInfo, ExecutionCell, NodeState, join_cells
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.state.steps import StepRecord, has_steps, steps_of

_ASKED = b'{"kind": "answer", "step": "answer"}'
STEPS_MAX = 20_000
"""Steps after which a simulated execution is taken to hang."""


class Shape(msgspec.Struct, frozen=True):
    """What a random diagram may contain."""

    nodes_max: int = 9
    depth_max: int = 2
    join_any: bool = False
    loops: bool = True
    maps: bool = True
    on_error: OnError = OnError.CONTINUE
    failures: float = 0.15
    suspensions: float = 0.1
    steps: float = 0.2  # of bodies that record steps; some of them ask for one


DEFAULT_SHAPE = Shape()


def random_diagram(seed: int, shape: Shape = DEFAULT_SHAPE) -> ExecutableDiagram:
    """Draw a valid diagram; the same one for the same seed."""
    rng = random.Random(seed)
    while True:
        try:
            return _draw(rng, shape, depth=0)
        except InvalidDiagram:
            continue  # its loops had no clear head: draw another


def _draw(rng: random.Random, shape: Shape, depth: int) -> ExecutableDiagram:
    count = rng.randint(1, shape.nodes_max if depth == 0 else 4)
    nodes, children, arrows, loops = [], {}, [], []
    for i in range(count):
        name = NodeID(f"n{i}")
        kind = rng.choices(["task", "condition", "map", "sub"], [5, 3, 1.2 * shape.maps, 1])[0]
        if kind == "sub" and depth >= shape.depth_max:
            kind = "task"
        retries = rng.choice([0, 0, 1, 2])
        policy = Policy(
            retries=retries, backoff=Backoff(initial=rng.choice([0.0, 1.0]), jitter=0.0),
            join=Join.ANY if shape.join_any and rng.random() < 0.3 else Join.ALL,
            priority=rng.choice([0, 0, 0, 1, -1]), for_each="items" if kind == "map" else None,
            concurrency=rng.choice([None, 1, 2]), on_item_error=rng.choice(list(OnItemError)))
        if kind == "sub" or (kind == "map" and rng.random() < 0.4 and depth < shape.depth_max):
            children[name] = _draw(rng, shape, depth + 1)
        nodes.append(Node(name, kind, policy=policy))
        for source in sorted(rng.sample(range(i), min(i, rng.choice([0, 1, 1, 1, 2, 3])))):
            arrows.append(Arrow(NodeID(f"n{source}"), name, port=_port(rng, nodes[source]),
                                input=rng.choice("ab")))
    for _ in range(rng.choice([0, 0, 1, 1, 2]) if shape.loops else 0):
        source, head = rng.randrange(count), rng.randrange(count)
        if head <= source:
            arrows.append(Arrow(NodeID(f"n{source}"), NodeID(f"n{head}"), port=_port(rng, nodes[source]),
                                input=rng.choice("ab")))
            loops.append(Loop(NodeID(f"n{head}"), rng.randint(1, 3), rng.choice(list(OnLimit))))
    spec = DiagramSpec("random", tuple(nodes), tuple(arrows), tuple(loops), on_error=shape.on_error)
    try:
        return link(spec, children=children)
    except InvalidDiagram:
        return link(msgspec.structs.replace(spec, loops=()), children=children)


def _port(rng: random.Random, source: Node) -> str:
    if rng.random() < 0.12:
        return "error"
    return rng.choice(["true", "false"]) if source.type == "condition" else "default"


class Outcome(msgspec.Struct, frozen=True):
    """How a simulated execution ended, in words that two runs can be compared by."""

    status: ExecutionStatus
    nodes: dict[tuple[str, str], tuple[str, int, str | None, bytes | None]]
    performed: int


class Simulation:
    """A kernel, a store that is a dict, and a runner that is a die."""

    def __init__(self, diagram: ExecutableDiagram, seed: int, *, shape: Shape = DEFAULT_SHAPE,
                 crashes: float = 0.0, lag_max: int = 0, concurrency: int = 4, bodies: int = 0,
                 kernel: Callable[..., Kernel] = Kernel) -> None:
        self.diagram, self.rng, self.shape = diagram, random.Random(seed), shape
        self.crashes, self.lag_max, self.concurrency, self.bodies = crashes, lag_max, concurrency, bodies
        self.make = kernel
        self.store: dict[CellKey, NodeState] = {}
        self.row = ExecutionCell("x", epoch=1)
        self.unwritten: list[Step] = []
        self.out: dict[int, Command] = {}
        self.wakes: dict[int, float] = {}
        self.now = 0.0
        self.performed = 0
        self.kernel = self._new()

    def _new(self) -> Kernel:
        return self.make(self.diagram, self.row, concurrency=self.concurrency, check=True)

    def run(self) -> Outcome:
        """Run to the end, crashing on the way; `Corruption` if it hangs or a recorded result changes."""
        self._take(self.kernel.handle(f.Started(self.now)))
        for _ in range(STEPS_MAX):
            if self.kernel.closed:
                self._write(0)
                return self._outcome()
            self.now += 1.0
            if self.rng.random() < self.crashes:
                self._crash()
            else:
                self._take(self.kernel.handle(self._next_fact()))
        raise Corruption(f"the execution hangs: {self.kernel.counts}")

    def reopen(self) -> Outcome:
        """Resume explicitly after a failed end, and run to the next end."""
        self.row = msgspec.structs.replace(self.row, epoch=self.row.epoch + 1)
        self.out, self.wakes, self.kernel = {}, {}, self._new()
        self._take(self.kernel.resume(self.store.values(), self.now, clean=True, reopen=True))
        while not self.kernel.closed:
            self.now += 1.0
            self._take(self.kernel.handle(self._next_fact()))
        self._write(0)
        return self._outcome()

    def _crash(self) -> None:
        self._write(self.rng.randint(0, min(self.lag_max, len(self.unwritten))))
        self.unwritten.clear()
        self.row = msgspec.structs.replace(self.row, epoch=self.row.epoch + 1)
        self.out, self.wakes = {}, {}
        self.kernel = self._new()
        # a clean hand-over as often as not, else the bodies count claims and end in CrashLoop
        self._take(self.kernel.resume(self.store.values(), self.now, clean=True))

    def _take(self, step: Step) -> None:
        self.unwritten.append(step)
        self._write(self.lag_max)
        for command in step.commands:
            match command:
                case Perform(slot) | Expand(slot) | Gather(slot):
                    assert slot not in self.out, f"slot {slot} was asked twice"
                    self.out[slot] = command
                case Wake(slot, at):
                    self.wakes[slot] = at
                case Cancel(slot):
                    self.out.pop(slot, None)
                    self.wakes.pop(slot, None)
                case Close():
                    pass

    def _write(self, keep: int) -> None:
        """Write all but the last `keep` steps, as a writer that lags behind does."""
        while len(self.unwritten) > keep:
            step = self.unwritten.pop(0)
            for cell in step.cells:
                known = self.store.get(cell.key)
                if known is not None and known.status.terminal and known != cell:
                    raise Corruption(f"a recorded result changed:\n  {known}\n  {cell}")
                if known is not None and has_steps(known.meta) and not cell.status.terminal and not (
                        _names(known) <= _names(cell)):
                    raise Corruption(f"a recorded step was lost:\n  {known}\n  {cell}")
                self.store[cell.key] = cell if known is None else join_cells(known, cell)
            if step.execution is not None:
                self.row = step.execution

    def _next_fact(self) -> f.Fact:
        waiting = self.kernel.waiting()
        choices: list[tuple[str, int]] = [("out", s) for s in self.out] + [("wake", s) for s in self.wakes]
        choices += [("answer", s) for s in waiting]
        if not choices:
            raise Corruption(f"the execution hangs: {self.kernel.counts}")
        kind, slot = self.rng.choice(choices)
        if kind == "wake":
            self.now = max(self.now, self.wakes.pop(slot))
            return f.Woken(slot, self.now, 0.5)
        if kind == "answer":
            cell = self.kernel.cell(slot)
            step = cell is not None and cell.request == _ASKED
            meta = _with_step(cell, "answer") if cell is not None and step else None
            return f.Answered(slot, self.now, b'"answer"', meta=meta)
        return self._answer(self.out.pop(slot))

    def _answer(self, command: Command) -> f.Fact:
        assert isinstance(command, Perform | Expand | Gather)
        slot, cell = command.slot, command.cell
        what = type(command).__name__
        die = random.Random(f"{self.bodies}/{cell.node_id}/{cell.iteration}/{cell.attempt}/{what}")
        if isinstance(command, Gather):
            names = [name for name, _ in self.kernel.results(slot)]
            return f.Finished(slot, self.now, output=msgspec.json.encode(names))
        if isinstance(command, Expand):
            is_map = self.kernel.node(slot).policy.for_each is not None
            count = die.randint(0, 4) if is_map else 0
            items = msgspec.json.encode(list(range(count)) if is_map else {})
            return f.Expanded(slot, self.now, items, count)
        step = self._step(command)
        if step is not None:
            return step
        self.performed += 1
        luck = die.random()
        if luck < self.shape.failures:
            return f.Failed(slot, self.now, 0.5, ErrorInfo("Boom", "as drawn"), retryable=die.random() < 0.8)
        if luck > 1 - self.shape.suspensions:
            return f.Suspended(slot, self.now, b'{"kind": "answer"}')
        port = die.choice(["true", "false"]) if self.kernel.node(slot).type == "condition" else None
        inputs = sorted((arrow.text, carried.attempt) for arrow, carried in self.kernel.inputs(slot))
        output = msgspec.json.encode([cell.node_id, cell.iteration, inputs])
        return f.Finished(slot, self.now, port=port, output=output)

    def _step(self, command: Perform) -> f.Fact | None:
        """What a body does before its end, of those that record steps."""
        slot, cell = command.slot, self.kernel.cell(command.slot)
        assert cell is not None
        die = random.Random(f"{self.bodies}/{cell.node_id}/{cell.iteration}/steps")
        if die.random() >= self.shape.steps:
            return None
        steps = [one.name for one in steps_of(cell.meta).steps]
        if die.random() < 0.3 and "answer" not in steps:
            return f.Suspended(slot, self.now, _ASKED)
        if len(steps) > die.randint(1, 3):
            return None
        self.out[slot] = command  # it goes on
        return f.Progressed(slot, self.now, _with_step(cell, str(len(steps))))

    def _outcome(self) -> Outcome:
        latest: dict[tuple[str, str], NodeState] = {}
        for cell in self.store.values():
            known = latest.get((cell.node_id, cell.iteration))
            if known is None or cell.attempt > known.attempt:
                latest[(cell.node_id, cell.iteration)] = cell
        for cell in latest.values():
            if cell.status not in (
                NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED, NodeStatus.CANCELLED):
                raise Corruption(f"the execution ended, but {cell.node_id} is {cell.status}")
        return Outcome(self.row.status, {key: (c.status.value, c.attempt, c.port, c.output)
                                         for key, c in latest.items()}, self.performed)


def _with_step(cell: NodeState, name: str) -> bytes:
    records = (*steps_of(cell.meta).steps, StepRecord(name, attempt=cell.attempt))
    return b'{"steps":' + msgspec.json.encode(records) + b"}"


def _names(cell: NodeState) -> set[str]:
    return {one.name for one in steps_of(cell.meta).steps}
