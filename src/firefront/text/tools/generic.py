"""A format for models whose template knows no tools, or knows them in a way we do not.

Tools are described in the system message, calls are written as Hermes writes them, earlier ones
too, so that the model sees its own form; results are user messages. Works with templates that know
no system message and that insist on turns.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firefront.core.chat import Tool, ToolChoice
from firefront.text.tools.format import Messages, plain_calls, tool_dicts
from firefront.text.tools.hermes import CLOSE, OPEN, HermesFormat

_INTRODUCTION = "You can use tools. They are functions, described here as JSON, one a line:"
_FORM = (
    "To use a tool, write its name and its arguments as JSON, in just this form:\n"
    f'{OPEN}\n{{"name": "name_of_the_tool", "arguments": {{"parameter": "value"}}}}\n{CLOSE}\n'
    "The result will be given to you between <tool_response> and </tool_response>."
)
_WHEN = {
    "auto": "Use a tool only if it helps with the question. Otherwise answer in plain words.",
    "required": "Answer this time by using a tool.",
}


@dataclass(frozen=True)
class GenericFormat(HermesFormat):
    """`takes_system`: whether the template allows a system message."""

    takes_system: bool = True

    def prepare(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], choice: ToolChoice
    ) -> tuple[Messages, list[dict[str, Any]] | None]:
        turns = _joined([_spoken(message) for message in messages])
        if tools:
            turns = self._introduced(turns, _description(tools, choice))
        return turns, None

    def _introduced(self, turns: Messages, description: str) -> Messages:
        if turns and turns[0].get("role") == "system":
            description = f"{text_of(turns[0].get('content'))}\n\n{description}"
            turns = turns[1:]
        if self.takes_system:
            return [{"role": "system", "content": description}, *turns]
        if turns and turns[0].get("role") == "user":
            first = {**turns[0], "content": f"{description}\n\n{text_of(turns[0].get('content'))}"}
            return [first, *turns[1:]]
        return [{"role": "user", "content": description}, *turns]


def text_of(content: Any) -> str:
    """Content as one text, whether it was one or came in parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") or part.get("refusal") for part in parts if isinstance(part, Mapping)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _description(tools: Sequence[Tool], choice: ToolChoice) -> str:
    functions = [json.dumps(tool["function"], ensure_ascii=False) for tool in tool_dicts(tools)]
    listed = "\n".join(["<tools>", *functions, "</tools>"])
    return "\n".join([_INTRODUCTION, listed, _FORM, _WHEN.get(choice.mode, "")]).rstrip()


def _spoken(message: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The message in roles and words that any template knows, and whether it is a result."""
    if message.get("role") in ("tool", "function"):
        result = text_of(message.get("content"))
        told = f"<tool_response>\n{result}\n</tool_response>"
        return {"role": "user", "content": told}, True
    calls = plain_calls(message)
    spoken = {key: value for key, value in message.items() if key != "tool_calls"}
    if calls:
        texts = [_call_text(call["function"]) for call in calls]
        content = text_of(message.get("content"))
        spoken["content"] = "\n".join([*([content] if content else []), *texts])
    return spoken, False


def _call_text(function: Mapping[str, Any]) -> str:
    arguments = function["arguments"]
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            pass  # shown as the text that it is
    call = {"name": function["name"], "arguments": arguments}
    return f"{OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CLOSE}"


def _joined(turns: Sequence[tuple[dict[str, Any], bool]]) -> Messages:
    """Results that follow one another, or that a user's message follows, are one turn."""
    joined: Messages = []
    had_result = False
    for turn, is_result in turns:
        is_same = bool(joined) and turn.get("role") == joined[-1].get("role") == "user"
        if is_same and (is_result or had_result):
            texts = [text_of(joined[-1].get("content")), text_of(turn.get("content"))]
            joined[-1] = {**joined[-1], "content": "\n".join(texts)}
            had_result = True
        else:
            joined.append(turn)
            had_result = is_result
    return joined
