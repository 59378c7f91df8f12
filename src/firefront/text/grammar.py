"""What an answer must look like, as one grammar in llguidance's notation.

Composes the request's constraint, the calls of tools and the model's thoughts. Knows no engine.
"""

from collections.abc import Sequence

from firefront.core.chat import Constraint, Thinking, Tool, ToolChoice
from firefront.core.errors import RequestError
from firefront.text.answer_format import AnswerFormat
from firefront.text.constraint_grammar import constraint_rules
from firefront.text.rules import Rules, grammar_source
from firefront.text.thought import is_off
from firefront.text.tools.format import FREE_TEXT, FREE_TEXT_DEFINITION, Offered

_NO_TOOLS, _AS_IT_DOES = ToolChoice(mode="none"), Thinking()


def answer_grammar(
    answers: AnswerFormat,
    *,
    constraint: Constraint | None = None,
    tools: Sequence[Tool] = (),
    choice: ToolChoice = _NO_TOOLS,
    parallel: bool = True,
    thinking: Thinking = _AS_IT_DOES,
    in_thought: bool = False,
) -> str | None:
    """The grammar of the answer; None where anything goes.

    Raises RequestError, naming it, for a tool whose parameters the model's format cannot express.
    """
    offered = offered_tools(tools, choice)
    text = constraint_rules(constraint) if constraint is not None else None
    parts: list[Rules] = []
    if offered:
        body, parts = _with_calls(answers, offered, choice, parallel, text)
    elif text is not None:
        body, parts = text.expression, [text]
    else:
        body = ""
    thought = answers.thought
    if thought is None:
        pass
    elif is_off(thinking) and not in_thought:
        # Where the template was told, or the answer begins with something else, it cannot open.
        if not body and not answers.template_kwargs(thinking):
            parts = [thought.unopened()]
            body = parts[0].expression
    elif body or is_off(thinking) or thinking.budget is not None:
        before = thought.rules(thinking, inside=in_thought)
        body = f"{before.expression} ( {body or FREE_TEXT} )"
        parts = [before, *parts]
    if not body:
        return None
    if FREE_TEXT in body or any(FREE_TEXT in part.definitions for part in parts):
        parts.append(Rules("", FREE_TEXT_DEFINITION))
    return grammar_source(body, parts)


def offered_tools(tools: Sequence[Tool], choice: ToolChoice) -> list[Offered]:
    """The tools that may be called, with their places in the request."""
    if choice.mode == "none":
        return []
    return [
        Offered(index, tool)
        for index, tool in enumerate(tools)
        if not choice.names or tool.name in choice.names
    ]


def _with_calls(
    answers: AnswerFormat,
    offered: Sequence[Offered],
    choice: ToolChoice,
    parallel: bool,
    text: Rules | None,
) -> tuple[str, list[Rules]]:
    """The answer where tools may be called, and the parts that it mentions."""
    calls = answers.calls.grammar(offered, parallel=parallel and not choice.is_single)
    defined = Rules("", calls.definitions)
    if choice.mode == "required":
        return calls.calls, [defined]
    if text is None:
        return calls.answer, [defined]
    if calls.beside is None:
        raise RequestError(
            "tool_choice: this model writes calls as plain JSON, which cannot be told from an "
            "answer that is constrained; send none or required",
            param="tool_choice",
        )
    return f"( {text.expression} | {calls.beside} )", [defined, text]

