"""Calls of functions: whether they are the ones that were wanted, as BFCL judges them.

Pure. Owns what counts as equal: names exactly, numbers by value, texts without regard to case,
spaces and punctuation, calls in any order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firefront.tuning.evaluation.fields import is_deep, read_object

_NO_MEANING = str.maketrans("", "", " ,./-_*^'\"")


@dataclass
class Call:
    """A call of a function, its arguments as they came."""

    name: str
    arguments: Any


def are_right(calls: Sequence[Call], answer: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the calls are the answer, in any order.

    `answer` is BFCL's: one {name: {parameter: [values that are right]}} a call, where "" among the
    values means that the parameter may be left out. The abstract syntax tree match of
    https://gorilla.cs.berkeley.edu/blogs/8_berkeley_function_calling_leaderboard.html.
    """
    if len(calls) != len(answer):
        return False
    left = list(calls)
    for wanted in answer:
        found = next((call for call in left if _is_call(call, wanted)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def exactly(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """The answer to which only these calls are right."""
    return [{call.name: {k: [_only(v)] for k, v in call.arguments.items()}} for call in calls]


def _only(value: Any) -> Any:
    """A value as an answer writes one: of an object, the right values of each key."""
    if isinstance(value, dict):
        return {key: [_only(inner)] for key, inner in value.items()}
    return [_only(inner) for inner in value] if isinstance(value, list) else value


def message_calls(message: Mapping[str, Any]) -> tuple[list[Call], int]:
    """The calls of an assistant's message that have a name and a JSON object as arguments, and how
    many have not."""
    calls, unread = [], 0
    for call in message.get("tool_calls") or ():
        function = call["function"]
        value = function.get("arguments") or "{}"
        if isinstance(value, str):
            value = read_object(value)
        if isinstance(value, dict) and isinstance(function["name"], str) and not is_deep(value):
            calls.append(Call(function["name"], value))
        else:
            unread += 1
    return calls, unread


def _is_call(call: Call, wanted: Mapping[str, Any]) -> bool:
    ((name, parameters),) = wanted.items()
    return call.name == name and _is_object(call.arguments, parameters)


def _is_object(given: Any, wanted: Mapping[str, list[Any]]) -> bool:
    """Whether an object has a right value for each name, and no other names."""
    if not isinstance(given, dict) or not given.keys() <= wanted.keys():
        return False
    return all(
        any(_is_value(given[name], value) for value in values) if name in given else "" in values
        for name, values in wanted.items()
    )


def _is_value(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return _is_object(given, wanted)
    if isinstance(wanted, list):
        return (
            isinstance(given, list)
            and len(given) == len(wanted)
            and all(_is_value(g, w) for g, w in zip(given, wanted, strict=True))
        )
    if isinstance(wanted, str):
        return isinstance(given, str) and plain(given) == plain(wanted)
    if isinstance(wanted, bool) or isinstance(given, bool):
        return given is wanted
    if isinstance(wanted, int | float):
        return isinstance(given, int | float) and given == wanted
    return bool(given == wanted)


def plain(text: str) -> str:
    """What of a text has meaning for the match."""
    return text.translate(_NO_MEANING).lower()
