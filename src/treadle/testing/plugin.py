"""Fixtures for pytest, there as soon as Treadle is installed: `run_diagram` and `treadle_engine`.

Every run of pytest loads this module, so it imports nothing of ours until a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from treadle.engine.sources import Drawn
    from treadle.testing.bench import Bench
    from treadle.testing.diagrams import Ran


@pytest.fixture
def run_diagram(request: pytest.FixtureRequest) -> Callable[..., Ran]:
    """`treadle.testing.diagrams.run_diagram`; a relative path starts at the folder of the test's file."""
    from os import PathLike

    from treadle.testing.diagrams import run_diagram as run

    def run_from_here(diagram: Drawn, *args: Any, **options: Any) -> Ran:
        if isinstance(diagram, str | PathLike):
            diagram = request.path.parent / diagram
        return run(diagram, *args, **options)

    return run_from_here


@pytest.fixture
def treadle_engine(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """An open engine on a store in memory, with a clock that can be put forward: `treadle.testing.bench`. A
    relative path starts at the folder of the test's file."""
    from treadle.testing.bench import Bench

    with Bench(base=request.path.parent) as bench:
        yield bench
