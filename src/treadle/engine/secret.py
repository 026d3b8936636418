"""The secrets of an execution that runs here: looked up for its bodies, and kept out of what is recorded.

What an execution's `Redactor` knows: the secrets that its diagram and its variables name, from its beginning;
those that its bodies ask for, from then on. The names of these are recorded, so that an execution that goes
on elsewhere, and its forks, know them again before a body runs. Values are looked up anew, never recorded.

An execution without secrets has no redactor, and costs one look at an attribute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from treadle.crypto.secrets import SECRET, Secrets, is_reference
from treadle.diagram.diagram import ExecutableDiagram
from treadle.engine import shared
from treadle.engine.surroundings import Given, Named, around, named_in, outermost, within
from treadle.errors import InvalidInput, NoSuchSecret, NotDecodable, SecretError
from treadle.state import codec
from treadle.state.cell import ContextCell, ExecutionCell
from treadle.state.context import SECRETS_KEY, About

if TYPE_CHECKING:
    from treadle.crypto.redaction import Redactor
    from treadle.engine.engine import Engine
    from treadle.engine.runner import WorkflowRunner

PRIMED_S_MAX = 5.0
"""Seconds that an execution waits, before its first body runs, for the stores of secrets that it names."""
WALKED_NODES_MAX = 5000
"""A diagram of more nodes is not searched on the loop."""
SILENT_S = 60.0
"""Seconds for which a store that did not answer in time is not waited for again."""
_silent: dict[str, float] = {}  # stores, and when
logger = logging.getLogger("treadle.secrets")
_lock = threading.Lock()


class Asked(NamedTuple):
    """A secret by its name. `store` and `base` are "" for the execution's own store."""

    reference: str
    store: str = ""
    base: str = ""


# Asking

def lookup(runner: WorkflowRunner, slot: int, reference: str) -> str:
    """The value of `secret://NAME` or `env:NAME` for a node, redacted from now on. NoSuchSecret, SecretError,
    InvalidInput. Any thread may ask; a server is waited for."""
    return _resolved(runner, around(runner, slot), reference)


def variable(runner: WorkflowRunner, slot: int, name: str) -> str:
    """One of a node's variables; if it names a secret, that. Raises as `lookup`, KeyError."""
    given = around(runner, slot)
    text = given.variables[name]
    return _resolved(runner, given.origins.get(name, given), text) if is_reference(text) else text


def _resolved(runner: WorkflowRunner, given: Given, reference: str) -> str:
    stores: dict[tuple[str, str], Secrets] = runner.__dict__.setdefault("_secrets", {})
    key = given.store, given.base
    found = stores.get(key)
    if found is None:
        made = Secrets(given.store, told=partial(_told, runner), made=runner.engine.secret_stores(),
                       base=given.base)
        found = stores.setdefault(key, made)
    value = found.resolve(reference)
    _note(runner, given, reference)
    return value


def _told(runner: WorkflowRunner, name: str, value: str) -> None:
    from treadle.crypto.redaction import Redactor  # for those who have secrets

    with _lock:
        redactor = runner.redactor or Redactor()
    redactor.know(name, value)
    with _lock:
        if runner.redactor is None:
            _attach(runner, redactor)
        elif runner.redactor is not redactor:  # another thread was faster
            redactor = runner.redactor
            redactor.know(name, value)
    redactor.ready()  # here, and not on the loop


def _attach(runner: WorkflowRunner, redactor: Redactor) -> None:
    runner.redactor = redactor
    runner.engine.actors.capture.redactors[runner.execution_id] = redactor


# Names, recorded

def _note(runner: WorkflowRunner, given: Given, reference: str) -> None:
    """Record, once, that an execution has asked for a secret: not after the result of the body that did."""
    if runner.manager is None:
        return
    noted: dict[Asked, None] = runner.__dict__.setdefault("_noted", {})
    whole = outermost(shared.about(runner), runner.kernel.diagram.spec)
    own = (given.store, given.base) == (whole.store, whole.base)
    one = Asked(reference) if own else Asked(reference, given.store, given.base)
    if one in noted:
        return
    noted[one] = None
    if shared.running() is runner.engine.loop:
        _record(runner)
        return
    with contextlib.suppress(RuntimeError):  # the loop is closed: a thread that was abandoned asks
        runner.engine.loop.call_soon_threadsafe(_record, runner)


def _record(runner: WorkflowRunner) -> None:
    if runner.manager is None or "_left" in runner.__dict__:
        return
    noted: dict[Asked, None] = runner.__dict__["_noted"]
    number = runner.__dict__["_noted_seq"] = runner.__dict__.get("_noted_seq", 0) + 1
    execution = runner.kernel.execution
    runner.manager.share([ContextCell(execution.execution_id, SECRETS_KEY, execution.epoch, number,
                                      codec.encode(list(map(list, list(noted)))), "treadle", runner.now())])


def _noted(context: Iterable[ContextCell]) -> tuple[dict[Asked, None], int]:
    """What is recorded, and the number of that cell."""
    for cell in context:
        if cell.key == SECRETS_KEY and cell.value is not None:
            with contextlib.suppress(NotDecodable, TypeError, msgspec.ValidationError):
                said = msgspec.convert(codec.decode(cell.value), list[tuple[str, str, str]])
                return {Asked(*one): None for one in said}, cell.seq
    return {}, 0


# Knowing them before a body asks

class Primed(NamedTuple):
    """What an execution knows of its secrets before it runs."""

    redactor: Redactor
    noted: dict[Asked, None]
    number: int  # of the cell with their names


Known: TypeAlias = Primed | None


async def prime(engine: Engine, diagram: ExecutableDiagram, cell: ExecutionCell,
                context: Iterable[ContextCell] | None = None) -> Known:
    """Look up the secrets that an execution names, and those that its recorded `context` does, so that they
    are kept out of what is recorded from its first body on; None if there are none. A store that is away, or
    has no such secret, keeps no execution from running: that is said in a warning."""
    prepared = engine.diagrams.of(diagram)
    if prepared.secrets is None:
        small = len(diagram) <= WALKED_NODES_MAX
        prepared.secrets = _all_named(diagram) if small else await asyncio.to_thread(_all_named, diagram)
    if context is None and not prepared.secrets and not engine.environment_vars:
        return None
    noted, number = _noted(context or ())
    about = About.of(cell)
    stores: dict[tuple[str, str], dict[str, None]] = {}
    for given, reference in _wanted(about, diagram, prepared.secrets, noted):
        stores.setdefault((given.store, given.base), {})[reference] = None
    if not stores:
        return None
    from treadle.crypto.redaction import Redactor  # for those who have secrets

    redactor = Redactor()
    looks = [partial(_look, engine, redactor, store, base, list(references))
             for (store, base), references in stores.items()]
    if all(store.startswith("env:") for store, _ in stores) and "env" not in engine.secret_stores():
        missed = [one for look in looks for one in look()]
    else:
        missed = await _in_threads(looks, [store for store, _ in stores])
    recorded = {one.reference for one in noted}
    missed = [(reference, why) for reference, why in missed if why or reference in recorded]
    if missed:
        reference, why = missed[0]
        logger.warning("execution %s: %s can't be looked up now, so it is not kept out of what is recorded "
                       "until a body asks for it%s%s", cell.execution_id, reference,
                       f", nor are {len(missed) - 1} more" if len(missed) > 1 else "",
                       f": {why}" if why else "")
    return Primed(redactor, noted, number)


def _all_named(diagram: ExecutableDiagram) -> tuple[Named, ...]:
    return tuple(named_in(diagram))


def _wanted(about: About, diagram: ExecutableDiagram, named: Iterable[Named],
            noted: Iterable[Asked]) -> Iterator[tuple[Given, str]]:
    """References, and what is around each."""
    own = outermost(about, diagram.spec)
    scopes = [own]
    for one in named:
        given = within(about, list(one.specs))
        scopes.append(given)
        yield from ((given, reference) for reference in one.references)
    for given in scopes:
        for name, text in given.variables.items():
            if is_reference(text):
                yield given.origins.get(name, given), text
    for asked in noted:
        yield Given({}, asked.store or own.store, asked.base if asked.store else own.base), asked.reference


def _look(engine: Engine, redactor: Redactor, store: str, base: str,
          references: list[str]) -> list[tuple[str, str]]:
    """Tell the redactor secrets of a store. Those that it doesn't give, and why ("": it has none such)."""
    missed: list[tuple[str, str]] = []
    away = False
    try:
        secrets = Secrets(store, told=redactor.know, made=engine.secret_stores(), base=base)
    except InvalidInput:  # a node that needs it says so
        return missed
    for reference in references:
        if away and reference.startswith(SECRET):
            missed.append((reference, missed[-1][1]))
            continue
        try:
            secrets.resolve(reference)
        except NoSuchSecret:
            missed.append((reference, ""))
        except SecretError as error:
            missed.append((reference, str(error)))
            away = not store.startswith("file:")  # the next would have to wait as long
    redactor.ready()
    return missed


async def _in_threads(looks: Sequence[Callable[[], list[tuple[str, str]]]],
                      stores: list[str]) -> list[tuple[str, str]]:
    """What they miss, after PRIMED_S_MAX at the latest. One that takes longer goes on: late is better than
    never; and who comes soon after doesn't wait for it."""
    loop, since = asyncio.get_running_loop(), time.monotonic()
    futures = [loop.run_in_executor(None, look) for look in looks]
    awaited = [future for future, store in zip(futures, stores, strict=True)
               if since - _silent.get(store, -SILENT_S) >= SILENT_S]
    if awaited:
        await asyncio.wait(awaited, timeout=PRIMED_S_MAX)
    missed: list[tuple[str, str]] = []
    for future, store in zip(futures, stores, strict=True):
        if not future.done():
            future.add_done_callback(_heard)
            if future in awaited:
                _silent[store] = since
            missed.append((f"what {store} has", f"no answer after {PRIMED_S_MAX:g} s"))
        elif (error := future.exception()) is not None:  # a plugin's store: any error
            missed.append((f"what {store} has", type(error).__name__))
        else:
            missed += future.result()
    return missed


def _heard(future: asyncio.Future[list[tuple[str, str]]]) -> None:
    if not future.cancelled():
        future.exception()  # nobody else will ask


def begin(runner: WorkflowRunner, known: Known) -> WorkflowRunner:
    """Let an execution that is about to run know its secrets; the same runner."""
    if known is not None:
        _attach(runner, known.redactor)
        runner.__dict__["_noted"], runner.__dict__["_noted_seq"] = dict(known.noted), known.number
    return runner
