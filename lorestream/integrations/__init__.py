"""Lorestream in other frameworks, over the client (`lorestream.client`).

    toolset        the tools that MCP, LangChain and Pydantic AI offer to a language model
    steps          several calls in a row, for either client
    writes         writes and deletions that return once reads show them
    conversation   messages of an agent as the frameworks keep them
    mcp            Model Context Protocol: `lorestream mcp`, `POST /mcp`
    langchain      LangChain: retriever, tools, chat history
    llama_index    LlamaIndex: a block of its memory
    openai_agents  OpenAI Agents SDK: sessions
    pydantic_ai    Pydantic AI: toolset
    crewai         CrewAI: the memory of a crew

A module that imports a framework is named after it, and needs the extra of that name.
"""
