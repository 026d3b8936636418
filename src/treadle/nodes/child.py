"""Child processes and asyncio: starting one that can't outlive us, waiting for its end, killing all it
started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from treadle.undo import undone

STREAM_BYTES_MAX = 1 << 20
"""What one stream of a child may hold unread before the child has to wait."""

# A guard in the child's session reads from a pipe whose other end only we hold: when we are gone, by whatever
# death, the read ends, and it kills the group. It is nobody's child (the brackets around the brackets), so
# that `wait` in the child has nothing to do with it. In a shell a background job has no stdin: hence
# descriptor 3.
_GUARDED = """
exec 3<&0 </dev/null
( (read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 & )
exec "$@" 3<&-
"""
FIRST_FREE_FD = 10
"""Descriptors handed to a child must be at least this: the guard's shell uses the lower ones."""


class Child:
    """A process that leads a session of its own and ends with us. `close` it when it is over."""

    def __init__(self, arguments: Sequence[str], *, keep: Sequence[int] = (), stderr: int = subprocess.PIPE,
                 folder: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        """Start it, with these file descriptors besides its pipes. This takes a millisecond or two; OSError
        if it can't be started."""
        theirs, self._hold = os.pipe()
        try:
            with undone(os.close, self._hold):
                self.process = subprocess.Popen(
                    ["sh", "-c", _GUARDED, "sh", *arguments], cwd=folder, env=environment,
                    start_new_session=True, pass_fds=keep, stdin=theirs, stdout=subprocess.PIPE,
                    stderr=stderr)
        finally:
            os.close(theirs)

    async def exited(self) -> int:
        """Wait for its end, then kill what it left running. The return code, negative for a signal."""
        loop = asyncio.get_running_loop()
        if hasattr(os, "pidfd_open"):
            handle = os.pidfd_open(self.process.pid)
            ended: asyncio.Future[None] = loop.create_future()
            try:
                loop.add_reader(handle, _resolve, ended)
                try:
                    await ended
                finally:
                    loop.remove_reader(handle)
            finally:
                os.close(handle)
            self.kill()  # before it is reaped: until then nobody else can have its number
        else:
            await loop.run_in_executor(None, self.process.wait)
            self.kill()
        return self.process.wait()

    def kill(self) -> None:
        """Kill it, and all that it started in its session."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # all of it has ended; macOS says the latter
            pass

    def close(self) -> None:
        """Kill it if it still runs, reap it, release what held it."""
        if self.process.returncode is None:
            self.kill()
            self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:  # nobody came to read it, perhaps
                pipe.close()
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def reader(pipe: IO[bytes] | None) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """The reading end of a pipe as a stream. Close the transport when done. It has a descriptor of its own:
    uvloop closes that a moment later, when whoever closed the pipe may have had the number given anew."""
    assert pipe is not None
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=STREAM_BYTES_MAX)
    own = os.fdopen(os.dup(pipe.fileno()), "rb", buffering=0)
    with undone(own.close):
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), own)
    return stream, transport


def how_it_ended(code: int) -> str:
    """A return code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
