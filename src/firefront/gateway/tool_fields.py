"""Tools and tool_choice as OpenAI's two APIs spell them, read into core records.

Chat completions wraps a function ({"type", "function": {...}}), Responses does not; both are read.
"""

import re
from typing import Any

from firefront.core.chat import Tool, ToolChoice
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


def read_functions(functions: list[Any] | None) -> tuple[Tool, ...]:
    """The older `functions` of chat completions."""
    return read_tools([{"type": "function", **f} for f in functions or ()], "functions")


def read_tool_choice(choice: Any, tools: tuple[Tool, ...]) -> ToolChoice:
    """Raises RequestError for an unknown form or a tool that is not there."""
    where = "tool_choice"
    if choice is None:
        return ToolChoice(mode="auto" if tools else "none")
    if choice in ("none", "auto", "required"):
        if choice == "required" and not tools:
            raise RequestError(f"{where}: there are no tools to require", param=where)
        return ToolChoice(mode=choice)
    if isinstance(choice, dict):
        if choice.get("type") == "function":
            # OpenAI: exactly one call of the function that is named.
            name = _known(choice, tools, where)
            return ToolChoice(mode="required", names=(name,), is_single=True)
        if choice.get("type") == "allowed_tools":
            return _allowed(choice.get("allowed_tools", choice), tools, where)
    raise RequestError(
        f'{where}: must be "none", "auto", "required", a function or allowed_tools', param=where
    )


def read_function_call(choice: Any, tools: tuple[Tool, ...]) -> ToolChoice:
    """The older `function_call` of chat completions."""
    if isinstance(choice, dict):
        choice = {"type": "function", "function": choice}
    return read_tool_choice(choice, tools)


def _allowed(choice: Any, tools: tuple[Tool, ...], where: str) -> ToolChoice:
    mode = choice.get("mode") if isinstance(choice, dict) else None
    listed = choice.get("tools") if isinstance(choice, dict) else None
    if mode not in ("auto", "required") or not isinstance(listed, list) or not listed:
        raise RequestError(f"{where}: allowed_tools needs a mode and tools", param=where)
    return ToolChoice(mode=mode, names=tuple(_known(tool, tools, where) for tool in listed))


def _known(choice: Any, tools: tuple[Tool, ...], where: str) -> str:
    """The name that a choice names, which must be one of the tools."""
    function = choice.get("function", choice) if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise RequestError(f"{where}: needs the name of a function", param=where)
    if name not in {tool.name for tool in tools}:
        raise RequestError(f"{where}: there is no tool called {name[:128]!r}", param=where)
    return name


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
