"""Tools: what the person of a node can use. Functions, diagrams, and the tools of MCP servers.

    async with open_tools(spec.tools, node, context) as tools:      # by the names that the model sees
        tool = tools[name]
        if tool.approve and context.steps.recorded(f"approve {n}") is None:
            return Suspend(question(tool, arguments, f"approve {n}", who=person))
        value = await context.steps.run(step, lambda: tool.call(context, arguments, key=step), kind="tool",
                                        meta={"arguments": arguments})          # step: f"{name} {n}"
        text, images = told(value)                                              # for the model

`check_tools` and `tool_sources` are for the type of node: its `ports` and `sources`.
"""

from treadle.nodes.people.tools.base import Tool, ToolServerError, Verdict, question, verdict
from treadle.nodes.people.tools.opening import check_tools, open_tools, tool_faults, tool_sources
from treadle.nodes.people.tools.results import Image, error_of, failed, told
from treadle.nodes.people.tools.specs import ToolFault

__all__ = ["Image", "Tool", "ToolFault", "ToolServerError", "Verdict", "check_tools", "error_of", "failed",
           "open_tools", "question", "told", "tool_faults", "tool_sources", "verdict"]
