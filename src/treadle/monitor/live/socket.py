"""The door: one WebSocket, one viewer.

Through ASGI alone each message would be framed for each viewer anew, and go through a task of its own: with a
hundred viewers that is most of what watching costs. So our server's protocol class, `FrameProtocol`, lets us
hand whole frames to its transport; under another server messages go the usual way (`Plain`).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from treadle.errors import InvalidInput, NoSuchExecution, TreadleError, did_you_mean
from treadle.monitor.core import Monitor
from treadle.monitor.live.channel import NOT_FOUND, PERIOD_S_MAX, PERIOD_S_MIN, Channel, Hub
from treadle.monitor.live.wire import REFUSED, Message, Viewer, Wire, encoded

EXTENSION = "treadle.frames"
"""The ASGI extension by which our protocol class is known."""
CLOSE_S_MAX = 5.0
"""How long a viewer has to read why it is sent away."""
RATE_MIN = 0.01
KINDS = ("open", "close")
GROUPS_MAX = 1000
"""Groups that a viewer has open."""


class Asked(msgspec.Struct, frozen=True):
    """What a viewer may say."""

    type: str
    groups: list[str] = []


async def live(websocket: WebSocket, monitor: Monitor) -> None:
    """Serve `/api/live` or `/api/executions/{id}/live` to one viewer, until it leaves."""
    await websocket.accept()
    hub, name = Hub.of(monitor), websocket.path_params.get("id")
    try:
        period, since = _period(websocket, monitor), int(_number(websocket, "since", -1))
        if name is None:
            channel = await hub.listing()
        else:
            own = (await monitor.read(monitor.store.summary, name)).cell
            channel = await hub.execution(own.execution_id, own.created_at)
    except (TreadleError, OSError) as error:
        await _refuse(websocket, str(error), NOT_FOUND if isinstance(error, NoSuchExecution) else REFUSED)
        return
    ours: FrameProtocol | None = websocket.scope.get("extensions", {}).get(EXTENSION, {}).get("wire")
    wire: Wire = Plain(websocket) if ours is None else Framed(ours)
    viewer = Viewer(wire, period, since)
    channel.join(viewer, websocket.query_params.get("stream"))
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(_receive(websocket, channel, viewer)),
                                      asyncio.create_task(viewer.done.wait())]
    if isinstance(wire, Plain):
        tasks.append(asyncio.create_task(wire.run()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if viewer.code is not None:
            async with asyncio.timeout(CLOSE_S_MAX):
                await wire.drained()
                await websocket.close(viewer.code)
    except TimeoutError:
        pass  # it does not read
    finally:
        channel.leave(viewer)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _receive(websocket: WebSocket, channel: Channel, viewer: Viewer) -> None:
    while True:
        try:
            text = await websocket.receive_text()
        except WebSocketDisconnect:
            return
        except KeyError:
            viewer.warn("this can't be read: messages are text")
            continue
        try:
            asked = msgspec.json.decode(text, type=Asked)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            viewer.warn(f"this can't be read: {error}")
            continue
        if asked.type not in KINDS:
            viewer.warn(f"there is no message of type {asked.type!r}: "
                        + (did_you_mean(asked.type, KINDS) or f"there is {', '.join(KINDS)}"))
        elif len(asked.groups) > GROUPS_MAX or (
                asked.type == "open" and len(viewer.scope.union(asked.groups)) > GROUPS_MAX):
            viewer.warn(f"so many groups are too many: at most {GROUPS_MAX}")
        else:
            channel.ask(viewer, asked.type, frozenset(asked.groups))


def _period(websocket: WebSocket, monitor: Monitor) -> float:
    """Seconds between two messages: what was asked for, or the monitor's own."""
    rate = _number(websocket, "rate", monitor.rate_hz)
    if rate < RATE_MIN:
        raise InvalidInput(f"rate={rate:g}: it must be at least {RATE_MIN}")
    asked = "rate" in websocket.query_params or rate < 4.0
    return max(PERIOD_S_MIN, 1 / rate if asked else min(1 / rate, PERIOD_S_MAX))


def _number(websocket: WebSocket, name: str, default: float) -> float:
    said = websocket.query_params.get(name)
    try:
        number = default if said is None else float(said)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInput(f"{name}={said!r}: it must be a number")
    return number


async def _refuse(websocket: WebSocket, message: str, code: int) -> None:
    said: dict[str, Any] = {"event_type": "error", "message": message}
    await websocket.send_text(encoded(said).text.decode())
    await websocket.close(code)


class FrameProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own, with a door for whole frames."""

    async def run_asgi(self) -> None:
        self.scope["extensions"][EXTENSION] = {"wire": self}
        await super().run_asgi()

    @property
    def free(self) -> bool:
        return self.transport.is_closing() or not self.transport.get_write_buffer_size()

    def send_frame(self, message: Message) -> None:
        if not (self.transport.is_closing() or self.close_sent):
            self.transport.write(message.frame)

    async def drained(self) -> None:
        await self.writable.wait()


class Framed:
    """The wire of a viewer that came through `FrameProtocol`."""

    def __init__(self, protocol: FrameProtocol) -> None:
        self._protocol = protocol
        self.send = protocol.send_frame
        self.drained = protocol.drained

    @property
    def free(self) -> bool:
        return self._protocol.free


class Plain:
    """The wire of one that came another way. `run` is a task's."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._waiting: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def free(self) -> bool:
        return self._idle.is_set()

    def send(self, message: Message) -> None:
        self._waiting.append(message)
        self._idle.clear()
        self._arrived.set()

    async def drained(self) -> None:
        await self._idle.wait()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._websocket.send_text(self._waiting.popleft().text.decode())
            self._idle.set()
