"""Tests of diagrams in files beside them, by `treadle test` and by pytest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from treadle.cli.main import main
from treadle.errors import InvalidDiagram
from treadle.testing.cases import read_cases, run_case

pytest_plugins = ["pytester"]

ORDER = """\
treadle: 1
name: order
inputs: {amount: integer}
nodes:
  large: {type: condition, when: "{{ inputs.amount > 5 }}"}
  ask:   {type: user_response, prompt: "So much?", needs: large.true}
  rest:  {type: template_job, text: "small", needs: large.false}
  book:  {type: template_job, text: "booked: {{ ask }}", needs: ask}
  done:  {type: endpoint, join: any, needs: [book, rest]}
"""
TESTS = """\
inputs: {amount: 9}
tests:
  - name: a large one is asked about
    answers: {ask: yes}
    expect:
      result: "booked: yes"
      nodes: {book: completed, rest: skipped}
      order: [large, ask, book, done]
      outputs: {ask: yes}
  - name: a small one
    inputs: {amount: 2}
    expect: {result: small, calls: {book: 0}}
  - name: nobody answers
    expect: {status: suspended, error: "it waits: node 'ask'"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "order.yaml").write_text(ORDER)
    (tmp_path / "order.test.yaml").write_text(TESTS)
    return tmp_path


def differences(text: str) -> list[str]:
    Path("order.test.yaml").write_text(text)
    return [line for found in read_cases("order.test.yaml") for line in run_case(found).differences]


def faults(text: str) -> str:
    Path("order.test.yaml").write_text(text)
    with pytest.raises(InvalidDiagram) as raised:
        read_cases("order.test.yaml")
    return str(raised.value)


def test_what_holds_has_no_differences(folder: Path) -> None:
    assert differences(TESTS) == []


def test_the_command_runs_a_folder_a_diagram_s_tests_or_a_file(folder: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test"]) == 0
    told = capsys.readouterr()
    assert told.out.count("passed") == 3
    assert told.err == "3 tests passed\n"
    assert main(["test", "order.yaml"]) == main(["test", "order.test.yaml"]) == 0


def test_what_differs_is_shown_with_its_line_and_ends_with_1(folder: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "order.test.yaml").write_text(
        "inputs: {amount: 3}\n"
        "expect:\n"
        "  result: large\n"
        "  nodes: {ask: completed, bok: skipped}\n"
        "  order: [large, rest]\n"
        "  calls: {rest: 2}\n")
    assert main(["test"]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "failed  order.test.yaml:1",
        "  order.test.yaml:3: result is 'small', and should be 'large'",
        "  order.test.yaml:4: node 'ask' is skipped, not completed",
        "  order.test.yaml:4: node 'bok' was not reached (did you mean 'book'?)",
        "  order.test.yaml:5: order[2] is 'done', and should not be there",
        "  order.test.yaml:6: calls.rest is 1, and should be 2"]
    assert told.err == "1 test, 1 failed\n"


def test_maps_of_a_test_go_before_shared_ones_name_by_name(folder: Path) -> None:
    assert differences("inputs: {amount: 9}\nanswers: {ask: no}\nstubs: {book: 7}\nexpect: {result: 7}\n"
                       "tests:\n- answers: {ask: yes}\n  stubs: {rest: 8}\n"
                       "  expect: {outputs: {ask: yes, book: 7}}\n"
                       "- inputs: {amount: 1}\n  stubs: {rest: 8}\n  expect: {result: 8}\n- {}\n") == []


def test_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "order.test.yaml").write_text("inputs: {amount: 3}\nexpect: {result: large}\n")
    assert main(["test", "--json"]) == 1
    [told] = json.loads(capsys.readouterr().out)
    assert (told["file"], told["line"], told["passed"]) == ("order.test.yaml", 1, False)
    assert told["differences"] == ["order.test.yaml:2: result is 'small', and should be 'large'"]


def test_an_end_that_is_not_expected_says_why(folder: Path) -> None:
    [line] = differences("inputs: {amount: 9}\nexpect: {status: failed}\n")
    assert line.startswith("order.test.yaml:2: it is suspended, not failed: execution ")
    [line] = differences("inputs: {amount: nine}\n")
    assert line.startswith("order.test.yaml:1: it can't be run: input 'amount' of diagram 'order'")


def test_slips_in_the_file_are_faults_with_lines(folder: Path) -> None:
    assert faults("expct: {}\n") == "order.test.yaml:1: unknown property 'expct' (did you mean 'expect'?)"
    assert faults("expect:\n  reslt: 1\n") == (
        "order.test.yaml:2: unknown property 'reslt' (did you mean 'result'?)")
    assert faults("expect: {status: done}\n").startswith(
        "order.test.yaml:1: expect.status: 'done' is not one of completed, failed, cancelled, suspended")
    assert faults("diagram: ordre.yaml\n") == (
        "order.test.yaml:1: there is no diagram ordre.yaml (did you mean 'order.yaml'?)")
    assert faults("tests: []\n") == "order.test.yaml:1: there is no test in it"
    assert faults("tests: {}\n") == "order.test.yaml:1: `tests` is a list of maps"
    assert faults("- a\n") == "order.test.yaml:1: a file of tests is a map: script, inputs, expect …"
    assert faults("script: {Ann: Tea}\n") == (
        "order.test.yaml:1: the script of person 'Ann': it must be a list of answers, or module:function")


def test_what_isn_t_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "ordr.yaml"]) == 2
    assert "ordr.yaml: there is no such file: did you mean 'order.yaml'?" in capsys.readouterr().err
    (folder / "order.test.yaml").unlink()
    assert main(["test", "order.yaml"]) == 2
    assert "it has no tests: write order.test.yaml beside it" in capsys.readouterr().err
    assert main(["test"]) == 2
    assert "there is no file of tests in it, NAME.test.yaml" in capsys.readouterr().err


def test_pytest_collects_them(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    flows = pytester.mkdir("flows")
    (flows / "order.yaml").write_text(ORDER)
    (flows / "order.test.yaml").write_text(TESTS.replace("result: small", "result: large"))
    (flows / "other.test.yaml").write_text("somebody: else's\n")
    (flows / "chart.yaml").write_text("name: chart\nversion: 1.0\n")
    (flows / "chart.test.yaml").write_text("suite: of another tool\n")
    (flows / "broken.test.yaml").write_text("diagram: order.yaml\nexpct: {}\n")
    done = pytester.runpytest_subprocess("-p", "treadle.testing.plugin")
    done.assert_outcomes(passed=0, failed=0, errors=1)
    done.stdout.fnmatch_lines(["*broken.test.yaml:2: unknown property 'expct' (did you mean 'expect'?)"])
    (flows / "broken.test.yaml").unlink()
    done = pytester.runpytest_subprocess("-p", "treadle.testing.plugin")
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*order.test.yaml:12: result is 'small', and should be 'large'",
                               "FAILED flows/order.test.yaml::a small one*"])
