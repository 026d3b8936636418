"""The monitor from Python: its parts without a command, and what happens when the store is away."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest

from treadle import Engine
from treadle.config import TreadleConfig
from treadle.errors import TreadleError
from treadle.monitor import Monitor, Settings, create_app, serve
from treadle.store import open_store

TOKEN = "a-token-of-these-tests"
HEADERS = {"authorization": f"Bearer {TOKEN}"}
LEAKY = """
treadle: 1
name: leaky
nodes:
  tell: {type: code_job, call: "tell:tell"}
  done: {type: endpoint, needs: tell}
"""
TELL = """
def tell(context):
    value = context.secret("secret://PASS")
    print("it is", value)
    context.artifacts["it"] = value
    raise ValueError(f"refused: {value}")
"""


def asking(monitor: Monitor) -> httpx.AsyncClient:
    """A client of the app itself, as under any other server."""
    app = create_app(monitor, Settings(write_token=TOKEN))
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", headers=HEADERS
    )


def test_the_example_of_the_page(tmp_path: Path) -> None:
    """As docs/monitor.md has it."""

    async def main() -> None:
        async with (
            Engine.open(f"sqlite:///{tmp_path / 'runs.db'}") as engine,
            Monitor(engine.store, engine=engine) as monitor,
        ):
            async with serve(monitor, Settings(port=0)) as served, httpx.AsyncClient() as browser:
                link = served.link
                page = await browser.get(link, follow_redirects=True)
                assert page.status_code == 200
                stats = await browser.get(f"{served.url}/api/stats")
                assert stats.json()["may_write"]
            with pytest.raises(httpx.ConnectError):
                async with httpx.AsyncClient() as late:
                    await late.get(link)

    asyncio.run(main())


def test_a_store_is_looked_at_without_an_engine(tmp_path: Path) -> None:
    async def main() -> None:
        url = tmp_path / "runs.db"
        open_store(url).close()
        async with Monitor(url) as monitor, asking(monitor) as client:
            assert (await client.get("/api/executions")).json() == {"items": [], "next": None}
            assert (await client.get("/readyz")).status_code == 200
            refused = await client.post("/api/executions", json={"diagram": {"source": ""}})
            assert refused.json()["error"]["type"] == "NoEngine"
        with pytest.raises(TreadleError, match="not open"):
            monitor.store.version()
        with pytest.raises(TreadleError, match="not open"):
            await monitor.read(len, "x")

    asyncio.run(main())


def test_a_store_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    async def main() -> None:
        store = open_store(tmp_path / "runs.db")
        async with Monitor(store) as monitor, asking(monitor) as client:
            assert (await client.get("/readyz")).status_code == 200
            store.close()
            for path in ("/readyz", "/api/executions", "/api/executions/x/nodes"):
                answer = await client.get(path)
                assert answer.status_code == 503, path
            assert (await client.get("/healthz")).status_code == 200

    asyncio.run(main())


def test_what_a_run_was_told_in_secret_is_in_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASS", "open-sesame-4711")
    (tmp_path / "leaky.yaml").write_text(LEAKY)
    (tmp_path / "tell.py").write_text(TELL)

    async def main() -> None:
        async with (
            Engine.open(f"sqlite:///{tmp_path / 'runs.db'}") as engine,
            Monitor(engine.store, engine=engine, files=[tmp_path]) as monitor,
            asking(monitor) as client,
        ):
            handle = await engine.start(tmp_path / "leaky.yaml")
            await handle.wait()
            url = f"/api/executions/{handle.execution_id}"
            said = []
            for path in ("", "/nodes", "/node?path=tell", "/logs", "/context", "/timeline", "/diagram"):
                answer = await client.get(url + path)
                assert answer.status_code == 200, answer.text
                said.append(answer.text)
            assert "open-sesame" not in "".join(said)
            assert sum("[secret PASS]" in text for text in said) >= 4

    asyncio.run(main())


def test_a_fault_of_ours_tells_its_type_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Monitor("memory:", config=TreadleConfig()) as monitor:
            monkeypatch.setattr(monitor, "drawings", None)  # whatever it may be
            app = create_app(monitor, Settings(write_token=TOKEN))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                answer = await client.get("/api/diagrams/x", headers=HEADERS)
                assert answer.status_code == 500
                error = answer.json()["error"]
                assert error["message"] == "a fault of Treadle's own: AttributeError"
                assert "NoneType" not in answer.text

    asyncio.run(main())


def test_names_of_files_that_are_no_text_are_sent_all_the_same(tmp_path: Path) -> None:
    """They hold halves of surrogate pairs, which JSON can only write escaped."""
    (tmp_path / os.fsdecode(b"caf\xe9.yaml")).write_text("treadle: 1\nnodes: {done: {type: endpoint}}\n")

    async def main() -> None:
        async with Monitor("memory:", files=[tmp_path]) as monitor, asking(monitor) as client:
            found = (await client.get("/api/diagrams")).json()["files"]
            assert [one["file"][len(str(tmp_path)) :] for one in found] == ["/caf\udce9.yaml"]

    asyncio.run(main())
