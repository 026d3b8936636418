"""The loop around a model: a request, the calls of tools that it asks for, their results, until it answers.

Each call of the model and of a tool is a step, so what is recorded is not asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from treadle.diagram.person import Defined, Settings, read_memory
from treadle.diagram.policy import Policy
from treadle.errors import LimitExceeded
from treadle.nodes.base import BodyContext, Suspend
from treadle.nodes.people import models
from treadle.nodes.people.memory import MODEL, SUMMARY, summarised, transcript
from treadle.nodes.people.messages import (
    Answer,
    Answered,
    BadAnswer,
    Call,
    Message,
    Model,
    Picture,
    Request,
    Returned,
    Said,
    System,
    ToolSpec,
    messages_of,
    plain,
)
from treadle.nodes.people.recalling import recalled
from treadle.nodes.people.tools import Tool, failed, question, told, verdict
from treadle.nodes.template_job import load_template
from treadle.state.steps import Noted

_TO_SUM_UP = ("Sum up this conversation, which is {person}'s, in at most {words} words. Keep names, numbers, "
              "decisions and open questions.\n\n{text}")
_WORDS_PER_TOKEN = 0.7


class Asking(msgspec.Struct):
    """One asking of a person: with whom, what was said before, how. `until` is the instant up to which the
    conversation was looked at: it is recorded, so that a resumed one looks at the same."""

    context: BodyContext
    person: Defined
    system: str = ""
    history: tuple[Message, ...] = ()
    pictures: dict[str, Picture] = {}
    settings: dict[str, Any] = {}
    tools: Mapping[str, Tool] = {}
    tool_rounds_max: int = 20
    output: dict[str, Any] | None = None
    policy: Policy = Policy()
    until: float = 0.0
    said: list[Message] = []  # in this turn
    _model: Model | None = None
    _models: int = 0  # calls of the model in this turn
    _calls: int = 0  # of tools

    async def recall(self, kind: str) -> None:
        """Begin with what a memory holds; what is too much of it is summed up first, by a step of its own."""
        memory = read_memory(kind)
        found, self.until = recalled(self.context, memory, self.person)
        self.history = found.messages
        if not found.older:
            return
        words = max(20, int(memory.size * _WORDS_PER_TOKEN / 2))
        text = _TO_SUM_UP.format(person=self.person.name, words=words,
                                 text=transcript(found.older, self.person.name))
        said = Said(text)
        request = self._request((said,), tools=(), output=None)
        value = await self._step("summary", SUMMARY, [said], request, {"covers": found.covers})
        self.history = summarised(found, msgspec.convert(value["answer"], Answered).content)

    async def answer(self, said: Sequence[Message]) -> Answered | Suspend:
        """What the person answers, tools and all. LimitExceeded, ModelError, BadAnswer."""
        rounds = 0
        asked = list(said)
        while True:
            answer = await self._ask(asked)
            if not answer.calls:
                return answer
            rounds += 1
            if rounds > self.tool_rounds_max:
                raise LimitExceeded(
                    f"{self.person.name} has called tools {self.tool_rounds_max} times in a row and wants to "
                    f"go on: the limit tool_rounds_max is {self.tool_rounds_max}; raise it in the node")
            returned = await self._use(answer.calls)
            if isinstance(returned, Suspend):
                return returned
            asked = returned

    async def _ask(self, asked: list[Message]) -> Answered:
        self._models += 1
        request = self._request((*self.history, *self.said, *asked),
                                tools=tuple(ToolSpec(one.name, one.description, one.schema)
                                            for one in self.tools.values()), output=self.output)
        value = await self._step(f"model {self._models}", MODEL, asked, request, {})
        recorded = messages_of(value["asked"], "the record")
        # What the model was told then counts, though the prompt may come to something else by now.
        self.said += [then if isinstance(then, Said) else now
                      for then, now in zip(recorded, asked, strict=True)]
        answer = msgspec.convert(value["answer"], Answered)
        self.said.append(answer)
        return answer

    def _request(self, messages: tuple[Message, ...], *, tools: tuple[ToolSpec, ...],
                 output: dict[str, Any] | None) -> Request:
        config = self.context.config
        timeout = min(config.llm_silence_s_max, self.policy.timeout or config.llm_silence_s_max)
        return Request(self.person.name, self.person.model, self.system, messages, tools, output,
                       self.settings, self.pictures, timeout)

    async def _step(self, name: str, kind: str, asked: list[Message], request: Request,
                    more: Mapping[str, Any]) -> Any:
        """One call of the model, recorded: what was asked, and the answer. The results of tools are recorded
        once, by their own steps."""
        async def make() -> Noted:
            answer = await self._called(request)
            short = [msgspec.structs.replace(one, content="") if isinstance(one, Returned) and one.step else
                     one for one in asked]
            value = {"asked": plain(short), "answer": plain([answer.message])[0]}
            return Noted(value, _meta(answer))

        meta = {"person": self.person.name, "model": self.person.model, "until": self.until, **more}
        who = self.person.identity(self.context.node_id)
        if who != self.person.name:
            meta["who"] = who
        return await self.context.steps.run(name, make, kind=kind, meta=meta)

    async def _called(self, request: Request) -> Answer:
        require_tokens(self.context)
        if self._model is None:
            self._model = await models.model_of(self.person, self.context)
        answer = await self._model.ask(request, self.context.steps.show)
        if answer.finish == "content_filter" and not answer.message.calls:
            raise self.bad("the provider has withheld the answer (content filter)")
        return answer

    def bad(self, what: str) -> BadAnswer:
        """The error for an answer that is of no use."""
        return BadAnswer(f"{self.person.name} ({self.person.model}): {what}",
                         retryable=BadAnswer.__name__ in self.policy.retry_on)

    # tools

    async def _use(self, calls: Sequence[Call]) -> list[Message] | Suspend:
        """Run the tools of one answer at once, when all that need it are allowed."""
        steps = self.context.steps
        numbered = [(self._calls + place, call) for place, call in enumerate(calls, 1)]
        for number, call in numbered:
            tool = self.tools.get(call.tool)
            asks = (tool is not None and tool.approve and call.raw is None
                    and not tool.unfit(call.arguments))
            if asks and steps.recorded(f"approve {number}") is None:
                assert tool is not None
                return Suspend(question(tool, call.arguments, f"approve {number}", who=self.person.name))
        self._calls += len(calls)
        results = await asyncio.gather(*(self._run(number, call) for number, call in numbered),
                                       return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        returned: list[Message] = []
        for (number, call), result in zip(numbered, results, strict=True):
            step = self._name(number, call)
            text, images = told(result)
            names = []
            for place, image in enumerate(images, 1):
                names.append(f"{step}, image {place}")
                self.pictures = {**self.pictures, names[-1]: Picture(image.media_type, image.data)}
            returned.append(Returned(call.id, call.tool, text, tuple(names), step))
        return returned

    async def _run(self, number: int, call: Call) -> Any:
        name = self._name(number, call)

        async def make() -> Any:
            tool = self.tools.get(call.tool)
            if tool is None:
                return failed(f"there is no tool {call.tool!r}; there is {', '.join(self.tools) or 'none'}")
            if call.raw is not None:
                return failed("the arguments are not a JSON object")
            if tool.approve:
                wrong = tool.unfit(call.arguments)
                if wrong:
                    return failed(wrong)
                answer = self.context.steps.recorded(f"approve {number}")
                said = verdict(None if answer is None else answer.result())
                if not said.approve:
                    return failed(said.told)
            return await tool.call(self.context, call.arguments, key=name)

        meta = {"person": self.person.name, "arguments": call.arguments}
        return await self.context.steps.run(name, make, kind="tool", meta=meta)

    def _name(self, number: int, call: Call) -> str:
        """The name of a call's step; a model may make up a tool, under any name."""
        return f"{call.tool if call.tool in self.tools else 'unknown tool'} {number}"


def _meta(answer: Answer) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "tokens": answer.input_tokens + answer.output_tokens, "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens}
    if answer.cost is not None:
        meta["cost"] = answer.cost
    if answer.model:
        meta["answered_by"] = answer.model
    if answer.number is not None:
        meta["number"] = answer.number
    if answer.finish and answer.finish not in ("stop", "tool_call"):
        meta["finish"] = answer.finish
    return meta


def require_tokens(context: BodyContext) -> None:
    """LimitExceeded if the models of the execution have taken all that they may."""
    limit = context.config.llm_tokens_max
    if limit is not None and (spent := int(context.steps.spent["tokens"])) >= limit:
        error = context.config.exceeded("llm_tokens_max",
                                        f"the models of this execution have taken {spent} tokens")
        raise LimitExceeded(f"{error}, or with --llm-tokens-max")


def system_first(messages: Sequence[Message]) -> tuple[str, tuple[Message, ...]]:
    """The system prompt that a conversation begins with, if it does, and the rest."""
    if messages and isinstance(messages[0], System):
        return messages[0].content, tuple(messages[1:])
    return "", tuple(messages)


def system_of(person: Defined, context: BodyContext, inputs: Mapping[str, Any]) -> str:
    """The system prompt of a person, filled in for a node."""
    if person.prompt_file is not None:
        prompt = load_template(person.prompt_file, person.base, context.config, "prompt")
        return prompt.render(context.names(inputs))
    return context.render(person.system_prompt, inputs) if person.system_prompt else ""


def settings_of(usual: Settings, own: Settings | None = None) -> dict[str, Any]:
    """The settings that are said, as pydantic-ai names them; a node's `own` go before."""
    said = {**msgspec.to_builtins(usual), **({} if own is None else msgspec.to_builtins(own))}
    stop = said.pop("stop", None)
    if stop:
        said["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    return said
