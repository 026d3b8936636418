"""The fixtures of `treadle.testing.plugin`, used as the author of a diagram would."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from treadle import Diagram, node
from treadle.errors import TreadleError
from treadle.testing.bench import Bench

pytest_plugins = ["pytester"]

REMINDER = """
treadle: 1
name: reminder
inputs: {to: string}
nodes:
  ask:    {type: user_response, prompt: "Done?", timeout: 3600}
  day:    {type: sleep, seconds: 86400, needs: ask.error}
  late:   {type: template_job, text: "{{ inputs.to }} was reminded", needs: day}
  done:   {type: endpoint, join: any, needs: [late, ask]}
"""
TESTS = """
    import pytest
    from treadle import Diagram, node

    def test_a_diagram_beside_the_test(run_diagram, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        ran = run_diagram("flows/reminder.yaml", {"to": "Ada"}, answers={"ask": "yes"})
        assert (ran.status, ran.result) == ("completed", "yes")

    def test_days_that_are_skipped(treadle_engine, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        handle = treadle_engine.start("flows/reminder.yaml", {"to": "Ada"})
        treadle_engine.skip(3600)
        assert handle.status == "suspended"
        treadle_engine.skip(86400)
        assert treadle_engine.run(handle.result()) == "Ada was reminded"

    @node
    def double(number: int) -> int:
        return 2 * number

    def test_a_drawn_one(run_diagram, treadle_engine):
        with Diagram("double") as diagram:
            double(diagram.input("number", int))
        assert run_diagram(diagram, {"number": 2}).result == 4
        assert treadle_engine.run(treadle_engine.start(diagram, {"number": 3}).result()) == 6

    def test_the_engine_s_own_clock_and_store(treadle_engine, treadle_clock, treadle_store, tmp_path):
        handle = treadle_engine.start("flows/reminder.yaml", {"to": "Ada"})
        treadle_engine.skip(60)
        assert treadle_clock.skipped_s == 60
        treadle_engine.run(handle.answer("ask", "yes"))
        assert treadle_engine.run(handle.result()) == "yes"
        assert treadle_store.summary(handle.execution_id).cell.status == "completed"

    def test_a_crash_everywhere(crash_everywhere, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        crashes = crash_everywhere("flows/reminder.yaml", {"to": "Ada"}, answers={"ask": "yes"})
        assert crashes.ran.result == "yes" and len(crashes.points) > 3

    def test_a_server(llm_server):
        llm_server.say("Hello")
        assert llm_server.url.endswith("/v1")

    def test_one_that_fails(run_diagram):
        assert run_diagram("flows/reminder.yaml", {"to": "Ada"}).result == "never"
"""


def test_a_test_asks_for_the_fixtures_and_imports_nothing(pytester: pytest.Pytester,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    flows = pytester.mkdir("flows")
    (flows / "reminder.yaml").write_text(REMINDER)
    pytester.makepyfile(TESTS)
    done = pytester.runpytest_subprocess("-p", "treadle.testing.plugin")
    done.assert_outcomes(passed=6, failed=1)
    done.stdout.fnmatch_lines(["*assert*'never'*"])


def test_a_run_of_pytest_that_needs_no_fixture_loads_nothing_of_ours() -> None:
    script = ("import sys, treadle.testing.plugin; "
              "print(sorted(m for m in sys.modules if m.split('.')[0] in ('treadle', 'msgspec', 'apsw')))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['treadle', 'treadle.testing', 'treadle.testing.plugin']"


def test_installing_treadle_gives_pytest_the_plugin() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"treadle": "treadle.testing.plugin"}


@node(isolation="inline")
async def hang() -> None:
    await asyncio.Event().wait()


def test_what_takes_too_long_is_named_and_closed_all_the_same() -> None:
    with Diagram("slow") as diagram:
        hang()
    with Bench(seconds_max=0.2) as bench:
        handle = bench.start(diagram)
        with pytest.raises(TimeoutError, match=r"seconds_max=0.2 s; bodies under way: hang of "
                           r"\w+; executions: \w+ \(running\)"):
            bench.run(handle.result())
        with pytest.raises(TimeoutError, match="hang of"):
            bench.skip(60)
    assert not bench.engine.running


def test_a_body_s_own_time_out_is_told_as_it_is() -> None:
    async def impatient() -> None:
        raise TimeoutError("mine")

    with Bench() as bench, pytest.raises(TimeoutError, match=r"^mine$"):
        bench.run(impatient())


def test_in_an_async_test_it_says_what_to_write() -> None:
    async def main(bench: Bench) -> None:
        with pytest.raises(TreadleError, match=r"write: async with treadle.Engine.open\('memory:'\)"):
            bench.run(asyncio.sleep(0))

    with Bench() as bench:
        asyncio.run(main(bench))


def test_retries_wait_for_the_clock() -> None:
    tries: list[int] = []

    @node(retries=2, backoff=20.0, isolation="inline")
    async def shaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("no line")
        return "through"

    with Diagram("shaky") as diagram:
        shaky()
    with Bench() as bench:
        handle = bench.start(diagram)
        bench.skip(10)
        assert len(tries) == 1
        bench.skip(10)
        assert len(tries) == 2
        bench.skip(40)
        assert bench.run(handle.result()) == "through"
        assert bench.clock.skipped_s == 60
