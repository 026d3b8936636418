"""The state that control works on: frames, loops' turns, and the queue of what is ready.

A *frame* is a diagram in the act of running: the execution's own, a sub-diagram's, or the items of a map. It
is a handful of arrays by node index; a *slot* is `frame.base + index`, the int that facts and commands call a
node by. Slots are given out once and never again, so that a late fact can't meet a stranger.

An arrow is pending (None), carries a value (the cell that it comes from), is dead, or is failed. Loops run in
place: a new turn clears the arrays of the loop's members. What the arrays forget stays in the store.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from heapq import heappop, heappush
from typing import Final

from treadle.diagram.diagram import ExecutableArrow, ExecutableDiagram, ExecutableLoop, ExecutableNode
from treadle.diagram.node import FIRST
from treadle.errors import NoSuchNode, did_you_mean
from treadle.ids import inner_path, item_path, parse_path
from treadle.state.cell import ErrorInfo, NodeState
from treadle.state.status import NodeStatus


class Mark(Enum):
    """What an arrow without a value says."""

    DEAD = "dead"
    FAILED = "failed"


Carry = NodeState | Mark | None

DEAD: Final = Mark.DEAD
FAILED: Final = Mark.FAILED
PENDING: Final = NodeStatus.PENDING
_RESULTS: Final = frozenset({NodeStatus.COMPLETED, NodeStatus.FAILED})
NOTHING: Final[frozenset[int]] = frozenset()
WIDE: Final = 512
"""Arrows into a node from which on its inputs are handed out in chunks."""


class Turn:
    """A loop at work: its turn from 1, how many of its own nodes and inner loops still run, its iteration."""

    __slots__ = ("loop", "turn", "open", "turns")

    def __init__(self, loop: ExecutableLoop) -> None:
        self.loop = loop
        self.turn = 0
        self.open = 0
        self.turns = ""


class Frame:
    """A diagram in the act of running. `round` is the attempt of the composite that it belongs to.

    By node index: `cells` (the newest of this iteration), `status`, `pending` (arrows not yet decided), `bad`
    (an arrow was dead or failed), `flawed` (skipped by a failed arrow), `scheduled` (when it became ready),
    `tries` (attempts of this round, where more than one), `ran` (completed in a former turn), `dropped`
    (arrows that this turn of a loop ignores), `winners` (which arrow a join-any node took). By arrow index:
    `arrows`; `forced` overrides what an exit arrow delivers.
    """

    __slots__ = (
        "base", "size", "block", "owner", "owner_slot", "prefix", "turns", "round", "cells", "status",
        "pending", "bad", "flawed", "scheduled", "arrows", "forced", "dropped", "tries", "winners", "loops",
        "open", "children", "failures", "ended", "log", "ran")

    def __init__(self, block: ExecutableDiagram, base: int, *,
                 owner: tuple[Frame | MapFrame, int] | None = None, round: int = 1) -> None:
        n = len(block.nodes)
        self.base, self.size, self.block, self.owner, self.round = base, n, block, owner, round
        self.owner_slot = -1 if owner is None else owner[0].base + owner[1]
        self.prefix = "" if owner is None else inner_path(owner[0].path(owner[1]), "")
        self.turns = "" if owner is None else owner[0].turns_of(owner[1])
        self.cells: list[NodeState | None] = [None] * n
        self.status: list[NodeStatus] = [PENDING] * n
        self.pending: list[int] = list(block.waits)
        self.bad = bytearray(n)
        self.flawed = bytearray(n)
        self.scheduled: list[float | None] = [None] * n
        self.arrows: list[Carry] = [None] * len(block.arrows)
        self.forced: dict[int, Carry] = {}
        self.dropped: dict[int, frozenset[int]] = {}
        self.tries: dict[int, int] = {}
        self.winners: dict[int, int] = {}
        self.loops = [Turn(loop) for loop in block.loops]
        self.ran = bytearray(n) if self.loops else b""
        self.open = n if not self.loops else (
            block.loop_of.count(-1) + sum(lp.parent < 0 for lp in block.loops))
        self.children: dict[int, Frame | MapFrame] = {}
        self.failures: list[tuple[int, str, ErrorInfo]] = []
        self.ended = False
        self.log: dict[tuple[str, str], NodeState] | None = None

    def node(self, i: int) -> ExecutableNode:
        return self.block.nodes[i]

    def path(self, i: int) -> str:
        node = self.block.nodes[i].id
        return self.prefix + node if self.prefix else node

    def turns_of(self, i: int) -> str:
        """The turns of the loops around a node, "" without any."""
        loop = self.block.loop_of[i]
        return self.turns if loop < 0 else self.loops[loop].turns

    def iteration(self, i: int) -> str:
        loop = self.block.loop_of[i]
        return (self.turns if loop < 0 else self.loops[loop].turns) or "1"

    def item(self, i: int) -> int | None:
        return None

    def live(self) -> Iterator[int]:
        """Nodes that have left `pending`."""
        return (i for i, status in enumerate(self.status) if status is not PENDING)

    def first_turn(self, turn: Turn) -> None:
        """Set a loop, and the loops inside it, to their first turn. Arrows stay as they are."""
        self._set_turn(turn, 1)

    def next_turn(self, turn: Turn, back: dict[int, Carry]) -> None:
        """Clear a loop for another turn; its back arrows carry what the last one gave them."""
        loop = turn.loop
        for a in loop.inside:
            self.arrows[a] = None
        for a, carry in back.items():
            self.arrows[a] = carry
        for i in loop.members:
            if self.status[i] is NodeStatus.COMPLETED:
                self.ran[i] = 1  # type: ignore[index]
            self.cells[i] = self.scheduled[i] = None
            self.status[i] = PENDING
            self.bad[i] = self.flawed[i] = 0
            self.tries.pop(i, None)
            self.winners.pop(i, None)
            self.children.pop(i, None)
            for a in self.block.out[i]:
                self.forced.pop(a, None)
        self._set_turn(turn, turn.turn + 1)

    def _set_turn(self, turn: Turn, number: int) -> None:
        loop = turn.loop
        around = self.loops[loop.parent].turns if loop.parent >= 0 else self.turns
        turn.turn, turn.open = number, len(loop.own) + len(loop.inner)
        turn.turns = f"{around}.{number}" if around else str(number)
        for inner in loop.inner:
            self._set_turn(self.loops[inner], 1)

    def count(self, i: int) -> None:
        """Find which arrows a loop's node ignores in this turn, and how many of the others are pending."""
        dropped = self._ignored(i)
        self.dropped[i] = dropped
        self.pending[i] = 0
        for a in self.block.into[i]:
            if a not in dropped:
                carry = self.arrows[a]
                if carry is None:
                    self.pending[i] += 1
                elif carry is DEAD or carry is FAILED:
                    self.bad[i] = 1

    def _ignored(self, i: int) -> frozenset[int]:
        block = self.block
        loop = self.loops[block.loop_of[i]]
        ignored: set[int] = set()
        replaced: set[str] = set()
        if loop.loop.head == i:
            if loop.turn == 1:
                ignored.update(loop.loop.back)
            else:
                replaced = {block.arrows[a].input for a in loop.loop.back
                            if isinstance(self.arrows[a], NodeState)}
        for a in block.into[i]:
            arrow = block.arrows[a]
            if arrow.back_of == loop.loop.index:
                continue
            once = (arrow.input == FIRST or arrow.first) and arrow.first is not False
            late = once and any(self.loops[entered].turn > 1 for entered in arrow.enters)
            if late or arrow.input in replaced:
                ignored.add(a)
        return frozenset(ignored)


class MapFrame:
    """The items of a map, opened in order and `window` at most at once: a wide map costs no wide step."""

    __slots__ = (
        "base", "size", "owner", "owner_slot", "round", "cells", "status", "scheduled", "tries", "children",
        "opened", "open", "window", "failures", "ended", "log", "_node", "_path", "_turns")

    def __init__(self, owner: tuple[Frame, int], base: int, size: int, window: int, round: int) -> None:
        frame, i = owner
        self.base, self.size, self.owner, self.round, self.window = base, size, owner, round, window
        self.owner_slot = frame.base + i
        self.cells: list[NodeState | None] = [None] * size
        self.status: list[NodeStatus] = [PENDING] * size
        self.scheduled: list[float | None] = [None] * size
        self.tries: dict[int, int] = {}
        self.children: dict[int, Frame | MapFrame] = {}
        self.opened = 0
        self.open = 0
        self.failures: list[tuple[int, str, ErrorInfo]] = []
        self.ended = False
        self.log: dict[tuple[str, str], NodeState] | None = None
        self._node, self._path, self._turns = frame.node(i), frame.path(i), frame.turns_of(i)

    def node(self, i: int) -> ExecutableNode:
        return self._node

    def path(self, i: int) -> str:
        return item_path(self._path, i)

    @property
    def winners(self) -> dict[int, int]:
        return {}

    def turns_of(self, i: int) -> str:
        return self._turns

    def iteration(self, i: int) -> str:
        return self._turns or "1"

    def item(self, i: int) -> int | None:
        return i

    def live(self) -> Iterator[int]:
        return iter(range(self.opened))


AnyFrame = Frame | MapFrame


class Ready:
    """Slots that wait for their turn: higher priority first, else in the order they came."""

    __slots__ = ("plain", "ranked", "_count")

    def __init__(self) -> None:
        self.plain: deque[int] = deque()  # those of priority 0
        self.ranked: list[tuple[int, int, int]] = []  # a heap of the others: (-priority, order, slot)
        self._count = 0

    def push(self, slot: int, priority: int) -> None:
        if priority:
            self._count += 1
            heappush(self.ranked, (-priority, self._count, slot))
        else:
            self.plain.append(slot)

    def pop(self) -> int:
        """The next slot; IndexError if there is none."""
        if self.ranked and (self.ranked[0][0] < 0 or not self.plain):
            return heappop(self.ranked)[2]
        return self.plain.popleft()

    def __bool__(self) -> bool:
        return bool(self.plain or self.ranked)

    def __len__(self) -> int:
        return len(self.plain) + len(self.ranked)


class Frames:
    """Every frame of an execution, and what can be asked of a slot."""

    __slots__ = ("__weakref__", "_bases", "_frames", "_gone", "_next", "_root")

    def __init__(self) -> None:
        self._frames: list[AnyFrame | None] = []
        self._bases: list[int] = []
        self._next = 0  # the next base
        self._gone = 0  # nodes of frames and turns that were let go of
        self._root: Frame | None = None

    def _at(self, slot: int) -> tuple[AnyFrame, int] | None:
        """The frame and index of a slot, or None when its frame is gone."""
        k = bisect_right(self._bases, slot) - 1 if len(self._bases) > 1 else 0
        frame = self._frames[k] if k >= 0 and self._frames else None
        if frame is None or slot - frame.base >= frame.size:
            return None
        return frame, slot - frame.base

    def _register(self, frame: AnyFrame) -> None:
        self._frames.append(frame)
        self._bases.append(frame.base)
        self._next = frame.base + max(frame.size, 1)
        if frame.owner is not None:
            owner, i = frame.owner
            owner.children[i] = frame
            frame.log = owner.log
            if frame.log is None and owner.node(i).child is not None and owner.node(i).policy.retries:
                frame.log = {}

    def _forget(self, frame: AnyFrame) -> None:
        """Let go of a frame and those inside it; late facts for its slots are ignored from now on."""
        for child in frame.children.values():
            self._forget(child)
        self._frames[bisect_right(self._bases, frame.base) - 1] = None
        self._gone += frame.size

    def _place(self, slot: int) -> tuple[AnyFrame, int]:
        found = self._at(slot)
        if found is None:
            raise NoSuchNode(f"this execution has no slot {slot} any more")
        return found

    def maps(self) -> Iterator[tuple[str, Sequence[NodeStatus]]]:
        """The maps under way whose items are no diagrams: the path of each, and the status of its items."""
        return ((frame.owner[0].path(frame.owner[1]), frame.status) for frame in self._frames
                if type(frame) is MapFrame and frame.node(0).child is None)

    def node(self, slot: int) -> ExecutableNode:
        """The node that a slot belongs to; for an item, its map's."""
        frame, i = self._place(slot)
        return frame.node(i)

    def cell(self, slot: int) -> NodeState | None:
        """The newest cell of a slot."""
        frame, i = self._place(slot)
        return frame.cells[i]

    def path(self, slot: int) -> str:
        """The path of a slot's node."""
        frame, i = self._place(slot)
        return frame.path(i)

    def diagram_of(self, slot: int) -> ExecutableDiagram:
        """The diagram or sub-diagram that a slot's node was drawn in."""
        return self._drawn_in(slot).block

    def turn_at(self, slot: int, i: int) -> int:
        """The turn of the loop around node `i` of the diagram that a slot is in, from 1."""
        frame = self._drawn_in(slot)
        loop = frame.block.loop_of[i]
        return 1 if loop < 0 else frame.loops[loop].turn

    def has_run(self, slot: int, i: int) -> bool:
        """Whether node `i` of the diagram that a slot is in has completed, in whatever turn of its loop."""
        frame = self._drawn_in(slot)
        return frame.status[i] is NodeStatus.COMPLETED or bool(frame.ran and frame.ran[i])

    def _drawn_in(self, slot: int) -> Frame:
        frame, _ = self._place(slot)
        while isinstance(frame, MapFrame):
            frame = frame.owner[0]
        return frame

    def owner(self, slot: int) -> int:
        """The slot of the composite around a slot, -1 at the root."""
        return self._place(slot)[0].owner_slot

    def item(self, slot: int) -> int | None:
        """The number of an item of a map, else None."""
        frame, i = self._place(slot)
        return frame.item(i)

    def inputs(self, slot: int, start: int = 0,
               stop: int | None = None) -> list[tuple[ExecutableArrow, NodeState]]:
        """The arrows into a slot's node that carry a value, in arrow order, each with the cell that it
        carries; of its arrows only those from `start` to `stop`, for who must not take all at once.

        A failed cell on an `error` arrow stands for its error. An item has its map's inputs. A node with join
        `any` has the winner only.
        """
        frame, i = self._place(slot)
        while isinstance(frame, MapFrame):
            frame, i = frame.owner
        arrows, block = frame.arrows, frame.block
        dropped = frame.dropped.get(i, NOTHING)
        into: Iterable[int] = block.into[i][start:stop]
        if i in frame.winners:
            into = (frame.winners[i],) if start == 0 else ()
        elif dropped:
            into = [a for a in into if a not in dropped]
        return [(block.arrows[a], cell) for a in into if type(cell := arrows[a]) is NodeState]

    def work(self, slot: int) -> tuple[
            ExecutableNode, int | None, list[tuple[ExecutableArrow, NodeState]] | None]:
        """Node, item and inputs of a slot in one look-up: what each body needs. More than `WIDE` arrows give
        None for the inputs: they are to be asked for in chunks."""
        root = self._root
        if root is not None and slot < root.size and not root.winners and not root.dropped:
            block, arrows = root.block, root.arrows
            into = block.into[slot]
            if len(into) == 1:
                cell = arrows[into[0]]
                carried = [(block.arrows[into[0]], cell)] if type(cell) is NodeState else []
                return block.nodes[slot], None, carried
            if len(into) <= WIDE:
                return block.nodes[slot], None, [
                    (block.arrows[a], cell) for a in into if type(cell := arrows[a]) is NodeState]
        wide = self.width(slot) > WIDE
        return self.node(slot), self.item(slot), None if wide else self.inputs(slot)

    def readers(self, slot: int) -> int:
        """How many will read what a slot's node gives: its arrows; for an item its map's fold, and 0 if the
        map joins the encoded results."""
        frame, i = self._place(slot)
        if isinstance(frame, Frame):
            return len(frame.block.out[i])
        return int(frame.node(i).policy.reduce is not None)

    def width(self, slot: int) -> int:
        """How many arrows lead into a slot's node."""
        frame, i = self._place(slot)
        while isinstance(frame, MapFrame):
            frame, i = frame.owner
        return len(frame.block.into[i])

    def results(self, slot: int = -1) -> list[tuple[str, NodeState]]:
        """What a composite's result is made of: a map's items in order, or the completed endpoints of a
        sub-diagram by id; of the execution itself for slot -1."""
        frame: AnyFrame | None = self._root
        if slot >= 0:
            owner, i = self._place(slot)
            frame = owner.children.get(i)
        if frame is None:
            return []
        if isinstance(frame, MapFrame):
            return [(str(k), cell) for k, cell in enumerate(frame.cells) if cell is not None]
        return [(frame.node(k).id, cell) for k in frame.block.endpoints
                if frame.status[k] is NodeStatus.COMPLETED and (cell := frame.cells[k]) is not None]

    def cells(self) -> Iterator[NodeState]:
        """The newest cell of every node of what is open still."""
        for frame in self._frames:
            if frame is not None:
                yield from (cell for cell in frame.cells if cell is not None)

    def ended(self, slot: int, item: int) -> NodeState | None:
        """The cell of a map's item if it counts as a result: it completed, or failed for good."""
        owner, i = self._place(slot)
        frame = owner.children.get(i)
        if not isinstance(frame, MapFrame) or item >= frame.opened:
            return None
        return frame.cells[item] if frame.status[item] in _RESULTS else None

    def find(self, path: str, iteration: str | None = None) -> int:
        """The slot of a node by its path; NoSuchNode if it isn't open (or is in another iteration)."""
        frame: AnyFrame | None = self._root
        slot = -1
        for name, item in parse_path(path):
            if not isinstance(frame, Frame) or name not in frame.block.index:
                known = frame.block.index if isinstance(frame, Frame) else ()
                hint = did_you_mean(name, known)
                raise NoSuchNode(f"this execution has no node {path!r} under way"
                                 + (f": {hint}" if hint else ""))
            owner, i = frame, frame.block.index[name]
            slot, frame = owner.base + i, owner.children.get(i)
            if item is not None:
                if not isinstance(frame, MapFrame) or item >= frame.opened:
                    raise NoSuchNode(f"this execution has no item {path!r} under way")
                slot, frame = frame.base + item, frame.children.get(item)
        found, i = self._place(slot)
        if iteration is not None and found.iteration(i) != iteration:
            raise NoSuchNode(f"node {path!r} is in iteration {found.iteration(i)}, not {iteration}")
        return slot

    def waiting(self) -> list[int]:
        """The slots that are suspended."""
        return [frame.base + i for frame in self._frames if frame is not None and not frame.ended
                for i in frame.live() if frame.status[i] is NodeStatus.SUSPENDED]
