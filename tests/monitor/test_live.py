"""Watching over a WebSocket: the real server, real executions, a client that does what the page does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from treadle.engine.engine import Engine
from treadle.monitor.live import channel, listing
from treadle.state.cell import ExecutionCell
from treadle.state.status import ExecutionStatus
from treadle.store.base import Owner
from treadle.store.owner import this_owner

READ = "read-token-of-the-tests"
WAIT_S = 20.0


class Watcher:
    """A viewer: `state` is what it shows."""

    def __init__(self, site: Any, path: str, **query: Any) -> None:
        address = site.served.url.replace("http", "ws", 1).rstrip("/")
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        self._connecting = connect(f"{address}/api/{path}?{asked}", compression=None, max_size=None,
                                   additional_headers={"Authorization": f"Bearer {READ}"})
        self.socket: ClientConnection
        self.state: dict[str, Any] = {}
        self.messages: list[dict[str, Any]] = []

    def __enter__(self) -> Watcher:
        self.socket = self._connecting.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._connecting.__exit__(*error)

    def read(self) -> dict[str, Any]:
        """The next message, applied to the state."""
        message: dict[str, Any] = json.loads(self.socket.recv(timeout=WAIT_S))
        self.messages.append(message)
        if message["event_type"] == "snapshot":
            self.state = message["payload"]
        elif message["event_type"] == "state_update":
            payload = message["payload"]
            put(self.state.get("execution", {}), payload.get("execution", {}))
            self.state.setdefault("context", {}).update(payload.get("context", {}))
            for root in ("nodes", "executions"):
                for name, fields in payload.get(root, {}).items():
                    if f"{root}.{name}" in message["update_mask"]:
                        self.state[root].pop(name, None)
                    if fields is not None:
                        put(self.state[root].setdefault(name, {}), fields)
        return message

    def until(self, there: Callable[[], Any]) -> None:
        """Read until something is so."""
        end = time.monotonic() + WAIT_S
        while not there():
            assert time.monotonic() < end, self.messages
            self.read()

    def until_event(self, kind: str) -> None:
        self.until(lambda: self.messages and self.messages[-1]["event_type"] == kind)

    def say(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))


def put(view: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if value is None:
            view.pop(name, None)
        else:
            view[name] = value


def start(site: Any, client: httpx.Client, name: str, **inputs: Any) -> str:
    return site.start(client, name, wait=None, **inputs)


def watch(site: Any, execution_id: str, **query: Any) -> Watcher:
    return Watcher(site, f"executions/{execution_id}/live", **query)


def test_a_viewer_sees_an_execution_from_its_snapshot_to_its_end(site: Any, client: httpx.Client) -> None:
    execution_id = start(site, client, "work")
    with watch(site, execution_id) as viewer:
        viewer.until_event("end")
        first = viewer.messages[0]
        assert (first["event_type"], first["execution_id"]) == ("snapshot", execution_id)
        shown = viewer.state
        assert shown["execution"]["status"] == "completed"
        assert shown["execution"]["id"] == execution_id
        assert {name: view["status"] for name, view in shown["nodes"].items()} == dict.fromkeys(
            ("start", "first", "each", "large", "picture", "share", "done"), "completed")
        assert shown["nodes"]["first"]["type"] == "code_job"
        assert shown["nodes"]["large"]["blob"]
        assert shown["nodes"]["each"]["group"] == {"kind": "map", "total": 4,
                                                   "counts": {"completed": 3, "failed": 1}}
        assert shown["context"]["artifacts"] == {"report": {"pages": 3}}
        assert shown["context"]["variables"] == {"long": {"$large": 9002}}
        assert shown["execution"]["total"] == 11
        sequences = [one["sequence"] for one in viewer.messages]
        assert sequences == sorted(sequences)


def test_what_is_seen_live_is_what_is_seen_later(site: Any, client: httpx.Client) -> None:
    execution_id = start(site, client, "work", n=6)
    with watch(site, execution_id) as viewer:
        viewer.say(type="open", groups=["*"])
        viewer.until_event("end")
        viewer.until(lambda: viewer.state["execution"]["rate"] == 0.0)
        with watch(site, execution_id) as other:
            other.say(type="open", groups=["*"])
            other.until(lambda: len(other.state.get("nodes", ())) == len(viewer.state["nodes"]))
            for one in (viewer, other):
                one.state["execution"].pop("rate")
            assert other.state == viewer.state


def test_a_group_is_told_once_it_is_opened(site: Any, client: httpx.Client, worked: str) -> None:
    with watch(site, worked) as viewer:
        viewer.until_event("end")
        assert "each[0]" not in viewer.state["nodes"]
        viewer.say(type="open", groups=["each"])
        viewer.until(lambda: "each[3]" in viewer.state["nodes"])
        assert viewer.state["nodes"]["each[3]"]["error"] == {
            "type": "ValueError", "message": "three is no good", "node": "each[3]"}
        assert "nodes.each[3]" in viewer.messages[-1]["update_mask"]


def test_what_is_large_comes_in_parts(site: Any, client: httpx.Client) -> None:
    nodes = {f"n{k}": {"type": "template_job", "text": "x"} for k in range(700)}
    wide = {"treadle": 1, "name": "wide", "nodes": {
        "numbers": {"type": "code_job", "code": "return list(range(2500))"},
        "many": {"type": "template_job", "text": "x", "for_each": "{{ numbers }}", "needs": "numbers"},
        **nodes}}
    answer = client.post("/api/executions", json={"diagram": {"source": json.dumps(wide), "format": "json"}})
    execution_id = answer.json()["id"]
    site.until_status(client, execution_id, "completed")
    with watch(site, execution_id) as viewer:
        viewer.until_event("end")
        first = viewer.messages[0]
        sequences = [one["sequence"] for one in viewer.messages]
        whole = next(k for k, sequence in enumerate(sequences) if sequence >= 0)
        assert whole > 2
        assert min(sequences[whole:]) >= 0, "who is lost before begins anew, and goes on from here"
        told = {name for one in viewer.messages[1:whole] for name in one["payload"].get("nodes", ())}
        assert len(told) >= 702 - 250
        assert len(viewer.state["nodes"]) == 702
        viewer.say(type="open", groups=["many"])
        viewer.until(lambda: "many[2499]" in viewer.state["nodes"] and viewer.messages[-1]["sequence"] >= 0)
        assert len(viewer.state["nodes"]) == 702 + 2500
        assert max(len(json.dumps(one)) for one in viewer.messages[1:]) < 500_000
        viewer.say(type="close", groups=["many"])
        viewer.state["nodes"] = {}
        viewer.say(type="open", groups=["many", "nothing"])
        viewer.until(lambda: "many[249]" in viewer.state["nodes"])
        viewer.say(type="close", groups=["nothing"])  # in the middle: the others come once more
        viewer.until(lambda: len(viewer.state["nodes"]) == 2500)
    with watch(site, execution_id, stream=first["stream"], since=-1) as again:
        assert again.read()["event_type"] == "snapshot"


def test_a_question_is_seen_and_its_answer(site: Any, client: httpx.Client) -> None:
    execution_id = start(site, client, "ask")
    with watch(site, execution_id) as viewer:
        viewer.until(lambda: viewer.state.get("nodes", {}).get("ask", {}).get("request"))
        assert viewer.state["nodes"]["ask"]["request"]["prompt"] == "Shall we?"
        viewer.until(lambda: viewer.state["execution"]["status"] == "suspended")
        client.post(f"/api/executions/{execution_id}/answer", json={"node": "ask", "value": "yes"})
        viewer.until(lambda: viewer.state["nodes"]["ask"]["status"] == "completed")
        assert "request" not in viewer.state["nodes"]["ask"]


def test_who_comes_back_goes_on_where_it_was(site: Any, client: httpx.Client, worked: str) -> None:
    with watch(site, worked) as viewer:
        viewer.until_event("end")
        last = viewer.messages[-1]
    with watch(site, worked, stream=last["stream"], since=last["sequence"]) as again:
        assert again.read()["event_type"] != "snapshot"
    with watch(site, worked, stream="another", since=last["sequence"]) as stranger:
        assert stranger.read()["event_type"] == "snapshot"


def test_an_execution_that_another_engine_runs_is_seen_from_the_store(
        site: Any, client: httpx.Client) -> None:
    async def elsewhere() -> str:
        async with Engine.open(f"sqlite:///{site.folder / 'runs.db'}") as engine:
            handle = await engine.start(site.file("ask"))
            with watch(site, handle.execution_id) as viewer:
                await asyncio.to_thread(viewer.until, lambda: (
                    viewer.state.get("nodes", {}).get("ask", {}).get("status") == "suspended"))
                await handle.answer("ask", "yes")
                await asyncio.to_thread(viewer.until, lambda: viewer.state["nodes"].get("wait"))
                assert viewer.state["nodes"]["ask"]["status"] == "completed"
                await handle.signal("go", 1)
                await asyncio.to_thread(viewer.until_event, "end")
                assert viewer.state["execution"]["status"] == "completed"
                assert {view["status"] for view in viewer.state["nodes"].values()} == {"completed"}
            return handle.execution_id

    asyncio.run(elsewhere())


def test_an_execution_whose_owner_is_gone_is_stale(site: Any) -> None:
    mine = this_owner()
    gone = Owner(mine.host, mine.boot_id, 2**22 - 7, 1.0, "t")
    site.monitor.store.create(
        ExecutionCell("left", 1, status=ExecutionStatus.RUNNING, name="left", created_at=1.0), "", gone, 15.0)
    with watch(site, "left") as viewer:
        viewer.read()
        assert viewer.state["execution"]["status"] == "stale"
        assert viewer.state["execution"]["stale"] is True


def test_a_snapshot_says_when_it_was_sent(
        site: Any, worked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose like another got before: a page sets its clock by it."""
    monkeypatch.setattr(channel, "SHARED_S", 0.0)
    with watch(site, worked) as first:
        first.read()
        came = time.time()
        with watch(site, worked) as late:
            assert late.read()["timestamp"] >= came > first.messages[0]["timestamp"]


def test_a_slower_rate_gives_fewer_messages(site: Any, client: httpx.Client) -> None:
    execution_id = start(site, client, "ask")
    with watch(site, execution_id, rate=0.2) as viewer:
        viewer.until_event("snapshot")
        client.post(f"/api/executions/{execution_id}/cancel", json={})
        site.until_status(client, execution_id, "cancelled")
        with pytest.raises(TimeoutError):
            viewer.socket.recv(timeout=0.5)


def test_the_list_is_live(site: Any, client: httpx.Client, worked: str) -> None:
    with Watcher(site, "live") as viewer:
        viewer.until_event("snapshot")
        assert viewer.state["executions"][worked]["status"] == "completed"
        new = start(site, client, "ask")
        viewer.until(lambda: viewer.state["executions"].get(new, {}).get("status") == "suspended")
        assert any(f"executions.{new}" in str(one.get("update_mask")) for one in viewer.messages)
        client.post(f"/api/executions/{new}/cancel", json={})
        viewer.until(lambda: viewer.state["executions"][new]["status"] == "cancelled")
        viewer.until(lambda: viewer.state["executions"][new]["nodes"] == 3)  # two were not come to
        client.delete(f"/api/executions/{new}")
        viewer.until(lambda: new not in viewer.state["executions"])


def test_an_old_one_that_has_not_ended_is_in_the_live_list(
        site: Any, client: httpx.Client, worked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its end is told; an old one that had ended long ago is asked for over HTTP."""
    monkeypatch.setattr(listing, "LISTED_MAX", 2)
    old = start(site, client, "ask")
    for _ in range(3):
        site.start(client, "work")
    with Watcher(site, "live") as viewer:
        viewer.until(lambda: old in viewer.state.get("executions", {}))
        client.post(f"/api/executions/{old}/cancel", json={})
        viewer.until(lambda: viewer.state["executions"].get(old, {}).get("status") == "cancelled")


def test_a_deleted_execution_ends_its_viewers(site: Any, client: httpx.Client) -> None:
    execution_id = start(site, client, "work")
    with watch(site, execution_id) as viewer:
        viewer.until_event("end")
        client.delete(f"/api/executions/{execution_id}")
        with pytest.raises(ConnectionClosed) as closed:
            viewer.until(lambda: False)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4404
        assert execution_id in viewer.messages[-1]["message"]


@pytest.mark.parametrize(("path", "query", "code", "said"), [
    ("executions/nowhere/live", {}, 4404, "no execution 'nowhere'"),
    ("live", {"rate": 0}, 1008, "rate=0: it must be at least 0.01"),
    ("live", {"rate": "fast"}, 1008, "rate='fast'"),
    ("live", {"since": "x"}, 1008, "since='x'"),
])
def test_a_mistake_is_said_before_the_socket_is_closed(
        site: Any, path: str, query: dict[str, Any], code: int, said: str) -> None:
    with Watcher(site, path, **query) as viewer:
        message = viewer.read()
        assert message["event_type"] == "error"
        assert said in message["message"]
        with pytest.raises(ConnectionClosed) as closed:
            viewer.read()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == code


@pytest.mark.parametrize(("text", "said"), [
    ("{", "can't be read"), ('{"type": "opn"}', "did you mean"), ('{"type": "open", "groups": 3}', "groups")])
def test_what_a_viewer_says_wrongly_is_told_and_it_stays(
        site: Any, worked: str, text: str, said: str) -> None:
    with watch(site, worked) as viewer:
        viewer.until_event("end")
        viewer.socket.send(text)
        viewer.until_event("error")
        assert said in viewer.messages[-1]["message"]
        viewer.say(type="open", groups=["each"])
        viewer.until(lambda: "each[0]" in viewer.state["nodes"])


def test_who_does_not_read_gets_one_message_for_all_that_was_missed(
        site: Any, client: httpx.Client) -> None:
    execution_id = start(site, client, "ask")
    with watch(site, execution_id) as viewer:
        viewer.until(lambda: viewer.state.get("execution", {}).get("status") == "suspended")
        known = site.run(_channel(site, execution_id))
        (slow,) = known.viewers
        wire, slow.wire = slow.wire, Stuck()  # as while a message is on its way to somebody who does not read
        words = ("answer", {"node": "ask", "value": "yes"}), ("signal", {"name": "go", "value": 1})
        for verb, said in words:
            assert client.post(f"/api/executions/{execution_id}/{verb}", json=said).is_success
        site.until_status(client, execution_id, "completed")
        slow.wire = wire
        before = len(viewer.messages)
        viewer.until_event("end")
        assert len(viewer.messages) == before + 2  # all of it, and the end
        assert {view["status"] for view in viewer.state["nodes"].values()} == {"completed"}


class Stuck:
    """The wire to somebody who does not read."""

    free = False


async def _channel(site: Any, execution_id: str) -> Any:
    return await site.monitor.live.execution(execution_id)
