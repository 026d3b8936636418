"""Drawing diagrams in Python: what calls draw, and what a signature refuses."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NewType

import pytest

from treadle.diagram.builder import Diagram, loop, node, switch, when
from treadle.diagram.builder.signature import assignable, item_of
from treadle.diagram.check import check
from treadle.diagram.formats import dumps, loads
from treadle.diagram.node import Input
from treadle.diagram.policy import Backoff, Join, OnItemError, Policy
from treadle.errors import InvalidDiagram


@node
def find(folder: str) -> list[str]:
    return [folder]


@node(retries=2, timeout=30, retry_on=[OSError, "Flaky"], backoff=0.5, isolation="thread")
async def measure(path: str, unit: str = "lines") -> int:
    return len(path + unit)


@node
def report(sizes: list[int], title: str = "Sizes") -> str:
    return f"{title}: {sizes}"


@node
def improve(draft: str) -> str:
    return draft


@node(id="send it")
def publish(text: str) -> None:
    pass


@node
def note() -> None:
    pass


def arrows(diagram: Diagram) -> list[str]:
    return [f"{arrow}{' ' + rule if (rule := ''.join(one['select'] for one in arrow.transform)) else ''}"
            for arrow in diagram.spec().arrows]


def refused(draw: Callable[[], Any]) -> str:
    with Diagram("refused"), pytest.raises(InvalidDiagram) as caught:
        draw()
    line = sys._getframe(1).f_lineno
    where = caught.value.faults[0].where
    assert where is not None
    assert (where.file, where.line) == (__file__, line)
    return "; ".join(fault.message for fault in caught.value.faults)


def test_the_example_of_the_module(kinds: Any) -> None:
    with Diagram("sizes") as diagram:
        files = find(diagram.input("folder", str, "."))
        sizes = measure.map(files, concurrency=16)
        many = when("sizes | length > 100", sizes=sizes)
        with many.true:
            text = report(sizes, title="Many")
        with many.false:
            short = report(sizes, title="Few")
        diagram.result(text | short)
    spec = diagram.spec()
    assert [(one.id, one.type) for one in spec.nodes] == [
        ("find", "code_job"), ("start", "start"), ("measure", "code_job"), ("when", "condition"),
        ("report", "code_job"), ("report_2", "code_job"), ("result", "endpoint")]
    assert arrows(diagram) == [
        "start -> find.folder folder",
        "find -> measure",
        "measure -> when.sizes",
        "when.true -> report.sizes",
        "when.false -> report_2.sizes",
        "report -> result",
        "report_2 -> result",
    ]
    assert spec.inputs == {"folder": Input("string", ".")}
    assert spec.nodes[2].policy == Policy(
        retries=2, timeout=30, retry_on=("OSError", "Flaky"), backoff=Backoff(initial=0.5),
        for_each="{{ find }}", concurrency=16)
    assert spec.nodes[2].properties["isolation"] == "thread"
    assert spec.nodes[4].properties["arguments"] == {"title": "Many"}
    assert spec.functions["measure"] is measure.function
    assert check(spec, kinds).faults == ()


def test_a_drawn_diagram_can_be_written_as_a_file() -> None:
    with Diagram("d") as diagram:
        report(measure.map(find("x")))
    again = loads(dumps(diagram.spec(), "json"), format="json")
    assert [one.id for one in again.nodes] == ["find", "measure", "report"]
    assert [str(arrow) for arrow in again.arrows] == ["find -> measure", "measure -> report.sizes"]


def test_a_loop_has_variables(kinds: Any) -> None:
    with Diagram("d") as diagram:
        with loop(draft=find("x").port("other"), max_iterations=5, on_limit="exit") as turn:
            text = improve(turn.draft)
            good = when("text | length < 80", text=text)
            with good.false:
                turn.again(draft=text)
        publish(text)
    assert arrows(diagram) == [
        "find.other -> improve.draft",
        "improve -> when.text",
        "when.false -> improve.draft",
        "improve -> send it.text",
    ]
    (said,) = diagram.spec().loops
    assert (said.entry, said.max_iterations, said.on_limit) == ("improve", 5, "exit")
    assert [
        one for one in check(diagram.spec(), kinds).errors if "has no port 'other'" not in one.message
    ] == []


def test_a_loop_can_begin_with_a_constant() -> None:
    with Diagram("d") as diagram, loop(draft="once upon a time") as turn:
        again = improve(turn.draft)
        with when("again", again=again).true:
            turn.again(draft=again)
    assert arrows(diagram)[0] == "improve draft -> improve.draft constant value"
    assert diagram.spec().nodes[1].properties == {"custom_data": {"constant value": "once upon a time"}}


def test_in_a_branch_values_from_outside_go_through_the_condition() -> None:
    with Diagram("d") as diagram:
        files, sizes = find("x"), measure.map(["a"])
        choice = when("files", files=files)
        with choice.true:
            inner = when("a > 1", a=measure("p"))
            with inner.false:
                report(sizes)
            note()
        report(sizes)
    assert arrows(diagram) == [
        "find -> when.files",
        "when.true -> measure_2",  # `measure("p")` has no value to take: it waits for the choice
        "measure_2 -> when_2.a",
        "measure -> when.measure",
        "when.true -> when_2.measure measure",
        "when_2.false -> report.sizes measure",
        "when.true -> note",
        "measure -> report_2.sizes",
    ]
    guarded = next(one for one in diagram.spec().nodes if one.id == "measure_2")
    assert guarded.properties["arguments"] == {
        "path": "p",
        "unit": "lines",
    }  # nothing left for the guard to fill


def test_a_switch_has_a_way_for_each_case() -> None:
    with Diagram("d") as diagram:
        kind = switch(find("x"), ["a", "b"])
        with kind.case("a") as value:
            publish(value)
        with kind.otherwise:
            note()
    assert arrows(diagram) == ["find -> switch.value", "switch.a -> send it.text", "switch.else -> note"]
    assert diagram.spec().nodes[1].properties == {"switch": "value", "cases": ["a", "b"]}
    with pytest.raises(InvalidDiagram, match=r"has no way 'c' \(there is: a, b, else\)"):
        kind.case("c")


def test_other_types_errors_and_plain_arrows() -> None:
    with Diagram("d", description="all", deadline=9, on_error="continue") as diagram:
        ask = diagram.add("ask me", "user_response", prompt="go?", retries=1, topic=find("x"))
        done = diagram.result(answer=ask, problem=ask.error)
        note() >> done
    spec = diagram.spec()
    assert (spec.description, spec.deadline, spec.on_error) == ("all", 9, "continue")
    assert spec.nodes[0].id == "find"
    assert spec.nodes[1].properties == {"prompt": "go?"}
    assert spec.nodes[1].policy == Policy(retries=1)
    assert arrows(diagram) == [
        "find -> ask me.topic",
        "ask me -> result.answer",
        "ask me.error -> result.problem",
        "note -> result",
    ]


def test_options_of_one_call() -> None:
    with Diagram("d") as diagram:
        measure.options(id="big", priority=3, join="any", memory_mb_max=9).map(
            "range(3)", on_item_error="collect"
        )
        measure.map(diagram.input("paths", list[str]))
    big, other = (one for one in diagram.spec().nodes if one.type == "code_job")
    assert (big.id, big.policy.priority, big.policy.join, big.policy.for_each) == (
        "big",
        3,
        Join.ANY,
        "range(3)",
    )
    assert big.policy.on_item_error is OnItemError.COLLECT
    assert big.properties["memory_mb_max"] == 9
    assert other.policy.for_each == "{{ inputs.paths }}"
    with pytest.raises(TypeError, match=r"no option 'retrys': did you mean 'retries'"):
        measure.options(retrys=1)
    with pytest.raises(TypeError, match=r"option 'retries': expected an integer"):
        measure.options(retries="x")


def test_outside_a_diagram_a_node_is_its_function() -> None:
    assert find.function("x") == ["x"]
    assert find("x") == ["x"]
    assert asyncio.run(measure.function("ab")) == 7
    with pytest.raises(RuntimeError, match="with Diagram"):
        when("true")


def test_a_signature_is_a_contract() -> None:
    assert refused(lambda: find(3)) == "3 is int, but parameter 'folder' of find is str"
    assert refused(lambda: find()) == "no value for parameter 'folder'"
    assert refused(lambda: find(folder="", floder=1)) == "there is no parameter 'floder'"
    assert refused(lambda: find("", "")) == "2 arguments for (folder: str)"
    assert refused(lambda: find("", folder="")) == "two values for parameter 'folder'"
    assert refused(lambda: report(find("x"))) == \
        "<output of find> is list[str], but parameter 'sizes' of report is list[int]"
    assert refused(lambda: publish(measure("x") | find("y"))).startswith("<output of measure> is int")
    assert refused(lambda: measure.map(3)) == "3 is int, not a list to map over"
    assert refused(lambda: measure.map([1])) == \
        "an item of [1] is int, but parameter 'path' of measure is str"
    assert refused(lambda: measure.map(measure("x"))) == "<output of measure> is int, not a list to map over"
    assert refused(lambda: note.map(["a"])) == "note has no parameter left for the item of the map"


def test_loops_and_handles_are_checked_too() -> None:
    with Diagram("other"):
        strange = find("x")
    assert refused(lambda: publish(strange.port("a"))).endswith(
        "belongs to the diagram 'other', not to 'refused'"
    )
    with Diagram("d") as diagram:
        with pytest.raises(InvalidDiagram, match="no node takes a variable of the loop"), loop(a=1):
            pass
        turn = loop(a="x", b="y")
        improve(turn.a)
        with pytest.raises(InvalidDiagram, match="'improve' begins the loop already"):
            publish(turn.b)
        with pytest.raises(InvalidDiagram, match="no node takes the loop's variable 'b'"):
            turn.again(b=find("x"))
        with pytest.raises(AttributeError, match="it has a, b"):
            turn.c  # noqa: B018
        with pytest.raises(TypeError, match="use when"):
            bool(find("x"))
        with pytest.raises(TypeError, match=r"use node\.map"):
            list(find("x"))
        diagram.input("i", int, 3)
        with pytest.raises(InvalidDiagram, match="has an input 'i' already"):
            diagram.input("i")
        with pytest.raises(InvalidDiagram, match="the default is str, not int"):
            diagram.input("j", int, "x")


def test_a_local_function_is_named_but_not_imported() -> None:
    @node
    def local(x: int) -> int:
        return x

    with Diagram("d") as diagram:
        local(1)
    (one,) = diagram.spec().nodes
    assert one.properties["function"].endswith("<locals>.local")
    assert "call" not in one.properties
    with pytest.raises(TypeError, match="positional only"):
        @node
        def odd(x: int, /) -> int:
            return x


Name = NewType("Name", str)


@pytest.mark.parametrize(
    ("kind", "wanted", "fits"),
    [
        (int, int, True),
        (int, float, True),
        (float, int, False),
        (bool, int, True),
        (str, int, False),
        (list[int], list[str], False),
        (list[int], Sequence[int], True),
        (list[int], list, True),
        (list, list[int], True),
        (int | None, int, True),
        (str | None, int, False),
        (int, int | str, True),
        (Any, int, True),
        (int, Any, True),
        (int, object, True),
        (None, int, False),
        (None, int | None, True),
        (Name, str, True),
        (Annotated[int, "m"], int, True),
        (Literal["a"], str, True),
        (Literal["a"], int, False),
        (dict[str, int], dict[str, str], False),
        (tuple[int, ...], tuple[int, int], True),
        ("later", int, True),
    ],
)
def test_which_types_go_where(kind: Any, wanted: Any, fits: bool) -> None:
    assert assignable(kind, wanted) is fits


@pytest.mark.parametrize(("kind", "item"), [
    (list[int], int), (list, Any), (tuple[int, ...], int), (tuple[int, str], Any), (str, None), (int, None),
    (Any, Any), (list[int] | None, Any), (set[str], str)])
def test_the_items_of_a_type(kind: Any, item: Any) -> None:
    assert item_of(kind) is item
