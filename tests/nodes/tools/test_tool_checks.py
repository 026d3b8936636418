"""What `check` says of tools before anything runs: where it is, what is wrong, what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.check import check_file
from treadle.diagram.types import Doubt
from treadle.errors import ExecutionFailed, InvalidDiagram
from treadle.nodes.people.tools import (
    ToolFault,
    Verdict,
    check_tools,
    error_of,
    question,
    tool_faults,
    tool_sources,
    verdict,
)
from treadle.nodes.people.tools.specs import NAME
from treadle.nodes.registry import default_registry

from .conftest import Toolbox

Write = Callable[[str, str], Path]

CODE = '''
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal


def search(query: str) -> str:
    """Search."""
    return query


def silent(query: str) -> str:
    return query


def untyped(query, limit: int = 3) -> str:
    """Search."""
    return query


def opaque(lock: threading.Lock) -> str:
    """Search."""
    return ""


def hidden(amount: "Decimal") -> str:
    """Pay."""
    return ""


def positional(query: str, /) -> str:
    """Search."""
    return query
'''
SEARCH = """
treadle: 1
description: Searches well
inputs:
  query: {type: string, description: What to look for}
  limit: {type: integer, default: 5}
nodes:
  begin: {type: start}
  done: {type: endpoint, needs: begin}
"""
ASKS = """
treadle: 1
nodes:
  outer:
    type: sub_diagram
    diagram:
      nodes:
        ask: {type: user_response, prompt: "Well?"}
"""


LEAVE = """
treadle: 1
persons: {Ann: {model: script}}
nodes:
  ask: {type: person_job, person: Ann, tools: [{call: "kits:search", approve: true}]}
"""


@pytest.fixture
def base(tmp_path: Path, write: Write) -> str:
    write("kits.py", CODE)
    write("search.yaml", SEARCH)
    write("asks.yaml", ASKS)
    write("leave.yaml", LEAVE)
    write("broken.yaml", "treadle: 1\nnodes:\n  a: {type: cod_job}\n  b: {type: endpoint, neds: a}\n")
    return str(tmp_path)


PROGRAM = [sys.executable]


def test_names() -> None:
    """A model may call only what these are names for."""
    assert NAME.fullmatch("a_B-9") and not NAME.fullmatch("a.b") and not NAME.fullmatch("x" * 65)



@pytest.mark.parametrize(("item", "at", "message"), [
    ("kits:serch", ".call", "'kits:serch': .*kits.py has no 'serch': did you mean 'search'"),
    ("kit:search", ".call", "no module 'kit' in .* or installed: did you mean 'kits'"),
    ("kits.search", ".call", "'kits.search' is not the path of a function: write it as 'module:function'"),
    ("search.yaml", "", "'search.yaml' is not the path of a function .for a diagram write {diagram: search"),
    ("kits:untyped", ".call", "parameter 'query' of untyped has no type: write it, as in `query: str`"),
    ("kits:opaque", ".call", "parameter 'lock' of opaque: a .*lock.* has no form in JSON"),
    ("kits:hidden", ".call", "the types of 'hidden' can't be read .name 'Decimal' is not defined.: import"),
    ("kits:positional", ".call", "parameter 'query' of positional is positional only"),
    (7, "", "a tool is 'module:function' or a map with `call`, `diagram` or `mcp`"),
    (test_names, "", "a tool is .*write '.*test_tool_checks:test_names'"),
    ({}, "", "a tool needs one of `call`, `diagram` and `mcp`"),
    ({"cal": "kits:search"}, "", "a tool needs one of .*did you mean 'call'"),
    ({"call": "kits:search", "mcp": {}}, "", "a tool needs one of .*, not call and mcp"),
    ({"call": "kits:search", "aprove": True}, ".aprove", "unknown property 'aprove' .did you mean 'approve'"),
    ({"call": "kits:search", "approve": "yes"}, ".approve", "expected true or false.*write true or false"),
    ({"call": "kits:search", "timeout": 0}, ".timeout", "must be more than 0 seconds, not 0"),
    ({"call": "kits:search", "name": "find it"}, ".name", "'find it' can't be the name of a tool"),
    ({"call": "kits:search", "name": "model"}, "", "can't be called 'model', as are steps of another kind"),
    ({"diagram": "serch.yaml"}, ".diagram", "can't be read: No such file.*did you mean 'search.yaml'"),
    ({"diagram": "broken.yaml"}, ".diagram", r"'broken.yaml': .*broken.yaml:4: node 'b': .*'neds'.*needs"),
    ({"diagram": "asks.yaml"}, ".diagram", "can't be a tool: its node 'outer/ask' .user_response. waits"),
    ({"diagram": "leave.yaml"}, ".diagram", "can't be a tool: its node 'ask' .person_job. waits"),
    ({"mcp": "server"}, ".mcp", "expected a map"),
    ({"mcp": {}}, ".mcp", "an MCP server needs either `command` or `url`"),
    ({"mcp": {"command": PROGRAM, "url": "http://a/b"}}, ".mcp", "needs either `command` or `url`"),
    ({"mcp": {"comand": PROGRAM}}, ".mcp.comand", "unknown property 'comand' .did you mean 'command'"),
    ({"mcp": {"command": "server"}}, ".mcp.command", "expected a list"),
    ({"mcp": {"command": PROGRAM, "headers": {"a": "b"}}}, ".mcp.headers", "belong to `url`.*`env`"),
    ({"mcp": {"url": "http://a/b", "env": {"a": "b"}}}, ".mcp.env", "belongs to `command`.*`headers`"),
    ({"mcp": {"url": "a/b"}}, ".mcp.url", "must begin with http:// or https://"),
    ({"mcp": {"command": [*PROGRAM, "secret://A"]}}, r".mcp.command\[1\]", "can be seen by every program"),
    ({"mcp": {"url": "http://a/b", "headers": {"A": "Bearer secret://A"}}}, ".mcp.headers.A", "whole value"),
    ({"mcp": {"url": "http://a/secret://A"}}, ".mcp.url", "send it in `headers`"),
    ({"mcp": {"command": PROGRAM}, "prefix": "a b"}, ".prefix", "'a b' can't stand in a tool's name"),
    ({"mcp": {"command": PROGRAM}, "approve": 1}, ".approve", "expected"),
])
def test_a_mistake_has_its_place(base: str, item: Any, at: str, message: str) -> None:
    with pytest.raises(ToolFault, match=message) as it:
        check_tools(["kits:search", item], base)
    assert it.value.at.replace("[", "\\[").replace("]", "\\]") == rf"tools\[1\]{at}"


def test_tools_are_a_list(base: str) -> None:
    with pytest.raises(ToolFault, match="`tools` must be a list"):
        check_tools("kits:search", base)


def test_two_tools_of_one_name(base: str) -> None:
    with pytest.raises(ToolFault, match=r"two tools are called 'search', of tools\[0\] and tools\[1\] "
                                        r"\(give a `name` to one of them\)"):
        check_tools(["kits:search", {"diagram": "search.yaml"}], base)
    assert check_tools(["kits:search", {"diagram": "search.yaml", "name": "find"}], base) == ()


def test_a_tool_that_says_nothing_of_itself_is_doubtful(base: str) -> None:
    (doubt,) = check_tools(["kits:silent", "kits:search"], base)
    assert doubt == Doubt("tool 'kits:silent' has no docstring: the model is told nothing of what it does",
                          "tools[0]", "write one, or say `description`")
    assert check_tools([{"call": "kits:silent", "description": "Searches."}], base) == ()
    assert check_tools([{"diagram": "search.yaml"}], base) == ()


def test_all_faults_are_found(base: str) -> None:
    found = list(tool_faults(["kits:serch", "kits:silent", {"diagram": "asks.yaml"}], base))
    assert [one.at for one in found] == ["tools[0].call", "tools[1]", "tools[2].diagram"]


def test_a_diagram_that_would_run_itself(base: str, write: Write) -> None:
    """Also by way of another. A fault of a tool has the line of the item that it is in."""
    text = """treadle: 1
persons:
  Ann: {model: script}
nodes:
  ask:
    type: person_job
    person: Ann
    tools:
      - {diagram: NEXT.yaml, description: Asks}
      - "kits:silent"
"""
    write("one.yaml", text.replace("NEXT", "two"))
    write("two.yaml", text.replace("NEXT", "one"))
    (error,) = check_file(f"{base}/one.yaml", default_registry()).errors
    assert (error.where and error.where.line, error.node) == (9, "ask")
    assert error.message.startswith("diagram 'two.yaml': ") and "two.yaml:9: node 'ask': " in error.message
    assert error.message.endswith("the diagram 'two.yaml' would run itself as a tool")
    write("one.yaml", text.replace("NEXT", "search"))
    checked = check_file(f"{base}/one.yaml", default_registry())
    assert checked.errors == ()
    assert [(one.where and one.where.line, one.message) for one in checked.warnings] == [
        (10, "tool 'kits:silent' has no docstring: the model is told nothing of what it does")]


def test_a_fingerprint_covers_what_tools_do(base: str, write: Write) -> None:
    specs = ["kits:search", {"diagram": "search.yaml", "name": "find"}]
    before = tool_sources(specs, base)
    write("kits.py", CODE.replace("return query\n", "return query + '!'\n", 1))
    after = tool_sources(specs, base)
    assert before[0] != after[0] and before[1] == after[1]
    write("search.yaml", SEARCH.replace("default: 5", "default: 6"))
    assert tool_sources(specs, base)[1] != after[1]
    assert tool_sources([{"mcp": {"command": ["nobody"]}}], base) == []


def test_a_diagram_is_a_tool(toolbox: Toolbox, base: str) -> None:
    toolbox.answers = {"found": ["a"]}
    tool = toolbox.shape({"diagram": "search.yaml"})["search"]
    assert tool.description == "Searches well"
    assert tool.schema == {
        "type": "object", "required": ["query"], "additionalProperties": False,
        "properties": {"query": {"type": "string", "description": "What to look for"},
                       "limit": {"type": "integer", "default": 5}}}
    assert toolbox.call({"diagram": "search.yaml"}, {"query": "x"}) == {"found": ["a"]}
    assert toolbox.ran == [("search.yaml", {"query": "x"}, "t 1")]


def test_a_diagrams_mistakes_are_told_to_the_model(toolbox: Toolbox, base: str) -> None:
    wrong = error_of(toolbox.call({"diagram": "search.yaml"}, {"limit": "3", "quer": "x"}))
    assert wrong == ("parameter 'limit' must be of type integer, not str; there is no parameter 'quer': did "
                     "you mean 'query'?; parameter 'query' is missing")
    toolbox.answers = ExecutionFailed("node 'x' failed: no luck", execution_id="e.n.t 1", status="failed")
    assert error_of(toolbox.call({"diagram": "search.yaml"}, {"query": "x"})) == "node 'x' failed: no luck"
    toolbox.answers = InvalidDiagram([])
    with pytest.raises(InvalidDiagram):
        toolbox.call({"diagram": "search.yaml"}, {"query": "x"})


def test_a_question_shows_the_call_and_takes_plain_answers(toolbox: Toolbox, base: str) -> None:
    from treadle.engine.inbox import fault_of

    tool = toolbox.shape("kits:search")["search"]
    asked = question(tool, {"query": "ä", "n": 1}, "approve 2", who="Ann")
    assert asked["prompt"] == 'Ann wants to call search with\n  query: "ä"\n  n: 1\nAllow it (yes, no)?'
    assert (asked["kind"], asked["step"], asked["tool"]) == ("answer", "approve 2", "search")
    assert question(tool, {}, "approve 1")["prompt"] == "The model wants to call search. Allow it (yes, no)?"
    assert len(question(tool, {"query": "x" * 9000}, "approve 1")["prompt"]) < 4100
    for answer, said in (("yes", True), (True, True), ("no", False), (False, False), ("Yes", True),
                         ({"approve": True}, True), ({"approve": False, "reason": "too late"}, False)):
        assert fault_of(answer, asked["schema"]) is None
        assert verdict(answer).approve is said
    for answer in ("perhaps", 1, None, {}, {"approve": "yes"}, {"approve": True, "resaon": "x"}):
        assert fault_of(answer, asked["schema"]) is not None
    assert not any(verdict(answer).approve for answer in ("perhaps", 1, None, {}, {"approve": "yes"}, "yess"))
    assert verdict({"approve": False, "reason": "too late"}).told == "the call was refused: too late"
    assert Verdict(False).told == "the call was refused"
