"""Headers and parameters that are secrets: sent to the host of `url`, and told to nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from treadle.nodes.http import ApiError

Perform = Any
CALL = {"headers": {"X-Token": "secret://S", "Authorization": "secret://KEY", "X-Plain": "env:S"},
        "params": {"k": "secret://S", "q": "env:S", "n": 1}}


class Server:
    """Answers by the path; `/away` leads to the same server under another name, `/bad` says what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], dict[str, list[str]]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                split = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.got.append((split.path, headers, parse_qs(split.query)))
                self.send_response({"/away": 302, "/bad": 400}.get(split.path, 200))
                self.send_header("Content-Type", "application/json")
                self.send_header("Location", server.url.replace("127.0.0.1", "localhost") + "/there")
                self.end_headers()
                said = f"{self.path} {headers.get('x-token')} {headers.get('authorization')}"
                self.wfile.write(said.encode() if split.path == "/bad" else b'{"next": "/more"}')

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture(name="server")
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("S", "s3cr/t")
    monkeypatch.setenv("KEY", "Bearer k3y")
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def test_they_are_sent_and_not_kept(perform: Perform, server: Server) -> None:
    found = perform.envelope("api_job", url=server.url, **CALL)
    [(_, headers, query)] = server.got
    assert [headers[name] for name in ("x-token", "authorization", "x-plain")] == [
        "s3cr/t", "Bearer k3y", "env:S"]  # env:NAME is any text there
    assert query == {"k": ["s3cr/t"], "q": ["env:S"], "n": ["1"]}
    assert "s3cr" not in str(found.meta) and "k3y" not in str(found.meta)


def test_they_are_sent_with_every_page(perform: Perform, server: Server) -> None:
    pages = {"next": "body.next if page == 1 else none", "items": "[page]"}
    assert perform("api_job", url=server.url, paginate=pages, **CALL) == [1, 2]
    assert [(path, headers["x-token"], query["k"]) for path, headers, query in server.got] == [
        ("/", "s3cr/t", ["s3cr/t"]), ("/more", "s3cr/t", ["s3cr/t"])]


def test_they_stay_at_home_and_out_of_errors(perform: Perform, server: Server) -> None:
    perform("hook", kind="http", url=server.url + "/away", method="GET", **CALL)
    (_, headers, _), (path, others, query) = server.got
    assert headers["x-token"] == "s3cr/t"
    assert path == "/there" and "k" not in query and not {"x-token", "authorization"} & others.keys()
    with pytest.raises(ApiError) as failed:
        perform("api_job", url=server.url + "/bad", **CALL)
    assert "s3cr" not in str(failed.value) and "k3y" not in str(failed.value) and "400" in str(failed.value)


def test_one_that_is_missing_or_unfit_is_named(perform: Perform, server: Server,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "two\nlines")
    with pytest.raises(ApiError, match=r"`headers.X-Token`: the secret secret://S has a line break"):
        perform("api_job", url=server.url, **CALL)
    monkeypatch.delenv("S")
    with pytest.raises(ApiError, match=r"`headers.X-Token`: secret 'S': .* 'S' is not set"):
        perform("api_job", url=server.url, **CALL)
    assert server.got == []
