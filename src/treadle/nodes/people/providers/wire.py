"""One call of a provider's model: our messages as pydantic-ai's, its answer as ours, its errors as ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import msgspec

from treadle.nodes.people.messages import (
    Answer,
    Answered,
    Call,
    ModelError,
    Request,
    Returned,
    System,
    tokens_in,
)

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model as ForeignModel
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

_RETRYABLE = frozenset((408, 409, 425, 429))
_SHOWN_CHARS = 200
"""Characters of a body that is no JSON which an error shows."""


class WiredModel:
    """A model of a provider. `priced`: it is asked at its provider's own address, so that its prices hold."""

    def __init__(self, model: ForeignModel[Any], said: str, *, priced: bool) -> None:
        self._model, self._said, self._priced = model, said, priced

    async def ask(self, request: Request, show: Callable[[str], None]) -> Answer:
        """See `treadle.nodes.people.messages.Model`."""
        import httpx2
        from pydantic_ai.exceptions import AgentRunError, UserError

        settings: dict[str, Any] = dict(request.settings)
        if request.timeout is not None:
            settings["timeout"] = request.timeout
        try:
            messages, parameters = _messages(request), self._parameters(request)
            async with self._model.request_stream(messages, cast("ModelSettings", settings), parameters
                                                  ) as stream:
                text = ""
                async for event in stream:
                    added = _text_in(event)
                    if added:
                        text += added
                        show(text)
                response = stream.get()
        except AgentRunError as error:
            raise _error(error, f"{request.person} ({self._said})", _place(self._model.base_url)) from None
        except UserError as error:
            raise ModelError(f"{request.person} ({self._said}): {error}") from None
        except (httpx2.HTTPError, OSError) as error:  # that its client let through
            raise ModelError(f"{request.person} ({self._said}): {type(error).__name__}: {error}",
                             retryable=True) from error
        except (TypeError, ValueError, LookupError, AttributeError) as error:  # an answer of a strange shape
            raise ModelError(f"{request.person} ({self._said}): the answer can't be read: "
                             f"{type(error).__name__}: {error}", retryable=True) from error
        return counted(answer_of(response, priced=self._priced), request)

    def _parameters(self, request: Request) -> ModelRequestParameters:
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.output import OutputObjectDefinition
        from pydantic_ai.tools import ToolDefinition

        tools = [ToolDefinition(name=one.name, description=one.description, parameters_json_schema=one.schema)
                 for one in request.tools]
        if request.output is None:
            return ModelRequestParameters(function_tools=tools)
        native = self._model.profile.get("supports_json_schema_output", False)
        wanted = OutputObjectDefinition(json_schema=request.output, name="answer")
        return ModelRequestParameters(function_tools=tools, output_object=wanted,
                                      output_mode="native" if native else "prompted")


def _messages(request: Request) -> list[ModelMessage]:
    from pydantic_ai.messages import (
        ModelRequest,
        ModelResponse,
        SystemPromptPart,
        ToolReturnPart,
        UserPromptPart,
    )

    found: list[Any] = []
    parts: list[Any] = [SystemPromptPart(request.system)] if request.system else []
    for one in request.messages:
        if isinstance(one, Answered):
            if parts:
                found.append(ModelRequest(parts=parts))
                parts = []
            found.append(ModelResponse(parts=parts_of(one)))
        elif isinstance(one, Returned):
            parts.append(ToolReturnPart(one.tool, _content(one.content, one.images, request), one.id))
        elif isinstance(one, System):
            parts.append(SystemPromptPart(one.content))
        else:
            parts.append(UserPromptPart(_content(one.content, one.images, request)))
    if parts or not found:
        found.append(ModelRequest(parts=parts or [UserPromptPart("")]))
    return found


def _content(text: str, images: Sequence[str], request: Request) -> Any:
    """A text, and the images that are sent with it; those that are not are named."""
    from pydantic_ai.messages import BinaryContent, ImageUrl

    parts: list[Any] = [text] if text or not images else []
    for name in images:
        picture = request.pictures.get(name)
        if picture is None:
            parts.append(f"[image {name}]")
        elif picture.url:
            parts.append(ImageUrl(picture.url, media_type=picture.media_type or None))
        else:
            parts.append(BinaryContent(picture.data, media_type=picture.media_type))
    return parts if len(parts) > 1 or not isinstance(parts[0], str) else parts[0]


def parts_of(message: Answered) -> list[Any]:
    """An answer as its provider said it, as far as it must be."""
    from pydantic_ai.messages import ModelMessagesTypeAdapter, TextPart, ToolCallPart

    if message.parts is not None:
        (rebuilt,) = ModelMessagesTypeAdapter.validate_python([{"kind": "response", "parts": message.parts}])
        return list(rebuilt.parts)
    parts: list[Any] = [TextPart(message.content)] if message.content or not message.calls else []
    return parts + [ToolCallPart(call.tool, call.arguments if call.raw is None else {"no JSON": call.raw},
                                 call.id) for call in message.calls]


def _text_in(event: Any) -> str:
    """The text that an event of a stream adds."""
    kind = event.event_kind
    if kind == "part_start" and event.part.part_kind == "text":
        return str(event.part.content)
    if kind == "part_delta" and event.delta.part_delta_kind == "text":
        return str(event.delta.content_delta)
    return ""


def answer_of(response: ModelResponse, *, priced: bool) -> Answer:
    """An answer in our words. `priced`: with its cost, if the price of the model is known."""
    from pydantic_ai.messages import ModelMessagesTypeAdapter, TextPart, ToolCallPart

    text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
    calls = tuple(_call(part) for part in response.parts if isinstance(part, ToolCallPart))
    more = any(not isinstance(part, TextPart | ToolCallPart) or part.provider_details or part.id
               for part in response.parts)
    parts: list[Any] | None = None
    if more and calls:  # what was thought goes back with the results of the tools
        parts = ModelMessagesTypeAdapter.dump_python([response], mode="json")[0]["parts"]
    usage = response.usage
    cost = _cost(response) if priced else None
    return Answer(Answered(text, calls, parts), response.model_name or "", usage.input_tokens,
                  usage.output_tokens, cost, str(response.finish_reason or ""))


def counted(answer: Answer, request: Request) -> Answer:
    """An answer with about the tokens that it took, if its provider has counted none: a budget must hold."""
    if answer.input_tokens or answer.output_tokens:
        return answer
    asked = tokens_in((System(request.system), *request.messages))
    return msgspec.structs.replace(answer, input_tokens=asked, output_tokens=tokens_in([answer.message]))


def _call(part: Any) -> Call:
    """A call of a tool; arguments that are no JSON map stay as they came."""
    given = part.args
    if isinstance(given, dict):
        return Call(part.tool_call_id, part.tool_name, given)
    try:
        arguments = json.loads(given or "{}")
    except ValueError:
        arguments = None
    if isinstance(arguments, dict):
        return Call(part.tool_call_id, part.tool_name, arguments)
    return Call(part.tool_call_id, part.tool_name, raw=given)


def _cost(response: ModelResponse) -> float | None:
    """US dollars, if the price of the model is known here: nobody is asked."""
    try:
        return float(response.cost().total_price)
    except (LookupError, ValueError, AssertionError):
        return None


def _error(error: Any, who: str, place: str) -> ModelError:
    """A provider's error in our words; `place` is where it was asked."""
    from pydantic_ai.exceptions import (
        ModelAPIError,
        ModelConnectionError,
        ModelHTTPError,
        ModelQuotaExceededError,
        ModelTimeoutError,
        ModelUnavailableError,
        UnexpectedModelBehavior,
    )

    if isinstance(error, ModelHTTPError):
        status = error.status_code
        final = isinstance(error, ModelQuotaExceededError)
        return ModelError(f"{who}: status {status}: {_reason(error)}", status=status,
                          retry_after=error.retry_after,
                          retryable=not final and (status in _RETRYABLE or 500 <= status <= 599))
    if isinstance(error, ModelTimeoutError):
        return ModelError(f"{who}: no answer in time from {place}: {_reason(error)}", retryable=True)
    if isinstance(error, ModelConnectionError):
        return ModelError(f"{who}: no connection with {place}: {_reason(error)}", retryable=True)
    if isinstance(error, ModelAPIError):
        return ModelError(f"{who}: {_reason(error)}", retry_after=error.retry_after,
                          retryable=isinstance(error, ModelUnavailableError) or error.in_stream)
    if isinstance(error, UnexpectedModelBehavior):
        return ModelError(f"{who}: the answer can't be read: {error.message}", retryable=True)
    return ModelError(f"{who}: {error}")


def _place(url: str | None) -> str:
    """An address as it may be shown: without a user."""
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _reason(error: Any) -> str:
    """The provider's own message, as far as it has one."""
    body = error.body
    while isinstance(body, dict) and "error" in body:
        body = body["error"]
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    if isinstance(body, str) and body.strip():
        return " ".join(body.split())[:_SHOWN_CHARS]
    cause = error.__cause__
    said = error.message
    while cause is not None and cause.__cause__ is not None:
        cause = cause.__cause__
    if cause is not None and str(cause) and str(cause) not in said:
        return f"{said.rstrip('.')}: {cause}"
    return str(said)
