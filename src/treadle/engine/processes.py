"""Process bodies: a pool of child processes that are killed, with all they started, when their time is over.

Our own and not a library's, because of what it must not do: pickle values, fork a process that has threads,
or import the program's `__main__` again. A child is a fresh interpreter that runs `treadle.nodes.worker` and
is kept for the next bodies, since starting one takes some 150 ms.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import (
    BodyDied,
    ExpressionError,
    LimitExceeded,
    NodeTimeout,
    NotDecodable,
    NotEncodable,
    TreadleError,
)
from treadle.nodes.child import exited, how_it_ended, is_running, kill_group, reader, start
from treadle.nodes.failures import RemoteError
from treadle.nodes.modules import folders
from treadle.nodes.worker import LENGTH, Job, Raised, Reply

logger = logging.getLogger("treadle.bodies")

JOBS_MAX = 1000
"""Bodies that one child performs before it is replaced, so that what they leave in memory can't add up."""
TAIL_BYTES = 2048
"""How much of what a dead child printed its failure shows."""
_START = ("import sys; sys.path[:] = {path!r}; from treadle.nodes.worker import main; "
          "main({channel}, {life}, {parent})")


class ProcessExecutor:
    """Functions in child processes, at most `process_max` at once (None: one a core)."""

    def __init__(self, config: TreadleConfig = DEFAULT_CONFIG) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(config.processes)
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._closed = False

    async def run(self, function: Callable[..., Any], /, *args: Any, timeout: float | None = None,
                  memory_mb: int | None = None, name: str = "") -> Any:
        """Call a function of an importable module with plain data there.

        NodeTimeout after `timeout` seconds, when the child has been killed; BodyDied with its exit code if it
        ended by itself; RemoteError for an exception of the function (one of Treadle's own comes as itself).
        """
        memory = memory_mb if memory_mb is not None else self._config.memory_mb_max
        job = Job(function.__module__, function.__qualname__, list(args), memory, folders())
        async with self._slots:
            child = await self._child()
            self._busy.add(child)
            try:
                reply = await child.perform(job, name, timeout)
            except BaseException:
                # Whatever happened, the child is in the middle of something: cancelled, timed out, dead,
                # misread.
                await child.close()
                raise
            finally:
                self._busy.discard(child)
            spoiled = isinstance(reply, Raised) and reply.kind == "MemoryError"
            if spoiled or self._closed or child.jobs >= JOBS_MAX:
                await child.close()
            else:
                self._idle.append(child)
        if isinstance(reply, Raised):
            raise _local(reply)
        return reply.value

    async def close(self) -> None:
        """Kill every child and wait until all are gone."""
        self._closed = True
        children = [*self._idle, *self._busy]
        self._idle.clear()
        for child in children:
            child.kill()
        for child in children:
            await child.close()

    async def _child(self) -> Child:
        if self._closed:
            raise asyncio.CancelledError
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            await child.close()
        return await Child.start(self._config)


class Child:
    """One child process, with the socket for jobs, the pipe that it lives by, and the pipe of what it
    prints."""

    def __init__(self, process: subprocess.Popen[bytes], life: int, config: TreadleConfig,
                 channel: tuple[asyncio.StreamReader, asyncio.StreamWriter],
                 printed: tuple[asyncio.StreamReader, asyncio.ReadTransport]) -> None:
        self.process, self._life, self._config = process, life, config
        self._reader, self._writer = channel
        self._printed = printed[1]
        self._listening = asyncio.ensure_future(self._listen(printed[0]))
        self.jobs = 0
        self._name = ""
        self._tail = b""
        self._timed_out = False
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def start(cls, config: TreadleConfig) -> Child:
        """Start a child and wait until it is ready. BodyDied if it never is."""
        ours, theirs = socket.socketpair()
        life_read, life_write = os.pipe()
        code = _START.format(path=sys.path, channel=theirs.fileno(), life=life_read, parent=os.getpid())
        try:
            process = start([sys.executable, "-c", code], keep=(theirs.fileno(), life_read),
                            errors=subprocess.STDOUT)
        except BaseException:
            ours.close()
            os.close(life_write)
            raise
        finally:
            theirs.close()
            os.close(life_read)
        assert process.stdout is not None
        child = cls(process, life_write, config, await asyncio.open_unix_connection(sock=ours),
                    await reader(process.stdout))
        try:
            await child._receive()
        except BaseException:
            await child.close()
            raise
        return child

    @property
    def alive(self) -> bool:
        return self._closing is None and is_running(self.process)

    async def perform(self, job: Job, name: str, timeout: float | None) -> Reply:
        """Do a job. The time counts from here: the child is waiting for it."""
        self._name, self._tail = name, b""
        self.jobs += 1
        timer = None
        if timeout is not None:
            timer = asyncio.get_running_loop().call_later(timeout, self._expire)
        try:
            data = msgspec.msgpack.encode(job)
            self._writer.write(LENGTH.pack(len(data)) + data)
            await self._writer.drain()
            return await self._receive()
        except (ConnectionError, asyncio.IncompleteReadError):
            raise await self._death(timeout) from None
        finally:
            if timer is not None:
                timer.cancel()

    def kill(self) -> None:
        """Kill the process and all that it started."""
        kill_group(self.process)

    async def close(self) -> None:
        """Kill it, wait for its end, and release what it held."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self.kill()
        if self.process.returncode is None:
            await exited(self.process)
        self._listening.cancel()
        self._printed.close()
        self._writer.close()
        os.close(self._life)

    def _expire(self) -> None:
        self._timed_out = True
        self.kill()

    async def _death(self, timeout: float | None) -> TreadleError:
        """Why the channel ended."""
        if self._timed_out:
            return NodeTimeout(f"node {self._name!r} ran longer than its timeout of {timeout:g} s; its "
                               "process was "
                               "killed")
        # It may have closed the channel and live on.
        try:
            code = await asyncio.wait_for(exited(self.process), self._config.cancel_s_max)
        except TimeoutError:
            return BodyDied("the body closed the channel to its engine: it must leave file descriptors alone "
                            "that it "
                            "did not open")
        await asyncio.sleep(0)
        said = self._tail.decode(errors="replace").strip()
        return BodyDied(f"the body's process ended with {how_it_ended(code)} before it had a result"
                        + (f"; it printed last: {said}" if said else ""))

    async def _receive(self) -> Reply:
        size = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
        if size > self._config.body_output_bytes_max:
            raise self._config.exceeded("body_output_bytes_max", f"node {self._name!r} sent {size} bytes "
                                                                 "back")
        reply: Reply = msgspec.msgpack.decode(await self._reader.readexactly(size), type=Reply)
        return reply

    async def _listen(self, printed: asyncio.StreamReader) -> None:
        """What bodies print must not mix with what the program prints: it is logged."""
        while part := await printed.read(65536):
            self._tail = (self._tail + part)[-TAIL_BYTES:]
            if logger.isEnabledFor(logging.DEBUG):
                for line in part.decode(errors="replace").splitlines():
                    logger.debug("node %r printed: %s", self._name, line)


def _local(raised: Raised) -> Exception:
    """The exception that stands here for one of the child."""
    for kind in (NotEncodable, NotDecodable, ExpressionError, LimitExceeded):
        if raised.kind == kind.__name__:
            return kind(raised.message)
    return RemoteError(raised.kind, raised.message, raised.trace, retryable=raised.retryable,
                       retry_after=raised.retry_after)


