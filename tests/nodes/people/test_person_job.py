"""`person_job` on a real engine, with persons by script: prompts, memory, structured output, tools."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.config import TreadleConfig
from treadle.diagram.formats import loads
from treadle.engine.engine import Engine
from treadle.nodes.people.messages import Request
from treadle.state.status import NodeStatus

ANN = "treadle: 1\npersons:\n  Ann: {model: script}\n  Bob: {model: script}\n"
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 20


class Recorder:
    """A script that notes what it was asked, and answers with its letter and a number."""

    def __init__(self, letter: str = "r", answers: list[Any] | None = None) -> None:
        self.letter, self.answers, self.requests = letter, answers, list[Request]()

    def __call__(self, request: Request) -> Any:
        self.requests.append(request)
        if self.answers is not None:
            return self.answers[len(self.requests) - 1]
        return f"{self.letter}{len(self.requests)}"

    def said(self, place: int = -1) -> list[str]:
        return [f"{msgspec.to_builtins(one)['role'][0]}:{one.content}"
                for one in self.requests[place].messages]


def test_a_person_answers_a_prompt_over_its_inputs(run: Any) -> None:
    ran = run("""
treadle: 1
persons: {Ann: {model: script, script: [hello], system_prompt: "You are {{ inputs.mood }}."}}
inputs: {mood: {type: string, default: kind}}
nodes:
  begin: {type: start, custom_data: {who: Bo}}
  say: {type: person_job, person: Ann, prompt: "Greet {{ begin.who }}", needs: begin}
""")
    assert ran.result == "hello"
    (step,) = ran.steps("say")
    assert (step.name, step.kind) == ("model 1", "model")
    assert step.value == {"asked": [{"role": "user", "content": "Greet Bo"}],
                          "answer": {"role": "assistant", "content": "hello"}}
    assert step.meta["person"] == "Ann" and step.meta["model"] == "script"
    assert step.meta["tokens"] == step.meta["input_tokens"] + step.meta["output_tokens"] > 0


def test_without_answers_a_script_says_r1_r2(run: Any) -> None:
    ran = run(ANN + """
nodes:
  a: {type: person_job, person: Ann, prompt: x}
  b: {type: person_job, person: Bob, prompt: x, needs: a}
  c: {type: person_job, person: Ann, prompt: "{{ a }} {{ b }}", needs: [a, b]}
""")
    assert ran.result == "r2"
    assert ran.asked("c") == ["r1 r1"]


def test_a_system_prompt_is_filled_in_for_the_node(run: Any) -> None:
    ann = Recorder()
    run("""
treadle: 1
persons: {Ann: {model: script, system_prompt: "Of {{ inputs.topic }}."}}
inputs: {topic: {type: string}}
nodes: {a: {type: person_job, person: Ann, prompt: x}}
""", script={"Ann": ann}, topic="rain")
    assert ann.requests[0].system == "Of rain."


def test_prompts_may_be_files(run: Any, tmp_path: Path) -> None:
    (tmp_path / "system.md").write_text("System of {{ inputs.n }}")
    (tmp_path / "ask.md").write_text("{% include 'part.md' %} {{ inputs.n }}")
    (tmp_path / "part.md").write_text("Part")
    ann = Recorder()
    run("""
treadle: 1
persons: {Ann: {model: script, prompt_file: system.md}}
inputs: {n: {type: integer, default: 3}}
nodes: {a: {type: person_job, person: Ann, prompt_file: ask.md}}
""", script={"Ann": ann})
    assert (ann.requests[0].system, ann.said()) == ("System of 3", ["u:Part 3"])


def test_without_a_prompt_the_input_is_said(run: Any) -> None:
    ann = Recorder()
    run(ANN + """
nodes:
  begin: {type: start, custom_data: {n: 1}}
  a: {type: person_job, person: Ann, needs: begin}
  b: {type: person_job, person: Ann, needs: a, memory: none}
""", script={"Ann": ann})
    assert (ann.said(0), ann.said(1)) == (['u:{"n": 1}'], ["u:r1"])


def test_somebody_must_say_something(run: Any) -> None:
    ran = run(ANN + "nodes: {a: {type: person_job, person: Ann}}")
    assert "InvalidInput: there is nothing to say: give the node a `prompt`, or an input" in ran.error


LOOP = ANN + """
nodes:
  begin: {type: start, custom_data: {n: 0}}
  a: {type: person_job, person: Ann, first_prompt: "Begin.", prompt: "Go on: {{ more }}"%s}
  more: {type: condition, when: "iteration < 3"}
  done: {type: endpoint}
arrows: [begin -> a.first, a -> more, more.true -> a.more, more.false -> done]
"""


def test_the_first_turn_of_a_loop_has_its_own_prompt(run: Any) -> None:
    ann = Recorder()
    ran = run(LOOP % "", script={"Ann": ann})
    assert ran.result == "r3"
    assert ann.said() == ["u:Begin.", "a:r1", "u:Go on: r1", "a:r2", "u:Go on: r2"]


def test_asked_often_enough_a_node_passes_its_input_on(run: Any) -> None:
    ann = Recorder()
    ran = run(LOOP % ", asks_max: 2", script={"Ann": ann})
    assert ran.result == "r2"
    assert len(ann.requests) == 2


@pytest.mark.parametrize(("memory", "said"), [
    ("none", ["u:now"]),
    ("own", ["u:one", "a:a1", "u:three", "a:a2", "u:now"]),
    ("all", ["u:one", "a:a1", "u:Bob: b1", "u:three", "a:a2", "u:now"]),
    ("window(2)", ["u:three", "a:a2", "u:now"]),
    ("window(3)", ["u:one", "a:a1", "u:three", "a:a2", "u:now"]),
    ("window(9)", ["u:one", "a:a1", "u:three", "a:a2", "u:now"]),
])
def test_memories(run: Any, memory: str, said: list[str]) -> None:
    ann, bob = Recorder("a"), Recorder("b")
    run(ANN + f"""
nodes:
  one: {{type: person_job, person: Ann, prompt: one, memory: none}}
  two: {{type: person_job, person: Bob, prompt: two, needs: one}}
  three: {{type: person_job, person: Ann, prompt: three, memory: none, needs: two}}
  four: {{type: person_job, person: Ann, prompt: now, memory: "{memory}", needs: three}}
""", script={"Ann": ann, "Bob": bob})
    assert ann.said() == said


def test_a_summary_is_a_step_of_its_own_and_is_used_again(run: Any) -> None:
    words = "word " * 40  # 50 tokens
    ann = Recorder(answers=[words, words, words, "SHORT", "then", "last"])
    ran = run("""
treadle: 1
persons: {Ann: {model: script, memory: summary(120)}}
nodes:
  a: {type: person_job, person: Ann, prompt: one}
  b: {type: person_job, person: Ann, prompt: two, needs: a}
  c: {type: person_job, person: Ann, prompt: three, needs: b}
  d: {type: person_job, person: Ann, prompt: four, needs: c}
  e: {type: person_job, person: Ann, prompt: five, needs: d}
""", script={"Ann": ann})
    assert ran.names("d") == ["summary", "model 1"]
    assert [one.kind for one in ran.steps("d")] == ["summary", "model"]
    assert "User: one" in ann.said(3)[0] and "two" in ann.said(3)[0]
    assert ann.said(4)[0] == "u:What was said before, in short:\nSHORT"
    assert ann.said(4)[1:] == ["u:three", f"a:{words}", "u:four"]
    assert ran.names("e") == ["model 1"]
    assert ann.said(5) == [*ann.said(4), "a:then", "u:five"]


def test_the_items_of_a_map_do_not_hear_one_another(run: Any) -> None:
    ann = Recorder()
    run(ANN + """
nodes:
  before: {type: person_job, person: Ann, prompt: before}
  each: {type: person_job, person: Ann, prompt: "{{ item }}", for_each: "{{ [1, 2, 3] }}", concurrency: 1,
         needs: before}
  after: {type: person_job, person: Ann, prompt: after, needs: each}
""", script={"Ann": ann})
    assert [ann.said(place) for place in (1, 2, 3)] == [["u:before", "a:r1", f"u:{n}"] for n in (1, 2, 3)]
    assert len(ann.said(4)) == 2 + 6 + 1


def test_two_executions_share_nothing(run: Any) -> None:
    ann = Recorder()
    for _ in range(2):
        run(ANN + "nodes: {a: {type: person_job, person: Ann, prompt: x}}", script={"Ann": ann})
    assert ann.said(0) == ann.said(1) == ["u:x"]


def test_persons_of_one_name_are_told_apart(run: Any) -> None:
    ann = Recorder()
    inner = """{treadle: 1, persons: {Ann: {model: script}}, nodes: {
      a: {type: person_job, person: Ann, prompt: inner},
      b: {type: person_job, person: Bob, prompt: bob, needs: a}}}"""
    run(ANN + f"""
nodes:
  one: {{type: person_job, person: Ann, prompt: one}}
  bob: {{type: person_job, person: Bob, prompt: first, needs: one}}
  x: {{type: sub_diagram, needs: bob, diagram: {inner}}}
  y: {{type: sub_diagram, needs: x, diagram: {inner}}}
  two: {{type: person_job, person: Ann, prompt: two, needs: y}}
""", script={"Ann": ann, "Bob": ann})
    texts = [[one[2:] for one in ann.said(place)] for place in range(7)]
    assert texts == [["one"], ["first"], ["inner"], ["first", "r2", "bob"], ["inner"],
                     ["first", "r2", "bob", "r4", "bob"], ["one", "r1", "two"]]


def test_a_conversation_is_a_value(run: Any) -> None:
    ann, bob = Recorder("a"), Recorder("b")
    ran = run(ANN + """
nodes:
  a: {type: person_job, person: Ann, prompt: hello, returns: conversation}
  b: {type: person_job, person: Bob, prompt: and you?, needs: a, returns: conversation}
""", script={"Ann": ann, "Bob": bob})
    assert bob.said() == ["u:hello", "a:a1", "u:and you?"]
    assert [one["content"] for one in ran.result["messages"]] == ["hello", "a1", "and you?", "b1"]


def test_anything_becomes_a_conversation_on_an_arrow(run: Any) -> None:
    ann = Recorder()
    run(ANN + """
nodes:
  begin: {type: template_job, text: Guten Tag}
  a: {type: person_job, person: Ann}
arrows: [{from: begin, to: a, content_type: conversation_state}]
""", script={"Ann": ann})
    assert ann.said() == ["u:Guten Tag"]


# structured output

OBJECT = "output: {type: object, required: [n], properties: {n: {type: integer}}}"


def test_an_object_is_repaired_within_bounds(run: Any) -> None:
    ran = run(f"""
treadle: 1
persons: {{Ann: {{model: script, script: [five, {{n: five}}, "```json\\n{{\\"n\\": 5}}\\n```"]}}}}
nodes: {{a: {{type: person_job, person: Ann, prompt: a number, {OBJECT}}}}}
""")
    assert ran.result == {"n": 5}
    assert ran.names("a") == ["model 1", "model 2", "model 3"]
    assert "it is not JSON" in ran.asked("a")[1]
    assert "$.n: 'five' is not of type 'integer'" in ran.asked("a")[2]


def test_an_object_that_stays_wrong_fails_the_node_and_says_how(run: Any) -> None:
    ran = run(f"""
treadle: 1
persons: {{Ann: {{model: script}}}}
nodes: {{a: {{type: person_job, person: Ann, prompt: a number, repairs_max: 1, {OBJECT}}}}}
""")
    assert "BadAnswer: Ann (script): the answer is not what `output` wants, after 1 repair: it " in ran.error
    assert ran.names("a") == ["model 1", "model 2"]


def test_a_bad_answer_is_final_unless_retry_on_names_it_and_then_begins_anew(run: Any) -> None:
    text = """
treadle: 1
persons: {Ann: {model: script, script: [x, {n: 1}]}}
nodes: {a: {type: person_job, person: Ann, prompt: q, repairs_max: 0, retries: 1, backoff: 0, %s}}
"""
    ran = run(text % OBJECT)
    assert "BadAnswer" in ran.error and ran.cells["a"].attempt == 1
    ran = run(text % f"retry_on: BadAnswer, {OBJECT}")
    assert ran.result == {"n": 1} and ran.cells["a"].attempt == 2
    assert ran.asked("a") == ["q"]


def test_a_pydantic_model_says_what_an_answer_is(run: Any, tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(
        "from pydantic import BaseModel\n\nclass City(BaseModel):\n    name: str\n    people: int = 0\n")
    ran = run("""
treadle: 1
persons: {Ann: {model: script, script: [{people: 3}, {name: Ulm, people: "7"}]}}
nodes: {a: {type: person_job, person: Ann, prompt: a city, output: "shapes:City"}}
""")
    assert ran.result == {"name": "Ulm", "people": 7}
    assert "name: Field required" in ran.asked("a")[1]


# images

def test_images_come_from_files_addresses_and_values(run: Any, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)
    ann = Recorder()
    ran = run(ANN + """
nodes:
  raw: {type: code_job, code: "return b'GIF89a' + b'1' * 9"}
  a:
    type: person_job
    person: Ann
    prompt: Look
    images: [cat.png, "https://example.org/dog.png", "{{ raw }}"]
    needs: raw
  b: {type: person_job, person: Ann, prompt: And?, needs: a}
""", script={"Ann": ann})
    pictures = ann.requests[0].pictures
    assert list(pictures) == ["cat.png", "https://example.org/dog.png", "image"]
    assert (pictures["cat.png"].media_type, pictures["cat.png"].data) == ("image/png", PNG)
    assert pictures["https://example.org/dog.png"].url and pictures["image"].media_type == "image/gif"
    assert ran.steps("a")[0].value["asked"][0]["images"] == list(pictures)


@pytest.mark.parametrize(("image", "said"), [
    ("none.png", "no file 'none.png' in"), ("text.txt", "'text.txt' is no image that models take"),
    ("{{ 3 }}", "`images`: 3 is no image")])
def test_what_is_no_image(run: Any, tmp_path: Path, image: str, said: str) -> None:
    (tmp_path / "text.txt").write_text("text")
    ran = run(ANN + f"nodes: {{a: {{type: person_job, person: Ann, images: '{image}', retries: 0}}}}")
    assert said in ran.error


# limits

def test_a_budget_of_tokens_ends_an_execution(run: Any) -> None:
    ran = run("""
treadle: 1
persons: {Ann: {model: script, script: [{text: a, tokens: [60, 40]}, b]}}
nodes:
  a: {type: person_job, person: Ann, prompt: x}
  b: {type: person_job, person: Ann, prompt: x, needs: a}
""", config=TreadleConfig(llm_tokens_max=100))
    assert ("LimitExceeded: the models of this execution have taken 100 tokens: the limit llm_tokens_max is "
            "100; raise it with TreadleConfig(llm_tokens_max=…)") in ran.error
    assert "--llm-tokens-max" in ran.error
    assert ran.status("a") is NodeStatus.COMPLETED


def test_a_script_that_ends_says_so(run: Any) -> None:
    ran = run("""
treadle: 1
persons: {Ann: {model: script, script: [a]}}
nodes:
  a: {type: person_job, person: Ann, prompt: x}
  b: {type: person_job, person: Ann, prompt: x, needs: a}
""")
    assert "person 'Ann' is asked for answer 2, and their script has 1 answer" in ran.error


def test_what_fails_for_now_is_asked_again(run: Any) -> None:
    ran = run("""
treadle: 1
persons:
  Ann: {model: script, script: [{error: 429, retry_after: 0.01}, {error: 503, retry_after: 0.01}, ok]}
nodes: {a: {type: person_job, person: Ann, prompt: x}}
""")
    assert ran.result == "ok"
    assert ran.cells["a"].attempt == 3  # without `retries` there are 3


def test_retries_0_means_none_and_a_final_error_is_final(run: Any) -> None:
    ran = run("""
treadle: 1
persons: {Ann: {model: script, script: [{error: 429}]}}
nodes: {a: {type: person_job, person: Ann, prompt: x, retries: 0}}
""")
    assert "ModelError: Ann (script): status 429" in ran.error and ran.cells["a"].attempt == 1
    ran = run("""
treadle: 1
persons: {Ann: {model: script, script: [{error: 400, message: no such model}]}}
nodes: {a: {type: person_job, person: Ann, prompt: x}}
""")
    assert "status 400: no such model" in ran.error and ran.cells["a"].attempt == 1


def test_what_was_said_before_a_failure_is_not_said_again(run: Any, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def look(what: str) -> str:\n    'Look.'\n    return what.upper()\n")
    ann = Recorder(answers=[{"tool": "look", "arguments": {"what": "sky"}},
                            {"error": 503, "retry_after": 0.01}, "done"])
    ran = run(ANN + """
nodes: {a: {type: person_job, person: Ann, prompt: x, tools: ["own:look"]}}
""", script={"Ann": ann})
    assert ran.result == "done" and len(ann.requests) == 3
    assert ran.names("a") == ["model 1", "look 1", "model 2"]
    assert [one.attempt for one in ran.steps("a")] == [1, 1, 2]


# resume

def test_a_resumed_execution_remembers_what_was_recorded_and_asks_nothing_twice(tmp_path: Path) -> None:
    spec = loads(ANN + """
nodes:
  a: {type: person_job, person: Ann, prompt: one}
  b: {type: person_job, person: Bob, prompt: two, needs: a}
  c: {type: person_job, person: Ann, prompt: three, needs: b, retries: 0}
""")
    ann, bob = Recorder(answers=["a1", {"error": 400}, "a2"]), Recorder("b")

    async def main() -> Any:
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db", script={"Ann": ann, "Bob": bob}) as engine:
            handle = await engine.start(spec, execution_id="x")
            await handle.wait()
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db", script={"Ann": ann, "Bob": bob}) as engine:
            return await (await engine.resume("x")).result()

    assert asyncio.run(main()) == "a2"
    assert [len(ann.requests), len(bob.requests)] == [3, 1]
    assert ann.said() == ["u:one", "a:a1", "u:three"]
