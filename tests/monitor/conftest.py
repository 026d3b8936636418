"""The real server on a real socket, in a thread with a loop of its own, with an engine and a store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.engine.engine import Engine
from treadle.monitor import Monitor, Settings, serve
from treadle.monitor.serving import Served

WRITE, READ = "write-token-of-the-tests", "read-token-of-the-tests"
TASKS = """
from treadle.state.blob import Blob

def double(default):
    print("doubling", default["n"])
    return default["n"] * 2

def item(item):
    if item == 3:
        raise ValueError("three is no good")
    return item

def large(context):
    return ["x" * 100] * 5000

def picture(context):
    return context.blob(b"\\x89PNG" + bytes(range(256)) * 1000, "p.png")

def share(context):
    context.artifacts["report"] = {"pages": 3}
    context.variables["long"] = "y" * 9000
    return (1, 2)
"""
WORK = """
treadle: 1
name: work
description: A little of everything.
inputs:
  n: {type: integer, default: 4, description: how many}
nodes:
  start: {type: start}
  first: {type: code_job, call: "tasks:double", needs: start}
  each: {type: code_job, call: "tasks:item", for_each: "{{ range(inputs.n) | list }}", on_item_error: collect,
         needs: first}
  large: {type: code_job, call: "tasks:large", needs: first}
  picture: {type: code_job, call: "tasks:picture", needs: first}
  share: {type: code_job, call: "tasks:share", needs: first}
  done: {type: endpoint, needs: each}
"""
ASK = """
treadle: 1
name: ask
nodes:
  ask: {type: user_response, prompt: "Shall we?", schema: {enum: ["yes", "no"]}}
  wait: {type: wait_for, signal: go, needs: ask}
  done: {type: endpoint, needs: wait}
"""
BROKEN = "treadle: 1\nname: broken\nnodes:\n  a: {type: code_jb}\n"


class Site:
    """A running server. `run` does something on its loop."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: dict[str, Any] | None = None,
        acting: bool = True,
        config: TreadleConfig = DEFAULT_CONFIG,
        files: Sequence[Path] = (),
    ) -> None:
        self.folder, self._acting, self._config, self._files = folder, acting, config, files
        self._settings = Settings(**{"write_token": WRITE, "read_token": READ, **(settings or {})})
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self.served: Served
        self.monitor: Monitor
        self.engine: Engine | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    async def _main(self) -> None:
        self._stop, self.loop = asyncio.Event(), asyncio.get_running_loop()
        url = f"sqlite:///{self.folder / 'runs.db'}"
        try:
            async with Engine.open(url, config=self._config) as engine:
                self.engine = engine if self._acting else None
                async with (
                    Monitor(
                        engine.store, engine=self.engine, config=self._config, files=self._files
                    ) as monitor,
                    serve(monitor, self._settings) as served,
                ):
                    self.monitor, self.served = monitor, served
                    self._ready.set()
                    await self._stop.wait()
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._ready.set()

    def __enter__(self) -> Site:
        self._thread.start()
        assert self._ready.wait(20)
        assert self._error is None, self._error
        return self

    def __exit__(self, *error: object) -> None:
        assert self._stop is not None
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def client(self, token: str | None = WRITE, **more: Any) -> httpx.Client:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.served.url, headers={**headers, **more.pop("headers", {})}, **more)

    def file(self, name: str) -> str:
        """A diagram of the fixture `site`, as the API names it."""
        return str(self.folder / "diagrams" / f"{name}.yaml")

    def start(self, client: httpx.Client, name: str, wait: str | None = "completed", **inputs: Any) -> str:
        """Start a diagram and wait for a status; the execution's id."""
        answer = client.post("/api/executions", json={"diagram": {"file": self.file(name)}, "inputs": inputs})
        assert answer.status_code == 201, answer.text
        execution_id: str = answer.json()["id"]
        if wait is not None:
            self.until_status(client, execution_id, wait)
        return execution_id

    def until_status(self, client: httpx.Client, execution_id: str, status: str) -> dict[str, Any]:
        """Wait until an execution has that status; the execution."""

        def there() -> dict[str, Any] | None:
            found: dict[str, Any] = client.get(f"/api/executions/{execution_id}").json()
            return found if found["status"] == status else None

        found: dict[str, Any] = self.until(there, f"{execution_id} is {status}")
        return found

    @staticmethod
    def until(there: Callable[[], Any], what: str) -> Any:
        """Wait for something that the server does; returns what was found."""
        end = time.monotonic() + 20
        while not (found := there()):
            assert time.monotonic() < end, f"never happened: {what}"
            time.sleep(0.01)
        return found

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)


@pytest.fixture(scope="module", name="site")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for a module, with the diagrams above in its folder `diagrams`."""
    folder = tmp_path_factory.mktemp("site")
    diagrams = folder / "diagrams"
    diagrams.mkdir()
    (diagrams / "tasks.py").write_text(TASKS)
    for name, text in (("work", WORK), ("ask", ASK), ("broken", BROKEN)):
        (diagrams / f"{name}.yaml").write_text(text)
    (diagrams / "notes.yaml").write_text("no: diagram\n")
    with Site(folder, files=[diagrams], settings={"requests_per_s": 10_000, "burst": 10_000}) as site:
        yield site


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[httpx.Client]:
    with site.client() as client:
        yield client


@pytest.fixture(scope="module")
def worked(site: Site, client: httpx.Client) -> str:
    """The id of a completed execution of `work`."""
    return site.start(client, "work")
