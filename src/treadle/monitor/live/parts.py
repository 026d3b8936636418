"""Telling a viewer of very many nodes: in parts, so that neither the loop nor the page is ever held up for
long, and what changes meanwhile goes in between.

Who opens the same groups at about the same time shares the parts. A part holds its nodes as they are when it
is encoded, so it may go to those alone who have not been told of anything later. As long as parts are missing
messages have the sequence `NOWHERE`: who is lost then begins anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from treadle.monitor.live.mirror import Update
from treadle.monitor.live.wire import Message, Viewer

NOWHERE = -1
"""A sequence from which nobody can go on."""
FIRST = 250
"""Nodes of the first part; so many are told at once in any case."""
NODES_MIN, NODES_MAX = 16, 2000
PART_BYTES, PART_S = 256 * 1024, 0.003
"""About how large a part is, and how long the loop works at it."""
KEPT = 4
"""Encoded parts that wait for those who come a little later."""
SHARE, BUSY_SHARE = 0.5, 0.15
"""How much of the time of a loop that is idle, and of a busy one, parts may take."""
REST_S = 0.03
"""The rest where nobody can take any."""


class Nodes(Protocol):
    """What is told in parts: a `Mirror`."""

    def whole(self, paths: Sequence[str]) -> Update: ...


class Part(NamedTuple):
    revision: int
    end: int
    message: Message


class Parts:
    """The nodes at these paths, for who has opened `groups`; `snapshot`: what they know is not whole without
    them."""

    def __init__(self, paths: Sequence[str], groups: frozenset[str], *, snapshot: bool) -> None:
        self.paths, self.groups, self.snapshot = paths, groups, snapshot
        self._made: OrderedDict[int, Part] = OrderedDict()
        self._nodes = FIRST

    def at(self, start: int, told: int, nodes: Nodes, encode: Callable[[Update], Message]) -> Part:
        """The part that begins there, for who was told of everything up to a revision."""
        part = self._made.get(start)
        if part is None or part.revision < told:
            begun = time.thread_time()
            end = min(start + self._nodes, len(self.paths))
            update = nodes.whole(self.paths[start:end])
            message = encode(replace(update, sequence=NOWHERE))
            part = self._made[start] = Part(update.sequence, end, message)
            self._measure(len(message.text) / PART_BYTES, (time.thread_time() - begun) / PART_S)
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        return part

    def _measure(self, size: float, cost: float) -> None:
        most = int(self._nodes * min(2.0, 1 / max(size, cost, 1e-3)))
        self._nodes = min(max(NODES_MIN, most), NODES_MAX)


class Teller:
    """Gives the viewers of a channel their parts, a few at a time. `spent` hears how long the loop worked at
    it, and says whether the loop is busy, and how many share the time that there is."""

    def __init__(self, nodes: Nodes, encode: Callable[[Update], Message], viewers: Iterable[Viewer],
                 spent: Callable[[float], tuple[bool, int]]) -> None:
        self._nodes, self._encode, self._viewers, self._spent = nodes, encode, viewers, spent
        self._task: asyncio.Task[None] | None = None

    def start(self, viewer: Viewer, parts: Parts) -> None:
        """From now on a viewer gets these."""
        viewer.parts, viewer.part_at = parts, 0
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="tell in parts")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while waiting := [one for one in self._viewers if one.parts is not None]:
            begun = time.thread_time()
            waiting.sort(key=_place)  # who has least goes first: all get on
            given = 0
            for viewer in waiting:
                if viewer.flush():  # else it has not read what it was told before
                    self._give(viewer)
                    given += 1
                    if time.thread_time() - begun >= PART_S:
                        break
            cost = time.thread_time() - begun
            busy, sharing = self._spent(cost)
            share = (BUSY_SHARE if busy else SHARE) / sharing
            await asyncio.sleep(cost * (1 - share) / share if given else REST_S)

    def _give(self, viewer: Viewer) -> None:
        parts = viewer.parts
        assert parts is not None
        part = parts.at(viewer.part_at, viewer.since, self._nodes, self._encode)
        viewer.wire.send(part.message)
        viewer.part_at = part.end
        if part.end == len(parts.paths):
            viewer.parts = None
            viewer.wire.send(self._encode(Update(viewer.since, [], {})))  # from here one can go on


def _place(viewer: Viewer) -> int:
    return viewer.part_at
