"""Persons without a provider: scripts, recorded calls, crashes, by the engine and by the command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from treadle.cli.main import main
from treadle.engine.engine import Engine
from treadle.errors import ExecutionFailed, InvalidInput
from treadle.testing.bench import Bench
from treadle.testing.crashes import crash_everywhere
from treadle.testing.diagrams import run_diagram
from treadle.testing.llm import LLMServer, Reply

TALK = """\
treadle: 1
name: talk
inputs: {topic: {type: string, default: tea}}
persons:
  Ann: {model: "openai:test-model", base_url: "%s", system_prompt: You like tea.}
  Dr. Bob: {model: "openai:test-model", base_url: "%s", api_key: "env:BOB_KEY", memory: all}
nodes:
  ann: {type: person_job, person: Ann, prompt: "Speak of {{ inputs.topic }}", backoff: 0.01}
  bob: {type: person_job, person: Dr. Bob, prompt: "Ann says: {{ ann }}", needs: ann, retries: 0}
  done: {type: endpoint, needs: bob}
"""
SCRIPT = {"Ann": ["Tea is fine."], "Dr. Bob": ["So is coffee."]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TREADLE_STORE", str(tmp_path / "runs.db"))
    monkeypatch.delenv("BOB_KEY", raising=False)
    (tmp_path / "talk.yaml").write_text(TALK % (("http://127.0.0.1:1/v1",) * 2))  # where nobody is
    return tmp_path


def treadle(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    told = capsys.readouterr()
    return code, told.out, told.err


# Scripts

def test_a_script_goes_before_the_models_of_its_persons(folder: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "said.yaml").write_text(json.dumps(SCRIPT))
    assert treadle(capsys, "run", "talk.yaml", "--script", "said.yaml")[:2] == (0, "So is coffee.\n")
    (folder / "said.py").write_text(
        "Ann = ['Tea is fine.']\n\n\ndef Dr_Bob(prompt, number):\n    return f'{number}: {prompt}'\n")
    assert treadle(capsys, "run", "talk.yaml", "--script", "said.py")[:2] == (
        0, "1: Ann says: Tea is fine.\n")


def test_a_resume_goes_on_in_the_script_where_the_execution_was(folder: Path) -> None:
    async def half() -> str:
        async with Engine.open("runs.db", script={**SCRIPT, "Dr. Bob": []}) as engine:
            handle = await engine.start("talk.yaml")
            with pytest.raises(ExecutionFailed, match=r"'Dr\. Bob' is asked for the 1st time, and its scr"):
                await handle.result()
            return handle.execution_id

    async def rest(name: str) -> Any:
        async with Engine.open("runs.db", script={"Ann": ["never"], "Dr. Bob": ["So is coffee."]}) as engine:
            return await (await engine.resume(name)).result()

    assert asyncio.run(rest(asyncio.run(half()))) == "So is coffee."


def test_one_that_is_used_up_fails_the_node_with_file_and_line(folder: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "said.yaml").write_text("Dr. Bob: [x]\nAnn: []\n")
    code, _, said = treadle(capsys, "run", "talk.yaml", "--script", "said.yaml")
    assert code == 1
    assert ("person 'Ann' is asked for the 1st time, and the script said.yaml:2 has 0 answers: add one"
            in said)
    assert "retry" not in said


def test_a_script_may_be_a_file_in_python_too(folder: Path) -> None:
    (folder / "said.yaml").write_text(json.dumps(SCRIPT))
    assert run_diagram("talk.yaml", script="said.yaml").result == "So is coffee."
    with Bench(base=folder) as bench:
        bench.script("said.yaml")
        assert bench.run(bench.start("talk.yaml").result()) == "So is coffee."


def test_slips_of_the_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: str) -> str:
        code, out, said = treadle(capsys, "run", "talk.yaml", *words)
        assert (code, out) == (2, "")
        return said

    (folder / "said.yaml").write_text("Anne: [x]\n")
    assert refused("--script", "said.yaml") == (
        "treadle: said.yaml:1: there is a script of 'Anne', and diagram 'talk' has no such person: did you "
        "mean 'Ann'?\n")
    assert "--script: sad.yaml can't be read: No such file or directory (did you mean 'said.yaml'?)" in (
        refused("--script", "sad.yaml"))
    assert "said.yaml:1: the script of person 'Ann': it must be a list" in refused(
        "--script", str((folder / "said.yaml").write_text("Ann: x\n") and "said.yaml"))
    (folder / "calls").mkdir()
    assert "--replay: there is no folder 'cals': did you mean 'calls'?" in refused("--replay", "cals")
    assert "--record and --replay exclude each other" in refused("--replay", "calls", "--record", "calls")
    assert "--record: talk.yaml is a file" in refused("--record", "talk.yaml")
    (folder / "calls" / "notes.json").write_text("{}")
    assert "calls/notes.json is no recording of a model's call" in refused("--replay", "calls")
    assert "notes.json is no recording" in refused("--record", "calls")
    assert asyncio.run(nothing_is_left()) == []


async def nothing_is_left() -> list[Any]:
    async with Engine.open("runs.db") as engine:
        return list(await engine.executions())


def test_who_has_no_script_is_not_asked_in_a_test(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "talk.test.yaml").write_text("script: {Ann: [Tea.]}\n")
    code, out, _ = treadle(capsys, "test")
    assert code == 1
    assert "person 'Dr. Bob' has no script, and openai:test-model is not asked in a test: write one" in out


# Recorded calls

def test_what_was_recorded_is_replayed_offline_and_without_a_key(folder: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOB_KEY", "sk-secret-of-bob")
    with LLMServer({"error": 503}, "Tea is fine.", Reply(text="sk-secret-of-bob knows")) as server:
        (folder / "talk.yaml").write_text(TALK % (server.url, server.url))

        async def record() -> Any:
            async with Engine.open("memory:", record="calls") as engine:
                return await (await engine.start("talk.yaml")).result()

        said = asyncio.run(record())
        assert [asked.key for asked in server.requests][-1] == "sk-secret-of-bob"
    assert said == "[secret BOB_KEY] knows"
    files = sorted(path.name for path in Path("calls").iterdir())
    assert [name.split("-")[0] for name in files] == ["Ann", "Dr_Bob"]  # what failed is not there
    texts = [(Path("calls") / name).read_text() for name in files]
    assert not any("sk-secret" in text or "uthorization" in text for text in texts)
    assert json.loads(texts[1])["place"] == "bob"
    monkeypatch.delenv("BOB_KEY")
    ran = run_diagram("talk.yaml", replay="calls")
    assert ran.result == "[secret BOB_KEY] knows"
    assert (ran.said[0].person, ran.said[0].said) == ("Ann", "Tea is fine.")
    ran = run_diagram("talk.yaml", {"topic": "pots"}, replay="calls")
    assert ran.status == "failed" and ran.error is not None
    assert "ann: person 'Ann' asks what was not recorded" in ran.error
    assert '+   "content": "Speak of pots",' in ran.error
    assert ran.calls["ann"] == [{}]  # once: another try would not be better


def test_the_command_records_and_replays(folder: Path, capsys: pytest.CaptureFixture[str],
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOB_KEY", "sk-secret-of-bob")
    with LLMServer("Tea is fine.", "So is coffee.") as server:
        (folder / "talk.yaml").write_text(TALK % (server.url, server.url))
        assert treadle(capsys, "run", "talk.yaml", "--record", "calls")[:2] == (0, "So is coffee.\n")
    assert treadle(capsys, "run", "talk.yaml", "--replay", "calls")[:2] == (0, "So is coffee.\n")
    (folder / "talk.test.yaml").write_text("replay: calls\nexpect: {result: So is coffee.}\n")
    assert treadle(capsys, "test")[0] == 0


def test_record_and_replay_exclude_each_other_in_python(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="exclude each other"):
        Engine.open("memory:", record="a", replay="a")


# Crashes

TOOLS = '''
def search(query: str) -> str:
    """Search the shelves."""
    return f"{query}: on the left"
'''


def test_a_loop_of_models_and_tools_repeats_nothing_that_was_recorded(folder: Path) -> None:
    (folder / "tools.py").write_text(TOOLS)
    (folder / "loop.yaml").write_text(
        "treadle: 1\npersons: {Ann: {model: script}}\n"
        "nodes: {ask: {type: person_job, person: Ann, prompt: Tea?, tools: ['tools:search']}}\n")
    crashes = crash_everywhere("loop.yaml", script={"Ann": [
        {"tool": "search", "arguments": {"query": "tea"}},
        [{"tool": "search", "arguments": {"query": one}} for one in ("pot", "cup")], "On the left."]})
    assert crashes.ran.result == "On the left."
    steps = {name for name in crashes.calls if ": " in name}
    assert steps == {"ask: model 1", "ask: search 1", "ask: model 2", "ask: search 2", "ask: search 3",
                     "ask: model 3"}
    assert {point.after for point in crashes.points} >= {"ask: model 1", "ask: search 1", "ask: model 2"}
    assert set(crashes.again.values()) == {1}


def test_a_script_with_errors_goes_on_where_it_was_after_a_crash(folder: Path) -> None:
    busy = {"error": 429, "retry_after": 0.001}
    crashes = crash_everywhere("talk.yaml", script={"Ann": [busy, "one"], "Dr. Bob": ["two"]})
    assert crashes.ran.result == "two"
    (folder / "twice.yaml").write_text(
        "treadle: 1\npersons: {Ann: {model: script}}\nnodes:\n"
        "  a: {type: person_job, person: Ann, prompt: A}\n"
        "  b: {type: person_job, person: Ann, prompt: B, needs: a}\n")
    assert crash_everywhere("twice.yaml", script={"Ann": [busy, "one", "two"]}).ran.result == "two"


def test_the_real_client_under_crashes(folder: Path) -> None:
    with LLMServer(lambda asked: f"answer to {asked.prompt}") as server:
        text = TALK % (server.url, server.url)
        (folder / "talk.yaml").write_text(text.replace('api_key: "env:BOB_KEY", ', ""))
        crashes = crash_everywhere("talk.yaml")
    assert crashes.ran.result == "answer to Ann says: answer to Speak of tea"
    assert crashes.again["ann: model 1"] == crashes.again["bob: model 1"] == 1


# Tools

def test_scripts_reach_the_persons_of_diagrams_that_are_tools(folder: Path) -> None:
    (folder / "helper.yaml").write_text(
        "treadle: 1\ndescription: Looks things up.\ninputs: {what: string}\n"
        "persons: {Helper: {model: openai:x}}\n"
        "nodes: {look: {type: person_job, person: Helper, prompt: '{{ inputs.what }}'}}\n")
    (folder / "boss.yaml").write_text(
        "treadle: 1\npersons: {Boss: {model: openai:x}}\n"
        "nodes: {ask: {type: person_job, person: Boss, prompt: Go, tools: [{diagram: helper.yaml}]}}\n")
    ran = run_diagram("boss.yaml", script={
        "Boss": [{"tool": "helper", "arguments": {"what": "tea"}}, "It says so."],
        "Helper": lambda prompt: f"{prompt}!"})
    assert (ran.error, ran.result) == (None, "It says so.")
    crashes = crash_everywhere("boss.yaml", script={
        "Boss": [{"tool": "helper", "arguments": {"what": "tea"}}, "It says so."], "Helper": ["Tea!"]})
    [inner] = [name for name in crashes.calls if name.endswith(": look: model 1")]
    assert inner.startswith("ask.1.helper-1")
    assert set(crashes.again.values()) == {1}
    with pytest.raises(InvalidInput, match="a script of 'Helpr', and diagram 'boss' has no such person: did"):
        run_diagram("boss.yaml", script={"Helpr": []})


def test_each_approval_in_a_turn_is_answered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tools.py").write_text(TOOLS)
    (folder / "loop.yaml").write_text(
        "treadle: 1\npersons: {Ann: {model: openai:x}}\n"
        "nodes: {ask: {type: person_job, person: Ann, prompt: Tea?,\n"
        "              tools: [{call: 'tools:search', approve: true}]}}\n")
    (folder / "loop.test.yaml").write_text(
        "script:\n  Ann:\n    - {tool: search, arguments: {query: tea}}\n"
        "    - {tool: search, arguments: {query: pot}}\n    - Done.\n"
        "answers: {ask: {approve: true}}\nexpect:\n  result: Done.\n  said:\n"
        "    - {Ann: {tool: search, arguments: {query: tea}}}\n"
        "    - {Ann: {tool: search, arguments: {query: pot}}}\n    - {Ann: Done.}\n")
    code, out, _ = treadle(capsys, "test")
    assert code == 0, out
    crashes = crash_everywhere("loop.yaml", answers={"ask": {"approve": True}}, script={
        "Ann": [{"tool": "search", "arguments": {"query": "tea"}}, "Done."]})
    assert (crashes.ran.result, set(crashes.again.values())) == ("Done.", {1})


def test_a_diagram_with_faults_fails_its_tests_and_no_others(folder: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.yaml").write_text("treadle: 1\nnodes: {a: {type: template_jb}}\n")
    (folder / "bad.test.yaml").write_text("expect: {result: 1}\n")
    (folder / "talk.test.yaml").write_text(f"script: {json.dumps(SCRIPT)}\n")
    code, out, said = treadle(capsys, "test")
    assert (code, said) == (1, "2 tests, 1 failed\n")
    assert "bad.yaml:2: node 'a': there is no node type 'template_jb'" in out
    assert "passed  " in out


def test_a_test_has_the_limits_of_its_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "talk.test.yaml").write_text(f"script: {json.dumps(SCRIPT)}\n")
    (folder / "treadle.toml").write_text("[limits]\nllm_tokens_max = 3\n")
    code, out, _ = treadle(capsys, "test")
    assert code == 1 and "the limit llm_tokens_max is 3" in out


def test_a_limit_of_tokens_for_one_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "said.yaml").write_text(json.dumps(SCRIPT))
    code, _, said = treadle(capsys, "run", "talk.yaml", "--script", "said.yaml", "--llm-tokens-max", "3",
                            "--execution-id", "x1")
    assert code == 1
    assert "the limit llm_tokens_max is 3; raise it" in said
    assert "try again:    treadle resume x1 --script said.yaml --llm-tokens-max 3" in said
    code, out, _ = treadle(capsys, "resume", "x1", "--script", "said.yaml")
    assert (code, out) == (0, "So is coffee.\n")
