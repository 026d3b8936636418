"""What is said between a program and a model, as plain data: the same for every provider.

A request is a system prompt and messages: what the user said, what the model answered (a text, calls of
tools), what the tools gave. A conversation is written down as `{"messages": [{"role": "user", "content":
…}]}`, the body of the content type `conversation_state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from treadle.errors import InvalidInput, TreadleError

CHARS_PER_TOKEN = 4
"""How long a token is taken to be where nobody has counted."""


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool that the model wants called. `raw` is what stood for the arguments if that was no JSON map."""

    id: str
    tool: str
    arguments: dict[str, Any] = {}
    raw: str | None = None


class Said(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="role", tag="user"):
    """What the user said. `images` are the names of what was shown."""

    content: str = ""
    images: tuple[str, ...] = ()


class Answered(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="role", tag="assistant"):
    """What the model answered. `parts` is what else its provider wants to see again in the same turn."""

    content: str = ""
    calls: tuple[Call, ...] = ()
    parts: list[Any] | None = None


class Returned(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="role", tag="tool"):
    """What a tool gave. In a record `step` stands for the content: the step that has it."""

    id: str
    tool: str
    content: str = ""
    images: tuple[str, ...] = ()
    step: str = ""


class System(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="role", tag="system"):
    """What the model is told beside its system prompt."""

    content: str = ""


Message: TypeAlias = Said | Answered | Returned | System


class Picture(msgspec.Struct, frozen=True):
    """An image that is sent: its bytes, or where the provider finds it."""

    media_type: str = ""
    data: bytes = b""
    url: str = ""


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as a model is told of it."""

    name: str
    description: str
    schema: dict[str, Any]


class Request(msgspec.Struct, frozen=True):
    """One call of a model. `output` is the JSON schema that the answer must fit; `pictures` are the images of
    the messages by name, as far as they are sent; `settings` are those of `Settings` that are said."""

    person: str
    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    output: dict[str, Any] | None = None
    settings: dict[str, Any] = {}
    pictures: dict[str, Picture] = {}
    timeout: float | None = None


class Answer(msgspec.Struct, frozen=True):
    """What a model answered, and what it took: tokens, and US dollars if that is known. `model` is the one
    that the provider names, `number` that of an answer of a script, from 0."""

    message: Answered
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    finish: str = ""
    number: int | None = None


class Model(Protocol):
    """Something that answers."""

    async def ask(self, request: Request, show: Callable[[str], None]) -> Answer:
        """The answer; `show` is given what there is of its text while it comes. ModelError."""


class ModelError(TreadleError, RuntimeError):
    """A model could not be asked, or didn't answer. `status` is the HTTP status (None: there was none),
    `retryable` whether it may go better next time, `retry_after` the seconds that the provider asks to
    wait."""

    def __init__(self, message: str, *, retryable: bool = False, status: int | None = None,
                 retry_after: float | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.details = {"status": status}
        self.retryable, self.status, self.retry_after = retryable, status, retry_after


class BadAnswer(TreadleError, ValueError):
    """A model answered, and the answer is of no use. Another attempt begins anew; there is one only where the
    node's `retry_on` names this error."""

    anew = True

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


def plain(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Messages as plain data."""
    found: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(list(messages)))
    return found


def messages_of(data: Sequence[Any], what: str) -> list[Message]:
    """Messages from plain data; `what` has them. InvalidInput."""
    try:
        return msgspec.convert(data, list[Message])
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{what} is no conversation: {error}; a message is {{role: user, content: text}}"
                           ) from None


def is_conversation(value: Any) -> bool:
    """Whether a value is of the content type `conversation_state`."""
    if not isinstance(value, Mapping) or not isinstance(value.get("messages"), list | tuple):
        return False
    return all(isinstance(one, Mapping) and "role" in one for one in value["messages"])


def tokens_in(messages: Iterable[Message]) -> int:
    """About how many tokens messages have."""
    chars = 0
    for one in messages:
        chars += len(one.content)
        if isinstance(one, Answered):
            chars += sum(len(msgspec.json.encode(call.arguments)) for call in one.calls)
    return -(-chars // CHARS_PER_TOKEN)
