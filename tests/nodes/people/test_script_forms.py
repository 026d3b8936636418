"""What an item of a script comes to, and what a script's function may ask for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from treadle.errors import InvalidInput
from treadle.nodes.people.messages import Answered, Call, ModelError, Request, Said, ToolSpec
from treadle.nodes.people.script import Positions, ScriptModel, played

REQUEST = Request("Ann", "script", "Be kind.", (Said("one"), Answered("1"), Said("two")),
                  (ToolSpec("look", "", {}),))


def play(item: Any) -> Any:
    return asyncio.run(played(item, REQUEST, lambda text: None))


@pytest.mark.parametrize(("item", "text"), [
    ("hello", "hello"), ({"n": 1}, '{"n":1}'), ([1, 2], "[1,2]"), (3, "3"), (None, "null"),
    ({"text": "hi", "after": 0}, "hi"), ({"text": {"n": 1}, "after": 0}, '{"n":1}'),
    ({"text": "an object of its own"}, '{"text":"an object of its own"}'),
    ({"error": "a text"}, '{"error":"a text"}')])
def test_what_is_a_text_and_what_stands_for_its_json(item: Any, text: str) -> None:
    assert play(item).message == Answered(text)


def test_calls_of_tools() -> None:
    one = play({"tool": "look", "arguments": {"at": "x"}}).message
    assert one.calls == (Call("call 3.1", "look", {"at": "x"}),)
    assert [call.id for call in play([{"tool": "a"}, {"tool": "b", "id": "mine"}]).message.calls] == [
        "call 3.1", "mine"]


def test_tokens_are_counted_or_said() -> None:
    assert (play("12345678").input_tokens, play("12345678").output_tokens) == (4, 2)
    said = play({"text": "x", "tokens": [7, 9]})
    assert (said.input_tokens, said.output_tokens) == (7, 9)


@pytest.mark.parametrize(("status", "retryable"), [(429, True), (500, True), (408, True), (400, False)])
def test_errors(status: int, retryable: bool) -> None:
    with pytest.raises(ModelError, match=rf"^Ann \(script\): status {status}: no$") as caught:
        play({"error": status, "retry_after": 2, "message": "no"})
    assert (caught.value.retryable, caught.value.retry_after) == (retryable, 2)


def test_a_misspelt_key_is_no_answer() -> None:
    with pytest.raises(InvalidInput, match=r"an answer of 'Ann' has no 'argumnets': did you mean 'argum"):
        play({"tool": "look", "argumnets": {}})


def ask(function: Any) -> str:
    return asyncio.run(ScriptModel(function, lambda: 4).ask(REQUEST, lambda text: None)).message.content


async def later(prompt: str) -> str:
    await asyncio.sleep(0)
    return prompt


def test_a_function_gets_what_its_parameters_name() -> None:
    assert ask(lambda: "x") == "x"
    assert ask(lambda prompt: prompt) == ask(lambda question: question) == ask(later) == "two"
    assert ask(lambda number, person, system: f"{number} {person} {system}") == "5 Ann Be kind."
    assert ask(lambda messages, tools, request: [len(messages), tools, request is REQUEST]) == (
        '[3,["look"],true]')
    assert ask(lambda prompt, other=1, **rest: sorted(rest)) == (
        '["messages","number","person","request","system","tools"]')
    with pytest.raises(InvalidInput, match="the script of 'Ann' wants 'b': its parameters may be request"):
        ask(lambda a, b: "")


def test_positions_are_counted_for_each_person_of_each_execution() -> None:
    positions = Positions()
    assert [positions.take("x", "Ann", lambda: {0, 1, 3}) for _ in range(3)] == [2, 4, 5]
    assert positions.take("x", "Bob", set) == positions.take("y", "Ann", set) == 0
    assert positions.take("z", "Ann", lambda: {2}, lambda number: number == 0) == 1  # 0 was an error


@pytest.mark.parametrize(("answer", "said"), [
    ({"tool": "look", "arguments": 3}, "`arguments` must be a map of names to values, not 3"),
    ({"tool": 3}, "`tool` must be the name of a tool, not 3"),
    ([{"tool": "look", "arguments": "x"}], "`arguments` must be a map"),
    ({"text": "x", "tools": ["look"]}, "`tools` must be a map with `tool`"),
    ({"text": "x", "after": "soon"}, "`after` must be seconds, not 'soon'"),
    ({"error": 429, "retry_after": "1"}, "`retry_after` must be seconds, not '1'"),
    ({"text": "x", "tokens": 3}, "`tokens` must be two numbers"),
    ({"text": "x", "tokens": [1]}, r"`tokens` must be two numbers.*not \[1\]")])
def test_what_an_answer_cannot_say(answer: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"^an answer of 'Ann': {said}"):
        play(answer)
