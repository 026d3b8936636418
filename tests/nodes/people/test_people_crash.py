"""A crash anywhere in a conversation changes nothing of it: nothing recorded is said twice, nothing is
forgotten."""

from __future__ import annotations

from pathlib import Path

from treadle.diagram.formats import loads
from treadle.nodes.people.messages import Request
from treadle.state.status import ExecutionStatus
from treadle.testing.crashes import crash_everywhere

DEBATE = """
treadle: 1
persons:
  Ann: {model: script, memory: all}
  Bob: {model: script, memory: window(3)}
  Judge: {model: script}
nodes:
  begin: {type: start}
  ann: {type: person_job, person: Ann, first_prompt: Begin., prompt: Your turn., tools: ["own:look"]}
  bob: {type: person_job, person: Bob, prompt: "Ann says: {{ ann }}", needs: ann,
        output: {type: object, required: [says]}}
  done: {type: condition, needs: bob,
         llm: {person: Judge, question: "Is it enough? {{ bob.says }}", memory: own}}
  end: {type: endpoint, needs: done.true}
arrows: [begin -> ann.first, done.false -> ann.more]
"""


def heard(request: Request) -> str:
    """An answer that tells what was heard, so that a memory which differs shows in the result."""
    return f"{len(request.messages)} {sum(len(one.content) for one in request.messages)}"


def ann(request: Request) -> object:
    if len(request.tools) and request.messages[-1].content in ("Begin.", "Your turn."):
        return [{"tool": "look", "arguments": {"what": "a"}}, {"tool": "look", "arguments": {"what": "b"}}]
    return f"Ann {heard(request)}"


def bob(request: Request) -> object:
    if request.messages[-1].content.startswith("Ann says"):
        return "no JSON"
    return {"says": f"Bob {heard(request)}"}


def judge(request: Request) -> object:
    return "perhaps" if "Is it enough" in request.messages[-1].content else {
        "decision": "yes" if len(request.messages) > 7 else "no"}


def test_a_debate_that_is_killed_anywhere_ends_as_if_it_were_not(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def look(what: str) -> str:\n    'Look.'\n    return what * 3\n")
    crashes = crash_everywhere(loads(DEBATE, base=str(tmp_path)),
                               script={"Ann": ann, "Bob": bob, "Judge": judge})
    assert crashes.ran.status == "completed"
    assert len(crashes.points) > 30
    for point in crashes.points:
        assert (point.status, point.result) == (ExecutionStatus.COMPLETED, crashes.ran.result), point.after
        assert point.repeated == ()
    assert set(crashes.again.values()) <= {1}
