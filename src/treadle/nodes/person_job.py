"""`person_job`: asks a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from treadle.config import DEFAULT_CONFIG
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.expression import to_json
from treadle.diagram.fingerprint import source_of
from treadle.diagram.node import Node
from treadle.diagram.person import Defined, Person, Settings, read_memory
from treadle.diagram.types import Doubt, PersonName, Ports, Template
from treadle.errors import InvalidInput
from treadle.nodes.base import BodyContext, NodeKind, Suspend, bare
from treadle.nodes.people.messages import (
    Answered,
    Message,
    Picture,
    Said,
    is_conversation,
    messages_of,
    plain,
)
from treadle.nodes.people.output import Output, output_of
from treadle.nodes.template_job import load_template, template_texts
from treadle.state.envelope import Envelope, infer

if TYPE_CHECKING:  # below, what a person needs is imported when one is asked
    from treadle.nodes.people.asking import Asking

_REPAIR = """Your answer can't be used: {problem}. Answer again, with nothing but JSON that fits this schema:

{schema}"""


class PersonJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks a person, and gives the answer: a text, or with `output` an object. What the person remembers goes
    before the prompt: see [people](people.md). It needs `pip install treadle[llm]`, except for persons whose
    `model` is `script`.

    Without `retries` a person that could not be asked (a rate limit, a server's error, a broken connection)
    is asked again up to 3 times, after 1, 2 and 4 seconds, or when the provider says.

    ```yaml
    treadle: 1
    persons:
      Ann: {model: script, script: ["Rain, rain, go away."], system_prompt: You are a poet.}
    inputs:
      topic: {type: string, default: rain}
    nodes:
      begin: {type: start}
      poem: {type: person_job, person: Ann, prompt: "A line about {{ inputs.topic }}", needs: begin}
      done: {type: endpoint, needs: poem}
    ```
    """

    person: PersonName | Person
    """Who is asked: the name of a person, or one said here."""
    prompt: Template | None = None
    """What is said to them; a template over the inputs. Without any prompt the input itself is said."""
    first_prompt: Template | None = None
    """What is said instead the first time in a loop."""
    prompt_file: str | None = None
    """A file with the prompt instead, relative to the diagram's folder."""
    first_prompt_file: str | None = None
    """A file with the first prompt instead."""
    memory: str | None = None
    """What they remember here, instead of the person's own `memory`: `none`, `own`, `all`, `window(n)` or
    `summary(tokens)`."""
    output: dict[str, Any] | str | None = None
    """What the answer must be: a JSON schema, or `module:Model`, a pydantic model. The result is then the
    object."""
    repairs_max: int = 2
    """How often they are told what is wrong with an object, and asked again."""
    images: Template | list[Template] = []
    """Images that go with the prompt: paths, addresses, or expressions that give these, blobs or bytes."""
    tools: list[str | dict[str, Any]] = []
    """What they can use: see [tools](tools.md)."""
    tool_rounds_max: int = 20
    """How often in a row they may call tools."""
    settings: Settings = Settings()
    """How the model chooses its words; what is said here goes before the person's own."""
    asks_max: int | None = None
    """How often they are asked in an execution. After that the node passes its input on."""
    returns: Literal["answer", "conversation"] = "answer"
    """The result: the answer, or the conversation up to it (`conversation_state`), which a node may give to
    another person."""


class PersonJobStrategy:
    """Renders, recalls, asks, and looks at the answer."""

    async def execute(self, node: ExecutableNode, context: BodyContext,
                      inputs: dict[str, Any]) -> Envelope | Suspend:
        spec: PersonJob = node.spec
        person = node.person
        assert person is not None
        if spec.asks_max is not None and _asked(context) >= spec.asks_max:
            value = bare(inputs, context)
            return Envelope(context.node_id, context.node_id, infer(value), value)
        output = None if spec.output is None else output_of(spec.output, node.base)
        asking = await _begin(spec, person, node, context, inputs, output)
        said = _said(spec, node, context, inputs, asking.pictures, bool(asking.history))
        if not spec.tools:
            return await _answer(spec, asking, said, output)
        from treadle.nodes.people.tools import open_tools

        async with open_tools(spec.tools, node, context) as tools:
            asking.tools = tools
            return await _answer(spec, asking, said, output)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "person_job"


def _asked(context: BodyContext) -> int:
    """How often the node's person has been asked in this execution."""
    return sum(told.node_id == context.node_id and any(one.kind == "model" for one in told.records)
               for told in context.told())


def _is_first(context: BodyContext) -> bool:
    """Whether the node's person has not been asked yet in the loop around it: the node may have been skipped
    in its first turns."""
    around, _, turn = context.iteration.rpartition(".")
    return turn == "1" or not any(
        told.node_id == context.node_id and told.iteration.rpartition(".")[0] == around
        and any(one.kind == "model" for one in told.records) for told in context.told())


async def _begin(spec: PersonJob, person: Defined, node: ExecutableNode, context: BodyContext,
                 inputs: dict[str, Any], output: Output | None) -> Asking:
    """What goes before the prompt: a conversation that came along an arrow, or what the person remembers."""
    from treadle.nodes.people.asking import Asking, settings_of, system_first, system_of
    from treadle.nodes.people.images import pictures_of

    asking = Asking(context, person, system_of(person, context, inputs),
                    settings=settings_of(person.settings, spec.settings), policy=node.policy,
                    tool_rounds_max=spec.tool_rounds_max, output=None if output is None else output.schema)
    if spec.images:
        asking.pictures = await pictures_of(spec.images, context, inputs)
    given = next((value for value in inputs.values() if is_conversation(value)), None)
    if given is not None:
        system, asking.history = system_first(messages_of(given["messages"], "the input"))
        asking.system = asking.system or system
        return asking
    await asking.recall(person.memory if spec.memory is None else spec.memory)
    return asking


async def _answer(spec: PersonJob, asking: Asking, said: list[Message],
                  output: Output | None) -> Envelope | Suspend:
    answer = await asking.answer(said)
    value: Any = None
    for repair in range(spec.repairs_max + 1):
        if isinstance(answer, Suspend):
            return answer
        if output is None:
            value = answer.content
            break
        try:
            value = output.read(answer.content)
            break
        except ValueError as error:
            if repair == spec.repairs_max:
                tries = f"after {repair} repair{'' if repair == 1 else 's'}"
                raise asking.bad(f"the answer is not what `output` wants, {tries}: {error}") from None
            answer = await asking.answer([Said(_REPAIR.format(problem=error, schema=to_json(output.schema)))])
    name, meta = asking.context.node_id, _meta(asking)
    if spec.returns == "conversation":
        talk = [*asking.history, *asking.said]
        return Envelope(name, name, "conversation_state", {"messages": plain(_without_parts(talk))}, meta)
    return Envelope(name, name, "raw_text" if output is None else infer(value), value, meta)


def _without_parts(messages: Iterable[Message]) -> list[Message]:
    return [msgspec.structs.replace(one, parts=None) if isinstance(one, Answered) else one
            for one in messages]


def _meta(asking: Asking) -> dict[str, Any]:
    """Who answered, and what it took."""
    records = [one for one in asking.context.steps.records if one.kind in ("model", "summary")]
    usage = {key: sum(one.meta.get(key, 0) for one in records) for key in ("input_tokens", "output_tokens")}
    meta: dict[str, Any] = {"person": asking.person.name, "model": asking.person.model, "usage": usage}
    if any("cost" in one.meta for one in records):
        meta["cost"] = sum(one.meta.get("cost", 0.0) for one in records)
    return meta


def _said(spec: PersonJob, node: ExecutableNode, context: BodyContext, inputs: Mapping[str, Any],
          pictures: Mapping[str, Picture], begun: bool) -> list[Message]:
    """The prompt, with its images. Nothing is said to a conversation that was given without a prompt."""
    text, file = spec.prompt, spec.prompt_file
    if (spec.first_prompt is not None or spec.first_prompt_file is not None) and _is_first(context):
        text, file = spec.first_prompt, spec.first_prompt_file
    if file is not None:
        words = load_template(file, node.base, context.config, "prompt").render(context.names(inputs))
    elif text is not None:
        words = context.render(text, inputs)
    else:
        value = bare(inputs, context)
        if is_conversation(value) and begun and not pictures:
            return []
        if value is None and not inputs:
            raise InvalidInput("there is nothing to say: give the node a `prompt`, or an input")
        words = value if isinstance(value, str) else to_json(value)
    return [Said(words, tuple(pictures))]


class PersonJobKind(NodeKind):
    def ports(self, spec: PersonJob, node: Node, base: str) -> Ports:
        for text, file in (("prompt", "prompt_file"), ("first_prompt", "first_prompt_file")):
            if getattr(spec, text) is not None and getattr(spec, file) is not None:
                raise Misplaced(f"say either `{text}` or `{file}`", file)
            if (path := getattr(spec, file)) is not None:
                try:
                    load_template(path, base, DEFAULT_CONFIG, "prompt")
                except (OSError, ValueError) as error:
                    raise Misplaced(str(error), file) from None
        for key, least in (("repairs_max", 0), ("tool_rounds_max", 1), ("asks_max", 0)):
            if (value := getattr(spec, key)) is not None and value < least:
                raise Misplaced(f"`{key}` must be at least {least}, not {value}", key)
        if spec.memory is not None:
            try:
                read_memory(spec.memory)
            except ValueError as error:
                raise Misplaced(f"`memory`: {error}", "memory") from None
        if spec.output is not None:
            try:
                output_of(spec.output, base)
            except ValueError as error:
                raise Misplaced(str(error), getattr(error, "at", "output")) from None
        return Ports(doubts=tuple(_doubts(spec, node, base)))

    def sources(self, spec: PersonJob, node: Node, base: str) -> list[str]:
        found = [text for path in (spec.prompt_file, spec.first_prompt_file) if path is not None
                 for text in template_texts(path, base)]
        if isinstance(spec.output, str):
            found.append(source_of(output_of(spec.output, base).model))
        if spec.tools:
            from treadle.nodes.people.tools import tool_sources

            found += tool_sources(spec.tools, base)
        return found


def _doubts(spec: PersonJob, node: Node, base: str) -> Iterator[Doubt]:
    """What keeps nothing from running, and is hardly meant. ToolFault."""
    if spec.tools:
        from treadle.nodes.people.tools import check_tools

        yield from check_tools(spec.tools, base)
    if node.policy.cache and spec.memory != "none":
        yield Doubt("its result is kept by its inputs alone, whatever the person remembers", "cache",
                    "leave cache out, or say memory: none")
    if spec.output is None and "repairs_max" in node.properties:
        yield Doubt("`repairs_max` means nothing without `output`", "repairs_max")


class Misplaced(ValueError):
    """What is wrong with a property; `at` is which."""

    def __init__(self, message: str, at: str) -> None:
        super().__init__(message)
        self.at = at


KIND = PersonJobKind("person_job", PersonJob, PersonJobStrategy(), secrets=("person.*", "tools.*"))
