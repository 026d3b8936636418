"""Steps of bodies in the kernel: random diagrams whose bodies record steps and ask in their midst."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.diagram.compile import link
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.node import Node
from treadle.errors import IllegalMove
from treadle.ids import NodeID
from treadle.kernel import facts as f
from treadle.kernel.commands import Close, Perform
from treadle.kernel.execution import Kernel
from treadle.state.cell import ExecutionCell
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.state.steps import steps_of
from treadle.testing.simulate import Shape, Simulation, random_diagram

SEEDS = st.integers(0, 2**32)
META = b'{"steps":[{"name":"one"}]}'


@settings(max_examples=80, deadline=None)
@given(SEEDS, SEEDS, st.integers(0, 3))
def test_what_is_told_at_the_end_is_what_the_completed_cells_say(diagram: int, order: int, lag: int) -> None:
    """Whatever crashed on the way; the simulation itself checks that no recorded step is lost."""
    shape = Shape(steps=0.7)
    simulation = Simulation(random_diagram(diagram, shape), order, shape=shape, bodies=diagram, crashes=0.1,
                            lag_max=lag)
    simulation.run()
    newest = {}
    for cell in sorted(simulation.store.values(), key=lambda one: one.attempt):
        newest[(cell.node_id, cell.iteration)] = cell
    said = {key: cell for key, cell in newest.items()
            if cell.status is NodeStatus.COMPLETED and steps_of(cell.meta).steps}
    told = {(cell.node_id, cell.iteration): cell for cell in simulation.kernel.told
            if steps_of(cell.meta).steps}
    assert told == said


def kernel_of_one() -> tuple[Kernel, int]:
    kernel = Kernel(link(DiagramSpec("one", (Node(NodeID("w"), "task"),))), ExecutionCell("x", epoch=1),
                    check=True)
    [perform] = [c for c in kernel.handle(f.Started(1.0)).commands if isinstance(c, Perform)]
    return kernel, perform.slot


def test_an_answer_that_is_a_step_starts_the_same_attempt_again() -> None:
    kernel, slot = kernel_of_one()
    kernel.handle(f.Progressed(slot, 2.0, META))
    step = kernel.handle(f.Suspended(slot, 3.0, b'{"kind": "answer", "step": "a"}', wake_at=9.0))
    closed = next(c for c in step.commands if isinstance(c, Close))
    assert closed.status is ExecutionStatus.SUSPENDED
    step = kernel.handle(f.Answered(slot, 4.0, b"true", meta=META))
    [cell], [command] = step.cells, step.commands
    assert isinstance(command, Perform) and command.cell is cell
    assert (cell.status, cell.attempt, cell.meta, cell.wake_at, cell.request, cell.claims) == (
        NodeStatus.RUNNING, 1, META, None, None, 1)
    assert step.execution is not None and step.execution.status is ExecutionStatus.RUNNING
    assert kernel.handle(f.Woken(slot, 9.0)).cells == []  # the timer of the wait is out of date
    assert kernel.handle(f.Finished(slot, 10.0, output=b"1")).cells[0].status is NodeStatus.COMPLETED


def test_a_body_that_gets_on_is_not_counted_as_crashing() -> None:
    kernel, slot = kernel_of_one()
    for claims in (1, 2, 3, 2, 3):  # the fourth crash in a row would fail it
        cell = kernel.cell(slot)
        assert cell is not None and cell.claims == claims
        if claims == 3:
            kernel.handle(f.Progressed(slot, 2.0, META))
            cell = kernel.cell(slot)
            assert cell is not None and cell.claims == 1
        kernel = Kernel(kernel.diagram, kernel.execution, check=True)
        kernel.resume([cell], 3.0, clean=False)
    cell = kernel.cell(slot)
    assert cell is not None and cell.claims == 2 and cell.meta == META


def test_progress_of_what_does_not_run_is_refused() -> None:
    kernel, slot = kernel_of_one()
    kernel.handle(f.Suspended(slot, 3.0, b'{"kind": "answer"}'))
    with pytest.raises(IllegalMove, match="'w' can't go from suspended to running"):
        kernel.handle(f.Progressed(slot, 4.0, META))
