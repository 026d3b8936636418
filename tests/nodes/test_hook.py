"""`hook` tells the outside world, and passes its input on."""

from __future__ import annotations

import asyncio
import json
import os
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from treadle import Engine
from treadle.errors import BodyDied, ExecutionFailed
from treadle.nodes.http import ApiError
from treadle.state.blob import Place

Perform = Any
Write = Callable[[str, str], Path]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server's URL and what it was told."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            got.append({"body": body.decode(), "headers": dict(self.headers.items())})
            self.send_response(503 if self.path == "/busy" else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"ok": true}')

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_line_for_bash_gets_its_input_and_passes_it_on(perform: Perform, tmp_path: Path) -> None:
    value = {"text": "'; touch broken; $(touch broken) é"}
    line = 'cat > stdin.json; printf %s "$INPUT_default" > variable.json; printf %s "$WHO" > who'
    assert perform("hook", {"default": value}, kind="shell", command=line,
                   env={"WHO": "{{ default.text }}"}) == value
    assert json.loads((tmp_path / "stdin.json").read_text()) == value
    assert json.loads((tmp_path / "variable.json").read_text()) == value
    assert (tmp_path / "who").read_text() == value["text"]
    assert not (tmp_path / "broken").exists()


def test_a_program_gets_arguments_without_a_shell(perform: Perform, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    rest = {"kind": "shell", "command": "printf", "args": ["%s|", "{{ a }}", "$HOME"], "cwd": "there"}
    assert perform("hook", {"a": "x; y"}, result="output", **rest) == "x; y|$HOME|"
    assert perform("hook", {"a": 1}, kind="shell", command="cat", args=[], result="output",
                   response="json") == 1


def test_a_program_that_fails_fails_the_node(perform: Perform) -> None:
    with pytest.raises(BodyDied, match="exit code 3: no route"):
        perform("hook", kind="shell", command="echo no route >&2; exit 3")
    with pytest.raises(FileNotFoundError, match="there is no program 'nottify'"):
        perform("hook", kind="shell", command="nottify", args=["x"])
    with pytest.raises(ValueError, match="printed is not JSON"):
        perform("hook", kind="shell", command="echo x", result="output", response="json")


def test_a_server_is_told_the_input(perform: Perform, told: Any) -> None:
    url, got = told
    value = {"text": "{{ not a template }}"}
    found = perform.envelope("hook", {"default": value}, kind="http", url=url)
    assert (found.body, found.meta["status"]) == (value, 200)
    assert json.loads(got[0]["body"]) == value
    answer = perform("hook", {"n": 3}, kind="http", url=url, body={"n": "{{ n }}"}, result="output")
    assert answer == {"ok": True}
    assert perform("hook", {"n": 3}, kind="http", url=url, body="n={{ n }}") == 3
    assert [one["body"] for one in got[1:]] == ['{"n": 3}', "n=3"]


def test_a_busy_server_is_worth_another_attempt_and_secrets_stay_secret(
        perform: Perform, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, got = told
    monkeypatch.setenv("HOOK_TOKEN", "s3cret")
    with pytest.raises(ApiError, match="503") as caught:
        perform("hook", {"n": 3}, kind="http", url=f"{url}/busy", auth={"bearer": "env:HOOK_TOKEN"})
    assert caught.value.retryable
    assert "s3cret" not in str(caught.value)
    assert got[0]["headers"]["Authorization"] == "Bearer s3cret"


def test_a_function_is_called_like_that_of_a_code_job(perform: Perform, write: Write) -> None:
    write("hooks.py", "def tell(title, level):\n    return f'{level}: {title}'\n")
    rest = {"kind": "python", "call": "hooks:tell", "arguments": {"level": "info"}}
    assert perform("hook", {"title": "x"}, **rest) == "x"
    assert perform("hook", {"title": "x"}, result="output", **rest) == "info: x"
    assert perform.ports("hook", **rest).required == ("title",)
    assert "def tell" in perform.sources("hook", **rest)[0]


@pytest.mark.parametrize(("properties", "said"), [
    ({"kind": "shell"}, "needs `command`"),
    ({"kind": "shell", "command": "echo {{ x }}"}, "`command` is no template"),
    ({"kind": "shell", "command": "true", "url": "http://x"}, "`url` belongs to `kind: http`"),
    ({"kind": "shell", "command": "true", "cwd": "nowhere"}, "there is no folder 'nowhere'"),
    ({"kind": "shell", "command": "true", "env": {"A B": "1"}}, "no name of a variable"),
    ({"kind": "shell", "command": "true", "response": "bytes"}, "means nothing for `kind: shell`"),
    ({"kind": "http", "url": "x.org"}, "must begin with http"),
    ({"kind": "http", "url": "http://x.org", "auth": {"bearer": "abc"}}, "must name a secret"),
    ({"kind": "python", "call": "json:dmups"}, "dmups"),
])
def test_mistakes_are_told(perform: Perform, properties: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        perform.ports("hook", **properties)


def test_a_timeout_kills_all_that_a_program_started(tmp_path: Path) -> None:
    file = tmp_path / "slow.yaml"
    file.write_text("treadle: 1\nnodes:\n  tell:\n    type: hook\n    kind: shell\n    timeout: 0.3\n"
                    "    command: sleep 30 & echo $! > pid; echo $$ >> pid; wait\n")

    async def script() -> str:
        async with Engine.open("memory:") as engine:
            handle = await engine.start(file)
            with pytest.raises(ExecutionFailed, match="NodeTimeout"):
                await handle.result()
            return str(handle.status)

    assert asyncio.run(script()) == "failed"
    for pid in map(int, (tmp_path / "pid").read_text().split()):
        assert is_killed(pid)


def test_a_cancellation_kills_all_that_a_program_started(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "up")
    file = tmp_path / "long.yaml"
    file.write_text("treadle: 1\nnodes:\n  tell:\n    type: hook\n    kind: shell\n"
                    "    command: sleep 60 & echo $! $$ > pids; echo > up; wait\n")

    async def script() -> str:
        async with Engine.open("memory:") as engine:
            handle = await engine.start(file)
            await asyncio.to_thread((tmp_path / "up").read_bytes)  # both run from here on
            await handle.cancel()
            return str(await handle.wait())

    assert asyncio.run(script()) == "cancelled"
    pids = list(map(int, (tmp_path / "pids").read_text().split()))
    assert len(pids) == 2 and all(is_killed(pid) for pid in pids)


def test_every_item_of_a_map_is_told(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text("def tell(item, context):\n    return f'{context.index}: {item}'\n")
    line = "command: 'printf \"%s %s \" \"$INPUT_item\" \"$INPUT_index\"; cat'"
    shell, python, text, program = asyncio.run(run(tmp_path, f"""
        treadle: 1
        nodes:
          begin: {{type: start, custom_data: {{who: [Ann, Bob]}}}}
          shell: {{type: hook, kind: shell, {line}, result: output, for_each: begin.who, needs: begin}}
          python: {{type: hook, kind: python, call: "hooks:tell", for_each: begin.who, needs: begin}}
          text: {{type: hook, kind: python, call: "hooks:tell", for_each: begin.who, needs: begin,
                 result: output}}
          program: {{type: hook, kind: shell, command: test, args: ["{{{{ item }}}}", =, Ann],
                    for_each: begin.who, on_item_error: collect, needs: begin}}
          done: {{type: endpoint, needs: [shell, python, text, program]}}
        """))
    assert shell == ['Ann 0 "Ann"', 'Bob 1 "Bob"']
    assert (python, text) == (["Ann", "Bob"], ["0: Ann", "1: Bob"])
    assert program[0] == "Ann" and "exit code 1" in program[1].message


def test_a_program_gets_large_inputs_and_blobs(perform: Perform, tmp_path: Path) -> None:
    large = {"kind": "shell", "result": "output"}
    line = "sha256sum - $INPUT_default_FILE | cut -c -8 | uniq -c | wc -l; wc -c < $INPUT_default_FILE"
    assert perform("hook", {"default": "x" * 300_000}, command=line, **large) == "2\n300000"  # stdin is JSON
    blob = Place(tmp_path / "blobs").put(b"x" * 300_000, "x.bin")
    assert perform("hook", {"default": blob}, command=line, **large) == "1\n300000"
    assert perform("hook", {"default": blob}, command='echo "$INPUT_default"', **large) == str(blob.path())
    with pytest.raises(ValueError, match=r'write "\$INPUT_default_FILE"'):
        perform("hook", {"default": "x" * 300_000}, command='echo "$INPUT_default"', **large)
    with pytest.raises(ValueError, match="let it read large values from stdin"):
        perform("hook", {"a": "x" * 300_000}, command="echo", args=["{{ a }}"], **large)


async def run(folder: Path, text: str) -> Any:
    file = folder / "d.yaml"
    file.write_text(textwrap.dedent(text))
    async with Engine.open("memory:") as engine:
        return await (await engine.start(file)).result()


def is_killed(pid: int) -> bool:
    """Whether a process ends at once. The signal takes a moment; a dead one may wait to be reaped."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.002)
    return False
