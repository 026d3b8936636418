"""What a provider says, in our words and back: thoughts, calls, tokens, cost."""

from __future__ import annotations

import msgspec
import pytest
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.usage import RequestUsage

from treadle.nodes.people.messages import Answer, Answered, Call, Request, Said
from treadle.nodes.people.providers.wire import answer_of, counted, parts_of


def response(model: str = "gpt-4o", provider: str = "openai") -> ModelResponse:
    return ModelResponse(
        parts=[ThinkingPart("hm", signature="s", provider_name=provider), TextPart("I look."),
               ToolCallPart("look", '{"at": 1}', "c1"), ToolCallPart("look", "{bad", "c2")],
        usage=RequestUsage(input_tokens=1000, output_tokens=500), model_name=model, provider_name=provider)


def test_what_was_thought_goes_back_with_the_results_of_tools() -> None:
    message = answer_of(response(), priced=False).message
    assert message.content == "I look."
    assert message.calls == (Call("c1", "look", {"at": 1}), Call("c2", "look", raw="{bad"))
    recorded = msgspec.convert(msgspec.json.decode(msgspec.json.encode(message)), Answered)
    thought, *_ = parts_of(recorded)
    assert isinstance(thought, ThinkingPart) and (thought.content, thought.signature) == ("hm", "s")
    plain = parts_of(msgspec.structs.replace(recorded, parts=None))
    assert [part.part_kind for part in plain] == ["text", "tool-call", "tool-call"]


@pytest.mark.parametrize(("model", "cost"), [("gpt-4o", 0.0075), ("none", None)])
def test_the_cost_is_known_where_the_price_is(model: str, cost: float | None) -> None:
    assert answer_of(response(model), priced=True).cost == cost
    assert answer_of(response(model), priced=False).cost is None


def test_tokens_that_nobody_has_counted_are_guessed() -> None:
    request = Request("Ann", "m", "12345678", (Said("1234"),))
    assert counted(Answer(Answered("12345678")), request).input_tokens == 3
    assert counted(Answer(Answered("12345678")), request).output_tokens == 2
    assert counted(Answer(Answered("x"), output_tokens=9), request).output_tokens == 9
