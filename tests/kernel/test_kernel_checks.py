"""The invariants are watched: a kernel that is broken by hand, one thing at a time, is found out."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from treadle.diagram.node import Loop
from treadle.diagram.policy import Policy
from treadle.errors import Corruption, IllegalMove
from treadle.ids import NodeID
from treadle.kernel import facts as f
from treadle.kernel.check import check_kernel
from treadle.kernel.commands import Step
from treadle.kernel.control import Frame
from treadle.kernel.execution import Kernel
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import NodeStatus
from treadle.testing.playbook import draw

NOTHING = Step([], [], [], None)


def a_kernel() -> tuple[Kernel, Frame]:
    """A loop `h -> c` and a chain: `s` runs, everything else is pending."""
    diagram = draw("s -> h -> c; c.again -> h; c.out -> e", loops=[Loop(NodeID("h"), max_iterations=3)])
    kernel = Kernel(diagram, ExecutionCell("checked", epoch=1), check=True)
    kernel.handle(f.Started(0.0))
    assert kernel._root is not None
    return kernel, kernel._root


def has_no_cell(kernel: Kernel, root: Frame) -> None:
    root.cells[root.block.index["s"]] = None


def is_counted_busy(kernel: Kernel, root: Frame) -> None:
    kernel._busy += 1


def is_stuck(kernel: Kernel, root: Frame) -> None:
    kernel._busy = 0
    root.status[root.block.index["s"]] = NodeStatus.SCHEDULED


def miscounts_arrows(kernel: Kernel, root: Frame) -> None:
    root.pending[root.block.index["e"]] += 1


def started_early(kernel: Kernel, root: Frame) -> None:
    root.status[root.block.index["e"]] = NodeStatus.SCHEDULED


def miscounts_a_turn(kernel: Kernel, root: Frame) -> None:
    root.loops[0].open += 1


def miscounts_the_frame(kernel: Kernel, root: Frame) -> None:
    root.open += 1


@pytest.mark.parametrize(("break_it", "message"), [
    (has_no_cell, "node 's' has no cell"),
    (is_counted_busy, r"counts of busy, suspended, retrying are \(2, 0, 0\), but \(1, 0, 0\) are there"),
    (is_stuck, "execution checked is stuck: nothing runs, waits or is ready"),
    (miscounts_arrows, "node 'e' counts 2 pending arrows, 1 are"),
    (started_early, "node 'e' has started, but an arrow into it is pending"),
    (miscounts_a_turn, "the loop at h counts 3 open parts, 2 are"),
    (miscounts_the_frame, "the frame '' counts 4 open parts, 3 are"),
])
def test_what_a_kernel_must_never_be(break_it: Callable[[Kernel, Frame], None], message: str) -> None:
    kernel, root = a_kernel()
    check_kernel(kernel, NOTHING)
    break_it(kernel, root)
    with pytest.raises(Corruption, match=message):
        check_kernel(kernel, NOTHING)


def test_a_step_makes_only_moves_of_the_table() -> None:
    kernel, root = a_kernel()
    running = root.cells[root.block.index["s"]]
    assert running is not None
    done = msgspec.structs.replace(running, seq=2, status=NodeStatus.COMPLETED)
    again = msgspec.structs.replace(running, seq=3)
    check_kernel(kernel, Step([done], [running], [], None))
    with pytest.raises(IllegalMove, match="'s' can't go from completed to running"):
        check_kernel(kernel, Step([again], [done], [], None))


@pytest.mark.parametrize("changes", [{"seq": 1}, {"epoch": 0, "seq": 9}, {"seq": 2, "attempt": 2}])
def test_a_cell_follows_the_one_before_it(changes: dict[str, int]) -> None:
    kernel, root = a_kernel()
    before = root.cells[root.block.index["s"]]
    assert isinstance(before, NodeState)
    after = msgspec.structs.replace(before, status=NodeStatus.COMPLETED, **changes)
    with pytest.raises(Corruption, match=r"CellKey\(.*\) at .* doesn't follow CellKey"):
        check_kernel(kernel, Step([after], [before], [], None))


def test_a_step_writes_under_its_own_epoch() -> None:
    kernel, _ = a_kernel()
    check_kernel(kernel, Step([], [], [], kernel.execution))
    with pytest.raises(Corruption, match="another epoch"):
        check_kernel(kernel, Step([], [], [], msgspec.structs.replace(kernel.execution, epoch=2)))


def test_an_execution_starts_once() -> None:
    kernel, _ = a_kernel()
    with pytest.raises(Corruption, match="execution checked was started twice"):
        kernel.handle(f.Started(1.0))


# what a kernel can be asked


def test_a_slot_knows_its_node_its_composite_and_its_inputs() -> None:
    inner = draw("x -> y")
    diagram = draw("s -> m -> e; s -> g", m=(inner, Policy(for_each="{{ s }}")), g=inner)
    kernel = Kernel(diagram, ExecutionCell("asked", epoch=1), check=True)
    kernel.handle(f.Started(0.0))
    s, m, g = (kernel.find(path) for path in ("s", "m", "g"))
    kernel.handle(f.Finished(s, 1.0, output=b"[7,8]"))
    kernel.handle(f.Expanded(m, 2.0, b"[7,8]", 2))
    kernel.handle(f.Expanded(g, 3.0, b"{}", 0))
    item, deep, plain = (kernel.find(path) for path in ("m[1]", "m[1]/x", "g/x"))
    assert [kernel.path(slot) for slot in (item, deep, plain)] == ["m[1]", "m[1]/x", "g/x"]
    assert kernel.node(item).id == "m", "an item's node is its map's"
    assert kernel.node(deep).id == "x"
    assert [kernel.item(slot) for slot in (m, item, deep)] == [None, 1, None]
    assert [kernel.owner(slot) for slot in (m, item, deep, plain)] == [-1, m, item, g]
    assert [kernel.diagram_of(slot) for slot in (m, item, deep)] == [diagram, diagram, inner]
    assert [arrow.text for arrow, _ in kernel.inputs(item)] == ["s -> m"], "an item has its map's inputs"
    assert kernel.width(item) == 1 and kernel.width(deep) == 0
    cell = kernel.cell(plain)
    assert cell is not None and cell.status is NodeStatus.RUNNING
