"""The secrets of an execution that runs here: looked up for its bodies, and kept out of what is recorded.

An execution whose bodies have asked for no secret has no redactor, and costs one look at an attribute.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from treadle.crypto.secrets import ENV, Secrets
from treadle.engine import shared
from treadle.engine.values import Reference
from treadle.errors import NotEncodable
from treadle.state import codec
from treadle.state.cell import ErrorInfo

if TYPE_CHECKING:
    from treadle.crypto.redaction import Redactor
    from treadle.engine.runner import WorkflowRunner

_lock = threading.Lock()


def lookup(runner: WorkflowRunner, reference: str) -> str:
    """The value of `secret://NAME` or `env:NAME`, redacted from now on. NoSuchSecret, SecretError,
    InvalidInput. Any thread may ask; a server is waited for."""
    found: Secrets | None = runner.__dict__.get("_secrets")
    if found is None:
        made = Secrets(shared.about(runner).secret_store or ENV, told=partial(_told, runner),
                       made=runner.engine.secret_stores(), base=runner.kernel.diagram.spec.base)
        found = runner.__dict__.setdefault("_secrets", made)
    return found.resolve(reference)


def _told(runner: WorkflowRunner, name: str, value: str) -> None:
    from treadle.crypto.redaction import Redactor  # for those who have secrets

    with _lock:
        redactor = runner.redactor or Redactor()
    redactor.know(name, value)
    with _lock:
        if runner.redactor is None:
            runner.redactor = redactor
            runner.engine.actors.capture.redactors[runner.execution_id] = redactor
        elif runner.redactor is not redactor:  # another thread was faster
            runner.redactor.know(name, value)


def clean(redactor: Redactor, raw: bytes) -> bytes:
    """An encoded value without secrets."""
    if type(raw) is not Reference:
        return redactor.redact(raw)
    try:
        encoded = codec.encode(raw.value)
    except NotEncodable:  # in memory, any object may be a value
        return raw
    cleaned = redactor.redact(encoded)
    return raw if cleaned is encoded else Reference.of(codec.decode(cleaned))


def clean_error(redactor: Redactor, error: ErrorInfo) -> ErrorInfo:
    return msgspec.structs.replace(
        error, type=redactor.text(error.type), message=redactor.text(error.message),
        traceback=redactor.text(error.traceback), details=redactor.value(error.details))


