"""An MCP server that is started as a program: lines of JSON over its pipes. It dies with us."""

from __future__ import annotations

import asyncio
import fcntl
import os
from asyncio.streams import FlowControlMixin
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from treadle.nodes import speech
from treadle.nodes.child import FIRST_FREE_FD, Child, how_it_ended, reader
from treadle.nodes.shell import STDERR_TAIL_BYTES
from treadle.undo import undone

_READ_BYTES = 65536
_ENDING_S = 1.0
"""What a server gets to end by itself when its stdin is closed."""
_SHOWN_CHARS = 200
_NOT_FOUND = 127
_STDIN = 'treadle_stdin=$1; shift; exec "$@" <"$treadle_stdin"'


class Program:
    """One such server. `async with` starts it and gives the streams that the client wants, then ends it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path,
                 message_bytes_max: int) -> None:
        self._command, self._environment, self._folder = command, environment, folder
        self._bytes_max = message_bytes_max
        self._tail = b""  # of stderr
        self._nonsense = ""  # the first line that is no message
        self._heeds = False  # whether its end is worth waiting for: it speaks MCP, or is ending already
        self._too_long = False
        self._child: Child | None = None
        self._code: int | None = None
        self._closed = False
        self.listen()

    def listen(self) -> None:
        """What it prints from here on is said by the body that asks for this."""
        self._stdout, self._stderr = speech.Heard("stdout"), speech.Heard("stderr")

    @property
    def missing(self) -> bool:
        """Whether there is no such program."""
        return self._code == _NOT_FOUND and b"not found" in self._tail

    async def how(self, *, lost: bool) -> str:
        """How it ended, or what it does instead of speaking MCP; "" if nothing is known. One that was `lost`
        is about to end."""
        if lost and self._child is not None:
            await self._ended(self._child)
        if self.missing:
            return f"there is no program {self._command[0]!r}: install it, or write its path"
        said = self._tail.decode(errors="replace").strip()
        parts = []
        if self._too_long:
            parts.append(f"it sent a message of more than {self._bytes_max} bytes")
        if self._code is not None:
            parts.append(f"it ended with {how_it_ended(self._code)}")
        if self._nonsense:
            parts.append(f"it printed what is not MCP: {self._nonsense!r}")
        if said:
            parts.append(f"on stderr: {said}")
        return "; ".join(parts)

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Any, Any]]:
        """Start it. OSError if that can't be."""
        import anyio  # heavy, as are those of the protocol
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        def parse(line: bytes) -> SessionMessage:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))

        stdin, ours = os.pipe()
        kept = fcntl.fcntl(stdin, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
        os.close(stdin)
        try:
            with undone(os.close, ours):
                child = self._child = Child(["sh", "-c", _STDIN, "sh", f"/dev/fd/{kept}", *self._command],
                                            keep=[kept], folder=self._folder, environment=self._environment)
        finally:
            os.close(kept)
        to_us, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing, to_it = anyio.create_memory_object_stream[SessionMessage](0)
        tasks: list[asyncio.Task[None]] = []
        pipes: list[asyncio.BaseTransport] = []
        try:
            writer = await _writer(ours)
            pipes.append(writer.transport)
            for pipe, read in ((child.process.stdout, lambda one: self._read(one, to_us, parse)),
                               (child.process.stderr, self._hear)):
                stream, transport = await reader(pipe)
                pipes.append(transport)
                tasks.append(asyncio.create_task(read(stream)))
            tasks.append(asyncio.create_task(self._write(to_it, writer, to_us)))
            yield incoming, outgoing
        finally:
            try:
                if pipes:
                    pipes[0].close()  # its stdin: it should end now
                if self._heeds:
                    await self._ended(child)
            finally:
                self._closed = True
                for task in tasks:
                    task.cancel()
                for one in pipes:
                    one.close()
                child.close()
                for end in (to_us, incoming, outgoing, to_it):
                    end.close()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _ended(self, child: Child) -> None:
        """Wait a moment for its end."""
        if self._code is None and not self._closed and child.process.returncode is None:
            try:
                async with asyncio.timeout(_ENDING_S):
                    self._code = await child.exited()
            except TimeoutError:
                pass

    async def _read(self, stream: asyncio.StreamReader, to_us: Any, parse: Callable[[bytes], Any]) -> None:
        rest: list[bytes] = []  # of a line, which may be long
        size = 0
        async with to_us:
            while part := await stream.read(_READ_BYTES):
                *lines, last = part.split(b"\n")
                if lines:
                    lines[0] = b"".join([*rest, lines[0]])
                    rest, size = [], 0
                rest.append(last)
                size += len(last)
                for line in lines:
                    try:
                        message = parse(line)
                    except ValueError:
                        self._heard(line)
                    else:
                        self._heeds = True
                        await to_us.send(message)
                if size > self._bytes_max:
                    self._too_long = True
                    return
            self._heeds = True

    def _heard(self, line: bytes) -> None:
        """A line that is no message: some servers greet, or print what they should log."""
        if line.strip():
            self._nonsense = self._nonsense or line.decode(errors="replace")[:_SHOWN_CHARS]
            self._stdout.take(line + b"\n")

    async def _hear(self, stream: asyncio.StreamReader) -> None:
        while part := await stream.read(_READ_BYTES):
            self._stderr.take(part)
            self._tail = (self._tail + part)[-STDERR_TAIL_BYTES:]

    async def _write(self, to_it: Any, writer: asyncio.StreamWriter, to_us: Any) -> None:
        try:
            async with to_it:
                async for one in to_it:
                    text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
                    writer.write(text.encode() + b"\n")
                    await writer.drain()
        except OSError:  # it doesn't read any more: so that nobody waits for its answer
            to_us.close()


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    """The writing end of a pipe as a stream, which owns it."""
    loop = asyncio.get_running_loop()
    file = os.fdopen(descriptor, "wb", buffering=0)
    with undone(file.close):
        transport, protocol = await loop.connect_write_pipe(FlowControlMixin, file)
    return asyncio.StreamWriter(transport, protocol, None, loop)
