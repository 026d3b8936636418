"""Bash bodies: a script in a session of its own, killed as a group, that does not outlive its engine."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from treadle.config import TreadleConfig
from treadle.errors import BodyDied
from treadle.nodes import speech
from treadle.nodes.child import FIRST_FREE_FD, Child, how_it_ended, reader
from treadle.nodes.files import plain
from treadle.state.blob import Blob

logger = logging.getLogger("treadle.bodies")

STDERR_TAIL_BYTES = 4096
"""How much of what a script said on stderr its failure shows."""
VARIABLE_BYTES_MAX = 64 * 1024
"""A larger input is no variable of the environment; Linux takes 128 KB for one, its name included."""
VARIABLES_BYTES_MAX = 512 * 1024
"""What all inputs may take of the environment. Linux takes 2 MB for it and the arguments, macOS 1 MB."""
_CODE_BYTES_MAX = 64 * 1024  # of a script that is an argument
_READ_BYTES = 65536
_NOT_FOUND = 127
_LARGE_BYTES = 1 << 20  # what takes a moment to write
_WITH_STDIN = 'treadle_stdin=$1; shift; exec "$@" <"$treadle_stdin"'


class Told(NamedTuple):
    """How a program learns its inputs."""

    environment: dict[str, str]
    files: dict[str, bytes | Path]  # by the variable that names the file
    missing: dict[str, str]  # the variables that would be too large, with their inputs

    def require(self, code: str) -> None:
        """ValueError if a line for bash names a variable that isn't there: it would be empty."""
        for variable, name in self.missing.items():
            if re.search(rf"\b{variable}\b", code):
                raise ValueError(f"input {name!r} is too large for the environment, or has a null character: "
                                 f"write \"${variable}_FILE\", a file with it, instead of ${variable}")


async def run_bash(code: str, inputs: Mapping[str, Any], environment: Mapping[str, str] | None = None, *,
                   folder: Path, name: str, config: TreadleConfig) -> str:
    """Run a script in a folder, with its inputs as `INPUT_<name>` and what else is to be in its environment;
    what it prints, without the last newline.

    BodyDied with the end of stderr if it exits with another code than 0; LimitExceeded if it prints too much.
    Cancelling this kills the script and all that it started.
    """
    told = tell(inputs)
    told.require(code)
    return await run_program(bash(code), {**os.environ, **(environment or {}), **told.environment},
                             folder=folder, name=name, config=config, files=told.files)


def bash(code: str) -> list[str | bytes]:
    """The arguments that run a script; bytes are for a file."""
    raw = code.encode()
    return ["bash", "-c", code, "bash"] if len(raw) <= _CODE_BYTES_MAX else ["bash", raw]


async def run_program(arguments: Sequence[str | bytes], environment: Mapping[str, str], *, folder: Path,
                      name: str, config: TreadleConfig, files: Mapping[str, bytes | Path] | None = None,
                      stdin: bytes | Path | None = None) -> str:
    """Run a program like a script. It may read `stdin`, which is empty otherwise. Variables name its `files`;
    an argument that is bytes becomes the name of a file with them. These are gone when it ends, whatever
    happens to us: they never have a name of their own."""
    keep: list[int] = []

    async def opened(content: bytes | Path) -> str:
        if isinstance(content, Path):
            return str(content)
        with tempfile.TemporaryFile() as file:
            if len(content) > _LARGE_BYTES:
                await asyncio.to_thread(file.write, content)
            else:
                file.write(content)
            file.seek(0)
            keep.append(fcntl.fcntl(file.fileno(), fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD))
        return f"/dev/fd/{keep[-1]}"

    try:
        environment = {**environment, **{key: await opened(one) for key, one in (files or {}).items()}}
        words = [await opened(one) if isinstance(one, bytes) else one for one in arguments]
        if stdin is not None:
            words = ["sh", "-c", _WITH_STDIN, "sh", await opened(stdin), *words]
        child = Child(words, keep=keep, folder=folder, environment=environment)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the script of node {name!r} can't start: there is no folder "
                                f"{folder}") from error
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        raise ValueError("the arguments and the environment are more than this system hands to a program: "
                         "let it read large values from stdin or from $INPUT_name_FILE") from None
    finally:
        for one in keep:
            os.close(one)
    try:
        return await _output(child, name, config)
    finally:
        child.close()


async def _output(child: Child, name: str, config: TreadleConfig) -> str:
    streams: list[asyncio.StreamReader] = []
    open_: list[asyncio.ReadTransport] = []
    both: list[asyncio.Future[Any]] = []
    try:
        for pipe in (child.process.stdout, child.process.stderr):
            stream, transport = await reader(pipe)
            streams.append(stream)
            open_.append(transport)
        reading: asyncio.Future[tuple[bytes, bytes]] = asyncio.gather(
            _read_all(streams[0], name, config), _read_tail(streams[1]))
        ended: asyncio.Future[int] = asyncio.ensure_future(child.exited())
        both += [reading, ended]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()  # it printed too much, perhaps
        code = await ended  # what it left running in the background has ended with it, so both pipes have
        printed, said = await reading
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        for transport in open_:
            transport.close()
    return _judge(code, printed, said.decode(errors="replace").strip(), name)


def _judge(code: int, printed: bytes, complaint: str, name: str) -> str:
    if code == _NOT_FOUND and complaint.endswith("bash: not found"):
        raise FileNotFoundError("there is no bash on this machine: install it, or write the node in Python")
    if code:
        raise BodyDied("the script ended with "
                       f"{how_it_ended(code)}" + (f": {complaint}" if complaint else ""))
    if complaint:
        logger.debug("node %r said on stderr: %s", name, complaint)
    try:
        text = printed.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the script printed what is not UTF-8 text (byte {error.start}): encode it, for "
                         "example with base64") from None
    return text[:-1] if text.endswith("\n") else text


async def _read_all(stream: asyncio.StreamReader, name: str, config: TreadleConfig) -> bytes:
    parts, size = [], 0
    heard = speech.Heard("stdout")
    while part := await stream.read(_READ_BYTES):
        parts.append(part)
        heard.take(part)
        size += len(part)
        if size > config.body_output_bytes_max:
            raise config.exceeded("body_output_bytes_max", f"the script of node {name!r} printed too much")
    return b"".join(parts)


async def _read_tail(stream: asyncio.StreamReader) -> bytes:
    tail = b""
    heard = speech.Heard("stderr")
    while part := await stream.read(_READ_BYTES):
        heard.take(part)
        tail = (tail + part)[-STDERR_TAIL_BYTES:]
    return tail


def tell(inputs: Mapping[str, Any]) -> Told:
    """Inputs as variables and files: `INPUT_<name>` is the text or, of anything else, JSON, if it fits there;
    `INPUT_<name>_FILE` names a file with it, whatever its size. A blob is the path of its file. ValueError
    for one that neither can hold."""
    told = Told({}, {}, {})
    taken: set[str] = set()
    left = VARIABLES_BYTES_MAX
    for name, value in inputs.items():
        variable = "INPUT_" + re.sub(r"\W", "_", name, flags=re.ASCII)
        if not taken.isdisjoint(both := (variable, f"{variable}_FILE")):
            raise ValueError(f"two inputs would both be ${' or $'.join(both)}: rename input {name!r}")
        taken.update(both)
        content = _content(name, value)
        told.files[both[1]] = content
        raw = os.fsencode(content) if isinstance(content, Path) else content
        if len(raw) > min(left, VARIABLE_BYTES_MAX) or b"\0" in raw:
            told.missing[variable] = name
        else:
            told.environment[variable] = os.fsdecode(raw)
            left -= len(raw)
    return told


def _content(name: str, value: Any) -> bytes | Path:
    if isinstance(value, Blob):
        return value.path()
    text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"input {name!r} can't be handed to a program: it has a lone surrogate, which is no "
                         "text in UTF-8") from None
