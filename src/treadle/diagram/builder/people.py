"""Persons in diagrams that are drawn in Python: calling one draws a node in which it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from treadle.diagram.builder.drawing import Diagram, _condition, _open
from treadle.diagram.builder.handles import Choice, Given, Output, Source, caller, invalid
from treadle.diagram.formats.persons import as_persons
from treadle.diagram.person import Person, Settings

_MAIN = "__main__"


class Someone:
    """A person that can be asked while drawing."""

    def __init__(self, name: str, definition: Person) -> None:
        self.name, self.definition = name, definition

    def __call__(self, prompt: str | None = None, /, *needs: Source, id: str | None = None,
                 **properties: Any) -> Output[Any]:
        """Draw a `person_job`. `needs` are its unlabelled inputs; outputs by name are names in the prompt,
        and everything else is a property of the node (`output`, `tools`, `memory`, `timeout` …). An `output`
        may be a pydantic model, and a tool a function of a module."""
        diagram = _open(self.name)
        self._joins(diagram)
        if prompt is not None:
            properties["prompt"] = prompt
        if "output" in properties:
            properties["output"] = _output(properties["output"])
        if "tools" in properties:
            properties["tools"] = [_tool(one) for one in properties["tools"]]
        drawn: Output[Any] = diagram.add(id or self.name, "person_job", needs=needs, person=self.name,
                                         **properties)
        if not {"output", "returns", "for_each", "asks_max"} & set(properties):
            drawn.kind = str
        return drawn

    def map(self, over: Output[Iterable[Any]] | Given[Iterable[Any]] | str | Iterable[Any],
            prompt: str | None = None, /, *needs: Source, id: str | None = None,
            **properties: Any) -> Output[Any]:
        """Ask for each item of a list, which is `item` in the prompt; the result is the list of answers."""
        if isinstance(over, Output):
            needs = (over, *needs)
        drawn = self(prompt, *needs, id=id, for_each=_open(self.name)._over(over), **properties)
        drawn.kind = list[Any] if "output" in properties else list[str]
        return drawn

    def decides(self, question: str, choices: Sequence[str] = (), /, *, memory: str = "none",
                **inputs: Output[Any] | Given[Any]) -> Choice:
        """Draw a condition that this person decides: `.true` and `.false`, or `.case(choice)`."""
        self._joins(_open(self.name))
        said: Any = {"person": self.name, "question": question}
        if memory != "none":
            said["memory"] = memory
        if choices:
            said["choices"] = list(choices)
        return _condition("llm", said, inputs, tuple(choices) or ("true", "false"), {})

    def _joins(self, diagram: Diagram) -> None:
        if diagram.persons.setdefault(self.name, self.definition) != self.definition:
            raise invalid(f"the diagram {diagram.name!r} has another person {self.name!r} already",
                          "give one of them another name")

    def __repr__(self) -> str:
        return f"<person {self.name}>"


def person(name: str, /, model: str = "", *, system_prompt: str = "", prompt_file: str | None = None,
           base_url: str | None = None, api_key: str | None = None, memory: str = "own",
           settings: Settings | Mapping[str, Any] | None = None,
           script: Sequence[Any] | str | None = None) -> Someone:
    """A person to ask in diagrams that are drawn; see `treadle.diagram.person.Person`.

        ann = person("Ann", "openai:gpt-5-mini", system_prompt="You are a poet.")

        with Diagram("poem") as diagram:
            line = ann("A line about {{ topic }}.", topic=diagram.input("topic", str))
            shorter = ann("Make it shorter.", line)
            with ann.decides("Can this be printed? {{ text }}", text=shorter).true as text:
                diagram.result(text)
    """
    said: dict[str, Any] = {
        "model": model, "system_prompt": system_prompt, "prompt_file": prompt_file, "base_url": base_url,
        "api_key": api_key, "memory": memory,
        "settings": msgspec.to_builtins(settings) if isinstance(settings, Settings) else settings,
        "script": script if isinstance(script, str) or script is None else list(script)}
    found = as_persons({name: {key: value for key, value in said.items() if value not in ("", None)}},
                       caller())
    return Someone(name, found[name])


def _output(said: Any) -> Any:
    """A class as `module:Model`; one that only the program itself has as its JSON schema."""
    if not isinstance(said, type):
        return said
    if not hasattr(said, "model_json_schema"):
        raise invalid(f"output: {said.__name__} is no pydantic model",
                      "write a class that derives from pydantic.BaseModel, or a JSON schema")
    if said.__module__ == _MAIN or "<" in said.__qualname__:
        return said.model_json_schema()
    return f"{said.__module__}:{said.__qualname__}"


def _tool(said: Any) -> Any:
    """A function as `module:function`, also as the `call` of a map."""
    if isinstance(said, Mapping):
        return {key: _tool(value) if key == "call" else value for key, value in said.items()}
    function: Callable[..., Any] | None = getattr(said, "function", said if callable(said) else None)
    if function is None or isinstance(said, str):
        return said
    name = getattr(function, "__qualname__", "<none>")
    if function.__module__ == _MAIN or "<" in name:
        raise invalid(f"tools: {name} can't be found again when the execution is resumed",
                      "put it at the top of a module of its own")
    return f"{function.__module__}:{name}"
