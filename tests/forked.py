"""Processes that start at once: copies of one that has loaded Treadle, and in which nothing has run.

A new interpreter spends half a second on its imports. Tests about those, about signals or about pipes start
one all the same; the others kill a copy.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import treadle

TIMEOUT_S = 60.0
COMMAND = "import sys; from treadle.cli.main import main; sys.exit(main())"
ORIGIN = r"""
import contextlib, gc, importlib, json, os, pkgutil, sys
import treadle, treadle.failpoints
for module in pkgutil.walk_packages(treadle.__path__, "treadle."):
    if not module.name.startswith(("treadle.__main__", "treadle.monitor", "treadle.testing")):
        importlib.import_module(module.name)
for name in ("apsw", "jinja2.sandbox", "typer._adapters", "uvloop", "yaml"):  # what they import when they run
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
gc.freeze()  # so that a copy's collections leave the shared memory alone

def asked():
    "What a copy shall do, in the copy."
    while line := sys.stdin.buffer.readline():
        if (child := os.fork()) == 0:
            return json.loads(line)
        os.write(1, b"%d\n" % child)
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os._exit(0)

what = asked()
os.chdir(what["folder"])
for number, path in enumerate(what["files"]):
    file = os.open(path, os.O_RDWR)
    os.dup2(file, number)
    os.close(file)
os.environ.clear()
os.environ.update(what["environment"])
treadle.failpoints._arm_from_environment()
sys.argv[1:] = what["words"]
exec(compile(what["code"], "<string>", "exec"), {"__name__": "__main__"})
"""


class Origin:
    """The process that is copied, for one user at a time."""

    def __init__(self) -> None:
        environment = {name: text for name, text in os.environ.items() if not name.startswith("TREADLE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", ORIGIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env={**environment, "PYTHONPATH": str(Path(treadle.__file__).parents[1])})

    def close(self) -> None:
        self.process.kill()  # the end of its questions may never come: a forked test holds them, too
        self.process.communicate()

    def run(self, what: Mapping[str, object]) -> int:
        """The exit code of a copy that did this; TimeoutExpired after a minute."""
        asks, replies = self.process.stdin, self.process.stdout
        assert asks is not None and replies is not None
        asks.write(json.dumps(what).encode() + b"\n")
        child = int(replies.readline())
        in_time, _, _ = select.select([replies], [], [], TIMEOUT_S)
        if not in_time:
            os.kill(child, signal.SIGKILL)
        code = int(replies.readline())
        if not in_time:
            raise subprocess.TimeoutExpired(str(what["words"]), TIMEOUT_S)
        return code


@cache
def origin() -> Origin:
    """That of this process; it ends with it."""
    made = Origin()
    atexit.register(made.close)
    return made


def run(code: str, *words: str, folder: Path | None = None,
        environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run([sys.executable, "-c", code, *words])` does, with nothing on stdin; `environment`
    is added to ours."""
    with tempfile.TemporaryDirectory() as scratch:
        out, errors = Path(scratch, "out"), Path(scratch, "errors")
        out.touch()
        errors.touch()
        status = origin().run({
            "code": code, "words": words, "folder": str(folder or Path.cwd()),
            "environment": {**os.environ, **(environment or {})},
            "files": [os.devnull, str(out), str(errors)]})
        return subprocess.CompletedProcess(words, status, out.read_text(), errors.read_text())


def command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`treadle` with these words, in a folder."""
    return run(COMMAND, *words, folder=folder, environment=environment)
