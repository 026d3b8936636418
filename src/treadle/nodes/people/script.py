"""A model that needs no provider: its answers are a list, or a function's.

An answer is a text; a map, which stands for its JSON (structured output); or says more:

- `{tool: search, arguments: {query: x}}` calls a tool, a list of these several at once;
- `{error: 429, retry_after: 1}` fails as a provider would with that status;
- `{text: …, after: 0.5}` takes so many seconds; `tokens: [12, 3]` are those of the request and the answer.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import count, islice
from typing import Any, TypeAlias

import msgspec

from treadle.errors import InvalidInput, did_you_mean
from treadle.nodes.people.messages import (
    Answer,
    Answered,
    Call,
    ModelError,
    Request,
    Said,
    tokens_in,
)
from treadle.state.steps import StepRecord, Told

MODEL = "script"
Answers: TypeAlias = Sequence[Any] | Callable[..., Any] | None
"""A list, a function, or None for r1, r2, …"""
Number: TypeAlias = Callable[[], int]
"""Gives the number of the next answer, from 0."""
_TOLD = ("request", "prompt", "messages", "number", "person", "system", "tools")
_MORE = ("text", "after", "tokens", "tool", "arguments", "id", "tools", "error", "retry_after", "message")
_MARKS = frozenset(("after", "tokens", "tools", "retry_after"))
_KINDS: dict[str, tuple[Any, str]] = {
    "after": (int | float, "seconds"), "retry_after": (int | float, "seconds"),
    "tool": (str, "the name of a tool"), "tools": (list | tuple, "a list of calls"),
    "tokens": (list | tuple, "two numbers: those of the request and of the answer")}
_RETRYABLE = frozenset((408, 425, 429))


class Positions:
    """How far the persons of each execution are in their scripts: asked, but perhaps not recorded."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], set[int]] = {}
        self._first: dict[tuple[str, str], int] = {}  # below which all are taken

    def take(self, execution_id: str, person: str, recorded: Callable[[], Collection[int]],
             passed: Callable[[int], bool] = lambda number: False) -> int:
        """The number of the next answer, from 0: the first that is not taken. `recorded` says which are,
        where nobody was asked yet in this process; some before them may be `passed`, since they failed."""
        key = (execution_id, person)
        taken = self._taken.get(key)
        if taken is None:
            taken = self._taken[key] = set(recorded())
            taken |= {number for number in range(max(taken, default=0)) if passed(number)}
        number = self._first.get(key, 0)
        while number in taken:
            number += 1
        taken.add(number)
        self._first[key] = number
        return number

    def close(self) -> None:
        """The engine ends."""
        self._taken.clear()
        self._first.clear()


def recorded(person: str, exact: bool, told: Iterable[Told], own: Iterable[StepRecord]) -> set[int]:
    """Which answers an execution has recorded of a person: of this one (`exact`), or of all who have the
    name. One that no script gave stands for the next of it."""
    records = [one for body in told for one in body.records]
    mine = [one.meta.get("number") for one in (*records, *own) if one.kind in ("model", "summary")
            and person == (who_of(one.meta) if exact else one.meta.get("person"))]
    found = {one for one in mine if isinstance(one, int)}
    free = (one for one in count() if one not in found)
    return found | set(islice(free, sum(one is None for one in mine)))


def fails(answers: Answers, number: int) -> bool:
    """Whether an answer of a list is an error."""
    if answers is None or callable(answers) or number >= len(answers):
        return False
    said = answers[number]
    return isinstance(said, Mapping) and _is_marked(said) and "error" in said


def who_of(meta: Mapping[str, Any]) -> str:
    """Which person a record is of: see `Defined.identity`."""
    return str(meta.get("who", meta.get("person", "")))


class ScriptModel:
    """Answers by a list, a function, or (None) with r1, r2, … `number` gives the number of an answer, from 0;
    `item` one of a list by its number, with an error of its own for one that isn't there."""

    def __init__(self, answers: Answers, number: Number,
                 item: Callable[[int], Any] | None = None) -> None:
        self.answers, self.number, self._item = answers, number, item

    async def ask(self, request: Request, show: Callable[[str], None]) -> Answer:
        """See `Model`."""
        number = self.number()
        answer = await played(await self._said(request, number), request, show)
        return msgspec.structs.replace(answer, number=number)

    async def _said(self, request: Request, number: int) -> Any:
        if self.answers is None:
            return f"r{number + 1}"
        if callable(self.answers):
            said = self.answers(**_arguments(self.answers, request, number))
            return await said if inspect.isawaitable(said) else said
        if self._item is not None:
            return self._item(number)
        if number >= len(self.answers):
            have = f"{len(self.answers)} answer{'' if len(self.answers) == 1 else 's'}"
            raise InvalidInput(f"person {request.person!r} is asked for answer {number + 1}, and their "
                               f"script has {have}: add one, or see why they are asked so often")
        return self.answers[number]


async def played(said: Any, request: Request, show: Callable[[str], None]) -> Answer:
    """What an item of a script comes to. ModelError if it says so; InvalidInput for one that says what it
    can't mean."""
    if isinstance(said, Answer):
        return said
    if isinstance(said, list | tuple) and said and all(isinstance(one, Mapping) and "tool" in one
                                                       for one in said):
        said = {"tools": list(said)}
    if not isinstance(said, Mapping) or not _is_marked(said):
        text = said if isinstance(said, str) else msgspec.json.encode(said).decode()
        return _answered(Answered(text), request, show)
    for key in said:
        if key not in _MORE:
            raise InvalidInput(f"an answer of {request.person!r} has no {key!r}: "
                               + (did_you_mean(key, _MORE) or f"there is {', '.join(_MORE)}"))
    for key, (kind, what) in _KINDS.items():
        if said.get(key) is not None and (not isinstance(said[key], kind) or said[key] is True):
            raise _unfit(request, key, said[key], what)
    if said.get("after"):
        await asyncio.sleep(max(0.0, said["after"]))
    if "error" in said:
        raise _error(said, request)
    tools = [*(said.get("tools") or ()), *([said] if "tool" in said else ())]
    for one in tools:
        if not isinstance(one, Mapping) or not isinstance(one.get("tool"), str):
            raise _unfit(request, "tools", one, "a map with `tool`, its name, and `arguments`")
        if not isinstance(one.get("arguments") or {}, Mapping):
            raise _unfit(request, "arguments", one["arguments"], "a map of names to values")
    calls = tuple(Call(str(one.get("id") or f"call {len(request.messages)}.{place}"), one["tool"],
                       dict(one.get("arguments") or {})) for place, one in enumerate(tools, 1))
    text = said.get("text", "")
    message = Answered(text if isinstance(text, str) else msgspec.json.encode(text).decode(), calls)
    answer = _answered(message, request, show)
    if "tokens" in said:
        if len(said["tokens"]) != 2 or not all(isinstance(one, int) for one in said["tokens"]):
            raise _unfit(request, "tokens", said["tokens"], _KINDS["tokens"][1])
        taken, given = said["tokens"]
        answer = msgspec.structs.replace(answer, input_tokens=taken, output_tokens=given)
    return answer


def _unfit(request: Request, key: str, value: Any, what: str) -> InvalidInput:
    return InvalidInput(f"an answer of {request.person!r}: `{key}` must be {what}, not {value!r:.60}")


def _is_marked(said: Mapping[Any, Any]) -> bool:
    """Whether a map says more than its JSON."""
    if "tool" in said or (isinstance(said.get("error"), int) and set(said) <= set(_MORE)):
        return True
    return ("text" in said or "tools" in said) and bool(_MARKS & set(said))


def _answered(message: Answered, request: Request, show: Callable[[str], None]) -> Answer:
    if message.content:
        show(message.content)
    return Answer(message, MODEL, tokens_in((Said(request.system), *request.messages)), tokens_in([message]))


def _error(said: Mapping[str, Any], request: Request) -> ModelError:
    status, wait = int(said["error"]), said.get("retry_after")
    text = str(said.get("message") or said.get("text") or "its script says so")
    return ModelError(f"{request.person} ({MODEL}): status {status}: {text}", status=status, retry_after=wait,
                      retryable=status in _RETRYABLE or 500 <= status <= 599)


def _arguments(function: Callable[..., Any], request: Request, number: int) -> dict[str, Any]:
    """What a script's function is called with: what its parameters name; one of another name is the
    prompt."""
    prompt = next((one.content for one in reversed(request.messages) if isinstance(one, Said)), "")
    known = {"request": request, "prompt": prompt, "messages": msgspec.to_builtins(list(request.messages)),
             "number": number + 1, "person": request.person, "system": request.system,
             "tools": [one.name for one in request.tools]}
    given: dict[str, Any] = {}
    unnamed: str | None = None
    for name, parameter in inspect.signature(function).parameters.items():
        if name in known:
            given[name] = known[name]
        elif parameter.kind is parameter.VAR_KEYWORD:
            given |= {key: value for key, value in known.items() if key not in given}
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            if unnamed is not None:
                raise InvalidInput(f"the script of {request.person!r} wants {name!r}: its parameters may "
                                   f"be {', '.join(_TOLD)}")
            given[name] = unnamed = prompt
    return given
