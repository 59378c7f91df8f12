"""Tools as OpenAI's two APIs spell them, read into core records.

Chat completions wraps a function ({"type", "function": {...}}), Responses does not; both are read.
"""

import re
from typing import Any

from firefront.core.chat import Tool
from firefront.core.errors import RequestError

MAX_TOOLS = 256
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def read_tools(tools: list[Any] | None, where: str = "tools") -> tuple[Tool, ...]:
    """The functions among `tools`; RequestError for another kind, a bad or repeated name."""
    if not tools:
        return ()
    if len(tools) > MAX_TOOLS:
        raise RequestError(f"{where}: at most {MAX_TOOLS}, got {len(tools)}", param=where)
    read = tuple(_tool(tool, f"{where}[{i}]") for i, tool in enumerate(tools))
    seen: set[str] = set()
    for i, tool in enumerate(read):
        if tool.name in seen:
            name = f"{where}[{i}]"
            raise RequestError(f"{name}: a second tool called {tool.name!r}", param=name)
        seen.add(tool.name)
    return read


def _tool(tool: Any, where: str) -> Tool:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind != "function":
        message = f"{where}.type: only function tools are supported, got {str(kind)[:40]!r}"
        raise RequestError(message, param=f"{where}.type")
    function = tool.get("function", tool)
    if not isinstance(function, dict):
        raise RequestError(f"{where}.function: must be an object", param=f"{where}.function")
    if "function" in tool:
        where = f"{where}.function"
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RequestError(
            f"{where}.name: must be 1 to 128 of letters, digits and _ . : -", param=f"{where}.name"
        )
    description = function.get("description")
    if not isinstance(description, str | None):
        raise RequestError(f"{where}.description: must be text", param=f"{where}.description")
    parameters = function.get("parameters")
    if not isinstance(parameters, dict | None):
        raise RequestError(
            f"{where}.parameters: must be a JSON Schema, an object", param=f"{where}.parameters"
        )
    return Tool(
        name=name,
        description=description or "",
        parameters=parameters or {},
        strict=function.get("strict") is True,
    )
