"""An MCP server as small as it can be, with bad habits on demand: `mcp_by_hand.py [HABIT]`."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

HABIT = sys.argv[1] if len(sys.argv) > 1 else ""
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NONE: dict[str, Any] = {"type": "object", "properties": {}}
TOOLS = {"echo": TEXT, "shout.loud": TEXT} | dict.fromkeys((
    "picture", "structured", "fail", "refuse", "die", "hang", "env", "pid", "large", "links", "odd"), NONE)
PIXEL = "iVBORw0KGgo="
lock = threading.Lock()


def say(message: dict[str, Any]) -> None:
    with lock:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def text(said: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}]}


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    match name:
        case "echo":
            return text(arguments["text"])
        case "shout.loud":
            return text(arguments["text"].upper())
        case "picture":
            return {"content": [{"type": "text", "text": "a dot"},
                                {"type": "image", "data": PIXEL, "mimeType": "image/png"}]}
        case "structured":
            return {**text('{"n": 1}'), "structuredContent": {"n": 1}}
        case "fail":
            return {**text("it broke"), "isError": True}
        case "die":
            print("out of memory", file=sys.stderr, flush=True)
            os._exit(3)
        case "hang":
            time.sleep(60)
        case "env":
            return text(json.dumps(dict(os.environ)))
        case "pid":
            return text(str(os.getpid()))
        case "large":
            return text("x" * 3_000_000)
        case "links":
            return {"content": [
                {"type": "resource_link", "name": "notes", "uri": "file:///notes.txt"},
                {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "inside"}},
                {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}]}
    return {"content": "not a list"}


def answer(message: dict[str, Any]) -> None:
    method, number = message.get("method"), message.get("id")
    if number is None:
        return
    if method == "initialize":
        print("starting up", file=sys.stderr, flush=True)
        say({"id": number, "result": {
            "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
            "serverInfo": {"name": "by hand", "version": "1"}}})
    elif method == "tools/list":
        rows = [{"name": name, "description": f"It can {name}.", "inputSchema": schema}
                for name, schema in TOOLS.items()]
        begin = int((message.get("params") or {}).get("cursor") or 0)
        page: dict[str, Any] = {"tools": rows[begin:begin + 6]}
        if begin + 6 < len(rows):
            page["nextCursor"] = str(begin + 6)
        say({"id": number, "result": page})
    elif method == "tools/call":
        name = message["params"]["name"] if HABIT != "frail" else "die"
        if name == "refuse":
            say({"id": number, "error": {"code": -32602, "message": "no such thing here"}})
        else:
            if HABIT == "chatty":
                say({"method": "notifications/message",
                     "params": {"level": "warning", "logger": "hand", "data": {"called": name}}})
            say({"id": number, "result": call(name, message["params"].get("arguments") or {})})
    else:
        say({"id": number, "error": {"code": -32601, "message": f"no method {method}"}})


if HABIT == "chatty":
    print("welcome to the server", flush=True)
if HABIT == "stubborn":
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
if HABIT == "stubborn":
    time.sleep(60)
