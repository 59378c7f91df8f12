"""Conversations as the OpenAI API sends them, brought into the shape that chat templates expect.

Knows the API's message fields, nothing of templates or tokens. Never changes what a message says.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from firefront.core.errors import RequestError


def normal_messages(
    messages: Sequence[Mapping[str, Any]], *, keep_parts: bool = False
) -> list[dict[str, Any]]:
    """Copies of `messages`: text parts joined by newlines (unless `keep_parts`), and the JSON
    strings of tool call arguments parsed, because templates print them with `tojson`."""
    if not messages:
        raise RequestError("messages: at least one is needed", param="messages")
    return [_normal(message, f"messages[{i}]", keep_parts) for i, message in enumerate(messages)]


def _normal(message: Mapping[str, Any], where: str, keep_parts: bool) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise RequestError(f"{where}: needs a role", param=where)
    result = dict(message)
    content = result.get("content")
    if isinstance(content, list | tuple):
        texts = [_part_text(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
        result["content"] = (
            [{"type": "text", "text": text} for text in texts] if keep_parts else "\n".join(texts)
        )
    if calls := result.get("tool_calls"):
        if not isinstance(calls, list | tuple):
            raise RequestError(f"{where}.tool_calls: must be a list", param=f"{where}.tool_calls")
        result["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)
        ]
    return result


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") in ("text", "refusal"):
        text = part.get(part["type"])
        if isinstance(text, str):
            return text
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise RequestError(f"{where}: {kind!r} content is not supported by this model", param=where)


def _call(call: Any, where: str) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        raise RequestError(f"{where}: must be an object", param=where)
    result = dict(call)
    function = result.get("function")
    if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
        result["function"] = {**function, "arguments": _arguments(function["arguments"])}
    return result


def _arguments(text: str) -> Any:
    """The parsed object; the text itself if a model once wrote something else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text
