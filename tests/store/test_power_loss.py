"""What survives a power cut: with `strict` all that was called durable, with `batched` a state that was."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from treadle.errors import NoSuchExecution
from treadle.state.cell import NodeState
from treadle.store import StateManager
from treadle.store.sqlite.store import SqliteStore
from treadle.testing.contract import a_cell, an_execution
from treadle.testing.faults import LossyVFS

_names = (f"lossy-{number}" for number in itertools.count())


class Machine:
    """A store on a disk that loses what was not synced."""

    def __init__(self, folder: Path) -> None:
        vfs = next(_names)
        self.disk = LossyVFS(vfs)
        self.path = folder / "state.db"
        self.store = SqliteStore(self.path, vfs=vfs)
        self._copies = (folder / f"after-{number}" for number in itertools.count())

    def after_power_loss(self) -> list[NodeState]:
        """The cells that a power cut at this instant leaves."""
        survivor = SqliteStore(self.disk.power_loss(self.path, next(self._copies)))
        try:
            return survivor.load("run")[1]
        except NoSuchExecution:
            return []
        finally:
            survivor.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.store.close()


def test_the_disk_really_loses_what_was_not_synced(machine: Machine) -> None:
    """The test of the tests: a commit without fsync is gone."""
    async def main() -> None:
        manager = StateManager(store=machine.store)
        await manager.start()
        await manager.create(an_execution(), "")
        await manager.flush(sync=True)
        manager.record([a_cell("n")])
        await manager.flush()
        assert len(machine.store.load("run")[1]) == 1
        assert machine.after_power_loss() == []
        await manager.flush(sync=True)  # nothing new to write, and yet all that was written is synced
        assert machine.after_power_loss() == [a_cell("n")]
        await manager.stop()

    asyncio.run(main())


def test_strict_has_everything_that_it_said(machine: Machine) -> None:
    """At the very moment of each acknowledgement the cell is on the disk itself."""
    async def main() -> None:
        manager = StateManager(store=machine.store)
        await manager.start()
        await manager.create(an_execution(), "")
        said: list[str] = []
        lost: set[str] = set()

        def acknowledged(name: str) -> None:
            said.append(name)
            lost.update(set(said) - {cell.node_id for cell in machine.after_power_loss()})

        for number in range(20):
            name = f"n{number}"
            ticket = manager.record([a_cell(name)], strict=True)
            manager.when_durable(ticket, lambda name=name: acknowledged(name))  # type: ignore[misc]
            if number % 3:  # the others gather into one commit
                await manager.durable(ticket)
        await manager.flush()
        assert len(said) == 20
        assert lost == set()
        await manager.stop()

    asyncio.run(main())


def test_strict_survives_beside_batched_writes_of_the_same_file(machine: Machine) -> None:
    async def main() -> None:
        manager = StateManager(store=machine.store)
        await manager.start()
        await manager.create(an_execution(), "")
        manager.record([a_cell("batched")])
        await manager.flush()
        await manager.durable(manager.record([a_cell("strict")], strict=True))
        assert {cell.node_id for cell in machine.after_power_loss()} == {"batched", "strict"}
        await manager.stop()

    asyncio.run(main())


def test_batched_leaves_a_state_that_was(machine: Machine) -> None:
    """Whatever a power cut leaves of unsynced batches is whole: one state of the past, never a mixture."""
    async def main() -> None:
        manager = StateManager(store=machine.store)
        await manager.start()
        await manager.create(an_execution(), "")
        await manager.flush(sync=True)
        for seq in range(1, 60):
            manager.record([a_cell(name, seq, output=b'"%s"' % (b"x" * 2000)) for name in "abcdefgh"])
            await manager.flush()
            left = machine.after_power_loss()
            assert len({cell.seq for cell in left}) <= 1 and len(left) in (0, 8)
        await manager.stop()

    asyncio.run(main())


def test_a_claim_is_synced(machine: Machine) -> None:
    """A fencing number that was lost would be given out twice."""
    async def main() -> None:
        manager = StateManager(store=machine.store)
        await manager.start()
        await manager.create(an_execution(), "")
        await manager.release("run")
        lease = await manager.claim("run")
        await manager.stop()
        assert lease.epoch == 2

    asyncio.run(main())
    path = machine.disk.power_loss(machine.path, machine.path.parent / "claimed")
    assert apsw.Connection(str(path)).execute("SELECT max(lease_epoch) FROM executions").get == 2
