"""`crash_everywhere`, on diagrams of every kind, and on one that a crash does change."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest

from treadle import Diagram, node
from treadle.errors import NoSuchNode
from treadle.state.status import ExecutionStatus
from treadle.testing.crashes import crash_everywhere, crash_everywhere_async

ORDER = """
treadle: 1
name: order
inputs: {items: array, limit: {type: integer, default: 2}}
nodes:
  price: {type: template_job, text: "{{ item * 2 }}", for_each: "{{ inputs.items }}", concurrency: 1}
  large: {type: condition, when: "{{ price | length > inputs.limit }}", needs: price}
  ask:   {type: user_response, prompt: "So much?", needs: large.true}
  cool:  {type: sleep, seconds: 3600, needs: ask}
  go:    {type: wait_for, signal: go, needs: cool}
  book:  {type: template_job, text: "booked: {{ ask }}", needs: [ask, go]}
  done:  {type: endpoint, needs: book}
"""


def test_waits_maps_and_branches_end_as_they_do_without_a_crash(tmp_path: Path) -> None:
    (tmp_path / "order.yaml").write_text(ORDER)
    crashes = crash_everywhere(tmp_path / "order.yaml", {"items": [1, 2, 3]}, answers={"ask": "yes"},
                               signals={"go": None})
    assert (crashes.ran.status, crashes.ran.result) == ("completed", "booked: yes")
    assert len(crashes.points) > 8
    assert {point.status for point in crashes.points} == {ExecutionStatus.COMPLETED}
    assert set(crashes.again.values()) <= {1}


@node(isolation="inline")
async def talk(context: object, topic: str) -> str:
    """Two steps, as a person with a tool has them."""
    async def model() -> str:
        return topic.upper()

    async def tool() -> int:
        return len(topic)

    said = await context.steps.run("model 1", model, kind="model")  # type: ignore[attr-defined]
    return f"{said} {await context.steps.run('count 1', tool, kind='tool')}"  # type: ignore[attr-defined]


def test_steps_that_were_recorded_are_not_taken_again() -> None:
    with Diagram("talk") as diagram:
        talk(diagram.input("topic", str))
    crashes = crash_everywhere(diagram, {"topic": "tea"})
    assert crashes.ran.result == "TEA 3"
    assert crashes.calls["talk: model 1"] == 1
    after = {point.after: point.calls for point in crashes.points}
    assert after["talk: model 1"]["talk: model 1"] == 1  # recorded
    assert after["talk: model 1"]["talk: count 1"] == 2  # begun, and lost
    assert after["talk running"]["talk: model 1"] == 2
    assert crashes.again["talk"] == 1


def test_retries_in_a_loop() -> None:
    tries = count()

    @node(retries=3, isolation="inline")
    async def shaky(number: int) -> int:
        if next(tries) % 2 == 0:
            raise ConnectionError("no line")
        return number + 1

    with Diagram("shaky") as diagram:
        shaky(diagram.input("number", int))
    assert crash_everywhere(diagram, {"number": 1}).ran.result == 2


def test_an_outcome_that_a_crash_changes_is_named_with_its_place() -> None:
    calls = count(1)

    @node
    def first() -> int:
        return 1

    @node
    def numbered(one: int) -> int:
        return next(calls)

    with Diagram("numbered") as diagram:
        numbered(first())
    with pytest.raises(AssertionError, match=r"(?s)diagram 'numbered', killed after 'the start' was written: "
                                             r"it ended completed with 2, and without a crash completed"):
        crash_everywhere(diagram)


def test_what_fails_fails_everywhere() -> None:
    @node(isolation="inline")
    async def broken() -> None:
        raise ValueError("as ever")

    with Diagram("broken") as diagram:
        broken()
    with pytest.raises(AssertionError, match="without a crash the diagram ended failed, not completed"):
        crash_everywhere(diagram)
    crashes = asyncio.run(crash_everywhere_async(diagram, status="failed"))
    assert crashes.ran.status == "failed"
    assert [point.result for point in crashes.points] == [crashes.ran.error] * len(crashes.points)
    assert "as ever" in str(crashes.ran.error)


def test_a_stub_of_no_node_is_refused() -> None:
    with Diagram("one") as diagram:
        talk("tea")
    with pytest.raises(NoSuchNode, match=r"stub 'tak': diagram 'one' has no node 'tak': did you mean 'talk'"):
        crash_everywhere(diagram, stubs={"tak": 1})
    assert crash_everywhere(diagram, stubs={"talk": 1}).ran.result == 1
