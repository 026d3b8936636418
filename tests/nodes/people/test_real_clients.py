"""The real clients against a server of ours: what is sent, what comes back, what every fault comes to."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from treadle.config import TreadleConfig
from treadle.diagram.formats import loads
from treadle.engine.bus import EventType
from treadle.engine.engine import Engine
from treadle.state.cell import NodeState
from treadle.state.steps import steps_of
from treadle.testing.llm import LLMServer, Reply

TEXT = """
treadle: 1
persons: {P: {model: "openai:test-model", base_url: "%s", system_prompt: Be kind.%s}}
nodes: {a: {type: person_job, person: P, prompt: Hello, backoff: 0.01%s}}
"""


def test_what_is_sent_and_what_is_recorded(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_TEST_KEY", "key-1234")
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    with LLMServer(Reply(text="Hi there", tokens=(11, 7))) as server:
        usual = ", api_key: env:TREADLE_TEST_KEY, settings: {temperature: 0.5, stop: END}"
        ran = run(TEXT % (server.url, usual, ", settings: {temperature: 0, seed: 4, max_tokens: 99}"))
    assert ran.result == "Hi there"
    (asked,) = server.requests
    assert asked.key == "key-1234"
    assert asked.messages == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    sent = {key: asked.body.get(key) for key in ("temperature", "seed", "stop", "stream")}
    assert sent == {"temperature": 0, "seed": 4, "stop": ["END"], "stream": True}
    assert 99 in (asked.body.get("max_tokens"), asked.body.get("max_completion_tokens"))
    meta = ran.steps("a")[0].meta
    assert (meta["input_tokens"], meta["output_tokens"], meta["tokens"]) == (11, 7, 18)
    assert "cost" not in meta  # nobody knows what another server takes


def test_a_key_of_the_environment_goes_to_its_provider_only(run: Any, monkeypatch: pytest.MonkeyPatch
                                                            ) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    with LLMServer("x") as server:
        assert run(TEXT % (server.url, "", "")).result == "x"
    assert server.requests[0].key != "sk-mine"
    assert b"sk-mine" not in server.requests[0].raw


@pytest.mark.parametrize("fault", [
    Reply(status=429, headers={"retry-after-ms": "20"}, text="slow down"), Reply(status=500),
    Reply(status=503), Reply(text="one two three four", cut=2), Reply(status=408)])
def test_what_may_go_better_is_asked_again(run: Any, fault: Reply) -> None:
    with LLMServer(fault, "fine") as server:
        ran = run(TEXT % (server.url, "", ""))
    assert ran.result == "fine"
    assert len(server.requests) == 2 and ran.cells["a"].attempt == 2  # we retry, the SDK does not


def test_retry_after_is_waited_for(run: Any) -> None:
    with LLMServer(Reply(status=429, headers={"retry-after-ms": "300"}), "fine") as server:
        assert run(TEXT % (server.url, "", ", retries: 1")).result == "fine"
    first, second = server.requests
    assert second.at - first.at >= 0.3


@pytest.mark.parametrize(("fault", "said"), [
    (Reply(status=400, text="no such model"), "P (openai:test-model): status 400: no such model"),
    (Reply(status=401, text="bad key"), "status 401: bad key"),
    (Reply(status=404, text="nowhere"), "status 404: nowhere"),
    (Reply(status=302, headers={"location": "http://127.0.0.1:9/"}), "302"),
])
def test_what_can_go_no_better_is_final_and_says_why(run: Any, fault: Reply, said: str) -> None:
    with LLMServer(fault) as server:
        ran = run(TEXT % (server.url, "", ""))
    assert said in ran.error
    assert len(server.requests) == 1


@pytest.mark.parametrize(("fault", "said"), [
    (Reply(body="<html>gateway</html>", content_type="text/html"), "the answer can't be read"),
    (Reply(body="data: {nonsense\n\n", content_type="text/event-stream"), "Failed to decode response"),
    (Reply(body="no JSON", status=500), "status 500: no JSON")])
def test_nonsense_is_no_answer(run: Any, fault: Reply, said: str) -> None:
    with LLMServer(fault) as server:
        ran = run(TEXT % (server.url, "", ", retries: 0"))
    assert said in ran.error and "ModelError" in ran.error


def test_what_the_provider_withholds_is_a_bad_answer(run: Any) -> None:
    with LLMServer(Reply(text="x", finish="content_filter")) as server:
        ran = run(TEXT % (server.url, "", ""))
    assert "BadAnswer: P (openai:test-model): the provider has withheld the answer" in ran.error


def test_nobody_there(run: Any) -> None:
    ran = run(TEXT % ("http://127.0.0.1:9/v1", "", ", retries: 1"))
    assert "ModelError: P (openai:test-model): no connection with http://127.0.0.1:9/v1: " in ran.error
    assert ran.cells["a"].attempt == 2


def test_a_silent_server_is_given_up(run: Any) -> None:
    with LLMServer(Reply(text="late", after=5)) as server:
        ran = run(TEXT % (server.url, "", ", retries: 0"), config=TreadleConfig(llm_silence_s_max=0.2))
    assert f"no answer in time from {server.url}" in ran.error


def test_a_node_s_timeout_ends_a_slow_answer(run: Any) -> None:
    with LLMServer(Reply(text="a b c d e f g h", every=0.2)) as server:
        ran = run(TEXT % (server.url, "", ", retries: 0, timeout: 0.3"))
    assert "NodeTimeout" in ran.error


def test_no_key_says_what_to_do(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for model, variable in (("anthropic:m", "ANTHROPIC_API_KEY"), ("google:m", "GOOGLE_API_KEY")):
        ran = run(f"treadle: 1\npersons: {{P: {{model: '{model}'}}}}\n"
                  "nodes: {a: {type: person_job, person: P, prompt: x}}\n")
        assert f"person 'P' ({model}) has no key: set {variable}, or write api_key: secret://" in ran.error
        assert ran.cells["a"].attempt == 1


def test_a_missing_package_says_how_to_install_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_ai.models", None)
    ran = run(TEXT % ("http://127.0.0.1:9/v1", "", ""))
    assert "openai needs pydantic-ai, which is not installed: pip install 'treadle[llm]'" in ran.error
    assert ran.cells["a"].attempt == 1


def test_tools_and_images_go_over_the_wire(run: Any, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def look(what: str) -> str:\n    'Look.'\n    return what.upper()\n")
    (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n123")
    with LLMServer({"tool": "look", "arguments": {"what": "sky"}}, "blue") as server:
        ran = run(TEXT % (server.url, "", ', tools: ["own:look"], images: cat.png'))
    assert ran.result == "blue"
    assert server.requests[0].tools == ["look"]
    _, user, assistant, tool = server.requests[1].messages
    assert user["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert assistant["tool_calls"][0]["id"] == tool["tool_call_id"]
    assert tool["content"] == "SKY"


def test_structured_output_is_asked_for_and_read(run: Any) -> None:
    schema = "{type: object, required: [n], properties: {n: {type: integer}}}"
    with LLMServer({"n": 1}) as server:
        ran = run(TEXT % (server.url, "", f", output: {schema}"))
    assert ran.result == {"n": 1}
    wanted = server.requests[0].schema
    assert wanted is not None and wanted["properties"] == {"n": {"type": "integer"}}


def test_ollama_is_asked_without_a_key_and_in_its_own_way(run: Any) -> None:
    schema = "{type: object, required: [n], properties: {n: {type: integer}}}"
    with LLMServer({"n": 1}) as server:
        text = TEXT % (server.url, "", f", output: {schema}")
        ran = run(text.replace("openai:test-model", "ollama:llama3.2"))
    assert ran.result == {"n": 1}, ran.error
    (asked,) = server.requests
    assert asked.model == "llama3.2" and asked.schema is not None
    assert not asked.body["response_format"]["json_schema"].get("strict")


def test_a_text_is_shown_while_it_comes(tmp_path: Path) -> None:
    with LLMServer(Reply(text="one two three four", every=0.05)) as server:
        async def main() -> list[str]:
            shown: list[str] = []
            config = TreadleConfig(progress_interval_s=0.01)
            async with Engine.open(f"sqlite:///{tmp_path}/runs.db", config=config) as engine:
                handle = await engine.start(loads(TEXT % (server.url, "", "")))
                async for event in handle.events([EventType.NODE_PROGRESSED]):
                    assert isinstance(event.cell, NodeState)
                    shown.append(steps_of(event.cell.meta).partial)
                assert await handle.result() == "one two three four"
            return shown

        shown = [one for one in asyncio.run(main()) if one]
    assert len(shown) >= 2 and all("one two three four".startswith(one) for one in shown)


def test_one_client_is_shared_and_closed_with_the_engine(tmp_path: Path) -> None:
    with LLMServer(*["x"] * 20) as server:
        spec = loads(f"""
treadle: 1
persons: {{P: {{model: "openai:test-model", base_url: "{server.url}", memory: none}}}}
nodes: {{a: {{type: person_job, person: P, prompt: "{{{{ item }}}}", for_each: "{{{{ range(20) }}}}"}}}}
""")

        async def main() -> Any:
            async with Engine.open("memory:", durability="memory") as engine:
                await (await engine.start(spec)).result()
                return next(iter(engine._app._kept["clients of models"]._open.values())).result()

        before = threading.active_count()
        client = asyncio.run(main())
        gc.collect()
    assert client._http.is_closed
    assert threading.active_count() <= before + 1
