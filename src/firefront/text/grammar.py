"""What an answer must look like, as one grammar in llguidance's notation.

Composes the request's constraint, the calls of tools and the model's thoughts. Knows no engine.
"""

from collections.abc import Sequence

from firefront.core.chat import Constraint, Thinking, Tool, ToolChoice
from firefront.core.errors import RequestError
from firefront.text.answer_format import AnswerFormat
from firefront.text.constraint_grammar import constraint_rules
from firefront.text.rules import grammar_source


def answer_grammar(
    answers: AnswerFormat,
    *,
    constraint: Constraint | None = None,
    tools: Sequence[Tool] = (),
    choice: ToolChoice = ToolChoice(mode="none"),
    parallel: bool = True,
    thinking: Thinking = Thinking(),
    in_thought: bool = False,
) -> str | None:
    """The grammar of the answer; None where anything goes. RequestError if it cannot be."""
    if tools and choice.mode != "none":
        raise RequestError("tools: are not supported yet", param="tools")
    if constraint is None:
        return None
    rules = constraint_rules(constraint)
    return grammar_source(rules.expression, [rules])
