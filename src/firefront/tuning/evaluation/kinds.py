"""What rows ask for: the kind of their answers, and each row's right one.

Pure. The last message of a row is the right answer, what is before it the question.
"""

import json
from collections.abc import Sequence

from firefront.tuning.conversation import text_of
from firefront.tuning.evaluation.calls import Call, message_calls
from firefront.tuning.evaluation.fields import read_object
from firefront.tuning.evaluation.record import Kind
from firefront.tuning.facts import MAX_LABEL_CHARS
from firefront.tuning.rows import ChatRow


def detect_kind(rows: Sequence[ChatRow]) -> Kind:
    """Calls of tools in some answer: tool_calls. Else, if all answers are JSON objects: extraction;
    all are short, and on average two rows share one: classification; all are short: exact; else
    text."""
    if any(row.messages[-1].get("tool_calls") for row in rows):
        return "tool_calls"
    texts = [reference_text(row) for row in rows]
    if all(read_object(text) is not None for text in texts):
        return "extraction"
    if all(len(text) <= MAX_LABEL_CHARS and "\n" not in text for text in texts):
        return "classification" if 2 * len(set(texts)) <= len(texts) else "exact"
    return "text"


def reference_text(row: ChatRow) -> str:
    """The right answer's text."""
    return text_of(row.messages[-1]).strip()


def reference_calls(row: ChatRow) -> list[Call]:
    """The calls of the right answer."""
    return message_calls(row.messages[-1])[0]


def reference_shown(row: ChatRow) -> str:
    """The right answer for people, and about as long as the model's own would be."""
    return answer_shown(reference_text(row), reference_calls(row))


def answer_shown(text: str, calls: Sequence[Call]) -> str:
    """Text and calls as one text."""
    shown = [json.dumps({"name": c.name, "arguments": c.arguments}) for c in calls]
    return "\n".join([text, *shown] if text else shown)


def question_shown(row: ChatRow) -> str:
    """The last thing that was said before the answer."""
    return text_of(row.messages[-2])
