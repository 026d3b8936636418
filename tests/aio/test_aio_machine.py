"""Any order of registering, failing, dawdling, cancelling and closing keeps what the owners promise.

Time is the loop's own: it jumps to the next timer, so that what must be bounded is bounded exactly.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from treadle.aio import AsyncResourceManager, AsyncTaskManager, async_context
from treadle.aio.tasks import HURRY_S

T = TypeVar("T")
REACT_S = 0.1  # what a close that was cancelled gets
EPSILON_S = 0.001


class ToySelector(selectors.DefaultSelector):
    """Never blocks: the time that it should wait has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing would ever happen again"
        self.now += max(timeout, 0)
        return super().select(0)


class ToyLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.toy = ToySelector()
        super().__init__(self.toy)
        self.problems: list[dict[str, Any]] = []
        self.set_exception_handler(lambda loop, problem: self.problems.append(problem))

    def time(self) -> float:
        return self.toy.now

    def perform(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.run_until_complete(coroutine)

    def end(self) -> None:
        """Close it, when nothing but what would not end is left."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.perform(asyncio.sleep(0))
        self.close()


class Stop:
    """Lets everything that swallows cancellations end after all."""

    def __init__(self) -> None:
        self.now = False

    async def stubborn(self) -> None:
        while not self.now:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                continue


def leaves(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [] if error is None else [error]


async def outcome(awaitable: Awaitable[object]) -> BaseException | None:
    try:
        await awaitable
    except BaseException as error:
        return error
    return None


def behind(error: BaseException | None) -> list[BaseException]:
    """Every error that can be reached from one through its contexts."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__context__
    return [leaf for one in found for leaf in leaves(one)]


# Resources

# How each kind of close behaves: the seconds it needs, and what it raises at the end.
CLOSES: dict[str, tuple[float, type[BaseException] | None]] = {
    "plain": (0, None), "plain fails": (0, ValueError), "quick": (0.01, None), "quick fails": (0.01, OSError),
    "slow": (0.3, None), "slow fails": (0.3, OSError), "never": (1000, None), "stubborn": (1000, None),
    "cancels itself": (0, asyncio.CancelledError),
}
timeouts = st.sampled_from([0.1, 0.5, 2.0])


class Thing:
    """A resource of one kind, which writes down that it is being closed."""

    def __init__(self, number: int, kind: str, log: list[int], stop: Stop) -> None:
        self.number, self.kind, self.log, self.stop = number, kind, log, stop

    def close(self) -> Awaitable[None] | None:
        self.log.append(self.number)
        seconds, error = CLOSES[self.kind]
        if self.kind == "stubborn":
            return self.stop.stubborn()
        if seconds or error is asyncio.CancelledError:
            return self._later(seconds, error)
        if error is not None:
            raise error(f"thing {self.number}")
        return None

    async def _later(self, seconds: float, error: type[BaseException] | None) -> None:
        await asyncio.sleep(seconds)
        if error is not None:
            raise error(f"thing {self.number}")

    def __repr__(self) -> str:
        return f"thing {self.number}"

    def fails(self, timeout: float) -> bool:
        seconds, error = CLOSES[self.kind]
        return error is not None or seconds > timeout


class Resources(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop, self.stop = ToyLoop(), Stop()
        self.manager = AsyncResourceManager("machine")
        self.things: list[Thing] = []
        self.open: list[Thing] = []
        self.log: list[int] = []

    @rule(kind=st.sampled_from(sorted(CLOSES)), how=st.sampled_from(["register", "cleanup=", "add_cleanup"]))
    def register(self, kind: str, how: str) -> None:
        thing = Thing(len(self.things), kind, self.log, self.stop)
        self.things.append(thing)
        self.open.append(thing)
        if how == "register":
            assert self.manager.register(thing) is thing
        elif how == "cleanup=":
            self.manager.register(thing, cleanup=Thing.close)
        else:
            self.manager.add_cleanup(thing.close)

    @rule(data=st.data())
    def register_again(self, data: st.DataObject) -> None:
        if self.open:
            before = len(self.manager)
            thing = data.draw(st.sampled_from(self.open))
            self.manager.register(thing)
            if len(self.manager) > before:  # it was known by its method, and is now known by itself as well
                self.manager._entries.pop()

    @rule(timeout=timeouts)
    def cleanup(self, timeout: float) -> None:
        began, mine = self.loop.time(), self._take()
        error = self.loop.perform(outcome(self.manager.cleanup(timeout)))
        assert self.log == [thing.number for thing in reversed(mine)]
        wrong = [thing.number for thing in reversed(mine) if thing.fails(timeout)]
        assert (error is None) == (not wrong)
        assert len(leaves(error)) == len(wrong)
        assert self.loop.time() - began <= len(mine) * (timeout + REACT_S) + EPSILON_S

    @rule(timeout=timeouts, delays=st.lists(st.sampled_from([0.0, 0.05, 0.4]), min_size=1, max_size=3))
    def cancelled_cleanup(self, timeout: float, delays: list[float]) -> None:
        mine = self._take()

        async def main() -> tuple[BaseException | None, float, bool]:
            task = asyncio.ensure_future(outcome(self.manager.cleanup(timeout)))
            await asyncio.sleep(0)
            for delay in delays:
                await asyncio.sleep(delay)
                cut = task.cancel()
            began = self.loop.time()
            return await task, self.loop.time() - began, cut

        error, took, cut = self.loop.perform(main())
        assert self.log == [thing.number for thing in reversed(mine)]
        if cut and mine:
            assert isinstance(error, asyncio.CancelledError)
        assert took <= len(mine) * (HURRY_S + REACT_S) + EPSILON_S

    @rule(timeout=timeouts)
    def two_cleanups_at_once(self, timeout: float) -> None:
        mine = self._take()

        async def main() -> list[BaseException | None]:
            return await asyncio.gather(outcome(self.manager.cleanup(timeout)),
                                        outcome(self.manager.cleanup(timeout)))

        first, second = self.loop.perform(main())
        assert self.log == [thing.number for thing in reversed(mine)]
        assert len(leaves(first)) == sum(thing.fails(timeout) for thing in mine)
        assert second is None

    def _take(self) -> list[Thing]:
        self.log.clear()
        mine, self.open = self.open, []
        return mine

    @invariant()
    def it_owns_what_is_open(self) -> None:
        assert len(self.manager) == len(self.open)

    def teardown(self) -> None:
        self.cleanup(0.1)
        self.stop.now = True
        self.loop.end()
        assert self.loop.problems == []


# Tasks

TASKS = ["returns", "fails", "sleeps", "forever", "slow end", "stubborn", "spawns"]


class Tasks(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop, self.stop = ToyLoop(), Stop()
        self.manager = AsyncTaskManager("machine")
        self.tasks: list[asyncio.Task[None]] = []

    async def _body(self, kind: str) -> None:
        match kind:
            case "returns":
                return
            case "fails":
                raise ValueError("of the task")
            case "sleeps":
                await asyncio.sleep(0.3)
            case "stubborn":
                await self.stop.stubborn()
            case _:
                try:
                    await asyncio.sleep(1000)
                finally:
                    if kind == "slow end":
                        await asyncio.sleep(0.2)
                    elif kind == "spawns":
                        self.tasks.append(self.manager.create_task(self._body("forever"), name="spawned"))

    @rule(kind=st.sampled_from(TASKS))
    def create(self, kind: str) -> None:
        async def main() -> None:
            task = self.manager.create_task(self._body(kind), name=kind)
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # retrieved
            self.tasks.append(task)
        self.loop.perform(main())

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5]))
    def pass_time(self, seconds: float) -> None:
        self.loop.perform(asyncio.sleep(seconds))

    @rule(data=st.data())
    def cancel_one(self, data: st.DataObject) -> None:
        if self.running():
            task = data.draw(st.sampled_from(self.running()))
            task.cancel()
            self.loop.perform(asyncio.sleep(0))

    @rule(timeout=st.sampled_from([0.0, 0.1, 1.0]))
    def wait_all(self, timeout: float) -> None:
        began = self.loop.time()
        error = self.loop.perform(outcome(self.manager.wait_all(timeout)))
        assert isinstance(error, TimeoutError) == bool(self.running())
        assert all(task.get_name() in str(error) for task in self.running())
        assert self.loop.time() - began <= timeout + EPSILON_S

    @rule()
    def cancel_all(self) -> None:
        before = len(self.running())

        async def main() -> int:
            return self.manager.cancel_all()

        assert self.loop.perform(main()) == before

    @rule(timeout=st.sampled_from([0.1, 1.0]), cancel_after=st.none() | st.sampled_from([0.0, 0.05]))
    def cleanup(self, timeout: float, cancel_after: float | None) -> None:
        began = self.loop.time()

        async def main() -> BaseException | None:
            task = asyncio.ensure_future(outcome(self.manager.cleanup(timeout)))
            if cancel_after is not None:
                await asyncio.sleep(cancel_after)
                task.cancel()
            return await task

        error = self.loop.perform(main())
        survivors = self.running()
        assert self.loop.time() - began <= timeout + EPSILON_S
        assert {task.get_name() for task in survivors} <= {"stubborn", "slow end"}
        assert timeout < 0.2 or {task.get_name() for task in survivors} <= {"stubborn"}
        if not isinstance(error, asyncio.CancelledError):
            assert isinstance(error, TimeoutError) == bool(survivors)
        refused = self._body("returns")
        with pytest.raises(RuntimeError, match="'machine' is closed"):
            self.manager.create_task(refused)
        assert refused.cr_frame is None
        self.loop.perform(outcome(self.manager.cleanup(timeout)))  # nothing left to do
        assert len(self.manager) == 0 and asyncio.all_tasks(self.loop) == set(survivors)
        self.manager, self.tasks = AsyncTaskManager("machine"), []
        self.stop.now = True
        self.loop.perform(asyncio.sleep(2000))
        self.stop = Stop()

    def running(self) -> list[asyncio.Task[None]]:
        return [task for task in self.tasks if not task.done()]

    @invariant()
    def it_owns_what_runs(self) -> None:
        assert self.manager.tasks == set(self.running())

    def teardown(self) -> None:
        self.cleanup(1.0, None)
        self.loop.end()
        assert self.loop.problems == []


Resources.TestCase.settings = Tasks.TestCase.settings = settings(
    max_examples=50, stateful_step_count=15, deadline=None)
TestResources, TestTasks = Resources.TestCase, Tasks.TestCase


# Contexts


@settings(max_examples=150, deadline=None)
@given(tasks=st.lists(st.sampled_from(["returns", "fails", "forever", "fails at its end", "stubborn"]),
                      max_size=4),
       closes=st.lists(st.sampled_from(sorted(CLOSES)), max_size=4),
       body=st.sampled_from(["returns", "fails", "is cancelled", "awaits a task that fails"]),
       hurry=st.booleans())
def test_a_context_ends_tasks_before_resources_and_loses_no_error(
        tasks: list[str], closes: list[str], body: str, hurry: bool) -> None:
    loop, stop = ToyLoop(), Stop()
    log: list[int] = []
    heard: list[BaseException] = []
    expected: list[str] = []
    things = [Thing(number, kind, log, stop) for number, kind in enumerate(closes)]

    async def perform(name: str, kind: str) -> None:
        if kind == "fails":
            raise ValueError(name)
        if kind in ("forever", "fails at its end"):
            try:
                await asyncio.sleep(1000)
            finally:
                assert log == []  # whatever it may still need is open
                if kind == "fails at its end":
                    raise ValueError(name)
        if kind == "stubborn":
            await stop.stubborn()

    async def main() -> None:
        async with async_context("laws", timeout=0.5) as context:
            context.register_error_handler(lambda error, context, task: heard.append(error))
            for thing in things:
                await context.register_resource(thing)
            for number, kind in enumerate(tasks):
                context.create_task(perform(f"task {number}", kind), name=f"task {number}")
            await asyncio.sleep(0.01)
            if body == "fails":
                raise KeyError("body")
            if body == "awaits a task that fails":
                await context.create_task(perform("body", "fails"))
            if body == "is cancelled":
                await asyncio.sleep(1000)

    async def outer() -> BaseException | None:
        task: asyncio.Future[BaseException | None] = asyncio.ensure_future(outcome(main()))
        await asyncio.sleep(0.02)
        if body == "is cancelled" or (hurry and not task.done()):
            task.cancel()
        await asyncio.sleep(0.02)
        if hurry:
            task.cancel()
        return await task

    error = loop.perform(outer())
    assert log == [thing.number for thing in reversed(things)]
    expected += [f"task {number}" for number, kind in enumerate(tasks) if kind.startswith("fails")]
    reachable = [str(one) for one in behind(error)]
    assert all(name in reachable for name in expected)
    assert "stubborn" not in tasks or any("did not end within" in text for text in reachable)
    assert sum("thing" in text for text in reachable) >= sum(
        thing.fails(0.5) and thing.kind != "cancels itself" for thing in things)
    if body in ("fails", "awaits a task that fails"):
        assert (repr(error) == "KeyError('body')" or "body" in str(error)
                or (isinstance(error, asyncio.CancelledError) and any("body" in text for text in reachable)))
    assert len(heard) == len({id(one) for one in heard})
    assert loop.time() <= 0.05 + (1 + len(things)) * 0.5 + len(things) * REACT_S + EPSILON_S
    stop.now = True
    loop.end()
    assert loop.problems == []


def run_with(make: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = ToyLoop()
    loop.perform(make())
    loop.end()


def test_with_no_time_at_all_everything_is_still_attempted() -> None:
    log: list[int] = []
    stop = Stop()

    async def main() -> None:
        manager = AsyncResourceManager()
        for number, kind in enumerate(["plain", "quick", "plain fails"]):
            manager.register(Thing(number, kind, log, stop))
        error = await outcome(manager.cleanup(timeout=0))
        assert [type(leaf) for leaf in leaves(error)] == [ValueError, TimeoutError]
        assert log == [2, 1, 0]
        tasks = AsyncTaskManager()
        tasks.create_task(stop.stubborn(), name="stubborn")
        tasks.create_task(asyncio.sleep(1000), name="ends")
        await asyncio.sleep(0)
        error = await outcome(tasks.cleanup(timeout=0))
        assert "'stubborn'" in str(error) and "'ends'" not in str(error)
        stop.now = True

    run_with(main)
