"""A model in this process: an engine that is kept full of questions.

Renders, constrains and reads as the gateway does, so what is evaluated is what is served. Knows no
metric. Invariant: after a call, whether it returned or raised, the engine is empty.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from firefront.core.chat import Tool, ToolChoice
from firefront.core.errors import OverloadedError, RequestError
from firefront.core.messages import AdapterRef, Delta, Logprob, Submit
from firefront.core.sampling import SamplingParams
from firefront.core.tools import read_tools
from firefront.engine.engine import Engine
from firefront.text.answer import AnswerReader, CallArguments, CallOpened, Content, Event
from firefront.text.answer_format import opens_thought
from firefront.text.grammar import answer_grammar
from firefront.text.tokenizer import Tokenizer
from firefront.tuning.conversation import without_weights
from firefront.tuning.evaluation.ask import Answer, OnDone, Question, TextScore
from firefront.tuning.evaluation.calls import message_calls

_SCORED = SamplingParams(temperature=0.0, max_tokens=0, prompt_logprobs=0)


@dataclass
class _Output:
    """What one request said so far."""

    reader: AnswerReader
    text: list[str] = field(default_factory=list)
    calls: list[dict[str, str]] = field(default_factory=list)

    def take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Content():
                    self.text.append(event.text)
                case CallOpened():
                    self.calls.append({"name": event.name, "arguments": ""})
                case CallArguments():
                    self.calls[event.index]["arguments"] += event.text

    def answer(self, last: Delta) -> Answer:
        assert last.usage is not None and last.timings is not None
        message = {"tool_calls": [{"function": call} for call in self.calls]}
        calls, num_unread = message_calls(message)
        return Answer(
            text="".join(self.text),
            calls=calls,
            num_unread=num_unread,
            is_cut=last.finish == "length",
            num_prompt=last.usage.num_prompt,
            num_output=last.usage.num_output,
            latency_s=(last.timings.total_s or 0.0) - (last.timings.queue_s or 0.0),
        )


class EngineAsker:
    """`adapter`: every question is answered with it."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        name: str,
        adapter: AdapterRef | None = None,
        prices: tuple[float, float] | None = None,
    ) -> None:
        self.name = name
        self.prices = prices
        self.max_len: int | None = engine.max_model_len
        self.tokenizer = tokenizer
        self._engine = engine
        self._adapter = adapter
        self._num_asked = itertools.count()

    def num_tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text, False))

    def ask(self, questions: Sequence[Question], on_done: OnDone) -> list[Answer]:
        answers: list[Answer] = [Answer()] * len(questions)
        outputs: dict[int, _Output] = {}

        def submits() -> Iterator[tuple[int, Submit]]:
            for index, question in enumerate(questions):
                try:
                    submit, outputs[index] = self._rendered(question)
                    self._engine.check(submit)
                except RequestError as error:
                    answers[index] = Answer(error=error.message)
                    on_done()
                else:
                    yield index, submit

        def take(index: int, delta: Delta) -> None:
            output = outputs[index]
            output.take(output.reader.push(delta.text))
            if delta.finish is not None:
                output.take(output.reader.finish())
                answers[index] = (
                    Answer(error=delta.error or "the engine failed")
                    if delta.finish == "error"
                    else output.answer(delta)
                )
                del outputs[index]
                on_done()

        run_all(self._engine, submits(), take)
        return answers

    def score_texts(self, texts: Sequence[str], on_done: OnDone) -> list[TextScore]:
        token_ids = [self.tokenizer.encode(text) for text in texts]
        scores = []
        for own_ids, logprobs in zip(
            token_ids, self.score_tokens(token_ids, on_done), strict=True
        ):
            num_bytes = sum(len(self.tokenizer.token_bytes(token)) for token in own_ids[1:])
            scores.append(
                TextScore(
                    logprob=float(logprobs.sum()),
                    num_tokens=max(0, len(own_ids) - 1),
                    num_bytes=num_bytes,
                )
            )
        return scores

    def score_tokens(
        self, sequences: Sequence[Sequence[int] | NDArray[np.int32]], on_done: OnDone
    ) -> list[NDArray[np.float64]]:
        """Natural logs of the probability of each token but the first. RequestError names a
        sequence that does not fit the context."""
        found: list[NDArray[np.float64]] = [np.zeros(0)] * len(sequences)

        def submits() -> Iterator[tuple[int, Submit]]:
            for index, token_ids in enumerate(sequences):
                if len(token_ids) > 1:
                    yield index, self._submit([int(token) for token in token_ids], _SCORED)

        def take(index: int, delta: Delta) -> None:
            if delta.finish == "error":
                raise RequestError(f"scoring a text failed: {delta.error}")
            if delta.prompt_logprobs is not None:
                found[index] = np.array([_logprob(entry) for entry in delta.prompt_logprobs[1:]])
            if delta.finish is not None:
                on_done()

        run_all(self._engine, submits(), take)
        return found

    def _submit(
        self, token_ids: list[int], sampling: SamplingParams, grammar: str | None = None
    ) -> Submit:
        return Submit(
            request_id=f"eval-{next(self._num_asked)}",
            generation=0,
            token_ids=token_ids,
            sampling=sampling,
            adapter=self._adapter,
            grammar=grammar,
        )

    def _rendered(self, question: Question) -> tuple[Submit, _Output]:
        """As `gateway/render.py` does it for a request."""
        answers = self.tokenizer.answer_format
        tools: tuple[Tool, ...] = read_tools(question.tools)
        choice = ToolChoice(mode="none")
        if tools:
            choice = ToolChoice(mode="required" if question.must_call else "auto")
        messages, shown = answers.prepare(without_weights(question.messages), tools, choice)
        token_ids = self.tokenizer.encode_chat(messages, shown)
        in_thought = opens_thought(self.tokenizer, token_ids)
        sampling = SamplingParams(
            temperature=question.temperature,
            seed=question.seed,
            max_tokens=question.max_tokens,
            skip_special_tokens=not answers.shows_special(with_tools=bool(tools)),
        )
        grammar = answer_grammar(
            answers,
            constraint=question.constraint,
            tools=tools,
            choice=choice,
            parallel=question.may_repeat,
            in_thought=in_thought,
        )
        reader = answers.reader(
            with_tools=bool(tools),
            in_thought=in_thought,
            tools=tools,
            is_free=choice.mode == "auto" and question.constraint is None,
        )
        return self._submit(token_ids, sampling, grammar), _Output(reader)


def run_all(
    engine: Engine, submits: Iterator[tuple[int, Submit]], take: Callable[[int, Delta], None]
) -> None:
    """Keep the engine full until all have ended; `take` is given what each says, with its number.
    However it ends, the engine is empty then."""
    running: dict[str, int] = {}
    waiting = next(submits, None)
    try:
        while waiting is not None or running:
            while waiting is not None:
                index, submit = waiting
                try:
                    engine.submit(submit)
                except OverloadedError:
                    break
                running[submit.request_id] = index
                waiting = next(submits, None)
            for delta in engine.step():
                index = running[delta.request_id]
                if delta.finish is not None:
                    del running[delta.request_id]
                take(index, delta)
    finally:
        for request_id in running:
            engine.abort(request_id, 0)
        while engine.has_work:
            engine.step()


def _logprob(entry: Logprob) -> float:
    assert entry.logprob is not None, "only a first token has none"
    return entry.logprob
