"""`WebhookNotifier`: messages get through to a real server, in order, signed, tried again; no run waits for
them."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from treadle.errors import PluginError
from treadle.hooks.manager import PluginManager
from treadle.hooks.specs import FinalReport
from treadle.plugins.webhook import Message, WebhookNotifier, verify
from treadle.state.cell import ErrorInfo, ExecutionCell, ExecutionState, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus

Write = Callable[[str, str], Path]
Server = Any

BEFORE = NodeState("x1", "load", status=NodeStatus.RUNNING, started_at=1.0)
BROKEN = NodeState("x1", "load", attempt=2, status=NodeStatus.FAILED, started_at=1.0, ended_at=3.5,
                   error=ErrorInfo("ValueError", "no rows", "Traceback …", "load"))


def ended(status: ExecutionStatus) -> tuple[ExecutionState, FinalReport]:
    error = BROKEN.error if status is ExecutionStatus.FAILED else None
    cell = ExecutionCell("x1", name="report", status=status, started_at=1.0, ended_at=4.25, error=error)
    return ExecutionState.of(cell, {}), FinalReport("x1", status, warnings=("one",), slow_hooks=("two",))


def send(notifier: WebhookNotifier, *, transitions: int = 0, end: ExecutionStatus | None = None) -> None:
    """Tell the plugin, and close it."""
    async def script() -> None:
        for _ in range(transitions):
            await notifier.post_node_execute("load", BEFORE, BROKEN)
        if end is not None:
            await notifier.post_state_finalize(*ended(end))
        await notifier.close()

    asyncio.run(script())


def test_slack_gets_a_text(server: Server) -> None:
    send(WebhookNotifier(f"{server.url}/services/T0", on=("node_failed", "execution_failed")),
         transitions=1, end=ExecutionStatus.FAILED)
    assert [one.json for one in server.got] == [
        {"text": "❌ load failed, attempt 2 in x1: ValueError: no rows"},
        {"text": "❌ report failed after 3.2 s at node load (x1): ValueError: no rows"}]
    assert {one.path for one in server.got} == {"/services/T0"}
    assert server.got[0].headers["content-type"] == "application/json"
    assert "x-treadle-signature" not in server.got[0].headers


def test_what_slack_would_read_as_a_link_or_a_mention_is_escaped(server: Server) -> None:
    async def script() -> None:
        notifier = WebhookNotifier(server.url)
        error = ErrorInfo("ValueError", "<!channel> & more")
        await notifier.post_node_execute("load", BEFORE, NodeState("x1", "load", status=NodeStatus.FAILED,
                                                                   error=error))
        await notifier.close()

    asyncio.run(script())
    assert server.got[0].json["text"].endswith("ValueError: &lt;!channel&gt; &amp; more")


def test_others_get_all_of_it_as_data_but_no_traceback(server: Server) -> None:
    send(WebhookNotifier(server.url, format="json", on=("node_failed", "execution_completed")),
         transitions=1, end=ExecutionStatus.COMPLETED)
    node, end = (one.json for one in server.got)
    error = {"type": "ValueError", "message": "no rows", "node": "load"}
    assert node | {"text": ""} == {
        "event": "node_failed", "execution_id": "x1", "status": "failed", "text": "", "node": "load",
        "iteration": "1", "attempt": 2, "error": error, "seconds": 2.5, "warnings": [], "slow_hooks": [],
        "at": 3.5}
    assert set(node) == set(Message.__struct_fields__)
    assert (end["event"], end["seconds"], end["warnings"], end["slow_hooks"], end["error"]) == (
        "execution_completed", 3.25, ["one"], ["two"], None)


def test_only_what_was_asked_for_is_sent_and_an_attempt_is_told_of_once(server: Server) -> None:
    async def script() -> None:
        notifier = WebhookNotifier(server.url, on=("node_failed", "execution_failed"))
        retrying = NodeState("x1", "load", status=NodeStatus.RETRYING)
        await notifier.post_node_execute("load", BEFORE, retrying)
        await notifier.post_node_execute("load", retrying, BROKEN)
        await notifier.post_state_finalize(*ended(ExecutionStatus.COMPLETED))
        assert notifier.accepted == 0
        await notifier.close()

    asyncio.run(script())
    assert server.got == []


def test_the_receiver_can_tell_that_a_message_is_ours(
        server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", "k3y")
    send(WebhookNotifier(server.url, secret="env:HOOK_KEY"), transitions=1)
    (got,) = server.got
    stamp, signature = got.headers["x-treadle-timestamp"], got.headers["x-treadle-signature"]
    assert abs(int(stamp) - time.time()) < 60
    assert verify("k3y", stamp, signature, got.body)
    assert not verify("other", stamp, signature, got.body)
    assert not verify("k3y", stamp, signature, got.body + b" ")
    assert not verify("k3y", str(int(stamp) + 1), signature, got.body)
    assert not verify("k3y", "", signature, got.body)
    assert not verify("k3y", stamp, signature, got.body, age_s_max=-1.0), "an old one may be a replay"


def test_what_may_go_better_is_tried_again_as_the_same_delivery(server: Server) -> None:
    server.answers += [(503, {}), (429, {"Retry-After": "0"}), (500, {"Retry-After": formatdate(0)})]
    notifier = WebhookNotifier(server.url, pause_s=0.001)
    send(notifier, transitions=2)
    deliveries = [one.headers["x-treadle-delivery"] for one in server.got]
    assert len(deliveries) == 5 and len(set(deliveries[:4])) == 1 and deliveries[4] != deliveries[0]
    assert (notifier.accepted, notifier.sent, notifier.failed) == (2, 2, 0)


def test_a_retry_waits_as_long_as_the_server_asks(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("treadle.plugins.webhook.asyncio.sleep", sleep)
    server.answers += [(429, {"Retry-After": "7"}), (503, {"Retry-After": "90000"}), (500, {}), (500, {})]
    send(WebhookNotifier(server.url, pause_s=0.5), transitions=1)
    assert waits[:2] == [7.0, 600.0] and 1.0 <= waits[2] <= 2.0 and 2.0 <= waits[3] <= 4.0


@pytest.mark.parametrize(("answers", "tries", "why"), [
    ([(404, {})], 1, "127.0.0.1: status 404"), ([(302, {"Location": "/x"})], 1, "127.0.0.1: status 302"),
    ([(500, {})] * 3, 3, "127.0.0.1: status 500")])
def test_what_can_not_be_sent_is_logged_without_the_path_of_the_url(
        server: Server, caplog: pytest.LogCaptureFixture, answers: Any, tries: int, why: str) -> None:
    server.answers += answers
    notifier = WebhookNotifier(f"{server.url}/services/s3cret", tries_max=3, pause_s=0.001)
    with caplog.at_level(logging.INFO):
        send(notifier, transitions=1)
    assert len(server.got) == tries and notifier.failed == 1
    word = "try" if tries == 1 else "tries"
    assert f"node_failed was not sent after {tries} {word}: {why}" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_server_that_is_not_there_or_says_nothing_is_an_error_like_others(
        server: Server, caplog: pytest.LogCaptureFixture) -> None:
    send(WebhookNotifier("http://127.0.0.1:9", tries_max=2, pause_s=0.001), transitions=1)
    server.hold.clear()
    send(WebhookNotifier(server.url, tries_max=1, timeout_s=0.05), transitions=1)
    server.hold.set()
    assert "node_failed was not sent after 2 tries: 127.0.0.1: ConnectError" in caplog.text
    assert "node_failed was not sent after 1 try: 127.0.0.1: " in caplog.text


def test_a_secret_that_is_missing_is_said_and_nothing_is_sent(
        server: Server, caplog: pytest.LogCaptureFixture) -> None:
    send(WebhookNotifier(server.url, secret="env:NO_SUCH_SECRET"), transitions=1)
    send(WebhookNotifier("secret://SLACK"), transitions=1)
    assert "the environment variable 'NO_SUCH_SECRET' is not set" in caplog.text
    assert "the environment variable 'SLACK' is not set" in caplog.text
    assert server.got == []


def test_a_url_may_be_a_secret(server: Server) -> None:
    notifier = WebhookNotifier("secret://SLACK")
    notifier.secrets = {"secret://SLACK": f"{server.url}/s"}.__getitem__
    send(notifier, transitions=1)
    assert [one.path for one in server.got] == ["/s"]


def test_what_waits_is_bounded_and_what_has_no_room_is_counted(
        server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.hold.clear()
    notifier = WebhookNotifier(server.url, queue_max=2, close_s_max=0.05)
    send(notifier, transitions=5)
    server.hold.set()
    assert (notifier.accepted, notifier.dropped, notifier.failed) == (2, 3, 2)
    assert "1 messages dropped so far: 2 wait already (queue_max)" in caplog.text
    assert "2 messages were not sent within close_s_max=0.05 s" in caplog.text


def test_it_is_set_up_by_treadle_toml_and_seen_by_the_manager(server: Server, write: Write) -> None:
    write("treadle.toml", f'[plugins.WebhookNotifier]\nurl = "{server.url}"\non = ["execution_completed"]\n')

    async def script() -> None:
        manager = PluginManager.discover()
        await manager.finalize(ended(ExecutionStatus.COMPLETED)[0])
        await manager.close()

    asyncio.run(script())
    assert server.got[0].json == {"text": "✅ report completed after 3.2 s (x1)"}


@pytest.mark.parametrize(("settings", "said"), [
    ("url = 'http://x'\non = ['node_faild']",
     r"on = 'node_faild': nothing of that name happens: did you mean 'node_failed'\?"),
    ("url = 'http://x'\nformat = 'xml'", r"format = 'xml': choose slack or json"),
    ("url = 'http://x'\ntries_max = 0", r"tries_max = 0: it must be larger than 0"),
    ("url = 'ftp://x'", r"url: it must begin with http://"),
    ("on = ['node_failed']", r"the setting `url` is missing"),
])
def test_settings_that_make_no_sense_are_named_with_the_file(write: Write, settings: str, said: str) -> None:
    write("treadle.toml", f"[plugins.WebhookNotifier]\n{settings}\n")
    with pytest.raises(PluginError, match=rf"treadle\.toml: \[plugins\.WebhookNotifier\].*{said}"):
        PluginManager.discover()


def test_without_httpx_it_says_what_to_install(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    write("treadle.toml", "[plugins.WebhookNotifier]\nurl = 'http://x'\n")
    with pytest.raises(PluginError, match=r"it needs httpx, .* pip install treadle\[http\]"):
        PluginManager.discover()
