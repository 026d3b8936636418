"""Process bodies: a pool of child processes that are killed, with all they started, when their time is over.

Our own and not a library's, because of what it must not do: pickle values, fork a process that has threads,
or import the program's `__main__` again. A child is a fresh interpreter that runs `treadle.nodes.worker` and
is kept for the next bodies, since starting one takes some 150 ms.
"""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import IO, Any

import msgspec

from treadle.aio.resources import AsyncResourceManager
from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import (
    BodyDied,
    ExpressionError,
    LimitExceeded,
    NodeTimeout,
    NotDecodable,
    NotEncodable,
    TransactionError,
    TreadleError,
)
from treadle.nodes import speech
from treadle.nodes.child import FIRST_FREE_FD, Child, how_it_ended
from treadle.nodes.failures import RemoteError
from treadle.nodes.modules import folders
from treadle.nodes.sharing import Ask, Desk, Refusal, Told, desk
from treadle.nodes.speech import Listener
from treadle.nodes.worker import LENGTH, Job, Logged, Raised, Reply
from treadle.undo import undone_async

logger = logging.getLogger("treadle.bodies")

JOBS_MAX = 1000
"""Bodies that one child performs before it is replaced, so that what they leave in memory can't add up."""
TAIL_CHARS = 2048
"""How much of what a dead child printed its failure shows."""
_START = "import sys; sys.path[:] = {path!r}; from treadle.nodes.worker import main; main({channel})"


class ProcessExecutor:
    """Functions in child processes, at most `process_max` at once."""

    def __init__(self, config: TreadleConfig = DEFAULT_CONFIG) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(config.processes)
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False

    async def run(self, function: Callable[..., Any], /, *args: Any, timeout: float | None = None,
                  memory_mb: int | None = None, name: str = "") -> Any:
        """Call a function of an importable module with plain data there.

        NodeTimeout after `timeout` seconds, when the child has been killed; BodyDied with its exit code if it
        ended by itself; RemoteError for an exception of the function (one of Treadle's own comes as itself).
        """
        memory = memory_mb if memory_mb is not None else self._config.memory_mb_max
        job = Job(function.__module__, function.__qualname__, list(args), memory, folders(),
                  self._config.error_bytes_max)
        async with self._slots:
            worker = await self._worker()
            self._busy.add(worker)
            try:
                # Whatever happens (cancelled, timed out, dead, misread), it is in the middle of something.
                async with undone_async(worker.close):
                    self._check_open()  # it may have been closed while the worker was starting
                    reply = await worker.perform(job, name, timeout)
            finally:
                self._busy.discard(worker)
            spoiled = isinstance(reply, Raised) and reply.kind == "MemoryError"
            if spoiled or self._closed or worker.jobs >= JOBS_MAX:
                await worker.close()
            else:
                self._idle.append(worker)
        if isinstance(reply, Raised):
            raise _local(reply)
        return reply.value

    async def close(self) -> None:
        """Kill every worker and wait until all are gone, `shutdown_s_max` for each; also if this is
        cancelled. A TimeoutError in the ExceptionGroup names one that stays."""
        self._closed = True
        workers = AsyncResourceManager("the processes of bodies")
        for worker in (*self._idle, *self._busy):
            worker.kill()  # all at once: closing waits for one after the other
            workers.register(worker)
        self._idle.clear()
        await workers.cleanup(self._config.shutdown_s_max)

    def _check_open(self) -> None:
        if self._closed:
            raise asyncio.CancelledError

    async def _worker(self) -> Worker:
        self._check_open()
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await worker.close()
        return await Worker.start(self._config)


class Worker:
    """One child process, with the socket for jobs and the pipe of what it prints."""

    def __init__(self, child: Child, config: TreadleConfig,
                 channel: tuple[asyncio.StreamReader, asyncio.StreamWriter],
                 printed: Sequence[Printed]) -> None:
        self._child, self._config = child, config
        self._reader, self._writer = channel
        self._printed = printed
        for one in printed:
            one.heard = self._heard
        self._ended = asyncio.ensure_future(child.exited())
        self._ended.add_done_callback(self._hang_up)
        self.jobs = 0
        self._name = ""
        self._listener: Listener | None = None
        self._desk: Desk | None = None
        self._tail = ""
        self._timed_out = False
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def start(cls, config: TreadleConfig) -> Worker:
        """Start a child and wait until it is ready. BodyDied if it never is."""
        ours, theirs = socket.socketpair()
        channel = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
        with ExitStack() as begun:
            begun.callback(ours.close)
            try:
                child = Child([sys.executable, "-c", _START.format(path=sys.path, channel=channel)],
                              keep=(channel,))
            finally:
                theirs.close()
                os.close(channel)
            begun.callback(child.close)
            printed: list[Printed] = []
            for name, pipe in (("stdout", child.process.stdout), ("stderr", child.process.stderr)):
                printed.append(await Printed.of(name, pipe))
                begun.callback(printed[-1].close)
            worker = cls(child, config, await asyncio.open_unix_connection(sock=ours), printed)
            begun.pop_all()
        async with undone_async(worker.close):
            try:
                await worker._receive()
            except (ConnectionError, asyncio.IncompleteReadError):
                raise await worker._death(None) from None
        return worker

    def __repr__(self) -> str:
        return f"<body process {self._child.process.pid}>"

    @property
    def alive(self) -> bool:
        return not self._ended.done()

    async def perform(self, job: Job, name: str, timeout: float | None) -> Reply:
        """Do a job. The time counts from here: the child is waiting for it. Who listens to the caller hears
        what the job says."""
        self._name, self._tail = name, ""
        self._listener, self._desk = speech.speaking.get(), desk.get()
        self.jobs += 1
        timer = None
        if timeout is not None:
            timer = asyncio.get_running_loop().call_later(timeout, self._expire)
        try:
            await self._send(job)
            reply = await self._receive()
            self._listener = self._desk = None
            return reply
        except (ConnectionError, asyncio.IncompleteReadError):
            raise await self._death(timeout) from None
        finally:
            if timer is not None:
                timer.cancel()

    def kill(self) -> None:
        """Kill the process and all that it started."""
        if not self._ended.done():
            self._child.kill()

    async def close(self) -> None:
        """Kill it, wait for its end, and release what it held."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self.kill()
        await self._ended
        for one in self._printed:
            one.close()
        self._writer.close()
        self._child.close()

    def _expire(self) -> None:
        self._timed_out = True
        self.kill()

    def _hang_up(self, ended: asyncio.Future[int]) -> None:
        # The guard beside the child may hold the other end of the channel open for a moment.
        self._writer.transport.abort()

    async def _death(self, timeout: float | None) -> TreadleError:
        """Why the channel ended."""
        if self._timed_out:
            return NodeTimeout(f"node {self._name!r} ran longer than its timeout of {timeout:g} s; its "
                               "process was killed")
        code = await self._ended
        await asyncio.sleep(0)  # for its last words
        said = self._tail.encode(errors="replace").decode().strip()
        return BodyDied(f"the body's process ended with {how_it_ended(code)} before it had a result"
                        + (f"; it printed last: {said}" if said else ""))

    async def _receive(self) -> Reply:
        """The reply of the job that runs; what it logs meanwhile is passed on."""
        while True:
            size = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
            if size > self._config.body_output_bytes_max:
                raise self._config.exceeded("body_output_bytes_max", f"node {self._name!r} sent {size} bytes "
                                                                     "back")
            frame: Reply | Logged | Ask = msgspec.msgpack.decode(
                await self._reader.readexactly(size), type=Reply | Logged | Ask)
            if isinstance(frame, Ask):
                slow = self._desk is not None and self._desk.slow(frame)
                answer = self._answer
                await self._send(await asyncio.to_thread(answer, frame) if slow else answer(frame))
                continue
            if not isinstance(frame, Logged):
                return frame
            if frame.job == self.jobs:  # not one that an earlier job's threads left behind
                self._tail = f"{self._tail}{frame.text}\n"[-TAIL_CHARS:]
                if self._listener is not None:
                    self._listener.logged(frame.level, frame.logger, frame.text)

    def _answer(self, ask: Ask) -> Told:
        if self._desk is None or ask.job != self.jobs:
            return Told(refusal=Refusal("TransactionError", "this body has no part in a shared context"))
        return self._desk.answer(ask)

    async def _send(self, frame: Job | Told) -> None:
        data = msgspec.msgpack.encode(frame)
        self._writer.write(LENGTH.pack(len(data)) + data)
        await self._writer.drain()

    def _heard(self, stream: str, text: str) -> None:
        """What bodies print must not mix with what the program prints: it is logged."""
        self._tail = (self._tail + text)[-TAIL_CHARS:]
        if self._listener is not None:
            self._listener.printed(stream, text)
        if logger.isEnabledFor(logging.DEBUG):
            for line in text.splitlines():
                logger.debug("node %r printed: %s", self._name, line)


class Printed(asyncio.Protocol):
    """One of a child's pipes, read as text as it comes. It is read in the very turn of the loop in which it
    can be, so what a body printed is here before its result is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._transport: asyncio.BaseTransport | None = None
        self.heard: Callable[[str, str], None] = lambda stream, text: None

    @classmethod
    async def of(cls, name: str, pipe: IO[bytes] | None) -> Printed:
        """Read a pipe."""
        assert pipe is not None
        made = cls(name)
        made._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: made, pipe)
        return made

    def data_received(self, data: bytes) -> None:
        text = self._decode(data)
        if text:
            self.heard(self._name, text)

    def close(self) -> None:
        """Close the pipe."""
        if self._transport is not None:
            self._transport.close()


def _local(raised: Raised) -> Exception:
    """The exception that stands here for one of the child."""
    for kind in (NotEncodable, NotDecodable, ExpressionError, LimitExceeded, TransactionError):
        if raised.kind == kind.__name__:
            return kind(raised.message)
    return RemoteError(raised.kind, raised.message, raised.trace, retryable=raised.retryable,
                       retry_after=raised.retry_after)


