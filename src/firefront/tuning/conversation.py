"""What a conversation to learn from may be: its messages, their order, and where loss is taken.

Knows OpenAI's message fields and their older names, nothing of files, templates or tokens.
Invariant: what comes out is in one spelling (roles system, user, assistant, tool; `tool_calls`;
`reasoning_content`), its texts as they were written.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from firefront.core.errors import RequestError
from firefront.core.strict_json import parse_object

Message = dict[str, Any]
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MAX_MESSAGES = 10_000
_OLDER_ROLES = {"developer": "system", "function": "tool"}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
KNOWN = frozenset(
    {
        "role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call",
        "refusal", *_THOUGHTS,
    }
)  # fmt: skip


def read_messages(value: Any, where: str, tool_names: Collection[str] | None) -> list[Message]:
    """The messages, each checked by itself. RequestError names the field at fault.

    `tool_names`: what may be called; None where the row names no tools.
    """
    if not isinstance(value, list) or not value:
        raise _error(where, "must be a list of at least one message")
    if len(value) > MAX_MESSAGES:
        raise _error(where, f"has {len(value)} messages, at most {MAX_MESSAGES}")
    return [_message(item, f"{where}[{i}]", tool_names) for i, item in enumerate(value)]


def check_order(messages: Sequence[Message], where: str, before: Sequence[Message] = ()) -> None:
    """System messages come first, and tools answer the calls that were just made, all of them.

    `before`: the messages that these go on from.
    """
    open_calls: list[str | None] = []
    has_begun = False
    for i, message in enumerate([*before, *messages], start=-len(before)):
        role, at = message["role"], f"{where}[{i}]"
        if role == "tool":
            _close_call(open_calls, message, at)
        elif open_calls:
            raise _error(f"{at}.role", f"is {role}, but {len(open_calls)} calls have no answer yet")
        if role == "system" and has_begun:
            raise _error(f"{at}.role", "is system, which may only come first")
        has_begun = has_begun or role != "system"
        open_calls += [call.get("id") for call in message.get("tool_calls") or ()]


def check_ending(messages: Sequence[Message], where: str, before: Sequence[Message] = ()) -> None:
    """The last message is an assistant's; something is asked before; loss is taken somewhere.

    `before`: the messages that these go on from.
    """
    last = f"{where}[{len(messages) - 1}]"
    if messages[-1]["role"] != "assistant":
        raise _error(f"{last}.role", f"is {messages[-1]['role']}; the last must be assistant")
    if all(message["role"] in ("system", "assistant") for message in [*before, *messages]):
        raise _error(where, "hold no user message, so there is nothing to answer")
    answers = [message for message in messages if message["role"] == "assistant"]
    if all(message.get("weight") == 0 for message in answers):
        raise _error(where, "every assistant message has weight 0, so there is nothing to learn")


def without_weights(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Messages as a request has them: a weight says only what is learned."""
    return [
        {key: value for key, value in message.items() if key != "weight"} for message in messages
    ]


def text_of(message: Message) -> str:
    """The text of its content; parts are joined as templates join them."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part[part["type"]] for part in content)
    return content or ""


def _message(value: Any, where: str, tool_names: Collection[str] | None) -> Message:
    if not isinstance(value, dict):
        raise _error(where, "must be an object with role and content")
    role = value.get("role")
    if role not in ROLES:
        raise _error(f"{where}.role", f"must be one of {', '.join(ROLES)}")
    message: Message = {"role": _OLDER_ROLES.get(role, role), "content": _content(value, where)}
    for name in ("name", "tool_call_id"):
        text = value.get(name)
        if not isinstance(text, str | None):
            raise _error(f"{where}.{name}", "must be text")
        if text is not None:
            message[name] = text
    if role == "assistant":
        message |= _of_assistant(value, where, tool_names)
    elif value.get("weight") not in (None, 0):
        raise _error(f"{where}.weight", "is only for assistant messages: no other is learned")
    elif value.get("tool_calls") or value.get("function_call"):
        raise _error(f"{where}.tool_calls", "only an assistant message can call tools")
    if message["content"] is None and not message.get("tool_calls"):
        wanted = "content or tool_calls" if role == "assistant" else "text"
        raise _error(f"{where}.content", f"is missing: write {wanted}")
    return message


def _content(value: Message, where: str) -> Any:
    content = value.get("content")
    if content is None:
        content = value.get("refusal")
    if isinstance(content, str | None):
        return content
    if not isinstance(content, list) or not content:
        raise _error(f"{where}.content", "must be text or a list of text parts")
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "refusal") or not isinstance(part.get(kind), str):
            raise _error(f"{where}.content[{i}]", "must be {type: text, text: ...}: only text")
    return content


def _of_assistant(value: Message, where: str, tool_names: Collection[str] | None) -> Message:
    """What only assistant messages have: weight, thought, calls."""
    found: Message = {}
    weight = value.get("weight")
    if weight is not None:
        if type(weight) is not int or weight not in (0, 1):
            raise _error(f"{where}.weight", "must be 0 or 1")
        found["weight"] = weight
    for name in _THOUGHTS:
        thought = value.get(name)
        if not isinstance(thought, str | None):
            raise _error(f"{where}.{name}", "must be text")
        if thought is not None:
            found.setdefault("reasoning_content", thought)
    calls, older = value.get("tool_calls"), value.get("function_call")
    if older is not None:
        if calls:
            raise _error(f"{where}.function_call", "tool_calls are there already; keep one")
        found["tool_calls"] = [_call({"function": older}, f"{where}.function_call", tool_names)]
    elif calls:
        if not isinstance(calls, list):
            raise _error(f"{where}.tool_calls", "must be a list")
        found["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{i}]", tool_names) for i, call in enumerate(calls)
        ]
    return found


def _call(value: Any, where: str, tool_names: Collection[str] | None) -> Message:
    function = value.get("function") if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise _error(where, "must be {type: function, function: {name, arguments}}")
    if value.get("type", "function") != "function":
        raise _error(f"{where}.type", "must be function")
    if tool_names is not None and name not in tool_names:
        raise _error(where, f"calls {name[:64]!r}, which is not among the row's tools")
    call: Message = {"type": "function", "function": {"name": name}}
    call["function"]["arguments"] = _arguments(function.get("arguments"), f"{where}.arguments")
    if (id := value.get("id")) is not None:
        if not isinstance(id, str):
            raise _error(f"{where}.id", "must be text")
        call["id"] = id
    return call


def _arguments(value: Any, where: str) -> str:
    """The JSON text of the arguments, which must be an object."""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        raise _error(where, "must be the JSON text of an object")
    try:
        parse_object(value.encode("utf-8"), "the text")
    except RequestError as error:
        raise _error(where, f"must be the JSON text of an object: {error}") from None
    return value


def _close_call(open_calls: list[str | None], answer: Message, where: str) -> None:
    if not open_calls:
        raise _error(f"{where}.role", "is tool, but no call waits for an answer")
    id = answer.get("tool_call_id")
    if id in open_calls:
        open_calls.remove(id)
    elif id is None or all(call is None for call in open_calls):
        open_calls.pop(0)
    else:
        raise _error(f"{where}.tool_call_id", f"no call that waits has the id {id[:64]!r}")


def _error(where: str, problem: str) -> RequestError:
    return RequestError(f"{where}: {problem}", param=where)
