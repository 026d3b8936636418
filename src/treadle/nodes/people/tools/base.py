"""What a tool is to the loop that calls it, and the question whether it may run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from treadle.errors import TreadleError
from treadle.nodes.base import BodyContext

_ARGUMENTS_CHARS = 4000  # of what the question shows

ANSWER: dict[str, Any] = {
    "type": ["object", "boolean", "string"],
    "properties": {"approve": {"type": "boolean", "description": "Whether it may run."},
                   "reason": {"type": "string", "description": "What the model is told of a refusal."}},
    "required": ["approve"],
    "additionalProperties": False,
    "pattern": "^([Yy]es|[Nn]o)$",
}
"""The schema of the answer: `{approve: true}`, `{approve: false, reason: …}`, or plain yes or no."""


class Tool(Protocol):
    """One tool, as a model sees it. `schema` is a JSON schema of its arguments; `approve`: somebody must
    allow each call."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def schema(self) -> dict[str, Any]: ...
    @property
    def approve(self) -> bool: ...

    def unfit(self, arguments: dict[str, Any]) -> str:
        """What is wrong with a model's arguments, in words for it; "" as far as that is known here. Nobody is
        asked for leave for such a call."""

    async def call(self, context: BodyContext, arguments: dict[str, Any], *, key: str) -> Any:
        """Run it with what the model gave. The result is plain data (see `results`): what went wrong in the
        tool or is wrong with the arguments is in it, for the model. `key` names the call within its node:
        the same when it is made again after a crash.

        ToolServerError if its server can't be asked; NoSuchSecret, SecretError."""


class ToolServerError(TreadleError, ConnectionError):
    """An MCP server didn't start, died, hung or spoke nonsense. The message names it; `retryable` says
    whether it may go better next time, `retry_after` the seconds that it asks to wait."""

    def __init__(self, message: str, *, retryable: bool = True, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retryable, self.retry_after = retryable, retry_after


class Verdict(msgspec.Struct, frozen=True):
    """What somebody said of a call."""

    approve: bool
    reason: str = ""

    @property
    def told(self) -> str:
        """A refusal in words for the model."""
        return f"the call was refused: {self.reason}" if self.reason else "the call was refused"


def question(tool: Tool, arguments: Mapping[str, Any], step: str, *, who: str = "") -> dict[str, Any]:
    """The request with which a body suspends (`Suspend(question(…))`), to be answered as the step of that
    name. `who` wants to call the tool."""
    shown = "\n".join(f"  {name}: {_shown(value)}" for name, value in arguments.items())
    if len(shown) > _ARGUMENTS_CHARS:
        shown = f"{shown[:_ARGUMENTS_CHARS]}… ({len(shown) - _ARGUMENTS_CHARS} characters more)"
    asks = f"{who or 'The model'} wants to call {tool.name}"
    prompt = f"{asks} with\n{shown}\nAllow it (yes, no)?" if shown else f"{asks}. Allow it (yes, no)?"
    return {"kind": "answer", "step": step, "prompt": prompt, "schema": ANSWER,
            "tool": tool.name, "arguments": dict(arguments)}


def verdict(answer: Any) -> Verdict:
    """What a recorded answer says. Whatever isn't clearly a yes is a refusal."""
    if isinstance(answer, Mapping):
        reason = answer.get("reason", "")
        return Verdict(answer.get("approve") is True, reason if isinstance(reason, str) else "")
    if isinstance(answer, str):
        return Verdict(answer.lower() == "yes")
    return Verdict(answer is True)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)
