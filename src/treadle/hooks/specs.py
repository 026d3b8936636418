"""Every hook there is: what it gets, when it is called, and what it may answer.

A plugin has those that it needs. It may leave out arguments that it doesn't use, not rename them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from treadle.crypto.secrets import SecretStore
    from treadle.diagram.diagram import ExecutableDiagram
    from treadle.diagram.transform import Check, Transform
    from treadle.diagram.types import NodeType
    from treadle.state.cell import ExecutionState, NodeState
    from treadle.state.context import Mutation, PipelineState
    from treadle.state.envelope import ContentHandler


class HookTimes(msgspec.Struct, frozen=True):
    """How one hook of one plugin did. Times are in seconds; those of an async hook count its waiting."""

    plugin: str  # "Name@version"
    hook: str
    calls: int
    errors: int
    total_s: float
    longest_s: float
    active: bool  # whether it has not been switched off


class SlowHook(msgspec.Struct, frozen=True):
    """A hook that took longer than `hook_ms_max` in an execution: its slowest call."""

    plugin: str  # "Name@version"
    hook: str
    ms: float
    node: str = ""
    """The path of the node whose transition or write it was; "" for the execution as a whole."""
    calls: int = 1
    """How many of its calls took longer."""

    def __str__(self) -> str:
        at = f" at node {self.node!r}" if self.node else ""
        more = f" ({self.calls} calls were slow)" if self.calls > 1 else ""
        return f"{self.plugin} {self.hook}{at}: {self.ms:.0f} ms{more}"


class FinalReport(msgspec.Struct, frozen=True):
    """What is said of an execution when its run is over."""

    execution_id: str
    status: str
    metrics: Any = None
    """`treadle.engine.tracker.ExecutionMetrics`."""
    warnings: tuple[str, ...] = ()
    """What went wrong beside the nodes: hooks that raised, events that were left out."""
    slow_hooks: tuple[SlowHook, ...] = ()
    """Hooks that took longer than `hook_ms_max` in this execution, the slowest first; as a text each is
    `Name@1.0 post_node_execute at node 'a': 340 ms`."""
    hooks: tuple[HookTimes, ...] = ()
    """Every hook of the engine so far."""


class PluginTransform(msgspec.Struct, frozen=True):
    """A transform for arrows with what belongs to it: see `treadle.diagram.transform.Transforms.register`."""

    transform: Transform
    precedence: int = 50
    check: Check | None = None


class HookSpecs:
    """The hooks. Those that are named `treadle_…` are asked once, when the engine starts."""

    # Initialisation

    def pre_state_initialize(self, pipeline: PipelineState, diagram: ExecutableDiagram,
                             inputs: Mapping[str, Any]) -> None:
        """Before an execution is made: nothing of it is recorded yet. PluginError or ValueError refuses the
        start, with its words as the reason. `inputs` are complete, defaults included."""

    # Execution

    def post_node_execute(self, node_id: str, previous_state: NodeState,
                          current_state: NodeState) -> Awaitable[None] | None:
        """After each transition of an attempt, in order. `node_id` is the node's path (`parse[17]`,
        `sub/inner`); before its first transition an attempt is `pending`. Behind a long backlog, transitions
        of one attempt may come as one. May be `async`."""

    # Mutation

    def pre_state_mutation(self, transaction: Mutation) -> str | None:
        """Before a transaction on the shared context commits: `writer`, and by key (`artifacts.NAME`,
        `variables.NAME`, `plugins.PLUGIN.NAME`) the `old` and `new` value in `changes`, to read only. A text
        that is returned, or `Veto` that is raised, refuses it with that reason: the writer gets it as an
        error. It is called where the commit is made, perhaps on the event loop, perhaps by several threads at
        once: be quick, and write nothing."""

    # Finalisation

    def post_state_finalize(self, state: ExecutionState, report: FinalReport) -> Awaitable[None] | None:
        """After the run of an execution: it completed, failed, was cancelled, or is suspended. May be
        `async`."""

    # Registration

    def treadle_strategies(self) -> Iterable[NodeType]:
        """New types of nodes: `treadle.nodes.base.NodeKind` with a struct and a strategy."""
        return ()

    def treadle_transforms(self) -> Mapping[str, Transform | PluginTransform]:
        """New transforms for arrows, by name: functions of the value and the argument."""
        return {}

    def treadle_content_types(self) -> Mapping[str, ContentHandler]:
        """New content types, by name: how a body becomes bytes and back, and which bodies fit."""
        return {}

    def treadle_secret_stores(self) -> Mapping[str, Callable[[str], SecretStore]]:
        """New stores of secrets, by the scheme of their URL: `{"keyring": open_keyring}` opens
        `keyring://…`."""
        return {}

    def treadle_commands(self) -> Iterable[Callable[..., Any]]:
        """New commands of the command line: functions as typer takes them, their names the commands'."""
        return ()


PHASES = {"pre_state_initialize": "initialisation", "post_node_execute": "execution",
          "pre_state_mutation": "mutation", "post_state_finalize": "finalisation"}
"""The hooks of the four phases."""
MAY_WAIT = ("post_node_execute", "post_state_finalize")
"""Hooks that may be `async def`."""
HOOKS = tuple(name for name in vars(HookSpecs) if not name.startswith("_"))
"""The names of all hooks."""
