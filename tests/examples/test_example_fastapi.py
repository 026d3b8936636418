"""`examples/fastapi_app` behind a real server: stopped in the middle, it goes on after its restart."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

import treadle

FOLDER = Path(__file__).parents[2] / "examples" / "fastapi_app"


@contextmanager
def serving(tmp_path: Path, shop_s: float) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    environment = {**os.environ, "PYTHONPATH": str(Path(treadle.__file__).parents[1]), "SHOP_S": str(shop_s),
                   "TREADLE_STORE": str(tmp_path / "fastapi.db"), "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen([sys.executable, "-m", "uvicorn", "app:app", "--port", "0",
                              "--timeout-graceful-shutdown", "2"], cwd=FOLDER, env=environment, text=True,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert child.stderr is not None
        for line in child.stderr:
            if found := re.search(r"running on (http://\S+)", line):
                break
        else:
            raise AssertionError("the server did not start")
        with httpx.Client(base_url=found[1], timeout=30) as client:
            yield client, child
        child.send_signal(signal.SIGTERM)
        rest = child.communicate(timeout=30)[1]
        assert "Traceback" not in rest and "Application shutdown complete" in rest, rest
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()


def until(client: httpx.Client, run: str, status: str) -> dict[str, object]:
    end = time.monotonic() + 20
    while (told := client.get(f"/runs/{run}").json())["status"] != status or told.get("waiting") == []:
        assert time.monotonic() < end, told
        time.sleep(0.05)
    return dict(told)


def test_stopped_in_the_middle_it_goes_on_after_the_restart(tmp_path: Path) -> None:
    with serving(tmp_path, shop_s=60) as (client, _):
        assert client.post("/runs", json={"waht": "a lamp"}).status_code == 422
        assert client.get("/runs/nothing").status_code == 404
        run = client.post("/runs", json={"what": "a lamp"}).json()["id"]
        assert client.get(f"/runs/{run}").json()["status"] == "running"
        other = client.post("/runs", json={}).json()["id"]
        assert client.post(f"/runs/{other}/cancel", json={"reason": "no"}).json()["status"] == "cancelled"
        assert client.post(f"/runs/{other}/cancel", json={}).status_code == 409
    with serving(tmp_path, shop_s=0) as (client, _):
        until(client, run, "suspended")
        wrong = client.post(f"/runs/{run}/answer", json={"node": "approve", "value": "perhaps"})
        assert wrong.status_code == 422 and "'yes', 'no'" in wrong.text
        # Two who answer at once: one of them does, and the other is told so if it comes late.
        with ThreadPoolExecutor(2) as two:
            answers = list(two.map(lambda _: client.post(
                f"/runs/{run}/answer", json={"node": "approve", "value": "yes"}).status_code, range(2)))
        assert 200 in answers and set(answers) <= {200, 409, 422}
        assert until(client, run, "completed")["result"] == "a lamp for 60 €: yes"
    with serving(tmp_path, shop_s=1) as (client, _):
        run = client.post("/runs", json={}).json()["id"]
        with client.stream("GET", f"/runs/{run}/events") as stream:
            seen = [line for line in stream.iter_lines() if line]
        assert any("NODE_COMPLETED" in line.upper() and '"price"' in line for line in seen), seen
