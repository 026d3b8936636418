"""A mirror's law: a snapshot with the later differences applied is the snapshot of now."""

from __future__ import annotations

import copy
import re
from typing import Any
from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.monitor.live import parts
from treadle.monitor.live.fields import path_of
from treadle.monitor.live.groups import Figures
from treadle.monitor.live.mirror import ALL, ROOT, Mirror, Update
from treadle.monitor.live.parts import NOWHERE, Parts
from treadle.monitor.live.wire import Message
from treadle.state import codec
from treadle.state.cell import ContextCell, ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus

_replace = msgspec.structs.replace
PATHS = ("a", "b", "each", "each[0]", "each[1]", "sub", "sub/x", "sub/x[0]", "sub/y", "deep[2]/z")
STATUSES = (NodeStatus.RUNNING, NodeStatus.SUSPENDED, NodeStatus.RETRYING, NodeStatus.COMPLETED,
            NodeStatus.FAILED, NodeStatus.SKIPPED)
SCOPES = (ROOT, frozenset({"each"}), frozenset({"sub", "each"}), frozenset({ALL}))


def a_cell(path: str, turn: int = 1, attempt: int = 1, seq: int = 1, choice: int = 0) -> NodeState:
    """The cell of a version: it follows from its key and version, so equal versions are equal cells."""
    status = STATUSES[(seq + choice) % len(STATUSES)]
    return NodeState(
        "run", path, str(turn), attempt, 1, seq, status, started_at=float(seq),
        ended_at=10.0 if status.terminal else None,
        output=b"[1]" * 9 if status is NodeStatus.COMPLETED else None,
        error=ErrorInfo("E", "why", "trace") if status in (NodeStatus.FAILED, NodeStatus.RETRYING) else None,
        request=codec.encode({"kind": "answer", "prompt": "?"}) if seq > 1 else None,
        items=b"[1,2,3]" if path == "each" and seq > 1 else None, port="true" if seq % 2 else None,
        claims=seq % 3)


cells = st.builds(a_cell, st.sampled_from(PATHS), st.integers(1, 3), st.integers(1, 2), st.integers(1, 4))
executions = st.builds(
    lambda seq: ExecutionCell("run", 1, seq, ExecutionStatus.FAILED if seq > 3 else ExecutionStatus.RUNNING,
                              error=ErrorInfo("E", "why") if seq == 4 else None), st.integers(1, 5))
keys = st.builds(
    lambda name, seq: ContextCell("run", name, 1, seq, None if seq == 3 else codec.encode({"n": seq}), "w"),
    st.sampled_from(("artifacts.a", "variables.b", "plugins.P.c")), st.integers(1, 4))
anything = st.lists(st.one_of(cells, cells, executions, keys), max_size=8)


def applied(state: dict[str, Any], update: Update) -> None:
    """What a client does with an update."""
    for name, value in update.payload.get("execution", {}).items():
        put(state["execution"], name, value)
    state["context"].update(update.payload.get("context", {}))
    for path, fields in update.payload.get("nodes", {}).items():
        if path_of("nodes", path) in update.mask:
            state["nodes"].pop(path, None)  # all of it
        view = state["nodes"].setdefault(path, {})
        for name, value in fields.items():
            put(view, name, value)


def put(view: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        view.pop(name, None)
    else:
        view[name] = value


def shown(mirror: Mirror, scope: frozenset[str] = ROOT) -> dict[str, Any]:
    return copy.deepcopy(mirror.snapshot(scope).payload)


class Client:
    """Reads as a viewer does."""

    def __init__(self, mirror: Mirror, scope: frozenset[str]) -> None:
        self.mirror, self.scope = mirror, scope
        first = mirror.snapshot(scope)
        self.state, self.since = copy.deepcopy(first.payload), first.sequence
        assert self.since == mirror.lead

    def read(self, limit: int | None) -> None:
        update = self.mirror.diff(self.since, self.scope, limit)
        assert sorted(update.mask) == sorted(masked(update))
        assert update.sequence >= self.since
        applied(self.state, copy.deepcopy(update))
        self.since = update.sequence


def masked(update: Update) -> list[str]:
    """The paths of all that is in a payload; new nodes stand there as a whole."""
    payload = update.payload
    found = [f"execution.{name}" for name in payload.get("execution", {})]
    found += [f"context.{name}" for name in payload.get("context", {})]
    for path, view in payload.get("nodes", {}).items():
        place = path_of("nodes", path)
        if place in update.mask:
            found.append(place)
        else:
            found += [f"{place}.{name}" for name in view]
    return found


@given(st.lists(st.tuples(anything, st.integers(0, 3), st.sampled_from((None, 1, 3))), max_size=12),
       st.lists(st.tuples(st.integers(0, 6), st.sampled_from(SCOPES)), max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_snapshot_with_the_later_differences_is_the_snapshot_of_now(
        turns: list[tuple[list[Any], int, int | None]], comings: list[tuple[int, frozenset[str]]]) -> None:
    mirror = Mirror("run")
    clients: list[Client] = []
    for number, (news, who, limit) in enumerate(turns):
        clients += [Client(mirror, scope) for when, scope in comings if when == number]
        mirror.take(news)
        if clients and who:
            clients[who % len(clients)].read(limit)
    for client in clients:
        client.read(None)
        assert client.state == shown(mirror, client.scope)
        assert client.since == mirror.settle()


@given(st.lists(st.one_of(cells, executions, keys), max_size=25), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_order_in_which_cells_come_does_not_matter(news: list[Any], random: Any) -> None:
    one, other = Mirror("run"), Mirror("run")
    one.take(news)
    mixed = news + random.sample(news, len(news) // 2)
    random.shuffle(mixed)
    for cell in mixed:
        other.take([cell])
        other.settle()
    assert shown(one, frozenset({ALL})) == shown(other, frozenset({ALL}))


def test_reading_in_parts_ends_where_reading_at_once_does() -> None:
    mirror = Mirror("run")
    client = Client(mirror, ROOT)
    mirror.take([a_cell(f"n{k}") for k in range(2000)])
    client.read(300)
    assert 300 <= len(client.state["nodes"]) < 600
    mirror.take([a_cell("n0", seq=3)])
    parts = 0
    while client.since < mirror.settle():
        client.read(300)
        parts += 1
    assert 3 < parts < 8
    assert client.state == shown(mirror)


class Patient(Client):
    """Reads its snapshot in parts, of which each may be some that others had before."""

    def __init__(self, mirror: Mirror, scope: frozenset[str], shared: Parts | None) -> None:
        self.mirror, self.scope, self.at = mirror, scope, 0
        first = mirror.snapshot(scope, 1)
        self.state, self.since = copy.deepcopy(first.payload), first.sequence
        self.parts = shared or Parts(mirror.paths(scope)[1:], scope, snapshot=True)

    def part(self) -> None:
        if self.at < len(self.parts.paths):
            found = self.parts.at(self.at, self.since, self.mirror, encoded_update)
            told = msgspec.json.decode(found.message.text)
            applied(self.state, Update(told["sequence"], told["mask"], told["payload"]))
            self.at = found.end
            assert told["sequence"] == NOWHERE


def encoded_update(update: Update) -> Message:
    return Message(msgspec.json.encode(update))


moves = st.lists(st.tuples(st.sampled_from(["take", "part", "read"]), st.integers(0, 2)), max_size=25)


@given(moves, st.lists(st.lists(cells, min_size=1, max_size=6), min_size=25, max_size=25))
@settings(max_examples=150, deadline=None)
def test_a_snapshot_in_parts_is_the_same_in_the_end(moves: list[tuple[str, int]],
                                                    news: list[list[NodeState]]) -> None:
    """Whatever changes meanwhile, whatever is told in between, and whoever shares the parts."""
    mirror = Mirror("run")
    mirror.take([a_cell(path) for path in PATHS])
    with mock.patch.multiple(parts, FIRST=2, NODES_MIN=2, NODES_MAX=2):
        first = Patient(mirror, frozenset({ALL}), None)
        others = [Patient(mirror, frozenset({ALL}), shared) for shared in (first.parts, None)]
        clients = [first, *others]
        for (move, who), some in zip(moves, news, strict=False):
            if move == "take":
                mirror.take(some)
            elif move == "part":
                clients[who].part()
            else:
                clients[who].read(None)
        for client in clients:
            while client.at < len(client.parts.paths):
                client.part()
            client.read(None)
            assert client.state == shown(mirror, frozenset({ALL}))


def test_an_update_names_only_the_fields_that_changed() -> None:
    mirror = Mirror("run")
    mirror.take([NodeState("run", "parse[17]", epoch=1, status=NodeStatus.RUNNING, started_at=1.0),
                 NodeState("run", "parse", epoch=1, status=NodeStatus.RUNNING, items=b"[1,2]")])
    scope = frozenset({"parse"})
    since = mirror.diff(0, scope).sequence
    mirror.take([NodeState("run", "parse[17]", epoch=1, seq=2, status=NodeStatus.COMPLETED, started_at=1.0,
                           ended_at=2.0, output=b"x" * 5000)])
    update = mirror.diff(since, scope)
    assert update.payload["nodes"] == {
        "parse[17]": {"status": "completed", "ended_at": 2.0, "has_output": True},
        "parse": {"group": {"kind": "map", "total": 2, "counts": {"completed": 1}}}}
    assert "nodes.parse[17].status" in update.mask
    assert update.payload["execution"] == {"counts": {"completed": 1, "running": 1, "pending": 1}, "done": 1}
    assert mirror.diff(update.sequence, scope).payload == {}


def test_groups_are_closed_until_they_are_opened() -> None:
    mirror = Mirror("run")
    mirror.take([a_cell(path) for path in PATHS])
    assert set(shown(mirror)["nodes"]) == {"a", "b", "each", "sub"}
    assert set(shown(mirror, frozenset({"sub"}))["nodes"]) == {"a", "b", "each", "sub", "sub/x", "sub/y"}
    assert set(mirror.paths(frozenset({"each"}), root=False)) == {"each[0]", "each[1]"}
    assert set(shown(mirror, frozenset({ALL}))["nodes"]) == set(PATHS)
    group = shown(mirror)["nodes"]["sub"]["group"]
    assert (group["kind"], group["total"]) == ("sub", 2)
    assert sum(group["counts"].values()) == 3  # at any depth


def test_an_edited_loop_shows_its_first_iteration_again() -> None:
    mirror = Mirror("run")
    mirror.take([a_cell("a", turn) for turn in (1, 2, 3)])
    assert shown(mirror)["nodes"]["a"]["iteration"] == "3"
    mirror.take([_replace(a_cell("a", 1, 2), round=2)])
    view = shown(mirror)
    assert view["nodes"]["a"]["iteration"] == "1"
    assert view["execution"]["retries"] == 1
    assert sum(view["execution"]["counts"].values()) == view["execution"]["total"] == 3


def test_turns_of_a_loop_are_counted_singly() -> None:
    mirror = Mirror("run")
    mirror.take([a_cell("a", turn, seq=3) for turn in (1, 2, 10, 9)])
    view = shown(mirror)
    assert view["nodes"]["a"]["iteration"] == "10"
    assert view["execution"]["counts"] == {"completed": 4}
    assert mirror.ended == 4


@settings(max_examples=60, deadline=None)
@given(st.permutations([a_cell("a", 1, 3, 4), a_cell("a", 2, 2), a_cell("a", 2, 3), a_cell("b"),
                        a_cell("b", 1, 2), a_cell("each", 1, 2, 2)]))
def test_a_fork_counts_no_retries_of_its_parent(news: list[NodeState]) -> None:
    """Of each turn the first attempt that it has is where it began."""
    own = ExecutionCell("run", 1, 1, ExecutionStatus.RUNNING)
    for parent, retries in ((None, 2 + 2 + 1 + 1), ("other", 0 + 1 + 1 + 0)):
        mirror = Mirror("run")
        mirror.take([*news, _replace(own, parent=parent)])
        assert mirror.snapshot().payload["execution"]["retries"] == retries


def test_large_values_of_the_context_are_told_by_their_size() -> None:
    mirror = Mirror("run")
    mirror.take([ContextCell("run", "artifacts.long", 1, 1, codec.encode("x" * 5000)),
                 ContextCell("run", "artifacts.a.b", 1, 1, codec.encode((1, 2))),
                 *(ContextCell("run", f"variables.v{k:03}", 1, 1, codec.encode("y" * 4000))
                   for k in range(50))])
    context = shown(mirror)["context"]
    assert context["artifacts"] == {"long": {"$large": 5002}, "a.b": [1, 2]}
    assert len(msgspec.json.encode(context)) < 80_000
    assert len(context["variables"]) == 50


def test_figures_of_the_engine_stand_for_its_cells_for_a_while() -> None:
    mirror = Mirror("run")
    mirror.take([NodeState("run", "each", epoch=1, status=NodeStatus.RUNNING, items=b"[1,2,3]"),
                 *(NodeState("run", f"each[{k}]", epoch=1, status=NodeStatus.COMPLETED) for k in (0, 1))])
    client = Client(mirror, ROOT)
    before = copy.deepcopy(client.state)
    mirror.count_by(Figures({"running": 1, "completed": 70}, 101, {"each": {"completed": 70, "failed": 0}}))
    client.read(10)
    assert client.state["execution"]["counts"] == {"running": 1, "completed": 70, "pending": 30}
    assert client.state["nodes"]["each"]["group"] == {"kind": "map", "total": 3, "counts": {"completed": 70}}
    assert (client.state["execution"]["total"], mirror.ended) == (101, 70)
    assert client.state == shown(mirror)
    mirror.count_by(None)
    client.read(10)
    assert client.state == before


def test_counts_do_not_wait_behind_nodes() -> None:
    mirror, scope = Mirror("run"), frozenset({"each"})
    mirror.take([a_cell("each", seq=2)])
    mirror.diff(mirror.snapshot(scope).sequence, scope)
    since = mirror.lead
    mirror.take([a_cell("each[0]"), a_cell("b")])
    mirror.take([a_cell(f"each[{item}]") for item in range(1, 300)])
    update = mirror.diff(since, scope, 20)
    assert len(update.payload["nodes"]) < 60
    assert "nodes.each.group" in update.mask
    assert update.payload["nodes"]["each"]["group"]["counts"] == {"suspended": 300}
    later = mirror.diff(update.sequence, scope)
    assert len(update.payload["nodes"].keys() | later.payload["nodes"].keys()) == 302


def test_paths_in_masks_can_be_told_apart() -> None:
    assert path_of("nodes", "sub[3]/in ner", "status") == "nodes.sub[3]/in ner.status"
    assert path_of("executions", "a.b", "status") == 'executions["a.b"].status'
    assert re.fullmatch(r'executions\["a\\"b"\]', path_of("executions", 'a"b'))
