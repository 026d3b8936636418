"""`python -m treadle.testing.llm [--port N] [--key KEY] [--answers FILE]`: the server until it is stopped.

Prints its URL as the first line. Without --answers (a JSON list) it says r1, r2, r3, …
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from treadle.testing.llm import LLMServer, Reply


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m treadle.testing.llm",
                                     description="A server that speaks like OpenAI's, for tests.")
    parser.add_argument("--port", type=int, default=0, help="its port; 0 is any free one")
    parser.add_argument("--key", help="the key that requests must carry")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="a JSON list of answers, in order")
    parser.add_argument("--say", metavar="TEXT", help="the answer to every request")
    parser.add_argument("--after", type=float, default=0.0, help="seconds until the first byte of --say")
    given = parser.parse_args()
    answers: list[Any] = []
    if given.answers is not None:
        answers = msgspec.json.decode(given.answers.read_bytes(), type=list)
    if given.say is not None:
        reply = Reply(text=given.say, after=given.after)
        answers = [lambda asked: reply]
    with LLMServer(*answers, key=given.key, port=given.port) as server:
        print(server.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
