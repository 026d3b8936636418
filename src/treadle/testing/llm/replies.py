"""What the server is asked, and what it is told to reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime
from typing import Any

import msgspec

from treadle.errors import InvalidInput, did_you_mean


class ToolCall(msgspec.Struct, frozen=True):
    """A tool that the model wants called. `arguments` as text goes out as it is, be it JSON or not."""

    name: str
    arguments: dict[str, Any] | str = {}
    id: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One reply. Seconds are those of the machine's clock."""

    text: str = ""
    tools: tuple[ToolCall, ...] = ()
    status: int = 200
    """Another one than 200 is an error; then `text` is its message."""
    retry_after: float | str | datetime | None = None
    """The header Retry-After: seconds, a date (in UTC), or any text."""
    after: float = 0.0
    """Seconds until the first byte."""
    every: float = 0.0
    """Seconds between two tokens of a stream."""
    cut: int | None = None
    """Close the connection after so many tokens of a stream; in the middle of the body without one."""
    body: str | bytes | None = None
    """Sent as the whole body in place of JSON or of a stream."""
    content_type: str | None = None
    finish: str | None = None
    """The `finish_reason`; None is stop, or tool_calls."""
    tokens: tuple[int, int] | None = None
    """Of the request and of the reply; None counts words. Usage is always told."""
    headers: dict[str, str] = {}

    @property
    def retry_after_text(self) -> str | None:
        wanted = self.retry_after
        if isinstance(wanted, datetime):
            return format_datetime(wanted, usegmt=True)
        return None if wanted is None else f"{wanted:g}" if isinstance(wanted, float | int) else wanted


class Asked(msgspec.Struct, frozen=True):
    """A request as it came. Names of headers are in lower case."""

    number: int
    """From 1."""
    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    body: Any
    """The decoded JSON; None if it is none."""
    at: float
    """`time.monotonic()` when it was read."""

    @property
    def model(self) -> str:
        return str(self._get("model", ""))

    @property
    def stream(self) -> bool:
        return bool(self._get("stream", False))

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self._get("messages", []))

    @property
    def tools(self) -> list[str]:
        """The names of the tools that the model may call."""
        return [tool["function"]["name"] for tool in self._get("tools", [])]

    @property
    def schema(self) -> dict[str, Any] | None:
        """Of structured output (`response_format`)."""
        found = self._get("response_format", {}).get("json_schema", {}).get("schema")
        return found if isinstance(found, dict) else None

    @property
    def prompt(self) -> str:
        """The text of the last message of the user."""
        said = [text_of(message) for message in self.messages if message.get("role") == "user"]
        return said[-1] if said else ""

    @property
    def system(self) -> str:
        """The text of all messages of the system."""
        return "\n".join(text_of(m) for m in self.messages if m.get("role") in ("system", "developer"))

    @property
    def key(self) -> str | None:
        """What came as `Authorization: Bearer …`."""
        kind, _, key = self.headers.get("authorization", "").partition(" ")
        return key if kind.lower() == "bearer" else None

    def _get(self, name: str, default: Any) -> Any:
        found = self.body.get(name) if isinstance(self.body, dict) else None
        return default if found is None else found


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content may be a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def reply_of(item: Any) -> Reply:
    """An item of a server's list as a Reply: a text; a Reply; `{tool: name, arguments: {…}}`, or a list of
    these; `{error: 429, retry_after: 1}`; `{after: 0.5, text: …}`; every other object is the JSON of a
    structured output. InvalidInput for one with an unknown key beside these."""
    if isinstance(item, Reply):
        return item
    if isinstance(item, str):
        return Reply(text=item)
    if isinstance(item, Sequence) and item and all(isinstance(one, dict) and "tool" in one for one in item):
        return Reply(tools=tuple(_tool(one) for one in item))
    if isinstance(item, Mapping):
        if "tool" in item:
            given = {name: value for name, value in item.items() if name not in ("tool", "arguments", "id")}
            return msgspec.structs.replace(_reply(given), tools=(_tool(item),))
        if "error" in item and isinstance(item["error"], int):
            given = {name: value for name, value in item.items() if name != "error"}
            return msgspec.structs.replace(_reply(given), status=item["error"])
        if "text" in item and {"after", "every", "cut", "finish", "tokens", "tools"} & set(item):
            return _reply(item)
    return Reply(text=msgspec.json.encode(item).decode())


def _tool(item: Mapping[str, Any]) -> ToolCall:
    return ToolCall(item["tool"], item.get("arguments") or {}, str(item.get("id", "")))


def _reply(given: Mapping[str, Any]) -> Reply:
    for name in given:
        if name not in Reply.__struct_fields__:
            hint = did_you_mean(name, Reply.__struct_fields__)
            raise InvalidInput(f"a reply has no {name!r}: "
                               + (hint or f"it has {', '.join(Reply.__struct_fields__)}"))
    return Reply(**given)
