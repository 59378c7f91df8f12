"""Rows to learn from, made of stored chat completions and the feedback on them.

Knows the shapes of requests and answers, no store and no HTTP. Invariants: a row that comes out is
one that `rows` reads; of a conversation only the answer that was stored is learned; a corrected
answer stands in the place of the one that was given.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from firefront.core.errors import RequestError
from firefront.tuning.conversation import KNOWN, Message, without_weights
from firefront.tuning.facts import facts_of
from firefront.tuning.rows import kind_of, parse_row

Json = dict[str, Any]
_ENDED = ("stop", "tool_calls", "function_call")
_FAILURES = ("error", "is_error", "exception")
_SUCCESSES = ("success", "ok")


@dataclass(frozen=True)
class Logged:
    """A stored completion: request and answer as the client knows them, and what was said of it."""

    request: Json
    answer: Json
    choice: int = 0
    score: float | None = None
    corrected: Message | None = None


@dataclass
class Pairs:
    """Preference rows, collected over many completions: a corrected answer over the given one, and
    of answers to the same input the best over the worst."""

    left_out: Counter[str] = field(default_factory=Counter)
    _best: dict[bytes, tuple[float, Json]] = field(default_factory=dict)
    _worst: dict[bytes, tuple[float, Json]] = field(default_factory=dict)

    def add(self, logged: Logged) -> Json | None:
        """The row that this completion makes by itself, if its answer was corrected."""
        try:
            given = _row(logged, _given(logged, must_end=logged.corrected is None))
            if logged.corrected is not None:
                return _preference(_row(logged, logged.corrected), given)
        except RequestError as error:
            self.left_out[kind_of(error.message)] += 1
            return None
        if logged.score is None:
            self.left_out["has neither a score nor a corrected answer"] += 1
            return None
        asked = facts_of(parse_row(given, 0)).asked
        if asked not in self._best or logged.score > self._best[asked][0]:
            self._best[asked] = logged.score, given
        if asked not in self._worst or logged.score < self._worst[asked][0]:
            self._worst[asked] = logged.score, given
        return None

    def rest(self) -> Iterator[Json]:
        """The rows of inputs that were answered more than once, with other scores."""
        for asked, (best, good) in self._best.items():
            worst, bad = self._worst[asked]
            if best <= worst:
                self.left_out["no other answer to the same input has another score"] += 1
                continue
            try:
                yield _preference(good, bad)
            except RequestError as error:
                self.left_out[kind_of(error.message)] += 1


def supervised_row(logged: Logged) -> Json:
    """A chat row. RequestError says why the completion makes none."""
    answer = logged.corrected
    return _row(logged, _given(logged, must_end=True) if answer is None else answer)


def tools_succeeded(logged: Logged) -> bool | None:
    """Whether all calls, of the answer and before it, were sound and no result reports a failure;
    None if there were none.

    Sound: a tool that was offered, arguments that are an object with what its schema requires. A
    failure: a result that is a JSON object whose `error`, `is_error` or `exception` holds something
    or whose `success` or `ok` is false.
    """
    tools = {
        function["name"]: function.get("parameters") or {}
        for function in _functions(logged.request)
        if isinstance(function.get("name"), str)
    }
    messages = [*(logged.request.get("messages") or ()), _given(logged, must_end=False)]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    results = [message for message in messages if message.get("role") in ("tool", "function")]
    if not calls and not results:
        return None
    return all(_is_sound(call, tools) for call in calls) and not any(map(_has_failed, results))


def _given(logged: Logged, *, must_end: bool) -> Message:
    """The assistant message that was answered."""
    choices = logged.answer.get("choices") or ()
    choice = next((c for c in choices if c.get("index") == logged.choice), None)
    if choice is None or not isinstance(choice.get("message"), dict):
        raise RequestError("the answer has no message")
    if must_end and choice.get("finish_reason") not in _ENDED:
        raise RequestError(f"the answer did not end by itself ({choice.get('finish_reason')})")
    return _message(choice["message"])


def _row(logged: Logged, answer: Message) -> Json:
    """The chat row of the request with `answer`; RequestError if it would not be read as one."""
    messages = [_message(message) for message in logged.request.get("messages") or ()]
    if messages and messages[-1].get("role") == "assistant":
        raise RequestError("the answer goes on from an assistant message")
    for message in messages:
        if message.get("role") == "assistant":
            message["weight"] = 0
    row: Json = {"messages": [*messages, answer]}
    if functions := _functions(logged.request):
        row["tools"] = [{"type": "function", "function": function} for function in functions]
    parse_row(row, 0)
    return row


def _preference(good: Json, bad: Json) -> Json:
    row: Json = {"input": {"messages": without_weights(good["messages"][:-1])}}
    if "tools" in good:
        row["input"]["tools"] = good["tools"]
    row["preferred_output"] = good["messages"][-1:]
    row["non_preferred_output"] = bad["messages"][-1:]
    parse_row(row, 0)
    return row


def _message(message: Mapping[str, Any]) -> Message:
    """Only what a row knows and what is there."""
    return {key: value for key, value in message.items() if key in KNOWN and value is not None}


def _functions(request: Json) -> list[Json]:
    tools = [tool.get("function", tool) for tool in request.get("tools") or ()]
    return tools or list(request.get("functions") or ())


def _is_sound(call: Json, tools: Mapping[str, Json]) -> bool:
    function = call.get("function") or {}
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (TypeError, ValueError, RecursionError):
        return False
    schema = tools.get(function.get("name", ""))
    if schema is None or not isinstance(arguments, dict):
        return False
    required = schema.get("required")
    return not isinstance(required, list) or all(
        name in arguments for name in required if isinstance(name, str)
    )


def _has_failed(result: Json) -> bool:
    content = result.get("content")
    try:
        value = json.loads(content) if isinstance(content, str) else None
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict):
        return False
    return any(value.get(name) for name in _FAILURES) or any(
        value.get(name) is False for name in _SUCCESSES
    )
