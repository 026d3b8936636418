"""What is said once of an execution, at its start: which pipeline it is, and what it runs with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from treadle.state import codec
from treadle.state.cell import ContextCell, ExecutionCell

SECRETS_KEY, SLOW_HOOKS_KEY = "plugins.treadle.secrets", "plugins.treadle.slow_hooks"
"""The keys of cells beside those of bodies that are the engine's own: which secrets the execution has asked
for, by name (`treadle.engine.secret`), and which hooks of plugins were slow (`treadle.engine.lifecycle`)."""


class PipelineState(msgspec.Struct, frozen=True):
    """What never changes of an execution."""

    id: str
    """The execution's id."""
    version: str
    """The diagram's: the digest of its source."""
    start_timestamp: float
    """When it was started, in seconds since 1970."""
    config_hash: str
    """Equal for equal limits (`TreadleConfig.config_hash`)."""


class About(msgspec.Struct, frozen=True):
    """What an execution runs with."""

    pipeline: PipelineState
    environment_vars: Mapping[str, str] = {}
    secret_store: str | None = None
    """The URL of the store in which `secret://NAME` is looked up."""
    active_plugins: tuple[str, ...] = ()
    """`Name@version` of each, in their order."""
    given_vars: tuple[str, ...] = ()
    """Those of the variables that were given for the whole execution, beside its diagram: no sub-diagram sets
    them otherwise."""
    given_store: bool = False
    """The same of the store of secrets."""

    @classmethod
    def of(cls, cell: ExecutionCell, *, config_hash: str = "") -> About:
        """What the cell of an execution says; `config_hash` is for one that doesn't say it."""
        said: dict[str, Any] = codec.decode(cell.options)
        pipeline = PipelineState(cell.execution_id, cell.diagram, cell.created_at or 0.0,
                                 said.get("config_hash", config_hash))
        return cls(pipeline, said.get("environment_vars", {}), said.get("secret_store"),
                   tuple(said.get("active_plugins", ())), tuple(said.get("given_vars", ())),
                   said.get("given_store", False))


def of_bodies(cells: Iterable[ContextCell]) -> list[ContextCell]:
    """The cells of a shared context without the engine's own."""
    return [cell for cell in cells if cell.key not in (SECRETS_KEY, SLOW_HOOKS_KEY)]


def options_of(durability: str, *, config_hash: str, environment_vars: Mapping[str, str] | None = None,
               secret_store: str | None = None, active_plugins: Sequence[str] = (), **more: Any) -> bytes:
    """The field `options` of a new execution's cell."""
    said: dict[str, Any] = {**more, "durability": durability, "config_hash": config_hash}
    if environment_vars:
        said["environment_vars"] = dict(environment_vars)
    if secret_store:
        said["secret_store"] = secret_store
    if active_plugins:
        said["active_plugins"] = list(active_plugins)
    return codec.encode(said)
