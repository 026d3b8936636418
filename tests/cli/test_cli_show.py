"""`list`, `show`, `nodes`, `init`, and what the command costs before it does anything."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

GREET = """
treadle: 1
name: greet
nodes:
  names: {type: code_job, isolation: thread, code: "return ['Ada', 'Grace', 'x']"}
  hello:
    type: code_job
    for_each: "{{ names }}"
    on_item_error: collect
    needs: names
    code: "return {'hello': {'Ada': 1, 'Grace': 2}[item]}"
  long: {type: condition, when: "{{ hello | length > 2 }}", needs: hello}
  many: {type: template_job, text: "many", needs: long.true}
  few: {type: template_job, text: "few", needs: long.false}
  done: {type: endpoint, join: any, needs: [many, few]}
"""


@pytest.fixture
def greeted(treadle: Any) -> Any:
    assert treadle("run", treadle.write(GREET), "--execution-id", "x").stdout == "many\n"
    return treadle


def test_show_lists_nodes_with_times_attempts_and_errors(greeted: Any) -> None:
    said = greeted.here("show", "x").stdout
    assert said.splitlines()[0] == "x  greet  completed"
    rows = [line.split()[0] for line in said.partition("NODE")[2].splitlines()[1:] if line]
    assert sorted(rows) == sorted(["names", "hello", "hello[*]", "long", "many", "few", "done", "result:"])
    assert "hello[*] ×3" in said and "2 completed, 1 failed" in said
    assert "→ true" in said
    assert "result: many" in said
    every = greeted.here("show", "x", "--all").stdout
    assert "hello[2]" in every and "KeyError: 'x'" in every


def test_the_document_of_an_execution(greeted: Any) -> None:
    document = greeted.json("show", "x")
    expected = {"execution_id": "x", "name": "greet", "status": "completed", "output": "many", "inputs": {},
                "error": None}
    assert {key: document[key] for key in expected} == expected
    states = {one["node"]: one for one in document["node_states"]}
    assert set(states) == {"names", "hello", "hello[0]", "hello[1]", "hello[2]", "long", "many", "few",
                           "done"}
    assert states["few"]["status"] == "skipped"
    assert states["long"]["port"] == "true"
    assert states["hello[2]"]["error"]["type"] == "KeyError"
    assert states["hello"]["seconds"] > 0
    assert states["hello"]["started_at"].endswith("+00:00")


def test_show_node_gives_inputs_and_output(greeted: Any) -> None:
    """Inputs are not stored: they follow from what came before."""
    item = greeted.json("show", "x", "--node", "hello[1]")
    assert item["inputs"] == {"default": ["Ada", "Grace", "x"], "item": "Grace"}
    assert item["output"] == {"hello": 2}
    failed = greeted.here("show", "x", "--node", "hello[2]").stdout
    assert "input item: x" in failed
    assert "KeyError: 'x'" in failed and "<code of node hello>" in failed


def test_list_filters(greeted: Any) -> None:
    greeted.write("treadle: 1\nname: bad\nnodes: {a: {type: code_job, call: 'tasks:boom'}}\n", "bad.yaml")
    greeted.here("run", "bad.yaml", "--execution-id", "y")
    assert [one["execution_id"] for one in greeted.json("list")] == ["y", "x"]
    assert [one["execution_id"] for one in greeted.json("list", "--status", "failed")] == ["y"]
    assert [one["execution_id"] for one in greeted.json("list", "--name", "greet")] == ["x"]
    assert [one["execution_id"] for one in greeted.json("list", "--limit", "1")] == ["y"]
    assert greeted.json("list", "--status", "suspended") == []
    [header, newest, _] = greeted.here("list").stdout.splitlines()
    assert header.split() == ["ID", "DIAGRAM", "STATUS", "NODES", "STARTED", "TOOK"]
    assert newest.split()[:6] == ["y", "bad", "failed", "0/1,", "1", "failed"]


def test_a_reader_who_leaves_early_is_no_error(greeted: Any) -> None:
    child = greeted.begin("show", "x", "--json")
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert (child.wait(30), child.stderr.read()) == (-signal.SIGPIPE, "")


def test_what_init_writes_runs(treadle: Any) -> None:
    written = treadle("init", "new")
    assert written.returncode == 0
    assert "treadle run new/diagram.yaml" in written.stderr
    assert treadle.here("check", "new/diagram.yaml").stdout == "new/diagram.yaml: no faults\n"
    done = treadle("run", "new/diagram.yaml")
    assert (done.returncode, done.stdout) == (0, "Hello Ada!\nHello Grace!\nHello Alan!\n")
    assert treadle("run", "new/diagram.yaml", "-i", 'names=["Bo"]').stdout == "Only Hello Bo!\n"
    again = treadle("init", "new")
    assert again.returncode == 2
    assert "exist already: nothing was written" in again.stderr


def test_nodes_lists_types_and_their_properties(treadle: Any) -> None:
    kinds = {one["type"]: one for one in treadle.json("nodes")}
    assert {"start", "endpoint", "code_job", "condition", "template_job", "db", "sub_diagram",
            "user_response", "wait_for", "sleep"} <= set(kinds)
    assert {one["name"]: one["type"] for one in kinds["sleep"]["properties"]} == {
        "seconds": "number or expression", "until": "template"}
    assert "seconds" in treadle.here("nodes", "sleep").stdout


def test_the_version_needs_nothing_heavy() -> None:
    code = ("import sys; from treadle.cli.main import main; code = main(['--version']); "
            "heavy = {'typer', 'rich', 'click', 'msgspec', 'asyncio', 'jinja2', 'apsw'} & set(sys.modules); "
            "sys.exit(str(heavy) if heavy else code)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("treadle ")


def test_help_names_every_command(treadle: Any) -> None:
    said = treadle.here("--help").stdout
    for name in ("run", "resume", "check", "list", "show", "cancel", "answer", "signal", "init", "nodes"):
        assert f"\n  {name} " in said
    assert json.dumps(treadle.here("run", "--help").returncode) == "0"


SHARING = """
treadle: 1
name: sharing
nodes:
  load: {type: code_job, isolation: thread, code: "artifacts['raw'] = '/data/raw.bin'; variables['n'] = 1"}
  many:
    {type: code_job, isolation: thread, needs: load,
     code: "variables.update({f'v{k}': 'x' * k for k in range(70, 95)})"}
"""


def test_show_lists_what_the_bodies_share(treadle: Any) -> None:
    treadle.here("run", treadle.write(SHARING), "--execution-id", "x")
    said = treadle.here("show", "x").stdout
    lines = [line.split() for line in said.partition("CONTEXT")[2].splitlines()[1:]]
    assert lines[0][:3] == ["artifacts.raw", '"/data/raw.bin"', "load#1"]
    assert lines[1][:3] == ["variables.n", "1", "load#1"]
    assert lines[2][:3] == ["variables.v70", '"' + "x" * 59 + "…", "many#1"]
    assert "and 7 more: --all" in said and "v94" not in said
    assert "variables.v94" in treadle.here("show", "x", "--all").stdout
    document = treadle.json("show", "x")
    assert document["pipeline"]["id"] == "x" and len(document["pipeline"]["config_hash"]) == 16
    context = document["context"]
    assert context["artifacts"] == {"raw": "/data/raw.bin"} and context["variables"]["n"] == 1
    assert (context["environment_vars"], context["secret_store"]) == ({}, None)
    assert context["versions"]["variables.n"]["writer"] == "load#1"
    assert context["versions"]["variables.n"]["version"] == [1, 2]
