"""`examples/api_poll`, run as its README says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import treadle

MAIN = Path(__file__).parents[2] / "examples" / "api_poll" / "main.py"


def test_a_job_is_polled_until_it_is_done(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(treadle.__file__).parents[1])}
    done = subprocess.run([sys.executable, str(MAIN)], cwd=tmp_path, capture_output=True, text=True,
                          timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    *asked, last = done.stdout.splitlines()
    assert last == "The job is done: 3 words, after 4 polls, for [secret POLL_TOKEN]."
    assert [line.split()[1:3] + line.split()[4:5] for line in asked] == [
        ['"POST', "/jobs", "503"], ['"POST', "/jobs", "201"], ['"GET', "/jobs/7", "200"],
        ['"GET', "/jobs/7", "503"], *[['"GET', "/jobs/7", "200"]] * 3]
    assert list(tmp_path.iterdir()) == []
