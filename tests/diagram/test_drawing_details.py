"""Drawing in Python: how nodes show themselves, what ends in between, and types that can't be known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from treadle.diagram.builder import Diagram, loop, node, when
from treadle.diagram.builder.signature import Signature, assignable
from treadle.errors import InvalidDiagram

if TYPE_CHECKING:
    from elsewhere import Unknown  # type: ignore[import-not-found]


@node
def find(folder: str) -> list[str]:
    return [folder]


@node
def improve(draft: str) -> str:
    return draft


@node
def publish(text: str) -> None:
    pass


@node
def note() -> None:
    pass


@node
def gather(title: str, **parts: Any) -> str:
    return title


def arrows(diagram: Diagram) -> list[str]:
    return [str(arrow) for arrow in diagram.spec().arrows]


def test_a_node_shows_its_signature_and_keeps_the_module_of_its_function() -> None:
    assert repr(find) == "<node find(folder: str)>"
    assert find.__module__ == find.function.__module__ == __name__


def test_an_input_can_be_used_only_in_its_own_diagram() -> None:
    with Diagram("other") as other:
        given = other.input("limit", str)
    with Diagram("mine"), pytest.raises(
            InvalidDiagram, match="input 'limit' belongs to the diagram 'other'"):
        publish(given)


def test_more_than_two_ways_can_meet() -> None:
    with Diagram("d") as diagram:
        first, second, third = improve("a"), improve("b"), improve("c")
        publish(first | second | third)
    assert arrows(diagram)[-3:] == [
        "improve -> publish.text", "improve_2 -> publish.text", "improve_3 -> publish.text"]


def test_the_same_node_drawn_again_gets_the_next_free_number() -> None:
    with Diagram("d") as diagram:
        for _ in range(4):
            note()
    assert [one.id for one in diagram.spec().nodes] == ["note", "note_2", "note_3", "note_4"]


def test_a_number_that_is_the_end_of_another_id_is_not_given_again() -> None:
    with Diagram("d") as diagram:
        note.options(id="note_2")()
        note()
        note()
    assert [one.id for one in diagram.spec().nodes] == ["note_2", "note", "note_3"]


def test_the_error_of_a_condition_can_be_caught() -> None:
    with Diagram("d") as diagram:
        choice = when("n > 1", n=find("x"))
        gather("broken", error=choice.error)
    assert "when.error -> gather.error" in arrows(diagram)


def test_what_goes_wrong_while_a_loop_is_drawn_is_what_is_raised() -> None:
    with Diagram("d") as diagram:
        with pytest.raises(KeyError, match="mine"), loop(draft="x"):
            raise KeyError("mine")  # and not that no node takes a variable
        note()
    assert diagram.spec().loops == ()


def test_a_function_that_takes_any_keywords_takes_any_inputs() -> None:
    with Diagram("d") as diagram:
        gather("all", left=find("x"), right=find("y"))
    assert {"find -> gather.left", "find_2 -> gather.right"} <= set(arrows(diagram))


def test_types_that_only_a_type_checker_sees_are_not_checked() -> None:
    def read(source: Unknown, limit: int = 3) -> Unknown: ...

    signature = Signature.of(read)
    assert (signature.names, signature.defaults) == (("source", "limit"), {"limit": 3})
    assert (signature.kinds, signature.returns) == ({}, Any)
    assert str(signature) == "(source, limit)"


def test_a_class_that_refuses_to_be_asked_takes_anything() -> None:
    class Refuses(type):
        def __subclasscheck__(cls, other: type) -> bool:
            raise TypeError("don't ask")

    class Odd(metaclass=Refuses):
        pass

    assert assignable(int, Odd)


@node
def count(words: list[str]) -> int:
    return len(words)


@pytest.mark.parametrize("use", [
    lambda value: value == 3, lambda value: value != 3, lambda value: value > 3, lambda value: value + 1,
    lambda value: 1 + value, lambda value: value[0], len, lambda value: 3 in value, list, bool,
    lambda value: f"{value} words"])
def test_a_value_is_not_known_while_it_is_drawn(use: Callable[[Any], object]) -> None:
    """`if diagram.input("flag", bool):` would always be true, and `if output == 3:` never."""
    with Diagram("unknown") as diagram:
        words = diagram.input("words", list[str])
        counted = count(words)
        with loop(words=words) as turn:
            for value, shown in ((words, "<input words>"), (counted, "<output of count>"),
                                 (turn.words, "<loop variable words>"),
                                 (counted | counted, r"<output of count> \| <output of count>")):
                with pytest.raises(TypeError, match=f"the value of {shown} is not known while"):
                    use(value)
            count(turn.words)
    assert {counted: 1}[counted] == 1


def test_a_drawn_value_goes_to_a_node_only_in_a_diagram() -> None:
    with Diagram("closed") as diagram:
        words = diagram.input("words", list[str])
    with pytest.raises(RuntimeError, match=r"count\(…\) draws a node, so it belongs into a block"):
        count(words)
    assert count(["a", "b"]) == 2


def test_the_type_of_an_input_is_a_type() -> None:
    with pytest.raises(InvalidDiagram, match="input 'n': 'int' is a text, not a type"):
        Diagram("typed").input("n", "int")
