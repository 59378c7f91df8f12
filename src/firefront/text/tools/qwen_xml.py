"""Calls with a tag for each parameter, as Qwen3-Coder writes them.

<tool_call> <function=NAME> <parameter=KEY> value </parameter> ... </function> </tool_call>, each on
a line. A value is plain text where the schema wants just a string, and JSON otherwise: which of the
two is decided here, for the grammar and for the reader alike.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from firefront.core.chat import Tool, ToolChoice
from firefront.core.errors import RequestError
from firefront.text.answer_events import AnswerEvents, new_call_id
from firefront.text.constraint_grammar import json_expression
from firefront.text.incoming import Incoming, Steps
from firefront.text.tools.arguments import arguments_schema, checked, param_of
from firefront.text.tools.call_object import MAX_NAME_CHARS
from firefront.text.tools.format import (
    FREE_TEXT,
    CallGrammar,
    Marker,
    Messages,
    Offered,
    quoted,
    tool_dicts,
    with_plain_calls,
)
from firefront.text.tools.hermes import CLOSE, OPEN, ended

_FUNCTION, _END_FUNCTION = "<function=", "</function>"
_PARAMETER, _END_PARAMETER = "<parameter=", "</parameter>"
_TAG_END = re.compile(r"[>\n]")
# What a schema may say of a string that is written as plain text.
_PLAIN_WORDS = frozenset({"type", "title", "description", "default", "examples", "enum", "const"})
_CONSTANTS = {"True": "true", "False": "false", "None": "null"}
# At the top of a schema these cannot be told parameter by parameter.
_UNEXPRESSIBLE = (
    "$ref", "allOf", "anyOf", "const", "dependentRequired", "dependentSchemas", "enum", "if",
    "maxProperties", "minProperties", "not", "oneOf", "patternProperties", "propertyNames",
)  # fmt: skip


@dataclass(frozen=True)
class QwenXmlFormat:
    """The markers as the model's vocabulary has them."""

    may_be_fenced: ClassVar[bool] = False
    open: Marker = Marker(OPEN)
    close: Marker = Marker(CLOSE)

    @property
    def markers(self) -> tuple[Marker, ...]:
        return (self.open, self.close)

    def new_id(self) -> str:
        return new_call_id()

    def prepare(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], choice: ToolChoice
    ) -> tuple[Messages, list[dict[str, Any]] | None]:
        return with_plain_calls(messages), tool_dicts(tools) or None

    def grammar(self, offered: Sequence[Offered], *, parallel: bool) -> CallGrammar:
        names, lines = [], []
        for item in offered:
            names.append(f"call_{item.index}")
            lines += _call_lines(item)
        # The model sometimes leaves out <tool_call>, so what opens a call is <function=.
        function = Marker(_FUNCTION)
        opening, opening_rule = function.after_text("text_and_open")
        lines += [f"call: {' | '.join(names)}", opening_rule, *_ANY_PARAMETER]
        head = f'{self.open.lark} "\\n" {quoted(_FUNCTION)}'
        lines.append(f'one_call: {head} call "\\n" {self.close.lark}')
        lines.append(f'called: {opening} call ( "\\n" {self.close.lark} )?')
        if parallel:
            calls, answer = 'one_call ( "\\n" one_call )*', f"called* {FREE_TEXT}"
        else:
            calls, answer = "one_call", f"( called | {FREE_TEXT} )"
        return CallGrammar(calls, answer, f"( {calls} )", "\n".join(lines))

    def read(self, text: Incoming, out: AnswerEvents, tools: Sequence[Tool]) -> Steps[None]:
        schemas = {tool.name: tool.parameters for tool in tools}
        words = (self.open.text, self.close.text, _FUNCTION)
        is_called = False
        while word := (yield from text.until(words, out.content)):
            if word == self.close.text:
                if not is_called:
                    out.content(word)
                is_called = False
                continue
            text.record()
            if word != _FUNCTION:
                yield from text.spaces()
                if not (yield from text.literal(_FUNCTION)):
                    out.content(word + text.recorded())
                    continue
            name = yield from _tag_name(text)
            consumed = text.recorded()
            if name is None:
                out.content(word + consumed)
                continue
            out.open_call(name)
            yield from _read_parameters(text, out, schemas.get(name, {}))
            is_called = not (yield from ended(text, out, self.close))


def _tag_name(text: Incoming) -> Steps[str | None]:
    name = yield from text.word(_TAG_END, MAX_NAME_CHARS)
    return name if name and (yield from text.literal(">")) else None


def _read_parameters(text: Incoming, out: AnswerEvents, schema: Mapping[str, Any]) -> Steps[None]:
    """A call's arguments up to </function>, as the JSON object that they are."""
    before = "{"
    while True:
        text.record()
        yield from text.spaces()
        if not (yield from text.literal(_PARAMETER)):
            text.recorded()
            break
        key = yield from _tag_name(text)
        consumed = text.recorded()
        if key is None:
            out.content(consumed)
            return
        yield from text.literal("\n")
        out.arguments(f"{before}{json.dumps(key, ensure_ascii=False)}: ")
        before = ", "
        if not (yield from _read_value(text, out, _properties(schema).get(key, {}))):
            return
    if (yield from text.literal(_END_FUNCTION)):
        out.arguments("{}" if before == "{" else "}")
        out.close_call()


def _read_value(text: Incoming, out: AnswerEvents, schema: Any) -> Steps[bool]:
    """One value up to </parameter>; whether it got there."""
    if _is_plain(schema):
        out.arguments('"')
        if not (yield from text.until((_END_PARAMETER,), _PlainValue(out).take)):
            return False
        out.arguments('"')
        return True
    pieces: list[str] = []
    end = yield from text.until((_END_PARAMETER,), pieces.append)
    value = "".join(pieces).strip()
    out.arguments(_json_of(value) if end else value)
    return end is not None


class _PlainValue:
    """Text made into a JSON string as it comes. The last end of line is not the value's."""

    def __init__(self, out: AnswerEvents) -> None:
        self._out = out
        self._held = ""

    def take(self, text: str) -> None:
        text = self._held + text
        self._held = "\n" if text.endswith("\n") else ""
        if kept := text[: len(text) - len(self._held)]:
            self._out.arguments(json.dumps(kept, ensure_ascii=False)[1:-1])


def _json_of(value: str) -> str:
    """A value that should be JSON; what is not becomes a string."""
    value = _CONSTANTS.get(value, value)
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return json.dumps(value, ensure_ascii=False)
    return value


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _is_plain(schema: Any) -> bool:
    """Whether values of this schema are written as plain text."""
    if not isinstance(schema, Mapping) or schema.get("type") != "string":
        return False
    choices = schema.get("enum", [""])
    return (
        _PLAIN_WORDS.issuperset(schema)
        and isinstance(choices, list)
        and choices != []
        and all(isinstance(choice, str) for choice in [*choices, schema.get("const", "")])
    )


def _call_lines(offered: Offered) -> list[str]:
    """The rules of one tool's calls, from its name on."""
    schema = arguments_schema(offered)
    param = param_of(offered)
    for word in _UNEXPRESSIBLE:
        if word in schema:
            raise RequestError(
                f"{param}.{word}: this model writes calls parameter by parameter, so only "
                "properties and required can be said of all of them",
                param=f"{param}.{word}",
            )
    name, lines, parts = f"call_{offered.index}", [], []
    required = schema.get("required")
    needed = [key for key in required if isinstance(key, str)] if isinstance(required, list) else []
    properties = dict(_properties(schema))
    for key in needed:
        properties.setdefault(key, {})
    for i, (key, inner) in enumerate(properties.items()):
        rule = f"{name}_{i}"
        lines += _parameter_lines(rule, key, inner, schema, offered)
        parts.append(rule if key in needed else f"{rule}?")
    if schema.get("additionalProperties") is not False and not properties:
        parts.append("any_parameter*")
    body = " ".join([quoted(f"{offered.tool.name}>\n"), *parts, quoted(_END_FUNCTION)])
    return [*lines, f"{name}: {body}"]


def _parameter_lines(
    rule: str, key: str, schema: Any, whole: Mapping[str, Any], offered: Offered
) -> list[str]:
    if ">" in key or "\n" in key:
        param = f"{param_of(offered)}.properties"
        raise RequestError(
            f"{param}: this model's calls cannot name the parameter {key[:64]!r}", param=param
        )
    head, end = quoted(f"<parameter={key}>\n"), quoted(f"\n{_END_PARAMETER}\n")
    if not _is_plain(schema):
        # References lead to where they led before.
        shared = {word: whole[word] for word in ("$defs", "definitions") if word in whole}
        inner = {**shared, **schema} if isinstance(schema, dict) else schema
        value = json_expression(checked(inner, offered))
        return [f"{rule}: {head} {rule}_value {end}", f"{rule}_value: {value}"]
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if choices is not None:
        listed = " | ".join(quoted(choice + f"\n{_END_PARAMETER}\n") for choice in choices)
        return [f"{rule}: {head} ( {listed} )"]
    return [
        f"{rule}: {head} {rule}_text {quoted(chr(10))}",
        f"{rule}_text[lazy]: {FREE_TEXT} {quoted(chr(10) + _END_PARAMETER)}",
    ]


_ANY_PARAMETER = (
    rf'any_parameter: "<parameter=" /[^>\n]+/ ">\n" any_text {quoted(chr(10))}',
    f"any_text[lazy]: {FREE_TEXT} {quoted(chr(10) + _END_PARAMETER)}",
)
