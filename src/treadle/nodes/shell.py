"""Bash bodies: a script in a session of its own, killed as a group, that does not outlive its engine."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from treadle.config import DEFAULT_CONFIG
from treadle.errors import BodyDied
from treadle.nodes import speech
from treadle.nodes.child import FIRST_FREE_FD, Child, how_it_ended, reader
from treadle.nodes.files import plain

logger = logging.getLogger("treadle.bodies")

STDERR_TAIL_BYTES = 4096
"""How much of what a script said on stderr its failure shows."""
_ENVIRONMENT_VALUE_BYTES_MAX = 128 * 1024 - 1024  # what Linux takes for one variable, its name included
_READ_BYTES = 65536
_NOT_FOUND = 127


async def run_bash(code: str, inputs: Mapping[str, Any], *, folder: Path, name: str) -> str:
    """Run a script in a folder, with its inputs as `INPUT_<name>`; what it prints, without the last newline.

    BodyDied with the end of stderr if it exits with another code than 0; LimitExceeded if it prints too much.
    Cancelling this kills the script and all that it started.
    """
    return await run_program(["bash", "-c", code, "bash"], {**os.environ, **variables(inputs)}, folder=folder,
                             name=name)


async def run_program(arguments: Sequence[str], environment: Mapping[str, str], *, folder: Path, name: str,
                      stdin: bytes | None = None) -> str:
    """Run a program like a script; it may read `stdin`, which is empty otherwise."""
    keep: list[int] = []
    try:
        if stdin is not None:
            import fcntl

            with tempfile.TemporaryFile() as file:
                file.write(stdin)
                file.seek(0)
                keep = [fcntl.fcntl(file.fileno(), fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)]
            arguments = ["sh", "-c", f'exec "$@" </dev/fd/{keep[0]}', "sh", *arguments]
        child = Child(arguments, keep=keep, folder=folder, environment=environment)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the script of node {name!r} can't start: there is no folder "
                                f"{folder}") from error
    finally:
        for one in keep:
            os.close(one)
    try:
        return await _output(child, name)
    finally:
        child.close()


async def _output(child: Child, name: str) -> str:
    stdout, out = await reader(child.process.stdout)
    stderr, err = await reader(child.process.stderr)
    reading: asyncio.Future[tuple[bytes, bytes]] = asyncio.gather(
        _read_all(stdout, name), _read_tail(stderr))
    ended: asyncio.Future[int] = asyncio.ensure_future(child.exited())
    both: list[asyncio.Future[Any]] = [reading, ended]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()  # it printed too much, perhaps
        code = await ended  # what it left running in the background has ended with it, so both pipes have
        printed, said = await reading
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        out.close()
        err.close()
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


async def _read_all(stream: asyncio.StreamReader, name: str) -> bytes:
    parts, size = [], 0
    heard = speech.Heard("stdout")
    while part := await stream.read(_READ_BYTES):
        parts.append(part)
        heard.take(part)
        size += len(part)
        if size > DEFAULT_CONFIG.body_output_bytes_max:
            raise DEFAULT_CONFIG.exceeded("body_output_bytes_max", f"the script of node {name!r} printed too "
                                                                   "much")
    return b"".join(parts)


async def _read_tail(stream: asyncio.StreamReader) -> bytes:
    tail = b""
    heard = speech.Heard("stderr")
    while part := await stream.read(_READ_BYTES):
        heard.take(part)
        tail = (tail + part)[-STDERR_TAIL_BYTES:]
    return tail


def variables(inputs: Mapping[str, Any]) -> dict[str, str]:
    """The environment that tells a script its inputs. ValueError for one that the environment can't hold."""
    found = {}
    for name, value in inputs.items():
        variable = "INPUT_" + re.sub(r"\W", "_", name, flags=re.ASCII)
        text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
        if variable in found:
            raise ValueError(f"two inputs would both be ${variable}: rename input {name!r}")
        if "\0" in text or len(text.encode(errors="replace")) > _ENVIRONMENT_VALUE_BYTES_MAX:
            raise ValueError(f"input {name!r} can't be handed to bash: it has a null character or more than "
                             f"{_ENVIRONMENT_VALUE_BYTES_MAX} bytes. Write it to a file (type: db) and read "
                             "that")
        found[variable] = text
    return found
