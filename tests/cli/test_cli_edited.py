"""`resume` after an edit, and `fork`, as one types them."""

from __future__ import annotations

import json
from typing import Any

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
    assert treadle("run", "diagram.yaml", "--execution-id", "one").stdout == "Sum: 6\n"


def test_a_resume_says_what_an_edit_changes_and_does_it(treadle: Any) -> None:
    begin(treadle)
    treadle.write(STEPS.replace("= 2", "= 3"), "steps.py")
    done = treadle("resume", "one")
    assert (done.returncode, done.stdout) == (0, "Sum: 9\n")
    assert done.stderr.splitlines()[:4] == [
        "the diagram has changed since execution one was recorded:",
        "  changed  double (3 results): the code of steps:double",
        "  changed  report: it follows double",
        "  kept     1 result: load"]
    treadle.write(DIAGRAM.replace("}}: {{", "}} = {{"))
    done = treadle("resume", "one")
    assert done.stdout == "Sum = 9\n"
    assert "  changed  report: its text: {{ inputs.title }}: {{ double | sum }} → " in done.stderr
    assert "changed" not in treadle("resume", "one").stderr, "the edited diagram is the recorded one now"


def test_a_strict_resume_refuses_and_a_recorded_one_ignores_the_edit(treadle: Any) -> None:
    begin(treadle)
    treadle.write(DIAGRAM.replace("}}: {{", "}} = {{"))
    refused = treadle("resume", "one", "--strict")
    assert refused.returncode == 2
    assert "the diagram of execution one is not the one that it was recorded with: report (its text" in \
        refused.stderr
    assert treadle("resume", "one", "--recorded").stdout == "Sum: 6\n"
    both = treadle("resume", "one", "--recorded", "--diagram", "diagram.yaml")
    assert both.returncode == 2 and "leave --diagram out" in both.stderr


def test_an_edit_with_a_fault_is_refused_with_a_way_on(treadle: Any) -> None:
    begin(treadle)
    treadle.write(DIAGRAM.replace("needs: load}", "needs: laod}"))
    refused = treadle("resume", "one")
    assert refused.returncode == 2
    assert "laod" in refused.stderr and "did you mean 'load'" in refused.stderr
    assert "--recorded goes on with it as it was" in refused.stderr
    gone = treadle("resume", "one", "--diagram", "nowhere.yaml")
    assert gone.returncode == 2 and "nowhere.yaml: No such file" in gone.stderr


def test_a_file_that_is_gone_does_not_matter(treadle: Any) -> None:
    begin(treadle)
    (treadle.folder / "diagram.yaml").unlink()
    assert treadle("resume", "one").stdout == "Sum: 6\n"


def test_json_says_nothing_but_json(treadle: Any) -> None:
    begin(treadle)
    treadle.write(DIAGRAM.replace("}}: {{", "}} = {{"))
    done = treadle("resume", "one", "--json")
    assert json.loads(done.stdout)["output"] == "Sum = 6"


def test_a_fork_takes_over_what_came_before(treadle: Any) -> None:
    begin(treadle)
    fork = treadle("fork", "one", "--from", "report", "-i", "title=Total", "--execution-id", "two")
    assert (fork.returncode, fork.stdout) == (0, "Total: 6\n")
    assert "takes over 2 results of execution one" in fork.stderr
    shown = treadle.json("show", "two")
    assert shown["parent"] == "one"
    assert treadle("fork", "one", "-i", "title=Hey").stdout == "Hey: 6\n"


def test_mistakes_in_a_fork_are_named(treadle: Any) -> None:
    begin(treadle)
    for words, said in (
            (("fork", "one"), "would be its copy"),
            (("fork", "one", "--from", "reprot"), "no node 'reprot': did you mean 'report'"),
            (("fork", "one", "-i", "titel=x"), "no input 'titel': did you mean 'title'"),
            (("fork", "one", "--from", "report", "--execution-id", "one"), "choose another id"),
            (("fork", "none"), "no execution 'none'")):
        refused = treadle("fork", *words[1:])
        assert refused.returncode == 2, refused.stderr
        assert said in refused.stderr
