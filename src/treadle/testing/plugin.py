"""For pytest, there as soon as Treadle is installed: fixtures, and the tests in files beside diagrams.

Every run of pytest loads this module, so it imports nothing of ours until a fixture is asked for or a file of
tests is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from treadle.engine.sources import Drawn
    from treadle.store.memory import MemoryStore
    from treadle.testing.bench import Bench
    from treadle.testing.cases import Found, Outcome
    from treadle.testing.clock import ToyClock
    from treadle.testing.crashes import Crashes
    from treadle.testing.diagrams import Ran
    from treadle.testing.llm import LLMServer

_NAMES = (".test.yaml", ".test.yml", ".test.json")


@pytest.fixture
def run_diagram(request: pytest.FixtureRequest) -> Callable[..., Ran]:
    """`treadle.testing.diagrams.run_diagram`; a relative path starts at the folder of the test's file."""
    from treadle.testing.diagrams import run_diagram as run

    return _from_here(request, run)


@pytest.fixture
def crash_everywhere(request: pytest.FixtureRequest) -> Callable[..., Crashes]:
    """`treadle.testing.crashes.crash_everywhere`; a relative path starts at the folder of the test's file."""
    from treadle.testing.crashes import crash_everywhere as crash

    return _from_here(request, crash)


@pytest.fixture
def treadle_clock() -> ToyClock:
    """The clock of `treadle_engine`: `treadle.testing.clock`."""
    from treadle.testing.clock import ToyClock

    return ToyClock()


@pytest.fixture
def treadle_store() -> Iterator[MemoryStore]:
    """The store of `treadle_engine`, in memory."""
    from treadle.store.memory import MemoryStore

    store = MemoryStore()
    yield store
    store.close()


@pytest.fixture
def treadle_engine(request: pytest.FixtureRequest, treadle_clock: ToyClock, treadle_store: MemoryStore
                   ) -> Iterator[Bench]:
    """An open engine on a store in memory, with a clock that can be put forward: `treadle.testing.bench`. A
    relative path starts at the folder of the test's file."""
    from treadle.testing.bench import Bench

    with Bench(base=request.path.parent, clock=treadle_clock, store=treadle_store) as bench:
        yield bench


@pytest.fixture
def llm_server() -> Iterator[LLMServer]:
    """A server that speaks like OpenAI's, at `llm_server.url`: `treadle.testing.llm`. Tell it what to answer
    with `say`."""
    from treadle.testing.llm import LLMServer

    with LLMServer() as server:
        yield server


def _from_here(request: pytest.FixtureRequest, function: Callable[..., Any]) -> Callable[..., Any]:
    from os import PathLike

    def from_here(diagram: Drawn, *args: Any, **options: Any) -> Any:
        folder = request.path.parent
        if isinstance(diagram, str | PathLike):
            diagram = folder / diagram
        for name in ("script", "replay"):
            if isinstance(options.get(name), str | PathLike):
                options[name] = folder / options[name]
        return function(diagram, *args, **options)

    return from_here


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Tests of diagrams: `debate.test.yaml` beside `debate.yaml`, or one that says `diagram: FILE`."""
    if not file_path.name.endswith(_NAMES):
        return None
    from treadle.testing.cases import is_ours

    if not is_ours(file_path):
        return None
    return DiagramTests.from_parent(parent, path=file_path)


class DiagramTests(pytest.File):
    """A file of tests."""

    def collect(self) -> Iterable[DiagramTest]:
        from treadle.errors import TreadleError
        from treadle.testing.cases import read_cases

        try:
            found = read_cases(self.path)
        except TreadleError as error:
            raise self.CollectError(str(error)) from None
        for number, one in enumerate(found, 1):
            yield DiagramTest.from_parent(self, name=one.case.name or str(number), found=one)


class DiagramTest(pytest.Item):
    """One of them."""

    def __init__(self, *, found: Found, **more: Any) -> None:
        super().__init__(**more)
        self.found = found

    def runtest(self) -> None:
        from treadle.testing.cases import run_case

        outcome = run_case(self.found)
        if outcome.differences:
            raise Differs(outcome)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, Differs):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.found.where.line - 1, self.name


class Differs(Exception):
    """A test of a diagram does not hold."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.text)
