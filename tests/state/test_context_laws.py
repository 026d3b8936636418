"""Laws of the shared context: transactions are serial, cells join, snapshots never change."""

from __future__ import annotations

import contextvars
from collections.abc import Sequence
from functools import reduce
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.errors import WriteConflict
from treadle.state.cell import ContextCell, join
from treadle.state.context import SharedContext, Snapshot, Transaction, snapshot_of

KEYS = ["variables.a", "variables.b", "artifacts.a", "plugins.P.a"]
Step = tuple[str, str]

steps = st.tuples(st.sampled_from(["read", "write", "delete", "list"]), st.sampled_from(KEYS))
scripts = st.lists(st.lists(steps, max_size=5), min_size=1, max_size=5)


def perform(tx: Any, number: int, place: int, step: Step) -> Any:
    """One step on a transaction, or on a plain dict; what it saw."""
    kind, key = step
    space = key[:key.rindex(".") + 1]
    if kind == "read":
        return tx.get(key)
    if kind == "write":
        tx[key] = [number, place, tx.get(key)]  # what is written depends on what was read
    elif kind == "delete":
        return tx.pop(key, None)
    else:
        return sorted(one for one in tx if one.startswith(space))
    return None


class Actor:
    """A transaction that is performed step by step, in a context of its own, as a body's would be."""

    def __init__(self, shared: SharedContext, number: int, script: Sequence[Step]) -> None:
        self.number, self.script = number, script
        self.run = contextvars.copy_context().run
        self.tx: Transaction = shared.transaction(writer=f"w{number}")
        self.saw: list[Any] = []
        self.at = -1

    def step(self) -> bool | None:
        """Go on; at the end, whether it committed."""
        if self.at < 0:
            self.run(self.tx.__enter__)
        elif self.at < len(self.script):
            self.saw.append(self.run(perform, self.tx, self.number, self.at, self.script[self.at]))
        else:
            try:
                self.run(self.tx.__exit__, None, None, None)
            except WriteConflict as conflict:
                assert conflict.keys
                return False
            return True
        self.at += 1
        return None


@settings(max_examples=300, deadline=None)
@given(scripts=scripts, data=st.data())
def test_any_interleaving_is_a_serial_one_in_the_order_of_commits(
        scripts: list[list[Step]], data: st.DataObject) -> None:
    commits: list[Sequence[ContextCell]] = []
    shared = SharedContext("e", sink=commits.append)
    actors = [Actor(shared, number, script) for number, script in enumerate(scripts)]
    states: list[dict[str, Any]] = [{}]  # after each commit
    began: dict[int, int] = {}
    snapshots: list[tuple[Snapshot, dict[str, Any]]] = []
    left = list(actors)
    while left:
        actor = data.draw(st.sampled_from(left))
        began.setdefault(actor.number, len(commits))
        done = actor.step()
        if done is None:
            continue
        left.remove(actor)
        if done:  # alone, after the last commit (if it wrote nothing: where it began), it does the same
            wrote = len(commits) == len(states)
            alone = dict(states[-1] if wrote else states[began[actor.number]])
            before = dict(alone)
            saw = [perform(alone, actor.number, place, step) for place, step in enumerate(actor.script)]
            assert saw == actor.saw
            if wrote:
                states.append(alone)
            else:
                assert alone == before
        assert dict(shared.snapshot()) == states[-1] and len(commits) == len(states) - 1
        snapshots.append((shared.snapshot(), dict(states[-1])))
    for snapshot, content in snapshots:
        assert dict(snapshot) == content


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, ContextCell]]:
    """The deltas of the commits of one execution, several owners after each other."""
    deltas: list[dict[str, ContextCell]] = []
    cells: list[ContextCell] = []
    for epoch in range(1, draw(st.integers(1, 3)) + 1):
        shared = SharedContext("e", epoch=epoch, cells=cells,
                               sink=lambda new: deltas.append({one.key: one for one in new}))
        for number in range(draw(st.integers(0, 4))):
            with shared.transaction(writer=f"w{number}") as tx:
                for key in draw(st.lists(st.sampled_from(KEYS), max_size=3)):
                    if draw(st.booleans()):
                        tx[key] = number
                    else:
                        tx.pop(key, None)
        cells = list(reduce(join, deltas, {}).values())
    return deltas


@settings(max_examples=200, deadline=None)
@given(deltas=histories(), data=st.data())
def test_any_order_repetition_and_batching_of_deltas_joins_to_the_same_state(
        deltas: list[dict[str, ContextCell]], data: st.DataObject) -> None:
    expected = reduce(join, deltas, {})
    again = data.draw(st.lists(st.sampled_from(deltas), max_size=5)) if deltas else []
    order = data.draw(st.permutations(deltas + again))
    joined: dict[str, ContextCell] = {}
    loaded = SharedContext("e", epoch=9)
    while order:
        size = data.draw(st.integers(1, len(order)))
        batch, order = reduce(join, order[:size]), order[size:]
        joined = join(joined, batch)
        loaded.load(batch.values())
    assert joined == expected
    assert dict(loaded.snapshot()) == dict(snapshot_of(expected.values()))
