"""What `check` says of persons and of nodes that ask them, with lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from treadle.diagram.check import check
from treadle.diagram.compile import compile_diagram
from treadle.diagram.formats import loads
from treadle.nodes.registry import default_registry

HEAD = "treadle: 1\npersons: {Ann: {model: script}}\nnodes:\n  a: {type: person_job, "


def faults(text: str, base: Path | str = ".") -> list[str]:
    return [str(one) for one in check(loads(text, file="d.yaml", base=str(base)), default_registry()).faults]


@pytest.mark.parametrize(("said", "fault"), [
    ("prompt: x", "property 'person' is missing"),
    ("person: An, prompt: x", "person: there is no person 'An' (did you mean 'Ann'?)"),
    ("person: Ann, promt: x", "unknown property 'promt' (did you mean 'prompt'?)"),
    ("person: Ann, prompt: '{{ b }}'", "prompt: unknown name 'b'"),
    ("person: Ann, prompt: x, prompt_file: y", "say either `prompt` or `prompt_file`"),
    ("person: Ann, prompt_file: none.md", "no prompt file 'none.md' in"),
    ("person: Ann, prompt: x, memory: lots", "`memory`: 'lots' is no memory: write none, own, all"),
    ("person: Ann, prompt: x, output: {type: objekt}", "`output`: at type: 'objekt' is not valid"),
    ("person: Ann, prompt: x, output: 'none:City'", "no module 'none' in"),
    ("person: Ann, prompt: x, output: 'json:loads'", "`output`: 'json:loads' is no pydantic model"),
    ("person: Ann, prompt: x, repairs_max: -1", "`repairs_max` must be at least 0, not -1"),
    ("person: Ann, prompt: x, tools: ['none:f']", "no module 'none' in"),
    ("person: Ann, prompt: x, settings: {temperature: 3}", "settings.temperature: expected a number <= 2.0"),
    ("person: Ann, prompt: 'secret://x'", "a secret is not looked up here"),
    ("person: {model: script, memory: lots}, prompt: x", "person: `memory`: 'lots' is no memory"),
    ("person: {model: script, api_key: sk-1}, prompt: x", "person: `api_key` must name a secret"),
    ("person: Ann, prompt: x, returns: all", "'all' is not one of"),
])
def test_mistakes_of_a_node(said: str, fault: str) -> None:
    found = faults(HEAD + said + "}\n")
    assert any(fault in one and one.startswith("d.yaml:4: ") for one in found), found
    assert "sk-1" not in str(found)


@pytest.mark.parametrize(("person", "fault"), [
    ("{model: opnai:gpt}", "`model`: 'opnai:gpt' names no provider that is known: did you mean 'openai'?"),
    ("{model: 'openai:'}", "`model`: 'openai:' has no name of a model: write openai:NAME"),
    ("{model: script, script: 'none:f'}", "`script`: no module 'none' in"),
    ("{model: script, script: nonsense}", "`script`: 'nonsense' is not the path of a function"),
])
def test_mistakes_of_a_person(person: str, fault: str) -> None:
    found = faults(f"treadle: 1\npersons:\n  Ann: {person}\nnodes:\n  a: {{type: person_job, person: Ann}}\n")
    assert [one for one in found if fault in one and one.startswith("d.yaml:3: person 'Ann': ")], found


def test_a_secret_may_stand_where_it_is_looked_up() -> None:
    assert faults("treadle: 1\npersons: {Ann: {model: 'openai:m', api_key: 'secret://K'}}\nnodes:\n"
                  "  a: {type: person_job, person: Ann, prompt: x}\n"
                  "  b: {type: person_job, person: {model: 'openai:m', api_key: 'secret://K'}, prompt: x}\n"
                  ) == []


@pytest.mark.parametrize(("said", "doubt"), [
    ("cache: true", "its result is kept by its inputs alone, whatever the person remembers (leave cache out, "
                    "or say memory: none)"),
    ("repairs_max: 1", "`repairs_max` means nothing without `output`"),
    ("tools: ['own:f']", "tool 'own:f' has no docstring"),
])
def test_doubts_are_warnings(tmp_path: Path, said: str, doubt: str) -> None:
    (tmp_path / "own.py").write_text("def f(x: str) -> str:\n    return x\n")
    (found,) = faults(f"{HEAD}person: Ann, prompt: x, {said}}}\n", tmp_path)
    assert found.startswith("d.yaml:4: warning: node 'a': ") and doubt in found


def test_those_who_ask_are_patient_unless_they_say(tmp_path: Path) -> None:
    diagram = compile_diagram(loads(
        "treadle: 1\npersons: {Ann: {model: script}}\nnodes:\n"
        "  a: {type: person_job, person: Ann}\n  b: {type: person_job, person: Ann, retries: 0}\n"
        "  c: {type: person_job, person: Ann, retries: 7, backoff: 2}\n"
        "  d: {type: condition, llm: {person: Ann, question: x}}\n  e: {type: condition, when: 'true'}\n"),
        default_registry())
    policies = {node.id: (node.policy.retries, node.policy.backoff.initial) for node in diagram.nodes}
    assert policies == {"a": (3, 1.0), "b": (0, 1.0), "c": (7, 2.0), "d": (3, 1.0), "e": (0, 0.1)}


def test_what_a_node_names_counts_in_its_fingerprint(tmp_path: Path) -> None:
    files = {"p.md": "one", "own.py": "def f(x: str) -> str:\n    'F.'\n    return x\n",
             "shape.py": "from pydantic import BaseModel\n\n\nclass City(BaseModel):\n    name: str\n"}
    text = HEAD + "person: Ann, prompt_file: p.md, tools: ['own:f'], output: 'shape:City'}\n"

    def fingerprint() -> str:
        return compile_diagram(loads(text, base=str(tmp_path)), default_registry()).get_node("a").fingerprint

    for name, content in files.items():
        (tmp_path / name).write_text(content)
    found = [fingerprint()]
    for name, old, new in (("p.md", "one", "two"), ("own.py", "return x", "return x + x"),
                           ("shape.py", "name: str", "name: str = 'Ulm'")):
        (tmp_path / name).write_text(files[name].replace(old, new))
        found.append(fingerprint())
    assert len(set(found)) == 4
