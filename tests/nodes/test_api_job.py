"""Calls to a real server on this host."""

from __future__ import annotations

import asyncio
import email
import hashlib
import inspect
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from treadle.diagram.check import check
from treadle.diagram.formats import loads
from treadle.diagram.policy import Policy
from treadle.engine.engine import Engine
from treadle.errors import ExecutionFailed, ExpressionError
from treadle.nodes.api_job import ApiJob
from treadle.nodes.http import ApiError
from treadle.nodes.registry import default_registry
from treadle.state.blob import Place
from treadle.state.status import ExecutionStatus

Perform = Any


class Server:
    """Answers in turn; the last answer stays. `got` has every request."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.got: list[dict[str, Any]] = []
        self.done, self.asked = threading.Event(), threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                split = urlsplit(self.path)
                server.got.append({"method": self.command, "path": split.path, "query": parse_qs(split.query),
                                   "headers": {k.lower(): v for k, v in self.headers.items()}, "body": body})
                status, headers, content = (
                    server.answers.pop(0) if len(server.answers) > 1 else server.answers[0])
                if status == 0:  # hang up
                    self.close_connection = True
                    return
                if status == 1:  # say nothing
                    server.asked.set()
                    server.done.wait(30)
                    return
                broken = status == 2  # hang up in the middle
                self.send_response(200 if broken else status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if content == b"endless":
                    self.end_headers()
                    try:
                        while not server.done.is_set():
                            self.wfile.write(b"x" * 65536)
                    except OSError:
                        return
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content[:len(content) // 2] if broken else content)
                self.close_connection = self.close_connection or broken

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = answer

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def says(self, body: Any = None, status: int = 200, **headers: str) -> None:
        kind = {} if isinstance(body, bytes) else {"Content-Type": "application/json"}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append((status, kind | {k.replace("_", "-"): v for k, v in headers.items()}, content))


def served() -> Iterator[Server]:
    server = Server()
    yield server
    server.done.set()
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    yield from served()


other = pytest.fixture(served, name="other")


def faults(node: str) -> str:
    spec = loads(f"treadle: 1\nnodes:\n  a: {{type: api_job, {node}}}")
    return "\n".join(map(str, check(spec, default_registry()).errors))


def run(tmp_path: Path, text: str, **inputs: Any) -> Any:
    async def main() -> Any:
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db") as engine:
            return await (await engine.start(loads(textwrap.dedent(text)), **inputs)).result()
    return asyncio.run(main())


def test_a_call_fills_in_its_templates(perform: Perform, server: Server) -> None:
    server.says({"ok": True}, Set_Cookie="a=b", X_Id="7")
    found = perform.envelope("api_job", {"n": 3, "tags": ["a", "b"]}, url=server.url + "/x/{{ n }}?a=1",
                             params={"n": "{{ n }}", "t": "{{ tags }}", "no": "{{ none }}"},
                             headers={"X-N": "is {{ n }}"})
    assert found.body == {"ok": True}
    assert server.got[0]["path"] == "/x/3"
    assert server.got[0]["query"] == {"a": ["1"], "n": ["3"], "t": ["a", "b"]}
    assert server.got[0]["headers"]["x-n"] == "is 3"
    assert found.meta["status"] == 200 and found.meta["headers"]["x-id"] == "7"
    assert found.meta["url"].startswith(server.url) and found.meta["elapsed_s"] >= 0
    assert "set-cookie" not in found.meta["headers"]


def test_each_kind_of_body(perform: Perform, server: Server, tmp_path: Path) -> None:
    server.says()
    (tmp_path / "f.txt").write_text("content")
    post = {"url": server.url, "method": "POST"}
    perform("api_job", {"n": 3}, json={"a": ["{{ n }}", "n {{ n }}", {"b": None}]}, **post)
    perform("api_job", {"n": 3}, form={"a": "{{ n }}"}, **post)
    perform("api_job", {"n": 3}, text="n={{ n }}", **post)
    perform("api_job", files={"up": "f.txt"}, **post)
    as_json, form, text, files = server.got
    assert json.loads(as_json["body"]) == {"a": [3, "n 3", {"b": None}]}
    assert (form["body"], text["body"]) == (b"a=3", b"n=3")
    assert b"content" in files["body"] and b'name="up"' in files["body"]
    assert files["headers"]["content-type"].startswith("multipart/form-data")
    with pytest.raises(ApiError, match="outside"):
        perform("api_job", files={"up": "../f.txt"}, **post)


def test_a_form_and_files_and_blobs_go_together(perform: Perform, server: Server, tmp_path: Path) -> None:
    server.says()
    (tmp_path / "f.txt").write_text("content")
    blob = Place(tmp_path / "blobs").put(b"in the blob", "b.bin")
    perform("api_job", {"n": 3, "b": blob}, url=server.url, method="POST",
            form={"n": "{{ n }}", "t": ["x", "y"]}, files={"up": "f.txt", "more": "{{ b }}"})
    sent = email.message_from_bytes(b"Content-Type: " + server.got[0]["headers"]["content-type"].encode()
                                    + b"\r\n\r\n" + server.got[0]["body"])
    parts = [(part.get_param("name", header="Content-Disposition"), part.get_filename(),
              part.get_payload(decode=True)) for part in sent.walk() if not part.is_multipart()]
    assert parts == [("n", None, b"3"), ("t", None, b"x"), ("t", None, b"y"), ("up", "f.txt", b"content"),
                     ("more", "b.bin", b"in the blob")]


def test_a_body_of_any_size_is_sent_as_it_is(perform: Perform, server: Server, tmp_path: Path) -> None:
    server.says()
    large = b"x" * 3_000_000
    put = {"url": server.url, "method": "PUT", "content": "{{ b }}"}
    perform("api_job", {"b": Place(tmp_path / "blobs").put(large)}, **put)
    perform("api_job", {"b": b"\0\xff"}, headers={"Content-Type": "image/png"}, **put)
    assert [one["body"] for one in server.got] == [large, b"\0\xff"]
    assert server.got[0]["headers"]["content-length"] == "3000000"
    assert [one["headers"]["content-type"] for one in server.got] == ["application/octet-stream", "image/png"]
    with pytest.raises(ApiError, match="gave a dict, not a blob or bytes: use `text` or `json`"):
        perform("api_job", {"b": {}}, **put)


def test_an_error_arrow_knows_the_status_and_the_body(
        tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "s3cr/t")
    server.says({"why": "taken", "you": "s3cr/t"}, 422)
    found = run(tmp_path, """
        treadle: 1
        inputs: {url: {type: string}}
        nodes:
          a: {type: api_job, url: "{{ inputs.url }}", auth: {bearer: env:S}}
          gone: {type: condition, when: "a.details.status in (404, 410)"}
          told: {type: template_job, text: "{{ (a.details.body | fromjson).why }}", needs: gone.false}
          end: {type: endpoint, needs: [told]}
        arrows: [a.error -> gone, a.error -> told.a, a.error -> end.error]
        """, url=server.url)
    assert found["default"] == "taken"
    assert found["error"]["details"] == {"status": 422, "body": '{"why": "taken", "you": "***"}'}


@pytest.mark.parametrize(("auth", "header", "value"), [
    ({"bearer": "env:S"}, "authorization", "Bearer s3cr/t"),
    ({"bearer": "secret://S"}, "authorization", "Bearer s3cr/t"),
    ({"basic": {"user": "secret://S", "password": "env:S"}}, "authorization", "Basic czNjci90OnMzY3IvdA=="),
    ({"basic": {"user": "env:S", "password": "secret://S"}}, "authorization", "Basic czNjci90OnMzY3IvdA=="),
    ({"basic": {"user": "u", "password": "env:S"}}, "authorization", "Basic dTpzM2NyL3Q="),
    ({"api_key": "env:S", "header": "X-K", "prefix": "T "}, "x-k", "T s3cr/t")])
def test_secrets_are_sent_but_never_told_and_stay_at_home(
        perform: Perform, server: Server, other: Server, monkeypatch: pytest.MonkeyPatch,
        auth: dict[str, Any], header: str, value: str) -> None:
    monkeypatch.setenv("S", "s3cr/t")
    server.says(b"bad " + value.encode(), 400)
    with pytest.raises(ApiError) as failed:
        perform("api_job", url=server.url + "?token=abc&q=s3cr/t", auth=auth)
    assert server.got[0]["headers"][header] == value
    said = str(failed.value)
    assert "s3cr" not in said and "abc" not in said and value.split()[-1] not in said and "400" in said
    server.answers = []
    server.says(status=302, Location=other.url)
    other.says(1)
    assert perform("api_job", url=server.url, auth=auth) == 1
    assert header not in other.got[0]["headers"]


def test_a_key_in_the_query_is_not_told(perform: Perform, server: Server,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "s3cr/t")
    server.says(1)
    found = perform.envelope("api_job", url=server.url, auth={"api_key": "env:S", "query": "k"})
    assert server.got[0]["query"] == {"k": ["s3cr/t"]} and "s3cr" not in str(found.meta)
    monkeypatch.delenv("S")
    with pytest.raises(ApiError, match="'S' is not set") as failed:
        perform("api_job", url=server.url, auth={"bearer": "env:S"})
    assert not failed.value.retryable


@pytest.mark.parametrize(("status", "retryable"), [
    (408, True), (425, True), (429, True), (500, True), (503, True), (400, False), (404, False),
    (304, False)])
def test_which_statuses_are_retryable(perform: Perform, server: Server, status: int, retryable: bool) -> None:
    server.says(b"" if status == 304 else b"w" * 300, status, Retry_After="7")
    with pytest.raises(ApiError, match=f"GET {server.url}.*{status}") as failed:
        perform("api_job", url=server.url)
    assert (failed.value.retryable, failed.value.retry_after) == (retryable, 7.0)
    assert str(failed.value).count("w") <= 202


def test_retry_after_may_be_a_date(perform: Perform, server: Server) -> None:
    server.says(b"", 503, Retry_After=formatdate(1030, usegmt=True))  # the context's clock says 1000
    with pytest.raises(ApiError) as failed:
        perform("api_job", url=server.url)
    assert failed.value.retry_after == 30.0


def test_errors_of_the_connection_and_timeouts_are_retryable(perform: Perform, server: Server) -> None:
    server.answers = [(0, {}, b""), (1, {}, b"")]
    for kind in ("RemoteProtocolError", "ReadTimeout"):
        with pytest.raises(ApiError, match=kind) as failed:
            perform("api_job", url=server.url, policy=Policy(timeout=0.2))
        assert failed.value.retryable


def test_the_engine_tries_again_with_the_same_key(tmp_path: Path, server: Server) -> None:
    server.says(b"", 503, Retry_After="0")
    server.says({"n": 1})
    text = """
        treadle: 1
        inputs: {url: {type: string}}
        nodes:
          a: {type: api_job, url: "{{ inputs.url }}", method: POST, json: {}, retries: 2,
              backoff: {initial: 0.01}}
        """
    assert run(tmp_path, text, url=server.url) == {"n": 1}
    first, second = (one["headers"]["idempotency-key"] for one in server.got)
    assert first == second
    server.answers, server.got = [], []
    server.says(b"", 404)
    with pytest.raises(ExecutionFailed, match="404"):
        run(tmp_path, text, url=server.url)
    assert len(server.got) == 1


def test_the_idempotency_key_can_be_said_or_left_out(perform: Perform, server: Server) -> None:
    server.says()
    perform("api_job", url=server.url, method="POST", headers={"idempotency-key": "mine"})
    perform("api_job", url=server.url, method="POST", idempotency=False)
    perform("api_job", url=server.url)
    assert [one["headers"].get("idempotency-key") for one in server.got] == ["mine", None, None]


def test_nobody_may_call(perform: Perform, server: Server) -> None:
    server.says(1)
    assert perform("api_job", url=server.url, auth="none") == 1
    assert "authorization" not in server.got[0]["headers"]


def test_expected_statuses_and_redirects(perform: Perform, server: Server) -> None:
    server.says({"no": 1}, 404)
    assert perform("api_job", url=server.url, expect=["2xx", 404]) == {"no": 1}
    server.answers = []
    server.says(b"", 302, Location="/there")
    assert perform.envelope("api_job", url=server.url, expect="3xx",
                            follow_redirects=False).meta["status"] == 302
    server.says(2)
    assert perform("api_job", url=server.url) == 2


@pytest.mark.parametrize(("kind", "response", "value"), [
    ("application/problem+json", "auto", [1]), ("text/plain", "auto", "[1]"), ("image/png", "auto", b"[1]"),
    ("image/png", "json", [1]), ("application/json", "text", "[1]"), ("text/plain", "bytes", b"[1]")])
def test_how_answers_are_decoded(perform: Perform, server: Server, kind: str, response: str,
                                 value: Any) -> None:
    server.says(b"[1]", Content_Type=kind)
    assert perform("api_job", url=server.url, response=response) == value


def test_what_is_no_json_or_too_large(perform: Perform, server: Server) -> None:
    server.says(b"{oops")
    with pytest.raises(ApiError, match=r"not JSON.*oops"):
        perform("api_job", url=server.url, response="json")
    server.answers = [(200, {}, b"endless")]
    with pytest.raises(ApiError, match="response_bytes_max"):
        perform("api_job", url=server.url, response_bytes_max=100_000)


FETCHED = '''
import asyncio, resource, sys
from treadle import Engine
async def main():
    async with Engine.open("sqlite:///t.db") as engine:
        for path in ("/small", "/big%20one.bin?x=1"):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            blob = await (await engine.start("fetch.yaml", url=sys.argv[1] + path)).result()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, blob.size, blob.digest, blob.name)
asyncio.run(main())
'''


def test_an_answer_of_any_size_becomes_a_blob(server: Server, tmp_path: Path) -> None:
    (tmp_path / "fetch.yaml").write_text(
        "treadle: 1\ninputs: {url: {type: string}}\n"
        "nodes: {a: {type: api_job, url: '{{ inputs.url }}', response: blob}}\n")
    content = b"".join(bytes([number]) * 1_000_000 for number in range(50))
    server.says(b"small")
    server.says(content, Content_Type="text/plain")
    done = subprocess.run([sys.executable, "-c", FETCHED, server.url], cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    more, *told = done.stdout.split(maxsplit=3)
    assert told == ["50000000", hashlib.sha256(content).hexdigest(), "big one.bin\n"]
    assert int(more) / (1024 if sys.platform == "darwin" else 1) < 20_000  # KB


def test_a_blob_has_meta_and_may_be_empty(perform: Perform, server: Server) -> None:
    server.says(b"")
    found = perform.envelope("api_job", url=server.url, response="blob")
    assert (found.body.read(), found.body.name, found.content_type) == (b"", "", "binary")
    assert found.meta["status"] == 200


def test_a_blob_that_fails_leaves_nothing(perform: Perform, server: Server, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "s3cr/t")
    server.says(b"no s3cr/t", 503, Retry_After="7")
    with pytest.raises(ApiError, match="status 503") as failed:
        perform("api_job", url=server.url, response="blob", auth={"bearer": "env:S"})
    assert (failed.value.retryable, failed.value.retry_after) == (True, 7.0)
    assert "s3cr" not in str(failed.value)
    server.answers = [(200, {}, b"endless")]
    with pytest.raises(ApiError, match="more than 3000000 bytes: raise `blob_bytes_max`"):
        perform("api_job", url=server.url, response="blob", blob_bytes_max=3_000_000)
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    server.answers = [(2, {}, b"x" * 3_000_000)]
    with pytest.raises(ApiError, match="RemoteProtocolError") as failed:
        perform("api_job", url=server.url, response="blob")
    assert failed.value.retryable
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


def test_a_blob_is_fetched_again_by_the_engine(tmp_path: Path, server: Server) -> None:
    server.answers = [(2, {}, b"x" * 3_000_000)]
    server.says(b"y" * 3_000_000)
    blob = run(tmp_path, """
        treadle: 1
        inputs: {url: {type: string}}
        nodes:
          a: {type: api_job, url: "{{ inputs.url }}", response: blob, retries: 1, backoff: {initial: 0.01}}
        """, url=server.url)
    assert blob.size == 3_000_000 and len(server.got) == 2
    path = tmp_path / "runs.db.blobs" / blob.digest[:2] / blob.digest
    assert path.read_bytes() == b"y" * 3_000_000


def test_pages_are_joined(perform: Perform, server: Server) -> None:
    server.says({"rows": [1, 2], "next": "/p2"})
    server.says({"rows": [3], "next": {"page": 3}})
    server.says({"rows": [4], "next": None})
    paginate = {"next": "body.next", "items": "body.rows"}
    found = perform.envelope("api_job", url=server.url + "/p1", params={"q": "x"}, paginate=paginate)
    assert found.body == [1, 2, 3, 4] and found.meta["pages"] == 3
    assert [(one["path"], one["query"]) for one in server.got] == [
        ("/p1", {"q": ["x"]}), ("/p2", {}), ("/p1", {"q": ["x"], "page": ["3"]})]
    server.answers = []
    server.says({"rows": [1], "next": "/again"})
    with pytest.raises(ApiError, match="there before"):
        perform("api_job", url=server.url, paginate=paginate)
    with pytest.raises(ApiError, match="more than 1 pages"):
        perform("api_job", url=server.url, paginate={**paginate, "pages_max": 1})
    with pytest.raises(ExpressionError, match="nope"):
        perform("api_job", url=server.url, paginate={"next": "body.nope", "items": "body.rows"})


def test_pages_may_follow_the_link_header(perform: Perform, server: Server) -> None:
    server.says([1], Link='</p2>; rel="next"')
    server.says([2])
    assert perform("api_job", url=server.url, paginate={"next": "links.get('next')"}) == [1, 2]


def test_a_post_for_another_page_has_another_key(perform: Perform, server: Server) -> None:
    server.says({"next": {"page": 2}})
    server.says({"next": None})
    perform("api_job", url=server.url, method="POST", paginate={"next": "body.next", "items": "[]"})
    first, second = (one["headers"]["idempotency-key"] for one in server.got)
    assert first != second


def test_a_call_can_be_cancelled(tmp_path: Path, server: Server) -> None:
    server.answers = [(1, {}, b"")]
    spec = loads(f"treadle: 1\nnodes: {{a: {{type: api_job, url: '{server.url}'}}}}")

    async def main() -> ExecutionStatus:
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db") as engine:
            handle = await engine.start(spec)
            assert await asyncio.to_thread(server.asked.wait, 20)
            await handle.cancel()
            return await asyncio.wait_for(handle.wait(), 20)

    assert asyncio.run(main()) is ExecutionStatus.CANCELLED


@pytest.mark.parametrize(("node", "message"), [
    ("url: 'http://h', json: 1, text: a", "one body at most"), ("url: 'http://h', method: GTE", "method"),
    ("url: 'ftp://h'", "http://"), ("url: 'http://u:p@h'", "use `auth"),
    ("url: 'http://h', auth: {bearer: hunter2}", "env:NAME"), ("url: 'http://h', auth: hunter2", "auth"),
    ("url: 'http://h', files: {a: b}, json: 1", "one body at most"),
    ("url: 'http://h', content: a.bin", "takes one expression"),
    ("url: 'http://h', auth: {}", "needs one of"),
    ("url: 'http://h', headers: {Authorization: x}", "use `auth`"),
    ("url: 'http://h', expect: 7xx", "no status"), ("url: 'http://h/{{ nope }}'", "unknown name 'nope'"),
    ("url: 'http://h', json: {a: [{b: '{{ nope }}'}]}", "unknown name 'nope'"),
    ("url: 'http://h', params: {a: '{{ nope }}'}", "unknown name 'nope'"),
    ("url: 'http://h', json: [[['{{ a b }}']]]", "template"),
    ("url: 'http://h', blob_bytes_max: 5", "is for `response: blob`"),
    ("url: 'http://h', response: blob, blob_bytes_max: 0", "at least 1"),
    ("url: 'http://h', response: blob, paginate: {next: body}", "leave one out"),
    ("url: 'http://h', paginate: {next: nope}", "unknown name 'nope'"),
    ("url: 'http://h', paginate: {items: body}", "'next' is missing")])
def test_what_check_refuses(node: str, message: str) -> None:
    said = faults(node)
    assert message in said and "hunter2" not in said


def test_without_httpx_it_says_how_to_get_it(perform: Perform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ApiError, match=r"pip install treadle\[http\]"):
        perform("api_job", url="http://h")


def test_the_documented_example_runs(tmp_path: Path, server: Server) -> None:
    server.says([{"title": "t"}])
    text = inspect.cleandoc(ApiJob.__doc__ or "").split("```yaml\n")[1].split("```")[0]
    assert run(tmp_path, text, server=server.url) == [{"title": "t"}]
    assert server.got[0]["query"] == {"labels": ["bug"], "per_page": ["50"]}
