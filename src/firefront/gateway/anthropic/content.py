"""Conversations in Anthropic's blocks, read into the chat messages that everything inside speaks.

Knows no other field of a request. Invariant: text is never changed or dropped, except what is
addressed to Anthropic and not to the model (BILLING); a block of a kind that cannot be read is a
RequestError that names it.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from firefront.core.errors import RequestError
from firefront.gateway.json_out import dumps

# Claude Code writes one of these before its instructions, another each time, and so none of the
# prompt would be found in the prefix cache.
BILLING = "x-anthropic-billing-header:"
_THOUGHTS = ("thinking", "redacted_thinking")
Json = dict[str, Any]


class MessageParam(msgspec.Struct, kw_only=True):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


def read_system(system: str | list[Json] | None) -> list[Json]:
    """The system message, if there is anything in it."""
    if isinstance(system, str):
        texts = [system]
    else:
        texts = [_text(block, f"system[{i}]") for i, block in enumerate(system or ())]
    parts = [_part(rest) for text in texts if (rest := _unbilled(text))]
    return [{"role": "system", "content": _joined(parts)}] if parts else []


def read_messages(messages: Sequence[MessageParam]) -> tuple[list[Json], bool]:
    """The turns as chat messages, and whether the answer is to go on with the last one.

    Turns of one role in a row are one turn. An empty last turn of the assistant is none.
    """
    if not messages:
        raise RequestError("messages: must hold at least one message", param="messages")
    reader = _Reader()
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        content = message.content
        blocks = [_part(content)] if isinstance(content, str) else content
        if not blocks and message.role != "assistant":
            raise RequestError(
                f"{where}.content: must hold at least one block", param=f"{where}.content"
            )
        for j, block in enumerate(blocks):
            name = where + ".content" + ("" if isinstance(content, str) else f"[{j}]")
            reader.block(message.role, block, name)
    read, continues = reader.finish(len(messages) - 1)
    if not read:
        raise RequestError("messages: there is nothing to answer", param="messages")
    return read, continues


class _Reader:
    """The conversation so far."""

    def __init__(self) -> None:
        self._messages: list[Json] = []
        self._names: dict[str, str] = {}  # of the tools that were called, by the call's id

    def _turn(self, role: str) -> Json:
        """The message that a block of `role` belongs to, begun if there is none."""
        if not self._messages or self._messages[-1]["role"] != role:
            self._messages.append({"role": role, "content": []})
        return self._messages[-1]

    def block(self, role: str, block: Json, where: str) -> None:
        kind = block.get("type")
        if kind == "text":
            self._turn(role)["content"].append(_part(_text(block, where)))
        elif role == "user" and kind == "tool_result":
            self._result(block, where)
        elif role == "assistant" and kind == "tool_use":
            self._call(block, where)
        elif role == "assistant" and kind in _THOUGHTS:
            if kind == "thinking":  # the other one only its author can read
                thought = _string(block, "thinking", where)
                turn = self._turn(role)
                turn["reasoning_content"] = turn.get("reasoning_content", "") + thought
        else:
            shown = str(kind)[:40]
            raise RequestError(
                f"{where}.type: {shown!r} blocks are not supported in {role} messages; send text",
                param=f"{where}.type",
            )

    def finish(self, last: int) -> tuple[list[Json], bool]:
        """`last` is the index of the client's last message, for errors."""
        where = f"messages[{last}].content"
        for message in self._messages:
            if isinstance(message["content"], list):
                message["content"] = _joined(message["content"])
            if message["content"] is None and "tool_calls" not in message:
                message["content"] = ""
        final = self._messages[-1] if self._messages else {}
        if final.get("role") != "assistant":
            return self._messages, False
        if "tool_calls" in final:
            raise RequestError(f"{where}: a tool_use needs a tool_result after it", param=where)
        if final["content"]:
            return self._messages, True
        if "reasoning_content" in final:
            raise RequestError(f"{where}: a last turn may not end in thinking", param=where)
        return self._messages[:-1], False

    def _call(self, block: Json, where: str) -> None:
        call_id, name = _string(block, "id", where), _string(block, "name", where)
        arguments = block.get("input")
        if not isinstance(arguments, dict):
            raise RequestError(f"{where}.input: must be an object", param=f"{where}.input")
        self._names[call_id] = name
        function = {"name": name, "arguments": dumps(arguments).decode()}
        turn = self._turn("assistant")
        turn.setdefault("tool_calls", []).append(
            {"id": call_id, "type": "function", "function": function}
        )

    def _result(self, block: Json, where: str) -> None:
        call_id = _string(block, "tool_use_id", where)
        content = block.get("content")
        if content is None:
            texts = []
        elif isinstance(content, str):
            texts = [content]
        elif isinstance(content, list):
            texts = [_text(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
        else:
            raise RequestError(
                f"{where}.content: must be text or a list of blocks", param=f"{where}.content"
            )
        text = "\n".join(texts)
        if block.get("is_error") is True and not text.lower().startswith("error"):
            text = f"Error: {text}" if text else "Error"  # the only place where it can be said
        result = {"role": "tool", "tool_call_id": call_id, "content": text}
        if call_id in self._names:
            result["name"] = self._names[call_id]
        self._messages.append(result)


def _unbilled(text: str) -> str:
    """The text without a first line that is addressed to Anthropic."""
    return text.partition("\n")[2] if text.startswith(BILLING) else text


def _part(text: str) -> Json:
    return {"type": "text", "text": text}


def _joined(parts: list[Json]) -> str | list[Json] | None:
    """One text as it is, several as parts; None for nothing at all."""
    if not parts:
        return None
    return parts[0]["text"] if len(parts) == 1 else parts


def _text(block: Any, where: str) -> str:
    """The text of a text block; RequestError for any other."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind != "text":
        shown = str(kind)[:40]
        raise RequestError(
            f"{where}.type: {shown!r} blocks are not supported here; send text",
            param=f"{where}.type",
        )
    return _string(block, "text", where)


def _string(block: Json, name: str, where: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise RequestError(f"{where}.{name}: must be text", param=f"{where}.{name}")
    return value
