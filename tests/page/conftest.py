"""`treadle serve` in a process of its own, a real Chromium, and nothing between the two but the network."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Response,
    expect,
    sync_playwright,
)

import treadle

DIAGRAMS = Path(__file__).parent / "diagrams"
WRITE, READ = "write-token-of-the-page", "read-token-of-the-page"
NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = ("the page's tests need Chromium: on Debian `apt-get install chromium`, elsewhere a `chromium` on "
           "PATH; `make test` leaves them out where there is none, for pytest say --ignore tests/page")
HARMLESS = "WebSocket is closed before the connection is established"
"""A view that is left before its socket was open."""
PATIENCE_MS = 20_000
"""A busy machine is slow; what never happens is a fault."""


class Server:
    """`treadle serve` of the diagrams beside this file, and what a test does beside the browser."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        for path in (*DIAGRAMS.glob("*.yaml"), DIAGRAMS / "tasks.py"):
            shutil.copy(path, folder)
        self.tokens(WRITE, READ)

    def tokens(self, write: str, read: str) -> None:
        """Those that hold when it begins the next time."""
        file = self.folder / "tokens"
        file.write_text(f"write {write}\nread {read}\n")
        file.chmod(0o600)

    def begin(self) -> None:
        """Serve, on the port of before if there was one."""
        here = str(Path(treadle.__file__).parents[1])
        words = ("serve", ".", "--store", "runs.db", "--token-file", "tokens", "--json", "--port",
                 str(self.port))
        self._errors = (self.folder / "stderr").open("a")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "treadle", *words], cwd=self.folder, text=True,
            env={**os.environ, "PYTHONPATH": here},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors)
        assert self._child.stdout is not None
        said = "".join(iter(self._child.stdout.readline, "}\n")) + "}" if self._child.poll() is None else ""
        self.port = json.loads(said)["port"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(
            base_url=f"{self.url}/api/", headers={"authorization": f"Bearer {WRITE}"}, timeout=20)

    def end(self) -> None:
        self.client.close()
        self._child.send_signal(signal.SIGTERM)
        self._child.communicate(timeout=20)
        self._errors.close()
        assert self._child.returncode == 0, (self.folder / "stderr").read_text()

    def link(self, place: str = "executions", token: str = WRITE) -> str:
        return f"{self.url}/?token={token}#/{place}"

    def start(self, name: str, until: str | None = None, **inputs: Any) -> str:
        """Start a diagram; the execution's id, when it has that status."""
        answer = self.client.post("executions", json={"diagram": {"file": f"{name}.yaml"}, "inputs": inputs})
        assert answer.status_code == 201, answer.text
        execution_id: str = answer.json()["id"]
        if until is not None:
            self.until_status(execution_id, until)
        return execution_id

    def let_go(self, execution_id: str) -> None:
        """End the node `hold` of an execution."""
        (self.folder / f"go-{execution_id}").touch()

    def repair(self, execution_id: str) -> None:
        """Have the node `send` of `deliver` succeed from now on."""
        (self.folder / f"fixed-{execution_id}").touch()

    def ran(self, name: str, **inputs: Any) -> str:
        """An execution of `report`, `steps` … that has completed; its id."""
        execution_id = self.start(name, **inputs)
        self.let_go(execution_id)
        self.until_status(execution_id, "completed")
        return execution_id

    def get(self, path: str) -> Any:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until_status(self, execution_id: str, status: str) -> None:
        self.until(lambda: self.get(f"executions/{execution_id}")["status"] == status, f"it is {status}")

    @staticmethod
    def until(there: Callable[[], object], what: str) -> None:
        """Wait for something that the server does."""
        end = time.monotonic() + PATIENCE_MS / 1000
        while not there():
            assert time.monotonic() < end, f"never happened: {what}"
            time.sleep(0.02)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests of a process: each starts executions of its own."""
    server = Server(tmp_path_factory.mktemp("page"))
    server.begin()
    yield server
    server.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the session: its loop would be in the way of other tests' `asyncio.run`."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail(MISSING, pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


class Visits:
    """Opens pages, each in a context of its own (cookies, storage), and keeps what goes wrong in them."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self._browser, self._server = browser, server
        self._contexts: list[BrowserContext] = []
        self._expected: list[str] = [HARMLESS]
        self.faults: list[str] = []

    def __call__(self, place: str = "executions", *, token: str = WRITE, **options: Any) -> Page:
        page = self.page(**options)
        page.goto(self._server.link(place, token))
        return page

    def page(self, **options: Any) -> Page:
        """An empty one, in 1280 × 800 and light if nothing else is said."""
        context = self._browser.new_context(**{
            "viewport": {"width": 1280, "height": 800}, "color_scheme": "light", "reduced_motion": "reduce",
            **options})
        context.set_default_timeout(PATIENCE_MS)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._fault(f"uncaught: {error}"))
        page.on("response", self._response)
        return page

    def expects(self, pattern: str) -> None:
        """What a test provokes is no fault."""
        self._expected.append(pattern)

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        assert self.faults == []

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._fault(f"console, {message.type}: {message.text} {message.location.get('url', '')}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self._fault(f"{response.status} {response.request.method} {response.url}")

    def _fault(self, text: str) -> None:
        if not any(re.search(pattern, text) for pattern in self._expected):
            self.faults.append(text)


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Visits]:
    """A test whose pages complained about anything (scripts, the policy, answers) fails."""
    expect.set_options(timeout=PATIENCE_MS)
    visits = Visits(browser, server)
    yield visits
    visits.close()


def place(execution_id: str, **query: str) -> str:
    """The page of an execution, as it stands behind the `#`."""
    asked = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
    return f"executions/{execution_id}" + (f"?{asked}" if asked else "")
