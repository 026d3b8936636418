"""Every error that Treadle raises on purpose, as one shallow tree.

TreadleError
├── InvalidDiagram (ValueError)          the diagram has faults; all of them are in `.faults`
├── InvalidInput (ValueError)            an input of an execution is unknown, missing or of the wrong type
├── ExpressionError (ValueError)         an expression or template can't be compiled or evaluated
├── NotEncodable (TypeError)             a value can't be written down; says how to register an encoder
├── NotDecodable (ValueError)            recorded bytes can't be read back
├── NoSuchExecution (LookupError)        no execution by that id
├── NoSuchNode (LookupError)             no node by that id
├── ExecutionFailed (RuntimeError)       an execution ended failed or cancelled; carries its error
├── NodeTimeout (TimeoutError)           a body ran longer than its node's `timeout`
├── BodyDied (RuntimeError)              a body's process ended without an answer
├── PluginError (ValueError)             a plugin can't be loaded, or refuses the start of an execution
├── NoSuchSecret (LookupError)           no store of secrets has it
├── SecretError (RuntimeError)           a store of secrets can't be asked
├── LimitExceeded (ValueError)           a named limit was reached; the message says how to raise it
├── IllegalMove (RuntimeError)           a node was asked for a transition that the table lacks: a bug of ours
├── Corruption (RuntimeError)            two different cells under one version, or a broken invariant
├── WriteConflict (RuntimeError)         a transaction on the context lost to one that committed before it
├── MutationVetoed (RuntimeError)        a plugin refused a transaction on the context
├── TransactionError (RuntimeError)      a transaction was used where none can be
├── LeaseHeld (RuntimeError)             somebody else runs this execution
├── LeaseLost (RuntimeError)             somebody else took this execution over
└── StoreError (OSError)                 the store can't be used
    ├── StoreTooNew                      written by a newer Treadle
    ├── StoreCorrupt                     damaged
    │   └── PlaintextFound               something is not encrypted in a store in which everything is
    ├── WrongKey                         the store is encrypted, and the key is missing or another one
    ├── KeyForgotten                     the key of this execution was destroyed: nothing of it can be read
    ├── StoreReadOnly                    can't be written
    ├── StoreFull                        the disk is full
    ├── NotAStore                        a file, but not one of ours
    └── StoreClosed                      stopped: the update was refused

The kernel raises nothing, and records three types more: `CrashLoop` (an attempt took its process down three
times), `LoopLimit` (a loop wanted one more iteration than it may have), `DeadlineExceeded` (an execution ran
longer than its `deadline`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import msgspec


class TreadleError(Exception):
    """Base of every error that Treadle raises on purpose."""

    details: dict[str, Any] | None = None
    """What a handler may want to know beyond the text, as JSON has it; an `error` arrow carries it."""


class Where(msgspec.Struct, frozen=True, gc=False):
    """A place in a diagram's file. `line` and `column` count from 1; 0 means unknown."""

    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with a diagram: what, where, and what to do."""

    message: str
    node: str | None = None
    where: Where | None = None
    hint: str | None = None
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where and str(self.where) else ""
        node = f"node {self.node!r}: " if self.node else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{'warning: ' if self.warning else ''}{node}{self.message}{hint}"


class InvalidDiagram(TreadleError, ValueError):
    """The diagram has faults."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class DiagramChanged(TreadleError, ValueError):
    """A resume was asked to be strict, and the diagram is not the one that the execution was recorded
    with."""


class InvalidInput(TreadleError, ValueError):
    """An input of an execution is unknown, missing or of the wrong type."""


class ExpressionError(TreadleError, ValueError):
    """An expression or template can't be compiled or evaluated."""


class NotEncodable(TreadleError, TypeError):
    """A value can't be written down."""


class NotDecodable(TreadleError, ValueError):
    """Recorded bytes can't be read back."""


class NoSuchExecution(TreadleError, LookupError):
    """No execution by that id."""


class NoSuchNode(TreadleError, LookupError):
    """No node by that id."""


class ExecutionFailed(TreadleError, RuntimeError):
    """An execution ended failed or cancelled.

    Attributes: `execution_id`, `status` ("failed" or "cancelled"), `node_id` (or None) and `kind`,
    the type name of the error that ended it.
    """

    def __init__(self, message: str, *, execution_id: str, status: str, node_id: str | None = None,
                 kind: str = "") -> None:
        super().__init__(message)
        self.execution_id, self.status, self.node_id, self.kind = execution_id, status, node_id, kind


class NodeTimeout(TreadleError, TimeoutError):
    """A body ran longer than its node's `timeout`."""


class BodyDied(TreadleError, RuntimeError):
    """A body's process ended without an answer."""


class PluginError(TreadleError, ValueError):
    """A plugin can't be loaded, or refuses the start of an execution."""


class NoSuchSecret(TreadleError, LookupError):
    """No store of secrets has it."""

    retryable = False


class SecretError(TreadleError, RuntimeError):
    """A store of secrets can't be asked: it is away, refuses us, or its file can't be used."""


class LimitExceeded(TreadleError, ValueError):
    """A named limit was reached."""


class IllegalMove(TreadleError, RuntimeError):
    """A node was asked for a transition that the table of moves lacks."""


class Corruption(TreadleError, RuntimeError):
    """Two different cells under one version, or a broken invariant."""


class Conflict(msgspec.Struct, frozen=True):
    """A key that a transaction read, wrote or iterated over, and that another had changed meanwhile. Versions
    are (epoch, number of the commit); None: there was no such key."""

    key: str
    read_version: tuple[int, int] | None
    winner: str  # who changed it: the path of a node with its attempt, or a plugin
    won_version: tuple[int, int]

    def __str__(self) -> str:
        at = self.read_version
        read = "when there was none" if at is None else f"at version {_dotted(at)}"
        return f"{self.key!r} (read {read}) was set by {self.winner} (version {_dotted(self.won_version)})"


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


class WriteConflict(TreadleError, RuntimeError):
    """A transaction on the context lost to one that committed before it. Nothing of it was written."""

    def __init__(self, writer: str, conflicts: Iterable[Conflict]) -> None:
        self.writer, self.conflicts = writer, tuple(conflicts)
        self.details = {"keys": list(self.keys)}
        listed = "; ".join(map(str, self.conflicts[:5])) + (" …" if len(self.conflicts) > 5 else "")
        super().__init__(f"the transaction of {writer or 'somebody'} lost: {listed}. Do it again, or use "
                         "context.update(key, function), which does")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that had changed, sorted."""
        return tuple(one.key for one in self.conflicts)


class MutationVetoed(TreadleError, RuntimeError):
    """A plugin refused a transaction on the context. Nothing of it was written."""

    retryable = False

    def __init__(self, reason: str, plugin: str = "", *, writer: str = "", keys: Iterable[str] = ()) -> None:
        self.reason, self.plugin, self.writer, self.keys = reason, plugin, writer, tuple(keys)
        what = f" to {', '.join(self.keys[:5])}" if self.keys else ""
        super().__init__(f"the write{what} by {writer or 'somebody'} was refused"
                         + (f" by {plugin}" if plugin else "") + f": {reason}")


class TransactionError(TreadleError, RuntimeError):
    """A transaction was used where none can be: twice, inside another, outside of its `with`, or after the
    execution had ended."""


class LeaseHeld(TreadleError, RuntimeError):
    """Somebody else runs this execution."""


class LeaseLost(TreadleError, RuntimeError):
    """Somebody else runs the execution now."""

    @classmethod
    def to(cls, execution_id: str, epoch: int) -> LeaseLost:
        """For an execution whose epoch is another's by now."""
        return cls(f"execution {execution_id} was taken over by another owner (epoch {epoch})")


class StoreError(TreadleError, OSError):
    """The store can't be used."""


class StoreTooNew(StoreError):
    """The store was written by a newer Treadle."""


class StoreCorrupt(StoreError):
    """The store is damaged."""


class PlaintextFound(StoreCorrupt):
    """Something is not encrypted in a store in which everything is: somebody else wrote it."""


class WrongKey(StoreError):
    """The store is encrypted, and the key is missing or another one."""


class KeyForgotten(StoreError):
    """The key of this execution was destroyed: nothing of it can be read any more."""


class StoreReadOnly(StoreError):
    """The store can't be written."""


class StoreFull(StoreError):
    """The disk is full."""


class NotAStore(StoreError):
    """The file exists, but it isn't a Treadle store."""


class StoreClosed(StoreError):
    """The store or its manager is stopped: the update was refused."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint that names the nearest known word, or None if nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else None
