"""The LLM server of the kit, driven by the real client of OpenAI, and by httpx where that hides too much."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import openai
import pytest

import treadle
from treadle.errors import InvalidInput
from treadle.testing.llm import Asked, LLMServer, Reply
from treadle.testing.llm.replies import ToolCall, reply_of

ASK: dict[str, Any] = {"model": "m-1", "messages": [{"role": "system", "content": "Be brief"},
                                                    {"role": "user", "content": "What is tea?"}]}


@contextmanager
def client(server: LLMServer, key: str = "k", retries: int = 0) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key=key, max_retries=retries) as made:
        yield made


def test_it_says_what_it_was_told_in_order_and_keeps_what_it_was_asked() -> None:
    with LLMServer("A drink", {"leaf": True}) as server, client(server) as made:
        first = made.chat.completions.create(**ASK)
        second = made.chat.completions.create(**ASK)
    assert first.choices[0].message.content == "A drink"
    assert first.choices[0].finish_reason == "stop"
    assert json.loads(second.choices[0].message.content or "") == {"leaf": True}
    assert (first.usage and (first.usage.prompt_tokens, first.usage.completion_tokens)) == (5, 2)
    asked = server.requests[0]
    assert (asked.number, asked.model, asked.prompt, asked.system, asked.key, asked.stream) == (
        1, "m-1", "What is tea?", "Be brief", "k", False)
    assert server.prompts == ["What is tea?"] * 2


def test_without_answers_it_counts() -> None:
    with LLMServer() as server, client(server) as made:
        assert [made.chat.completions.create(**ASK).choices[0].message.content for _ in range(3)] == [
            "r1", "r2", "r3"]


def test_it_streams_words_and_the_usage_if_that_is_asked_for() -> None:
    with LLMServer(Reply(text="It is  a drink.", tokens=(40, 2)), "Yes") as server, client(server) as made:
        events = list(made.chat.completions.create(**ASK, stream=True,
                                                   stream_options={"include_usage": True}))
        plain = list(made.chat.completions.create(**ASK, stream=True))
    said = [event.choices[0].delta.content for event in events if event.choices]
    assert said == ["", "It ", "is  ", "a ", "drink.", None]
    assert events[-1].usage is not None
    assert (events[-1].usage.prompt_tokens, events[-1].usage.completion_tokens) == (40, 2)
    assert all(event.usage is None for event in plain)


def test_it_calls_tools_whole_and_in_pieces() -> None:
    calls = [{"tool": "search", "arguments": {"query": "green tea", "limit": 3}},
             {"tool": "clock", "id": "mine"}]
    with LLMServer(calls, calls) as server, client(server) as made:
        message = made.chat.completions.create(**ASK).choices[0].message
        pieces: dict[int, list[str]] = {}
        reason = None
        for event in made.chat.completions.create(**ASK, stream=True):
            reason = event.choices[0].finish_reason or reason
            for call in event.choices[0].delta.tool_calls or ():
                assert call.function is not None
                pieces.setdefault(call.index, []).append(call.function.arguments or "")
    assert message.content is None and message.tool_calls is not None
    assert [(call.id, call.function.name, json.loads(call.function.arguments))  # type: ignore[union-attr]
            for call in message.tool_calls] == [
        ("call_1_1", "search", {"query": "green tea", "limit": 3}), ("mine", "clock", {})]
    assert len(pieces[0]) > 3 and reason == "tool_calls"
    assert [json.loads("".join(parts)) for parts in pieces.values()] == [
        {"query": "green tea", "limit": 3}, {}]


def test_the_request_s_tools_and_schema_are_at_hand() -> None:
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
    with LLMServer({"sure": True}) as server, client(server) as made:
        made.chat.completions.create(
            **ASK, tools=[{"type": "function", "function": {"name": "search", "parameters": {}}}],
            response_format={"type": "json_schema", "json_schema": {"name": "out", "schema": schema}})
    assert server.requests[0].tools == ["search"]
    assert server.requests[0].schema == schema


def test_a_function_answers_by_what_it_is_asked() -> None:
    def answer(asked: Asked) -> object:
        return {"error": 503} if asked.number == 1 else f"{asked.prompt} {len(asked.messages)}"

    with LLMServer(answer) as server, client(server, retries=2) as made:
        assert made.chat.completions.create(**ASK).choices[0].message.content == "What is tea? 2"
    assert len(server.requests) == 2


@pytest.mark.parametrize("wait", [{"error": 429, "retry_after": 0.05}, Reply(status=500),
                                  {"error": 503, "text": "busy"}])
def test_the_client_tries_again_after_what_passes(wait: object) -> None:
    with LLMServer(wait, "now") as server, client(server, retries=1) as made:
        assert made.chat.completions.create(**ASK).choices[0].message.content == "now"
    assert len(server.requests) == 2
    if isinstance(wait, dict) and "retry_after" in wait:
        assert server.requests[1].at - server.requests[0].at >= 0.05


def test_an_error_tells_its_status_message_and_when_to_come_again() -> None:
    noon = datetime(2030, 1, 2, 12, tzinfo=UTC)
    with LLMServer(Reply(status=429, retry_after=noon, text="slow down"), {"error": 429, "retry_after": 7},
                   Reply(status=500)) as server, client(server) as made:
        with pytest.raises(openai.RateLimitError, match="slow down") as dated:
            made.chat.completions.create(**ASK)
        with pytest.raises(openai.RateLimitError) as counted:
            made.chat.completions.create(**ASK, stream=True)
        with pytest.raises(openai.InternalServerError, match="Internal Server Error"):
            made.chat.completions.create(**ASK)
    assert dated.value.response.headers["retry-after"] == "Wed, 02 Jan 2030 12:00:00 GMT"
    assert counted.value.response.headers["retry-after"] == "7"


def test_a_stream_that_breaks_in_the_middle() -> None:
    with LLMServer(Reply(text="one two three four", cut=2), Reply(text="whole", cut=0)) as server:
        said = []
        with client(server) as made, pytest.raises(openai.APIConnectionError):
            for event in made.chat.completions.create(**ASK, stream=True):
                said.append(event.choices[0].delta.content)
        assert said == ["", "one ", "two "]
        with client(server) as made, pytest.raises(openai.APIConnectionError):
            made.chat.completions.create(**ASK)


def test_it_is_slow_to_begin_and_slow_to_go_on() -> None:
    with LLMServer({"after": 0.2, "text": "late"}, Reply(text="a b c", every=0.05)) as server, \
            client(server) as made:
        began = time.monotonic()
        with pytest.raises(openai.APITimeoutError):
            made.with_options(timeout=0.05).chat.completions.create(**ASK)
        at = [time.monotonic() for _ in made.chat.completions.create(**ASK, stream=True)]
    assert time.monotonic() - began < 5
    assert at[-1] - at[0] >= 0.1


def test_answers_that_are_no_json_or_no_json_by_name() -> None:
    with LLMServer(Reply(body='{"id": "x", "choi'), Reply(body="<h1>Hi</h1>", content_type="text/html"),
                   Reply(body=b"data: {no\n\n", content_type="text/event-stream")) as server:
        with client(server) as made, pytest.raises(ValueError, match="Unterminated"):
            made.chat.completions.create(**ASK)
        answer = httpx.post(f"{server.url}/chat/completions", json=ASK)
        assert (answer.text, answer.headers["content-type"]) == ("<h1>Hi</h1>", "text/html")
        with client(server) as made, pytest.raises(ValueError):
            list(made.chat.completions.create(**ASK, stream=True))


def test_it_wants_its_key() -> None:
    with LLMServer("in", key="right") as server:
        with client(server, key="wrong") as made, pytest.raises(openai.AuthenticationError, match="a wrong"):
            made.chat.completions.create(**ASK)
        assert httpx.post(f"{server.url}/chat/completions", json=ASK).json()["error"]["message"] == (
            "no key came")
        with client(server, key="right") as made:
            assert [model.id for model in made.models.list()] == ["test-model"]
            assert made.chat.completions.create(**ASK).choices[0].message.content == "in"
    assert [asked.key for asked in server.requests] == ["wrong", None, "right", "right"]


def test_what_it_can_t_answer_it_says() -> None:
    with LLMServer("one") as server, client(server) as made:
        with pytest.raises(openai.NotFoundError, match=r"there is POST /v1/chat/completions"):
            made.responses.create(model="m", input="hi")
        assert httpx.post(f"{server.url}/chat/completions", content=b"[").status_code == 400
        made.chat.completions.create(**ASK)
        with pytest.raises(openai.BadRequestError, match="given 1 answers, and this is request 2"):
            made.chat.completions.create(**ASK)
        server.say("another")
        with pytest.raises(openai.BadRequestError):  # it would have been the second
            made.chat.completions.create(**ASK)


def test_a_function_that_fails_fails_its_test() -> None:
    def broken(asked: Asked) -> str:
        raise KeyError("no such prompt")

    failing = pytest.raises(openai.InternalServerError, match="the test's answer failed: KeyError")
    with pytest.raises(KeyError), LLMServer(broken) as server, client(server) as made, failing:
        made.chat.completions.create(**ASK)


def test_many_at_once() -> None:
    with LLMServer(lambda asked: Reply(text=asked.prompt, after=0.1)) as server, httpx.Client() as made, \
            ThreadPoolExecutor(20) as pool:
        def ask(number: int) -> str:
            body = {"model": "m", "messages": [{"role": "user", "content": str(number)}]}
            answer = made.post(f"{server.url}/chat/completions", json=body).json()
            return str(answer["choices"][0]["message"]["content"])

        assert list(pool.map(ask, range(40))) == [str(number) for number in range(40)]
    assert server.at_once_max > 5


def test_a_client_that_goes_away_is_counted_and_hurts_nobody() -> None:
    with LLMServer(Reply(text="word " * 5000, every=0.001), "next") as server:
        with httpx.stream("POST", f"{server.url}/chat/completions", json={**ASK, "stream": True}) as answer:
            next(answer.iter_raw())
        with client(server) as made:
            assert made.chat.completions.create(**ASK).choices[0].message.content == "next"
        deadline = time.monotonic() + 5
        while not server.dropped and time.monotonic() < deadline:
            time.sleep(0.01)
    assert server.dropped == 1


def test_the_port_may_be_said_and_may_be_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"), LLMServer(port=taken.getsockname()[1]):
            pass


def test_a_reply_with_a_slip_is_refused() -> None:
    with pytest.raises(InvalidInput, match="a reply has no 'retry_afer': did you mean 'retry_after'"):
        reply_of({"error": 429, "retry_afer": 1})
    assert reply_of([{"tool": "a", "arguments": "{broken"}]).tools == (ToolCall("a", "{broken"),)
    assert reply_of({"tool": "a", "text": "one moment"}).text == "one moment"


def test_it_runs_in_a_process_of_its_own() -> None:
    child = subprocess.Popen([sys.executable, "-m", "treadle.testing.llm", "--say", "child"],
                             stdout=subprocess.PIPE, text=True,
                             env={"PYTHONPATH": str(treadle.__path__[0]).removesuffix("treadle")})
    try:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        answer = httpx.post(f"{url}/chat/completions", json=ASK).json()
        assert answer["choices"][0]["message"]["content"] == "child"
    finally:
        child.terminate()
        child.communicate()
