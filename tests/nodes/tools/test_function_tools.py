"""Functions as tools: the signature is the schema, the model's mistakes are told to the model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.errors import NoSuchSecret
from treadle.nodes.people.tools import error_of, told

from .conftest import Toolbox

Write = Callable[[str, str], Path]

CODE = '''
import asyncio
import enum
import threading
import time
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, Field


class Order(BaseModel):
    id: int
    items: list[str] = []


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclass
class Span:
    begin: date
    end: date


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


def search(query: str, limit: Annotated[int, Field(ge=1, le=10)] = 5) -> list[str]:
    """Search the notes.

    It knows nothing of spelling.

    Args:
        query: What to look for,
            in words.
        limit (int): How many at most.

    Returns:
        The titles.
    """
    return [query] * limit


async def later(when: date, mood: Mood, words: set[str], kind: Literal["a", "b"] = "a") -> dict:
    """Do it later.

    :param when: The day.
    :param Mood mood: How one feels.
    :returns: What was understood.
    """
    await asyncio.sleep(0)
    return {"when": when, "mood": mood, "words": words, "kind": kind}


def order(order: Order, spans: list[Span]) -> str:
    """Order something.

    Parameters
    ----------
    order : Order
        What it is.
    spans
        When it may come.

    Notes
    -----
    Nothing.
    """
    return f"{type(order).__name__} {order.id} {spans[0].end.year}"


def move(to: Point, by: Annotated[int, msgspec.Meta(ge=0, description="How far.")] = 1) -> Point:
    """Move."""
    return Point(to.x + by, to.y + by)


def optional(name: Annotated[str | None, "Whose."] = None, inputs: list[int] = [1]) -> str:
    return f"{name} {inputs}"


def known(context, question: str) -> list:
    """Ask."""
    return [context.idempotency_key, context.node_id, threading.current_thread() is threading.main_thread()]


def broken(text: str) -> str:
    raise KeyError(text)


def leave() -> str:
    raise SystemExit(3)


def slow(seconds: float) -> str:
    time.sleep(seconds)


async def asleep(seconds: float) -> str:
    await asyncio.sleep(seconds)


def secretive(context) -> str:
    return context.secret("env:TREADLE_NO_SUCH_SECRET")


def large(size: int) -> str:
    return "ä" * size


def many(size: int) -> list[int]:
    return list(range(size))


def image() -> bytes:
    return b"\\x89PNG\\r\\n\\x1a\\n" + bytes(30)


def kept(context, data: str) -> object:
    return context.blob(data.encode(), "data")


def noise() -> bytes:
    return bytes([255, 254, 0])


def odd(deep: bool) -> object:
    return ["\\ud800"] if deep else "\\ud800"


def thing() -> object:
    return object()


def nothing() -> None:
    pass


def untyped(a, b: int) -> str:
    return ""


def opaque(run: threading.Lock) -> str:
    return ""


class Caller:
    """Calls."""

    async def __call__(self, x: int) -> int:
        """Calls indeed."""
        return x + 1


caller = Caller()
'''


@pytest.fixture
def box(toolbox: Toolbox, write: Write) -> Toolbox:
    write("kit.py", CODE)
    return toolbox


def test_a_signature_is_a_schema(box: Toolbox) -> None:
    tool = box.shape("kit:search")["search"]
    assert tool.description == "Search the notes.\n\nIt knows nothing of spelling."
    assert tool.schema == {
        "type": "object", "required": ["query"], "additionalProperties": False,
        "properties": {
            "query": {"type": "string", "description": "What to look for, in words."},
            "limit": {"type": "integer", "minimum": 1, "maximum": 10, "default": 5,
                      "description": "How many at most."}}}
    assert not tool.approve


def test_every_style_of_docstring_is_read(box: Toolbox) -> None:
    tools = box.shape("kit:later", "kit:order")
    assert tools["later"].description == "Do it later."
    properties = tools["later"].schema["properties"]
    assert (properties["when"]["format"], properties["when"]["description"]) == ("date", "The day.")
    assert properties["mood"]["description"] == "How one feels."
    assert tools["order"].description == "Order something."
    assert tools["order"].schema["properties"]["order"]["description"] == "What it is."
    assert set(tools["order"].schema["$defs"]) == {"Span"}
    assert box.shape("kit:optional")["optional"].schema["properties"]["name"]["description"] == "Whose."


def test_arguments_become_values_of_their_types(box: Toolbox) -> None:
    arguments = {"when": "2026-02-03", "mood": "good", "words": ["x"]}
    assert box.call("kit:later", arguments) == {**arguments, "kind": "a"}
    span = {"begin": "2026-01-01", "end": "2027-01-01"}
    assert box.call("kit:order", {"order": {"id": 3}, "spans": [span]}) == "Order 3 2027"
    assert box.call("kit:move", {"to": {"x": 1}}) == {"x": 2, "y": 1}
    assert box.call("kit:optional", {}) == "None [1]"
    assert box.call("kit:optional", {"name": None, "inputs": [2]}) == "None [2]"
    assert box.call("kit:caller", {"x": 1}) == 2
    assert box.call("kit:search", {"query": "a", "limit": 2.0}) == ["a", "a"]
    assert box.call("kit:order", {"order": {"id": 3.0}, "spans": [span]}) == "Order 3 2027"


@pytest.mark.parametrize(("tool", "arguments", "message"), [
    ("search", {"query": 3}, "parameter 'query': input should be a valid string, not 3"),
    ("search", {"query": "a", "limit": "3"}, "parameter 'limit': input should be a valid integer, not \"3\""),
    ("search", {"query": "a", "limit": 2.5}, "parameter 'limit': input should be a valid integer, not 2.5"),
    ("search", {"query": "a", "limit": 30},
     "parameter 'limit': input should be less than or equal to 10, not 30"),
    ("search", {"query": "a", "limits": 3}, "there is no parameter 'limits': did you mean 'limit'?"),
    ("search", {"limit": 3}, "parameter 'query' is missing"),
    ("search", ["a"], 'the arguments must be an object, not ["a"]'),
    ("order", {"order": {"id": 1}, "spans": [{"begin": "2026-01-01"}]},
     "parameter 'spans[0].end': it is missing"),
    ("order", {"order": {"id": "x"}, "spans": []},
     "parameter 'order.id': input should be a valid integer, not \"x\""),
    ("move", {"to": {"x": "1"}}, "parameter 'to.x': expected an integer, not a text"),
    ("move", {"to": {"x": 1}, "by": -1}, "parameter 'by': expected an integer >= 0"),
    ("later", {"when": "soon", "mood": "fine", "words": []},
     "parameter 'when': input should be a valid date in the format YYYY-MM-DD, input is too short, not "
     "\"soon\"; parameter 'mood': input should be 'good' or 'bad', not \"fine\""),
])
def test_a_wrong_argument_is_told_to_the_model(box: Toolbox, tool: str, arguments: Any, message: str) -> None:
    assert error_of(box.call(f"kit:{tool}", arguments)) == message


def test_a_tool_may_want_its_context(box: Toolbox) -> None:
    """A sync function runs in a thread; the key is that of the call, not of the node."""
    assert box.call("kit:known", {"question": "?"}) == ["e/n/1/t 1", "n", False]
    assert box.shape("kit:known")["known"].schema["required"] == ["question"]


def test_what_a_tool_raises_is_told_to_the_model(box: Toolbox) -> None:
    assert box.call("kit:broken", {"text": "no such thing"}) == {"error": "KeyError: 'no such thing'"}
    assert box.call("kit:leave", {}) == {"error": "BodyDied: the body called sys.exit(3)"}


@pytest.mark.parametrize("tool", ["slow", "asleep"])
def test_a_tool_has_its_own_time(box: Toolbox, tool: str) -> None:
    start = time.monotonic()
    found = box.call({"call": f"kit:{tool}", "timeout": 0.05}, {"seconds": 0.4})
    assert found == {"error": f"{tool} took longer than its timeout of 0.05 s"}
    assert time.monotonic() - start < 30


def test_a_missing_secret_is_no_matter_for_a_model(box: Toolbox) -> None:
    with pytest.raises(NoSuchSecret, match="TREADLE_NO_SUCH_SECRET"):
        box.call("kit:secretive", {})


def test_a_large_result_is_cut_and_says_so(box: Toolbox) -> None:
    box.limit(tool_result_bytes_max=1000)
    assert box.call("kit:large", {"size": 500}) == "ä" * 500
    text = box.call("kit:large", {"size": 5000})
    assert text == "ä" * 500 + ("\n\n[Cut here: these are the first 1000 bytes of 9.77 KB. Ask for less, or "
                                "for a part of it.]")
    text = box.call("kit:many", {"size": 5000})
    assert text.startswith("[0,1,2,") and "the first 1000 bytes of " in text


def test_results_are_texts_data_or_images(box: Toolbox) -> None:
    assert told(box.call("kit:search", {"query": "a", "limit": 2})) == ('["a","a"]', [])
    text, images = told(box.call("kit:image", {}))
    assert text == "" and images[0].media_type == "image/png" and images[0].data.startswith(b"\x89PNG")
    assert error_of(box.call("kit:noise", {})) == (
        "ValueError: 3 bytes that are neither text nor an image: return what a model can read")
    assert "object can't be written" in str(error_of(box.call("kit:thing", {})))
    assert told(box.call("kit:nothing", {})) == ("null", [])
    assert (box.call("kit:odd", {"deep": False}), box.call("kit:odd", {"deep": True})) == ("\\ud800", ["?"])
    assert told({"error": "no"}) == ("Error: no", [])
    assert box.call("kit:kept", {"data": "short"}) == "short"
    box.limit(tool_result_bytes_max=20)
    assert error_of(box.call("kit:kept", {"data": "x" * 30})) == (
        "ValueError: a blob of 30 bytes, and a result may have 20 bytes: return a part of it")
    text, images = told(box.call("kit:image", {}))
    assert (text, images) == ("[image/png of 39 bytes left out: a result may have 20 bytes]", [])


def test_a_tool_may_have_another_name_and_description(box: Toolbox) -> None:
    tool = box.shape({"call": "kit:search", "name": "find", "description": "Finds.", "approve": True})["find"]
    assert (tool.name, tool.description, tool.approve) == ("find", "Finds.", True)


def test_a_schema_is_plain_json(box: Toolbox) -> None:
    for tool in box.shape("kit:later", "kit:order", "kit:move", "kit:optional").values():
        assert json.loads(json.dumps(tool.schema)) == tool.schema
