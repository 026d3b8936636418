"""The documented way to drive nodes by hand: the usage examples of the execution module, as they stand
there."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from treadle.diagram.compile import compile_diagram
from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.diagram.formats import loads
from treadle.diagram.node import Node
from treadle.engine.context import ExecutionContext, envelope_of
from treadle.engine.resolver import RuntimeResolver
from treadle.engine.tracker import ExecutionTracker
from treadle.errors import NoSuchNode
from treadle.ids import NodeID
from treadle.kernel.order import DynamicOrderCalculator
from treadle.nodes.registry import StrategyRegistry, default_registry
from treadle.state.envelope import Envelope, EnvelopeFactory
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import ExecutionStateManager, MemoryStore

TEXT = """
treadle: 1
name: hello
nodes:
  a: {type: template_job, text: "hello"}
  b: {type: template_job, text: "{{ x }} world {{ nodes.a }}"}
arrows: [a -> b.x]
"""


@pytest.fixture
def diagram() -> ExecutableDiagram:
    return compile_diagram(loads(TEXT), default_registry())


async def drive(diagram: ExecutableDiagram) -> tuple[ExecutionContext, ExecutionTracker]:
    strategy_registry, runtime_resolver = StrategyRegistry(), RuntimeResolver()
    tracker = ExecutionTracker()

    # Initialize execution context
    context = ExecutionContext(diagram, execution_id="exec-123")

    # Calculate ready nodes
    calculator = DynamicOrderCalculator(diagram)
    while ready_nodes := calculator.get_ready_nodes(
        completed=context.completed_nodes,
        failed=context.failed_nodes
    ):
        # Execute nodes with strategies
        for node_id in ready_nodes:
            node = diagram.get_node(node_id)
            strategy = strategy_registry.get_strategy(node.type)

            # Resolve inputs
            inputs = runtime_resolver.resolve_inputs(node, context)

            # Execute with tracking
            tracker.record_node_start(node_id, datetime.now())
            output = await strategy.execute(node, context, inputs)
            assert isinstance(output, Envelope)
            tracker.record_node_complete(node_id, output)

            # Store output
            context.store_output(node_id, output)
    return context, tracker


def test_basic_execution_flow(diagram: ExecutableDiagram) -> None:
    context, tracker = asyncio.run(drive(diagram))
    output = context.get_output("b")
    assert output is not None and output.body == "hello world hello"
    assert context.completed_nodes == {"a", "b"} and context.failed_nodes == set()
    metrics = tracker.get_execution_metrics()
    assert metrics.path == ("a", "b") and metrics.success_rate == 1.0


def test_state_management(diagram: ExecutableDiagram) -> None:
    async def main() -> None:
        context, _ = await drive(diagram)
        context.metadata["who"] = "Ann"
        context.artifacts["raw"] = "/tmp/raw.bin"
        context.environment_vars["DEBUG"] = "true"
        context.secret_store = "vault://prod"
        context.active_plugins.append("DataValidator@1.4.0")
        execution_id, state_store = context.execution_id, MemoryStore()

        # Save execution state
        state_manager = ExecutionStateManager(state_store)
        await state_manager.save_state(execution_id, context.to_state())

        # Resume execution
        restored_state = await state_manager.load_state(execution_id)
        context = ExecutionContext.from_state(restored_state)

        assert context.completed_nodes == {"a", "b"} and context.status is ExecutionStatus.COMPLETED
        output = context.get_output("a")
        assert output is not None and output.body == "hello"
        assert context.metadata == {"who": "Ann"} and context.artifacts == {"raw": "/tmp/raw.bin"}
        assert context.environment_vars == {"DEBUG": "true"} and context.secret_store == "vault://prod"
        assert context.active_plugins == ["DataValidator@1.4.0"]

    asyncio.run(main())


def test_a_failed_output_is_a_failed_node(diagram: ExecutableDiagram) -> None:
    context = ExecutionContext(diagram, "x", inputs={"n": 1})
    context.store_output("a", EnvelopeFactory.error("boom", "a"))
    assert context.failed_nodes == {"a"} and context.completed_nodes == set()
    assert context.status is ExecutionStatus.RUNNING
    state = context.to_state()
    assert state.node_states["a"].status is NodeStatus.FAILED  # type: ignore[index]
    again = ExecutionContext.from_state(state, diagram)
    assert again.failed_nodes == {"a"} and again.execution_inputs == {"n": 1}


def test_only_nodes_of_the_diagram_have_outputs(diagram: ExecutableDiagram) -> None:
    context = ExecutionContext(diagram, "x")
    with pytest.raises(NoSuchNode, match="has no node 'c'"):
        context.store_output("c", EnvelopeFactory.empty())
    assert context.get_output("a") is None


def test_a_diagram_that_nobody_uses_must_be_handed_in(diagram: ExecutableDiagram) -> None:
    state = ExecutionContext(diagram, "x").to_state()
    assert state.cell is not None
    state.cell = type(state.cell)("x", diagram="unknown")
    with pytest.raises(LookupError, match=r"hand it in, ExecutionContext\.from_state"):
        ExecutionContext.from_state(state)


def test_an_output_keeps_its_meta_and_type(diagram: ExecutableDiagram) -> None:
    context = ExecutionContext(diagram, "x")
    context.store_output("a", Envelope("1", "a", "raw_text", "hi", {"port": "true", "cost": 3}))
    envelope = envelope_of(context.to_state().node_states["a"])  # type: ignore[index]
    assert (envelope.body, envelope.content_type, envelope.port) == ("hi", "raw_text", "true")
    assert envelope.meta["cost"] == 3


def test_what_a_body_may_ask_of_a_context(diagram: ExecutableDiagram) -> None:
    context = ExecutionContext(diagram, "x", inputs={"n": 2})
    context.store_output("a", EnvelopeFactory.text("hi", "a"))
    assert context.evaluate("inputs.n + x", {"x": 1}) == 3
    assert context.render("{{ a }} {{ iteration }}", {}) == "hi 1"
    assert context.path("t.txt").name == "t.txt" and context.now() > 0
    with pytest.raises(LookupError, match="has no executor"):
        context.executor("thread")


def test_diagrams_drawn_in_python_are_told_apart() -> None:
    drawn = [compile_diagram(DiagramSpec(name, (Node(NodeID(node), "start"),)), default_registry())
             for name, node in (("one", "a"), ("one", "b"), ("two", "a"))]
    contexts = [ExecutionContext(diagram, f"exec-{number}") for number, diagram in enumerate(drawn)]
    found = [ExecutionContext.from_state(context.to_state()).diagram for context in contexts]
    assert all(one is diagram for one, diagram in zip(found, drawn, strict=True))


def test_nodes_that_are_driven_by_hand_share_a_context_too(diagram: ExecutableDiagram) -> None:
    context = ExecutionContext(diagram, "x")
    context.variables["n"] = 1
    before = context.snapshot()
    with context.transaction() as tx:
        tx.artifacts["raw"] = tx.variables["n"]
    assert context.update("variables.n", lambda n: n + 1) == 2
    assert context.evaluate("variables.n + artifacts.raw", {}) == 3
    assert context.evaluate("variables", {"variables": 7}) == 7  # an input of that name hides it
    assert dict(before) == {"variables.n": 1}
    again = ExecutionContext.from_state(context.to_state(), diagram)
    assert dict(again.snapshot()) == {"variables.n": 2, "artifacts.raw": 1}
    again.plugin("P")["x"] = 1
    assert again.shared.cells()["plugins.P.x"].seq == 4
    del again.variables["n"]
    last = ExecutionContext.from_state(again.to_state(), diagram)
    assert dict(last.variables) == {} and last.to_state().context["variables.n"].value is None
    assert again.pipeline.id == "x" and again.pipeline.version == diagram.hash
    with pytest.raises(AttributeError):
        again.pipeline.id = "y"  # type: ignore[misc]
