"""How a model is asked: questions in, answers out, whoever runs the model.

Owns the records between the two implementations (`ask_engine`, `ask_server`) and what scores them.
Answers are greedy unless a question says otherwise. Invariant: there is one answer a question, in
order; a question that was refused has an answer that says why.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from firefront.core.chat import Constraint
from firefront.tuning.evaluation.calls import Call

OnDone = Callable[[], None]  # called after each answer; what it raises ends the asking


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation that waits for an answer. `must_call`: a tool, whichever; `may_repeat`:
    several in one answer. `seed`: of a draw at a `temperature` over 0."""

    messages: list[dict[str, Any]]
    max_tokens: int
    tools: list[dict[str, Any]] | None = None
    constraint: Constraint | None = None
    must_call: bool = False
    may_repeat: bool = True
    temperature: float = 0.0
    seed: int | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`num_unread`: calls whose arguments are no JSON object. `is_cut`: it had no room to end.
    `latency_s`: from when the model took it up to its last token. `error`: why there is none."""

    text: str = ""
    calls: list[Call] = []
    num_unread: int = 0
    is_cut: bool = False
    num_prompt: int = 0
    num_output: int = 0
    latency_s: float = 0.0
    error: str | None = None


class TextScore(msgspec.Struct, frozen=True, kw_only=True):
    """A text that the model did not write: the sum of its tokens' log-probabilities (natural), and
    of how many tokens and bytes (the first token has nothing before it and is left out)."""

    logprob: float
    num_tokens: int
    num_bytes: int


class Asker(Protocol):
    """One model. `prices`: dollars for a token of a prompt and of an answer, if any are named."""

    name: str
    prices: tuple[float, float] | None
    max_len: int | None  # tokens of prompt and answer, if it is known

    def ask(self, questions: Sequence[Question], on_done: OnDone) -> list[Answer]: ...

    def score_texts(self, texts: Sequence[str], on_done: OnDone) -> list[TextScore]: ...

    def num_tokens(self, text: str) -> int:
        """Of a text by itself; about so many where the model does not tell."""
