"""Plugins are found, put in order and set up; every mistake says what, where and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from treadle.errors import InvalidInput, PluginError
from treadle.hooks.finding.discovery import find
from treadle.hooks.manager import PluginManager
from treadle.hooks.sdk import StateHook

Write = Callable[[str, str], Path]

PLUGIN = """\
from treadle import StateHook

class {name}(StateHook):
    version = "{version}"
    requires = {requires!r}

    def post_node_execute(self, node_id):
        pass
"""


def plugin(name: str, version: str = "1.0", *requires: str) -> str:
    return PLUGIN.format(name=name, version=version, requires=requires)


def test_files_of_the_folder_plugins_beside_the_diagram_are_found(folder: Path, write: Write) -> None:
    write("flows/plugins/logger.py", plugin("Logger", "1.4.0"))
    write("flows/plugins/_helper.py", "treadle = 1 / 0")
    write("flows/plugins/marked.py", "from treadle import hookimpl\n__version__ = '3.1'\n"
                                     "@hookimpl\ndef post_node_execute(node_id): pass\n")
    write("plugins/far.py", plugin("Far"))
    assert PluginManager.discover(folder / "flows").active == ["Logger@1.4.0", "marked@3.1"]
    assert PluginManager.discover().active == ["Far@1.0"]
    assert PluginManager.discover(folder / "elsewhere").active == ["Far@1.0"], "else the working folder's"


def test_modules_that_know_nothing_of_treadle_are_not_imported(write: Write) -> None:
    write("plugins/foreign.py", "raise SystemExit('not for you')")
    write("plugins/helper.py", "import treadle")
    manager = PluginManager.discover()
    assert not manager
    assert manager.notes == ("plugins/helper.py: there is no plugin in it: it has neither a subclass of "
                             "StateHook nor a function marked @hookimpl",)


def test_a_plugin_may_import_its_neighbours_and_is_loaded_anew_when_it_changes(write: Write) -> None:
    write("plugins/_tools.py", "VERSION = '5.0'")
    write("plugins/one.py", "from treadle import StateHook\nfrom ._tools import VERSION\n"
                            "class One(StateHook):\n    version = VERSION\n")
    first, again = PluginManager.discover().plugins[0], PluginManager.discover().plugins[0]
    assert str(first) == "One@5.0"
    assert type(first.target) is type(again.target) and first.target is not again.target
    write("plugins/one.py", plugin("One", "6.0"))
    assert PluginManager.discover().active == ["One@6.0"]


def test_installed_plugins_are_found_by_their_entry_points(
        folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    site = folder / "site"
    write("site/acme_hooks.py", "from treadle import StateHook\nclass Acme(StateHook): pass\n"
                                "class _Base(StateHook): pass\n")
    write("site/acme-1.3.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.3\n")
    points = write("site/acme-1.3.dist-info/entry_points.txt",
                   "[treadle.plugins]\none = acme_hooks:Acme\n")
    monkeypatch.syspath_prepend(site)
    found = PluginManager.discover()
    assert found.active == ["Acme@1.3"] and found.plugins[0].origin == "acme 1.3"
    assert PluginManager.discover(entry_points=False).active == []
    points.write_text("[treadle.plugins]\none = acme_hooks:Acem\ntwo = acme_hooks\n")
    with pytest.raises(PluginError, match=r"^acme 1\.3: entry point one = acme_hooks:Acem: .*AttributeError"):
        PluginManager.discover()
    write("treadle.toml", "[plugins.one]\nenabled = false\n")
    assert PluginManager.discover().active == ["Acme@1.3"], "by the entry point two, a module"
    points.write_text("[treadle.plugins]\none = os.path:join\n")
    write("treadle.toml", "")
    with pytest.raises(PluginError, match=r"acme 1\.3: entry point one: .* is no plugin: it must be a subcl"):
        PluginManager.discover()


def test_plugins_stand_after_those_that_they_require(write: Write) -> None:
    write("plugins/a.py", plugin("Notifier", "3.2.1", "DataValidator>=1.2,<2", "Logger"))
    write("plugins/b.py", plugin("Logger", "0.9"))
    write("plugins/c.py", plugin("DataValidator", "1.4.0", "Logger>=0.5"))
    manager = PluginManager.discover()
    assert manager.active == ["Logger@0.9", "DataValidator@1.4.0", "Notifier@3.2.1"]
    assert [one.plugin for one in manager.times] == manager.active, "and their hooks are called so"


def test_first_and_last_may_be_asked_for(write: Write) -> None:
    for name, mark in (("a", "trylast=True"), ("b", ""), ("c", "tryfirst=True")):
        write(f"plugins/{name}.py", f"from treadle import hookimpl\n@hookimpl({mark})\n"
                                    "def post_node_execute(node_id): pass\n")
    assert [one.plugin for one in PluginManager.discover().times] == ["c@0", "b@0", "a@0"]


REQUIRED = {
    "a missing one": (
        {"a": plugin("A", "1.0", "Othre")}, {"b": plugin("Other")},
        r"plugin A@1\.0 \(plugins/a\.py\) requires 'Othre', and there is no plugin 'Othre': "
        r"did you mean 'Other'\?"),
    "an incompatible one": (
        {"a": plugin("A", "1.0", "B>=1.2,<2")}, {"b": plugin("B", "2.0.1")},
        r"plugin A@1\.0 \(plugins/a\.py\) requires 'B>=1\.2,<2', but B is 2\.0\.1 \(plugins/b\.py\)"),
    "a circle": (
        {"a": plugin("A", "1.0", "B")}, {"b": plugin("B", "1.0", "A")},
        r"plugins require each other in a circle: (A → B → A|B → A → B); one of them must not"),
    "two of one name": (
        {"a": plugin("A")}, {"b": plugin("A", "2.0")},
        r"two plugins have the name 'A': plugins/a\.py and plugins/b\.py: give one of them another `name`"),
    "nonsense": (
        {"a": plugin("A", "1.0", "B >> 3")}, {"b": plugin("B")},
        r"requires 'B >> 3', which can't be read: .*write it as 'Other>=1\.2,<2'"),
    "an extra": (
        {"a": plugin("A", "1.0", "B[x]")}, {"b": plugin("B")}, r"only a name and versions mean something"),
}


@pytest.mark.parametrize("case", REQUIRED)
def test_what_is_wrong_with_requirements_is_said(write: Write, case: str) -> None:
    one, other, said = REQUIRED[case]
    for name, text in (one | other).items():
        write(f"plugins/{name}.py", text)
    with pytest.raises(PluginError, match=said):
        PluginManager.discover()


HEAD = "from treadle import StateHook, hookimpl\n\n"
FAULTY = {
    "an import that fails": (
        "import treadle\nimport nonsense_of_mine\n",
        r"^plugins/p\.py:2: ModuleNotFoundError: No module named 'nonsense_of_mine'$"),
    "a syntax error": ("import treadle\nclass A(:\n", r"^plugins/p\.py:2: SyntaxError: invalid syntax$"),
    "an exit": ("import treadle, sys\nsys.exit(3)\n", r"^plugins/p\.py:2: SystemExit: 3$"),
    "a misspelt hook": (
        HEAD + "class A(StateHook):\n    def post_node_exectue(self, node_id): pass\n",
        r"plugins/p\.py:4: A\.post_node_exectue: there is no hook of that name: "
        r"did you mean 'post_node_execute'\?"),
    "a misspelt hook without its prefix": (
        HEAD + "class A(StateHook):\n    def pots_node_execute(self, node_id): pass\n",
        r"did you mean 'post_node_execute'\?"),
    "an argument that the hook lacks": (
        HEAD + "class A(StateHook):\n    def post_node_execute(self, node_id, previous): pass\n",
        r"plugins/p\.py:4: A\.post_node_execute has an argument 'previous' that the hook lacks: "
        r"did you mean 'previous_state'\? \(it gets node_id, previous_state, current_state\)"),
    "arguments in a lump": (
        HEAD + "class A(StateHook):\n    def post_node_execute(self, *args): pass\n",
        r"write its arguments one by one, without `\*`: it gets node_id"),
    "an argument with a default": (
        HEAD + "class A(StateHook):\n    def post_node_execute(self, node_id=None): pass\n",
        r"its argument 'node_id' must have no default"),
    "a hook that must not wait": (
        HEAD + "class A(StateHook):\n    async def pre_state_mutation(self, transaction): pass\n",
        r"A\.pre_state_mutation can't be async: only post_node_execute and post_state_finalize can"),
    "a hook that yields": (
        HEAD + "class A(StateHook):\n    def post_node_execute(self, node_id):\n        yield\n",
        r"must not `yield`"),
    "a hook that is no function": (
        HEAD + "class A(StateHook):\n    post_node_execute = 3\n", r"is a int, not a function"),
    "a wrapper": (
        "import pluggy\nimport treadle\n@pluggy.HookimplMarker('treadle')(wrapper=True)\n"
        "def post_node_execute(): pass\n", r"can't be wrapped around others"),
    "a function that isn't marked": (
        HEAD + "def post_node_execute(node_id): pass\n",
        r"plugins/p\.py:3: post_node_execute isn't marked as a hook: write @hookimpl above it"),
    "a marked function that is no hook": (
        HEAD + "@hookimpl\ndef on_start(): pass\n", r"there is no hook of that name: there is pre_state_"),
    "a name that can't be one": (
        HEAD + "class A(StateHook):\n    name = 'my plugin'\n", r"a plugin's `name` has letters, digits"),
    "a version that is none": (
        HEAD + "class A(StateHook):\n    version = 'one'\n",
        r"plugins/p\.py: A: its version 'one' is none: write numbers with dots, '1\.4\.0', and what else"),
    "a module's version that is none": (
        HEAD + "__version__ = 'v.x'\n@hookimpl\ndef post_node_execute(): pass\n",
        r"plugins/p\.py: p: its version 'v\.x' is none"),
    "a version that is a number": (
        HEAD + "class A(StateHook):\n    version = 1.10\n", r"A: `version` must be a text: version = '1\.1'"),
    "a method without `self`": (
        HEAD + "class A(StateHook):\n    def post_node_execute(node_id, previous_state): pass\n",
        r"plugins/p\.py:4: A\.post_node_execute: its first argument must be `self`"),
    "a method without any argument": (
        HEAD + "class A(StateHook):\n    def post_node_execute(): pass\n", "first argument must be `self`"),
    "a plugin that requires itself": (
        HEAD + "class A(StateHook):\n    requires = ('A',)\n", r"each other in a circle: A → A; "),
    "our own name": (
        HEAD + "class A(StateHook):\n    name = 'treadle'\n", r"A: no plugin can have the name 'treadle': "),
    "a misspelt `requires`": (
        HEAD + "class A(StateHook):\n    require = ('B',)\n",
        r"plugins/p\.py: A\.require: did you mean 'requires'\? \(If it is something of your own, call it _"),
    "a misspelt `version`": (
        HEAD + "class A(StateHook):\n    verison = '1.0'\n", r"A\.verison: did you mean 'version'\?"),
    "requirements that are a set": (
        HEAD + "class A(StateHook):\n    requires = {'B'}\n", r"`requires` must be a tuple of texts"),
    "requirements that are a number": (
        HEAD + "class A(StateHook):\n    requires = 3\n", r"`requires` must be a tuple of texts"),
    "a requirement that is one text": (
        HEAD + "class A(StateHook):\n    requires = 'B>=1'\n", r"`requires` must be a tuple of texts"),
    "an `__init__` that raises": (
        HEAD + "class A(StateHook):\n    def __init__(self):\n        {}['x']\n",
        r"plugins/p\.py: A: plugins/p\.py:5: KeyError: 'x'"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_what_is_wrong_with_a_plugin_is_said_with_its_line(write: Write, case: str) -> None:
    text, said = FAULTY[case]
    write("plugins/p.py", text)
    with pytest.raises(PluginError, match=said):
        PluginManager.discover()


def test_a_plugin_that_prints_when_it_is_loaded_and_made_spoils_no_result(
        write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("plugins/loud.py", HEAD + "print('loaded')\nclass Loud(StateHook):\n    def __init__(self):\n"
                                    "        print('made')\n    def treadle_commands(self):\n"
                                    "        print('asked')\n        return []\n")
    assert PluginManager.discover().commands() == {}
    assert capsys.readouterr() == ("", "loaded\nmade\nasked\n")


def test_all_that_is_wrong_is_said_at_once(write: Write) -> None:
    write("plugins/a.py", "import treadle\n1 / 0\n")
    write("plugins/b.py", plugin("B", "1.0", "C"))
    write("plugins/not-a-name.py", "import treadle")
    with pytest.raises(PluginError) as raised:
        PluginManager.discover()
    lines = str(raised.value).splitlines()
    assert len(lines) == 3 and lines[0] == "plugins/a.py:2: ZeroDivisionError: division by zero"
    assert lines[1] == "plugins/not-a-name.py: its name must be an identifier that ends in .py"


SETTINGS = HEAD + """\
class Mailer(StateHook):
    def __init__(self, to: str, *, tries: int = 3, on: tuple[str, ...] = ()):
        self.to, self.tries, self.on = to, tries, on
"""


def test_settings_are_the_arguments_of_init(folder: Path, write: Write) -> None:
    write("flows/plugins/mailer.py", SETTINGS)
    write("treadle.toml", '[plugins.Mailer]\nto = "ann"\non = ["a", "b"]\nenabled = true\n')
    made = PluginManager.discover(folder / "flows").plugins[0].target
    assert (made.to, made.tries, made.on) == ("ann", 3, ("a", "b"))
    assert made.folder == folder, "paths of settings begin where treadle.toml is"
    write("treadle.toml", '[plugins.Mailer]\nenabled = false\n')
    assert PluginManager.discover(folder / "flows").active == []
    assert [one.enabled for one in find(folder / "flows").plugins] == [False]


@pytest.mark.parametrize(("text", "said"), [
    ("", r"plugins/mailer\.py: Mailer: the setting `to` is missing: write it into treadle\.toml"),
    ("[plugins.Mailer]\nto = 3", r"treadle\.toml: \[plugins\.Mailer\] to = 3: Expected `str`, got `int`"),
    ("[plugins.Mailer]\nto = 'a'\nretries = 3",
     r"treadle\.toml: \[plugins\.Mailer\] unknown setting `retries`: did you mean 'tries'\?"),
    ("[plugins.Mailr]\nto = 'a'", r"\[plugins\.Mailr\]: there is no plugin of that name: did you mean 'Mail"),
])
def test_settings_that_do_not_fit_are_named_with_the_file(write: Write, text: str, said: str) -> None:
    write("plugins/mailer.py", SETTINGS)
    write("treadle.toml", text)
    with pytest.raises(PluginError, match=said):
        PluginManager.discover()


@pytest.mark.parametrize(("text", "said"), [
    ("[plugin.A]\nx = 1", r"unknown key `plugin`: did you mean 'plugins'\?"),
    ("plugins = 3", r"\[plugins\.NAME\] must be a table of settings"),
    ("[plugins]\nStateLogger = 'x'", r"\[plugins\.StateLogger\] must be a table of settings"),
    ("[plugins.StateLogger]\nenabled = 'no'", r"enabled = 'no': it must be true or false"),
])
def test_a_treadle_toml_that_cannot_be_used_is_said(write: Write, text: str, said: str) -> None:
    write("treadle.toml", text)
    with pytest.raises(InvalidInput, match=said):
        PluginManager.discover()


def test_marked_functions_take_no_settings(write: Write) -> None:
    write("plugins/m.py", HEAD + "@hookimpl\ndef post_node_execute(): pass\n")
    write("treadle.toml", "[plugins.m]\nx = 1\n")
    with pytest.raises(PluginError, match=r"\[plugins\.m\]: this plugin takes no settings"):
        PluginManager.discover()


def test_a_shipped_plugin_is_active_where_treadle_toml_has_a_table_for_it(folder: Path, write: Write) -> None:
    write("treadle.toml", "[plugins.StateLogger]\n")
    assert [one.name for one in PluginManager.discover().plugins] == ["StateLogger"]
    write("plugins/own.py", plugin("StateLogger", "7.0"))
    assert PluginManager.discover().active == ["StateLogger@7.0"], "one's own goes before it"


def test_what_is_no_plugin_is_refused_when_it_is_registered() -> None:
    manager = PluginManager()
    with pytest.raises(PluginError, match=r"registered: 3 is no plugin: it must be a subclass of StateHook"):
        manager.register(3)
    for base in (StateHook, StateHook()):
        with pytest.raises(PluginError, match=r"StateHook.* itself, which has no hooks, is no plugin"):
            PluginManager([base])
    for lone in (StateHook, StateHook(), "Logger", 3):
        with pytest.raises(PluginError, match=r"^plugins=.*: put it into a list: plugins=\[…\]"):
            PluginManager(lone)  # type: ignore[arg-type]

    class Twice(StateHook):
        version = "1.0"

    manager.register(Twice())
    with pytest.raises(PluginError, match="two plugins have the name 'Twice'"):
        manager.register(Twice)
    assert manager.active == ["Twice@1.0"]


def test_looking_for_nothing_imports_no_library_of_plugins(folder: Path) -> None:
    import subprocess
    import sys

    script = ("import sys; from treadle import PluginManager; assert not PluginManager.discover(); "
              "print([m for m in ('pluggy', 'packaging', 'importlib.metadata') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_that_are_too_large_or_too_many_are_said(
        write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("plugins/a.py", plugin("A"))
    write("plugins/b.py", plugin("B"))
    monkeypatch.setattr("treadle.hooks.finding.loading.BYTES_MAX", 10)
    with pytest.raises(PluginError, match=r"plugins/a\.py: it has more than BYTES_MAX=10 bytes"):
        PluginManager.discover()
    monkeypatch.setattr("treadle.hooks.finding.discovery.FILES_MAX", 1)
    with pytest.raises(PluginError, match=r"plugins: it has 2 files: the limit FILES_MAX is 1"):
        PluginManager.discover()
