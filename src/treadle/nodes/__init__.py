"""Node types: what a node of each type may say, and the strategy that performs it.

A *strategy* is how one type of node is performed; an *executor* is where its body runs. A new type is one
file here: a struct of properties, a strategy, and a `NodeKind` that joins them.
"""

from __future__ import annotations

from treadle.nodes.base import (
    Body,
    BodyContext,
    Executor,
    NodeKind,
    NodeStrategyProtocol,
    Suspend,
    cancelled,
)
from treadle.nodes.code_job import CodeJobStrategy
from treadle.nodes.condition import ConditionStrategy
from treadle.nodes.person_job import PersonJobStrategy
from treadle.nodes.registry import NodeRegistry, StrategyRegistry, default_registry
from treadle.nodes.sub_diagram import SubDiagramStrategy

__all__ = [
    "Body",
    "BodyContext",
    "CodeJobStrategy",
    "ConditionStrategy",
    "Executor",
    "NodeKind",
    "NodeRegistry",
    "NodeStrategyProtocol",
    "PersonJobStrategy",
    "StrategyRegistry",
    "SubDiagramStrategy",
    "Suspend",
    "cancelled",
    "default_registry",
]
