"""Owners of tasks, resources and event loops. Knows nothing of workflows; useful on its own.

| name | owns | ends it |
|---|---|---|
| `async_context` | a block's tasks and resources | when the block ends: tasks first, then resources |
| `AsyncTaskManager` | tasks | `cleanup`, which cancels and awaits them |
| `AsyncResourceManager` | resources | `cleanup`, the last first, each in bounded time |
| `ManagedEventLoop` | one event loop | when its `with` ends |
| `get_loop_manager` | a loop for each thread, and executors | `cleanup`, or the interpreter's exit |
"""

from treadle.aio.context import AsyncExecutionContext, async_context
from treadle.aio.loops import ManagedEventLoop, loop_factory
from treadle.aio.manager import EventLoopManager, get_loop_manager, reset_loop_manager
from treadle.aio.resources import AsyncResourceManager
from treadle.aio.tasks import AsyncTaskManager

__all__ = [
    "AsyncExecutionContext", "AsyncResourceManager", "AsyncTaskManager", "EventLoopManager",
    "ManagedEventLoop", "async_context", "get_loop_manager", "loop_factory", "reset_loop_manager",
]
