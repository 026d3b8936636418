"""Persons in diagrams that are drawn in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from treadle.diagram.builder import Diagram, Output, node, person
from treadle.diagram.formats import dumps, loads
from treadle.diagram.person import Person
from treadle.errors import InvalidDiagram
from treadle.testing.diagrams import run_diagram


class Facts(BaseModel):  # type: ignore[misc]  # of Any, where mypy doesn't follow it
    title: str
    words: int


@node
def count(text: str) -> int:
    return len(text.split())


def search(query: str) -> str:
    """Searches."""
    return f"nothing about {query}"


def test_a_person_is_asked_decides_and_is_asked_for_each() -> None:
    ann = person("Ann", "script", system_prompt="You are a poet.", script=["Rain falls.", "Rain."])
    bob = person("Bob", "script", script=["yes", {"title": "Rain", "words": 1}, "a", "b"],
                 settings={"temperature": 0.5})
    with Diagram("poem") as d:
        line = ann("A line about {{ topic }}.", topic=d.input("topic", str, "rain"))
        shorter = ann("Make it shorter.", line, id="shorter")
        words = count(shorter)
        good = bob.decides("Is it good? {{ text }}", text=shorter)
        with good.true as text:
            facts = bob("What is it? {{ text }}", output=Facts, text=text)
        with good.false:
            bad = bob("Why not?")
        letters = bob.map(["x", "y"], "Letter {{ item }}", facts, concurrency=1, id="letters")
        d.result(facts | bad, words=words, letters=letters)
    ran = run_diagram(d)
    assert (ran.status, ran.outputs["Ann"], ran.outputs["shorter"]) == ("completed", "Rain falls.", "Rain.")
    assert ran.outputs["Bob"] == {"title": "Rain", "words": 1}
    assert ran.outputs["letters"] == ["a", "b"]
    assert ran.calls["count"][0] == {"text": "Rain."}
    assert d.spec().persons["Bob"].settings.temperature == 0.5
    again = loads(dumps(d.spec()), base=str(Path(__file__).parent))
    assert again.persons["Ann"].system_prompt == "You are a poet."


def test_choices_and_tools() -> None:
    ann = person("Ann", "script", script=[{"tool": "search", "arguments": {"query": "x"}}, "found", "print"])
    with Diagram("d") as d:
        found = ann("Find it.", tools=[search, {"call": search, "name": "look"}])
        way = ann.decides("What now? {{ text }}", ["print", "send back"], text=found, memory="own")
        with way.case("print"):
            d.add("printed", "endpoint")
        with way.case("send back"):
            d.add("sent", "endpoint")
    assert next(one for one in d.spec().nodes if one.id == "Ann").properties["tools"] == [
        f"{__name__}:search", {"call": f"{__name__}:search", "name": "look"}]
    ran = run_diagram(d)
    assert ran.status == "completed" and "printed" in ran.order and "sent" not in ran.order


def test_mistakes_name_their_line() -> None:
    here = r"test_drawn_persons\.py:\d+: "
    with pytest.raises(InvalidDiagram, match=here + "person 'Ann': unknown property 'heat'"):
        person("Ann", "script", settings={"heat": 2})
    ann = person("Ann", "script")
    with pytest.raises(RuntimeError, match=r"Ann\(…\) draws a node, so it belongs into a block"):
        ann("Hello")
    with Diagram("d"):
        ann("Hello")
        with pytest.raises(InvalidDiagram, match=here + "the diagram 'd' has another person 'Ann' already"):
            person("Ann", "script", system_prompt="Other.")("Hello")
        with pytest.raises(InvalidDiagram, match="output: dict is no pydantic model"):
            ann("Hello", output=dict)
        with pytest.raises(InvalidDiagram, match="can't be found again when the execution is resumed"):
            ann("Hello", tools=[lambda query: query])
        text: Output[Any] = ann("A text")
        with pytest.raises(InvalidDiagram, match="is str, not a list to map over"):
            count.map(text)


def test_a_person_of_the_diagram_is_the_same() -> None:
    ann = person("Ann", "script")
    with Diagram("d", persons={"Ann": Person(model="script")}) as d:
        ann("Hello")
    assert run_diagram(d).result == "r1"
