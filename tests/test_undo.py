"""What can't be finished is undone, whatever ends it, and that goes on."""

from __future__ import annotations

import asyncio

import pytest

from treadle.undo import undone, undone_async


@pytest.mark.parametrize("raised", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), StopIteration(1)])
def test_whatever_is_raised_undoes_and_goes_on(raised: BaseException) -> None:
    told: list[str] = []
    with pytest.raises(type(raised)) as found, undone(told.append, "undone"):
        raise raised
    assert found.value is raised
    assert told == ["undone"]


def test_what_ends_well_stays() -> None:
    told: list[str] = []
    with undone(told.append, "undone"):
        pass
    assert told == []


def test_a_cancellation_undoes_and_goes_on() -> None:
    told: list[str] = []

    async def undo(word: str) -> None:
        await asyncio.sleep(0)
        told.append(word)

    async def main() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            async with undone_async(undo, "undone"):
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with undone_async(undo, "never"):
            pass

    asyncio.run(main())
    assert told == ["undone"]


def test_an_error_of_undoing_names_what_it_was_to_undo() -> None:
    def undo() -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as found, undone(undo):
        raise ValueError("no")
    assert isinstance(found.value.__context__, ValueError)
