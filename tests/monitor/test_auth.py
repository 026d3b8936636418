"""Who is let in, and what is refused: asked of the real server by HTTP, by WebSocket and by hand."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from treadle.monitor import auth, serving
from treadle.monitor.auth import Rate
from treadle.monitor.settings import Settings

READ = "read-token-of-the-tests"
WRITE = "write-token-of-the-tests"


@pytest.fixture
def browser(site: Any) -> Iterator[httpx.Client]:
    """Somebody who came by the link."""
    with site.client(None) as client:
        welcome = client.get("/", params={"token": WRITE})
        assert welcome.status_code == 303
        yield client


def said(answer: httpx.Response) -> str:
    kind: str = answer.json()["error"]["type"]
    return kind


def raw(site: Any, request: str) -> str:
    """The answer to a request as it was typed."""
    with socket.create_connection(("127.0.0.1", site.served.port), timeout=10) as line:
        line.sendall(request.replace("\n", "\r\n").encode())
        return b"".join(iter(lambda: line.recv(65536), b"")).decode("latin-1")


def test_without_a_token_nothing_is_told(site: Any) -> None:
    with site.client(None) as nobody:
        for path in ("executions", "stats", "diagrams", "plugins", "diff?a=1&b=2", "executions/x/output"):
            answer = nobody.get(f"/api/{path}")
            assert (answer.status_code, said(answer)) == (401, "NoToken"), path
            assert answer.headers["www-authenticate"] == "Bearer"
        assert nobody.post("/api/executions", json={}).status_code == 401
        assert nobody.delete("/api/executions/x").status_code == 401
        assert nobody.get("/healthz").status_code == nobody.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer wrong",
        f"Basic {WRITE}",
        WRITE,
        f"Bearer {WRITE}x",
        f"Bearer {WRITE[:-1]}",
        "Bearer é",
        "Bearer " + "x" * 5000,
    ],
)
def test_a_wrong_token_is_refused(site: Any, header: str) -> None:
    with site.client(None) as client:
        answer = client.get("/api/executions", headers={"authorization": header.encode("utf-8")})
    assert (answer.status_code, said(answer)) == (401, "WrongToken")
    assert WRITE not in answer.text


def test_the_token_for_reading_only_reads(site: Any, worked: str) -> None:
    with site.client(READ) as reader:
        assert reader.get(f"/api/executions/{worked}").status_code == 200
        assert reader.get("/api/stats").json()["may_write"] is False
        for method, path in (
            ("POST", "executions"),
            ("POST", f"executions/{worked}/cancel"),
            ("POST", f"executions/{worked}/resume"),
            ("POST", f"executions/{worked}/fork"),
            ("POST", f"executions/{worked}/answer"),
            ("POST", f"executions/{worked}/signal"),
            ("DELETE", f"executions/{worked}"),
            ("POST", "prune"),
        ):
            answer = reader.request(method, f"/api/{path}", json={})
            assert (answer.status_code, said(answer)) == (403, "ReadOnly"), path
        # It may check the files that the server was given, and not have texts of its own read.
        assert reader.post("/api/check", json={"file": site.file("work")}).status_code == 200
        assert reader.post("/api/check", json={"source": "x"}).status_code == 403


def test_the_link_gives_a_cookie_and_leaves_no_token(site: Any) -> None:
    with site.client(None) as client:
        answer = client.get("/executions/abc", params={"token": READ, "tab": "graph"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/executions/abc?tab=graph")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"treadle_{site.served.port}=")
        assert READ not in cookie
        assert "; HttpOnly" in cookie and "; SameSite=Strict" in cookie and "; Path=/" in cookie
        assert "Secure" not in cookie  # this is http
        assert client.get("/api/stats").status_code == 200
        wrong = client.get("/", params={"token": "wrong"})
        assert (wrong.status_code, wrong.headers["location"]) == (303, "/")
        assert "set-cookie" not in wrong.headers


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "///evil.example/x", "/%0d%0aset-cookie:a=b"]
)
def test_the_link_leads_nowhere_else(site: Any, path: str) -> None:
    answer = raw(
        site, f"GET {path}?token={READ} HTTP/1.1\nHost: localhost:{site.served.port}\nConnection: close\n\n"
    )
    location = next(line for line in answer.splitlines() if line.lower().startswith("location: "))[10:]
    assert location.startswith("/") and location[1:2] not in ("/", "\\")
    assert "a=b" not in [line for line in answer.splitlines() if line.startswith("set-cookie")]


def test_a_cookie_that_is_not_ours_is_none(site: Any) -> None:
    for value in ("", "x", READ, "é".encode().decode("latin-1"), '"' + "a" * 64 + '"'):
        answer = raw(
            site,
            f"GET /api/stats HTTP/1.1\nHost: localhost:{site.served.port}\n"
            f"Cookie: treadle_{site.served.port}={value}\nConnection: close\n\n",
        )
        assert answer.startswith("HTTP/1.1 401"), value


def test_a_write_by_cookie_comes_from_our_own_page(site: Any, browser: httpx.Client) -> None:
    ours = {"origin": site.served.url, "x-treadle": "1"}
    assert browser.post("/api/prune", json={"keep": 99}, headers=ours).status_code == 200
    for headers in (
        {},
        {"x-treadle": "1"},
        {"origin": site.served.url},
        {**ours, "origin": "https://evil.example"},
        {**ours, "origin": "null"},
        {**ours, "origin": site.served.url.replace("http:", "https:")},
        {**ours, "origin": f"http://localhost:{site.served.port}"},
        {**ours, "origin": f"http://127.0.0.1:{site.served.port + 1}"},
        {**ours, "origin": f"{site.served.url}.evil.example"},
    ):
        answer = browser.post("/api/prune", json={"keep": 99}, headers=headers)
        assert (answer.status_code, said(answer)) == (403, "CrossSite"), headers
    assert browser.delete("/api/executions/x", headers={"origin": "https://evil.example"}).status_code == 403


def test_a_page_of_another_server_may_not_even_ask(site: Any, browser: httpx.Client) -> None:
    """One at another port of this machine, say: to browsers that is the same site, and the cookie comes."""
    for said_site, status in (("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)):
        assert browser.get("/api/stats", headers={"sec-fetch-site": said_site}).status_code == status


def test_no_other_site_is_told_that_it_may(site: Any, browser: httpx.Client) -> None:
    """No CORS: a preflight gets no leave, and an answer can't be read elsewhere."""
    asked = browser.options(
        "/api/executions", headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
    )
    assert asked.status_code >= 400
    answer = browser.get("/api/stats", headers={"origin": "https://evil.example"})
    for one in (asked, answer):
        assert not [name for name in one.headers if name.startswith("access-control-")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost.evil.example:{port}",
        "127.0.0.1.nip.example",
        "10.0.0.1:{port}",
        "",
        "[::2]:{port}",
        "127.0.0.1@evil",
    ],
)
def test_a_foreign_name_is_refused(site: Any, host: str) -> None:
    """A name that somebody bent to this address (DNS rebinding), even with the right token."""
    for path in ("/", "/api/stats", f"/?token={WRITE}", "/assets/x.js"):
        answer = raw(
            site,
            f"GET {path} HTTP/1.1\nHost: {host.format(port=site.served.port)}\n"
            f"Authorization: Bearer {WRITE}\nConnection: close\n\n",
        )
        assert answer.startswith(("HTTP/1.1 403", "HTTP/1.1 400")), answer
        assert "set-cookie" not in answer


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}"]
)
def test_our_own_names_are_known(site: Any, host: str) -> None:
    answer = raw(
        site,
        f"GET /api/stats HTTP/1.1\nHost: {host.format(port=site.served.port)}\n"
        f"Authorization: Bearer {WRITE}\nConnection: close\n\n",
    )
    assert answer.startswith("HTTP/1.1 200"), answer


def test_doubled_headers_are_refused(site: Any) -> None:
    for extra in (
        f"Host: localhost:{site.served.port}",
        f"Authorization: Bearer {READ}",
        "Origin: http://a\nOrigin: b",
    ):
        answer = raw(
            site,
            f"GET /api/stats HTTP/1.1\nHost: localhost:{site.served.port}\n"
            f"Authorization: Bearer {WRITE}\n{extra}\nConnection: close\n\n",
        )
        assert answer.startswith("HTTP/1.1 400"), answer


def refused_socket(site: Any, path: str = "/api/live", **headers: str) -> int:
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(f"ws://127.0.0.1:{site.served.port}{path}", additional_headers=headers),
    ):
        pass
    return int(caught.value.response.status_code)


def test_sockets_need_a_token_and_our_own_page(
    site: Any, browser: httpx.Client, worked: str, caplog: pytest.LogCaptureFixture
) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    assert refused_socket(site) == 401
    assert refused_socket(site, Authorization="Bearer wrong") == 401
    assert refused_socket(site, Cookie=cookie) == 403  # a browser always says the Origin
    assert refused_socket(site, Cookie=cookie, Origin="https://evil.example") == 403
    assert refused_socket(site, f"/api/executions/{worked}/live", Cookie=cookie, Origin="null") == 403
    assert refused_socket(site, Authorization=f"Bearer {READ}", Origin="https://evil.example") == 403
    assert refused_socket(site, f"/api/live?token={WRITE}", Origin=site.served.url) == 401
    url = f"ws://127.0.0.1:{site.served.port}/api/executions/{worked}/live"
    for headers in ({"Cookie": cookie, "Origin": site.served.url}, {"Authorization": f"Bearer {READ}"}):
        with connect(url, additional_headers=headers) as viewer:
            assert '"snapshot"' in str(viewer.recv(timeout=10))
    assert [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")] == []


def test_bodies_have_a_limit(site: Any) -> None:
    with site.client() as client:
        large = client.post("/api/executions", content=b"x" * (11 * 1024 * 1024 + 1))
        assert (large.status_code, said(large)) == (413, "TooLarge")

        def pieces() -> Iterator[bytes]:  # without a length beforehand
            for _ in range(180):
                yield b'"' + b"x" * 65536

        try:
            streamed = client.post(
                "/api/executions", content=pieces(), headers={"content-type": "application/json"}
            )
            assert streamed.status_code == 413
        except httpx.TransportError:
            pass  # it was cut off in the middle, since it would not end
        assert client.get("/api/stats").status_code == 200
    answer = raw(
        site,
        f"POST /api/prune HTTP/1.1\nHost: localhost:{site.served.port}\nContent-Length: -5\n"
        f"Authorization: Bearer {WRITE}\nConnection: close\n\n",
    )
    assert answer.startswith("HTTP/1.1 4")


def test_a_name_that_was_allowed_may_have_tls_in_front(site: Any, tmp_path: Path) -> None:
    """A proxy that speaks https for us: the page is then of `https://NAME`, and of no other address."""
    with type(site)(tmp_path, settings={"names": ("runs.example",)}) as proxied, proxied.client() as client:
        for host, origin, status in (
            ("runs.example", "https://runs.example", 200),
            ("runs.example", "http://runs.example", 200),
            ("runs.example", "https://evil.example", 403),
            ("localhost", "https://localhost", 403),
            ("other.example", "https://other.example", 403),
        ):
            answer = client.post("/api/prune", json={"keep": 99}, headers={"host": host, "origin": origin})
            assert answer.status_code == status, (host, origin)


def test_too_many_requests_are_put_off(site: Any, tmp_path: Path) -> None:
    settings = {"requests_per_s": 0.5, "burst": 5, "refused_per_minute": 3}
    with type(site)(tmp_path, settings=settings) as strict, strict.client(None) as client:
        codes = [
            client.get("/api/stats", headers={"authorization": "Bearer wrong"}).status_code for _ in range(5)
        ]
        assert codes == [401, 401, 401, 429, 429]
        assert client.get("/").status_code == 429
        right = {"authorization": f"Bearer {WRITE}"}  # who has it is not counted with those who haven't
        foreign = client.get("/api/stats", headers={**right, "sec-fetch-site": "cross-site"})
        assert foreign.status_code == 429
        assert client.get("/", params={"token": WRITE}).status_code == 303
        assert client.get("/").status_code == 200  # by cookie
        answers = [client.get("/api/stats", headers=right) for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        late = answers[-1]
        assert said(late) == "TooManyRequests"
        assert int(late.headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200


def test_who_sends_nothing_is_not_waited_for(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HEAD_S_MAX", 0.3)
    monkeypatch.setattr(serving, "WAITING_MAX", 3)
    with type(site)(tmp_path) as server, server.client() as client:
        assert client.get("/api/stats").status_code == 200
        address = ("127.0.0.1", server.served.port)
        url = f"ws://127.0.0.1:{server.served.port}/api/live"
        with connect(url, additional_headers={"authorization": f"Bearer {WRITE}"}) as viewer:
            viewer.recv()
            lines = [socket.create_connection(address, timeout=10) for _ in range(3)]
            lines[1].sendall(b"GET / HTTP/1.1\r\nHost: lo")
            lines[2].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert lines[2].recv(10_000).startswith(b"HTTP/1.1 200")
            lines[2].sendall(b"GE")
            lines += [socket.create_connection(address, timeout=10) for _ in range(2)]
            for line in lines:
                with contextlib.suppress(ConnectionResetError), line:
                    while line.recv(10_000):
                        pass
            assert viewer.ping().wait(10)  # those that came in stay
        assert client.get("/api/stats").status_code == 200


def test_a_fault_of_ours_is_told_like_all_else(
    site: Any, client: httpx.Client, worked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("something secret")

    monkeypatch.setattr(site.monitor.drawings, "of", broken)
    answer = client.get(f"/api/executions/{worked}/diagram")
    assert (answer.status_code, said(answer)) == (500, "Internal")
    assert "secret" not in answer.text
    for name, value in auth.HEADERS.items():
        assert answer.headers[name] == value


def test_names_that_are_too_long_are_no_files(site: Any) -> None:
    with site.client(None) as client:
        for path in ("a" * 300, "a/" * 3000, "x" * 300 + ".js"):
            assert client.get(f"/{path}").status_code in (200, 404), path[:10]


def test_a_rate_fills_up_again() -> None:
    now = [100.0]
    rate = Rate(2.0, 3.0, lambda: now[0])
    assert [rate.wait("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert rate.wait("b") == 0.0
    now[0] += 0.5
    assert [rate.wait("a"), rate.wait("a")] == [0.0, 0.5]
    now[0] += 100
    assert [rate.wait("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_the_page_runs_no_script_but_ours(site: Any) -> None:
    with site.client(None) as client:
        for path in ("/", "/executions/x", "/api/stats", "/nothing.js"):
            headers = client.get(path).headers
            rules = dict(
                rule.strip().partition(" ")[::2] for rule in headers["content-security-policy"].split(";")
            )
            assert rules["default-src"] == "'none'"
            assert rules["script-src"] == rules["style-src"] == "'self'"
            assert (rules["frame-ancestors"], rules["base-uri"], rules["form-action"]) == ("'none'",) * 3
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/../auth.py",
        "/..%2fauth.py",
        "/%2e%2e/auth.py",
        "/assets/../../auth.py",
        "/assets/..%5c..%5cauth.py",
        "/%2fetc%2fpasswd",
        "//etc/passwd",
        "/static/../../../../../../etc/passwd",
        "/auth.py%00.js",
        "/./../core.py",
        "/..%252fauth.py",
    ],
)
def test_no_file_but_the_page_s_is_served(site: Any, path: str) -> None:
    answer = raw(site, f"GET {path} HTTP/1.1\nHost: localhost:{site.served.port}\nConnection: close\n\n")
    head, _, body = answer.partition("\r\n\r\n")
    assert "import annotations" not in body and "root:" not in body
    assert head.startswith(("HTTP/1.1 404", "HTTP/1.1 400")) or "text/html" in head


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every comparison is one by `compare_digest`, and a right one doesn't end it early."""
    compared: list[tuple[Any, Any]] = []
    real = hmac.compare_digest

    def compare(a: Any, b: Any) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(auth.hmac, "compare_digest", compare)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    guard = auth.Guard(app, Settings(write_token="w" * 20, read_token="r" * 20))
    statuses = []

    async def ask(token: str) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/api/stats",
            "raw_path": b"/api/stats",
            "query_string": b"",
            "client": ("1.2.3.4", 5),
            "headers": [(b"host", b"localhost"), (b"authorization", b"Bearer " + token.encode())],
        }
        await guard(scope, lambda: asyncio.sleep(0, {"type": "http.request"}), send)

    for token in ("w" * 20, "r" * 20, "x"):
        asyncio.run(ask(token))
    assert statuses == [200, 200, 401]
    assert len(compared) == 12  # twice each: whose request it is, and what he may do


def test_a_token_that_is_not_given_opens_nothing(site: Any, tmp_path: Path) -> None:
    with type(site)(tmp_path, settings={"write_token": ""}, acting=False) as looking:
        with looking.client(None) as nobody:
            for header in ("Bearer", 'Bearer ""', f"Bearer {WRITE}"):
                assert nobody.get("/api/stats", headers={"authorization": header}).status_code == 401
            assert "set-cookie" not in nobody.get("/", params={"token": ""}).headers
        with looking.client(READ) as reader:
            stats = reader.get("/api/stats").json()
            assert (stats["may_write"], stats["engine"]) == (False, None)
            assert reader.post("/api/executions", json={}).status_code == 403
        assert looking.served.link == looking.served.reading_link


def test_without_an_engine_nothing_is_run(site: Any, tmp_path: Path) -> None:
    with type(site)(tmp_path, acting=False) as looking, looking.client() as client:
        answer = client.post("/api/executions", json={"diagram": {"source": "treadle: 1\nnodes: {}"}})
        assert (answer.status_code, said(answer)) == (409, "NoEngine")
