"""`treadle.testing.diagrams`: diagrams tested as their authors would."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from treadle import Diagram, InvalidDiagram, node
from treadle.errors import NoSuchNode
from treadle.testing.diagrams import run_diagram, run_diagram_async

ORDER = """
treadle: 1
name: order
inputs: {amount: integer}
nodes:
  start: {type: start}
  ask: {type: user_response, prompt: "Shall we?", schema: {type: string}, timeout: 3600, needs: start}
  cool: {type: sleep, seconds: 86400, needs: ask}
  book: {type: api_job, url: "https://example.invalid/book", retries: 3, backoff: {initial: 600}}
  done: {type: endpoint, needs: book}
arrows: [cool -> book, ask -> book.said]
"""


def order(tmp_path: Path) -> Path:
    path = tmp_path / "order.yaml"
    path.write_text(ORDER)
    return path


def test_stubs_answers_and_days_that_pass_at_once(tmp_path: Path) -> None:
    tries = iter([ConnectionError("no line"), ConnectionError("no line"), {"number": 7}])

    def book(inputs: dict[str, Any]) -> Any:
        answer = next(tries)
        if isinstance(answer, Exception):
            raise answer
        return {**answer, "said": inputs["said"]}

    began = time.monotonic()
    ran = run_diagram(order(tmp_path), {"amount": 900}, stubs={"book": book}, answers={"ask": "yes"})
    assert (ran.status, ran.error) == ("completed", None)
    assert ran.result == {"number": 7, "said": "yes"}
    assert ran.outputs["ask"] == "yes"
    assert ran.order == ["start", "ask", "cool", "book", "done"]
    assert [one["said"] for one in ran.calls["book"]] == ["yes"] * 3
    assert (ran.cells["book"].attempt, ran.cells["book"].status) == (3, "completed")
    assert 86400 < ran.skipped_s < 2 * 86400
    assert time.monotonic() - began < 10


def test_without_an_answer_the_wait_times_out_at_once(tmp_path: Path) -> None:
    ran = run_diagram(order(tmp_path), {"amount": 1}, stubs={"book": 1})
    assert ran.status == "failed"
    assert ran.error is not None and "'ask'" in ran.error
    assert 3590 < ran.skipped_s < 3700
    assert "book" not in ran.calls


def test_an_answer_may_depend_on_the_request_and_on_the_turn(tmp_path: Path) -> None:
    path = tmp_path / "turns.yaml"
    path.write_text("""
treadle: 1
nodes:
  begin: {type: start}
  draft: {type: template_job, text: "draft {{ iteration }}", join: any, needs: begin}
  ask: {type: user_response, prompt: "Is {{ draft }} good?", needs: draft}
  good: {type: condition, when: "{{ ask == 'yes' }}", needs: ask}
  done: {type: endpoint, needs: good.true}
arrows: [good.false -> draft]
""")
    asked = []

    def answer(request: Any) -> str:
        asked.append(request["prompt"])
        return "yes" if len(asked) == 3 else "no"

    ran = run_diagram(path, answers={"ask": answer})
    assert (ran.status, ran.result) == ("completed", "yes")
    assert asked == [f"Is draft {turn} good?" for turn in (1, 2, 3)]


def test_suspended_failed_and_signalled(tmp_path: Path) -> None:
    path = tmp_path / "paid.yaml"
    path.write_text("treadle: 1\nnodes:\n  paid: {type: wait_for, signal: paid}\n")
    waits = run_diagram(path)
    assert waits.status == "suspended"
    assert waits.error is not None and "node 'paid' (iteration 1) for signal" in waits.error
    assert run_diagram(path, signals={"paid": 5}).result == 5


@node
def parse(text: str) -> int:
    return int(text)


@node
async def total(numbers: list[int]) -> int:
    return sum(numbers)


def drawn() -> Diagram:
    with Diagram("sums") as diagram:
        total(parse.map(diagram.input("texts", list[str])))
    return diagram


def test_a_drawn_diagram_in_an_async_test_with_a_map_and_a_failure() -> None:
    async def main() -> None:
        ran = await run_diagram_async(drawn(), {"texts": ["1", "2"]})
        assert (ran.result, ran.outputs["parse"]) == (3, [1, 2])
        assert sorted(one for one in ran.order if one.startswith("parse[")) == ["parse[0]", "parse[1]"]
        stubbed = await run_diagram_async(drawn(), {"texts": ["1", "2"]}, stubs={"parse": 5})
        assert stubbed.result == 10
        failed = await run_diagram_async(drawn(), {"texts": ["x"]})
        assert failed.status == "failed" and failed.result is None
        assert failed.error is not None and "parse[0]" in failed.error and "ValueError" in failed.error

    asyncio.run(main())


def test_what_a_test_gets_wrong(tmp_path: Path) -> None:
    with pytest.raises(NoSuchNode, match=r"stub 'parze': diagram 'sums' has no node .* mean 'parse'"):
        run_diagram(drawn(), {"texts": []}, stubs={"parze": 1})
    with pytest.raises(NoSuchNode, match="answer 'nobody'"):
        run_diagram(drawn(), {"texts": []}, answers={"nobody": 1})
    bad = tmp_path / "bad.yaml"
    bad.write_text("treadle: 1\nnodes: {a: {type: strat}}\n")
    with pytest.raises(InvalidDiagram):
        run_diagram(bad)

    async def hang() -> None:
        await asyncio.sleep(60)

    with Diagram("hangs") as diagram:
        node(hang)()
    with pytest.raises(TimeoutError, match=r"seconds_max=0\.2 s; under way: hang"):
        run_diagram(diagram, seconds_max=0.2)


def test_the_example_of_the_docs_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order(tmp_path)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    [example] = [part for part in page.split("```") if "def test_a_large_order" in part]
    names: dict[str, Any] = {}
    exec(example.removeprefix("python"), names)
    names["test_a_large_order_is_asked_about"]()
