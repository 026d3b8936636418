"""The shared context from within a child process: the questions, and who answers them."""

from __future__ import annotations

import contextvars
import gc
import socket
import threading
from typing import Any

import msgspec
import pytest

from treadle.config import TreadleConfig
from treadle.errors import LimitExceeded, MutationVetoed, TransactionError, WriteConflict
from treadle.nodes import worker
from treadle.nodes.sharing import Ask, Desk, RemoteContext, Told
from treadle.state.context import SharedContext, Snapshot, Space, Transaction


class Pair:
    """A context, and one that asks it as a child does: through bytes."""

    def __init__(self, **options: Any) -> None:
        self.context = SharedContext("e", **options)
        self.desk = Desk(self.context, "child#1", lambda name: f"the {name}")
        self.remote = RemoteContext(self.ask, 1, self.context.config)

    def ask(self, ask: Ask) -> Told:
        asked = msgspec.msgpack.decode(msgspec.msgpack.encode(ask), type=Ask)
        return msgspec.msgpack.decode(msgspec.msgpack.encode(self.desk.answer(asked)), type=Told)

    def transaction(self) -> Transaction:
        return Transaction(self.remote, "")

    @property
    def variables(self) -> Space:
        return Space(self.remote, "variables.", "")


def test_a_child_reads_at_a_moment_that_the_parent_keeps() -> None:
    pair = Pair()
    pair.context.variables["n"] = 1
    before = Snapshot(pair.remote)
    pair.context.variables.update(n=2, m=2)
    assert dict(before) == {"variables.n": 1} and dict(pair.variables) == {"n": 2, "m": 2}
    assert len(pair.context._versions["variables.n"]) == 2
    del before
    gc.collect()
    pair.variables["n"] = 3
    pair.context.variables["m"] = 3
    assert [one.value for one in pair.context._versions["variables.n"]] == [b"3"]
    assert {one.writer for one in pair.context.cells().values()} == {"", "child#1"}


def test_a_conflict_is_the_same_error_on_the_other_side() -> None:
    pair = Pair()
    with pytest.raises(WriteConflict) as lost, pair.transaction() as tx:
        assert list(tx.variables) == []
        tx["artifacts.a"] = 1
        contextvars.Context().run(pair.context.variables.update, {"n": 1})
    assert lost.value.keys == ("variables.n",) and lost.value.writer == "child#1"
    assert lost.value.conflicts[0].won_version == (1, 1)
    assert "'variables.n' (read when there was none) was set by " in str(lost.value)


def test_refusals_come_across() -> None:
    pair = Pair(config=TreadleConfig(context_keys_max=1))
    pair.variables["a"] = 1
    with pytest.raises(LimitExceeded, match="context_keys_max is 1"):
        pair.variables["b"] = 1
    pair.context.on_commit = lambda mutation: "it is mine"
    with pytest.raises(MutationVetoed, match=r"the write to variables\.a by child#1 was refused: it is mine"):
        pair.variables["a"] = 2
    pair.context.on_commit = None
    pair.context.close("it has ended")
    with pytest.raises(TransactionError, match="child#1 can't write to the context of execution e: it has"):
        pair.variables["a"] = 2


def test_a_thread_that_outlives_its_body_gets_no_answer() -> None:
    """It must not read from the socket either: the next job comes there."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = worker.Channel(theirs)
        channel.begin()
        remote = RemoteContext(channel.ask, channel.jobs, TreadleConfig())

        def answer() -> None:
            raw = worker.receive(ours)
            assert raw is not None and msgspec.msgpack.decode(raw, type=Ask).text == "variables.n"
            told = msgspec.msgpack.encode(Told(raw=b"7"))
            ours.sendall(worker.LENGTH.pack(len(told)) + told)

        parent = threading.Thread(target=answer)
        parent.start()
        assert Space(remote, "variables.", "")["n"] == 7
        parent.join()
        channel.end()
        for _ in range(2):
            with pytest.raises(TransactionError, match="the body is over"):
                Space(remote, "variables.", "")["n"]
            channel.begin()  # nor during the next job
        ours.close()
        with pytest.raises(SystemExit):
            RemoteContext(channel.ask, channel.jobs, TreadleConfig()).raw(None, "variables.n")
