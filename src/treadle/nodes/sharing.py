"""The shared context of an execution, from within a child process: each question goes to the parent, and the
body waits for its answer.

`RemoteContext` stands in the child for the context of the parent; `Desk` answers for one body. A transaction
reads at a moment that the parent keeps for it, and sends what it read and writes when it commits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar, Literal

import msgspec

from treadle.config import TreadleConfig
from treadle.errors import (
    Conflict,
    InvalidInput,
    LimitExceeded,
    MutationVetoed,
    NoSuchSecret,
    SecretError,
    TransactionError,
    TreadleError,
    WriteConflict,
)
from treadle.nodes.base import BodyContext
from treadle.state.context import Draft, Ground, SharedContext, Shares


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """A question of a body, while it runs. `moment` is a number that an answer gave; -1: now, or none."""

    job: int
    what: Literal["moment", "raw", "keys", "commit", "secret"]
    moment: int = -1
    text: str = ""  # the key, the space or the reference
    reads: list[str] = []
    scans: list[str] = []
    writes: dict[str, bytes | None] = {}
    released: list[int] = []  # moments that are not needed any more


class Refusal(msgspec.Struct, frozen=True):
    """An error as it crosses over."""

    kind: str
    message: str
    writer: str = ""
    conflicts: list[Conflict] = []
    reason: str = ""
    plugin: str = ""
    keys: list[str] = []

    @classmethod
    def of(cls, error: TreadleError) -> Refusal:
        said = cls(type(error).__name__, str(error))
        if isinstance(error, WriteConflict):
            return msgspec.structs.replace(said, writer=error.writer, conflicts=list(error.conflicts))
        if isinstance(error, MutationVetoed):
            return msgspec.structs.replace(said, writer=error.writer, reason=error.reason,
                                           plugin=error.plugin, keys=list(error.keys))
        return said

    def error(self) -> TreadleError:
        """The error for the body."""
        if self.kind == WriteConflict.__name__:
            return WriteConflict(self.writer, self.conflicts)
        if self.kind == MutationVetoed.__name__:
            return MutationVetoed(self.reason, self.plugin, writer=self.writer, keys=self.keys)
        kinds = (LimitExceeded, NoSuchSecret, SecretError, InvalidInput)
        return next((one for one in kinds if one.__name__ == self.kind), TransactionError)(self.message)


class Told(msgspec.Struct, frozen=True, tag="told"):
    """The answer."""

    moment: int = -1
    raw: bytes | None = None
    keys: list[str] = []
    refusal: Refusal | None = None


class Desk:
    """Answers the questions of one body, in the parent. `writer` is whose writes they are; `secret` looks
    secrets up."""

    def __init__(self, ground: Ground, writer: str, secret: Callable[[str], str]) -> None:
        self._ground, self._writer, self._secret = ground, writer, secret
        self._held: dict[int, list[Any]] = {}  # by number: the moment, once for each that was given out

    def slow(self, ask: Ask) -> bool:
        """Whether others must be asked first: a server for a secret, a plugin for its leave."""
        return ask.what == "secret" or (ask.what == "commit" and isinstance(self._ground, SharedContext)
                                        and self._ground.on_commit is not None)

    def answer(self, ask: Ask) -> Told:
        """An answer, or why there is none."""
        for number in ask.released:
            self._release(number)
        try:
            return self._told(ask)
        except (WriteConflict, MutationVetoed, TransactionError, LimitExceeded, NoSuchSecret, SecretError,
                InvalidInput) as error:
            return Told(refusal=Refusal.of(error))

    def _told(self, ask: Ask) -> Told:
        since = self._held[ask.moment][-1] if ask.moment >= 0 else None
        match ask.what:
            case "moment":
                moment = self._ground.moment()
                self._held.setdefault(moment.number, []).append(moment)
                return Told(moment=moment.number)
            case "raw":
                return Told(raw=self._ground.raw(since, ask.text))
            case "keys":
                return Told(keys=self._ground.keys(since, ask.text))
            case "commit":
                self._ground.commit(Draft(self._writer, since, set(ask.reads), set(ask.scans), ask.writes))
                return Told()
            case "secret":
                return Told(raw=self._secret(ask.text).encode("utf-8", "surrogatepass"))

    def _release(self, number: int) -> None:
        held = self._held.get(number)
        if held:
            held.pop()
            if not held:
                del self._held[number]


desk: ContextVar[Desk | None] = ContextVar("treadle_desk", default=None)
"""Who answers the process body that is started in this context."""


def open_desk(context: BodyContext) -> None:
    """Let the body of a context that is started from here ask for its shared context."""
    if isinstance(context, Shares):
        desk.set(Desk(*context._sharing(), context.secret))


class _Moment:
    """A moment that the parent keeps until this object is gone."""

    __slots__ = ("_gone", "number")

    def __init__(self, number: int, gone: deque[int]) -> None:
        self.number, self._gone = number, gone

    def __del__(self) -> None:
        self._gone.append(self.number)  # told with the next question: no question may be asked from here


class RemoteContext:
    """The shared context in a child process: see `treadle.state.context.Ground`. `ask` sends a question and
    waits for the answer."""

    latest: ClassVar[RemoteContext | None] = None

    def __init__(self, ask: Callable[[Ask], Told], job: int, config: TreadleConfig) -> None:
        self._ask, self.job, self.config = ask, job, config
        self._gone: deque[int] = deque()

    def moment(self) -> _Moment:
        return _Moment(self._answer("moment").moment, self._gone)

    def raw(self, moment: _Moment | None, key: str) -> bytes | None:
        return self._answer("raw", moment, text=key).raw

    def keys(self, moment: _Moment | None, space: str) -> list[str]:
        return self._answer("keys", moment, text=space).keys

    def commit(self, draft: Draft) -> None:
        since: _Moment | None = draft.since
        self._answer("commit", since, reads=list(draft.reads), scans=list(draft.scans), writes=draft.writes)

    def secret(self, reference: str) -> str:
        """See `treadle.nodes.base.BodyContext`."""
        return (self._answer("secret", text=reference).raw or b"").decode("utf-8", "surrogatepass")

    def _answer(self, what: Literal["moment", "raw", "keys", "commit", "secret"],
                moment: _Moment | None = None, **said: Any) -> Told:
        gone = [self._gone.popleft() for _ in range(len(self._gone))]
        told = self._ask(Ask(self.job, what, -1 if moment is None else moment.number, released=gone, **said))
        if told.refusal is not None:
            raise told.refusal.error()
        return told
