"""Rows of a data set as tokens and labels: what the trainer sees of a conversation.

Rendered as the server renders, answer by answer: the prompt of an answer is, token for token, what
a request for it would be. Knows no files and no training.
Invariant: an Example has at least one labelled token, and its labels are tokens that the model
itself would have to write, up to the one that ends the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firefront.core.chat import ToolChoice
from firefront.core.errors import FirefrontError, RequestError
from firefront.core.tools import read_tools
from firefront.text.tokenizer import Tokenizer
from firefront.tuning.conversation import without_weights
from firefront.tuning.rows import ChatRow, Row

Messages = Sequence[Mapping[str, Any]]
ToolDicts = Sequence[Mapping[str, Any]] | None


class RowError(RequestError):
    """A row that cannot be learned from; `line` is its line in the file, 0 if it is of no file, and
    `problem` the message without it."""

    code = "invalid_training_row"

    def __init__(self, line: int, message: str, *, param: str | None = None) -> None:
        super().__init__(f"line {line}: {message}" if line else message, param=param)
        self.line = line
        self.problem = message


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One sequence to learn from. `label_weights[i]` is the weight of the loss of predicting token
    i from those before it; 0 for none, always 0 for the first. `prompt_len`: tokens before the
    first label. `line` is the row's; `num_cut`: tokens of the row beyond the longest length."""

    token_ids: NDArray[np.int32]
    label_weights: NDArray[np.float32]
    prompt_len: int
    line: int = 0
    num_cut: int = 0

    @property
    def num_labels(self) -> int:
        return int(np.count_nonzero(self.label_weights))


@dataclass(slots=True)
class _Answers:
    """Answers of one row that lie in one sequence of tokens."""

    token_ids: list[int]
    spans: list[tuple[int, int]] = field(default_factory=list)

    def goes_on_in(self, token_ids: list[int]) -> bool:
        end = self.spans[-1][1]
        return token_ids[:end] == self.token_ids[:end]

    def example(self, line: int) -> Example:
        """Up to the last label: what the template writes after it teaches nothing."""
        end = self.spans[-1][1]
        weights = np.zeros(end, np.float32)
        for start, stop in self.spans:
            weights[start:stop] = 1
        return Example(np.array(self.token_ids[:end], np.int32), weights, self.spans[0][0], line)


def row_examples(tokenizer: Tokenizer, row: Row, max_len: int) -> list[Example]:
    """What is learned from a row: of a preference the preferred answer, then the rejected one.
    RowError if there is nothing to learn."""
    if isinstance(row, ChatRow):
        return chat_examples(tokenizer, row.messages, row.tools, line=row.line, max_len=max_len)
    return list(
        preference_examples(
            tokenizer, row.messages, row.preferred, row.rejected, row.tools,
            line=row.line, max_len=max_len,
        )
    )  # fmt: skip


def chat_examples(
    tokenizer: Tokenizer,
    messages: Messages,
    tools: ToolDicts = None,
    *,
    line: int = 0,
    max_len: int | None = None,
) -> list[Example]:
    """The examples of one conversation: every assistant message whose `weight` is not 0 is learned.

    One example, unless the template shows earlier answers otherwise than when they were given
    (without their thoughts, say): then the answers are in several. `max_len` cuts the end off.
    RowError for a row that the template refuses, that has nothing to learn, or whose labels are all
    beyond `max_len`.
    """
    learned = [
        i
        for i, message in enumerate(messages)
        if message.get("role") == "assistant" and message.get("weight", 1) != 0
    ]
    if not learned:
        raise RowError(line, "no assistant message with a weight to learn from", param="messages")
    prompts = _Prompts(tokenizer, messages, tools, line)
    sequences: list[_Answers] = []
    for index in learned:
        token_ids, span = prompts.answer(index)
        last = sequences[-1] if sequences else None
        if last is not None and last.goes_on_in(token_ids):
            last.token_ids = token_ids
            last.spans.append(span)
        else:
            sequences.append(_Answers(token_ids, [span]))
    return _cut([answers.example(line) for answers in sequences], max_len, line)


def preference_examples(
    tokenizer: Tokenizer,
    messages: Messages,
    preferred: Messages,
    rejected: Messages,
    tools: ToolDicts = None,
    *,
    line: int = 0,
    max_len: int | None = None,
) -> tuple[Example, Example]:
    """The preferred and the rejected continuation of one prompt; only they are labelled."""
    prompt = [{**message, "weight": 0} for message in messages]
    pair = []
    for name, answer in (("preferred", preferred), ("rejected", rejected)):
        found = chat_examples(tokenizer, [*prompt, *answer], tools, line=line, max_len=max_len)
        if len(found) != 1:
            raise RowError(line, f"{name}: its answers do not lie in one sequence of tokens")
        pair.append(found[0])
    if np.array_equal(pair[0].token_ids, pair[1].token_ids):
        raise RowError(line, "the preferred and the rejected answer are the same tokens")
    return pair[0], pair[1]


class _Prompts:
    """One conversation, rendered up to any of its answers."""

    def __init__(
        self, tokenizer: Tokenizer, messages: Messages, tools: ToolDicts, line: int
    ) -> None:
        self._tokenizer = tokenizer
        self._messages = without_weights(messages)
        try:
            self._tools = read_tools(list(tools or ()))
        except RequestError as error:
            raise RowError(line, error.message, param=error.param) from None
        self._line = line

    def answer(self, index: int) -> tuple[list[int], tuple[int, int]]:
        """Tokens up to the end of message `index`, and which of them answer."""
        where = f"messages[{index}]"
        if index == 0:
            raise RowError(self._line, f"{where}: an answer needs a message before it", param=where)
        prompt_ids = self._render(index, where, add_generation_prompt=True)
        token_ids = self._render(index + 1, where, add_generation_prompt=False)
        start = len(prompt_ids)
        if token_ids[:start] != prompt_ids:
            raise RowError(
                self._line,
                f"{where}: the chat template does not write this answer where the model would "
                "begin it; remove line breaks at its start, if there are any",
                param=where,
            )
        ends = [i for i in range(start, len(token_ids)) if token_ids[i] in self._tokenizer.eos_ids]
        if not ends:
            raise RowError(
                self._line,
                f"{where}: the chat template writes no token that ends an answer, so the model "
                "would learn not to end; use a model with a complete template",
                param=where,
            )
        span = (start, ends[-1] + 1)
        self._check_shown(index, self._tokenizer.decode(token_ids[start:], skip_special=False))
        return token_ids, span

    def _render(self, stop: int, where: str, *, add_generation_prompt: bool) -> list[int]:
        """The first `stop` messages, as a request with them is rendered."""
        answers = self._tokenizer.answer_format
        try:
            messages, tools = answers.prepare(self._messages[:stop], self._tools, ToolChoice())
            return self._tokenizer.encode_chat(messages, tools, add_generation_prompt)
        except FirefrontError as error:
            raise RowError(self._line, f"up to {where}: {error.message}", param=where) from None

    def _check_shown(self, index: int, text: str) -> None:
        """RowError unless the rendered answer has all that the message says."""
        message = self._messages[index]
        said = message.get("content")
        parts = [said] if isinstance(said, str) else []
        for call in message.get("tool_calls") or ():
            parts.append(str(call.get("function", {}).get("name")))
        for part in parts:
            if part.strip() not in text:
                raise RowError(
                    self._line,
                    f"messages[{index}]: the model's chat template or vocabulary does not keep "
                    f"{part.strip()[:40]!r} as it is",
                    param=f"messages[{index}]",
                )


def _cut(examples: list[Example], max_len: int | None, line: int) -> list[Example]:
    """The examples within `max_len` tokens; those that keep no label are left out."""
    if max_len is None:
        return examples
    kept, num_cut = [], 0
    for example in examples:
        beyond = max(0, len(example.token_ids) - max_len)
        weights = example.label_weights[:max_len]
        num_cut += beyond
        if weights.any():
            ids = example.token_ids[:max_len]
            kept.append(replace(example, token_ids=ids, label_weights=weights, num_cut=beyond))
    if not kept:
        raise RowError(
            line,
            f"every labelled token lies beyond max_len={max_len}; the row has "
            f"{max(len(example.token_ids) for example in examples)} tokens",
            param="max_len",
        )
    kept[0] = replace(kept[0], num_cut=num_cut - sum(example.num_cut for example in kept[1:]))
    return kept
