"""`run`, `resume` and `fork`: an execution from here to its end, or to where it has to wait."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from treadle.cli.common import (
    COMPLETED,
    FAILED,
    INTERRUPTED,
    SUSPENDED,
    WRONG,
    ExecutionArgument,
    JsonOption,
    StoreOption,
    load_diagram,
    parse_environment,
    parse_inputs,
    readers_may_leave,
    say_command,
)
from treadle.cli.render import (
    achieved,
    counted,
    failure,
    iso,
    local,
    prefixed,
    print_json,
    result_text,
    say,
    seconds,
)
from treadle.cli.running.edited import (
    DiagramOption,
    RecordedOption,
    YesOption,
    agree,
    foretell,
    planned,
    say_plan,
)
from treadle.cli.running.history import check_folder
from treadle.cli.running.people import (
    NOBODY,
    People,
    RecordOption,
    ReplayOption,
    ScriptOption,
    TokensOption,
    people,
)
from treadle.cli.running.progress import Logged, View, aside, follow, view_for
from treadle.cli.running.served import RateOption, ServeOption, beside
from treadle.errors import InvalidInput, LeaseLost, StoreError
from treadle.state.cell import ErrorInfo, ExecutionCell
from treadle.state.status import ExecutionStatus

if TYPE_CHECKING:
    from treadle.diagram.diagram import DiagramSpec
    from treadle.engine.engine import Engine
    from treadle.engine.handle import Handle
    from treadle.engine.plan import Plan

EXIT_CODES = {ExecutionStatus.COMPLETED: COMPLETED, ExecutionStatus.FAILED: FAILED,
              ExecutionStatus.CANCELLED: FAILED, ExecutionStatus.SUSPENDED: SUSPENDED,
              ExecutionStatus.RUNNING: INTERRUPTED}
"""By the status in which the engine left the execution."""


class Durability(StrEnum):
    BATCHED = "batched"
    STRICT = "strict"
    MEMORY = "memory"


class OnError(StrEnum):
    FAIL = "fail"
    CONTINUE = "continue"


LiveOption = Annotated[bool | None, typer.Option(
    "--live/--no-live", show_default=False, help="Show progress in place. [default: on a terminal]")]
ConcurrencyOption = Annotated[int | None, typer.Option(
    "--concurrency", min=1, metavar="N", show_default=False, help="Node bodies at once. [default: 256]")]
HistoryOption = Annotated[Path | None, typer.Option(
    "--state-history", metavar="DIR", show_default=False,
    help="Write the states as files, too: a folder in DIR, for people to read, and to import.")]

EnvOption = Annotated[list[str] | None, typer.Option(
    "--env", metavar="NAME=VALUE", show_default=False,
    help="A variable for the programs that nodes start, as often as needed; VALUE may be secret://NAME.")]
SecretStoreOption = Annotated[str | None, typer.Option(
    "--secret-store", metavar="URL", show_default=False,
    help="Where secret://NAME is looked up: env:, file:PATH or vault://MOUNT/PATH. [default: what the "
         "diagram says, else env:]")]


def run(
    file: Annotated[str, typer.Argument(
        metavar="FILE", help="The diagram: YAML or JSON.", show_default=False)],
    inputs: Annotated[list[str] | None, typer.Option(
        "--input", "-i", metavar="NAME=VALUE", show_default=False,
        help="An input of the execution, as often as needed; NAME=@FILE is a file's content.")] = None,
    store: StoreOption = None,
    durability: Annotated[Durability, typer.Option(
        help="What a crash may lose: batched, the last 0.1 s; strict, nothing; memory, all of it.",
    )] = Durability.BATCHED,
    execution_id: Annotated[str | None, typer.Option(
        metavar="ID", show_default=False, help="The execution's id. [default: a fresh one]")] = None,
    on_error: Annotated[OnError | None, typer.Option(
        show_default=False,
        help="What a failure does to the rest, instead of what the diagram says.")] = None,
    concurrency: ConcurrencyOption = None,
    state_history: HistoryOption = None,
    env: EnvOption = None,
    secret_store: SecretStoreOption = None,
    script: ScriptOption = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
    llm_tokens_max: TokensOption = None,
    serve: ServeOption = False,
    rate: RateOption = 4.0,
    live: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a diagram. Its result goes to stdout, everything else to stderr.

    Waits through sleeps of up to a minute; when only a person, a signal or a later time can move the
    execution on, the command ends with 3 and says how to go on.
    """
    spec = _load(file, on_error)
    given = parse_inputs(inputs or (), spec.inputs)
    _check_id(execution_id)
    talking = people(script, record, replay, tokens_max=llm_tokens_max)

    async def begin(engine: Engine, view: View) -> Handle:
        compiled = engine.compile(spec)
        for warning in compiled.warnings:
            view.line(str(warning))
        return await engine.start(compiled, given, execution_id=execution_id)

    raise typer.Exit(Performance(store, durability, live, as_json, concurrency, Path(spec.base),
                                 history=state_history, environment=parse_environment(env or ()),
                                 secret_store=_secret_store(secret_store), serve=rate if serve else None,
                                 talking=talking)
                     .perform(begin, "runs"))


def resume(
    execution_id: ExecutionArgument,
    diagram: DiagramOption = None,
    recorded: RecordedOption = False,
    strict: Annotated[bool, typer.Option(
        "--strict", help="Refuse to go on if the diagram is not the one it was recorded with.")] = False,
    dry_run: Annotated[bool, typer.Option(
        "--dry-run", "-n", help="Say what would be kept and performed anew, and do nothing.")] = False,
    yes: YesOption = False,
    store: StoreOption = None,
    concurrency: ConcurrencyOption = None,
    state_history: HistoryOption = None,
    script: ScriptOption = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
    llm_tokens_max: TokensOption = None,
    live: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with an execution that was interrupted, crashed, waits, failed or was cancelled.

    What is recorded is not run again, unless the diagram's file, or code that it names, was edited since:
    then the plan says what is kept and what is performed anew, and a terminal is asked. One that has
    completed, and is not edited, is not run at all: its result is printed.
    """
    talking = people(script, record, replay, tokens_max=llm_tokens_max)
    what = planned(store, execution_id, diagram, recorded=recorded)
    if dry_run:
        foretell(what, as_json=as_json)
        raise typer.Exit(WRONG if strict and what.plan.changes else COMPLETED)
    if what.plan.changes and not strict and not what.held:  # else it is refused, whatever one agrees to
        agree(what, yes=yes, quiet=as_json)

    async def begin(engine: Engine, view: View) -> Handle:
        engine.standins.check(what.diagram)
        return await engine.resume(what.cell.execution_id, diagram=what.diagram, strict=strict)

    raise typer.Exit(Performance(store, _durability(what.cell), live, as_json, concurrency,
                                 Path(what.diagram.spec.base), what.plan, history=state_history,
                                 talking=talking).perform(begin, "goes on"))


def fork(
    execution_id: ExecutionArgument,
    at: Annotated[str | None, typer.Option(
        "--from", metavar="NODE", show_default=False,
        help="Where the new execution begins: a node's path (report, parse[17], sub/inner).")] = None,
    inputs: Annotated[list[str] | None, typer.Option(
        "--input", "-i", metavar="NAME=VALUE", show_default=False,
        help="Another input; the others stay. NAME=@FILE is a file's content.")] = None,
    diagram: DiagramOption = None,
    recorded: RecordedOption = False,
    fork_id: Annotated[str | None, typer.Option(
        "--execution-id", metavar="ID", show_default=False,
        help="The new execution's id. [default: a fresh one]")] = None,
    store: StoreOption = None,
    concurrency: ConcurrencyOption = None,
    state_history: HistoryOption = None,
    env: EnvOption = None,
    secret_store: SecretStoreOption = None,
    script: ScriptOption = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
    llm_tokens_max: TokensOption = None,
    live: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a new execution from any point of an old one, which stays as it is.

    What is recorded before NODE is taken over; NODE and what follows it are performed. Without --from it
    begins where changed inputs may be seen, where the diagram was edited, and where the old one had failed or
    not ended.
    """
    _check_id(fork_id)
    talking = people(script, record, replay, tokens_max=llm_tokens_max)
    what = planned(store, execution_id, diagram, recorded=recorded)
    if what.plan.changes and not as_json:
        say_plan(what, kept=False)
    name, given = what.cell.execution_id, parse_inputs(inputs or (), what.diagram.inputs)

    async def begin(engine: Engine, view: View) -> Handle:
        engine.standins.check(what.diagram)
        handle = await engine.fork(name, given, at=at, diagram=what.diagram, fork_id=fork_id)
        view.line(f"takes over {counted(handle.counts.get('completed', 0), 'result')} of execution {name}")
        return handle

    raise typer.Exit(Performance(store, _durability(what.cell), live, as_json, concurrency,
                                 Path(what.diagram.spec.base), what.plan, history=state_history,
                                 environment=parse_environment(env or ()),
                                 secret_store=_secret_store(secret_store), talking=talking)
                     .perform(begin, "is a fork"))


def _secret_store(url: str | None) -> str | None:
    """A URL that means the same wherever the execution is resumed."""
    if url is not None and url.startswith("file:"):
        url = f"file:{Path(url.removeprefix('file:').removeprefix('//')).expanduser().absolute()}"
    return url


def _check_id(execution_id: str | None) -> None:
    if execution_id is not None and not execution_id.strip():
        raise InvalidInput("--execution-id: the id can't be empty")


def _durability(cell: ExecutionCell) -> Durability:
    return Durability(msgspec.json.decode(cell.options).get("durability", Durability.BATCHED))


def _load(file: str, on_error: OnError | None) -> DiagramSpec:
    from treadle.diagram.policy import OnError as Policy

    spec = load_diagram(file)
    if on_error is not None and spec.on_error != on_error.value:
        # Written out anew, so that a resume finds it as well.
        spec = msgspec.structs.replace(spec, on_error=Policy(on_error.value), source="")
    return spec


class Performance:
    """One execution, performed by this process: signals, progress, and what is said at the end. `folder` is
    the diagram's, where plugins are looked for."""

    def __init__(self, store: str | None, durability: Durability, live: bool | None, as_json: bool,
                 concurrency: int | None, folder: Path, plan: Plan | None = None, *,
                 history: Path | None = None, environment: Mapping[str, str] | None = None,
                 secret_store: str | None = None, serve: float | None = None,
                 talking: People = NOBODY) -> None:
        from treadle.config import read_limits, read_retention
        from treadle.crypto.secrets import ENV, Secrets
        from treadle.hooks.manager import PluginManager

        if durability is Durability.MEMORY and store is not None:
            raise InvalidInput("--durability memory writes nothing: leave --store out, or choose batched or "
                               "strict")
        if history is not None:
            if durability is Durability.MEMORY:
                raise InvalidInput("--durability memory writes nothing: leave --state-history out, or choose "
                                   "batched or strict")
            check_folder(history)
        self.history, self.folder = history, folder
        self.environment, self.secret_store, self.serve = environment, secret_store, serve
        self.talking = talking
        self.config = talking.limits(read_limits(Path.cwd()))
        if concurrency is not None:
            self.config = msgspec.structs.replace(self.config, concurrency=concurrency)
        self.plugins = PluginManager.discover(folder, config=self.config,
                                              secrets=lambda said: self._secrets.resolve(said))
        self._secrets = Secrets(secret_store or ENV, made=self.plugins.secret_stores())  # of plugins
        self.store, self.durability, self.as_json = store, durability, as_json
        found = None if durability is Durability.MEMORY else read_retention(Path.cwd())
        self.retention = None if found is None else found[0]
        self.policy = None if found is None else found[1]
        self.plan = plan
        self.view = view_for(live=live, as_json=as_json)
        self.plugins.home = aside(self.view)
        self.interrupted = asyncio.Event()
        self.staying = False  # the page stays, and nothing runs
        self.unsaved = 0
        self.result: Any = None

    def perform(self, begin: Callable[[Engine, View], Awaitable[Handle]], verb: str) -> int:
        """Run it as far as it goes; returns the exit code."""
        from treadle.engine.run import in_own_loop

        with Logged(self.view):
            try:
                return in_own_loop(self._perform(begin, verb), self.config)
            finally:
                self.view.close()

    async def _perform(self, begin: Callable[[Engine, View], Awaitable[Handle]], verb: str) -> int:
        from treadle.engine.bus import EventType
        from treadle.engine.engine import Engine
        from treadle.store import default_store_url

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        memory = self.durability is Durability.MEMORY
        shown = memory and self.serve is not None  # a page needs a store, if only in this process's memory
        url = "memory:" if shown else None if memory else self.store or default_store_url()
        began = time.monotonic()
        handle = None
        try:
            async with Engine.open(url, config=self.config,
                                   durability="batched" if shown else self.durability.value,
                                   retention=self.retention, plugins=self.plugins,
                                   environment_vars=self.environment,
                                   secret_store=self.secret_store, state_history=self.history,
                                   **self.talking.options) as engine, \
                    beside(engine, self.serve, self, url) as served:
                engine.bus.subscribe(self.view.note, (EventType.NODE_FAILED, EventType.NODE_RETRYING))
                began = began if served is None else time.monotonic()
                handle = await begin(engine, self.view)
                place = "in memory only" if memory else f"in {url}"
                if self.history is not None:
                    place = f"{place}, its history in {self.history}"
                name = f"execution {handle.execution_id} of {handle.cell.name!r}"
                if not handle.counts:
                    verb = "had completed before"
                if served is not None:  # whole, and not as a view would break it
                    say(f"the monitor is at  {served.link_to(handle.execution_id)}")
                self.view.begin(handle, f"{name} {verb}, {place}")
                try:
                    status = await self._until_done(engine, handle)
                    if served is not None:
                        from treadle.cli.serving.staying import stay

                        self.staying = True
                        handle, status, idle = await stay(engine, handle, status, self.interrupted, served)
                        began += idle
                    if status is ExecutionStatus.COMPLETED:
                        self.result = await handle.result()
                finally:
                    self.view.close()
            self.unsaved = 0 if engine.manager is None else engine.manager.queue_depth
        except (LeaseLost, StoreError) as error:
            if handle is None:
                raise
            return self._lost(handle, error, time.monotonic() - began)
        if engine.pruned and not self.as_json:
            say(f"by {self.policy}, {engine.pruned} old executions were deleted")
        return self._end(handle, status, time.monotonic() - began)

    async def _until_done(self, engine: Engine, handle: Handle) -> ExecutionStatus:
        """Wait for the end of the execution or for an interrupt, which is `running`."""
        from treadle.aio.tasks import AsyncTaskManager

        tasks = AsyncTaskManager("the run")
        done = tasks.create_task(handle.wait())
        stop = tasks.create_task(self.interrupted.wait())
        watch = tasks.create_task(follow(self.view, handle))
        if self.view.fed and engine.manager is not None and handle.counts:
            from treadle.cli.running.watching import feed

            tasks.create_task(feed(engine, handle.execution_id, self.view.take))
        try:
            await asyncio.wait((done, stop, watch), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()  # a fault of the view is one of ours: it must not pass as progress
            return done.result() if done.done() else ExecutionStatus.RUNNING
        finally:
            await tasks.cleanup(self.config.shutdown_s_max)

    def _interrupt(self) -> None:
        if self.interrupted.is_set():
            self.view.close()
            say("treadle: stopped at once; what was not yet recorded runs again at a resume")
            os._exit(INTERRUPTED)
        self.interrupted.set()
        if not self.staying:
            self.view.line("interrupted: stopping what runs and saving the rest (once more: stop at once)")

    # What is said at the end

    def _end(self, handle: Handle, status: ExecutionStatus, took: float) -> int:
        readers_may_leave()  # the engine is closed: what is left to do is to print
        done = achieved(handle.counts, handle.spent)
        if self.as_json:
            print_json(self._document(handle, status, took, handle.error))
        elif status is ExecutionStatus.COMPLETED:
            if handle.counts:
                say(f"completed in {seconds(took)}: {done}")
            if self.result is not None:
                print(result_text(self.result))
        elif status is ExecutionStatus.SUSPENDED:
            say(f"suspended after {seconds(took)}: {done}")
            for line in self._ways_on(handle):
                say(f"  {line}")
        elif status is ExecutionStatus.RUNNING:
            say(f"interrupted after {seconds(took)}: {done}")
            saved = "everything recorded is saved" if not self.unsaved else (
                f"{self.unsaved:,} updates could not be saved, and what they are of runs again")
            say("  nothing was saved (durability memory)" if self.durability is Durability.MEMORY else
                f"  {saved}; go on with: {self._command('resume', handle.execution_id)}")
        else:
            say(f"{status.value} after {seconds(took)}: {done}")
            say(prefixed(failure(handle.error)))
            if self.durability is not Durability.MEMORY:
                say(f"  look closer:  {self._command('show', handle.execution_id)}")
                say(f"  try again:    {self._command('resume', handle.execution_id)}")
        return EXIT_CODES[status]

    def _lost(self, handle: Handle, error: BaseException, took: float) -> int:
        if self.as_json:
            print_json(self._document(handle, ExecutionStatus.RUNNING, took,
                                      ErrorInfo(type(error).__name__, str(error))) | {"status": "lost"})
        say(prefixed(f"{error}. This process has stopped running execution {handle.execution_id}"))
        return FAILED

    def _document(self, handle: Handle, status: ExecutionStatus, took: float,
                  error: ErrorInfo | None) -> dict[str, Any]:
        waiting = handle.waiting() if status is ExecutionStatus.SUSPENDED else []
        plan = {} if self.plan is None else {"plan": self.plan if self.plan.changes else None}
        return {"execution_id": handle.execution_id, "name": handle.cell.name,
                "status": "interrupted" if status is ExecutionStatus.RUNNING else status.value,
                "output": self.result, "error": error, "counts": handle.counts, "seconds": round(took, 6),
                **({"spent": handle.spent} if handle.spent["tokens"] else {}),
                "waiting": [{**request, "node": path, "iteration": iteration,
                             "wake_at": iso(request.get("wake_at"))} for path, iteration, request in waiting],
                "slow_hooks": [] if handle.report is None else handle.report.slow_hooks, **plan}

    def _ways_on(self, handle: Handle) -> list[str]:
        """What a suspended execution waits for, and the commands that move it on."""
        lines = []
        name = handle.execution_id
        for path, iteration, request in handle.waiting():
            turn = () if iteration == "1" else ("--iteration", iteration)
            if request.get("kind") == "answer":
                prompt = request.get("prompt") or "(it has no prompt)"
                lines.append(f"node {path!r} waits for an answer: {prompt}")
                lines.append(f"    {self._command('answer', name, path, 'VALUE', *turn)}")
            elif request.get("kind") == "signal":
                lines.append(f"node {path!r} waits for the signal {request.get('name')!r}")
                lines.append(f"    {self._command('signal', name, str(request.get('name')), 'VALUE')}")
            else:
                lines.append(f"node {path!r} waits until {local(request.get('wake_at'))}")
        if self.durability is Durability.MEMORY:
            return [*lines, "nothing was saved (durability memory): it can't go on"]
        return [*lines, f"then go on:  {self._command('resume', name)}"]

    def _command(self, verb: str, *words: str) -> str:
        more = self.talking.words if verb == "resume" else ()
        return say_command(verb, *words, *more, store=self.store)
