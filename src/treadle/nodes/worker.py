"""The child process in which process bodies run, one after another. `treadle.engine.executor` is its parent.

Both speak over a socket in frames: four bytes of length, then a struct as MessagePack. Nothing is pickled.
The child leads a session, so that it can be killed with all that it started, and it ends with its parent: the
kernel sends the signal where it can (Linux), and a thread waits for the end of a pipe that only the parent
holds open.
"""

from __future__ import annotations

import importlib
import os
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from io import TextIOWrapper
from types import ModuleType
from typing import Any

import msgspec

from treadle.config import DEFAULT_CONFIG
from treadle.errors import TransactionError
from treadle.foreign import attempt
from treadle.nodes import speech
from treadle.nodes.failures import error_info
from treadle.nodes.modules import ROOT, attribute, import_for, imported
from treadle.nodes.sharing import Ask, Told
from treadle.state import codec

MB = 1 << 20
LENGTH = struct.Struct(">I")
LOGGED_CHARS_MAX = 64 * 1024
"""What is sent of one log record."""


class Job(msgspec.Struct, frozen=True):
    """Call a function of an importable module with plain data. `folders` are the loaded packages of
    diagrams."""

    module: str
    name: str
    args: list[Any]
    memory_mb: int | None = None
    folders: dict[str, str] = {}
    error_bytes_max: int = DEFAULT_CONFIG.error_bytes_max


class Done(msgspec.Struct, frozen=True, tag="done"):
    """What the function returned. The first frame of a child is one, too: it is ready."""

    value: Any = None


class Raised(msgspec.Struct, frozen=True, tag="raised"):
    """What the function raised."""

    kind: str
    message: str
    trace: str = ""
    retryable: bool | None = None
    retry_after: float | None = None


class Logged(msgspec.Struct, frozen=True, tag="logged"):
    """A log record, while the function runs: any number of these come before the reply."""

    job: int  # the how manieth of this child
    level: str
    logger: str
    text: str


Reply = Done | Raised


class Channel:
    """The child's end of the socket. It listens to what bodies say: log records go to the parent as they are,
    and what is printed goes out by the pipes. What bodies ask of the shared context goes there and back."""

    here: Channel | None = None
    """That of this process, if it is such a child."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._process = os.getpid()
        self._lock = threading.RLock()  # a body's threads log, too
        self.jobs = 0
        self._busy = False

    def begin(self) -> None:
        """A job begins."""
        self.jobs += 1
        self._busy = True

    def end(self) -> None:
        """The job is over: from here on only the next one is read from the socket."""
        with self._lock:
            self._busy = False

    def ask(self, frame: Ask) -> Told:
        """Ask the parent, and wait for what it says."""
        if self.repeats:
            raise TransactionError("a process that a body forked has no part in the shared context")
        with self._lock:
            if not self._busy or frame.job != self.jobs:
                raise TransactionError("the body is over, and its part in the shared context")
            try:
                self.send(frame)
                raw = receive(self._connection)
            except OSError:
                raw = None
        if raw is None:
            raise SystemExit  # the parent is gone, and we follow
        return msgspec.msgpack.decode(raw, type=Told)

    def send(self, frame: Reply | Logged | Ask) -> None:
        data = msgspec.msgpack.encode(frame)
        with self._lock:
            self._connection.sendall(LENGTH.pack(len(data)) + data)

    @property
    def repeats(self) -> bool:
        return os.getpid() != self._process  # a process that a body forked must leave the socket alone

    def printed(self, stream: str, text: str) -> bool:
        return True

    def logged(self, level: str, logger: str, text: str) -> None:
        if self.repeats:
            return
        plain = text[:LOGGED_CHARS_MAX].encode(errors="backslashreplace").decode()
        try:
            self.send(Logged(self.jobs, level, logger, plain))
        except OSError:  # the parent is gone, and we follow
            pass


def main(channel: int) -> None:
    """Perform jobs until the parent closes the channel, which is the file descriptor of a socket."""
    home = os.getcwd()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # line by line: the last before a crash are the most wanted
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    with socket.socket(fileno=channel) as connection:
        parent = Channel.here = Channel(connection)
        speech.install(parent)
        importer = Importer()
        codec.import_classes_with(importer)
        parent.send(Done())
        while (raw := receive(connection)) is not None:
            job = msgspec.msgpack.decode(raw, type=Job)
            importer.folders = job.folders
            os.chdir(home)  # a body may have gone elsewhere
            parent.begin()
            reply = perform(job)
            parent.end()
            flush()
            if parent.repeats:
                os._exit(0)  # a copy of us that the body forked: it must neither answer nor stay
            parent.send(reply)


def perform(job: Job) -> Reply:
    """Do a job. SystemExit ends the process, and with it the job."""
    value, error = attempt(_called, job, interrupts=True)
    if error is None:
        return Done(value)
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, MemoryError):
        limit = f" (memory_mb_max is {job.memory_mb})" if job.memory_mb is not None else ""
        return Raised("MemoryError", "the body needs more memory than it may "
                                     f"have{limit}", error_info(error).traceback,
                      retryable=False)
    info = error_info(error, bytes_max=job.error_bytes_max)
    retry_after = getattr(error, "retry_after", None)
    return Raised(info.type, info.message, info.traceback, getattr(error, "retryable", None),
                  retry_after if isinstance(retry_after, (int, float)) else None)


def _called(job: Job) -> Any:
    _limit_memory(job.memory_mb)
    return attribute(importlib.import_module(job.module), job.name)(*job.args)


class Importer:
    """Finds the modules of classes in values. The parent has them loaded, or it could not have encoded the
    values; so the child may import what they name."""

    def __init__(self) -> None:
        self.folders: Mapping[str, str] = {}

    def __call__(self, name: str) -> ModuleType | None:
        try:
            if name.startswith(ROOT + "."):
                package = ".".join(name.split(".")[:2])
                if package in self.folders:
                    import_for(self.folders[package], name)
            else:
                imported(name, repr(name))
        except (ModuleNotFoundError, ValueError):  # the value comes as plain data then, as the codec promises
            return None
        return sys.modules.get(name)


def receive(connection: socket.socket) -> bytes | None:
    """The next frame, or None at the end."""
    head = _exactly(connection, LENGTH.size)
    return None if head is None else _exactly(connection, LENGTH.unpack(head)[0])


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), MB))
        if not part:
            return None
        data += part
    return bytes(data)


def flush() -> None:
    """What the body printed goes out before its result does, so that it is logged under its name."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the body closed it
            pass


def _limit_memory(memory_mb: int | None) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = hard if memory_mb is None else memory_mb * MB
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
