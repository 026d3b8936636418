"""The disk fills: work goes on in memory, that is said, and what was saved is whole."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import apsw

import treadle

DIAGRAM = """
treadle: 1
nodes:
  many: {type: code_job, code: "return 'x' * 12000", isolation: inline, for_each: "{{ range(200) }}"}
"""
LIMIT = 600_000  # bytes that a file may have


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "treadle", *words, "--store", str(folder / "runs.db")]


def test_a_full_disk_is_said_and_nothing_recorded_is_lost(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(DIAGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(treadle.__file__).parents[1])}
    said = []
    with subprocess.Popen(
            command(tmp_path, "run", "d.yaml", "--execution-id", "full", "--no-live"), cwd=tmp_path,
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))) as child:
        assert child.stderr is not None
        patience = threading.Timer(60, child.kill)
        patience.start()
        for line in child.stderr:
            said.append(line)
            if "the store can't be written" in line or "interrupted: stopping" in line:
                child.send_signal(signal.SIGINT)  # the first goes on trying, the second is at once
        patience.cancel()
    text = "".join(said)
    assert child.returncode == 130, text
    assert "updates wait in memory, and it is tried again. Is the disk full" in text
    assert "what was not yet recorded runs again at a resume" in text
    store = apsw.Connection(str(tmp_path / "runs.db"))
    assert store.execute("PRAGMA integrity_check").get == "ok"
    store.close()
    done = subprocess.run(command(tmp_path, "resume", "full"), cwd=tmp_path, env=environment, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "201 completed" in done.stderr
