"""Start a job at an HTTP service and poll it until it is done: `python main.py`.

The service is here too, on a free port of this machine: it is too busy at first (503 with Retry-After), and
its job takes a few polls. Retries, their waits and the loop are the diagram's: no function below waits or
counts. It also wants a token, which the diagram only names.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import treadle
from treadle import Diagram, loop, node, when

POLLS = 4  # the job is done at the fourth
BUSY = (0, 3)  # requests, by number, that are refused for a moment
TOKEN = "POLL_TOKEN"  # the environment variable with the secret; `secret://POLL_TOKEN` in the diagram
AUTH = {"bearer": f"secret://{TOKEN}"}


@node
def url_of(job: dict[str, Any], service: str) -> str:
    return f"{service}/jobs/{job['id']}"


@node
def again(url: str) -> str:
    """The head of the loop: every turn polls this address."""
    return url


@node
def report(state: dict[str, Any]) -> str:
    return (f"The job is {state['status']}: {state['words']} words, after {state['polls']} polls, "
            f"for {state['token']}.")


def draw() -> Diagram:
    with Diagram("api-poll") as diagram:
        service = diagram.input("service", str)
        job = diagram.add("submit", "api_job", method="POST", url="{{ service }}/jobs", service=service,
                          auth=AUTH, json={"text": "one two three"}, retries=5, backoff={"initial": 0.2})
        with loop(url=url_of(job, service), max_iterations=50, on_limit="fail") as turn:
            url = again(turn.url)
            pause = diagram.add("pause", "sleep", seconds=0.1, needs=url)
            state = diagram.add("poll", "api_job", url="{{ address }}", address=url, needs=pause,
                                auth=AUTH, retries=5, backoff={"initial": 0.2})
            done = when("state.status == 'done'", state=state)
            with done.false:
                turn.again(url=url)
        with done.true:
            report(state)
    return diagram


class Service(BaseHTTPRequestHandler):
    """POST /jobs gives a job; GET /jobs/ID its state."""

    requests = itertools.count()
    polls = itertools.count(1)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if not self.refused():
            self.reply(201, {"id": 7})

    def do_GET(self) -> None:
        if self.refused():
            return
        polls = next(self.polls)
        self.reply(200, {"status": "done" if polls >= POLLS else "running", "words": 3, "polls": polls,
                         "token": os.environ[TOKEN]})  # a careless service: it tells the token

    def refused(self) -> bool:
        if self.headers["Authorization"] != f"Bearer {os.environ[TOKEN]}":
            self.reply(401, {"error": "who are you?"})
            return True
        return self.busy()

    def busy(self) -> bool:
        if next(self.requests) not in BUSY:
            return False
        self.reply(503, {"error": "busy"}, ("Retry-After", "1"))
        return True

    def reply(self, status: int, value: dict[str, Any], *headers: tuple[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        own = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
        for name, text in (*headers, *own):
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        print("  service:", format % args)


@contextmanager
def serving() -> Iterator[str]:
    """The service, while the block lasts; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    os.environ.setdefault(TOKEN, secrets.token_hex(16))
    with serving() as service:
        print(treadle.run(draw(), service=service))


if __name__ == "__main__":
    main()
