"""The monitor: watch executions over HTTP and WebSocket, and act on them (extra `monitor`).

    async with Engine.open("sqlite:///runs.db") as engine, Monitor(engine.store, engine=engine) as monitor:
        async with serve(monitor, Settings(port=8484)) as served:
            print(served.link)
            await served.wait()

`core` holds what everything else is given; `app` puts the parts together; `settings` say how it is reached,
and `auth` decides who may come in; `api` are the answers over HTTP, `live` the messages over WebSocket,
`static` the built page. `openapi.json` is drawn from `api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from treadle.monitor.app import create_app
    from treadle.monitor.core import Monitor
    from treadle.monitor.serving import serve
    from treadle.monitor.settings import Settings

__all__ = ["Monitor", "Settings", "create_app", "serve"]

_HOMES = {"Monitor": "core", "Settings": "settings", "create_app": "app", "serve": "serving"}


def __getattr__(name: str) -> object:
    """The names above, each loaded when it is asked for: starlette and uvicorn are for those who serve."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
