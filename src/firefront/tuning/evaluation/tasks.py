"""Something to try models on: a data set made questions, or texts whose likelihood is asked for.

Owns how a file becomes one: which rows are taken, and of what kind they are. A task is made once
and run with several models, so that their scores are of the same rows.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from firefront.core.errors import RequestError
from firefront.tuning.evaluation import kinds, metrics, needle
from firefront.tuning.evaluation.ask import Answer, Asker, OnDone, Question, TextScore
from firefront.tuning.evaluation.ask_engine import EngineAsker
from firefront.tuning.evaluation.perplexity import bits_per_byte, perplexity, pieces, read_text
from firefront.tuning.evaluation.record import DataFacts, Kind, Outcome, Report, RowFacts
from firefront.tuning.examples import chat_examples
from firefront.tuning.rows import ChatRow, read_rows
from firefront.weights.model_store import file_sha256

MAX_SHOWN_CHARS = 1000  # of a question
MAX_ANSWER_TOKENS = 4096
NUM_NEEDLE_LENGTHS = 4
_CALL_TOKENS = 24  # what a model writes around a call
_LONGEST = 8  # references whose tokens are counted


class Task(Protocol):
    """`run` asks a model, `judge` says what that was worth."""

    kind: Kind
    main: str
    rows: list[RowFacts]

    def run(self, asker: Asker, on_done: OnDone) -> list[Any]: ...

    def judge(self, found: list[Any], on_done: OnDone) -> tuple[Report, list[Outcome]]: ...


class AnswerTask:
    """Rows whose questions are answered. `judge` may ask another model."""

    def __init__(
        self, kind: Kind, rows: Sequence[ChatRow], metric: metrics.Metric, is_constrained: bool
    ) -> None:
        self.kind: Kind = kind
        self.main = metric.main
        self.rows = [_facts(row) for row in rows]
        self._rows = rows
        self._metric = metric
        self._constraint = metric.constraint() if is_constrained else None
        self._must_call = is_constrained and kind == "tool_calls"
        self._most_calls = max(len(kinds.reference_calls(row)) for row in rows)

    def run(self, asker: Asker, on_done: OnDone) -> list[Answer]:
        max_tokens = self._max_tokens(asker)
        questions = [
            Question(
                messages=row.messages[:-1],
                tools=row.tools,
                max_tokens=max_tokens,
                constraint=self._constraint,
                must_call=self._must_call,
                may_repeat=self._most_calls > 1,
            )
            for row in self._rows
        ]
        return asker.ask(questions, on_done)

    def judge(self, found: list[Answer], on_done: OnDone) -> tuple[Report, list[Outcome]]:
        scores, report = self._metric.judge(found, on_done)
        outcomes = [
            Outcome(
                answer=kinds.answer_shown(answer.text, answer.calls),
                score=score,
                num_prompt=answer.num_prompt,
                num_output=answer.num_output,
                latency_s=answer.latency_s,
                is_cut=answer.is_cut,
                error=answer.error,
            )
            for answer, score in zip(found, scores, strict=True)
        ]
        return report, outcomes

    def _max_tokens(self, asker: Asker) -> int:
        """Room for the longest right answer and a quarter more."""
        shown = sorted(map(kinds.reference_shown, self._rows), key=len)[-_LONGEST:]
        most = max(asker.num_tokens(text) for text in shown)
        room = most + most // 4 + 8 + _CALL_TOKENS * self._most_calls
        return min(MAX_ANSWER_TOKENS, room)


class TextTask:
    """A text whose likelihood is asked for, piece by piece. A piece's score is its mean
    log-probability a token."""

    kind: Kind = "perplexity"
    main = "logprob"

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self.rows = [
            RowFacts(line=i, question="", reference=text[:MAX_SHOWN_CHARS])
            for i, text in enumerate(texts, start=1)
        ]

    def run(self, asker: Asker, on_done: OnDone) -> list[TextScore]:
        return asker.score_texts(self._texts, on_done)

    def judge(self, found: list[TextScore], on_done: OnDone) -> tuple[Report, list[Outcome]]:
        outcomes = [
            Outcome(
                answer="",
                score=score.logprob / score.num_tokens if score.num_tokens else None,
                num_prompt=score.num_tokens + 1,
            )
            for score in found
        ]
        all_metrics = {
            "logprob": metrics.mean([outcome.score for outcome in outcomes]),
            "perplexity": perplexity(found),
            "bits_per_byte": bits_per_byte(found),
        }
        return Report(metrics=all_metrics), outcomes


class LikelihoodTask(TextTask):
    """The right answers of rows, as the trainer sees them: the perplexity of what it learns."""

    def __init__(self, rows: Sequence[ChatRow]) -> None:
        super().__init__([])
        self._rows = rows
        self.rows = [_facts(row) for row in rows]

    def run(self, asker: Asker, on_done: OnDone) -> list[TextScore]:
        if not isinstance(asker, EngineAsker):
            raise RequestError(
                "kind: perplexity of rows needs the model in this process: leave --url out",
                param="kind",
            )
        examples = [
            chat_examples(asker.tokenizer, row.messages, row.tools, line=row.line)
            for row in self._rows
        ]
        flat = [example for own in examples for example in own]
        found = iter(asker.score_tokens([example.token_ids for example in flat], on_done))
        return [
            TextScore(
                logprob=sum(
                    float(logprobs[example.label_weights[1:] != 0].sum())
                    for example, logprobs in zip(own, found, strict=False)
                ),
                num_tokens=sum(example.num_labels for example in own),
                num_bytes=sum(
                    len(asker.tokenizer.token_bytes(int(token)))
                    for example in own
                    for token in example.token_ids[example.label_weights != 0]
                ),
            )
            for own in examples
        ]


@dataclass(frozen=True)
class Data:
    """A file and what of it is tried."""

    facts: DataFacts
    kind: Kind
    rows: Sequence[ChatRow] = ()
    text: str = ""


def load_data(
    path: Path, kind: Kind | None = None, *, limit: int | None = None, seed: int = 0
) -> Data:
    """Rows of a .jsonl, or any other file as a text. `limit`: so many rows at most, drawn with
    `seed`. RequestError if the file is none, or has no answers of the kind."""
    if path.suffix != ".jsonl":
        text = read_text(path)
        kind = kind or "perplexity"
        if kind not in ("perplexity", "needle"):
            raise RequestError(f"kind: {kind} needs rows, and {path} is no .jsonl", param="kind")
        return Data(_data_facts(path, 0, seed), kind, text=text)
    rows = [row for row in read_rows(path) if isinstance(row, ChatRow)]
    if not rows:
        raise RequestError(f"{path}: has preferences; evaluation needs rows of conversations")
    facts = _data_facts(path, len(rows), seed)
    kind = kind or kinds.detect_kind(rows)  # from all: few rows share no label
    if limit is not None and limit < len(rows):
        kept = sorted(random.Random(seed).sample(range(len(rows)), limit))
        rows = [rows[i] for i in kept]
    if kind == "needle":
        raise RequestError(f"kind: needle needs a text to hide in, and {path} has rows")
    return Data(facts, kind, rows)


def make_task(
    data: Data, *, asker: Asker, is_constrained: bool = False, judged: "MakeGraded | None" = None
) -> Task:
    """`asker` is one of the models: needles are as long as its context. `judged` makes the metric
    of graded rows."""
    made: dict[str, Callable[[Sequence[ChatRow]], metrics.Metric]] = {
        "classification": metrics.Labels,
        "extraction": metrics.Extraction,
        "exact": metrics.Exact,
        "tool_calls": metrics.ToolCalls,
        "text": metrics.Overlap,
    }
    if data.kind == "perplexity":
        return TextTask(pieces(data.text)) if data.text else LikelihoodTask(data.rows)
    if data.kind == "needle":
        hidden = _needles(data.text, asker, data.facts.seed)
        rows = [
            ChatRow(i, [*each.messages, {"role": "assistant", "content": each.code}])
            for i, each in enumerate(hidden, start=1)
        ]
        return AnswerTask("needle", rows, metrics.Needles(hidden), is_constrained)
    if data.kind == "graded":
        assert judged is not None, "graded rows come with their judge"
        return AnswerTask("graded", data.rows, judged(data.rows), is_constrained)
    return AnswerTask(data.kind, data.rows, made[data.kind](data.rows), is_constrained)


MakeGraded = Callable[[Sequence[ChatRow]], metrics.Metric]


def _needles(text: str, asker: Asker, seed: int) -> list[needle.Needle]:
    """Of lengths up to nine tenths of the context."""
    sample = text[:20_000]
    chars_per_token = len(sample) / max(1, asker.num_tokens(sample))
    longest = 0.9 * ((asker.max_len or 8192) - 200) * chars_per_token
    lengths = [round(longest / 2**i) for i in reversed(range(NUM_NEEDLE_LENGTHS))]
    return needle.needles(text, lengths, seed=seed)


def _facts(row: ChatRow) -> RowFacts:
    question = kinds.question_shown(row)
    if len(question) > MAX_SHOWN_CHARS:
        question = "..." + question[-MAX_SHOWN_CHARS:]
    return RowFacts(line=row.line, question=question, reference=kinds.reference_shown(row))


def _data_facts(path: Path, num_rows: int, seed: int) -> DataFacts:
    return DataFacts(name=path.name, sha256=file_sha256(path), num_rows=num_rows, seed=seed)
