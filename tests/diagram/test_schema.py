"""The JSON Schema of diagram files takes every diagram that there is, and refuses what `check` refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from treadle.config import DEFAULT_CONFIG
from treadle.diagram.check import check
from treadle.diagram.formats import read
from treadle.diagram.formats.json_text import read_json
from treadle.diagram.formats.schema import ARROW, schema_of
from treadle.diagram.formats.tree import TreeBuilder
from treadle.diagram.formats.yaml_text import read_yaml
from treadle.errors import Fault
from treadle.nodes.base import NodeKind
from treadle.nodes.registry import default_registry

ROOT = Path(__file__).resolve().parents[2]
WRONG = ROOT / "tests" / "page" / "diagrams" / "wrong.yaml"
REGISTRY = default_registry()
SCHEMA = schema_of(REGISTRY)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
_FENCED = re.compile(r"^( *)```yaml\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def plain(text: str, file: str = "diagram.yaml") -> Any:
    """What a file says, read as Treadle reads it."""
    faults: list[Fault] = []
    builder = TreeBuilder(DEFAULT_CONFIG, faults)
    (read_json if file.endswith(".json") else read_yaml)(text, file, builder)
    assert builder.root is not None and faults == []
    return builder.root.plain()


def faults_of(text: str) -> list[str]:
    """What the schema says of a file: where, and what."""
    found = [jsonschema.exceptions.best_match([error]) for error in VALIDATOR.iter_errors(plain(text))]
    return [f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in found]


def refused(text: str) -> bool:
    """Whether `check` finds something wrong with a text."""
    spec, faults = read(text)
    return bool(faults) or spec is None or not all(one.warning for one in check(spec, REGISTRY).faults)


def files() -> list[Path]:
    """Those files of the repository that are diagrams, but for one that is wrong on purpose."""
    found = [path for folder in ("examples", "tests", "benchmarks") for kind in ("*.yaml", "*.yml", "*.json")
             for path in (ROOT / folder).rglob(kind)]
    return sorted(path for path in found if path != WRONG and re.search(
        r'^[{\s]*"?treadle"?: ', path.read_text(encoding="utf-8"), re.MULTILINE))


def blocks() -> list[Any]:
    """The diagrams in the pages and in the docstrings; a block without `treadle:` is a part of one."""
    found = []
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md"),
                        *(ROOT / "src" / "treadle").rglob("*.py")]):
        text = path.read_text(encoding="utf-8")
        for match in _FENCED.finditer(text):
            body = re.sub(f"^{match[1]}", "", match[2], flags=re.MULTILINE)
            is_test = re.search(r"^tests:", body, re.MULTILINE)  # of a diagram, in a file beside it
            if re.search(r"^(treadle|nodes|arrows|loops|inputs):", body, re.MULTILINE) and not is_test:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(body, id=f"{path.relative_to(ROOT)}:{line}"))
    return found


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_diagram_fits(path: Path) -> None:
    document = plain(path.read_text(encoding="utf-8"), path.name)
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


@pytest.mark.parametrize("text", blocks())
def test_every_diagram_in_the_docs_fits(text: str) -> None:
    document = {"treadle": 1, "nodes": {"some": {"type": "start"}}, **plain(text)}
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


GOOD = """
treadle: 1
name: all of it
description: text
inputs:
  plain: string
  none:
  count: {type: integer, default: 3, description: how many}
  list: {type: array, default: [1, "a", null]}
nodes:
  first: {type: start, label: The first}
  all of it:
    type: code_job
    code: return 1
    needs: [first, first]
    retries: 2
    backoff: 0.5
    retry_on: ValueError
    timeout: 1
    join: any
    priority: -1
    for_each: "{{ [1] }}"
    concurrency: 4
    on_item_error: collect
  slow: {type: code_job, code: return 1, backoff: {initial: 1, max: 10.5}, retry_on: [OSError], timeout: null}
  inside:
    type: sub_diagram
    diagram: {nodes: {done: {type: endpoint}}}
arrows:
  - first -> inside
  - "all of it.error -> slow.x"
  - {from: slow, to: inside.rows, transform: {select: a.b}}
  - from: inside
    to: slow.back
    transform:
      - {select: rows, default: []}
      - {rename: {a: b}, merge: true, flatten: 2}
      - {coerce: array}
      - {format: "{{ value }}"}
    content_type: object
loops: [{entry: slow, max_iterations: 3, on_limit: exit}]
on_error: continue
deadline: 3.5
"""


def test_whatever_the_format_has_fits() -> None:
    assert faults_of(GOOD) == []


ONE = "treadle: 1\nnodes: {a: {type: start}, b: {type: endpoint, needs: a}}\n"


@pytest.mark.parametrize(("text", "says"), [
    ("nodes: {a: {type: start}}", "'treadle' is a required property"),
    ("treadle: 2\nnodes: {a: {type: start}}", "treadle: 1 was expected"),
    ("treadle: 1", "'nodes' is a required property"),
    ("treadle: 1\nnodes: {}", "nodes: "),
    (ONE + "nodse: {}", "'nodse' was unexpected"),
    (ONE + "on_error: fial", "on_error: 'fial' is not one of"),
    (ONE + "deadline: soon", "deadline: 'soon' is not of type"),
    (ONE + "deadline: 0", "deadline: 0 is less than or equal to the minimum"),
    ("treadle: 1\nnodes: {a: {typ: start}}", "nodes.a: 'type' is a required property"),
    ("treadle: 1\nnodes: {a: {type: strat}}", "nodes.a.type: 'strat' is not one of"),
    ("treadle: 1\nnodes: {a: {type: start, retires: 2}}", "'retires' was unexpected"),
    ("treadle: 1\nnodes: {a: {type: start, retries: two}}", "nodes.a.retries: 'two' is not of type"),
    ("treadle: 1\nnodes: {a: {type: start, retries: -1}}", "nodes.a.retries: -1 is less than"),
    ("treadle: 1\nnodes: {a: {type: start, timeout: 0}}", "nodes.a.timeout: 0 is less than"),
    ("treadle: 1\nnodes: {a: {type: start, join: some}}", "nodes.a.join: 'some' is not one of"),
    ("treadle: 1\nnodes: {a: {type: start, backoff: {factor: 0.5}}}", "nodes.a.backoff"),
    ("treadle: 1\nnodes: {a: {type: db, file: x}}", "nodes.a: 'operation' is a required property"),
    ("treadle: 1\nnodes: {a: {type: db, operation: raed, file: x}}",
     "nodes.a.operation: 'raed' is not one of"),
    ("treadle: 1\nnodes: {a: {type: code_job, code: [x]}}", "nodes.a.code: ['x'] is not"),
    ("treadle: 1\nnodes: {a: {type: sub_diagram, diagram: {nodes: {x: {type: strat}}}}}", "nodes.a.diagram"),
    (ONE + "inputs: {x: {type: strin}}", "inputs.x"),
    (ONE + "inputs: {x: {defualt: 3}}", "inputs.x"),
    (ONE + "inputs: {x: {type: integer, default: three}}", "inputs.x"),
    (ONE + "arrows: [a > b]", "arrows.0"),
    (ONE + "arrows: [a -> b -> c]", "arrows.0"),
    (ONE + "arrows: [{form: a, to: b}]", "arrows.0"),
    (ONE + "arrows: [{from: a, to: b.x, transform: [{selct: x}]}]", "arrows.0"),
    (ONE + "arrows: [{from: a, to: b.x, transform: {flatten: 0}}]", "arrows.0"),
    (ONE + "arrows: [{from: a, to: b.x, content_type: txt}]", "arrows.0"),
    (ONE + "loops: [{max_iterations: 3}]", "loops.0: 'entry' is a required property"),
    (ONE + "loops: [{entry: a, max_iterations: 0}]", "loops.0.max_iterations: 0 is less than"),
    (ONE + "loops: [{entry: a, on_limit: stop}]", "loops.0.on_limit: 'stop' is not one of"),
])
def test_a_mistake_is_refused_where_it_stands_and_by_check_too(text: str, says: str) -> None:
    found = faults_of(text)
    assert any(says in one for one in found), found
    assert refused(text)


def test_every_property_of_every_type_says_what_it_is() -> None:
    silent = [f"{name}.{key}" for name in REGISTRY.names()
              for key, one in SCHEMA["$defs"][name]["properties"].items()
              if key != "type" and "description" not in one and "$ref" not in one]
    assert silent == []
    assert all(SCHEMA["$defs"][name]["description"] for name in REGISTRY.names())


def test_a_type_whose_source_is_nowhere_has_no_words_and_is_in_it_all_the_same() -> None:
    made = msgspec.defstruct("Made", [("size", int, 3)], forbid_unknown_fields=True)
    mine = default_registry()
    mine.register(NodeKind("made", made, mine.get_strategy("start")))
    assert schema_of(mine)["$defs"]["made"]["properties"]["size"] == {"type": "integer", "default": 3}


def test_a_registered_type_and_transform_are_in_it() -> None:
    mine = default_registry()
    mine.transforms.register("double", lambda value, argument: value * 2)
    assert "double" in schema_of(mine)["$defs"]["transform"]["properties"]
    assert set(mine.names()) == set(schema_of(mine)["$defs"]["node"]["properties"]["type"]["enum"])


@pytest.mark.parametrize("text", ["a->b", " a . x -> b ", "my node.error -> b > c", "a.b.c -> d"])
def test_an_arrow_is_told_by_its_pattern(text: str) -> None:
    assert re.search(ARROW, text)
