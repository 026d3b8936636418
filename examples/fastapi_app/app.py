"""Executions behind an HTTP API: `uvicorn app:app`. One engine lives as long as the application."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from treadle import Engine
from treadle.engine.handle import Handle
from treadle.errors import InvalidInput, LeaseHeld, NoSuchExecution, NoSuchNode

DIAGRAM = Path(__file__).parent / "diagram.yaml"
engine: Engine


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    global engine
    # What a crash or a stop of this application left is gone on with.
    async with Engine.open(os.environ.get("TREADLE_STORE", "runs.db"), recover=True) as engine:
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(LeaseHeld)
async def elsewhere(request: Request, error: LeaseHeld) -> JSONResponse:
    """Another worker of this application, or a `treadle run`, has the execution at the moment."""
    return JSONResponse({"detail": str(error)}, 409)


@app.post("/runs", status_code=201)
async def start(inputs: dict[str, Any]) -> dict[str, Any]:
    try:
        handle = await engine.start(DIAGRAM, inputs)
    except InvalidInput as error:
        raise HTTPException(422, str(error)) from None
    return {"id": handle.execution_id}


@app.get("/runs/{run}")
async def show(run: str) -> dict[str, Any]:
    status = await status_of(run)
    if status == "completed":
        return {"id": run, "status": status, "result": await (await engine.resume(run)).result()}
    assert engine.manager is not None
    _, cells = await engine.manager.read(engine.store.load, run)
    waiting = [cell.node_id for cell in cells if cell.status == "suspended"]
    return {"id": run, "status": status, "waiting": waiting}


@app.get("/runs/{run}/events")
async def events(run: str) -> StreamingResponse:
    """Server-sent events, from now on until the execution waits for somebody, or ends."""
    handle = await open_handle(run)

    async def lines() -> AsyncIterator[str]:
        async for event in handle.events():
            said = {"type": event.type, "node": getattr(event.cell, "node_id", None)}
            yield f"data: {json.dumps(said)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.post("/runs/{run}/answer")
async def answer(run: str, node: Annotated[str, Body()], value: Annotated[Any, Body()]) -> dict[str, Any]:
    handle = await open_handle(run)
    try:
        await handle.answer(node, value)
    except (InvalidInput, NoSuchNode) as error:
        raise HTTPException(422, str(error)) from None
    return {"id": run}


@app.post("/runs/{run}/cancel")
async def cancel(run: str, reason: Annotated[str, Body(embed=True)] = "") -> dict[str, Any]:
    await (await open_handle(run)).cancel(reason)
    return await show(run)


async def status_of(run: str) -> str:
    running = engine.running.get(run)
    if running is not None:
        return running
    try:
        assert engine.manager is not None
        return (await engine.manager.read(engine.store.summary, run)).cell.status
    except NoSuchExecution as error:
        raise HTTPException(404, str(error)) from None


async def open_handle(run: str) -> Handle:
    """The handle of an execution that has not ended; 409 if it has, since a resume would run it again."""
    status = await status_of(run)
    if status in ("completed", "failed", "cancelled"):
        raise HTTPException(409, f"execution {run} is {status}")
    return await engine.resume(run)
