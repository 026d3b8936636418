"""Anthropic's and Google's clients against a server that speaks as they do, as far as a text goes."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

_USAGE = {"input_tokens": 5, "output_tokens": 1}
_ANTHROPIC: list[dict[str, Any]] = [
    {"type": "message_start", "message": {
        "id": "m", "type": "message", "role": "assistant", "model": "claude-test", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": _USAGE}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
     "usage": {"output_tokens": 3}},
    {"type": "message_stop"}]
_GOOGLE: list[dict[str, Any]] = [{
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8}}]


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.fails = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.server.seen.append((self.path, headers, body))
        events = _ANTHROPIC if self.path == "/v1/messages" else _GOOGLE
        lines = "".join((f"event: {one['type']}\n" if "type" in one else "") + f"data: {json.dumps(one)}\n\n"
                        for one in events)
        status, raw = 200, lines.encode()
        if self.server.fails:
            self.server.fails -= 1
            status, raw = 503, json.dumps({"error": {"type": "x", "message": "too much"}}).encode()
        self.send_response(status)
        self.send_header("content-type", "text/event-stream" if status == 200 else "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("model", "path", "sent"), [
    ("anthropic:claude-test", "/v1/messages",
     {"system": "Be kind.", "max_tokens": 77, "stop_sequences": ["END"]}),
    ("google:gemini-2.5-flash", "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", {}),
])
def test_they_are_asked_at_the_address_of_the_person(run: Any, server: Server, model: str, path: str,
                                                     sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
                                                     ) -> None:
    monkeypatch.setenv("TREADLE_TEST_KEY", "key-1234")
    server.fails = 1
    ran = run(f"""
treadle: 1
persons:
  P:
    model: "{model}"
    base_url: http://127.0.0.1:{server.server_port}
    api_key: env:TREADLE_TEST_KEY
    system_prompt: Be kind.
    settings: {{max_tokens: 77, stop: END}}
nodes: {{a: {{type: person_job, person: P, prompt: Hi, backoff: 0}}}}
""")
    assert ran.result == "Hello", ran.error
    assert len(server.seen) == 2 and ran.cells["a"].attempt == 2  # the SDK retries nothing
    at, headers, body = server.seen[-1]
    assert at == path and "key-1234" in " ".join(headers.values())
    assert {key: body[key] for key in sent} == sent
    meta = ran.steps("a")[0].meta
    assert (meta["input_tokens"], meta["output_tokens"]) == (5, 3)
