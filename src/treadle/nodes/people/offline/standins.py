"""What stands in for providers while an engine is open: scripts for persons, recordings of models' calls.

A script file is YAML or JSON, `{person: [answers]}` or `{person: "module:function"}`, or Python, with a list
or a function for each person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.diagram import ExecutableDiagram
from treadle.diagram.formats import load, read_text
from treadle.diagram.formats.json_text import read_json
from treadle.diagram.formats.tree import TreeBuilder, Unreadable, Value
from treadle.diagram.formats.yaml_text import read_yaml
from treadle.errors import Fault, InvalidDiagram, InvalidInput, Where, did_you_mean
from treadle.nodes.modules import load_function, load_module
from treadle.nodes.people.offline.recordings import Recordings

inner: ContextVar[bool] = ContextVar("treadle_inner", default=False)
"""Whether the diagram that is started is run by a body: the scripts are for the one around it, too."""
Answers = Sequence[Any] | Callable[..., Any]
Scripts = Mapping[str, Any] | str | Path
"""What persons say by name (`Answers`), or the path of a file with that."""


class ScriptEnded(InvalidInput):
    """A person is asked more often than its script has answers."""

    retryable = False


class Script(msgspec.Struct, frozen=True):
    """What a person says: answers in order, or a function that makes each."""

    person: str
    answers: Answers
    where: Where = Where()
    """Where it stands, if that is a file."""

    def answer(self, number: int) -> Any:
        """The answer with a number from 0, of a list. InvalidInput if it has fewer."""
        assert not callable(self.answers)
        if number < len(self.answers):
            return self.answers[number]
        script = f"the script {self.where}" if str(self.where) else "its script"
        have = f"{len(self.answers)} answer" + ("" if len(self.answers) == 1 else "s")
        raise ScriptEnded(f"person {self.person!r} is asked for the {_ordinal(number + 1)} time, and "
                          f"{script} has {have}: add one, or see why it is asked so often")


class StandIns(msgspec.Struct, frozen=True):
    """What an engine uses in place of providers. `scripts` go before the models of their persons. `record` is
    a folder for the calls of models, `replay` one that they are read from. `offline`: who has no script must
    not be asked."""

    scripts: Mapping[str, Script] = {}
    record: Path | None = None
    replay: Path | None = None
    offline: bool = False
    recordings: Recordings | None = None

    def __bool__(self) -> bool:
        return bool(self.scripts or self.record or self.replay or self.offline)

    def script_of(self, person: str) -> Script | None:
        """The script of a person; one in Python may stand under its name without what can't be in one."""
        return self.scripts.get(person) or self.scripts.get(_word(person))

    def check(self, diagram: ExecutableDiagram) -> None:
        """InvalidInput for a script of nobody."""
        if not self.scripts or inner.get():
            return
        known = set(persons_of(diagram))
        words = {_word(name) for name in known}
        for name, script in self.scripts.items():
            if name not in known and name not in words:
                there = did_you_mean(name, known) or (
                    f"there is {', '.join(sorted(known))}" if known else "it has no persons")
                place = f"{script.where}: " if str(script.where) else ""
                raise InvalidInput(f"{place}there is a script of {name!r}, and diagram {diagram.name!r} has "
                                   f"no such person: {there}")


def standins(script: Scripts | None = None, record: str | Path | None = None,
             replay: str | Path | None = None, *, offline: bool = False) -> StandIns:
    """What an engine's options say; a script may be the path of its file. InvalidInput for what fits nowhere,
    InvalidDiagram for a file with faults, OSError."""
    if record is not None and replay is not None:
        raise InvalidInput("record and replay exclude each other: record calls first, then replay them")
    if replay is not None and not Path(replay).is_dir():
        raise InvalidInput(f"replay: there is no folder {str(replay)!r}; make one with --record")
    scripts = {}
    given = read_script(script) if isinstance(script, str | Path) else script or {}
    for name, answers in given.items():
        if isinstance(answers, Script):
            scripts[name] = answers
        elif callable(answers) or (isinstance(answers, Sequence) and not isinstance(answers, str)):
            scripts[name] = Script(name, answers)
        else:
            raise InvalidInput(f"the script of person {name!r} must be a list of answers or a function, not "
                               f"{type(answers).__name__}")
    folder = record if record is not None else replay
    if record is not None:
        Path(record).mkdir(parents=True, exist_ok=True)
    return StandIns(scripts, None if record is None else Path(record).absolute(),
                    None if replay is None else Path(replay).absolute(), offline,
                    None if folder is None else Recordings(Path(folder).absolute()))


def persons_of(diagram: ExecutableDiagram) -> Iterator[str]:
    """The names of the persons in a diagram, in those inside it and in those that its persons may run."""
    yield from diagram.spec.persons
    for node in diagram.nodes:
        if node.person is not None:  # one that is said in place has the name of its node
            yield node.person.name
        if node.child is not None:
            yield from persons_of(node.child)
        yield from _in_tools(getattr(node.spec, "tools", ()), node.base, ())


def _in_tools(tools: Any, base: str, around: tuple[Path, ...]) -> Iterator[str]:
    for item in tools if isinstance(tools, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("diagram"), str):
            path = (Path(base) / item["diagram"]).resolve()
            if path not in around and path.is_file():
                spec = load(path)
                yield from spec.persons
                for node in spec.nodes:
                    yield from _in_tools(node.properties.get("tools"), spec.base, (*around, path))


def read_script(path: str | Path, *, config: TreadleConfig = DEFAULT_CONFIG) -> dict[str, Script]:
    """Read a script file. InvalidDiagram with its faults, InvalidInput, OSError."""
    path = Path(path)
    if path.suffix == ".py":
        return _functions(path)
    root, faults = read_values(path, config=config)
    scripts = scripts_of(root, faults)
    if faults:
        raise InvalidDiagram(faults)
    return scripts


def read_values(path: Path, *, config: TreadleConfig = DEFAULT_CONFIG) -> tuple[Value, list[Fault]]:
    """A YAML or JSON file as values with their places. InvalidDiagram if it can't be read; OSError."""
    faults: list[Fault] = []
    builder = TreeBuilder(config, faults)
    text = read_text(path, config=config)
    try:
        (read_json if path.suffix.lower() == ".json" else read_yaml)(text, str(path), builder)
    except Unreadable as error:
        raise InvalidDiagram([*faults, error.fault]) from None
    return builder.root or Value(None, Where(str(path), 1)), faults


def scripts_of(root: Value, faults: list[Fault]) -> dict[str, Script]:
    """`{person: [answers]}` of a file, or `{person: module:function}`, relative to its folder; what is wrong
    is added to the faults."""
    if not isinstance(root.data, dict):
        faults.append(Fault("a script is a map of persons to lists of answers", where=root.where))
        return {}
    found = {}
    for name, value in root.data.items():
        if isinstance(value.data, list):
            found[name] = Script(name, [one.plain() for one in value.data], root.keys[name])
            continue
        try:
            if not isinstance(value.data, str) or ":" not in value.data:
                raise ValueError("it must be a list of answers, or module:function")
            found[name] = Script(name, load_function(value.data, str(Path(value.where.file).parent)),
                                 root.keys[name])
        except ValueError as error:
            faults.append(Fault(f"the script of person {name!r}: {error}", where=value.where))
    return found


def _functions(path: Path) -> dict[str, Script]:
    """The functions and lists of a Python file that it defines under public names."""
    if not path.is_file():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    if not path.stem.isidentifier():
        raise InvalidInput(f"{path} can't be imported: its name must be an identifier that ends in .py")
    try:
        module = load_module(path.stem, str(path.parent))
    except ValueError as error:
        raise InvalidInput(f"{path}: {error}") from error
    found = {}
    for name, value in vars(module).items():
        own = isinstance(value, list) or (
            callable(value) and getattr(value, "__module__", None) == module.__name__)
        if own and not name.startswith("_") and not isinstance(value, type):
            code = getattr(value, "__code__", None)
            found[name] = Script(name, value, Where(str(path), getattr(code, "co_firstlineno", 0)))
    return found


def _word(name: str) -> str:
    """A person's name as Python would have it: Dr_Who for Dr. Who."""
    return re.sub(r"\W+", "_", name)


def _ordinal(number: int) -> str:
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ends.get(number % 10, 'th')}"
