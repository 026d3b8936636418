"""Persons: read with their lines, found by name, checked, compiled into the nodes that name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.diagram.builder import Diagram
from treadle.diagram.check import check, check_file
from treadle.diagram.compile import compile_diagram
from treadle.diagram.diagram import ExecutableDiagram
from treadle.diagram.formats import Format, dumps, loads
from treadle.diagram.formats.schema import schema_of
from treadle.diagram.node import Node
from treadle.diagram.person import Memory, Person, Settings, read_memory
from treadle.diagram.transform import default_transforms
from treadle.diagram.types import Expression, PersonName, Ports
from treadle.errors import InvalidDiagram


class Talk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    person: PersonName | Person
    tools: list[Any] = []


class Choose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    who: dict[str, PersonName] = {}


class Sub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    diagram: str | dict[str, Any]
    inputs: dict[str, Expression] = {}


class Kind:
    def __init__(self, name: str, properties: type[msgspec.Struct]) -> None:
        self.name, self.properties = name, properties

    def ports(self, spec: Any, node: Node, base: str) -> Ports:
        return Ports()

    def sources(self, spec: Any, node: Node, base: str) -> Iterable[str]:
        return ()

    def child(self, spec: Any, node: Node, base: str) -> Mapping[str, Any] | str | None:
        return spec.diagram if isinstance(spec, Sub) else None


class Kinds:
    def __init__(self) -> None:
        self.transforms = default_transforms()
        self._kinds = {one.name: one for one in (Kind("talk", Talk), Kind("choose", Choose),
                                                 Kind("sub_diagram", Sub))}

    def get(self, name: str) -> Kind | None:
        return self._kinds.get(name)

    def names(self) -> Iterable[str]:
        return self._kinds

    def content_types(self) -> Iterable[str]:
        return ["raw_text"]


def faults(text: str) -> list[str]:
    try:
        spec = loads(text, file="d.yaml")
    except InvalidDiagram as error:
        return [str(one) for one in error.faults]
    return [str(one) for one in check(spec, Kinds()).faults]


def built(text: str, base: Path | str = ".") -> ExecutableDiagram:
    return compile_diagram(loads(text, base=str(base)), Kinds())


HEAD = "treadle: 1\npersons:\n"
TALK = "nodes:\n  say: {type: talk, person: Ann}\n"


def test_a_node_has_the_person_that_it_names() -> None:
    diagram = built(HEAD + "  Ann: {model: script, memory: window(3), settings: {temperature: 0.5}}\n" + TALK)
    person = diagram.get_node("say").person
    assert person is not None and isinstance(person, Person)
    assert (person.name, person.model, person.memory) == ("Ann", "script", "window(3)")
    assert person.settings == Settings(temperature=0.5)


def test_a_node_may_say_a_person_in_place() -> None:
    diagram = built("treadle: 1\nnodes:\n  say: {type: talk, person: {model: script, system_prompt: Be kind}}"
                    "\n")
    person = diagram.get_node("say").person
    assert person is not None and (person.name, person.system_prompt) == ("say", "Be kind")


def test_names_stand_deep_in_properties_too() -> None:
    text = HEAD + "  Ann: {model: script}\nnodes:\n  n: {type: choose, who: {judge: An}}\n"
    assert faults(text) == ["d.yaml:5: node 'n': who.judge: there is no person 'An' (did you mean 'Ann'?)",
                            "d.yaml:3: warning: person 'Ann': no node names them (remove them, or name them "
                            "in a node)"]


@pytest.mark.parametrize(("person", "said"), [
    ("{model: script, modle: x}", "d.yaml:3: person 'Ann': unknown property 'modle' (did you mean 'model'?)"),
    ("{model: 3}", "d.yaml:3: person 'Ann': model: expected a text, not an integer"),
    ("{}", "d.yaml:3: person 'Ann': no `model` (write openai:NAME, anthropic:NAME, google:NAME, ollama:NAME "
           "or script)"),
    ("3", "d.yaml:3: person 'Ann' must be a map, not a number (write: Ann: {model: …})"),
    ("{model: script, settings: {temprature: 1}}",
     "d.yaml:3: person 'Ann': unknown property 'temprature' (did you mean 'temperature'?)"),
    ("{model: script, settings: {top_p: 2}}",
     "d.yaml:3: person 'Ann': settings.top_p: expected a number <= 1.0"),
    ("{model: script, settings: 2}", "d.yaml:3: person 'Ann': settings: expected a map, not an integer"),
    ("{model: 'openai:m', api_key: sk-123}",
     "d.yaml:3: person 'Ann': `api_key` must name a secret, as in `secret://NAME` or `env:NAME`: a key has "
     "no place in a diagram"),
    ("{model: script, memory: widnow(3)}",
     "d.yaml:3: person 'Ann': `memory`: 'widnow(3)' is no memory: did you mean 'window'?"),
    ("{model: script, memory: window}", "d.yaml:3: person 'Ann': `memory`: 'window' must say how many "
                                        "messages, as in window(10)"),
    ("{model: script, memory: own(3)}",
     "d.yaml:3: person 'Ann': `memory`: 'own(3)': own has no size: write own"),
    ("{model: script, base_url: example.org}",
     "d.yaml:3: person 'Ann': `base_url`: 'example.org' is no address: write http://… or https://…"),
    ("{model: script, system_prompt: x, prompt_file: y}",
     "d.yaml:3: person 'Ann': say either `system_prompt` or `prompt_file`"),
    ("{model: script, prompt_file: nowhere.md}",
     "d.yaml:3: person 'Ann': `prompt_file` 'nowhere.md' can't be read: No such file or directory"),
    ("{model: script, system_prompt: 'You know {{ topic }}'}",
     "d.yaml:3: person 'Ann': `system_prompt`: unknown name 'topic' (there is: artifacts, attempt, inputs, "
     "iteration, nodes, variables)"),
    ("{model: script, system_prompt: 'You know {{ inputs.topic }}'}",
     "d.yaml:3: person 'Ann': `system_prompt`: unknown name 'inputs.topic' (there is: none)"),
    ("{model: script, system_prompt: 'say {{'}", "d.yaml:3: person 'Ann': `system_prompt`: "),
    ("{model: script, system_prompt: 'secret://x'}", "d.yaml:3: person 'Ann': `system_prompt`: a secret is "),
    ("{model: script, settings: {extra_body: {key: 'secret://x'}}}",
     "d.yaml:3: person 'Ann': `settings`: a secret is looked up only where the whole value is secret://NAME"),
    ("{model: 'openai:m', script: [a]}",
     "d.yaml:3: warning: person 'Ann': `script` means nothing to openai:m (write model: script)"),
])
def test_what_is_wrong_with_a_person_is_said_with_its_line(person: str, said: str) -> None:
    (found,) = faults(f"{HEAD}  Ann: {person}\n{TALK}")
    assert found.startswith(said)
    assert "sk-123" not in found


def test_a_person_that_nobody_has() -> None:
    assert faults("treadle: 1\n" + TALK) == [
        "d.yaml:3: node 'say': person: there is no person 'Ann' "
        "(write at the top: persons: {Ann: {model: …}})"]
    assert faults(HEAD + "  Anna: {model: script}\n  Bo: {model: script}\n" + TALK)[0] == (
        "d.yaml:6: node 'say': person: there is no person 'Ann' (did you mean 'Anna'?)")


def test_a_person_with_faults_is_there_all_the_same() -> None:
    assert len(faults(HEAD + "  Ann: {modle: script}\n" + TALK)) == 1


def test_a_fault_of_a_person_said_in_place_has_its_line() -> None:
    text = ("treadle: 1\nnodes:\n  say:\n    type: talk\n    person:\n      model: script\n"
            "      memory: window\n      system_prompt: '{{ inputs.no }}'\n")
    assert [one.partition(" (there")[0] for one in faults(text)] == [
        "d.yaml:7: node 'say': person: `memory`: 'window' must say how many messages, as in window(10)",
        "d.yaml:8: node 'say': person.system_prompt: unknown name 'inputs.no'"]


def test_persons_are_written_and_read_again() -> None:
    text = HEAD + ("  Ann: {model: 'openai:m', memory: none, api_key: env:KEY, "
                   "settings: {stop: [x], seed: 1}}\n"
                   "  Bo: {model: script, script: [a, {tool: t, arguments: {n: 1}}]}\n") + TALK
    spec = loads(text)
    forms: tuple[Format, ...] = ("yaml", "json")
    for form in forms:
        again = loads(dumps(spec, form), format=form)
        assert again.persons == spec.persons
    assert spec.person_places["Bo.script[1].tool"].line == 4


def test_the_schema_knows_them() -> None:
    schema = schema_of(Kinds())
    validator = jsonschema.Draft202012Validator(schema)
    good = {"treadle": 1, "persons": {"Ann": {"model": "script", "settings": {"seed": 1}}},
            "nodes": {"a": {"type": "talk", "person": "Ann"},
                      "b": {"type": "talk", "person": {"model": "script"}}}}
    assert [error.message for error in validator.iter_errors(good)] == []
    for bad in ({"modle": "x"}, {"settings": {"seeds": 1}}, {"model": 3}):
        assert not validator.is_valid({**good, "persons": {"Ann": bad}})
    assert "description" in schema["$defs"]["Person_struct"]["properties"]["memory"]


def test_drawn_in_python() -> None:
    people: dict[str, Person | dict[str, Any]] = {
        "Ann": Person(model="script"), "Bo": {"model": "script", "memory": "all"}}
    with Diagram("talk", persons=people) as d:
        d.add("a", "talk", person="Ann")
        d.add("b", "talk", person="Bo")
        d.add("c", "talk", person={"model": "script"})
        d.add("d", "talk", person=Person(model="script"))
    assert d.spec().persons["Bo"].memory == "all"
    assert [node.person and node.person.name for node in compile_diagram(d.spec(), Kinds()).nodes] == [
        "Ann", "Bo", "c", "d"]
    assert loads(dumps(d.spec())).nodes[3].properties == {"person": {"model": "script"}}
    with pytest.raises(InvalidDiagram, match=r"test_persons\.py:\d+: person 'Ann': unknown property 'modle' "
                                             r"\(did you mean 'model'\?\)"):
        Diagram("talk", persons={"Ann": {"modle": "script"}})


# fingerprints

def prints(person: str, base: Path | str = ".", name: str = "Ann") -> str:
    return built(f"{HEAD}  {name}: {person}\nnodes:\n  say: {{type: talk, person: {name}}}\n", base
                 ).get_node("say").fingerprint


def test_the_definition_counts_in_the_fingerprint_and_the_key_does_not() -> None:
    plain = prints("{model: 'openai:m'}")
    assert plain == prints("{model: 'openai:m', memory: own}")
    assert plain == prints("{model: 'openai:m', api_key: env:OTHER}")
    others = {prints(person) for person in (
        "{model: 'openai:n'}", "{model: 'openai:m', memory: all}", "{model: 'openai:m', system_prompt: x}",
        "{model: 'openai:m', settings: {seed: 1}}", "{model: 'openai:m', base_url: 'http://h'}")}
    assert len(others) == 5 and plain not in others
    assert prints("{model: 'openai:m'}", name="Bo") != plain


def test_the_text_of_a_prompt_file_counts_and_its_folder_does_not(tmp_path: Path) -> None:
    found = []
    for folder, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.md").write_text(text)
        found.append(prints("{model: script, prompt_file: p.md}", tmp_path / folder))
    assert found[0] == found[1] != found[2]


def test_a_prompt_file_is_a_template_with_faults(tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("You know {{ inputs.topic }}")
    (tmp_path / "d.yaml").write_text(HEAD + "  Ann: {model: script, prompt_file: p.md}\n" + TALK)
    (fault,) = check_file(tmp_path / "d.yaml", Kinds()).faults
    assert "`prompt_file`: unknown name 'inputs.topic'" in str(fault)


# sub-diagrams

def test_a_sub_diagram_sees_the_persons_around_it_and_its_own_go_before(tmp_path: Path) -> None:
    (tmp_path / "in.yaml").write_text(
        HEAD + "  Bo: {model: script, system_prompt: inner}\n"
        "nodes:\n  a: {type: talk, person: Ann}\n  b: {type: talk, person: Bo}\n")
    diagram = built(HEAD + "  Ann: {model: script, system_prompt: outer, prompt_file: }\n"
                    "  Bo: {model: script, system_prompt: outer}\n"
                    "nodes:\n  sub: {type: sub_diagram, diagram: in.yaml}\n  b: {type: talk, person: Bo}\n",
                    tmp_path)
    child = diagram.get_node("sub").child
    assert child is not None
    prompts = [node.person and node.person.system_prompt for node in (*child.nodes, diagram.get_node("b"))]
    assert prompts == ["outer", "inner", "outer"]
    assert diagram.warnings == ()  # Ann is used inside


def test_one_file_among_different_persons_is_checked_for_each(tmp_path: Path) -> None:
    (tmp_path / "in.yaml").write_text("treadle: 1\n" + TALK)
    inner = "{treadle: 1, persons: {Ann: {model: script, system_prompt: %s}}, " \
            "nodes: {s: {type: sub_diagram, diagram: in.yaml}}}"
    diagram = built(f"treadle: 1\nnodes:\n  x: {{type: sub_diagram, diagram: {inner % 'one'}}}\n"
                    f"  y: {{type: sub_diagram, diagram: {inner % 'two'}}}\n"
                    f"  z: {{type: sub_diagram, diagram: {inner % 'one'}}}\n", tmp_path)
    found = []
    for name in "xyz":
        child = diagram.get_node(name).child
        assert child is not None
        leaf = child.get_node("s").child
        assert leaf is not None and leaf.get_node("say").person is not None
        found.append(leaf.get_node("say").person.system_prompt)  # type: ignore[union-attr]
    assert found == ["one", "two", "one"]
    assert diagram.get_node("x").lineage != diagram.get_node("y").lineage


def test_an_unknown_person_in_a_sub_diagram_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "in.yaml").write_text("treadle: 1\n" + TALK)
    (tmp_path / "d.yaml").write_text(
        HEAD + "  Anna: {model: script}\nnodes:\n  x: {type: sub_diagram, diagram: in.yaml}\n"
        "  y: {type: sub_diagram, diagram: in.yaml}\n")
    errors = check_file(tmp_path / "d.yaml", Kinds()).errors
    assert [str(one).removeprefix(f"{tmp_path}/") for one in errors] == [
        "in.yaml:3: node 'say': person: there is no person 'Ann' (did you mean 'Anna'?)"]


# memory

@pytest.mark.parametrize(("text", "memory"), [
    ("none", Memory("none")), ("own", Memory("own")), (" all ", Memory("all")),
    ("window(10)", Memory("window", 10)), ("summary( 2000 )", Memory("summary", 2000))])
def test_memories(text: str, memory: Memory) -> None:
    assert read_memory(text) == memory
    assert read_memory(str(memory)) == memory


@given(st.text(max_size=12))
def test_any_text_is_a_memory_or_says_what_to_write(text: str) -> None:
    try:
        read_memory(text)
    except ValueError as error:
        assert "write" in str(error) or "did you mean" in str(error) or "must say" in str(error)


def test_every_fault_within_a_node_s_settings_is_named() -> None:
    with pytest.raises(InvalidDiagram) as caught:
        built(HEAD + "  Ann: {model: script}\nnodes:\n"
              "  a: {type: talk, person: {modle: script, settings: {sed: 1, top_p: 3}}}\n")
    said = str(caught.value)
    assert "unknown property 'modle' (did you mean 'model'?)" in said
    assert "unknown property 'sed' (did you mean 'seed'?)" in said
    assert "settings.top_p: expected a number <= 1.0" in said
