"""`treadle plugins`, and commands that plugins add."""

from __future__ import annotations

from typing import Any

import pytest

GREETING = '''
from treadle import StateHook

class Greeting(StateHook):
    version = "1.2"
    requires = ("Logger",)

    def post_node_execute(self, node_id):
        pass

    def treadle_commands(self):
        return [say_hello]

def say_hello(name: str = "you") -> None:
    """Say hello."""
    print(f"hello {name}")
'''
LOGGER = "from treadle import StateHook\nclass Logger(StateHook): version = '0.3'\n"


@pytest.fixture(name="files")
def _files(treadle: Any) -> Any:
    (treadle.folder / "plugins").mkdir()
    treadle.write("", "treadle.toml")
    treadle.write(GREETING, "plugins/greeting.py")
    treadle.write(LOGGER, "plugins/logger.py")
    return treadle


def test_plugins_are_listed_in_their_order(files: Any) -> None:
    done = files.here("plugins")
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["PLUGIN", "STATE", "FROM", "HOOKS", "REQUIRES"],
        ["Logger@0.3", "active", "plugins/logger.py"],
        ["Greeting@1.2", "active", "plugins/greeting.py", "post_node_execute", "treadle_commands", "Logger"]]
    assert files.json("plugins")["plugins"][1] == {
        "name": "Greeting", "version": "1.2", "state": "active", "origin": "plugins/greeting.py",
        "hooks": ["post_node_execute", "treadle_commands"], "requires": ["Logger"]}


def test_what_is_wrong_is_listed_beside_what_is_well(files: Any) -> None:
    files.write("import treadle\nboom\n", "plugins/broken.py")
    files.write("import treadle\n", "plugins/empty.py")
    files.write("[plugins.Logger]\nenabled = false\n", "treadle.toml")
    done = files.here("plugins")
    assert done.returncode == 2
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [
        ["Greeting@1.2", "unusable"], ["Logger@0.3", "off"]]
    assert done.stderr.splitlines()[0] == (
        "error: plugins/broken.py:2: NameError: name 'boom' is not defined")
    assert "requires 'Logger', and there is no plugin 'Logger'" in done.stderr
    assert "note: plugins/empty.py: there is no plugin in it" in done.stderr
    document = files.json("plugins")
    assert (len(document["problems"]), len(document["notes"])) == (2, 1)


def test_another_folder_may_be_named(files: Any) -> None:
    (files.folder / "far" / "plugins").mkdir(parents=True)
    files.write(LOGGER, "far/plugins/far.py")
    assert [one["origin"] for one in files.json("plugins", "--folder", "far")["plugins"]] == [
        "far/plugins/far.py"]
    done = files.here("plugins", "--folder", "nowhere")
    assert (done.returncode, done.stderr) == (2, "treadle: --folder nowhere: there is no such folder\n")


def test_no_plugins_is_no_failure(treadle: Any) -> None:
    treadle.write("", "treadle.toml")
    done = treadle.here("plugins")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("there is no plugin: treadle looks for files in a folder `plugins`")


def test_a_plugin_adds_a_command(files: Any) -> None:
    assert files.here("say-hello", "--name", "Ada").stdout == "hello Ada\n"
    assert "say-hello" in files.here("--help").stdout


def test_a_broken_plugin_does_not_hide_what_is_wrong_with_a_command(files: Any) -> None:
    files.write("import treadle\nboom\n", "plugins/broken.py")
    done = files.here("rnu", "x.yaml")
    assert done.returncode == 2
    assert "the commands of plugins are left out: plugins/broken.py:2: NameError" in done.stderr
    assert "No such command 'rnu'" in done.stderr


def test_a_command_of_treadle_is_not_replaced(files: Any) -> None:
    files.write(GREETING.replace("say_hello", "run"), "plugins/greeting.py")
    assert "a plugin adds the command 'run', which Treadle has itself" in files.here("--help").stderr


SHOUTING = '''
import msgspec
from treadle import EnvelopeFactory, StateHook
from treadle.nodes.base import NodeKind

class Shout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Says something loudly."""
    text: str

class ShoutStrategy:
    async def execute(self, node, context, inputs):
        return EnvelopeFactory.text(node.spec.text.upper(), context.node_id)

    def can_handle(self, node_type):
        return node_type == "shout"

class Shouting(StateHook):
    version = "1.0"

    def treadle_strategies(self):
        return [NodeKind("shout", Shout, ShoutStrategy())]

    def pre_state_initialize(self, inputs):
        if inputs["text"] == "quiet":
            raise ValueError("nothing to shout")

    def post_state_finalize(self, state, report):
        self.logger.warning("%s after %d nodes", state.status, report.metrics.completed)
'''
DIAGRAM = """\
treadle: 1
inputs: {text: {type: string, default: hey}}
nodes:
  a: {type: shout, text: hey}
"""


def test_a_run_has_its_plugins(treadle: Any) -> None:
    (treadle.folder / "plugins").mkdir()
    treadle.write(SHOUTING, "plugins/shouting.py")
    treadle.write('[plugins.StateLogger]\npath = "states.jsonl"\n', "treadle.toml")
    treadle.write(DIAGRAM)
    assert treadle.here("check", "diagram.yaml").stdout == "diagram.yaml: no faults\n"
    assert treadle.here("nodes", "shout").stdout.startswith("shout: Says something loudly.")
    assert '"shout"' in treadle.here("schema").stdout
    done = treadle("run", "diagram.yaml")
    assert (done.returncode, done.stdout) == (0, "HEY\n")
    assert "warning: plugin Shouting: completed after 1 nodes" in done.stderr
    lines = (treadle.folder / "states.jsonl").read_text().splitlines()
    assert len(lines) == 3 and '"to":"completed"' in lines[2]
    refused = treadle("run", "diagram.yaml", "-i", "text=quiet")
    assert (refused.returncode, refused.stderr) == (
        2, "treadle: plugin Shouting@1.0 refuses the start: nothing to shout\n")
    assert len(treadle.json("list")) == 1, "nothing was recorded of it"
    execution = treadle.json("list")[0]["execution_id"]
    assert "Shouting@1.0" in treadle.here("show", execution).stdout
    assert "inputs: none" in treadle.here("show", execution, "--node", "a").stdout


def test_the_logger_of_the_source_document_is_seen(treadle: Any) -> None:
    (treadle.folder / "plugins").mkdir()
    treadle.write('''
from treadle import StateHook

class StateLogger(StateHook):
    def post_node_execute(self, node_id, previous_state, current_state):
        if previous_state.status != current_state.status:
            self.logger.info(
                f"Node {node_id} transitioned: "
                f"{previous_state.status} → {current_state.status}"
            )
''', "plugins/state_logger.py")
    done = treadle("run", treadle.write("treadle: 1\nnodes: {a: {type: template_job, text: x}}\n"))
    assert done.returncode == 0, done.stderr
    assert "plugin StateLogger: Node a transitioned: pending → running" in done.stderr
    assert "plugin StateLogger: Node a transitioned: running → completed" in done.stderr


SLOW = '''
import time
from treadle import StateHook

class Slow(StateHook):
    version = "2.1"

    def post_node_execute(self, node_id, previous_state, current_state):
        if node_id == "b" and current_state.status == "completed":
            time.sleep(0.3)

    def post_state_finalize(self, state, report):
        print("the end of", state.execution_id)
'''


def test_slow_hooks_are_named_at_the_end_of_a_run_and_in_show(treadle: Any) -> None:
    (treadle.folder / "plugins").mkdir()
    treadle.write(SLOW, "plugins/slow.py")
    treadle.write("[limits]\nhook_ms_max = 250\n", "treadle.toml")
    treadle.write("treadle: 1\nnodes:\n  a: {type: start}\n  b: {type: template_job, text: x, needs: a}\n"
                  "  c: {type: code_job, code: 'return 1 / context', needs: b}\n")
    done = treadle("run", "diagram.yaml", "--execution-id", "x")
    line = "Slow@2.1 post_node_execute at node 'b': "
    assert done.returncode == 1
    assert f"warning: slow hook in execution x (hook_ms_max): {line}" in done.stderr
    assert "plugin: the end of x" in done.stderr.splitlines()
    shown = treadle("show", "x").stdout.splitlines()
    assert [one for one in shown if one.startswith(f"slow hook: {line}")] and "CONTEXT" not in "".join(shown)
    context = treadle.json("show", "x")["context"]
    assert context["plugins"] == {} and context["slow_hooks"][0]["node"] == "b"
    again = treadle("resume", "x", "--json")
    assert "the end of" not in again.stdout and "plugin: the end of x" in again.stderr
    assert treadle.json("diff", "x", "x")["same"] is True
    forked = treadle.json("fork", "x", "--from", "c", "--execution-id", "y")
    assert forked["slow_hooks"] == [] and treadle.json("show", "y")["context"]["slow_hooks"] == []
    assert treadle.json("show", "x")["context"]["slow_hooks"][0]["calls"] == context["slow_hooks"][0]["calls"]
