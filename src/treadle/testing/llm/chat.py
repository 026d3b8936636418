"""The words of `/v1/chat/completions`: a reply as one JSON document, or as the events of a stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from treadle.testing.llm.replies import Asked, Reply, ToolCall, text_of

_PIECE = re.compile(r"\s*\S+\s*|\s+")
_ARGUMENT_CHARS = 7  # a provider cuts where it likes
_CREATED = 1_700_000_000


def tokens_of(text: str) -> list[str]:
    """What goes out as one token each: the words, with the blanks behind them."""
    return _PIECE.findall(text)


def whole(asked: Asked, reply: Reply) -> dict[str, Any]:
    """The answer to a request that does not stream."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.tools:
        message["tool_calls"] = [_call(asked, at, call) for at, call in enumerate(reply.tools)]
    return {**_head(asked, "chat.completion"), "usage": usage(asked, reply),
            "choices": [{"index": 0, "message": message, "logprobs": None,
                         "finish_reason": _finish(reply)}]}


def streamed(asked: Asked, reply: Reply) -> Iterator[bytes]:
    """The events of a stream, one for each token; the last are the reason of the end, the usage if it was
    asked for, and `[DONE]`."""
    yield _event(asked, {"role": "assistant", "content": ""})
    for token in tokens_of(reply.text):
        yield _event(asked, {"content": token})
    for at, call in enumerate(reply.tools):
        begun = _call(asked, at, call)
        arguments = begun["function"]["arguments"]
        begun["function"]["arguments"] = ""
        yield _event(asked, {"tool_calls": [{"index": at, **begun}]})
        for start in range(0, len(arguments), _ARGUMENT_CHARS):
            piece = arguments[start:start + _ARGUMENT_CHARS]
            yield _event(asked, {"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
    yield _event(asked, {}, _finish(reply))
    if asked._get("stream_options", {}).get("include_usage"):
        yield _data({**_head(asked, "chat.completion.chunk"), "choices": [], "usage": usage(asked, reply)})
    yield b"data: [DONE]\n\n"


def usage(asked: Asked, reply: Reply) -> dict[str, int]:
    """The tokens of a request and its reply: what the reply says, or their words."""
    if reply.tokens is not None:
        read, written = reply.tokens
    else:
        read = sum(len(tokens_of(text_of(message))) for message in asked.messages)
        written = len(tokens_of(reply.text)) + sum(
            1 + len(tokens_of(_arguments(call))) for call in reply.tools)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def error(status: int, message: str, kind: str = "") -> dict[str, Any]:
    """The body of an error."""
    kind = kind or {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(
        status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}


def models(names: tuple[str, ...]) -> dict[str, Any]:
    """The answer to `/v1/models`."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": _CREATED,
                                        "owned_by": "treadle"} for name in names]}


def _call(asked: Asked, at: int, call: ToolCall) -> dict[str, Any]:
    return {"id": call.id or f"call_{asked.number}_{at + 1}", "type": "function",
            "function": {"name": call.name, "arguments": _arguments(call)}}


def _arguments(call: ToolCall) -> str:
    if isinstance(call.arguments, str):
        return call.arguments
    return msgspec.json.encode(call.arguments).decode()


def _finish(reply: Reply) -> str:
    return reply.finish or ("tool_calls" if reply.tools else "stop")


def _head(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{asked.number}", "object": kind, "created": _CREATED, "model": asked.model}


def _event(asked: Asked, delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _data({**_head(asked, "chat.completion.chunk"), "choices": [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})


def _data(event: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"
