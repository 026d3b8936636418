"""code_job: functions, code in the diagram, bash; in the loop, a thread or a process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.policy import Policy
from treadle.engine.executor import RemoteError
from treadle.errors import BodyDied, NodeTimeout
from treadle.nodes.binding import Signature, plan
from treadle.state.envelope import Envelope, TextOutput

Perform = Any
Write = Callable[[str, str], Path]


@dataclass
class Size:
    lines: int


def double(size: Size) -> Size:
    return Size(size.lines * 2)


def where() -> tuple[bool, int]:
    return threading.current_thread() is threading.main_thread(), os.getpid()


# functions


def test_a_function_of_the_diagrams_folder(perform: Perform, write: Write) -> None:
    write("tasks.py", "from .helpers import tidy\n"
                      "def measure(path, limit=80):\n    return [tidy(path), limit]\n")
    write("helpers.py", "def tidy(text):\n    return text.strip()\n")
    before = list(sys.path)
    assert perform("code_job", {"path": " a "}, call="tasks:measure") == ["a", 80]
    assert perform("code_job", {"default": " b "}, call="tasks:measure", arguments={"limit": 3}) == ["b", 3]
    assert sys.path == before and "tasks" not in sys.modules
    assert not list(Path(perform.base).rglob("__pycache__"))


def test_two_folders_may_have_a_module_of_one_name(tmp_path: Path, perform: Perform, write: Write) -> None:
    write("tasks.py", "def f():\n    return 1\n")
    other = type(perform)(tmp_path / "other")
    write("other/tasks.py", "def f():\n    return 2\n")
    assert (perform("code_job", call="tasks:f"), other("code_job", call="tasks:f")) == (1, 2)


def test_a_file_that_changed_is_read_again_with_what_imports_it(perform: Perform, write: Write) -> None:
    write("tasks.py", "from .part import N\ndef f():\n    return N\n")
    for n in (1, 2, 3):  # as long as each other, and within one second
        path = write("part.py", f"N = {n}\n")
        os.utime(path, ns=(n, n))
        assert perform("code_job", call="tasks:f") == n


def test_an_installed_function(perform: Perform) -> None:
    assert perform("code_job", {"s": "[1]"}, call="json:loads") == [1]


@pytest.mark.parametrize(("call", "message"), [
    ("tasks.measure", "write it as 'module:function'"), ("tasks:mesure", "did you mean 'measure'"),
    ("taks:measure", r"no module 'taks' in .* did you mean 'tasks'"), ("broken:f", "ZeroDivisionError"),
    ("needs:f", r"No module named 'tasks'. .*from .tasks import"), ("tasks:N", "a int, not a function"),
    ("tasks:positional", "positional only"),
])
def test_what_is_wrong_with_a_call_is_said_when_it_is_checked(perform: Perform, write: Write, call: str,
                                                              message: str) -> None:
    write("tasks.py", "N = 1\ndef measure(): ...\ndef positional(a, /): ...\n")
    write("broken.py", "1 / 0\n")
    write("needs.py", "import tasks\n")
    with pytest.raises(ValueError, match=message):
        perform.ports("code_job", call=call)


def test_the_ports_of_a_function_are_its_parameters(perform: Perform, write: Write) -> None:
    write("tasks.py", "def a(x, y=1, *, context): ...\ndef b(x, **rest): ...\ndef c(inputs): ...\n")
    ports = perform.ports("code_job", call="tasks:a")
    assert (ports.inputs, ports.required) == (("x", "y"), ("x",))
    assert perform.ports("code_job", call="tasks:a", arguments={"x": 1}).required == ()
    assert perform.ports("code_job", call="tasks:b").inputs is None
    assert perform.ports("code_job", call="tasks:c").inputs is None
    with pytest.raises(ValueError, match="has no parameter 'z'"):
        perform.ports("code_job", call="tasks:a", arguments={"z": 1})


@pytest.mark.parametrize("properties", [
    {}, {"call": "a:b", "code": "1"}, {"call": "json:loads", "function": "x"}])
def test_exactly_one_place_of_the_code(perform: Perform, properties: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"say one of|belongs to `file`"):
        perform.ports("code_job", **properties)


def test_where_a_function_runs(perform: Perform) -> None:
    async def inside() -> tuple[bool, int]:
        return where()

    assert perform("code_job", calls=inside) == (True, os.getpid())
    assert perform("code_job", calls=where) == (False, os.getpid())
    assert perform("code_job", calls=where, isolation="inline") == (True, os.getpid())
    assert perform("code_job", calls=inside, isolation="thread") == (False, os.getpid())
    elsewhere = perform("code_job", calls=where, isolation="process")
    assert elsewhere[0] and elsewhere[1] != os.getpid()


def test_a_process_knows_the_classes_of_its_values(perform: Perform) -> None:
    """A test module is imported by its file, not by `sys.path`: so does the child."""
    assert perform("code_job", {"size": Size(3)}, calls=double, isolation="process") == Size(6)


def test_a_function_that_a_process_cannot_find(perform: Perform) -> None:
    with pytest.raises(ValueError, match="top level of its module"):
        perform("code_job", calls=lambda: 1, isolation="process")


def test_an_async_function_in_a_process(perform: Perform, write: Write) -> None:
    write("tasks.py", "import asyncio, os\nasync def f(context):\n    await asyncio.sleep(0)\n"
                      "    return [context.node_id, context.attempt, os.getpid()]\n")
    assert perform("code_job", call="tasks:f", isolation="process")[:2] == ["n", 2]


def test_a_function_of_a_file(perform: Perform, write: Write) -> None:
    write("jobs/work.py", "def go(a):\n    return a + 1\n")
    assert perform("code_job", {"a": 1}, file="jobs/work.py", function="go") == 2
    with pytest.raises(FileNotFoundError, match=r"no file 'jobs/wrk.py'"):
        perform.ports("code_job", file="jobs/wrk.py", function="go")


def test_envelopes_and_outputs_stand_as_they_are(perform: Perform) -> None:
    async def one() -> Envelope:
        return Envelope("x", "n", "variable", 1, {"k": 2})

    async def two() -> TextOutput:
        return TextOutput("hi", "n", {"k": 3})

    assert perform.envelope("code_job", calls=one) == Envelope("x", "n", "variable", 1, {"k": 2})
    assert perform.envelope("code_job", calls=two).get_output("k") == 3


# binding


def bound(function: Callable[..., Any], inputs: dict[str, Any], *, sources: dict[str, Any] | None = None,
          item: Any = None, is_map: bool = False, constants: dict[str, Any] | None = None) -> dict[str, Any]:
    class Context:
        def names(self, inputs: Any) -> dict[str, Any]:
            return {"nodes": sources or {}}

    context: Any = Context()
    context.item = item
    found = plan(Signature.of(function), constants, is_map=is_map)(context, inputs)
    return {name: "the context" if value is context else value for name, value in found.items()}


def test_how_inputs_reach_parameters() -> None:
    assert bound(lambda: 0, {"default": 1}) == {}
    assert bound(lambda x: 0, {"default": 1}) == {"x": 1}
    assert bound(lambda x: 0, {"x": 2, "default": 1}) == {"x": 2}
    assert bound(lambda x, y: 0, {"y": 2, "default": 1}) == {"x": 1, "y": 2}
    assert bound(lambda x=0: 0, {}) == {}
    assert bound(lambda a, b: 0, {"default": [1, 2]}, sources={"b": 2, "a": 1}) == {"a": 1, "b": 2}
    assert bound(lambda a, b=5: 0, {"default": 9}, sources={"z": 9}) == {"a": 9}
    assert bound(lambda x, context, inputs, **rest: 0, {"default": 1, "k": 2}) == {
        "x": 1, "context": "the context", "inputs": {"default": 1, "k": 2}, "k": 2}
    assert bound(lambda x, limit: 0, {"default": 1}, constants={"limit": 3}) == {"x": 1, "limit": 3}
    assert bound(lambda default: 0, {"default": 1}) == {"default": 1}


def test_how_an_item_reaches_a_parameter() -> None:
    assert bound(lambda path, limit=80: 0, {"default": ["all"]}, item="one", is_map=True) == {"path": "one"}
    assert bound(lambda path, item: 0, {"path": 1}, item="one", is_map=True) == {"path": 1, "item": "one"}
    assert bound(lambda inputs: 0, {"default": [1]}, item=1, is_map=True) == {"inputs": {"default": [1]}}


def test_what_is_missing_is_named() -> None:
    def f(a: int, b: int) -> None: ...

    with pytest.raises(TypeError, match=r"\.f needs 'b', but the node got 'a': label an arrow"):
        bound(f, {"a": 1})
    with pytest.raises(TypeError, match=r"needs 'x', but the node got no input"):
        bound(lambda x: 0, {})


# code in the diagram


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_code_has_its_inputs_as_names(perform_warm: Perform, isolation: str) -> None:
    def run(code: str, **inputs: Any) -> Any:
        return perform_warm("code_job", inputs, code=code, isolation=isolation, sources={"src": 7})

    assert run("result = {'n': st['n'] + 1}", st={"n": 1}) == {"n": 2}
    assert run("if x:\n    return x + src\nreturn None", x=1) == 8
    assert run("x = x + 1\nresult = [x for _ in range(2)]", x=1) == [2, 2]
    assert run("inputs['my-label'] * 2", **{"my-label": 2}) is None
    assert run("return inputs['my-label'] * 2", **{"my-label": 2}) == 4
    assert run("import asyncio\nawait asyncio.sleep(0)\nresult = default", default=3) == 3


def test_code_may_end_with_a_function(perform_warm: Perform) -> None:
    code = "def f(a, b, c=4):\n    return a * b * c"
    assert perform_warm("code_job", {"a": 2, "default": 3}, code=code) == 24
    assert perform_warm("code_job", {"a": 2}, code="async def f(a):\n    return a") == 2
    assert perform_warm("code_job", {"a": 2}, code="def f(a):\n    return a\nresult = 9") == 9


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_code_has_a_context_unless_something_else_has_the_name(
        perform_warm: Perform, isolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(code: str, inputs: Any = None, **more: Any) -> Any:
        return perform_warm("code_job", inputs or {}, code=code, isolation=isolation, **more)

    assert run("return [context.node_id, context.attempt]") == ["n", 2]
    assert run("async def f(context):\n    return context.attempt") == 2
    assert run("def f(default, context):\n    return [default, context.attempt]", {"default": 1}) == [1, 2]
    assert run("return context", {"context": "mine"}) == "mine"
    assert run("return context", sources={"context": "a node's"}) == "a node's"
    assert run("return context", arguments={"context": "constant"}) == "constant"
    assert run("context = 1\nreturn context") == 1


def test_code_in_a_map_sees_its_item(perform_warm: Perform) -> None:
    code = "return [item, index, default]"
    assert perform_warm("code_job", {"default": [5, 6]}, code=code, index=1, item=6) == [6, 1, [5, 6]]


def test_code_from_a_file_runs_in_a_process(perform: Perform, write: Write) -> None:
    write("job.py", "import os\nresult = [os.getpid(), x]\n")
    pid, x = perform("code_job", {"x": 1}, file="job.py")
    assert pid != os.getpid() and x == 1


def test_a_failure_shows_the_line_of_the_code(perform_warm: Perform) -> None:
    with pytest.raises(RemoteError) as caught:
        perform_warm("code_job", code="a = 1\nraise ValueError(f'boom {a}')")
    assert (caught.value.kind, caught.value.message) == ("ValueError", "boom 1")
    assert 'File "<code of node n>", line 2' in caught.value.trace
    assert "raise ValueError(f'boom {a}')" in caught.value.trace


@pytest.mark.parametrize(("code", "message"), [
    ("a = 1\nb = = 2", "syntax error in line 2"), ("\0", "can't be read|syntax error"),
    ("for x in y:\n    nonlocal z", "line 2")])
def test_a_syntax_error_is_found_when_it_is_checked(perform: Perform, code: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perform.ports("code_job", code=code)


def test_a_timeout_stops_code(perform: Perform) -> None:
    with pytest.raises(NodeTimeout):
        perform("code_job", code="while True: pass", policy=Policy(timeout=0.3))


def test_the_sources_of_a_node_change_with_its_code(perform: Perform, write: Write) -> None:
    write("tasks.py", "def f():\n    return 1\n")
    write("script.sh", "echo 1")
    assert perform.sources("code_job", code="return 1") == ["return 1"]
    assert perform.sources("code_job", file="script.sh", language="bash") == ["echo 1"]
    one = perform.sources("code_job", call="tasks:f")
    write("tasks.py", "def f():\n    return 22\n")
    assert perform.sources("code_job", call="tasks:f") != one


# bash


def bash(perform: Perform, code: str, **inputs: Any) -> Any:
    return perform("code_job", inputs, code=code, language="bash")


def test_bash_prints_its_result(perform: Perform, tmp_path: Path) -> None:
    assert bash(perform, 'echo "$INPUT_who"; pwd', who="Ann") == f"Ann\n{tmp_path.resolve()}"
    assert bash(perform, 'echo -n "$INPUT_a_b"', **{"a-b": {"n": [1]}}) == '{"n": [1]}'
    assert bash(perform, "true") == ""
    assert bash(perform, "echo hint >&2; echo x; cat") == "x"


@pytest.mark.parametrize(("code", "message"), [
    ("echo first >&2; echo why >&2; exit 3", "exit code 3: first\nwhy"), ("kill -TERM $$", "signal SIGTERM"),
    ("no_such_command", "exit code 127: .*no_such_command")])
def test_a_script_that_fails(perform: Perform, code: str, message: str) -> None:
    with pytest.raises(BodyDied, match=message):
        bash(perform, code)


def test_a_script_ends_with_what_it_left_running(perform: Perform) -> None:
    assert bash(perform, "sleep 30 & echo $!").isdigit()
    assert perform.seconds < 5
    assert bash(perform, "sleep 0.01 & wait; echo done") == "done"


def test_an_input_of_any_size_is_a_file(perform: Perform) -> None:
    large = {"big": "x" * 3_000_000, "rows": [1] * 100_000, "nul": "a\0b", "small": "é"}
    code = """
    for name in big rows nul small; do file=INPUT_${name}_FILE; wc -c < "${!file}"; done
    cat "$INPUT_small_FILE"; cat "$INPUT_small_FILE"; echo "$INPUT_small"
    compgen -e INPUT_ | sort | tr '\\n' ' '
    """
    assert bash(perform, code, **large).splitlines() == [
        "3000000", "300000", "3", "2", "ééé",
        "INPUT_big_FILE INPUT_nul_FILE INPUT_rows_FILE INPUT_small INPUT_small_FILE "]


def test_many_inputs_and_a_long_script_fit(perform: Perform) -> None:
    code = f"# {'x' * 200_000}\nset -- $(compgen -e INPUT_ | grep -v FILE); echo $#\n"
    assert bash(perform, code, **{f"n{i}": "x" * 60_000 for i in range(40)}) == "8"  # 512 KB of them


def test_what_bash_cannot_be_given(perform: Perform) -> None:
    with pytest.raises(ValueError, match=r'input \'big\' is too large .* write "\$INPUT_big_FILE"'):
        bash(perform, 'echo "$INPUT_big"', big="x" * 200_000)
    with pytest.raises(ValueError, match=r"input 'odd' can't be handed to a program: .* surrogate"):
        bash(perform, "true", odd="\ud800")
    with pytest.raises(ValueError, match="would both be"):
        bash(perform, "true", **{"a-b": 1, "a_b": 2})
    with pytest.raises(ValueError, match="not UTF-8"):
        bash(perform, r"printf '\xff'")
    with pytest.raises(ValueError, match="bash takes"):
        perform.ports("code_job", code="true", language="bash", isolation="thread")
