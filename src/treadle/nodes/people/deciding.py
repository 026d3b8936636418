"""A decision that a person makes: yes or no, or one of some choices. What is neither is an error."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec

from treadle.crypto.secrets import SECRET
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.person import Person, read_memory
from treadle.diagram.types import PersonName, Template
from treadle.nodes.base import BodyContext
from treadle.nodes.people.messages import Answered, Said

_WORDS = {"yes": "true", "true": "true", "y": "true", "no": "false", "false": "false", "n": "false"}
_AROUND = " \t\r\n\"'`*.!:"
_KEY = "decision"
_AGAIN = "That was not clear. Answer with nothing but one of: {choices}."


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person is to decide."""

    person: PersonName | Person
    """Who decides."""
    question: Template
    """What they are asked; a template over the inputs."""
    choices: list[str] = []
    """What there is to choose from, and the ports. Without it the answer is yes or no."""
    memory: str = "none"
    """What they remember of what was said before: see `person_job`."""
    tries: Annotated[int, msgspec.Meta(ge=1, le=2)] = 2
    """How often they are asked, if the answer isn't clear."""


async def decide(said: Decision, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> str:
    """The port that the person chooses. An unclear answer is asked for once more. BadAnswer, ModelError."""
    from treadle.nodes.people.asking import Asking, settings_of, system_of

    person = node.person
    assert person is not None
    choices = said.choices or ["yes", "no"]
    asking = Asking(context, person, system_of(person, context, inputs), policy=node.policy,
                    settings=settings_of(person.settings), output=_schema(choices))
    await asking.recall(said.memory)
    words = ", ".join(choices)
    question = f"{context.render(said.question, inputs)}\n\nAnswer with one of: {words}."
    said_last = ""
    for text in (question, _AGAIN.format(choices=words))[:said.tries]:
        answer = await asking.answer([Said(text)])
        assert isinstance(answer, Answered)  # there are no tools to wait for
        said_last = answer.content
        chosen = chosen_by(said_last, said.choices)
        if chosen is not None:
            return chosen
    raise asking.bad(f"one of {words} was to be chosen, and the answer was {'twice ' * (said.tries > 1)}"
                     f"something else: {said_last!r:.200}")


def chosen_by(text: str, choices: list[str]) -> str | None:
    """The port that an answer means, or None if that isn't clear."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = text
    if isinstance(value, dict):
        value = value.get(_KEY, next(iter(value.values())) if len(value) == 1 else None)
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if not isinstance(value, str | int):
        return None
    word = str(value).strip(_AROUND)
    if not choices:
        return _WORDS.get(word.lower())
    if word in choices:
        return word
    near = [one for one in choices if one.lower() == word.lower()]
    return near[0] if len(near) == 1 else None


def _schema(choices: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": {_KEY: {"type": "string", "enum": choices}}, "required": [_KEY],
            "additionalProperties": False}


def require_decision(said: Decision) -> None:
    """ValueError for choices that can't be told apart, and a memory that is none."""
    words = {one.strip().lower() for one in said.choices}
    if said.choices and (len(words) < max(2, len(said.choices)) or words & {"", "error"}):
        raise ValueError("`llm.choices` must be two or more that differ, and not `error`")
    if SECRET in said.question:
        raise ValueError("`llm.question`: a secret is not looked up here: 'secret://…' would stay a text")
    try:
        read_memory(said.memory)
    except ValueError as error:
        raise ValueError(f"`llm.memory`: {error}") from None
