"""The tools through which a language model uses Lorestream: the same ones over MCP, LangChain and Pydantic AI.

    arguments  what each tool takes
    results    what it returns
    schemas    both as JSON schemas
    advice     what to do about an error
    tools      TOOLS; `tools_for` fixes the agent

    recall = tools_for("npc:smith")[1]
    run(client, recall.call({"query": "who owes me something?"}))["memories"]

Nothing here depends on any framework.
"""

from lorestream.integrations.toolset.tools import TOOLS, Tool, tools_for

__all__ = ["TOOLS", "Tool", "tools_for"]
