"""What an operation is: a function with a path, from which its route and its documentation are made.

    @operation("GET", "/api/executions/{id}")
    def execution(ask: Ask[None, None]) -> Whole: ...

A plain function is called in a thread of the monitor's, and may read the store; an async one on the loop. The
types of its one argument are those of the query and of the body; what it returns is encoded as JSON, unless
it is a Response. Errors of Treadle become answers with a status and a message that says what to do.
"""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import unquote

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from treadle.engine.showing import message_of
from treadle.errors import (
    InvalidDiagram,
    KeyForgotten,
    LeaseHeld,
    LeaseLost,
    LimitExceeded,
    NoSuchExecution,
    NoSuchNode,
    StoreError,
    TreadleError,
)
from treadle.monitor.auth import Viewer, problem
from treadle.monitor.core import Monitor, Refused
from treadle.monitor.drawn import fault, other_plugins
from treadle.monitor.views import as_json

Q = TypeVar("Q")
B = TypeVar("B")
Method = Literal["GET", "POST", "DELETE"]

JSON = "application/json"
SMALL_BYTES = 64 * 1024
"""A body of more is decoded in a thread."""
PIECE_BYTES = 64 * 1024
"""An answer of more is sent in pieces of so many."""
STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (NoSuchExecution, 404), (NoSuchNode, 404), (KeyForgotten, 404), (LeaseHeld, 409), (LeaseLost, 409),
    (LimitExceeded, 413), (StoreError, 503), (TreadleError, 422), (OSError, 422))
"""The status of an error; the first that fits counts."""


class Ask(msgspec.Struct, Generic[Q, B]):
    """One request to an operation. `id` and the other names in its path are in `path`."""

    monitor: Monitor
    viewer: Viewer
    path: dict[str, str]
    query: Q
    body: B
    request: Request

    @property
    def id(self) -> str:
        return self.path["id"]


class Operation(msgspec.Struct, frozen=True):
    """One thing that can be asked for."""

    method: Method
    path: str
    writes: bool
    status: int
    name: str
    says: str
    query: Any
    body: Any
    answer: Any
    function: Callable[[Any], Any]
    content: str = JSON
    public: bool = False


OPERATIONS: list[Operation] = []


def operation(method: Method, path: str, *, writes: bool | None = None, status: int = 200,
              content: str = JSON, public: bool = False, answer: Any = None,
              ) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Make a function an operation. `writes`: it needs the right to write, as all but GET do unless said;
    `public`: it needs no token. `answer` is the type of what it has encoded itself."""

    def add(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        hints = typing.get_type_hints(function)
        query, body = typing.get_args(hints["ask"])
        may = method != "GET" if writes is None else writes
        OPERATIONS.append(Operation(
            method, path, may, status, function.__name__.rstrip("_"),
            " ".join((inspect.getdoc(function) or "").split()), _none(query), _none(body),
            answer or hints["return"], function, content, public))
        return function

    return add


def _none(kind: Any) -> Any:
    return None if kind is type(None) else kind


def routes(monitor: Monitor) -> list[Route]:
    """A route for each operation."""
    return [Route(one.path, partial(_perform, monitor, one), methods=[one.method]) for one in OPERATIONS]


def parameters(request: HTTPConnection) -> dict[str, str]:
    """What stands in a path, which is taken apart as it was sent (see `Guard`): an id may hold a slash."""
    return {name: unquote(value) for name, value in request.path_params.items()}


async def _perform(monitor: Monitor, one: Operation, request: Request) -> Response:
    try:
        viewer = _viewer(request, one)
        query = None if one.query is None else _query(request, one.query)
        body = None if one.body is None else await _body(request, one.body, monitor)
        ask = Ask(monitor, viewer, parameters(request), query, body, request)
        if inspect.iscoroutinefunction(one.function):
            return await monitor.read(_encoded, await one.function(ask), one)
        return await monitor.read(lambda: _encoded(one.function(ask), one))
    except Refused as no:
        return _problem(no.status, no.kind, str(no), no.hint)
    except InvalidDiagram as error:
        return _problem(422, "InvalidDiagram", message_of(error), other_plugins(error.faults),
                        faults=list(map(fault, error.faults)))
    except (TreadleError, OSError) as error:
        status = next(status for kind, status in STATUSES if isinstance(error, kind))
        return _problem(status, type(error).__name__, message_of(error))


def _viewer(request: Request, one: Operation) -> Viewer:
    viewer: Viewer | None = request.scope.get("viewer")
    if viewer is None and one.public:
        return Viewer(may_write=False)
    if viewer is None:
        raise Refused(401, "NoToken", "this needs a token", "open the link that the server printed, or send "
                                                            "`Authorization: Bearer TOKEN`")
    if one.writes and not viewer.may_write:
        raise Refused(403, "ReadOnly", "this token may only read", "use the link with which one may write")
    return viewer


def _query(request: Request, kind: Any) -> Any:
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise Refused(400, "BadQuery", f"`{name}` is given twice")
        given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        hint = f"there is {', '.join(kind.__struct_encode_fields__)}"
        raise Refused(400, "BadQuery", str(error), hint) from None


async def _body(request: Request, kind: Any, monitor: Monitor) -> Any:
    said = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if said != JSON:
        raise Refused(415, "BadBody", f"the body is {said}", "send JSON, as application/json")
    raw = await request.body()
    try:
        if len(raw) > SMALL_BYTES:
            return await monitor.read(partial(msgspec.json.decode, raw, type=kind))
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fields = ", ".join(getattr(kind, "__struct_encode_fields__", ()))
        raise Refused(400, "BadBody", str(error), f"there is {fields}" if fields else None) from None


def _encoded(answer: Any, one: Operation) -> Response:
    if isinstance(answer, Response):
        return answer
    return sent(as_json(answer), one.status, one.content)


def sent(text: bytes, status: int = 200, content: str = JSON) -> Response:
    """An answer. A large one goes in pieces, and the loop has other things to do in between."""
    if len(text) <= PIECE_BYTES:
        return Response(text, status, media_type=content)
    return StreamingResponse(_pieces(text), status, {"content-length": str(len(text))}, content)


async def _pieces(text: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(text)
    for start in range(0, len(text), PIECE_BYTES):
        yield view[start:start + PIECE_BYTES]
        await asyncio.sleep(0)


def _problem(status: int, kind: str, message: str, hint: str | None = None, **more: Any) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return Response(problem(kind, message, hint, **more), status, headers, JSON)
