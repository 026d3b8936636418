"""Treadle runs diagrams: durable, in parallel, in your own process. This is the façade: names, nothing else.

Each name is loaded from its home when it is first asked for: `treadle --version` need not load an engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from treadle.aio.context import AsyncExecutionContext as AsyncExecutionContext
    from treadle.aio.context import async_context as async_context
    from treadle.aio.loops import ManagedEventLoop as ManagedEventLoop
    from treadle.aio.manager import EventLoopManager as EventLoopManager
    from treadle.aio.manager import get_loop_manager as get_loop_manager
    from treadle.aio.resources import AsyncResourceManager as AsyncResourceManager
    from treadle.aio.tasks import AsyncTaskManager as AsyncTaskManager
    from treadle.config import Retention as Retention
    from treadle.config import TreadleConfig as TreadleConfig
    from treadle.diagram.builder import Diagram as Diagram
    from treadle.diagram.builder import loop as loop
    from treadle.diagram.builder import node as node
    from treadle.diagram.builder import person as person
    from treadle.diagram.builder import when as when
    from treadle.diagram.diagram import ExecutableDiagram as ExecutableDiagram
    from treadle.diagram.diagram import ExecutableNode as ExecutableNode
    from treadle.diagram.person import Person as Person
    from treadle.diagram.transform import TransformRule as TransformRule
    from treadle.engine.actor import NodeActor as NodeActor
    from treadle.engine.async_state import AsyncStateManager as AsyncStateManager
    from treadle.engine.bus import EventBus as EventBus
    from treadle.engine.bus import EventConsumer as EventConsumer
    from treadle.engine.bus import EventType as EventType
    from treadle.engine.context import ExecutionContext as ExecutionContext
    from treadle.engine.engine import Engine as Engine
    from treadle.engine.resolver import RuntimeResolver as RuntimeResolver
    from treadle.engine.run import run as run
    from treadle.engine.runner import WorkflowRunner as WorkflowRunner
    from treadle.engine.services import EVENT_BUS as EVENT_BUS
    from treadle.engine.services import ServiceRegistry as ServiceRegistry
    from treadle.engine.tracker import ExecutionMetrics as ExecutionMetrics
    from treadle.engine.tracker import ExecutionTracker as ExecutionTracker
    from treadle.errors import ExecutionFailed as ExecutionFailed
    from treadle.errors import InvalidDiagram as InvalidDiagram
    from treadle.errors import MutationVetoed as MutationVetoed
    from treadle.errors import PluginError as PluginError
    from treadle.errors import TreadleError as TreadleError
    from treadle.errors import WriteConflict as WriteConflict
    from treadle.hooks.manager import PluginManager as PluginManager
    from treadle.hooks.sdk import StateHook as StateHook
    from treadle.hooks.sdk import Veto as Veto
    from treadle.hooks.sdk import hookimpl as hookimpl
    from treadle.ids import NodeID as NodeID
    from treadle.kernel.order import DynamicOrderCalculator as DynamicOrderCalculator
    from treadle.nodes.base import NodeStrategyProtocol as NodeStrategyProtocol
    from treadle.nodes.code_job import CodeJobStrategy as CodeJobStrategy
    from treadle.nodes.condition import ConditionStrategy as ConditionStrategy
    from treadle.nodes.person_job import PersonJobStrategy as PersonJobStrategy
    from treadle.nodes.registry import StrategyRegistry as StrategyRegistry
    from treadle.nodes.sub_diagram import SubDiagramStrategy as SubDiagramStrategy
    from treadle.state.blob import Blob as Blob
    from treadle.state.cell import ExecutionState as ExecutionState
    from treadle.state.cell import ExecutionStateProtocol as ExecutionStateProtocol
    from treadle.state.cell import ItemError as ItemError
    from treadle.state.cell import NodeState as NodeState
    from treadle.state.cell import join as join
    from treadle.state.codec import register_encoder as register_encoder
    from treadle.state.envelope import BaseNodeOutput as BaseNodeOutput
    from treadle.state.envelope import ContentType as ContentType
    from treadle.state.envelope import Envelope as Envelope
    from treadle.state.envelope import EnvelopeFactory as EnvelopeFactory
    from treadle.state.envelope import TextOutput as TextOutput
    from treadle.store import open_store as open_store
    from treadle.store.cache import ExecutionCache as ExecutionCache
    from treadle.store.cache import ExecutionStateCache as ExecutionStateCache
    from treadle.store.facade import ExecutionStateManager as ExecutionStateManager
    from treadle.store.manager import StateManager as StateManager
    from treadle.store.manager import StateUpdate as StateUpdate

__version__ = "0.1.0"

_HOMES = {
    "aio.context": "AsyncExecutionContext async_context",
    "aio.loops": "ManagedEventLoop",
    "aio.manager": "EventLoopManager get_loop_manager",
    "aio.resources": "AsyncResourceManager",
    "aio.tasks": "AsyncTaskManager",
    "config": "Retention TreadleConfig",
    "diagram.builder": "Diagram loop node person when",
    "diagram.diagram": "ExecutableDiagram ExecutableNode",
    "diagram.person": "Person",
    "diagram.transform": "TransformRule",
    "engine.actor": "NodeActor",
    "engine.async_state": "AsyncStateManager",
    "engine.bus": "EventBus EventConsumer EventType",
    "engine.context": "ExecutionContext",
    "engine.engine": "Engine",
    "engine.resolver": "RuntimeResolver",
    "engine.run": "run",
    "engine.runner": "WorkflowRunner",
    "engine.services": "EVENT_BUS ServiceRegistry",
    "engine.tracker": "ExecutionMetrics ExecutionTracker",
    "errors": "ExecutionFailed InvalidDiagram MutationVetoed PluginError TreadleError WriteConflict",
    "hooks.manager": "PluginManager",
    "hooks.sdk": "StateHook Veto hookimpl",
    "ids": "NodeID",
    "kernel.order": "DynamicOrderCalculator",
    "nodes.base": "NodeStrategyProtocol",
    "nodes.code_job": "CodeJobStrategy",
    "nodes.condition": "ConditionStrategy",
    "nodes.person_job": "PersonJobStrategy",
    "nodes.registry": "StrategyRegistry",
    "nodes.sub_diagram": "SubDiagramStrategy",
    "state.blob": "Blob",
    "state.cell": "ExecutionState ExecutionStateProtocol ItemError NodeState join",
    "state.codec": "register_encoder",
    "state.envelope": "BaseNodeOutput ContentType Envelope EnvelopeFactory TextOutput",
    "store": "open_store",
    "store.cache": "ExecutionCache ExecutionStateCache",
    "store.facade": "ExecutionStateManager",
    "store.manager": "StateManager StateUpdate",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [*_HOME_OF, "__version__"]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'treadle' has no attribute {name!r}")
    value = getattr(import_module(f"treadle.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
