"""`condition` with `llm`: yes or no, or one of some choices; what isn't clear is never false."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.nodes.people.deciding import chosen_by
from treadle.state.status import NodeStatus

YES = """
treadle: 1
persons: {P: {model: script, script: %s}}
inputs: {draft: {type: string, default: d}}
nodes:
  begin: {type: start}
  good: {type: condition, llm: {person: P, question: "Is this good? {{ inputs.draft }}"%s}, needs: begin}
  yes: {type: endpoint, needs: good.%s}
  no: {type: endpoint, needs: good.%s}
"""


@pytest.mark.parametrize(("answer", "port"), [
    ("YES", "yes"), ("no.", "no"), ("true", "yes"), ('{"decision": "no"}', "no"), ("**Yes**", "yes"),
    ("{decision: yes}", None), ("Yes, but not quite", None), ("", None), ("null", None), ("1", None)])
def test_yes_or_no(run: Any, answer: str, port: str | None) -> None:
    ran = run(YES % (f"[{answer!r}, 'maybe']", "", "true", "false"))
    if port is None:
        assert ("BadAnswer: P (script): one of yes, no was to be chosen, and the answer was twice something "
                "else: 'maybe'") in ran.error
        assert ran.names("good") == ["model 1", "model 2"]
        assert ran.asked("good")[1] == "That was not clear. Answer with nothing but one of: yes, no."
    else:
        assert (ran.status("yes"), ran.status("no"))[port == "no"] is NodeStatus.COMPLETED
        assert (ran.status("yes"), ran.status("no"))[port == "yes"] is NodeStatus.SKIPPED
        assert ran.asked("good") == ["Is this good? d\n\nAnswer with one of: yes, no."]


def test_an_unclear_answer_is_asked_for_once_more(run: Any) -> None:
    ran = run(YES % ("[hm, no]", "", "true", "false"))
    assert ran.status("no") is NodeStatus.COMPLETED


def test_a_choice(run: Any) -> None:
    ran = run(YES % ("[{decision: Send back}]", ", choices: [publish, send back]", "publish", "send back"))
    assert ran.status("no") is NodeStatus.COMPLETED


def test_a_judge_remembers_nothing_unless_told(run: Any) -> None:
    heard = []

    def judge(messages: list[Any]) -> str:
        heard.append(len(messages))
        return "yes"

    text = """
treadle: 1
persons: {P: {model: script}}
nodes:
  a: {type: person_job, person: P, prompt: x}
  one: {type: condition, llm: {person: P, question: q}, needs: a}
  two: {type: condition, llm: {person: P, question: q, memory: own}, needs: one.true}
"""
    run(text, script={"P": judge})
    assert heard == [1, 1, 5]


@pytest.mark.parametrize(("said", "fault"), [
    ("llm: {person: Q, question: x}", "llm.person: there is no person 'Q'"),
    ("llm: {person: P}", "llm: property 'question' is missing"),
    ("llm: {person: P, question: x}, when: 'true'", "say one of `when`, `switch` with `cases`, `llm`"),
    ("llm: {person: P, question: '{{ y }}'}", "llm.question: unknown name 'y'"),
    ("llm: {person: P, question: x, choices: [a, A]}", "`llm.choices` must be two or more that differ"),
    ("llm: {person: P, question: 'secret://x'}", "`llm.question`: a secret is not looked up here"),
    ("llm: {person: P, question: x, memory: some}", "`llm.memory`: 'some' is no memory"),
])
def test_mistakes_are_faults(said: str, fault: str) -> None:
    from treadle.diagram.check import check
    from treadle.diagram.formats import loads
    from treadle.nodes.registry import default_registry

    spec = loads(f"treadle: 1\npersons: {{P: {{model: script}}}}\nnodes:\n  c: {{type: condition, {said}}}\n",
                 file="d.yaml")
    errors = [str(one) for one in check(spec, default_registry()).errors]
    assert any(fault in one and one.startswith("d.yaml:4: ") for one in errors), errors


@given(st.text(max_size=20))
def test_no_text_is_both(text: str) -> None:
    found = chosen_by(text, [])
    assert found in (None, "true", "false")
    assert chosen_by(f'{{"decision": "{found}"}}', []) == found or found is None
    assert chosen_by(text, ["left", "right"]) in (None, "left", "right")
