"""tool_choice, and the older fields of functions, as OpenAI's two APIs spell them, read into core
records. Tools themselves are `core/tools.py`'s.
"""

from typing import Any

from firefront.core.chat import Tool, ToolChoice
from firefront.core.errors import RequestError
from firefront.core.tools import read_tools


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
