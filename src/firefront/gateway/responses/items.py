"""Items of a conversation: read from a body into one normal form, and told as chat messages.

The normal form is what is stored and listed: every item has an id, a type and a status, every
content is a list of parts. Knows no HTTP and no store. Invariant: an item that is not understood is
refused with its place in the input, never left out.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from firefront.core.errors import RequestError

Json = dict[str, Any]
MAX_NAME_CHARS = 128
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ROLES = ("user", "assistant", "system", "developer")


def references(given: str | list[Json], where: str = "input") -> list[tuple[int, str]]:
    """The references among the items: their places, and the ids that they name."""
    if isinstance(given, str):
        return []
    return [
        (i, _text(item, "id", f"{where}[{i}]"))
        for i, item in enumerate(given)
        if _kind(item) == "item_reference"
    ]


def read_items(given: str | list[Json], stem: str, where: str = "input") -> list[Json]:
    """The items in their normal form. `stem` makes ids for those that have none, `where` is the
    field they stand in."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_read(item, f"{where}[{i}]", f"{stem}_in{i}") for i, item in enumerate(given)]


def _kind(item: Json) -> Any:
    kind = item.get("type")
    if kind is None:
        return "item_reference" if "id" in item and "role" not in item else "message"
    return kind


def _read(item: Json, where: str, stem: str) -> Json:
    kind = _kind(item)
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise RequestError(
            f"{where}.type: only {', '.join(_READERS)} and item_reference are supported, got "
            f"{str(kind)[:40]!r}",
            param=f"{where}.type",
        )
    prefix, read = reader
    given = item.get("id")
    is_usable = isinstance(given, str) and _ID.fullmatch(given)
    item_id = given if is_usable else f"{prefix}_{stem}"
    return {"id": item_id, "type": kind, "status": "completed", **read(item, where)}


def _message(item: Json, where: str) -> Json:
    role = item.get("role")
    if role not in _ROLES:
        name = f"{where}.role"
        raise RequestError(f"{name}: must be one of {', '.join(_ROLES)}", param=name)
    content = item.get("content")
    if isinstance(content, str):
        content = [{"type": "input_text", "text": content}]
    parts = _parts(content, f"{where}.content", ("input_text", "output_text", "refusal"))
    if role != "assistant":
        return {"role": role, "content": [_part("input_text", _said(part)) for part in parts]}
    content = [
        _part("output_text", _said(part), annotations=[], logprobs=[])
        if part["type"] != "refusal"
        else {"type": "refusal", "refusal": part["refusal"]}
        for part in parts
    ]
    return {"role": role, "content": content}


def _call(item: Json, where: str) -> Json:
    name = _text(item, "name", where)
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise RequestError(
            f"{where}.name: must have 1 to {MAX_NAME_CHARS} characters", param=f"{where}.name"
        )
    arguments = _text(item, "arguments", where)
    return {"call_id": _call_id(item, where), "name": name, "arguments": arguments}


def _call_output(item: Json, where: str) -> Json:
    output = item.get("output")
    if not isinstance(output, str):
        parts = _parts(output, f"{where}.output", ("input_text", "output_text"))
        output = [_part("input_text", part["text"]) for part in parts]
    return {"call_id": _call_id(item, where), "output": output}


def _reasoning(item: Json, where: str) -> Json:
    read = {}
    for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        parts = _parts(item.get(name) or [], f"{where}.{name}", (kind,))
        read[name] = [_part(kind, part["text"]) for part in parts]
    return read


_READERS: dict[str, tuple[str, Callable[[Json, str], Json]]] = {
    "message": ("msg", _message),
    "function_call": ("fc", _call),
    "function_call_output": ("fco", _call_output),
    "reasoning": ("rs", _reasoning),
}


def _part(kind: str, text: str, **more: Any) -> Json:
    return {"type": kind, "text": text, **more}


def _said(part: Json) -> str:
    text: str = part["refusal" if part["type"] == "refusal" else "text"]
    return text


def _parts(parts: Any, where: str, kinds: Sequence[str]) -> list[Json]:
    """The parts, each of one of `kinds` and with its text."""
    if not isinstance(parts, list):
        raise RequestError(f"{where}: must be text or a list of parts", param=where)
    for i, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in kinds:
            name = f"{where}[{i}].type"
            raise RequestError(
                f"{name}: only {', '.join(kinds)} is supported, got {str(kind)[:40]!r}", param=name
            )
        _text(part, "refusal" if kind == "refusal" else "text", f"{where}[{i}]")
    return parts


def _text(item: Json, name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise RequestError(f"{where}.{name}: must be text", param=f"{where}.{name}")
    return value


def _call_id(item: Json, where: str) -> str:
    call_id = _text(item, "call_id", where)
    if not 1 <= len(call_id) <= MAX_NAME_CHARS:
        name = f"{where}.call_id"
        raise RequestError(f"{name}: must have 1 to {MAX_NAME_CHARS} characters", param=name)
    return call_id


def chat_messages(
    instructions: str | None, history: Sequence[Json], items: Sequence[Json]
) -> list[Json]:
    """The conversation as chat messages: a model's turn, which is several items, as one.

    RequestError for an output whose call is not there; its place is counted in `items`.
    """
    messages: list[Json] = []
    names: dict[str, str] = {}
    if instructions is not None:
        messages.append({"role": "system", "content": instructions})
    for place, item in enumerate([*history, *items], -len(history)):
        match item["type"]:
            case "message" if item["role"] == "assistant":
                _turn(messages, "content")["content"] = _joined(item["content"])
            case "message":
                role = "user" if item["role"] == "user" else "system"
                _say(messages, role, _joined(item["content"]))
            case "reasoning":
                turn = _turn(messages, "content", "tool_calls")
                thought = _joined(item["content"] or item["summary"])
                turn["reasoning_content"] = turn.get("reasoning_content", "") + thought
            case "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                call = {"id": item["call_id"], "type": "function", "function": function}
                _turn(messages).setdefault("tool_calls", []).append(call)
                names[item["call_id"]] = item["name"]
            case "function_call_output":
                where = f"input[{place}].call_id" if place >= 0 else "conversation"
                messages.append(_result(item, names, where))
    for message in messages:
        message.setdefault("content", None if "tool_calls" in message else "")
    return messages


def _turn(messages: list[Json], *done: str) -> Json:
    """The model's turn that an item belongs to: the last, unless it has one of `done` already."""
    if not messages or messages[-1]["role"] != "assistant" or messages[-1].keys() & {*done}:
        messages.append({"role": "assistant"})
    return messages[-1]


def _say(messages: list[Json], role: str, text: str) -> None:
    """Add a message. What the system says at the beginning is one message: templates expect it."""
    if role == "system" and len(messages) == 1 and messages[0]["role"] == "system":
        messages[0]["content"] += "\n\n" + text
    else:
        messages.append({"role": role, "content": text})


def check_results(items: Sequence[Json], before: Sequence[Json], where: str) -> None:
    """RequestError naming the place of a result whose call is neither in `before` nor before it."""
    call_ids = {item["call_id"] for item in before if item["type"] == "function_call"}
    for place, item in enumerate(items):
        if item["type"] == "function_call":
            call_ids.add(item["call_id"])
        elif item["type"] == "function_call_output":
            _result(item, dict.fromkeys(call_ids, ""), f"{where}[{place}].call_id")


def _result(item: Json, names: dict[str, str], where: str) -> Json:
    call_id, output = item["call_id"], item["output"]
    if call_id not in names:
        raise RequestError(
            f"{where}: no function_call before the item {item['id']!r} has its call_id {call_id!r}",
            param=where,
        )
    content = output if isinstance(output, str) else _joined(output)
    return {"role": "tool", "tool_call_id": call_id, "name": names[call_id], "content": content}


def _joined(parts: Sequence[Json]) -> str:
    return "".join(_said(part) for part in parts)
