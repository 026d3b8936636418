"""Random diagrams under random orders, failures and crashes (`treadle.testing.simulate`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.diagram.policy import OnError
from treadle.kernel import facts as f
from treadle.kernel import flow
from treadle.kernel.execution import Kernel
from treadle.kernel.order import DynamicOrderCalculator
from treadle.state.cell import ExecutionCell
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.testing.simulate import Shape, Simulation, random_diagram

SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module", autouse=True, params=[flow.PORTION, 1], ids=["usual", "one by one"])
def portion(request: pytest.FixtureRequest) -> Iterator[None]:
    """How many arrows of a fan-out are delivered in one go must not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "PORTION", request.param)
        yield


@settings(max_examples=150, deadline=None)
@given(SEEDS, SEEDS, st.sampled_from([0.0, 0.05, 0.2]), st.integers(0, 5), st.sampled_from([1, 3, 50]))
def test_any_order_and_any_crash_end_in_the_same_state(diagram: int, order: int, crashes: float, lag: int,
                                                       concurrency: int) -> None:
    """Without join any, deadlines or fail-fast, order can't matter, nor can crashes and what they lose."""
    shape = Shape()
    drawn = random_diagram(diagram, shape)
    calm = Simulation(drawn, 0, shape=shape, bodies=diagram).run()
    wild = Simulation(drawn, order, shape=shape, bodies=diagram, crashes=crashes, lag_max=lag,
                      concurrency=concurrency).run()
    assert (wild.status, wild.nodes) == (calm.status, calm.nodes)


@settings(max_examples=100, deadline=None)
@given(SEEDS, SEEDS, st.sampled_from(list(OnError)), st.sampled_from([0.0, 0.1]))
def test_everything_ends_and_no_recorded_result_changes(diagram: int, order: int, on_error: OnError,
                                                        crashes: float) -> None:
    """With joins any and fail-fast too; a failed execution that is resumed ends again."""
    shape = Shape(join_any=True, on_error=on_error)
    simulation = Simulation(random_diagram(diagram, shape), order, shape=shape, bodies=order, crashes=crashes,
                            lag_max=2)
    if simulation.run().status is not ExecutionStatus.COMPLETED:
        assert simulation.reopen().status is not ExecutionStatus.RUNNING


@settings(max_examples=60, deadline=None)
@given(SEEDS, SEEDS)
def test_nothing_recorded_is_performed_again(diagram: int, order: int) -> None:
    """With a store that never lags, crashes add only the bodies that they interrupted."""
    shape = Shape(failures=0.0, suspensions=0.0)
    drawn = random_diagram(diagram, shape)
    calm = Simulation(drawn, 0, shape=shape, bodies=diagram, concurrency=1).run()
    simulation = Simulation(drawn, order, shape=shape, bodies=diagram, crashes=0.1, concurrency=1)
    performed: list[tuple[str, str, int]] = []
    answer = simulation._answer

    def watch(command: object) -> f.Fact:
        fact = answer(command)  # type: ignore[arg-type]
        if isinstance(fact, f.Finished):
            cell = command.cell  # type: ignore[attr-defined]
            performed.append((cell.node_id, cell.iteration, cell.attempt))
        return fact

    simulation._answer = watch  # type: ignore[method-assign]
    wild = simulation.run()
    assert len(performed) == len(set(performed)), "a finished body was performed twice"
    assert wild.nodes == calm.nodes


@settings(max_examples=150, deadline=None)
@given(SEEDS, SEEDS, st.booleans())
def test_the_counters_agree_with_the_order_calculator(diagram: int, order: int, join_any: bool) -> None:
    """At every instant, what the kernel has running or ready is what a scan from scratch says can run."""
    shape = Shape(join_any=join_any, loops=False, maps=False, depth_max=0)
    drawn = random_diagram(diagram, shape)
    calculator = DynamicOrderCalculator(drawn)
    simulation = Simulation(drawn, order, shape=shape, bodies=order)

    def compare() -> None:
        frame = simulation.kernel._root
        if frame is None or simulation.kernel.closed:
            return
        sets: dict[NodeStatus, list[str]] = {status: [] for status in NodeStatus}
        for i, status in enumerate(frame.status):
            sets[status].append(drawn.nodes[i].id)
        ports = {cell.node_id: cell.port for cell in frame.cells if cell is not None and cell.port}
        started = sets[NodeStatus.RUNNING] + sets[NodeStatus.SUSPENDED] + sets[NodeStatus.RETRYING]
        ready = calculator.get_ready_nodes(sets[NodeStatus.COMPLETED], sets[NodeStatus.FAILED], ports=ports,
                                           skipped=sets[NodeStatus.SKIPPED])
        assert set(ready) == set(started + sets[NodeStatus.SCHEDULED])
        running = calculator.get_ready_nodes(sets[NodeStatus.COMPLETED], sets[NodeStatus.FAILED], ports=ports,
                                             skipped=sets[NodeStatus.SKIPPED], running=started)
        assert set(running) == set(sets[NodeStatus.SCHEDULED])

    take = simulation._take

    def watch(step: object) -> None:
        take(step)  # type: ignore[arg-type]
        compare()

    simulation._take = watch  # type: ignore[method-assign, assignment]
    simulation.run()


def test_crashes_that_count_claims_end_too() -> None:
    for seed in range(60):
        drawn = random_diagram(seed)
        kernel = Kernel(drawn, ExecutionCell("x", epoch=1), check=True)
        cells = {}
        step = kernel.handle(f.Started(0.0))
        for epoch in range(2, 8):
            cells.update({cell.key: cell for cell in step.cells})
            if kernel.closed:
                break
            kernel = Kernel(drawn, ExecutionCell("x", epoch=epoch), check=True)
            step = kernel.resume(list(cells.values()), float(epoch), clean=False)
            assert all(cell.claims <= 3 for cell in step.cells)
