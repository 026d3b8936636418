"""People in light diagrams: whom they ask, how often, with what prompt, and what they remember."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conftest import Light

heard: list[tuple[str, list[str]]] = []
systems: dict[str, str] = {}


def say(person: str) -> Any:
    def answer(request: Any) -> Any:
        heard.append((person, [_text(one) for one in request.messages]))
        systems[person] = request.system
        return f"{person}{sum(name == person for name, _ in heard)}"
    return answer


def _text(message: Any) -> str:
    return str(message.content)


def decide(request: Any) -> str:
    return next(answers)


answers = iter([""])
SCRIPT = {"A": say("A"), "B": say("B"), "J": decide}
PERSONS = """
        persons:
          A: {service: openai, model: m, api_key_id: K, system_prompt: "You like {{topic}}."}
          B: {service: anthropic, model: c}
          J: {service: google, model: g}
"""


def test_two_people_talk_until_they_may_no_more(light: Light) -> None:
    heard.clear()
    ran = light.run(PERSONS + """
        nodes:
        - {label: s, type: start, custom_data: {topic: tea}}
        - label: Pro
          type: person_job
          person: A
          first_only_prompt: "Begin on {{topic}}"
          default_prompt: "They said {{other}}"
          max_iteration: 2
        - {label: Con, type: person_job, person: B, default_prompt: "But {{other}}", max_iteration: 3}
        - {label: c, type: condition, condition_type: detect_max_iterations}
        - {label: e, type: endpoint}
        connections:
        - s -> Pro[first]
        - Pro -> Con: other
        - Con -> c
        - c[condfalse] -> Pro: other
        - c[condtrue] -> e
        """)
    assert ran.status == "completed", ran.error
    assert ran.values["Pro"] == ["A1", "A2", "B2"], "at its limit it passes its input on"
    assert ran.values["Con"] == ["B1", "B2", "B3"]
    assert [(name, said[-1]) for name, said in heard] == [
        ("A", "Begin on tea"), ("B", "But A1"), ("A", "They said B1"), ("B", "But A2"), ("B", "But B2")]
    assert systems == {"A": "You like tea.", "B": ""}


def test_the_first_prompt_is_for_the_first_time_that_they_are_asked(light: Light) -> None:
    heard.clear()
    ran = light.run(PERSONS + """
        nodes:
        - {label: s, type: start, custom_data: {n: 0}}
        - {label: step, type: code_job, code: "result = {'n': default['n'] + 1}"}
        - {label: late, type: condition, expression: "n > 1"}
        - {label: w, type: person_job, person: B, first_only_prompt: First, default_prompt: Again}
        - {label: m, type: code_job, code: "result = n"}
        - {label: c, type: condition, expression: "v.n >= 3"}
        - {label: e, type: endpoint}
        connections:
        - s -> step
        - step -> late
        - step -> m: n
        - late[condfalse] -> m: as it is
        - late[condtrue] -> w
        - w -> m: said
        - m -> c: v
        - c[condfalse] -> step
        - c[condtrue] -> e
        """)
    assert (ran.status, ran.result) == ("completed", {"n": 3}), ran.error
    assert [said[-1] for _, said in heard] == ["First", "Again"], "the node is skipped in the first turn"


def test_what_they_remember(light: Light) -> None:
    heard.clear()
    ran = light.run(PERSONS + """
        nodes:
        - {label: a, type: person_job, person: B, default_prompt: one}
        - {label: b, type: person_job, person: B, default_prompt: two}
        - {label: c, type: person_job, person: B, default_prompt: three, at_most: 2}
        - {label: d, type: person_job, person: B, default_prompt: four, memorize_to: goldfish}
        - {label: e, type: endpoint}
        connections:
        - a -> b
        - b -> c
        - c -> d
        - d -> e
        """)
    assert (ran.status, ran.result) == ("completed", "B4"), ran.error
    assert [said for _, said in heard] == [
        ["one"], ["one", "B1", "two"], ["two", "B2", "three"], ["four"]]


def test_a_person_decides(light: Light) -> None:
    global answers
    text = PERSONS + """
        nodes:
        - {label: w, type: person_job, person: B, prompt_file: ask.txt}
        - {label: c, type: condition, condition_type: llm_decision, person: J, judge_by: "ok? {{draft}}"}
        - {label: e, type: endpoint}
        - {label: f, type: endpoint}
        connections:
        - w -> c: draft
        - c[condtrue] -> e
        - c[condfalse] -> f
        """
    (light.folder / "ask.txt").write_text("Write")
    answers = iter(["YES", "no", "perhaps"])
    for status, e, f in (("completed", "completed", "skipped"), ("completed", "skipped", "completed"),
                         ("failed", "skipped", "skipped")):
        ran = light.run(text)
        assert (ran.status, ran.states["e"], ran.states["f"]) == (status, e, f), ran.error
    assert ran.error.startswith("BadAnswer") and "the answer was something else: 'perhaps'" in ran.error


def test_what_a_person_who_decides_remembers(light: Light) -> None:
    text = PERSONS + """
        nodes:
        - {label: c, type: condition, condition_type: llm_decision, person: J, judge_by_file: ask.txt, MORE}
        """
    (light.folder / "files" / "prompts").mkdir(parents=True)
    (light.folder / "files" / "prompts" / "ask.txt").write_text("ok?")
    for more, memory in (("", None), ("memorize_to: GOLDFISH", None), ("at_most: 3", "window(3)"),
                         ("memorize_to: ALL_MESSAGES", "all"), ("memorize_to: the facts", "own")):
        spec = light.check(text.replace("MORE", more)).spec
        assert spec.nodes[0].properties["llm"].get("memory") == memory
    assert any("no model chooses here" in said
               for said in light.warnings(text.replace("MORE", "memorize_to: the facts")))


def test_prompts_and_forms_from_files(light: Light) -> None:
    (light.folder / "first.txt").write_text("Hello {{name}}")
    (light.folder / "form.json").write_text('{"type": "object"}')
    spec = light.check(PERSONS + """
        nodes:
        - label: w
          type: person_job
          person: B
          first_prompt_file: first.txt
          text_format_file: form.json
        """).spec
    assert spec.nodes[0].properties == {
        "person": "B", "first_prompt": "Hello {{ name }}", "asks_max": 100, "output": {"type": "object"}}


def test_an_answer_with_a_form(light: Light) -> None:
    global answers
    answers = iter(['{"n": 3}'])
    assert light.result(PERSONS + """
        nodes:
        - label: w
          type: person_job
          person: J
          default_prompt: "How many?"
          text_format: {type: object, properties: {n: {type: integer}}}
        - {label: t, type: template_job, template_content: "{{n}}"}
        - {label: e, type: endpoint}
        connections:
        - w -> t
        - t -> e
        """) == "3"


def test_a_loop_turns_as_often_as_people_may_be_asked(light: Light) -> None:
    assert light.result(PERSONS + """
        nodes:
        - {label: s, type: start}
        - {label: w, type: person_job, person: B, memorize_to: GOLDFISH, max_iteration: 104}
        - {label: c, type: condition, condition_type: detect_max_iterations, expose_index_as: turn}
        - {label: t, type: template_job, template_content: "{{turn}}"}
        - {label: e, type: endpoint}
        connections:
        - s -> w
        - w -> c
        - c[condfalse] -> w
        - c[condtrue] -> t
        - t -> e
        """) == "103"


def test_everyone_in_a_batch_has_a_limit_of_their_own(light: Light) -> None:
    heard.clear()
    ran = light.run(PERSONS + """
        nodes:
        - {label: s, type: start, custom_data: {items: [x, y]}}
        - label: sub
          type: sub_diagram
          batch: true
          batch_parallel: false
          diagram_data:
            nodes:
            - {label: i, type: start}
            - {label: w, type: person_job, person: B, default_prompt: "{{default}}", max_iteration: 2}
            - {label: c, type: condition, condition_type: detect_max_iterations}
            - {label: o, type: endpoint}
            connections:
            - i -> w
            - w -> c
            - c[condfalse] -> w
            - c[condtrue] -> o
        - {label: e, type: endpoint}
        connections:
        - s -> sub
        - sub -> e
        """)
    assert (ran.status, ran.result) == ("completed", ["B2", "B4"]), ran.error


def test_mistakes_with_people(light: Light) -> None:
    found = light.faults(PERSONS + """
        nodes:
        - {label: a, type: person_job, person: Aa, default_prompt: "{{#if}}"}
        - {label: b, type: person_job, person: Bb, default_prompt: x}
        - {label: c, type: person_job, person: B, default_prompt: x, prompt_file: y, max_iteration: 0}
        """)
    assert {text.partition(":")[0] for text in found} == {"8", "9", "10"}
    assert "there is no person 'Bb' (did you mean 'B'?)" in found[-2]
    ran = light.run(PERSONS + """
        nodes: [{label: a, type: person_job, person: B, default_prompt: "{{nobody}}"}]
        """)
    assert "unknown name 'nobody'" in ran.error
