"""What each of the other types of node does."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.diagram.check import check
from treadle.diagram.formats import loads
from treadle.diagram.policy import Policy
from treadle.errors import ExpressionError, NotEncodable
from treadle.nodes.base import NodeKind, NodeStrategyProtocol, Suspend
from treadle.nodes.registry import BUILT_IN, NodeRegistry, StrategyRegistry, default_registry
from treadle.state.cell import ErrorInfo

Perform = Any
Write = Callable[[str, str], Path]


# start and endpoint


def test_start_emits_the_inputs_of_the_execution(perform: Perform) -> None:
    assert perform("start", execution_inputs={"b": 3}, custom_data={"a": 1, "b": 2}) == {"a": 1, "b": 3}
    assert perform.ports("start").inputs == ()


def test_an_endpoint_passes_its_input_on(perform: Perform) -> None:
    assert perform("endpoint", {"text": 1}) == 1
    assert perform("endpoint", {"a": 1, "b": 2}) == {"a": 1, "b": 2}
    assert perform("endpoint") is None


@pytest.mark.parametrize(("name", "value", "text"), [
    ("r.txt", "hé", "hé"), ("r.json", "a text is written as it is", "a text is written as it is"),
    ("r.txt", {"a": (1,)}, '{\n  "a": [\n    1\n  ]\n}\n'), ("r.yaml", {"b": 1, "a": "é"}, "b: 1\na: é\n"),
    ("r.csv", [{"a": 1, "b": "x,y"}], 'a,b\n1,"x,y"\n'), ("r.bin", b"\0", "\0")])
def test_an_endpoint_may_save_its_value(perform: Perform, tmp_path: Path, name: str, value: Any,
                                        text: str) -> None:
    assert perform("endpoint", {"default": value}, save_to="out/" + name) == value
    assert (tmp_path / "out" / name).read_text() == text


# condition


@pytest.mark.parametrize(("when", "port"), [
    ("{{ n > 2 }}", "true"), ("n > 5", "false"), ("[]", "false"), ("n", "true"), ("none", "false")])
def test_a_condition_chooses_a_port_and_passes_its_input(perform: Perform, when: str, port: str) -> None:
    envelope = perform.envelope("condition", {"n": 3}, when=when)
    assert (envelope.port, envelope.body) == (port, 3)


def test_a_condition_with_several_inputs_passes_a_map(perform: Perform) -> None:
    assert perform("condition", {"a": 1, "b": 2}, when="a < b") == {"a": 1, "b": 2}


def test_a_condition_that_fails_is_never_false(perform: Perform) -> None:
    with pytest.raises(ExpressionError, match="missing"):
        perform("condition", {"a": 1}, when="missing > 2")
    with pytest.raises(ExpressionError, match="neither true nor false"):
        perform("condition", {"a": "no"}, when="a")


@pytest.mark.parametrize(("value", "port"), [("small", "small"), (2, "2"), (True, "true"), ("huge", "else")])
def test_a_switch_chooses_the_port_of_that_name(perform: Perform, value: Any, port: str) -> None:
    envelope = perform.envelope("condition", {"size": value}, switch="size", cases=["small", "2", "true"])
    assert (envelope.port, envelope.body) == (port, value)


@pytest.mark.parametrize("properties", [
    {}, {"when": "1", "switch": "2"}, {"when": "1", "cases": ["a"]}, {"switch": "1"},
    {"switch": "1", "cases": ["a", "a"]}, {"switch": "1", "cases": ["else"]}])
def test_what_is_no_condition(perform: Perform, properties: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`(when|switch|cases)`"):
        perform.ports("condition", **properties)


def test_a_switch_on_what_names_no_port(perform: Perform) -> None:
    with pytest.raises(ExpressionError, match="gave a list"):
        perform("condition", {"a": [1]}, switch="a", cases=["x"])


def test_the_ports_of_conditions(perform: Perform) -> None:
    assert perform.ports("condition", when="1").outputs == ("true", "false")
    ports = perform.ports("condition", switch="1", cases=["a"])
    assert ports.outputs == ("a", "else") and ports.chooses


# template_job


def test_a_template_renders_text(perform: Perform, write: Write, tmp_path: Path) -> None:
    write("page.j2", "{% include 'head.j2' %}{{ rows | length }} rows")
    write("head.j2", "# {{ title }}\n")
    inputs = {"rows": [1, 2], "title": "T"}
    text = perform("template_job", inputs, template="page.j2", output_path="out/{{ title }}.md")
    assert text == "# T\n2 rows"
    assert (tmp_path / "out" / "T.md").read_text() == "# T\n2 rows"
    assert perform("template_job", inputs, text="{{ rows }}") == "[1, 2]"


def test_the_sources_of_a_template_are_all_its_files(perform: Perform, write: Write) -> None:
    write("page.j2", "{% include 'head.j2' %}")
    write("head.j2", "head")
    assert perform.sources("template_job", template="page.j2") == ["{% include 'head.j2' %}", "head"]
    assert perform.sources("template_job", text="x") == []


def test_a_template_that_is_missing_or_said_twice(perform: Perform) -> None:
    with pytest.raises((ValueError, OSError), match=r"page\.j2"):
        perform.ports("template_job", template="page.j2")
    with pytest.raises(ValueError, match="either `template`"):
        perform.ports("template_job", template="a", text="b")


# db


def test_db_writes_and_reads_each_format(perform: Perform, tmp_path: Path) -> None:
    rows = [{"name": "Ann", "age": "3"}, {"name": "Bob", "age": ""}]
    for name, value in (("a.json", {"a": [1, None]}), ("a.yaml", {"b": 1, "a": ["é"]}), ("a.csv", rows),
                        ("a.txt", "text\n")):
        assert perform("db", {"default": value}, operation="write", file="out/" + name) == value
        assert perform("db", operation="read", file="out/" + name) == value
    assert sorted(os.listdir(tmp_path / "out")) == ["a.csv", "a.json", "a.txt", "a.yaml"]


def test_db_reads_several_files_as_a_map(perform: Perform, write: Write) -> None:
    write("in/a.txt", "A")
    write("in/b.json", "[1]")
    write("in/deep/c.txt", "C")
    both = {"in/a.txt": "A", "in/b.json": [1]}
    assert perform("db", operation="read", file=["in/a.txt", "in/b.json"]) == both
    assert perform("db", operation="read", file="in/*", glob=True) == both
    deep = perform("db", operation="read", file="in/**/*.txt", glob=True)
    assert deep == {"in/a.txt": "A", "in/deep/c.txt": "C"}
    assert perform("db", operation="read", file="in/b.json", serialize=True) == "[1]"


def test_db_appends(perform: Perform, tmp_path: Path) -> None:
    for n in (1, 2):
        perform("db", {"default": {"n": n}}, operation="append", file="log.json")
        perform("db", {"default": {"n": n}}, operation="append", file="log.csv")
        perform("db", {"default": f"line {n}\n"}, operation="append", file="log.txt")
    assert (tmp_path / "log.json").read_text() == '{"n": 1}\n{"n": 2}\n'
    assert (tmp_path / "log.csv").read_text() == "n\n1\n2\n"
    assert (tmp_path / "log.txt").read_text() == "line 1\nline 2\n"


def test_a_write_that_fails_leaves_the_old_file_and_no_other(perform: Perform, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    perform("db", {"default": "old"}, operation="write", file="a.txt")
    (tmp_path / "a.txt").chmod(0o640)

    def fail(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            perform("db", {"default": "new"}, operation="write", file="a.txt")
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    perform("db", {"default": "new"}, operation="write", file="a.txt")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("text", "name", "message"), [
    ("{", "bad.json", r"'bad\.json' is not json"), ("a: [", "bad.yaml", r"'bad\.yaml' is not yaml"),
    ("a,b\n1\n", "bad.csv", "line 2 has another number of columns"), ("a\n1,2\n", "bad.csv", "line 2")])
def test_a_file_that_cannot_be_read_is_named(perform: Perform, write: Write, text: str, name: str,
                                             message: str) -> None:
    write(name, text)
    with pytest.raises(ValueError, match=message):
        perform("db", operation="read", file=name)


def test_a_missing_file_is_named(perform: Perform, write: Write) -> None:
    write("folder/x.bin", "").write_bytes(b"\xff")
    with pytest.raises(FileNotFoundError, match=r"no file 'nothing\.txt' in"):
        perform("db", operation="read", file="nothing.txt")
    with pytest.raises(FileNotFoundError, match=r"no file matches '\*\.csv'"):
        perform("db", operation="read", file="*.csv", glob=True)
    with pytest.raises(IsADirectoryError, match="'folder' is a folder"):
        perform("db", operation="read", file="folder")
    with pytest.raises(ValueError, match="not UTF-8"):
        perform("db", operation="read", file="folder/x.bin")


def test_what_a_file_cannot_hold(perform: Perform) -> None:
    with pytest.raises(ValueError, match=r"'a\.csv': csv needs a list"):
        perform("db", {"default": 3}, operation="write", file="a.csv")
    with pytest.raises((ValueError, NotEncodable), match="object"):
        perform("db", {"default": object()}, operation="write", file="a.json")


@pytest.mark.parametrize("properties", [
    {"operation": "write", "file": ["a"]}, {"operation": "append", "file": "a", "glob": True},
    {"operation": "append", "file": "a.yaml"}, {"operation": "read", "file": []}])
def test_what_db_does_not_take(perform: Perform, properties: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`file`|yaml"):
        perform.ports("db", **properties)


# waiting


def test_user_response_asks(perform: Perform) -> None:
    found = perform.envelope("user_response", {"n": 3}, prompt="Take {{ n }}?", schema={"type": "boolean"},
                             policy=Policy(timeout=60))
    assert found == Suspend({"kind": "answer", "prompt": "Take 3?", "schema": {"type": "boolean"}}, 1060.0)


def test_wait_for_waits_for_a_signal(perform: Perform) -> None:
    assert perform.envelope("wait_for", {"n": 3}, signal="paid-{{ n }}") == Suspend(
        {"kind": "signal", "name": "paid-3"}, None)
    with pytest.raises(ValueError, match="needs a name"):
        perform.ports("wait_for", signal=" ")


def test_sleep_waits_for_a_time(perform: Perform) -> None:
    assert perform.envelope("sleep", seconds=2.5) == Suspend({"kind": "sleep"}, 1002.5)
    assert perform.envelope("sleep", {"n": 3}, seconds="n * 2").wake_at == 1006.0
    at = datetime(2027, 1, 31, 9, tzinfo=UTC)
    assert perform.envelope("sleep", {"at": at.isoformat()}, until="{{ at }}").wake_at == at.timestamp()


@pytest.mark.parametrize("properties", [{}, {"seconds": 1, "until": "x"}, {"seconds": -1}])
def test_what_is_no_sleep(perform: Perform, properties: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`seconds`"):
        perform.ports("sleep", **properties)


def test_a_sleep_that_gives_no_time(perform: Perform) -> None:
    with pytest.raises(ExpressionError, match="no ISO 8601 instant"):
        perform("sleep", until="tomorrow")
    with pytest.raises(ExpressionError, match="not a number of seconds"):
        perform("sleep", {"n": "x"}, seconds="n")


# sub_diagram, and all of them


def test_a_sub_diagram_names_its_child(perform: Perform) -> None:
    kind, spec, node = perform.kind("sub_diagram", {"diagram": "child.yaml", "inputs": {"a": "{{ x }}"}})
    assert kind.child(spec, node, ".") == "child.yaml"
    with pytest.raises(TypeError, match="has no body of its own"):
        perform("sub_diagram", diagram={})


def test_an_item_of_a_map_is_what_passes(perform: Perform) -> None:
    assert perform("condition", {"default": [1, 2]}, index=1, item=2, when="item > 1") == 2


def test_unknown_types_are_named_with_the_nearest() -> None:
    with pytest.raises(LookupError, match="no node type 'conditon': did you mean 'condition'"):
        default_registry().get_strategy("conditon")
    with pytest.raises(LookupError, match="no node type 'zzz': there are start, endpoint"):
        StrategyRegistry().get_strategy("zzz")
    assert default_registry().get("zzz") is None


def test_a_new_type_is_one_struct_and_one_strategy() -> None:
    class Shout(msgspec.Struct):
        """Shouts."""

    class ShoutStrategy:
        async def execute(self, node: Any, context: Any, inputs: Any) -> Any:
            return None

        def can_handle(self, node_type: str) -> bool:
            return node_type == "shout"

    registry = default_registry()
    registry.register(NodeKind("shout", Shout, ShoutStrategy()))
    assert "shout" in registry.names() and isinstance(registry.get_strategy("shout"), ShoutStrategy)
    assert "shout" not in default_registry().names()
    with pytest.raises(ValueError, match="already"):
        registry.register(NodeKind("shout", Shout, ShoutStrategy()))
    strategies = StrategyRegistry(NodeRegistry())
    strategies.register(ShoutStrategy())
    assert isinstance(strategies.get_strategy("shout"), ShoutStrategy)


@pytest.mark.parametrize("kind", [module.KIND for module in BUILT_IN], ids=lambda kind: kind.name)
def test_every_type_keeps_the_protocol_and_is_documented(kind: NodeKind) -> None:
    assert isinstance(kind.strategy, NodeStrategyProtocol)
    assert kind.strategy.can_handle(kind.name) and not kind.strategy.can_handle("other")
    assert kind.properties.__doc__ and issubclass(kind.properties, msgspec.Struct)


def test_an_error_is_no_input_of_its_own_kind() -> None:
    assert str(ErrorInfo("E", "m")) == "E: m" and str(ErrorInfo("E", "")) == "E"


def test_what_a_sub_diagram_needs_is_checked() -> None:
    inner = "diagram: {inputs: {topic: {}, size: {default: 1}}, nodes: {a: {type: start}}}"
    cases = {
        f"s: {{type: sub_diagram, {inner}, inputs: {{topci: 1}}}}":
            "its diagram needs the input 'topic' (rename 'topci')",
        f"s: {{type: sub_diagram, {inner}}}": "needs the input 'topic' (write: inputs: {topic: …})",
        f"s: {{type: sub_diagram, {inner}, inputs: {{topic: 1}}}}": "",
        f"s: {{type: sub_diagram, {inner}, for_each: '[1]'}}": "",  # an item may have it
    }
    for text, message in cases.items():
        faults = check(loads(f"treadle: 1\nnodes:\n  {text}\n"), default_registry()).faults
        assert message in "\n".join(map(str, faults)) and bool(faults) is bool(message), text
