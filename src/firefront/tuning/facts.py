"""What cleansing and splitting look at in a row: digests of what is asked and answered, its label,
its texts.

Owns what "the same" means: ends of texts stripped, Unicode NFC, case folded; nothing else is
forgiven (a doubled space is a near duplicate, not an exact one). Knows no other rows.
"""

import json
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from firefront.tuning.conversation import Message, text_of
from firefront.tuning.rows import ChatRow, PreferenceRow, Row

MAX_LABEL_CHARS = 64
Form = Literal["label", "structure", "text"]


@dataclass(frozen=True, slots=True)
class Facts:
    """`asked` and `answered`: digests of the input (system text and tools too) and of the answer;
    `reverse`: of the answer of a pair that prefers the other one. `question`: the input's text
    without its system text. `form`: a short text or a call, a JSON value, other text. `label`:
    of an answer of the first form, or the names of what is called. `system`: the system text."""

    line: int
    asked: bytes
    answered: bytes
    reverse: bytes
    question: str
    system: str
    form: Form
    label: str


def facts_of(row: Row) -> Facts:
    """The facts of a row."""
    if isinstance(row, PreferenceRow):
        input, outputs = row.messages, [row.preferred, row.rejected]
    else:
        input, outputs = row.messages[:-1], [row.messages[-1:]]
    digests = [_digest([_normal_message(m) for m in output]) for output in outputs]
    last = outputs[0][-1]
    form, label = _form_of(last)
    tools = json.dumps(row.tools, sort_keys=True) if row.tools else ""
    return Facts(
        line=row.line,
        asked=_digest([tools, *map(_normal_message, input)]),
        answered=_digest(digests),
        reverse=_digest(digests[::-1]),
        question="\n".join(text_of(m) for m in input if m["role"] != "system"),
        system=sys.intern("\n".join(text_of(m) for m in input if m["role"] == "system")),
        form="text" if isinstance(row, PreferenceRow) else form,
        label=sys.intern(label),
    )


def normal(text: str) -> str:
    """`text` as it is compared: texts are the same where these are equal."""
    return unicodedata.normalize("NFC", text.strip()).casefold()


def normal_json(text: str) -> str:
    """Equal for values that differ in the order of keys, in spaces and in case only."""
    try:
        return normal(json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False))
    except (ValueError, RecursionError):
        return normal(text)


def texts_of(row: Row) -> Iterator[tuple[str, str]]:
    """Every text of a row and where it is."""
    parts: list[tuple[str, Sequence[Message]]] = [("messages", row.messages)]
    if isinstance(row, PreferenceRow):
        parts = [("input.messages", row.messages)]
        parts += [("preferred_output", row.preferred), ("non_preferred_output", row.rejected)]
    for name, messages in parts:
        for i, message in enumerate(messages):
            where = f"{name}[{i}]"
            yield f"{where}.content", text_of(message)
            for key in ("name", "reasoning_content"):
                if key in message:
                    yield f"{where}.{key}", message[key]
            for call in message.get("tool_calls") or ():
                yield f"{where}.tool_calls", call["function"]["arguments"]
    if row.tools:
        yield "tools", json.dumps(row.tools, ensure_ascii=False)


def last_message(row: Row) -> Message:
    """The answer that is learned last, of a pair the preferred one."""
    return (row.messages if isinstance(row, ChatRow) else row.preferred)[-1]


def _normal_message(message: Message) -> str:
    text = text_of(message)
    is_json = text.lstrip()[:1] in ("{", "[")
    parts = [message["role"], normal_json(text) if is_json else normal(text)]
    for call in message.get("tool_calls") or ():
        function = call["function"]
        parts += [function["name"], normal_json(function["arguments"])]
    return json.dumps(parts)


def _form_of(message: Message) -> tuple[Form, str]:
    if calls := message.get("tool_calls"):
        return "structure", " + ".join(sorted(call["function"]["name"] for call in calls))
    text = text_of(message).strip()
    if text[:1] in ("{", "["):
        return "structure", ""
    if text and len(text) <= MAX_LABEL_CHARS and "\n" not in text:
        return "label", normal(text)
    return "text", ""


def _digest(value: Any) -> bytes:
    whole = value if isinstance(value, bytes) else _packed(value)
    return blake2b(whole, digest_size=16).digest()


def _packed(parts: Sequence[str | bytes]) -> bytes:
    """The parts such that no two lists of parts are packed alike."""
    encoded = [p if isinstance(p, bytes) else p.encode("utf-8", "surrogatepass") for p in parts]
    return b"".join(len(part).to_bytes(8, "little") + part for part in encoded)
