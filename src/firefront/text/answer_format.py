"""How one model marks, in its text, what it thinks and what it calls.

Owns the choice of the formats from the model's own template and vocabulary, and what a request adds
to the conversation for them. Knows no API and no grammar engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firefront.core.chat import Thinking, Tool, ToolChoice
from firefront.text.answer import AnswerReader, PlainReader


@dataclass(frozen=True)
class AnswerFormat:
    """The formats of one model."""

    def prepare(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], choice: ToolChoice
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        """Messages and tools as the model's template is given them."""
        return [dict(message) for message in messages], None

    def template_kwargs(self, thinking: Thinking) -> dict[str, Any]:
        """What tells the template how much to think."""
        return {}

    def opens_thought(self, prompt_tail: str) -> bool:
        """Whether a prompt that ends so has the answer begin inside a thought."""
        return False

    def reader(self, *, with_tools: bool, in_thought: bool) -> AnswerReader:
        """A reader for one answer."""
        return PlainReader()

    def shows_special(self, *, with_tools: bool) -> bool:
        """Whether the answer's text must include control tokens for the reader to understand it."""
        return False


def answer_format(template: str, added: Mapping[str, bool]) -> AnswerFormat:
    """The formats that a chat template's text gives away. `added`: the vocabulary's added tokens,
    and whether each is a control token, which plain text does not show."""
    return AnswerFormat()
