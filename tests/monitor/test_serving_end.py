"""The end of a server while others still want something of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path

from treadle.engine.engine import Engine
from treadle.monitor import Monitor, Settings, serve

TOKEN = "token-of-those-who-do-not-read"
BIG = """
treadle: 1
name: big
nodes:
  big: {type: code_job, code: "return context.blob(bytes(16_000_000), 'zeros')"}
"""


def test_downloads_that_nobody_reads_do_not_keep_the_server(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(BIG)

    async def main() -> float:
        async with Engine.open(f"{tmp_path}/runs.db") as engine:
            handle = await engine.start(str(tmp_path / "big.yaml"))
            await handle.wait()
            with contextlib.ExitStack() as sockets:
                async with Monitor(engine.store) as monitor, serve(
                        monitor, Settings(read_token=TOKEN)) as served:
                    head = (f"GET /api/executions/{handle.execution_id}/output?node=big HTTP/1.1\r\n"
                            f"Host: 127.0.0.1:{served.port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
                    for _ in range(20):
                        one = sockets.enter_context(socket.create_connection(("127.0.0.1", served.port)))
                        one.sendall(head.encode())
                        begun = await asyncio.to_thread(one.recv, 15)
                        assert begun == b"HTTP/1.1 200 OK"
                    left = time.monotonic()
                return time.monotonic() - left

    assert asyncio.run(main()) < 1.5  # 0.3 s on a machine that has time
