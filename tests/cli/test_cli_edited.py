"""`resume` after an edit, and `fork`, as one types them."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from treadle.cli.running import edited
from treadle.store import open_store
from treadle.store.owner import this_owner

DIAGRAM = """
treadle: 1
name: edit
inputs: {title: {type: string, default: Sum}}
nodes:
  load:   {type: code_job, call: "steps:load"}
  double: {type: code_job, call: "steps:double", for_each: "{{ load }}", needs: load}
  report: {type: template_job, text: "{{ inputs.title }}: {{ double | sum }}", needs: double}
"""
STEPS = "FACTOR = 2\ndef load(): return [1, 2]\ndef double(item): return item * FACTOR\n"


def begin(treadle: Any) -> None:
    treadle.write(DIAGRAM)
    treadle.write(STEPS, "steps.py")
    assert treadle.here("run", "diagram.yaml", "--execution-id", "one").stdout == "Sum: 6\n"


def test_a_resume_says_what_an_edit_changes_and_does_it(treadle: Any) -> None:
    begin(treadle)
    treadle.write(STEPS.replace("= 2", "= 3"), "steps.py")
    done = treadle.here("resume", "one")
    assert (done.returncode, done.stdout) == (0, "Sum: 9\n")
    assert done.stderr.splitlines()[:4] == [
        "the diagram has changed since execution one was recorded:",
        "  changed  double (2 results): the code of steps:double",
        "  changed  report: it follows double",
        "  kept     1 result: load"]
    treadle.write(DIAGRAM.replace("}}: {{", "}} = {{"))
    done = treadle.here("resume", "one")
    assert done.stdout == "Sum = 9\n"
    assert "  changed  report: its text: {{ inputs.title }}: {{ double | sum }} → " in done.stderr
    assert "changed" not in treadle.here("resume", "one").stderr, "the edited diagram is the recorded one now"


def test_a_strict_resume_refuses_and_a_recorded_one_ignores_the_edit(treadle: Any) -> None:
    begin(treadle)
    treadle.write(DIAGRAM.replace("}}: {{", "}} = {{"))
    refused = treadle.here("resume", "one", "--strict")
    assert refused.returncode == 2
    assert "the diagram of execution one is not the one that it was recorded with: report (its text" in \
        refused.stderr
    assert treadle.here("resume", "one", "--recorded").stdout == "Sum: 6\n"
    both = treadle.here("resume", "one", "--recorded", "--diagram", "diagram.yaml")
    assert both.returncode == 2 and "leave --diagram out" in both.stderr


def test_an_edit_with_a_fault_is_refused_with_a_way_on(treadle: Any) -> None:
    begin(treadle)
    treadle.write(DIAGRAM.replace("needs: load}", "needs: laod}"))
    refused = treadle.here("resume", "one")
    assert refused.returncode == 2
    assert "laod" in refused.stderr and "did you mean 'load'" in refused.stderr
    assert "--recorded goes on with it as it was" in refused.stderr
    gone = treadle.here("resume", "one", "--diagram", "nowhere.yaml")
    assert gone.returncode == 2 and "nowhere.yaml: No such file" in gone.stderr
    gone = treadle.here("resume", "one", "--diagram", "diagrams.yaml")
    assert "diagrams.yaml: No such file or directory: did you mean 'diagram.yaml'?" in gone.stderr


def test_code_that_is_gone_is_asked_for(treadle: Any) -> None:
    begin(treadle)
    (treadle.folder / "steps.py").unlink()
    for words in (("resume", "one"), ("resume", "one", "--recorded"), ("fork", "one", "--from", "report")):
        refused = treadle.here(*words)
        assert refused.returncode == 2
        assert "no module 'steps' in" in refused.stderr
        assert "as it was recorded: put back what it names, or say with --diagram FILE" in refused.stderr


def test_a_dry_run_says_what_would_be_done_and_does_nothing(treadle: Any) -> None:
    treadle.write(DIAGRAM + '  total: {type: code_job, call: "steps:total", needs: double}\n')
    treadle.write(STEPS + "def total(double): return sum(double)\n", "steps.py")
    treadle.here("run", "diagram.yaml", "--execution-id", "one")
    treadle.write(STEPS.replace("= 2", "= 3") + "def total(double): return max(double)\n", "steps.py")
    before = treadle.json("show", "one")
    done = treadle.here("resume", "one", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        "the diagram has changed since execution one was recorded:",
        "  changed  double (2 results): the code of steps:double",
        "  changed  total: the code of steps:total",  # and it follows double: but it would run again anyhow
        "  changed  report: it follows double",
        "  kept     1 result: load"]
    assert treadle.here("resume", "one", "-n", "--strict").returncode == 2
    document = treadle.json("resume", "one", "-n")
    assert (document["status"], document["plan"]["kept"]) == ("completed", ["load"])
    assert [(one["path"], one["own"]) for one in document["plan"]["changed"]] == [
        ("double", True), ("report", False), ("total", True)]
    assert treadle.json("show", "one") == before


def test_a_dry_run_of_what_had_failed_names_what_is_tried_again(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  a: {type: code_job, code: return 1}\n"
                  "  b: {type: code_job, code: raise ValueError('no'), needs: a}\n")
    treadle.here("run", "diagram.yaml", "--execution-id", "one")
    assert treadle.here("resume", "one", "-n").stderr.splitlines() == [
        "the diagram has not changed since execution one was recorded:",
        "  again    b: it had not ended well", "  kept     1 result: a"]


def test_code_in_a_loop_can_be_any_node_s(treadle: Any) -> None:
    treadle.write("""
treadle: 1
nodes:
  count: {type: code_job, call: "steps:count"}
  more: {type: condition, when: "{{ count < 2 }}", needs: count}
  end: {type: template_job, text: "{{ more }}", needs: more.false}
arrows: [more.true -> count.last]
loops: [{entry: count}]
""")
    treadle.write("def count(last=0): return last + 1\n", "steps.py")
    assert treadle.here("run", "diagram.yaml", "--execution-id", "one").stdout == "2\n"
    treadle.write("def count(last=0): return last + 2\n", "steps.py")
    said = treadle.here("resume", "one", "-n").stderr
    assert "  changed  count (2 results): the code, or a file, of a node in its loop" in said
    assert "  changed  more (2 results): it follows count" in said
    assert "  changed  end: it follows count" in said


def test_what_follows_a_node_that_was_performed_anew_has_not_changed_itself(treadle: Any) -> None:
    treadle.write("""
treadle: 1
nodes:
  a: {type: code_job, call: "steps:a"}
  ask: {type: user_response, prompt: "{{ a }}?", needs: a}
  b: {type: code_job, call: "steps:b", needs: ask}
""")
    treadle.write("def a(): return 1\ndef b(ask): return ask\n", "steps.py")
    treadle.here("run", "diagram.yaml", "--execution-id", "one")
    treadle.here("answer", "one", "ask", "yes")
    assert treadle.here("resume", "one").stdout == "yes\n"
    treadle.write("def a(): return 2\ndef b(ask): return ask\n", "steps.py")
    assert treadle.here("resume", "one").returncode == 3, "it asks again"
    assert treadle.here("resume", "one", "-n").stderr.splitlines()[1:] == [
        "  changed  b: it follows ask", "  kept     1 result: a"]


def test_of_one_that_somebody_runs_nobody_is_asked(treadle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(treadle)
    treadle.write(DIAGRAM.replace("}}: {{", "}} = {{"))
    monkeypatch.setattr(edited, "somebody_to_ask", lambda: True)
    store = open_store(treadle.store)
    store.claim("one", this_owner(), 100)
    refused = treadle.here("resume", "one")
    store.close()
    assert refused.returncode == 2
    assert refused.stderr.startswith("treadle: execution one is run by ")


@pytest.mark.parametrize(("line", "goes_on"), [("\n", True), ("Yes\n", True), ("n\n", False), ("?\n", False),
                                               ("", False)])
def test_on_a_terminal_it_asks(treadle: Any, monkeypatch: pytest.MonkeyPatch, line: str,
                               goes_on: bool) -> None:
    treadle.write('treadle: 1\nnodes: {a: {type: template_job, text: "old"}}\n')
    treadle.here("run", "diagram.yaml", "--execution-id", "one")
    treadle.write('treadle: 1\nnodes: {a: {type: template_job, text: "new"}}\n')
    monkeypatch.setattr(edited, "somebody_to_ask", lambda: True)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(readline=lambda: line, isatty=lambda: True))
    done = treadle.here("resume", "one")
    assert "Go on so? [Y/n] " in done.stderr
    assert (done.returncode, done.stdout) == ((0, "new\n") if goes_on else (2, ""))
    assert ("nothing was done; --recorded goes on with the diagram as it was" in done.stderr) is not goes_on


def test_a_file_that_is_gone_does_not_matter(treadle: Any) -> None:
    begin(treadle)
    (treadle.folder / "diagram.yaml").unlink()
    assert treadle.here("resume", "one").stdout == "Sum: 6\n"


def test_json_says_nothing_but_json(treadle: Any) -> None:
    begin(treadle)
    treadle.write(DIAGRAM.replace("}}: {{", "}} = {{"))
    document = json.loads(treadle.here("resume", "one", "--json").stdout)
    assert document["output"] == "Sum = 6"
    assert [one["path"] for one in document["plan"]["changed"]] == ["report"]
    assert treadle.json("resume", "one")["plan"] is None


def test_a_fork_takes_over_what_came_before(treadle: Any) -> None:
    begin(treadle)
    fork = treadle.here("fork", "one", "--from", "report", "-i", "title=Total", "--execution-id", "two")
    assert (fork.returncode, fork.stdout) == (0, "Total: 6\n")
    assert "takes over 2 results of execution one" in fork.stderr
    shown = treadle.json("show", "two")
    assert shown["parent"] == "one"
    assert treadle.here("fork", "one", "-i", "title=Hey").stdout == "Hey: 6\n"


def test_mistakes_in_a_fork_are_named(treadle: Any) -> None:
    begin(treadle)
    for words, said in (
            (("fork", "one"), "would be its copy"),
            (("fork", "one", "--from", "reprot"), "no node 'reprot': did you mean 'report'"),
            (("fork", "one", "--from", "double[2]"), "'double' has no item 2: its items are 0 to 1"),
            (("fork", "one", "--from", "report", "--execution-id", ""), "the id can't be empty"),
            (("fork", "one", "-i", "titel=x"), "no input 'titel': did you mean 'title'"),
            (("fork", "one", "--from", "report", "--execution-id", "one"), "choose another id"),
            (("fork", "none"), "no execution 'none'")):
        refused = treadle.here(*words)
        assert refused.returncode == 2, refused.stderr
        assert said in refused.stderr
