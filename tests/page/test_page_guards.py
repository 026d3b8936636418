"""Who may not come in: a wrong token, another site's pages, and what the policy keeps out of ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from playwright.sync_api import expect

ATTACK = """
async (target) => {
  const found = {};
  found.socket = await new Promise((done) => {
    const socket = new WebSocket(target.replace("http", "ws") + "/api/live");
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
  });
  for (const [name, options] of Object.entries({
    get: {credentials: "include"},
    plain: {method: "POST", credentials: "include", body: "{}", headers: {"Content-Type": "text/plain"}},
    blind: {method: "POST", credentials: "include", mode: "no-cors", body: "{}"},
    header: {method: "POST", credentials: "include", body: "{}", headers: {"X-Treadle": "1"}},
  })) {
    const path = name === "get" ? "/api/executions" : "/api/prune";
    const answer = fetch(target + path, options);
    found[name] = await answer.then(({type, status}) => `${type} ${status}`, () => "refused");
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of another site on this machine: on the same host even a SameSite cookie is sent."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><link rel=icon href='data:,'><title>another site</title>"
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Page) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()
        thread.join()


def test_a_wrong_token_is_refused_and_the_page_says_what_to_do(server: Any, visit: Any) -> None:
    visit.expects("401|WebSocket|status of 403|403")
    page = visit(token="a-token-that-somebody-guessed")
    expect(page.locator("body")).to_contain_text("treadle serve")
    assert page.context.cookies() == []
    page.goto(f"{server.url}/#/executions")
    expect(page.get_by_role("heading", name="The server doesn't know this browser")).to_be_visible()
    page.goto(server.link())
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()


def test_the_token_leaves_the_address_and_no_script_reads_the_cookie(server: Any, visit: Any) -> None:
    page = visit("diagrams")
    expect(page.get_by_role("link", name="report").first).to_be_visible()
    assert page.url == f"{server.url}/#/diagrams"
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""


def test_a_page_of_another_site_neither_reads_nor_writes_nor_listens(
        server: Any, visit: Any, elsewhere: str) -> None:
    """With the cookie of a person who is logged in, and from the same host on another port."""
    visit.expects("CORS|WebSocket|ERR_FAILED|403|ERR_BLOCKED_BY_RESPONSE")
    page = visit()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    before = len(server.get("executions")["items"])
    page.goto(elsewhere)
    found = page.evaluate(ATTACK, server.url)
    assert found == {"socket": "refused", "get": "refused", "plain": "refused", "blind": "refused",
                     "header": "refused"}
    assert len(server.get("executions")["items"]) == before


def test_a_foreign_name_for_this_address_is_refused(server: Any, visit: Any) -> None:
    """What a name server that was bent to 127.0.0.1 would bring about."""
    answer = server.client.get("executions", headers={"host": f"evil.example:{server.port}"})
    assert answer.status_code == 403


def test_the_policy_runs_no_script_that_is_not_ours(server: Any, visit: Any) -> None:
    visit.expects("Content Security Policy")
    page = visit()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.hurt = 1";
        document.body.append(script);
        const button = document.createElement("button");
        button.setAttribute("onclick", "window.hurt = 2");
        document.body.append(button);
        button.click();
    }""")
    assert page.evaluate("window.hurt === undefined")
    assert page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 'refused')") == "refused"
    assert [fault for fault in visit.faults if "Content Security Policy" not in fault] == []
