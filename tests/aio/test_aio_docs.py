"""The page's examples run as they stand, and so does the usage that asked for the library."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from treadle.aio import AsyncTaskManager, async_context, get_loop_manager, reset_loop_manager

PAGE = (Path(__file__).parents[2] / "docs" / "aio.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)


def test_every_example_shows_what_it_prints() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 6


@pytest.mark.parametrize(("code", "printed"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_prints_what_the_page_says(code: str, printed: str,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "docs/aio.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == printed
    reset_loop_manager()


class Resource:
    closed = False

    async def aclose(self) -> None:
        self.closed = True


async def coroutine(value: int = 0) -> int:
    await asyncio.sleep(0)
    return value


def test_using_the_execution_context() -> None:
    my_resource, my_coroutine = Resource(), coroutine
    coro1 = coro2 = coro3 = coroutine

    async def main() -> None:
        async with async_context("MyOperation") as ctx:
            # Register resources for cleanup
            await ctx.register_resource(my_resource)

            # Create tracked tasks
            task = ctx.create_task(my_coroutine())

            # Gather multiple operations
            results = await ctx.gather(coro1(), coro2(), coro3())

            # Resources and tasks are automatically cleaned up on exit
        assert results == [0, 0, 0] and task.done() and my_resource.closed

    asyncio.run(main())


def test_using_the_loop_manager() -> None:
    my_coroutine = coroutine
    # Get the global loop manager
    loop_manager = get_loop_manager()

    # Get or create event loop for current thread
    loop = loop_manager.get_event_loop()
    assert not loop.is_running()

    # Run coroutine with proper handling
    result = loop_manager.run_coroutine(my_coroutine())
    assert result == 0

    # Managed loop context
    with loop_manager.managed_loop() as loop:
        # Use loop safely
        pass
    assert loop.is_closed()
    reset_loop_manager()


def test_using_the_task_manager() -> None:
    my_coroutine = coroutine

    async def main() -> None:
        task_manager = AsyncTaskManager()

        # Create and track tasks
        task = task_manager.create_task(my_coroutine(), name="my-task")

        # Wait for all tasks with timeout
        await task_manager.wait_all(timeout=30.0)

        # Cancel all tasks
        task_manager.cancel_all()

        # Clean up everything
        await task_manager.cleanup()
        assert task.result() == 0 and task.get_name() == "my-task"

    asyncio.run(main())
