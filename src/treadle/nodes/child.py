"""Child processes and asyncio: waiting for the end of one, reading its pipes, killing all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

STREAM_BYTES_MAX = 1 << 20
"""What one stream of a child may hold unread before the child has to wait."""


def start(arguments: Sequence[str], *, keep: Sequence[int], errors: int = subprocess.PIPE,
          folder: Path | None = None,
          environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process that leads a session of its own, with these file descriptors besides its pipes. It
    takes the loop a millisecond or two."""
    return subprocess.Popen(arguments, cwd=folder, env=environment, start_new_session=True, pass_fds=keep,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)


async def exited(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process that leads its session, then kill what it left running. Its return code,
    negative for a signal."""
    loop = asyncio.get_running_loop()
    if hasattr(os, "pidfd_open"):
        handle = os.pidfd_open(process.pid)
        ended: asyncio.Future[None] = loop.create_future()
        try:
            loop.add_reader(handle, _resolve, ended)
            try:
                await ended
            finally:
                loop.remove_reader(handle)
        finally:
            os.close(handle)
        kill_group(process)  # before the wait below: until then nobody else can have its number
    else:
        await loop.run_in_executor(None, process.wait)
        kill_group(process)
    return process.wait()


def is_running(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process runs, as far as can be told without reaping it."""
    if process.returncode is not None:
        return False
    if not hasattr(os, "waitid"):
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def reader(pipe: IO[bytes]) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """The reading end of a pipe as a stream. Close the transport when done: that closes the pipe."""
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=STREAM_BYTES_MAX)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
    return stream, transport


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its session, and all that it started in it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # all of it has ended; macOS says the latter
        pass


def how_it_ended(code: int) -> str:
    """A return code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
