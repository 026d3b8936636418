"""A server that speaks like OpenAI's and says what a test tells it to: no key, no net, every fault.

    with LLMServer("Hello", Reply(status=429, retry_after=1), {"tool": "search", "arguments": {}}) as llm:
        run_diagram("talk.yaml", {"url": llm.url})
        assert llm.requests[0].prompt == "Say hello"

It knows `/v1/chat/completions` (streamed or whole, tools, structured output, usage) and `/v1/models`. In
another process: `python -m treadle.testing.llm --help`.
"""

from treadle.testing.llm.replies import Asked, Reply, ToolCall
from treadle.testing.llm.server import LLMServer

__all__ = ["Asked", "LLMServer", "Reply", "ToolCall"]
