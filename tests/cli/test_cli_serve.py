"""`treadle serve` and `treadle run --serve`: the real commands, asked over HTTP as a browser would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import httpx
import pytest

DIAGRAM = """
treadle: 1
name: held
nodes:
  hold: {type: code_job, call: "tasks:hold"}
  done: {type: endpoint, needs: hold}
"""
ASK = """
treadle: 1
name: ask
nodes:
  ask: {type: user_response, prompt: "Shall we?"}
  done: {type: endpoint, needs: ask}
"""


def document(child: subprocess.Popen[str]) -> dict[str, Any]:
    """What `serve --json` prints before it serves."""
    assert child.stdout is not None
    lines = []
    for line in child.stdout:
        lines.append(line)
        if line.startswith("}"):
            break
    found: dict[str, Any] = json.loads("".join(lines))
    return found


def link_in(said: Iterable[str] | None) -> str:
    """The link in what a command says."""
    assert said is not None
    return next(line.split()[-1] for line in said if "the monitor is at" in line)


def on_a_terminal(treadle: Any, *words: str) -> tuple[subprocess.Popen[str], TextIO]:
    """Start a command and go on; what it says it says to a terminal."""
    ours, its = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "treadle", *words],
        cwd=treadle.folder,
        env=treadle.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=its,
        text=True,
    )
    treadle.children.append(child)
    os.close(its)
    return child, os.fdopen(ours, errors="replace")


def answered(treadle: Any, link: str, name: str, value: str) -> None:
    """Answer on the page what an execution asks."""
    with client_of(link) as client:
        url = f"/api/executions/{name}"
        treadle.until(lambda: client.get(url).json().get("status") == "suspended", "it asks")
        sent = client.post(f"{url}/answer", json={"node": "ask", "value": value})
        assert sent.status_code == 202, sent.text


def client_of(link: str) -> httpx.Client:
    url, _, token = link.partition("#")[0].partition("/?token=")
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=20)


def private(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_a_page_is_served_and_runs_what_is_started(treadle: Any) -> None:
    """All of it once: links, a start, another process's run, the end by a signal with a resume after it."""
    treadle.write(DIAGRAM)
    served = treadle.begin("serve", ".", "--port", "0", "--json")
    said = document(served)
    with client_of(said["link"]) as client, client_of(said["reading_link"]) as reader:
        assert [one["file"] for one in client.get("/api/diagrams").json()["files"]] == ["diagram.yaml"]
        begun = client.post("/api/executions", json={"diagram": {"file": "diagram.yaml"}})
        assert begun.status_code == 201, begun.text
        treadle.until_held()
        name = begun.json()["id"]
        treadle.until(lambda: reader.get(f"/api/executions/{name}").json()["status"] == "running", "it runs")
        assert reader.post(f"/api/executions/{name}/cancel", json={}).status_code == 403
        text = "treadle: 1\nname: loud\nnodes: {a: {type: code_job, code: 'print(4711)'}}\n"
        loud = client.post("/api/executions", json={"diagram": {"source": text}}).json()["id"]
        treadle.until(lambda: client.get(f"/api/executions/{loud}/logs").json()["items"], "it prints")
    served.send_signal(signal.SIGTERM)
    out, err = served.communicate(timeout=20)
    assert (served.returncode, out) == (0, ""), err
    assert "4711" not in err
    treadle.let_go()
    treadle.children.clear()
    again = treadle("resume", name)
    assert again.returncode == 0, again.stderr
    assert treadle.log == ["began hold", "began hold", "ended hold"]


def test_only_looking_on(treadle: Any) -> None:
    treadle.write("treadle: 1\nname: one\nnodes: {done: {type: endpoint}}\n")
    assert treadle("run", "diagram.yaml", "--execution-id", "one").returncode == 0
    tokens = private(treadle.folder / "tokens", "write " + "w" * 20 + "\nread " + "r" * 20)
    served = treadle.begin("serve", "--read-only", "--token-file", tokens, "--port", "0", "--json")
    said = document(served)
    assert said["link"] == said["reading_link"]
    assert said["link"].endswith("/?token=" + "r" * 20)
    with client_of(said["link"]) as client:
        assert client.get("/api/executions").json()["items"][0]["id"] == "one"
        assert client.get("/api/stats").json()["engine"] is None
        assert client.get("/api/stats", headers={"authorization": "Bearer " + "w" * 20}).status_code == 401
    served.send_signal(signal.SIGINT)
    _, err = served.communicate(timeout=20)
    assert (served.returncode, err) == (0, "")


def test_a_served_run_waits_for_what_the_page_answers(treadle: Any) -> None:
    treadle.write(ASK)
    run = treadle.begin("run", "diagram.yaml", "--serve", "--execution-id", "asked")
    link = link_in(run.stderr)
    assert link.endswith("#/executions/asked")
    answered(treadle, link, "asked", "yes")
    out, err = run.communicate(timeout=20)
    assert (run.returncode, out.strip()) == (0, "yes"), err
    assert "completed in" in err


def test_a_terminal_keeps_the_page_after_the_end(treadle: Any) -> None:
    treadle.write("treadle: 1\nname: quick\nnodes: {done: {type: endpoint}}\n")
    words = ["--serve", "--no-live", "--execution-id", "quick"]
    child, said = on_a_terminal(treadle, "run", "diagram.yaml", *words)
    with said:
        with client_of(link_in(said)) as client:
            url = "/api/executions/quick"
            treadle.until(lambda: client.get(url).json().get("status") == "completed", "it ends")
            assert child.poll() is None
            child.send_signal(signal.SIGINT)
        assert (child.wait(20), "interrupted" in said.readline()) == (0, False)


def test_what_is_resumed_on_the_page_is_what_the_run_ends_with(treadle: Any) -> None:
    """The page's process goes on with an execution that has failed; the command says what became of it."""
    treadle.write("treadle: 1\nname: late\nnodes: {a: {type: code_job, call: 'late:late'}}\n")
    (treadle.folder / "late.py").write_text(
        "from pathlib import Path\n\ndef late():\n    return Path(__file__).with_name('go').read_text()\n"
    )
    words = ["--serve", "--no-live", "--execution-id", "late"]
    child, said = on_a_terminal(treadle, "run", "diagram.yaml", *words)
    with said:
        with client_of(link_in(said)) as client:
            url = "/api/executions/late"
            treadle.until(lambda: client.get(url).json().get("status") == "failed", "it fails")
            (treadle.folder / "go").write_text("gone")
            assert client.post(f"{url}/resume", json={}).status_code == 202
            treadle.until(lambda: client.get(url).json()["status"] == "completed", "it goes on")
            child.send_signal(signal.SIGINT)
        assert any("completed in" in line for line in said)
    out, _ = child.communicate(timeout=20)
    assert (child.returncode, out.strip()) == (0, "gone")


def test_the_page_goes_on_as_the_command_was_told_to(treadle: Any) -> None:
    """What is answered there is performed there: by the script that stands on the run's command line."""
    treadle.write(
        "treadle: 1\nname: poem\npersons: {Ann: {model: 'openai:gpt-5-mini'}}\nnodes:\n"
        "  ask: {type: user_response, prompt: 'Of what?'}\n"
        "  line: {type: person_job, person: Ann, prompt: 'Of {{ default }}.', needs: ask}\n"
    )
    treadle.write("Ann: [Rain falls.]\n", "said.yaml")
    words = ["--serve", "--script", "said.yaml", "--execution-id", "poem"]
    run = treadle.begin("run", "diagram.yaml", *words)
    answered(treadle, link_in(run.stderr), "poem", "rain")
    out, err = run.communicate(timeout=20)
    assert (run.returncode, out.strip()) == (0, "Rain falls."), err


def process_of_page(run: subprocess.Popen[str]) -> int:
    """The process that serves the page of a run."""
    return int(Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()[0])


def test_a_run_goes_on_without_its_page(treadle: Any) -> None:
    treadle.write(DIAGRAM)
    key = "ab" * 32
    run = treadle.begin("run", "diagram.yaml", "--serve", "--state-encryption-key", key)
    link = link_in(run.stderr)
    with client_of(link) as client:
        treadle.until_held()
        treadle.until(lambda: client.get("/api/executions").json()["items"], "it is seen, with the key")
    page = process_of_page(run)
    shown = Path(f"/proc/{page}/cmdline").read_bytes() + Path(f"/proc/{page}/environ").read_bytes()
    token = link.partition("#")[0].partition("token=")[2]
    assert token.encode() not in shown
    assert key.encode() not in shown
    assert os.getpriority(os.PRIO_PROCESS, page) > os.getpriority(os.PRIO_PROCESS, run.pid)
    assert os.sched_getscheduler(page) == os.SCHED_BATCH  # it does not interrupt the run
    os.kill(page, signal.SIGKILL)
    assert run.stderr is not None
    said = next(line for line in run.stderr if "nobody serves the page" in line)
    assert "SIGKILL" in said
    treadle.let_go()
    assert run.communicate(timeout=20)[0].strip() == "hold"
    assert run.returncode == 0


def test_a_page_ends_with_its_run(treadle: Any) -> None:
    treadle.write(DIAGRAM)
    run = treadle.begin("run", "diagram.yaml", "--serve")
    with client_of(link_in(run.stderr)) as client:
        assert client.get("/healthz").status_code == 200
        run.kill()
        run.communicate()
        treadle.children.clear()

        def gone() -> bool:
            try:
                client.get("/healthz")
            except httpx.TransportError:
                return True
            return False

        treadle.until(gone, "the page has ended")


def test_what_nobody_runs_stays_so_until_one_says_otherwise(treadle: Any) -> None:
    """A run that was killed is stale, and looking at it starts nothing; `--recover` does."""
    treadle.write(DIAGRAM)
    run = treadle.begin("run", "diagram.yaml", "--execution-id", "killed")
    treadle.until_held()
    run.kill()
    run.communicate()
    treadle.children.clear()
    treadle.let_go()
    served = treadle.begin("serve", "--port", "0", "--json")
    with client_of(document(served)["link"]) as client:
        items = client.get("/api/executions", params={"status": "stale"}).json()["items"]
        assert [one["id"] for one in items] == ["killed"]
        assert client.get("/api/stats").json()["engine"]["running"] == []
    served.terminate()
    served.communicate()
    treadle.children.clear()
    assert [one["execution_id"] for one in treadle.json("list", "--status", "stale")] == ["killed"]
    assert treadle.json("list", "--status", "pending") == []
    served = treadle.begin("serve", "--port", "0", "--json", "--recover")
    with client_of(document(served)["link"]) as client:
        url = "/api/executions/killed"
        treadle.until(lambda: client.get(url).json()["status"] == "completed", "it goes on")


def test_a_port_that_is_taken(treadle: Any) -> None:
    """One that was chosen is refused; nobody chose the usual one, so then it is another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = treadle.here("serve", "--port", str(port))
        assert done.returncode == 2
        assert f"127.0.0.1:{port} can't be used" in done.stderr
        assert "--port" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--host", "::"], "--token-file"),
        (["--host", "192.0.2.7"], "--token-file"),
        (["nowhere"], "no such file or folder"),
        (["--token-file", "nowhere"], "No such file"),
        (["--tls-cert", "nowhere"], "--tls-cert nowhere"),
        (["--tls-key", "tasks.py"], "--tls-cert"),
        (["--tls-cert", "tasks.py", "--port", "0"], "TLS"),
        (["--read-only", "--recover"], "leave --recover out"),
        (["--port", "70000"], "65535"),
        (["--host", "localhost", "--port", "0", "--store", "tasks.py"], "not a SQLite file"),
        (["--read-only", "--store", "none.db"], "there is no store"),
        (["--vis-update-rate", "0"], "0.1"),
        (["diagram.yml"], "did you mean 'diagram.yaml'?"),
    ],
)
def test_what_can_not_be_served_says_why(treadle: Any, words: list[str], said: str) -> None:
    treadle.write(ASK)
    done = treadle.here("serve", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_tokens_that_others_can_read_are_refused(treadle: Any) -> None:
    path = Path(private(treadle.folder / "tokens", "w" * 20))
    path.chmod(0o644)
    done = treadle.here("serve", "--token-file", str(path), "--host", "0.0.0.0", "--port", "0")
    assert (done.returncode, "chmod 600" in done.stderr) == (2, True)


def test_a_run_in_memory_is_served_by_its_own_process(treadle: Any) -> None:
    treadle.write(ASK)
    words = ["--serve", "--durability", "memory", "--execution-id", "asked"]
    run = treadle.begin("run", "diagram.yaml", *words)
    answered(treadle, link_in(run.stderr), "asked", "yes")
    out, err = run.communicate(timeout=20)
    assert (run.returncode, out.strip()) == (0, "yes"), err
    assert not treadle.store.exists()


def test_an_encrypted_store_needs_its_key(treadle: Any) -> None:
    treadle.write("treadle: 1\nname: one\nnodes: {done: {type: endpoint}}\n")
    key = "ab" * 32
    assert treadle("run", "diagram.yaml", "--state-encryption-key", key).returncode == 0
    for words in ([], ["--read-only"]):
        done = treadle.here("serve", "--port", "0", *words)
        assert done.returncode == 2
        assert "is encrypted with the key" in done.stderr
    served = treadle.begin("serve", "--port", "0", "--json", "--state-encryption-key", key)
    with client_of(document(served)["link"]) as client:
        assert client.get("/api/stats").json()["store"]["encrypted"] is True
        assert client.get("/api/executions").json()["items"][0]["name"] == "one"
        name = client.get("/api/executions").json()["items"][0]["id"]
        assert client.get(f"/api/executions/{name}/timeline").json()["rows"]
