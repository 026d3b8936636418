"""Bringing what has changed to those who watch: messages at a steady pace, one encoded text for all who are
at the same place, and none for those who have not read the last one.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec

from treadle.aio.load import Load
from treadle.errors import NoSuchExecution, StoreError, TreadleError
from treadle.monitor.core import Monitor
from treadle.monitor.live.listing import Listing, ListSource
from treadle.monitor.live.mirror import ROOT, Mirror, Update
from treadle.monitor.live.parts import FIRST, NOWHERE, Parts, Teller
from treadle.monitor.live.sources import Source, replaced
from treadle.monitor.live.wire import Message, Viewer, encoded
from treadle.undo import undone_async

POLL_S = 0.03
"""How often it is looked whether anything has changed."""
PERIOD_S_MAX = 0.125
"""The pause between two messages where no slower rate is asked for: with the way to the viewer no change
waits more than 0.2 s."""
POUR_PERIOD_S = 0.25
"""The shortest one while another process writes so much that it wants the machine for itself."""
PERIOD_S_MIN = 0.02
SHARED_S = 0.25
"""How long what was encoded is sent to others, too: a message says when it was sent, and pages set their
clocks by it."""
LINGER_S = 30.0
"""How long a mirror stays after the last viewer has left: who comes back goes on where it was."""
RATE_S = 3.0
"""Over how long the rate of an execution is measured."""
RATE_EVERY_S = 0.5
"""How often."""
FLOOD, FLOOD_S = 1200, 0.3
"""So many cells within so many seconds are a flood, whatever else can be measured."""
BUSY_SHARE, IDLE_SHARE = 0.012, 0.15
"""How much of the time of a loop that is busy, and of one that is not, all viewers together may take."""
REST_S_MAX = 1.0
"""The longest rest between two looks at a busy loop."""
NODES_MIN, NODES, NODES_MAX = 50, 100, 5000
"""Nodes that a message has where the loop is busy, at first where it isn't, and then at most; one for who was
away has all that was missed."""
NOT_FOUND, BROKEN = 4404, 1011
"""With which codes sockets are closed: there is no such execution (any more), the store can't be read. See
`REFUSED`, too."""


class Readable(Protocol):
    """What a channel shows: a `Mirror`, or the list of executions."""

    lead: int

    def settle(self) -> int: ...
    def snapshot(self, scope: frozenset[str] = ROOT, most: int | None = None) -> Update: ...
    def paths(self, scope: frozenset[str], *, root: bool = True) -> list[str]: ...
    def whole(self, paths: Sequence[str]) -> Update: ...
    def diff(self, since: int, scope: frozenset[str] = ROOT, limit: int | None = None) -> Update: ...


class _Sent(NamedTuple):
    """What was encoded: up to where it goes, what comes after it in parts, and when."""

    sequence: int
    message: Message | None
    parts: Parts | None
    at: float


class Feed(Protocol):
    """What fills what a channel shows."""

    def wants(self, version: int) -> bool:
        """Whether the store must be read, which has changed so many times."""

    async def read(self, version: int) -> float:
        """Read it; how long the loop worked at that."""


class Channel:
    """Those who watch one thing. `shown` is what they see, `feed` what fills it."""

    execution_id: str | None = None

    def __init__(self, hub: Hub, shown: Readable, feed: Feed) -> None:
        self.hub, self.shown, self.feed = hub, shown, feed
        self.stream = secrets.token_hex(4)
        self.viewers: set[Viewer] = set()
        self._awake = asyncio.Event()
        # What was encoded of the revision `_at`.
        self._sent: dict[tuple[int, frozenset[str], bool], _Sent] = {}
        self._at = -1
        self._busy = False
        self._load = Load()
        self._collected = time.monotonic()
        self._limit = NODES
        self._cut = False  # whether there was more to say than that
        self._task: asyncio.Task[None] | None = None
        self._left = time.monotonic()
        self._teller = Teller(shown, partial(self._message, "state_update"), self.viewers, self._spent)

    async def open(self) -> None:
        """Read what there is. NoSuchExecution, StoreError."""
        await self.feed.read(self.hub.version)
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"watch {self.execution_id}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        self._awake.set()

    @property
    def polls(self) -> bool:
        """Whether the store must be watched for it."""
        return True

    def join(self, viewer: Viewer, stream: str | None) -> None:
        """Somebody comes, or comes back: with the name of its stream it goes on from where it was."""
        self.shown.settle()
        if stream != self.stream or not 0 <= viewer.since <= self.shown.lead:
            viewer.since = -1
        if not self.viewers and viewer.since < 0:
            self.shown.lead = self.shown.settle()
        self.viewers.add(viewer)
        self.wake()

    def leave(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
        self._left = time.monotonic()

    def ask(self, viewer: Viewer, kind: str, groups: frozenset[str]) -> None:
        """A viewer opens or closes groups."""
        if kind == "close":
            viewer.scope -= groups
            viewer.opening -= groups
            if viewer.parts is not None and groups & viewer.parts.groups:  # the rest anew, without these
                if viewer.parts.snapshot:
                    viewer.since = -1
                else:
                    viewer.opening |= viewer.parts.groups & viewer.scope
                viewer.parts = None
            return
        if viewer.since >= 0:  # else they are in its snapshot
            viewer.opening |= groups - viewer.scope
        viewer.scope |= groups
        self.wake()

    def _open(self, viewer: Viewer, now: float) -> None:
        """Tell a viewer of what it has opened, once it has read all that it was told before: so who opens and
        closes large groups over and over can't keep the loop from the engine, nor fill the memory."""
        if not viewer.opening or viewer.parts is not None or now < viewer.rests or not viewer.flush():
            return
        groups, viewer.opening, begun = viewer.opening, ROOT, time.thread_time()
        paths = self.shown.paths(groups, root=False)
        if len(paths) > FIRST:
            self._teller.start(viewer, Parts(paths, groups, snapshot=False))
        else:  # it may not know yet what else has changed: who comes back now must go on from there
            opened = msgspec.structs.replace(self.shown.whole(paths), sequence=viewer.since)
            viewer.give(self._message("state_update", opened))
        viewer.rests = now + (time.thread_time() - begun) / IDLE_SHARE

    async def _run(self) -> None:
        try:
            while self.viewers or time.monotonic() - self._left < LINGER_S:
                await self._turn()
        except (TreadleError, OSError) as error:
            gone = isinstance(error, NoSuchExecution)
            for viewer in self.viewers:
                viewer.fail(str(error), NOT_FOUND if gone else BROKEN)
        finally:
            await self._teller.close()
            for viewer in self.viewers:
                viewer.fail("the monitor has stopped", BROKEN)
            self.hub.closed(self)

    async def _turn(self) -> None:
        now = time.monotonic()
        begun, share = time.thread_time(), (BUSY_SHARE if self._busy else IDLE_SHARE) / self.hub.watched
        least = self._period_s_min
        awaited = any(now - one.last >= max(one.period_s, least) and one.wire.free for one in self.viewers)
        if awaited:  # else what comes is let go of, should it be much
            before, self._collected = self._collected, now
            self._busy = self._collect(share / 2, now - before) or self._busy
            if self.feed.wants(self.hub.version):
                self.hub.spent_s += time.thread_time() - begun
                self.hub.spent_s += await self.feed.read(self.hub.version)
                begun = time.thread_time()
        self._serve(share * PERIOD_S_MAX)
        cost = time.thread_time() - begun
        self.hub.spent_s += cost
        busy, began, worked = self._busy, time.monotonic(), time.thread_time()
        self._busy = await self._pause(POLL_S if self.viewers else LINGER_S / 20)
        # Others, if they want to, shall have computed so much in between.
        until = worked + cost / BUSY_SHARE * self.hub.watched
        while busy and self._busy and time.thread_time() < until and time.monotonic() - began < REST_S_MAX:
            self._busy = await self._pause(POLL_S)

    def _spent(self, seconds: float) -> tuple[bool, int]:
        self.hub.spent_s += seconds
        return self._busy, self.hub.watched

    async def _pause(self, seconds: float) -> bool:
        """Sleep, unless somebody wakes us; whether others kept the loop busy meanwhile."""
        timer = asyncio.get_running_loop().call_later(seconds, self._awake.set)
        self._load.sleeps()
        await self._awake.wait()
        timer.cancel()
        self._awake.clear()
        return self._load.slept(seconds)

    def _collect(self, share: float, seconds: float) -> bool:
        """Take what came within so many seconds, and can be had without reading the store, for at most this
        share of them; whether that is very much."""
        return False

    def _serve(self, budget_s: float) -> None:
        """Give those who are due what they don't know."""
        now = time.monotonic()
        revision = self.shown.settle()
        if revision != self._at:
            self._at = revision
            self._sent.clear()
        for viewer in self.viewers:
            self._open(viewer, now)
        least = self._period_s_min
        due = [one for one in self.viewers if self._is_due(one, now, least)]
        if not due:
            return
        begun, self._cut = time.thread_time(), False
        for viewer in due:
            self._tell(viewer, now, NODES_MIN if self._modest else self._limit)
        if self._cut and not self._modest:  # next time as many nodes as there is time for
            cost = max(time.thread_time() - begun, 1e-6)
            most = int(self._limit * min(2.0, max(0.5, budget_s / cost)))
            self._limit = min(max(NODES_MIN, most), NODES_MAX)

    @property
    def _modest(self) -> bool:
        """Whether others want the time."""
        return self._busy

    @property
    def _period_s_min(self) -> float:
        """How much lies between two messages at least."""
        return 0.0

    def _is_due(self, viewer: Viewer, now: float, least: float) -> bool:
        return ((viewer.since < self._at or bool(viewer.waiting))
                and now - viewer.last >= max(viewer.period_s, least)
                and viewer.flush() and viewer.since < self._at)

    def _tell(self, viewer: Viewer, now: float, limit: int) -> None:
        """Send a viewer what it doesn't know."""
        partly = viewer.parts is not None and viewer.parts.snapshot
        key = (viewer.since, viewer.scope, partly)
        known = self._sent.get(key)
        if known is None or now - known.at > SHARED_S:
            parts = None
            if viewer.since < 0:
                paths = self.shown.paths(viewer.scope)
                update, kind = self.shown.snapshot(viewer.scope, FIRST), "snapshot"
                if len(paths) > FIRST:
                    parts = Parts(paths[FIRST:], viewer.scope, snapshot=True)
            else:
                leads = viewer.since == self.shown.lead
                update, kind = self.shown.diff(viewer.since, viewer.scope, limit), "state_update"
                self._cut = self._cut or (leads and update.sequence < self._at)
            upto = update.sequence
            if partly or parts is not None:  # who is lost now can't go on
                update = msgspec.structs.replace(update, sequence=NOWHERE)
            message = self._message(kind, update) if update.payload else None
            known = self._sent[key] = _Sent(upto, message, parts, now)
        viewer.since = known.sequence
        if known.message is not None:
            viewer.wire.send(known.message)
            viewer.last = now
        if known.parts is not None:
            self._teller.start(viewer, known.parts)

    def _message(self, kind: str, update: Update) -> Message:
        message: dict[str, Any] = {"event_type": kind}
        if self.execution_id is not None:
            message["execution_id"] = self.execution_id
        message |= {"sequence": update.sequence, "stream": self.stream}
        if kind == "state_update":
            message["update_mask"] = update.mask
        return encoded({**message, "timestamp": time.time(), "payload": update.payload})


class ListChannel(Channel):
    """Those who watch the list of executions."""

    def __init__(self, hub: Hub) -> None:
        listing = Listing()
        super().__init__(hub, listing, ListSource(hub.monitor, listing))


class ExecutionChannel(Channel):
    """Those who watch one execution."""

    def __init__(self, hub: Hub, execution_id: str) -> None:
        self.execution_id = execution_id
        self.mirror = Mirror(execution_id)
        self.source = Source(hub.monitor, self.mirror)
        super().__init__(hub, self.mirror, self.source)
        self._looks: deque[tuple[float, int]] = deque()
        self._flow = 0.0  # cells that came lately

    async def open(self) -> None:
        self.source.drain(1.0)
        await super().open()

    async def close(self) -> None:
        await super().close()
        self.source.rest()

    def join(self, viewer: Viewer, stream: str | None) -> None:
        self.source.tap()
        super().join(viewer, stream)

    def leave(self, viewer: Viewer) -> None:
        super().leave(viewer)
        if not self.viewers:
            self.source.rest()

    @property
    def polls(self) -> bool:
        return not (self.source.local or self.source.pours)  # what pours is read whenever a message is due

    def _collect(self, share: float, seconds: float) -> bool:
        came = self.source.came * FLOOD_S / max(seconds, FLOOD_S)
        self._flow = came + self._flow * math.exp(-seconds / FLOOD_S)
        flood = self._flow > FLOOD / self.hub.watched
        self.source.drain(share * min(seconds, 1.0), sealed=self._busy, flood=flood)
        self._measure()
        return flood

    @property
    def _modest(self) -> bool:
        return self._busy or self.source.pours

    @property
    def _period_s_min(self) -> float:
        return POUR_PERIOD_S if self.source.pours else 0.0

    def _measure(self) -> None:
        """How many nodes end in a second."""
        now, ended = time.monotonic(), self.mirror.ended
        looks = self._looks
        if looks and now - looks[-1][0] < RATE_EVERY_S:
            return
        looks.append((now, ended))
        while len(looks) > 2 and now - looks[1][0] > RATE_S:
            looks.popleft()
        since, before = looks[0]
        self.mirror.tell("rate", float(f"{(ended - before) / max(now - since, RATE_EVERY_S):.3g}"))

    def _serve(self, budget_s: float) -> None:
        super()._serve(budget_s)
        own = self.mirror.own
        if own is None or not own.status.terminal or self.source.behind:
            return
        end = (own.round, own.ended_at)
        for viewer in self.viewers:
            if viewer.ended != end and viewer.since == self._at and viewer.parts is None:
                viewer.ended = end
                viewer.give(self._message("end", Update(viewer.since, [], {"status": own.status.value})))


class Hub:
    """All channels of a monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.version = 0  # counts changes of the store
        self.spent_s = 0.0  # what of the loop's time all this took
        self._channels: dict[str, Channel] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, monitor: Monitor) -> Hub:
        if monitor.live is None:
            monitor.live = cls(monitor)
            monitor.at_the_end(monitor.live.close)
        found: Hub = monitor.live
        return found

    async def execution(self, execution_id: str, created_at: float | None = None) -> Channel:
        """The channel of an execution; with `created_at`, of no other that had its id before.
        NoSuchExecution, StoreError."""
        found = self._channels.get(execution_id)
        if isinstance(found, ExecutionChannel) and created_at is not None and (
                found.mirror.own is None or found.mirror.own.created_at != created_at):
            for viewer in found.viewers:
                viewer.fail(replaced(execution_id), BROKEN)
            await found.close()
        return await self._channel(execution_id, lambda: ExecutionChannel(self, execution_id))

    async def listing(self) -> Channel:
        """The channel of the list. StoreError."""
        return await self._channel("", lambda: ListChannel(self))

    async def _channel(self, name: str, make: Callable[[], Channel]) -> Channel:
        async with self._opening.setdefault(name, asyncio.Lock()):
            found = self._channels.get(name)
            if found is None:
                found = make()
                async with undone_async(found.close):
                    await found.open()
                self._channels[name] = found
        self._opening.pop(name, None)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch(), name="watch the store")
        return found

    @property
    def watched(self) -> int:
        """How many channels share the time that there is."""
        return max(1, sum(bool(one.viewers) for one in self._channels.values()))

    def closed(self, channel: Channel) -> None:
        """A channel has ended by itself."""
        self._channels = {name: one for name, one in self._channels.items() if one is not channel}

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for channel in list(self._channels.values()):
            await channel.close()

    async def _watch(self) -> None:
        """See whether anybody has written the store, as long as somebody watches what others run."""
        store, seen = self.monitor.store, None
        while self._channels:
            if any(channel.polls and channel.viewers for channel in self._channels.values()):
                try:
                    version = await self.monitor.read(store.version)
                except (StoreError, OSError):  # what reads says so to its viewers; we go on when it is well
                    version = None
                if version is not None and version != seen:
                    seen = version
                    self.version += 1
                    for channel in self._channels.values():
                        if channel.polls:
                            channel.wake()
            await asyncio.sleep(POLL_S)
        self._task = None
