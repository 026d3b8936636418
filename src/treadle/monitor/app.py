"""The server's parts put together: routes, sockets, the page, and the guard in front of all."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from treadle.monitor.api import routing
from treadle.monitor.auth import Guard, problem, with_headers
from treadle.monitor.core import Monitor
from treadle.monitor.settings import Settings

STATIC = Path(__file__).parent / "static"
"""The built page."""
SUBJECTS = ("executions", "nodes", "values", "actions", "diagrams", "system")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
UNBUILT = """<!doctype html><meta charset="utf-8"><title>Treadle</title>
<p>The page is not built: say <code>make web</code>. The API is at <code>/api/executions</code>.</p>"""

for _name in SUBJECTS:
    import_module(f"treadle.monitor.api.{_name}")


def create_app(monitor: Monitor, settings: Settings | None = None) -> Starlette:
    """The ASGI app of a monitor that is open. Without settings it has random tokens, which nobody knows."""
    app = _App(
        routes=[*routing.routes(monitor), *_sockets(monitor),
                Route("/api/{path:path}", _nowhere, methods=list(METHODS)),
                Route("/{path:path}", _page)],
        middleware=[Middleware(Guard, settings=settings or Settings())],
        exception_handlers={HTTPException: _http, Exception: _fault})
    app.state.monitor = monitor
    return app


class _App(Starlette):
    def build_middleware_stack(self) -> ASGIApp:
        """With the headers of every answer also on those to a fault, which come from outside the guard."""
        inside = super().build_middleware_stack()

        async def outside(scope: Scope, receive: Receive, send: Send) -> None:
            await inside(scope, receive, with_headers(send))

        return outside


def _sockets(monitor: Monitor) -> list[BaseRoute]:
    from treadle.monitor.live.socket import live

    async def socket(websocket: WebSocket) -> None:
        websocket.scope["path_params"] = routing.parameters(websocket)
        await live(websocket, monitor)

    return [WebSocketRoute("/api/live", socket), WebSocketRoute("/api/executions/{id}/live", socket),
            WebSocketRoute("/{path:path}", _no_socket)]


async def _no_socket(websocket: WebSocket) -> None:
    text = problem("NotFound", f"there is no socket at {websocket.url.path}",
                   "there is /api/live and /api/executions/{id}/live")
    await websocket.send_denial_response(Response(text, 404, media_type="application/json"))


PLACES = ("executions", "diagrams", "diff")
"""What addresses in the page begin with."""


async def _page(request: Request) -> Response:
    """A file of the page; for any other address the page itself."""
    name = request.path_params["path"]
    root = STATIC.resolve()
    path = _file(root, name) if name and "\0" not in name and "\\" not in name else None
    if path is not None:
        hashed = path.parent.name == "assets"
        return FileResponse(path, headers={
            "cache-control": "public, max-age=31536000, immutable" if hashed else "no-cache"})
    if "." in name.rpartition("/")[2] and not name.endswith(".html"):
        return Response("there is no such file", 404, media_type="text/plain")
    index = root / "index.html"
    if name.split("/")[0] in PLACES:  # as somebody typed it: the page's places are behind a #
        asked = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/{asked}#/{quote(name)}", 307)
    if not index.is_file():
        return HTMLResponse(UNBUILT, headers={"cache-control": "no-cache"})
    return FileResponse(index, headers={"cache-control": "no-cache"})


def _file(root: Path, name: str) -> Path | None:
    """A file of the page other than the page itself."""
    try:
        path = (root / name).resolve()
        return path if path.is_relative_to(root) and path.is_file() and path.name != "index.html" else None
    except OSError:  # a name that is too long for any
        return None


async def _nowhere(request: Request) -> Response:
    path = request.url.path
    allowed = sorted({one.method for one in routing.OPERATIONS if compile_path(one.path)[0].match(path)})
    if allowed:
        raise HTTPException(405, f"there is no {request.method} here, but {', '.join(allowed)}",
                            {"allow": ", ".join(allowed)})
    raise HTTPException(404, f"there is nothing at {path}")


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "Refused")
    return Response(problem(kind, error.detail), error.status_code, error.headers, "application/json")


async def _fault(request: Request, error: Exception) -> Response:
    """A fault of ours: it is logged with its traceback, and the viewer hears only of what type it is."""
    text = problem("Internal", f"a fault of Treadle's own: {type(error).__name__}",
                   "the server's log says more; please report it")
    return Response(text, 500, media_type="application/json")


