"""The door: reads the command line, and turns every error into few lines and an exit code.

Exit codes: 0 completed, 1 failed, 2 wrong usage or a diagram, input or store that can't be used, 3 suspended,
130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING

from treadle import __version__
from treadle.foreign import attempt

if TYPE_CHECKING:
    import typer

DEBUG = "TREADLE_DEBUG"
"""Set in the environment, it shows the whole traceback of an error that is our own fault."""

SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGPIPE] if hasattr(signal, "SIGPIPE") else [])]


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM, where no event loop listens for them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        print(f"treadle {__version__}")
        return 0
    with _own_signals():
        return _guarded(given)


@contextmanager
def _own_signals() -> Iterator[None]:
    """What a command does to signals is its own: after it, the process that called `main` has what it had."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)


def _guarded(given: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that can't show `…` must not end a run
            stream.reconfigure(errors="backslashreplace")
    code, error = attempt(_run, given)
    if error is None:
        return int(code)
    if isinstance(error, Interrupted):
        print("treadle: interrupted; nothing was under way", file=sys.stderr)
        return 130
    # What the commands did not foresee, and every error that teaches
    from treadle.cli.common import readers_may_leave
    from treadle.cli.render import report

    readers_may_leave()
    return report(error, as_json="--json" in given, debug=bool(os.environ.get(DEBUG)))


def _run(given: list[str]) -> int:
    from treadle.cli.common import readers_may_leave

    try:
        _app(given)(args=given, prog_name="treadle")
    except SystemExit as end:
        readers_may_leave()  # all is over but what is still to be printed
        wrong = getattr(end.__context__, "format_message", None)  # click's own errors: how it was called
        if wrong is not None and "--json" in given:
            from treadle.cli.render import print_json

            print_json({"status": "refused", "error": {"type": "Usage", "message": wrong()}})
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 2
    return 0


def _app(given: list[str]) -> typer.Typer:
    import typer

    from treadle.cli import author, common, housekeeping, keys, serve, testing
    from treadle.cli.drawing import command as drawing
    from treadle.cli.inspecting import cached, compare, inspect, plugins, transfer
    from treadle.cli.running import control, run, watching

    app = typer.Typer(
        help="Run workflow diagrams that survive crashes and resume where they stopped.",
        epilog="Exit codes: 0 completed, 1 failed, 2 wrong usage or invalid diagram, 3 suspended, "
               "130 interrupted.",
        no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
    app.callback()(common.options)
    for function in (run.run, run.resume, run.fork, author.check, author.convert, testing.test,
                     inspect.list_, inspect.show, inspect.logs, control.cancel, control.answer,
                     control.signal, author.init, author.nodes,
                     cached.cache, author.schema, compare.diff, transfer.export, transfer.import_,
                     housekeeping.prune, housekeeping.doctor, plugins.plugins, drawing.render, serve.serve,
                     watching.watch):
        app.command(function.__name__.rstrip("_"))(common.keyed(function))
    app.add_typer(keys.keys, name="keys")
    taken = {str(one.name) for one in app.registered_commands}
    if next((word for word in given if not word.startswith("-")), None) not in taken:
        for name, added in plugins.added_commands(taken).items():
            app.command(name)(added)
    return app


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


if __name__ == "__main__":
    sys.exit(main())
