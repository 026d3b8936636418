"""What a node may ask of the loops around it, and arrows that count once."""

from __future__ import annotations

import msgspec

from treadle.diagram.compile import link
from treadle.diagram.diagram import ExecutableDiagram
from treadle.testing.playbook import Expanded, Finished, Perform, Playbook, Started, draw


def once(text: str, **first: bool) -> ExecutableDiagram:
    """A drawing in which the arrows from these nodes say whether they count once."""
    spec = draw(text).spec
    arrows = [msgspec.structs.replace(arrow, first=first.get(arrow.source)) for arrow in spec.arrows]
    return link(msgspec.structs.replace(spec, arrows=tuple(arrows)))


def test_an_arrow_counts_once_if_it_says_so_and_not_if_it_says_no() -> None:
    book = Playbook(once("a -> step.seed; b -> step.first; step -> c; c.again -> step.st; c.out -> e",
                         a=True, b=False))
    book.on(Started()).on(Finished("a", 1)).on(Finished("b", 2), expect=[Perform("step")])
    assert book.inputs("step") == [("a -> step.seed", 1), ("b -> step.first", 2)]
    book.on(Finished("step", 3)).on(Finished("c", 3, port="again"), expect=[Perform("step")])
    assert book.inputs("step") == [("b -> step.first", 2), ("c.again -> step.st", 3)]


def test_the_turn_of_a_loop_and_what_has_run_in_any_turn() -> None:
    book = Playbook(draw("s -> a -> c; c.b -> b -> a; c.d -> d -> a; c.out -> e"))
    kernel, index = book.kernel, book.kernel.diagram.index

    def seen(node: str) -> tuple[int, list[str]]:
        return kernel.turn_at(index[node], index["c"]), [
            name for name in "sabcde" if kernel.has_run(index[node], index[name])]

    book.on(Started()).on(Finished("s"))
    assert seen("a") == (1, ["s"])
    book.on(Finished("a")).on(Finished("c", port="b")).on(Finished("b"), expect=[Perform("a")])
    assert seen("a") == (2, ["s", "a", "b", "c"])
    book.on(Finished("a")).on(Finished("c", port="out"), expect=[Perform("e")])
    assert seen("e") == (2, ["s", "a", "b", "c"])
    assert kernel.turn_at(index["e"], index["s"]) == 1, "it is in no loop"


def test_an_item_of_a_map_sees_the_loop_around_the_map() -> None:
    from treadle.diagram.policy import Policy

    book = Playbook(draw("s -> m -> c; c.again -> m; c.out -> e", m=Policy(for_each="{{ s }}")))
    index = book.kernel.diagram.index
    book.on(Started()).on(Finished("s")).on(Expanded("m", [1]), expect=[Perform("m[0]")])
    slot = book.kernel.find("m[0]")
    assert book.kernel.turn_at(slot, index["c"]) == 1 and not book.kernel.has_run(slot, index["m"])
