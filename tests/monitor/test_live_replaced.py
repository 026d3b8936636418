"""An execution is deleted, and another one is started with its id, while somebody looks on."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

READ = "read-token-of-the-tests"


def _started(site: Any, client: httpx.Client, items: int) -> None:
    answer = client.post("/api/executions", json={
        "diagram": {"file": site.file("work")}, "inputs": {"n": items}, "execution_id": "again"})
    assert answer.status_code == 201, answer.text
    site.until_status(client, "again", "completed")


def _watching(site: Any, path: str) -> Any:
    address = site.served.url.replace("http", "ws", 1).rstrip("/")
    return connect(f"{address}/api/{path}", additional_headers={"Authorization": f"Bearer {READ}"})


def _items(socket: ClientConnection) -> int:
    """Read to the end; how many items the map has."""
    total = 0
    while (message := json.loads(socket.recv(timeout=20)))["event_type"] != "end":
        total = message["payload"].get("nodes", {}).get("each", {}).get("group", {}).get("total", total)
    return total


def test_who_watches_is_sent_away_and_who_comes_sees_the_new_one(site: Any, client: httpx.Client) -> None:
    _started(site, client, 9)
    with _watching(site, "executions/again/live") as before, _watching(site, "live") as listed:
        assert _items(before) == 9
        assert client.delete("/api/executions/again").status_code == 200
        _started(site, client, 2)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                before.recv(timeout=20)
        assert closed.value.rcvd is not None and closed.value.rcvd.code in (1011, 4404)
        nodes, seen = client.get("/api/executions/again").json()["total"], 0
        while seen != nodes:
            lines = json.loads(listed.recv(timeout=20))["payload"]["executions"]
            seen = (lines.get("again") or {}).get("nodes", seen)
    with _watching(site, "executions/again/live") as after:
        assert _items(after) == 2
    client.delete("/api/executions/again")


def test_who_comes_where_nobody_looked_meanwhile_sees_the_new_one(site: Any, client: httpx.Client) -> None:
    for items in (7, 1):
        _started(site, client, items)
        with _watching(site, "executions/again/live") as watched:
            assert _items(watched) == items
        client.delete("/api/executions/again")
