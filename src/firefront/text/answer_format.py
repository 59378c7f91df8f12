"""How one model marks, in its text, what it thinks and what it calls.

Owns the choice of the formats from the model's own template and vocabulary, and what a request adds
to the conversation for them. Knows no API and no grammar engine.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from firefront.core.chat import Thinking, Tool, ToolChoice
from firefront.text.answer import AnswerReader, Event, PlainReader
from firefront.text.answer_events import AnswerEvents
from firefront.text.incoming import Incoming, Steps
from firefront.text.thought import MARKERS, ThoughtFormat, is_off
from firefront.text.tools import hermes, json_calls, mistral, qwen_xml
from firefront.text.tools.fenced import read_fenced
from firefront.text.tools.format import Marker, ToolFormat
from firefront.text.tools.generic import GenericFormat
from firefront.text.vocab import AddedToken

_TAIL_TOKENS = 16  # of a prompt, to see whether it opens a thought
_ENABLING = ("enable_thinking", "thinking")  # variables by which templates switch thinking


@dataclass(frozen=True)
class AnswerFormat:
    """The formats of one model. `variables`: names that its template uses."""

    calls: ToolFormat = GenericFormat()
    thought: ThoughtFormat | None = None
    variables: frozenset[str] = frozenset()

    def prepare(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], choice: ToolChoice
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        """Messages and tools as the model's template is given them. Tools that the choice leaves
        out are not mentioned."""
        return self.calls.prepare(messages, allowed_tools(tools, choice), choice)

    def template_kwargs(self, thinking: Thinking) -> dict[str, Any]:
        """What tells the template how much to think, as far as it asks."""
        kwargs: dict[str, Any] = {}
        if thinking.enabled is not None or is_off(thinking):
            enabled = not is_off(thinking)
            kwargs |= {name: enabled for name in _ENABLING if name in self.variables}
        if thinking.effort is not None and "reasoning_effort" in self.variables:
            kwargs["reasoning_effort"] = thinking.effort
        if thinking.budget is not None and "thinking_budget" in self.variables:
            kwargs["thinking_budget"] = thinking.budget
        return kwargs

    def opens_thought(self, prompt_tail: str) -> bool:
        """Whether a prompt that ends so has the answer begin inside a thought."""
        return self.thought is not None and self.thought.opened_by(prompt_tail)

    def reader(
        self,
        *,
        with_tools: bool,
        in_thought: bool,
        tools: Sequence[Tool] = (),
        is_free: bool = True,
    ) -> AnswerReader:
        """A reader for one answer. `tools`: those that may be called, by whose names and schemas
        some formats are read. `is_free`: the answer may be any text; one that has to have a form
        is no call, however much it looks like one."""
        if not with_tools and self.thought is None:
            return PlainReader()

        def steps(text: Incoming, out: AnswerEvents) -> Steps[None]:
            if self.thought is not None:
                yield from self.thought.read(text, out, inside=in_thought)
            if with_tools and is_free and self.calls.may_be_fenced:
                yield from read_fenced(text, out, {tool.name for tool in tools})
            if with_tools:
                yield from self.calls.read(text, out, tools)
            else:
                yield from text.rest(out.content)

        return _Reader(steps, AnswerEvents(beside_calls=with_tools, new_id=self.calls.new_id))

    def shows_special(self, *, with_tools: bool) -> bool:
        """Whether the answer's text must include control tokens for the reader to understand it."""
        thinks = self.thought is not None and self.thought.is_control
        return thinks or (with_tools and any(m.is_control for m in self.calls.markers))


class _Reader:
    """An AnswerReader that runs a format's generator."""

    def __init__(
        self, steps: Callable[[Incoming, AnswerEvents], Steps[None]], events: AnswerEvents
    ) -> None:
        self._text = Incoming()
        self._events = events
        self._steps = steps(self._text, events)
        next(self._steps)  # up to where it waits for text

    def push(self, text: str) -> list[Event]:
        if not text:
            return []
        self._text.feed(text)
        next(self._steps)
        return self._events.drain()

    def finish(self) -> list[Event]:
        self._text.end()
        assert next(self._steps, self) is self, "a reader waits for text after the end"
        self._events.finish()
        return self._events.drain()


class _Decodes(Protocol):
    @property
    def answer_format(self) -> AnswerFormat: ...
    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str: ...


def opens_thought(tokenizer: _Decodes, token_ids: Sequence[int]) -> bool:
    """Whether the answer to this prompt begins inside a thought."""
    answers = tokenizer.answer_format
    return answers.thought is not None and answers.opens_thought(
        tokenizer.decode(token_ids[-_TAIL_TOKENS:], skip_special=False)
    )


def allowed_tools(tools: Sequence[Tool], choice: ToolChoice) -> list[Tool]:
    """The tools that the choice lets be called."""
    if choice.mode == "none":
        return []
    return [tool for tool in tools if not choice.names or tool.name in choice.names]


def answer_format(template: str, added: Iterable[AddedToken]) -> AnswerFormat:
    """The formats that a chat template's text gives away. `added`: the vocabulary's added tokens.
    An empty template: the model has none of its own."""
    from firefront.text.template import names_in  # with jinja, which completions can do without

    tokens = {token.text: token for token in added}
    variables = names_in(template)
    return AnswerFormat(
        calls=_tool_format(template, variables, tokens),
        thought=_thought_format(template, tokens),
        variables=variables,
    )


def _tool_format(
    template: str, variables: frozenset[str], tokens: Mapping[str, AddedToken]
) -> ToolFormat:
    def marker(text: str) -> Marker:
        return _marker(text, tokens)

    if "tools" in variables:
        if mistral.CALLS in template:
            newer = mistral.ARGS in template
            return mistral.MistralFormat(
                marker(mistral.CALLS),
                marker(mistral.ARGS) if newer else None,
                marker(mistral.CALL_ID) if newer and mistral.CALL_ID in template else None,
            )
        if "<function=" in template and "<parameter=" in template:
            return qwen_xml.QwenXmlFormat(marker(qwen_xml.OPEN), marker(qwen_xml.CLOSE))
        if hermes.OPEN in template:
            return hermes.HermesFormat(marker(hermes.OPEN), marker(hermes.CLOSE))
        key = next((key for key in ("parameters", "arguments") if _writes_call(template, key)), "")
        if key or json_calls.PYTHON_TAG in template:
            has_tag = json_calls.PYTHON_TAG in tokens
            return json_calls.JsonCallsFormat(
                key or "parameters",
                marker(json_calls.PYTHON_TAG) if has_tag else None,
                splits_calls="single tool-call" in template,
            )
    return GenericFormat(
        marker(hermes.OPEN),
        marker(hermes.CLOSE),
        takes_system="system role not supported" not in template.lower(),
    )


def _writes_call(template: str, key: str) -> bool:
    """Whether the template shows a call as a JSON object with its arguments under `key`."""
    flat = template.replace("\\", "").replace(" ", "")
    start = 0
    while (start := flat.find('{"name":', start)) >= 0:
        shown, found, _ = flat[start : start + 200].partition(f'"{key}":')
        if found and '"description"' not in shown:  # that would be a tool
            return True
        start += 1
    return False


def _thought_format(template: str, tokens: Mapping[str, AddedToken]) -> ThoughtFormat | None:
    for opening, closing in MARKERS:
        if opening in template or closing in template or (opening in tokens and closing in tokens):
            return ThoughtFormat(_marker(opening, tokens), _marker(closing, tokens))
    return None


def _marker(text: str, tokens: Mapping[str, AddedToken]) -> Marker:
    token = tokens.get(text)
    return Marker(text) if token is None else Marker(text, token.id, token.control)
